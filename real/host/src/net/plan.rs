//! Names and addresses of a worker's networks: which slot has which, and back.
//!
//! A slot is a number. A bridge holds [`PORTS`] of them, fewer than the 1,023 ports that Linux gives one, and a /22 of the
//! worker's subnet: the bridge has its first address, the slots those that follow.

use sha2::{Digest, Sha256};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// Slots of a bridge.
pub(super) const PORTS: u32 = 1_000;
/// Length of the prefix of a bridge's block, and how many addresses that is.
pub(super) const PREFIX: u8 = 22;
const BLOCK: u32 = 1 << (32 - PREFIX as u32);

/// IPv4 addresses that bridges take their blocks from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    /// Its first address, and the bits that all of its addresses have in common.
    pub(super) fn bits(self) -> (u32, u32) {
        (self.base, self.mask())
    }
}

/// What is used where nothing is said: a corner of 10/8 that few use.
impl Default for Subnet {
    fn default() -> Subnet {
        Subnet { base: u32::from(Ipv4Addr::new(10, 231, 0, 0)), prefix: 16 }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Subnet, String> {
        let bad = || {
            format!("subnet is '{text}'; it is IPv4 with a prefix of 8 to {PREFIX}, such as 10.231.0.0/16")
        };
        let (base, prefix) = text.split_once('/').ok_or_else(bad)?;
        let base = u32::from(base.parse::<Ipv4Addr>().map_err(|_| bad())?);
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        if !(8..=PREFIX).contains(&prefix) {
            return Err(bad());
        }
        let subnet = Subnet { base, prefix };
        if base & !subnet.mask() != 0 {
            let whole = Subnet { base: base & subnet.mask(), prefix };
            return Err(format!(
                "subnet is '{text}', which has bits beyond its prefix; {whole} may be meant"
            ));
        }
        Ok(subnet)
    }
}

impl Subnet {
    fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// The first block in which none of these networks (address and prefix) lies.
    pub(super) fn free_block(self, taken: &[(Ipv4Addr, u8)]) -> Option<Block> {
        let blocks = 1u32 << (PREFIX - self.prefix);
        (0..blocks).map(|i| Block(self.base + i * BLOCK)).find(|block| {
            taken.iter().all(|&(address, prefix)| {
                let shorter = u32::MAX.checked_shl(32 - u32::from(prefix.min(PREFIX))).unwrap_or(0);
                u32::from(address) & shorter != block.0 & shorter
            })
        })
    }
}

/// The addresses of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

impl Block {
    /// The block that this address of a bridge is of.
    pub(super) fn of_gateway(address: Ipv4Addr) -> Block {
        Block(u32::from(address) & !(BLOCK - 1))
    }

    /// The bridge's own address.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.0 + 1)
    }

    /// The address of a slot.
    pub(super) fn host(self, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.0 + 2 + slot % PORTS)
    }
}

/// What a worker's things are called on the host.
#[derive(Clone, Debug)]
pub(super) struct Names {
    worker: String,
    /// The name of an interface has 15 characters, too few for a worker's; the rest is in its alias.
    tag: String,
}

/// Where `ip netns` looks for namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";

