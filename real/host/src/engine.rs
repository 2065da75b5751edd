//! What every way to run a sandbox has in common.
//!
//! An [`Engine`] creates sandboxes from a [`Spec`]; a [`Sandbox`] tells where it answers, what it uses and whether it
//! lives. Whatever an engine takes from the host bears the worker's name, so that what a crash leaves can be found.

use crate::beneath::Folder;
use crate::net::{Lease, Networks};
use crate::removal::remove_all;
use crate::wire::Address;
use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// A future of the thread that asked.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A sandbox that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Unique in the engine: letters, digits and hyphens, at most 32.
    pub id: String,
    /// The image, in the words of the engine; `None` for our own agent.
    pub image: Option<String>,
    /// What runs in it; the agent alone, or the image's entry point, where it is empty.
    pub command: Vec<String>,
    /// A folder that it sees read-only at [`CODE_INSIDE`](crate::image::CODE_INSIDE).
    pub code: Option<PathBuf>,
    /// The same, opened: where what is at its path may be another's by now.
    pub folder: Option<Arc<Folder>>,
    /// What `command` is to the agent.
    pub role: Role,
    /// Environment beside what the wire needs.
    pub env: Vec<(String, String)>,
    /// Limit in bytes.
    pub memory: u64,
    /// Limit in 1/1000 core; 0 is none.
    pub cpus: u32,
    /// Limit of processes and threads; 0 is none.
    pub pids: u32,
    /// Where it answers.
    pub answers: Answers,
    /// What it has of a network.
    pub network: Network,
    /// The GPU that it has, by the host's number.
    pub gpu: Option<u32>,
    /// Bytes of disk that it may write; 0: its root is read-only.
    pub writable: u64,
}

/// What an engine says whose storage bounds nothing that is written.
pub(crate) const NO_QUOTAS: &str = "its storage has no quotas, so that no disk can be written; leave out writable (what is written is memory), or let the function run \
     on docker with overlay2 on xfs (mounted with pquota), btrfs or zfs";

/// What the command of a sandbox is to the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The agent answers by itself.
    #[default]
    Behave,
    /// It runs once for each invocation.
    Exec,
    /// It is a server; the agent joins the socket to its port.
    Serve,
    /// The image answers on `$PORT` by itself; there is no agent.
    Image,
}

impl Role {
    /// What the agent is told before the command.
    pub(crate) fn words(self) -> &'static [&'static str] {
        match self {
            Role::Exec => &["exec", "--"],
            Role::Serve => &["serve", "--"],
            Role::Behave | Role::Image => &[],
        }
    }
}

/// Where what runs in a sandbox answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// On a unix socket, `$ELAPSE_SOCKET`.
    #[default]
    Socket,
    /// On TCP `$PORT`.
    Port,
}

/// `$PORT` in a network of its own; in the host's it is one that nobody has.
pub(crate) const PORT: u16 = 8080;

/// What a sandbox has of a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing but a loopback of its own.
    #[default]
    None,
    /// One of its own, joined to a bridge of the worker's.
    Bridge,
    /// The host's.
    Host,
}

/// Why an engine could not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineFault {
    /// Another attempt may succeed.
    pub transient: bool,
    /// The engine's daemon does not answer.
    pub away: bool,
    /// One sentence.
    pub why: String,
}

impl EngineFault {
    /// Another attempt may succeed.
    pub fn passing(why: impl Into<String>) -> EngineFault {
        EngineFault { transient: true, away: false, why: why.into() }
    }

    /// Another attempt will not help.
    pub fn lasting(why: impl Into<String>) -> EngineFault {
        EngineFault { transient: false, away: false, why: why.into() }
    }
}

impl fmt::Display for EngineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// How a sandbox ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// The kernel killed it for memory.
    OutOfMemory,
    /// Its first process ended; in words.
    Ended(String),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::OutOfMemory => f.write_str("killed: it used more memory than its limit"),
            Death::Ended(how) => f.write_str(how),
        }
    }
}

