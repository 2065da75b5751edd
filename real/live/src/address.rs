//! Where an API is: its address as it is written, and a client of it.

use elapse::base::{Fault, Result};
use elapse_host::tls::Trust;
use elapse_host::wire::{Address, Peer};
use std::path::Path;

/// A client of the API at an address. Over TLS it believes the authorities in `ca_file`, or those of the public web.
///
/// # Errors
/// No address, or a file that cannot be read.
pub fn peer(at: &str, ca_file: Option<&Path>) -> Result<Peer> {
    let at = address(at)?;
    let peer = Peer::new(at.clone());
    Ok(match at {
        Address::Tls(..) => peer.trusting(Trust::of(ca_file).map_err(Fault::usage)?),
        Address::Unix(_) | Address::Shared(_) | Address::Tcp(_) => peer,
    })
}

/// An address of the API as it is written: `unix:PATH`, `HOST:PORT` with an IP address, or a URL of one; `https://` and the
/// host's name where it is reached over TLS.
///
/// # Errors
/// If it is neither.
pub fn address(text: &str) -> Result<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() || path.len() > 107 {
            return Err(Fault::usage(format!("'{text}': a unix socket's path has 1 to 107 bytes")));
        }
        return Ok(Address::Unix(path.into()));
    }
    if let Some(rest) = text.strip_prefix("https://") {
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "443"));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        return match port.parse() {
            Ok(port) if !host.is_empty() && !host.contains('/') => Ok(Address::Tls(host.to_string(), port)),
            _ => Err(Fault::usage(format!("'{text}' is no address; write for instance https://host:8480"))),
        };
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let numeric = plain.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map(Address::Tcp).map_err(|_| {
        Fault::usage(format!(
            "'{text}' is no address; write for instance 127.0.0.1:8480, unix:/run/elapse/api.sock or https://host:8480"
        ))
    })
}
