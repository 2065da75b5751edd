//! What each peer has of connections and of the room for bodies, so that none keeps all others out.

use elapse_host::room::Room;
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// What of the connections one peer may have: the fourth part.
pub(super) const SHARE: usize = 4;

/// What of the room for bodies one peer may have: the second part.
pub(super) const ROOM_SHARE: usize = 2;

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

/// How many connections each peer has, and its part of the room for bodies.
#[derive(Clone, Default)]
pub(super) struct Peers {
    all: Arc<Mutex<FxHashMap<PeerKey, Peer>>>,
    room: Option<Room>,
}

/// One who has connections.
struct Peer {
    connections: usize,
    room: Option<Room>,
}

/// One connection of a peer, for as long as it lasts.
pub(super) struct OfPeer {
    peers: Peers,
    key: Option<PeerKey>,
    /// What its bodies take room of.
    pub(super) room: Option<Room>,
}

impl Peers {
    /// Peers whose bodies share a room, of which each has half at most.
    pub(super) fn sharing(room: Room) -> Peers {
        Peers { room: Some(room), ..Peers::default() }
    }

    /// Counts one more, unless the peer has as many as it may.
    pub(super) fn enter(&self, peer: Option<PeerKey>, most: usize) -> Option<OfPeer> {
        let Some(key) = peer else {
            return Some(OfPeer { peers: self.clone(), key: None, room: self.room.clone() });
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Peer { connections: 0, room: self.room.as_ref().map(|room| room.part(ROOM_SHARE)) };
        let peer = all.entry(key).or_insert_with(new);
        if peer.connections >= most.max(1) {
            return None;
        }
        peer.connections += 1;
        let room = peer.room.clone();
        Some(OfPeer { peers: self.clone(), key: Some(key), room })
    }
}

impl Drop for OfPeer {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut all = self.peers.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = all.get_mut(&key) {
            peer.connections -= 1;
            if peer.connections == 0 {
                all.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_half_of_the_room_over_all_of_its_connections() {
        use axum::body::Bytes;
        use elapse_host::room::Gathering;
        let peers = Peers::sharing(Room::new(8 << 10));
        let of = |text: &str| PeerKey::of(Some(text.parse().expect("an address")), None);
        let filled = |peer: &OfPeer, kib: usize| {
            let mut body = Gathering::within(peer.room.as_ref(), None);
            body.add(Bytes::from(vec![0; kib << 10])).map(|()| body.whole())
        };
        let (one, again) = (peers.enter(of("10.0.0.1"), 4).unwrap(), peers.enter(of("10.0.0.1"), 4).unwrap());
        let other = peers.enter(of("10.0.0.2"), 4).unwrap();
        let root = peers.enter(None, 4).unwrap();
        let held = filled(&one, 3).expect("there is room");
        assert!(filled(&again, 2).is_err() && filled(&again, 1).is_ok());
        let theirs = filled(&other, 4).expect("half of it");
        assert!(filled(&root, 2).is_err() && filled(&root, 1).is_ok(), "all of it is all there is");
        drop((held, theirs));
        assert!(filled(&root, 8).is_ok());
    }

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