/// A way to run sandboxes.
pub trait Engine {
    /// Its name.
    fn name(&self) -> &str;

    /// Whether this host can run it, as far as it was seen when the engine was made.
    ///
    /// # Errors
    /// Why not, and what to try.
    fn check(&self, spec: &Spec) -> Result<(), EngineFault>;

    /// Sees to it that an image is there (`None`: the one of our agent alone): it is loaded from a tar file, or pulled.
    ///
    /// # Errors
    /// Why it cannot be had; [`check`](Engine::check) then refuses what needs it.
    fn prepare<'a>(&'a self, image: Option<&'a str>) -> Local<'a, Result<(), EngineFault>>;

    /// Creates a sandbox and starts what runs in it. It may not answer yet.
    ///
    /// # Errors
    /// Why not; nothing of it is left then.
    fn create(&self, spec: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>>;

    /// Sandboxes that were created ahead of need and wait to be asked for; `None` where none ever are.
    fn ready_ahead(&self) -> Option<usize> {
        None
    }

    /// Why its sandboxes are plain processes that nothing holds, where they are.
    fn plain(&self) -> Option<&str> {
        None
    }

    /// Lets what is created from now on live on when the worker dies, so that its next life can take it over.
    fn outlive(&self) {}

    /// Takes over a sandbox that an earlier life of the worker left alive. Whether it answers is for the caller to see.
    ///
    /// # Errors
    /// If it is gone, is no longer the same, or the engine takes nothing over.
    fn adopt<'a>(&'a self, _trace: &'a SandboxId) -> Local<'a, Result<Rc<dyn Sandbox>, EngineFault>> {
        let why = format!("{} takes over nothing that an earlier life left", self.name());
        Box::pin(async { Err(EngineFault::lasting(why)) })
    }

    /// Removes everything on this host that bears the worker's name and that nobody holds; what it was, in words.
    ///
    /// # Errors
    /// What could not be removed.
    fn sweep(&self) -> Local<'_, Result<Vec<String>, EngineFault>> {
        self.sweep_but(&[])
    }

    /// [`sweep`](Engine::sweep), without the sandboxes of these ids.
    ///
    /// # Errors
    /// What could not be removed.
    fn sweep_but<'a>(&'a self, kept: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>>;
}

/// Bytes that an image may have where nobody says otherwise.
pub const IMAGE_SIZE: u64 = 16 << 30;

/// What every engine of a worker is made from.
#[derive(Clone)]
pub struct Common {
    /// The worker's name.
    pub worker: String,
    /// Our agent, or why there is none.
    pub agent: Result<PathBuf, EngineFault>,
    /// Bytes that an image may have, packed and unpacked.
    pub image_size: u64,
    /// The worker's networks.
    pub networks: Rc<Networks>,
}

impl Spec {
    /// Its code's path, for an engine that takes no more than that: if what was opened is still there.
    pub(crate) fn code_path(&self) -> Result<Option<&Path>, EngineFault> {
        if let Some(folder) = &self.folder {
            folder.is_still_there().map_err(EngineFault::lasting)?;
        }
        Ok(self.code.as_deref())
    }
}

impl Common {
    /// What no engine can do.
    pub(crate) fn check(&self, spec: &Spec) -> Result<(), EngineFault> {
        if spec.role == Role::Image {
            if spec.image.is_none() {
                return Err(EngineFault::lasting(
                    "protocol = \"tcp\" without a behaviour needs an image that is a server",
                ));
            }
        } else {
            self.agent.as_ref().map_err(Clone::clone)?;
        }
        if matches!(spec.role, Role::Exec | Role::Serve) && spec.command.is_empty() {
            return Err(EngineFault::lasting("the function has no command"));
        }
        match (spec.network, spec.answers) {
            (Network::Bridge, _) => self.networks.check(),
            (Network::None, Answers::Port) => Err(EngineFault::lasting(
                "protocol = \"tcp\" needs a network: network = \"bridge\" is one of its own, \"host\" shares the host's",
            )),
            _ => Ok(()),
        }
    }
}

