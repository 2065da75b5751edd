//! What keeps those behind a bridge from the host itself: a table of nftables for each bridge, of its name.
//!
//! From the bridge the host's own addresses take answers and nothing that begins a connection, and nothing is forwarded to
//! 169.254/16, where clouds tell who asks what a machine is, nor to the worker's other bridges. What else the host forwards is the host's choice. It matches segments by
//! their flags and not by connections, so that the host is not made to track any. Written as messages of nfnetlink
//! (linux/netfilter/nf_tables.h).

use super::plan::Subnet;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;

/// Messages: their kinds, and the subsystem that they are for.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// IPv4 and IPv6 alike.
const INET: u8 = 1;
const IPV4: u8 = 2;
/// Hooks: what is for the host, and what passes through it.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
/// Before the host's own tables, which have 0.
const PRIORITY: i32 = -10;
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
/// Registers: that of verdicts, and one for values.
const VERDICT: u32 = 0;
const VALUE: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// What `meta` tells: the interface that it came in by, the family, the protocol above.
const META_INTERFACE: u32 = 4;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
const TCP: u8 = 6;
/// Where the flags of a TCP header are, and which say that a connection begins: SYN without ACK.
const FLAGS_AT: u32 = 13;
const SYN: u8 = 0x02;
const SYN_AND_ACK: u8 = 0x12;
/// Where an IPv4 header has its destination.
const DESTINATION_AT: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// Puts up the wall of a bridge, in this thread's network namespace.
///
/// # Errors
/// If the kernel has no nftables, or does not let us.
pub(super) fn put_up(bridge: &str, interface: u32, subnet: Subnet) -> io::Result<()> {
    let from_bridge = || [meta(META_INTERFACE), compare(EQUAL, &interface.to_ne_bytes())].concat();
    let goes_on = [
        from_bridge(),
        meta(META_PROTOCOL),
        compare(EQUAL, &[TCP]),
        payload(TRANSPORT_HEADER, FLAGS_AT, 1),
        masked(&[SYN_AND_ACK]),
        compare(NOT_EQUAL, &[SYN]),
        verdict(ACCEPT),
    ];
    let all_else = [from_bridge(), verdict(DROP)];
    let told_of_itself = [
        from_bridge(),
        meta(META_FAMILY),
        compare(EQUAL, &[IPV4]),
        payload(NETWORK_HEADER, DESTINATION_AT, 2),
        compare(EQUAL, &[169, 254]),
        verdict(DROP),
    ];
    // Sandboxes behind another bridge of the worker's are neighbours too.
    let (base, mask) = subnet.bits();
    let of_a_neighbour = [
        from_bridge(),
        meta(META_FAMILY),
        compare(EQUAL, &[IPV4]),
        payload(NETWORK_HEADER, DESTINATION_AT, 4),
        masked(&mask.to_be_bytes()),
        compare(EQUAL, &base.to_be_bytes()),
        verdict(DROP),
    ];
    // All in one batch, which holds as a whole: one that is renewed is never down. A table that is there is taken away first, and so
    // that there is one it is made.
    send(&[
        (NEW_TABLE, CREATE, text(1, bridge)),
        (DELETE_TABLE, 0, text(1, bridge)),
        (NEW_TABLE, CREATE, text(1, bridge)),
        (NEW_CHAIN, CREATE, chain(bridge, "input", INPUT)),
        (NEW_CHAIN, CREATE, chain(bridge, "forward", FORWARD)),
        (NEW_RULE, CREATE | APPEND, rule(bridge, "input", &goes_on.concat())),
        (NEW_RULE, CREATE | APPEND, rule(bridge, "input", &all_else.concat())),
        (NEW_RULE, CREATE | APPEND, rule(bridge, "forward", &told_of_itself.concat())),
        (NEW_RULE, CREATE | APPEND, rule(bridge, "forward", &of_a_neighbour.concat())),
    ])
}