impl Names {
    pub(super) fn of(worker: &str) -> Names {
        let digest = Sha256::digest(worker.as_bytes());
        Names {
            worker: worker.to_string(),
            tag: format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]),
        }
    }

    /// A slot's end on the host.
    pub(super) fn link(&self, slot: u32) -> String {
        format!("el{}-{slot}", self.tag)
    }

    pub(super) fn bridge(&self, bridge: u32) -> String {
        format!("el{}b{bridge}", self.tag)
    }

    /// A bridge's hardware address: its own would change with every port that comes or goes.
    pub(super) fn hardware(&self, bridge: u32) -> Vec<u8> {
        let tag = u32::from_str_radix(&self.tag, 16).unwrap_or_default().to_be_bytes();
        vec![0x02, tag[1], tag[2], tag[3], (bridge >> 8) as u8, bridge as u8]
    }

    /// What is written onto every interface, so that it can be told whose it is.
    pub(super) fn alias(&self) -> String {
        format!("elapse:{}", self.worker)
    }

    pub(super) fn namespace(&self, slot: u32) -> PathBuf {
        PathBuf::from(NAMESPACES).join(format!("elapse-{}-{slot}", self.worker))
    }

    /// The slot whose link is called so.
    pub(super) fn slot_of_link(&self, name: &str) -> Option<u32> {
        number(name.strip_prefix("el")?.strip_prefix(&self.tag)?.strip_prefix('-')?)
    }

    /// The bridge that is called so.
    pub(super) fn number_of_bridge(&self, name: &str) -> Option<u32> {
        number(name.strip_prefix("el")?.strip_prefix(&self.tag)?.strip_prefix('b')?)
    }

    /// The slot whose namespace is called so.
    pub(super) fn slot_of_namespace(&self, name: &str) -> Option<u32> {
        number(name.strip_prefix("elapse-")?.strip_prefix(&self.worker)?.strip_prefix('-')?)
    }
}

/// A number as we write it into a name; what is written otherwise is not ours, for instance of a worker whose name is longer.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_read_and_a_wrong_one_is_refused_with_what_may_be_meant() {
        assert_eq!("10.231.0.0/16".parse(), Ok(Subnet::default()));
        assert_eq!(Subnet::default().to_string(), "10.231.0.0/16");
        for (text, says) in [
            ("10.231.0.0", "an IPv4"),
            ("10.231.0.0/23", "prefix of 8 to 22"),
            ("fe80::/16", "IPv4 with"),
            ("10.231.5.0/16", "10.231.0.0/16 may be meant"),
        ] {
            let why = text.parse::<Subnet>().unwrap_err();
            assert!(why.contains(says) || why.contains("it is IPv4"), "{why}");
        }
    }

    #[test]
    fn a_block_is_the_first_that_nobody_on_the_host_has() {
        let subnet: Subnet = "10.231.0.0/20".parse().unwrap();
        let at = |text: &str, prefix| (text.parse::<Ipv4Addr>().unwrap(), prefix);
        let gateway = |taken: &[(Ipv4Addr, u8)]| subnet.free_block(taken).map(|b| b.gateway().to_string());
        assert_eq!(gateway(&[]), Some("10.231.0.1".into()));
        assert_eq!(gateway(&[at("10.231.0.1", 22)]), Some("10.231.4.1".into()));
        assert_eq!(gateway(&[at("10.231.3.200", 32), at("10.231.4.7", 30)]), Some("10.231.8.1".into()));
        assert_eq!(gateway(&[at("10.0.0.1", 8)]), None);
        assert_eq!(gateway(&[at("192.168.1.1", 0)]), None);
    }

    #[test]
    fn every_slot_has_an_address_of_its_bridge_and_names_that_lead_back() {
        let names = Names::of("a-worker-of-20-chars");
        let block = Block::of_gateway(Ipv4Addr::new(10, 231, 4, 1));
        for slot in [0, 1, 999, 63_999] {
            assert!(names.link(slot).len() <= 15 && names.bridge(slot / PORTS).len() <= 15);
            assert_eq!(names.slot_of_link(&names.link(slot)), Some(slot));
            let file = names.namespace(slot).file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(names.slot_of_namespace(&file), Some(slot));
            let host = u32::from(block.host(slot));
            assert!(host > u32::from(block.gateway()) && host < u32::from(block.gateway()) + BLOCK - 2);
        }
        assert_eq!(names.number_of_bridge(&names.bridge(7)), Some(7));
        assert_eq!(names.slot_of_link("el000000-1"), None);
        assert_eq!(names.slot_of_link(&format!("{}x", names.link(1))), None);
    }
}