/// How a sandbox is found again by a later life of its worker, and told from anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxId {
    /// [`Spec::id`].
    pub id: String,
    /// Its first process, on this host.
    pub pid: i32,
    /// When that was started, in the kernel's ticks since boot: a number may be given to another process.
    pub started: u64,
    /// Which boot that was.
    pub boot: String,
    /// The slot of its network, if it has one of its own.
    pub network: Option<u32>,
}

impl SandboxId {
    /// The trace of a process that lives.
    pub(crate) fn of(id: &str, pid: i32, network: Option<&Lease>) -> Option<SandboxId> {
        let network = network.map(Lease::number);
        Some(SandboxId { id: id.to_string(), pid, started: started_at(pid)?, boot: boot_id(), network })
    }

    /// Whether the same process still lives.
    pub fn is_alive(&self) -> bool {
        self.boot == boot_id() && started_at(self.pid) == Some(self.started)
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

fn started_at(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    // One that has ended and that its parent has not been told of yet is there in name only.
    let ended = matches!(fields.next()?, "Z" | "X");
    if ended { None } else { fields.nth(18)?.parse().ok() }
}

/// A sandbox that lives, or did.
pub trait Sandbox {
    /// Where it answers.
    fn address(&self) -> Address;

    /// Bytes it uses, less the file pages that could be dropped; `None` if the host does not tell.
    fn memory(&self) -> Option<u64>;

    /// How many of its processes the kernel has killed for memory; 0 if the host does not tell.
    fn kills(&self) -> u64;

    /// How it ended, if it did.
    fn death(&self) -> Option<Death>;

    /// How a later life of the worker finds it; none where the engine takes nothing over. Its id need not be the one that
    /// was asked for: the sandbox may have been created before.
    fn trace(&self) -> Option<SandboxId> {
        None
    }

    /// The GPU that it has, if any.
    fn gpu(&self) -> Option<u32> {
        None
    }

    /// Waits for its end.
    fn dies(&self) -> Local<'_, Death>;

    /// The last lines that it wrote, for a fault's sentence.
    fn last_words(&self) -> Local<'_, String>;

    /// Ends it and removes what it took from the host. Done when it is gone.
    ///
    /// # Errors
    /// What is left, and why.
    fn destroy(&self) -> Local<'_, Result<(), EngineFault>>;
}

/// The folder of all daemons of root.
pub const ROOTS_FOLDER: &str = "/run/elapse";

/// The folder that the controller's unit of systemd has.
const CONTROLLERS_FOLDER: &str = "/run/elapse-controller";

/// The folder of all daemons of this user: /run/elapse as root, else the one that a service manager gives, else
/// $XDG_RUNTIME_DIR/elapse.
fn run_path() -> PathBuf {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return PathBuf::from(ROOTS_FOLDER);
    }
    let given = std::env::var("RUNTIME_DIRECTORY").ok();
    if let Some(first) =
        given.as_deref().and_then(|all| all.split(':').next()).filter(|path| !path.is_empty())
    {
        return PathBuf::from(first);
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_dir()) {
        Some(own) => own.join("elapse"),
        None => std::env::temp_dir().join(format!("elapse-{}", uid.as_raw())),
    }
}

/// The folders in which daemons that this user may know have their sockets: below /run, where root alone makes folders, and its
/// own.
pub fn run_folders() -> Vec<PathBuf> {
    let (below_run, own) = ([ROOTS_FOLDER, CONTROLLERS_FOLDER].map(PathBuf::from), run_path());
    let is_another = !below_run.contains(&own);
    below_run.into_iter().chain(is_another.then_some(own)).collect()
}

/// Makes the folder of all workers of this user, if it is not there.
///
/// # Errors
/// If it cannot be made, or what is there is somebody else's: a folder below /tmp has a name that anybody can take.
pub fn run_folder() -> Result<PathBuf, String> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let path = run_path();
    let mode = if rustix::process::geteuid().is_root() { 0o755 } else { 0o700 };
    let made = std::fs::DirBuilder::new().mode(mode).create(&path);
    if let Err(e) = made
        && e.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(format!("cannot make {}: {e}", path.display()));
    }
    let meta =
        std::fs::symlink_metadata(&path).map_err(|e| format!("cannot look at {}: {e}", path.display()))?;
    let others_write = meta.mode() & 0o022 != 0;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || others_write {
        return Err(format!(
            "{} is not this user's own folder; remove it, or name another place (XDG_RUNTIME_DIR)",
            path.display()
        ));
    }
    Ok(path)
}

