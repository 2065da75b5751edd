//! Sandboxes of this process: no daemon, no image store.
//!
//! A sandbox has its own mount, pid, network, uts and ipc namespace, and a root of its own in which it sees the host's programs
//! read-only; the system calls that it may make are filtered. As root it also has its cgroups and a user of its own; without root
//! all that stands in a user namespace in which it is who we are, and it has no limits. Where those are forbidden it is a plain
//! process of the user's. Either way it dies with the worker, unless it is to outlive it. The listening socket is made before
//! the process, so the first call waits in its backlog.

mod measures;
mod root;
mod sandbox;
mod signals;
mod spawn;

use crate::cgroup::{Cgroups, Group, Hierarchy, Limits};
use crate::ending::ExitWatch;
use crate::engine::{
    self, Common, Engine, EngineFault, Local, Network, Sandbox, SandboxId, Spec, clear_place, place,
};
use crate::home::{self, Home, Log};
use crate::net::Lease;
use crate::seccomp::Filters;
use crate::threads::{self, ThreadHeartbeat};
use crate::uids::{self, Uid, Uids};
use crate::wire::Address;
use measures::Measures;
pub use measures::{lacking, names};
use root::{Code, Owner, Root};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use sandbox::{Life, Process};
use spawn::{Net, Program};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::oneshot;

type Spawned = io::Result<(i32, OwnedFd)>;
type Job = (Program, oneshot::Sender<(Spawned, Program)>);

/// What the engine is called.
const NAME: &str = "process";

/// See the module.
pub struct Processes {
    base: PathBuf,
    common: Common,
    root: bool,
    /// Why sandboxes are plain processes, where they are.
    plain: Option<String>,
    measures: Measures,
    outlives: Cell<bool>,
    cgroups: Cgroups,
    /// The users of sandboxes, where we are root.
    uids: Option<Rc<Uids>>,
    /// The system calls that they may make.
    filters: Option<Arc<Filters>>,
    spawners: mpsc::Sender<Job>,
}

/// Creations at once.
const SPAWNERS: usize = 4;

