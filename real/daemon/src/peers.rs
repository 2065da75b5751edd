//! How many connections each peer has, so that none keeps all others out.

use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// What of the connections one peer may have: the fourth part.
pub(super) const SHARE: usize = 4;

/// Who a connection is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PeerKey {
    /// An address; of IPv6 the network of 64 bits, of which who has one address has all.
    Address(IpAddr),
    /// A user of this host.
    User(u32),
}

impl PeerKey {
    /// Who is to be counted; nobody where that is root, or the user of this process.
    pub(super) fn of(address: Option<IpAddr>, user: Option<u32>) -> Option<PeerKey> {
        let ours = |user: u32| user == 0 || user == rustix::process::geteuid().as_raw();
        match (address, user) {
            (Some(address), _) => Some(PeerKey::Address(network_of(address))),
            (None, user) => user.filter(|user| !ours(*user)).map(PeerKey::User),
        }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// How many connections each peer has.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<FxHashMap<PeerKey, usize>>>);

/// One connection of a peer, for as long as it lasts.
pub(super) struct OfPeer(Peers, Option<PeerKey>);

impl Peers {
    /// Counts one more, unless the peer has as many as it may.
    pub(super) fn enter(&self, peer: Option<PeerKey>, most: usize) -> Option<OfPeer> {
        if let Some(peer) = peer {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let has = all.entry(peer).or_default();
            if *has >= most.max(1) {
                return None;
            }
            *has += 1;
        }
        Some(OfPeer(self.clone(), peer))
    }
}

impl Drop for OfPeer {
    fn drop(&mut self) {
        let Some(peer) = self.1 else { return };
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(has) = all.get_mut(&peer) {
            *has -= 1;
            if *has == 0 {
                all.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_share_and_nobody_elses() {
        let peers = Peers::default();
        let of = |text: &str| PeerKey::of(Some(text.parse().expect("an address")), None);
        let mut held: Vec<_> = (0..2).map(|_| peers.enter(of("2001:db8::1"), 2).expect("a place")).collect();
        assert!(peers.enter(of("2001:db8::2"), 2).is_none(), "the same network");
        assert!(peers.enter(of("2001:db8:0:1::1"), 2).is_some() && peers.enter(of("10.0.0.1"), 2).is_some());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        held.pop();
        assert!(peers.enter(of("2001:db8::2"), 2).is_some());
        // Root asks for health and drains, however many others there are.
        assert_eq!(
            (PeerKey::of(None, Some(0)), PeerKey::of(None, Some(4_000_000))),
            (None, Some(PeerKey::User(4_000_000)))
        );
        let others = peers.enter(PeerKey::of(None, Some(4_000_000)), 1).expect("a place");
        assert!(
            peers.enter(PeerKey::of(None, Some(4_000_000)), 1).is_none() && peers.enter(None, 1).is_some()
        );
        drop(others);
    }
}