/// Where the sandboxes of a worker and engine have their sockets and logs. Short, because a socket's path has at most 107
/// bytes.
pub(crate) fn place(worker: &str, engine: &str) -> PathBuf {
    run_path().join(worker).join(engine)
}

/// Removes a place and everything in it but what bears these names, and what is empty above it; what it was, in words.
pub(crate) fn clear_place(place: &Path, kept: &[String]) -> Result<Vec<String>, EngineFault> {
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let named = |id: &String| entry.file_name().to_string_lossy() == id.as_str();
        if !kept.is_empty() && (path.ends_with("root") || kept.iter().any(named)) {
            continue;
        }
        remove_all(&path)
            .map_err(|e| EngineFault::lasting(format!("cannot remove {}: {e}", path.display())))?;
        // The empty directory that roots are built on is no sandbox.
        if !path.ends_with("root") {
            removed.push(path.display().to_string());
        }
    }
    let _ = std::fs::remove_dir(place);
    if let Some(worker) = place.parent() {
        let _ = std::fs::remove_dir(worker);
    }
    Ok(removed)
}

/// A port of this host that nobody has at the moment.
pub(crate) fn free_port() -> Result<u16, EngineFault> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .map_err(|e| EngineFault::passing(format!("no port is free: {e}")))
}

/// The port on which a sandbox is to answer, if it is to answer on one.
pub(crate) fn port_of(spec: &Spec) -> Result<Option<u16>, EngineFault> {
    match (spec.answers, spec.network) {
        (Answers::Socket, _) => Ok(None),
        (Answers::Port, Network::Host) => free_port().map(Some),
        (Answers::Port, _) => Ok(Some(PORT)),
    }
}

/// The agent's place: the one that was named, else beside this executable.
///
/// # Errors
/// Where it was looked for.
pub fn agent_path(named: Option<&Path>) -> Result<PathBuf, EngineFault> {
    let named = named.map(Path::to_path_buf);
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("elapse-agent")));
    let Some(path) = named.or(beside) else {
        return Err(EngineFault::lasting(
            "this executable does not know where it is; name the agent (live.agent)",
        ));
    };
    if path.is_file() {
        return std::path::absolute(&path).map_err(|e| EngineFault::lasting(e.to_string()));
    }
    Err(EngineFault::lasting(format!(
        "there is no agent at {}; `make build` puts it there, or let live.agent name it",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_of_one_process_of_one_boot() {
        let pid = i32::try_from(std::process::id()).expect("a process id");
        let ours = SandboxId::of("a", pid, None).expect("it lives");
        assert!(ours.is_alive());
        let another = SandboxId { started: ours.started + 1, ..ours.clone() };
        assert!(!another.is_alive(), "the number was given to another process");
        let earlier = SandboxId { boot: "of yesterday".into(), ..ours.clone() };
        assert!(!earlier.is_alive(), "the host was started since");
        let nobody = SandboxId { pid: i32::MAX, ..ours };
        assert!(!nobody.is_alive());
    }
}