/// Does one job after the other until there is nobody who could give another.
fn spawn_all(jobs: &Mutex<mpsc::Receiver<Job>>, pulse: &ThreadHeartbeat) {
    loop {
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok((program, answer))) = job else { return };
        pulse.works();
        let spawned = spawn::spawn(&program);
        if let Err((Ok((_, pidfd)), _)) = answer.send((spawned, program)) {
            // Nobody waits for it any more.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

impl Processes {
    /// Sandboxes of a worker, with users of the usual range.
    ///
    /// # Errors
    /// If the host gives it no threads or no users.
    pub fn new(common: Common) -> Result<Processes, EngineFault> {
        Processes::with_users(common, &uids::DEFAULT, &[])
    }

    /// Sandboxes of a worker, with users of this range, on a kernel that may lack these measures (see [`lacking`]).
    ///
    /// # Errors
    /// If the host gives it no threads or no users, or lacks another measure.
    pub fn with_users(
        common: Common,
        range: &RangeInclusive<u32>,
        weaker: &[String],
    ) -> Result<Processes, EngineFault> {
        let root = rustix::process::geteuid().is_root();
        let measures = Measures::look(weaker).map_err(EngineFault::lasting)?;
        let filters = match Filters::new() {
            Ok(filters) if measures.seccomp => Some(Arc::new(filters)),
            Ok(_) => None,
            Err(e) => return Err(EngineFault::lasting(format!("no seccomp filter: {e}"))),
        };
        let uids = if root {
            if let Some(who) = uids::taken(range, Path::new("/etc")) {
                let why = format!(
                    "users {}-{} of sandboxes are {who}'s already; name others (live.uids)",
                    range.start(),
                    range.end()
                );
                return Err(EngineFault::lasting(why));
            }
            let claimed = engine::run_folder().and_then(|folder| Uids::claim(&folder, &common.worker, range));
            Some(claimed.map_err(EngineFault::lasting)?)
        } else {
            None
        };
        let base = place(&common.worker, NAME);
        let (spawners, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 1..=cores.min(SPAWNERS) {
            let jobs = Arc::clone(&jobs);
            // These threads live as long as the engine: what they start dies with the thread that started it.
            threads::start(format!("spawner-{number}"), move |pulse| spawn_all(&jobs, pulse))
                .map_err(|e| EngineFault::lasting(format!("cannot start a thread: {e}")))?;
        }
        let cgroups = Cgroups::of(&common.worker, NAME);
        let outlives = Cell::new(false);
        let mut all = Processes {
            base,
            common,
            root,
            plain: None,
            measures,
            outlives,
            cgroups,
            uids,
            filters,
            spawners,
        };
        if !root {
            all.plain = all.try_user_namespace().err();
        }
        Ok(all)
    }

    /// Starts a program in a user namespace, and lets it end.
    ///
    /// # Errors
    /// The step that is forbidden here.
    fn try_user_namespace(&self) -> Result<(), String> {
        let at = self.base.join("root");
        fs::create_dir_all(&at).map_err(|e| format!("cannot make {}: {e}", at.display()))?;
        let agent = self.common.agent.clone().map_err(|fault| fault.why)?;
        let word = |text: &str| CString::new(text).map_err(|e| e.to_string());
        let null = File::options().write(true).open("/dev/null").map_err(|e| e.to_string())?;
        let path = word("/elapse-agent")?;
        let program = Program {
            args: vec![path.clone(), word("--version")?],
            path,
            env: Vec::new(),
            listener: None,
            log: null,
            doors: Vec::new(),
            root: Some(Root::new(&at, &agent, None, Owner::here()).map_err(|e| e.to_string())?),
            network: Net::Own,
            outlives: false,
            user: 0,
            filters: self.filters.clone(),
            file_size: 0,
            measures: self.measures,
        };
        let (_, pidfd) = spawn::spawn(&program).map_err(|e| e.to_string())?;
        let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        let status = ended.map_err(|e| e.to_string())?.and_then(|status| status.exit_status());
        if status == Some(0) { Ok(()) } else { Err(format!("a program ended with {status:?} there")) }
    }

    /// Whether sandboxes are isolated from the host, and not plain processes of the user's.
    fn is_isolated(&self) -> bool {
        self.plain.is_none()
    }

    fn refusal(&self, spec: &Spec) -> Result<(), EngineFault> {
        let refuse = |why: &str| Err(EngineFault::lasting(why));
        if spec.image.is_some() {
            return refuse("it runs no images; let the function run on containerd or docker");
        }
        if spec.gpu.is_some() {
            return refuse("it gives out no GPUs; let the function run on docker");
        }
        if spec.writable > 0 {
            return refuse(engine::NO_QUOTAS);
        }
        self.common.check(spec)
    }

    async fn start(&self, spec: Spec) -> Result<Rc<dyn Sandbox>, EngineFault> {
        self.refusal(&spec)?;
        let agent = self.common.agent.clone()?;
        let home = Home::of(&self.base, &spec.id);
        let broken = |what: &str, e: io::Error| {
            let passing =
                matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE));
            EngineFault { transient: passing, ..EngineFault::lasting(format!("{what}: {e}")) }
        };
        fs::create_dir_all(self.base.join("root"))
            .map_err(|e| broken(&format!("cannot make {}", self.base.display()), e))?;
        let mut half = PartialSandbox::new(&home).map_err(|e| broken("cannot make its directory", e))?;
        if let Some(uids) = &self.uids {
            let none = || EngineFault::passing("every user of the worker's is a sandbox's; widen live.uids");
            half.uid = Some(uids.take().ok_or_else(none)?);
        }
        let port = engine::port_of(&spec)?;
        if spec.network == Network::Bridge {
            half.network = Some(self.common.networks.lease().await?);
        }
        let listener = match port {
            Some(port) => {
                home.keep_port(half.network.as_ref().map(|lease| lease.port(port)), port)?;
                None
            }
            None => {
                let bound =
                    UnixListener::bind(home.own_socket()).map_err(|e| broken("cannot listen for it", e))?;
                Some(bound.into())
            }
        };
        let log = Log::read(&home).map_err(|e| broken("cannot read its log", e))?;
        half.log = Some(log);
        let log = home::writable(&home).map_err(|e| broken("cannot open its log", e))?;
        if self.root {
            let limits = Limits { memory: spec.memory, cpus: spec.cpus, pids: spec.pids };
            half.group = self.cgroups.create(&spec.id, limits).map_err(|e| broken("cannot limit it", e))?;
        }
        let doors = half.group.as_ref().map_or(Ok(Vec::new()), Group::doors);
        let doors = doors.map_err(|e| broken("cannot limit it", e))?;
        let network = match &half.network {
            _ if spec.network == Network::Host => Ok(Net::Host),
            Some(lease) => {
                File::open(lease.namespace().unwrap_or(Path::new(""))).map(|f| Net::Joined(f.into()))
            }
            None => Ok(Net::Own),
        };
        let network = network.map_err(|e| broken("cannot open its network", e))?;
        let door = Listener { listener, port, network };
        let program = self
            .program(&spec, &agent, door, log, doors, half.uid.as_ref().map_or(0, Uid::number))
            .map_err(|e| broken("cannot prepare it", e))?;
        let (answer, answered) = oneshot::channel();
        let gone = |_| EngineFault::lasting("the threads that start processes have ended");
        self.spawners.send((program, answer)).map_err(gone)?;
        let panicked = "the thread that starts processes panicked at it; the log says why";
        let (spawned, _program) = answered.await.map_err(|_| EngineFault::passing(panicked))?;
        let (pid, pidfd) = spawned.map_err(|e| broken("cannot start it", e))?;
        Ok(self.sandbox(&spec.id, pid, pidfd, half))
    }

    fn sandbox(&self, id: &str, pid: i32, pidfd: OwnedFd, mut had: PartialSandbox) -> Rc<dyn Sandbox> {
        let home = had.home.take().unwrap_or_else(|| Home::of(&self.base, id));
        let (group, network) = (had.group.take(), had.network.take());
        let sandbox = Rc::new(Process {
            trace: SandboxId::of(id, pid, network.as_ref()),
            life: Rc::new(Life {
                pidfd,
                // In a pid namespace the first process takes all others with it.
                group: if self.is_isolated() { None } else { Pid::from_raw(pid) },
                ending: ExitWatch::default(),
            }),
            group: group.map(Arc::new),
            network: RefCell::new(network),
            address: home.kept_port().map_or_else(|| Address::Unix(home.own_socket()), Address::Tcp),
            log: had.log.take(),
            home,
            _uid: had.uid.take(),
            destroyed: Cell::new(false),
            outlives: self.outlives.get(),
        });
        sandbox.watch();
        sandbox
    }

    async fn take_over(&self, trace: &SandboxId) -> Result<Rc<dyn Sandbox>, EngineFault> {
        let gone = |e: &dyn std::fmt::Display| EngineFault::lasting(format!("{}: {e}", trace.id));
        let pid = Pid::from_raw(trace.pid).ok_or_else(|| gone(&"it has no process"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| gone(&e))?;
        // Only now: from here on the number is that process's, or the descriptor tells that it is gone.
        if !trace.is_alive() {
            return Err(gone(&"its process has ended"));
        }
        let home = Home::of(&self.base, &trace.id);
        if !home.own_socket().exists() && home.kept_port().is_none() {
            return Err(gone(&"its socket is gone"));
        }
        let log = Log::read(&home).map_err(|e| gone(&e))?;
        let uid = match &self.uids {
            None => None,
            Some(uids) => {
                let theirs = user_of(trace.pid).and_then(|number| uids.adopt(number));
                Some(theirs.ok_or_else(|| gone(&"its user is none of the worker's"))?)
            }
        };
        let network = match trace.network {
            Some(slot) => Some(self.common.networks.adopt(slot).await?),
            None => None,
        };
        let group = if self.root { self.cgroups.adopt(&trace.id).map_err(|e| gone(&e))? } else { None };
        Ok(self.sandbox(
            &trace.id,
            trace.pid,
            pidfd,
            PartialSandbox { home: Some(home), log: Some(log), uid, group, network },
        ))
    }

    fn program(
        &self,
        spec: &Spec,
        agent: &Path,
        door: Listener,
        log: File,
        doors: Vec<File>,
        user: u32,
    ) -> io::Result<Program> {
        let isolated = self.is_isolated();
        let inside = if isolated { Path::new("/elapse-agent") } else { agent };
        let text = |s: &str| CString::new(s).map_err(io::Error::from);
        let path = text(&inside.to_string_lossy())?;
        let mut args = vec![path.clone()];
        for word in spec.role.words().iter().copied().chain(spec.command.iter().map(String::as_str)) {
            args.push(text(word)?);
        }
        let mut env = vec![match door.port {
            Some(port) => text(&format!("PORT={port}"))?,
            None => text("LISTEN_FDS=1")?,
        }];
        let given = |name: &str| spec.env.iter().any(|(n, _)| n == name);
        if !given("PATH") {
            env.push(text("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")?);
        }
        for (name, value) in &spec.env {
            env.push(text(&format!("{name}={value}"))?);
        }
        let owner = if self.root { Owner::Root } else { Owner::here() };
        let at = self.base.join("root");
        let code = match (&spec.folder, &spec.code) {
            // Who is not root could not mount what it holds, in a namespace of others' mounts.
            (Some(folder), _) if self.root => Some(Code::Opened(folder)),
            (_, code) => code.as_deref().map(Code::Path),
        };
        let root = isolated.then(|| Root::new(&at, agent, code, owner)).transpose()?;
        let outlives = self.outlives.get();
        Ok(Program {
            path,
            args,
            env,
            listener: door.listener,
            log,
            doors,
            root,
            network: door.network,
            outlives,
            user,
            filters: self.filters.clone().filter(|_| isolated),
            file_size: spec.memory,
            measures: self.measures,
        })
    }
}

/// The user that a process is.
fn user_of(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
}

/// How it is reached: a socket that is handed over, or a port on which it listens by itself.
struct Listener {
    listener: Option<OwnedFd>,
    port: Option<u16>,
    network: Net,
}

/// What a creation has taken so far; gives it back if it comes to nothing.
struct PartialSandbox {
    home: Option<Home>,
    log: Option<Log>,
    uid: Option<Uid>,
    group: Option<Group>,
    network: Option<Lease>,
}

impl PartialSandbox {
    fn new(home: &Home) -> io::Result<PartialSandbox> {
        home.make()?;
        Ok(PartialSandbox { home: Some(home.clone()), log: None, uid: None, group: None, network: None })
    }
}

impl Drop for PartialSandbox {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = group.remove();
        }
        if let Some(home) = self.home.take() {
            let _ = home.remove();
        }
    }
}

impl Engine for Processes {
    fn name(&self) -> &str {
        NAME
    }

    fn check(&self, spec: &Spec) -> Result<(), EngineFault> {
        self.refusal(spec)
    }

    fn prepare<'a>(&'a self, _image: Option<&'a str>) -> Local<'a, Result<(), EngineFault>> {
        Box::pin(async { Ok(()) })
    }

    fn create(&self, spec: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.start(spec))
    }

    fn plain(&self) -> Option<&str> {
        self.plain.as_deref()
    }

    fn outlive(&self) {
        // Without groups, what outlives a worker that never comes back could not be found again.
        self.outlives.set(self.root && *self.cgroups.hierarchy() != Hierarchy::None);
    }

    fn adopt<'a>(&'a self, trace: &'a SandboxId) -> Local<'a, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(self.take_over(trace))
    }

    fn sweep_but<'a>(&'a self, kept: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>> {
        Box::pin(async move {
            let mut removed =
                self.cgroups.sweep(kept).map_err(|e| EngineFault::lasting(format!("cannot remove {e}")))?;
            removed.extend(clear_place(&self.base, kept)?);
            Ok(removed)
        })
    }
}
