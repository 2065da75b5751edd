//! What Elapse needs of Linux.
//!
//! A leaf: it knows no function, no worker and no clock of a run, and it cannot import the crate that does.
//!
//! ```text
//! engine    what every way to run a sandbox has in common: Spec in, Sandbox out
//! process   sandboxes of this process: namespaces, cgroups and an own root when root, plain processes when not
//! containerd sandboxes of a containerd daemon (a feature, because its client needs protoc to build)
//! docker    sandboxes of a docker daemon, with GPUs
//! image     the image of our agent alone, and image files
//! registry  images from a registry
//! net       networks of sandboxes' own: namespaces, bridges, addresses that are leased
//! home      what a sandbox has on the host: its folder, its log, the socket that it makes
//! beneath   folders that are opened below another, and through no link
//! cgroup    limits and memory of a sandbox, cgroup v1 and v2
//! wire      HTTP/1.1 into a sandbox, over a unix socket or TCP, and to a daemon also over TLS
//! removal   removes what others could write in, whatever they left there
//! room      how many bytes the bodies on their way may have together
//! uids      users for sandboxes, of which no two have the same
//! unix      streams over unix sockets whose other end is not woken for nothing
//! tls       whom a client trusts, and the certificate that a server shows
//! lock      one worker of a name on a host
//! doctor    what of this host would spoil a run
//! quiet     what others have of the host's processors
//! host      what the host does at an instant, and what of it sandboxes do not see
//! seccomp   the system calls that a sandbox may make
//! threads   threads that serve as long as the process does, on show
//! ```

pub mod beneath;
pub mod cgroup;
#[cfg(feature = "containerd")]
pub mod containerd;
pub mod docker;
pub mod doctor;
mod ending;
pub mod engine;
mod home;
mod host;
pub mod image;
pub mod lock;
pub mod net;
pub mod process;
pub mod quiet;
#[cfg(feature = "containerd")]
pub mod registry;
mod removal;
pub mod room;
mod seccomp;
pub mod threads;
pub mod tls;
pub mod uids;
pub mod unix;
pub mod wire;

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// How many descriptors this process may have.
pub fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

/// Lets this process have as many descriptors as it may: shells and service managers give 1024 to begin with, of which one peer's share
/// is soon all that others need.
pub fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, what there is must do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The SHA-256 hash of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).into()
}

/// Does something slow on a thread that may wait for it.
///
/// # Errors
/// If it panicked.
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(f).await.map_err(|e| e.to_string())
}

pub use host::{Load, give_memory_back, load, machine_id, mark, sync_times, unacknowledged};