/// Takes it down; where there is none, or no nftables, there is nothing to be done.
///
/// # Errors
/// If the kernel does not let us.
pub(super) fn take_down(bridge: &str) -> io::Result<()> {
    match send(&[(DELETE_TABLE, 0, text(1, bridge))]) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e)
            if [Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL]
                .iter()
                .any(|n| e.raw_os_error() == Some(n.raw_os_error())) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// An attribute: its length, its kind, its bytes, and as many as make it a multiple of four.
fn attribute(kind: u16, bytes: &[u8]) -> Vec<u8> {
    let mut all = ((bytes.len() + 4) as u16).to_ne_bytes().to_vec();
    all.extend_from_slice(&kind.to_ne_bytes());
    all.extend_from_slice(bytes);
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    const NESTED: u16 = 0x8000;
    attribute(kind | NESTED, attributes)
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn number(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

/// A chain that lets pass what none of its rules decides.
fn chain(table: &str, name: &str, hook: u32) -> Vec<u8> {
    let hook = [number(1, hook), number(2, PRIORITY.cast_unsigned())].concat();
    [text(1, table), text(3, name), nested(4, &hook), number(5, ACCEPT), text(7, "filter")].concat()
}

fn rule(table: &str, chain: &str, expressions: &[u8]) -> Vec<u8> {
    [text(1, table), text(2, chain), nested(4, expressions)].concat()
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, &data.concat())].concat())
}

fn meta(key: u32) -> Vec<u8> {
    expression("meta", &[number(1, VALUE), number(2, key)])
}

fn payload(header: u32, offset: u32, length: u32) -> Vec<u8> {
    expression("payload", &[number(1, VALUE), number(2, header), number(3, offset), number(4, length)])
}

fn masked(mask: &[u8]) -> Vec<u8> {
    let length = number(3, mask.len() as u32);
    let zeros = vec![0; mask.len()];
    let (mask, other) = (nested(4, &attribute(1, mask)), nested(5, &attribute(1, &zeros)));
    expression("bitwise", &[number(1, VALUE), number(2, VALUE), length, mask, other])
}

fn compare(how: u32, value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, VALUE), number(2, how), nested(3, &attribute(1, value))])
}

fn verdict(code: u32) -> Vec<u8> {
    let verdict = nested(2, &nested(2, &number(1, code)));
    expression("immediate", &[number(1, VERDICT), verdict])
}

/// Sends messages as one batch, of which all take effect or none.
fn send(messages: &[(u16, u16, Vec<u8>)]) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    let mut bytes = message(BATCH_BEGIN, REQUEST, 0, 0, NFTABLES, &[]);
    for (number, (kind, flags, attributes)) in (1..).zip(messages) {
        let kind = NFTABLES << 8 | kind;
        bytes.extend(message(kind, REQUEST | ACKNOWLEDGE | flags, number, INET, 0, attributes));
    }
    bytes.extend(message(BATCH_END, REQUEST, 0, 0, NFTABLES, &[]));
    net::send(&socket, &bytes, SendFlags::empty())?;
    let mut answered = 0;
    let mut buffer = [0; 8192];
    while answered < messages.len() {
        let (length, _) = net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some(size) = rest.first_chunk().map(|size| u32::from_ne_bytes(*size) as usize) {
            let Some(one) = rest.get(..size).filter(|one| one.len() >= 20) else { break };
            if u16::from_ne_bytes([one[4], one[5]]) == ERROR {
                answered += 1;
                let errno = i32::from_ne_bytes([one[16], one[17], one[18], one[19]]);
                if errno != 0 {
                    return Err(io::Error::from_raw_os_error(-errno));
                }
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(())
}

/// A message: netlink's head, netfilter's, and attributes.
fn message(kind: u16, flags: u16, number: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut all = ((16 + 4 + attributes.len()) as u32).to_ne_bytes().to_vec();
    all.extend_from_slice(&kind.to_ne_bytes());
    all.extend_from_slice(&flags.to_ne_bytes());
    all.extend_from_slice(&number.to_ne_bytes());
    all.extend_from_slice(&[0; 4]);
    all.extend_from_slice(&[family, 0]);
    all.extend_from_slice(&resource.to_be_bytes());
    all.extend_from_slice(attributes);
    all
}
