//! One worker of a name on a host: an abstract unix socket, which the kernel lets go of when its holder ends, however.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Held while a worker of this name lives.
#[derive(Debug)]
pub struct NameLock(#[expect(dead_code, reason = "it is held, not used")] UnixListener);

impl NameLock {
    /// Takes the name.
    ///
    /// # Errors
    /// If another process holds it.
    pub fn take(worker: &str) -> Result<NameLock, String> {
        let address =
            SocketAddr::from_abstract_name(format!("elapse-{worker}")).map_err(|e| e.to_string())?;
        UnixListener::bind_addr(&address).map(NameLock).map_err(|e| {
            format!(
                "a worker named '{worker}' runs on this host already ({e}); end it, or take another name (live.worker)"
            )
        })
    }
}
