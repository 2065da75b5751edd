//! Where a controller dials workers. What a worker says of its address is a wish: it is dialled where it comes from, at the socket
//! of a daemon of this host, or where the operator says, and nowhere else. Else whoever may join could have the controller, with its
//! token, ask any server that it reaches.

use elapse_host::engine::run_folders;
use elapse_host::wire::Address;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// Where workers may be beside the addresses that they come from: `workers_from`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    networks: Vec<Network>,
    hosts: Vec<String>,
    folders: Vec<PathBuf>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    bits: u32,
}

impl Network {
    fn of(text: &str) -> Option<Network> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().ok()?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
        Some(Network { first, bits })
    }

    fn has(self, address: IpAddr) -> bool {
        let begin = |bytes: &[u8]| bytes.iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
        let (ours, theirs, most) = match (self.first, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (begin(&ours.octets()), begin(&theirs.octets()), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (begin(&ours.octets()), begin(&theirs.octets()), 128),
            _ => return false,
        };
        // Of no bits at all everything is alike.
        (ours ^ theirs).checked_shr(most - self.bits).unwrap_or(0) == 0
    }
}

impl Sources {
    /// Those that are written so.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn of(written: &[String]) -> Result<Sources, String> {
        let mut sources = Sources::default();
        for text in written {
            if let Some(folder) = text.strip_prefix("unix:") {
                let folder = PathBuf::from(folder);
                if !is_plain(&folder) {
                    return Err(format!("'{text}' is no absolute path without '..'"));
                }
                sources.folders.push(folder);
            } else if let Some(network) = Network::of(text) {
                sources.networks.push(network);
            } else if is_name(text) {
                sources.hosts.push(text.to_ascii_lowercase());
            } else {
                return Err(format!(
                    "'{text}' is neither a network, nor the name of a host, nor a folder of sockets; write for instance \
                     \"10.0.0.0/8\", \"worker-1.example\" or \"unix:/run/fleet\""
                ));
            }
        }
        Ok(sources)
    }

    /// Whether a worker that comes from `peer`, or over a unix socket, may be dialled there.
    ///
    /// # Errors
    /// Why not, and what to set.
    pub(super) fn admit(&self, at: &Address, peer: Option<IpAddr>) -> Result<(), String> {
        let peer = peer.map(|ip| ip.to_canonical());
        let is_here = peer.is_none_or(|ip| ip.is_loopback());
        let reached = match at {
            Address::Unix(path) => is_here && self.has_socket(path),
            Address::Tcp(at) => self.has(at.ip().to_canonical(), peer),
            Address::Tls(host, _) => match host.parse::<IpAddr>() {
                Ok(ip) => self.has(ip.to_canonical(), peer),
                Err(_) => (host == "localhost" && is_here) || self.hosts.contains(&host.to_ascii_lowercase()),
            },
            Address::Shared(_) => false,
        };
        if reached {
            return Ok(());
        }
        let from = peer.map_or("this host".to_string(), |ip| ip.to_string());
        Err(format!(
            "it comes from {from} and is not dialled at {at}: workers are where they come from, at the sockets of this host's \
             daemons, or in workers_from"
        ))
    }

    fn has(&self, at: IpAddr, peer: Option<IpAddr>) -> bool {
        let own = match peer {
            Some(peer) => at == peer || (at.is_loopback() && peer.is_loopback()),
            None => at.is_loopback(),
        };
        own || self.networks.iter().any(|network| network.has(at))
    }

    /// A socket of a daemon, or in a folder that is named.
    fn has_socket(&self, path: &Path) -> bool {
        let Some(folder) = path.parent().filter(|_| is_plain(path)) else { return false };
        if self.folders.iter().any(|named| named == folder) {
            return true;
        }
        let ours = rustix::process::geteuid().as_raw();
        let is_daemons = folder.parent().is_some_and(|all| run_folders().iter().any(|folder| folder == all));
        is_daemons
            && std::fs::symlink_metadata(path)
                .is_ok_and(|m| m.file_type().is_socket() && [0, ours].contains(&m.uid()))
    }
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    text.split('.').all(is_label) && text.chars().any(|c| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use elapse_live::address;

    #[test]
    fn a_worker_is_dialled_where_it_comes_from_or_where_the_operator_says() {
        let sources = |all: &[&str]| Sources::of(&all.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let none = Sources::default();
        let some = sources(&["10.1.0.0/16", "fd00::/8", "w.example", "unix:/run/fleet", "192.0.2.7"])
            .expect("sources");
        for (at, peer, by_default, widened) in [
            ("192.0.2.1:80", Some("192.0.2.1"), true, true),
            ("192.0.2.1:80", Some("::ffff:192.0.2.1"), true, true),
            ("192.0.2.1:80", Some("192.0.2.2"), false, false),
            ("192.0.2.7:80", Some("192.0.2.2"), false, true),
            ("169.254.169.254:80", Some("192.0.2.2"), false, false),
            ("10.1.255.1:80", Some("192.0.2.2"), false, true),
            ("10.2.0.1:80", Some("192.0.2.2"), false, false),
            ("[fd12::1]:80", Some("192.0.2.2"), false, true),
            ("[fe80::1]:80", Some("192.0.2.2"), false, false),
            ("127.0.0.1:80", Some("192.0.2.2"), false, false),
            ("127.0.0.2:80", Some("127.0.0.1"), true, true),
            ("127.0.0.1:80", None, true, true),
            ("10.2.0.1:80", None, false, false),
            ("https://w.example:1", Some("192.0.2.2"), false, true),
            ("https://other.example:1", Some("192.0.2.2"), false, false),
            ("https://localhost:1", Some("127.0.0.1"), true, true),
            ("https://localhost:1", Some("192.0.2.2"), false, false),
            ("unix:/run/fleet/a.sock", None, false, true),
            ("unix:/run/fleet/a.sock", Some("192.0.2.2"), false, false),
            ("unix:/run/fleet/../docker.sock", None, false, false),
            ("unix:/var/run/docker.sock", None, false, false),
            ("unix:/run/elapse/nobody-has-this-name/api.sock", None, false, false),
        ] {
            let place = address(at).expect(at);
            let peer = peer.map(|ip| ip.parse().expect("an address"));
            assert_eq!(none.admit(&place, peer).is_ok(), by_default, "{at} from {peer:?}");
            assert_eq!(some.admit(&place, peer).is_ok(), widened, "{at} from {peer:?}, widened");
        }
        for wrong in ["10.0.0.0/33", "unix:run", "unix:/a/../b", "a b", "", "300.1.1.1"] {
            assert!(sources(&[wrong]).is_err(), "{wrong}");
        }
        let all = sources(&["0.0.0.0/0"]).expect("all");
        assert!(all.admit(&address("8.8.8.8:1").expect("an address"), None).is_ok());
    }
}
