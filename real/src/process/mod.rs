//! Sandboxes of this process: no daemon, no image store.
//!
//! As root a sandbox has its own mount, pid, network, uts and ipc namespace, its cgroups, and a root of its own in which
//! it is nobody and sees the host's programs read-only. Without root it is a plain process of the user's, without limits.
//! Either way it dies with the worker, unless it is to outlive it. The listening socket is made before the process, so the first call waits in its
//! backlog.

mod signals;
mod spawn;

use crate::cgroup::{Cgroups, Group, Hierarchy, Limits};
use crate::ending;
use crate::engine::{
    self, Common, Death, Engine, EngineFault, Local, Network, Sandbox, Spec, Trace, clear_place, place,
};
use crate::net::Lease;
use crate::threads::{self, Pulse};
use crate::wire::Address;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal, waitid,
};
use spawn::{Net, Program, Root};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use tokio::sync::{Notify, oneshot};

type Spawned = io::Result<(i32, OwnedFd)>;
type Job = (Program, oneshot::Sender<(Spawned, Program)>);

/// What the engine is called.
const NAME: &str = "process";

/// See the module.
pub struct Processes {
    base: PathBuf,
    common: Common,
    root: bool,
    outlives: Cell<bool>,
    cgroups: Cgroups,
    spawners: mpsc::Sender<Job>,
}

/// Creations at once.
const SPAWNERS: usize = 4;

/// Does one job after the other until there is nobody who could give another.
fn spawn_all(jobs: &Mutex<mpsc::Receiver<Job>>, pulse: &Pulse) {
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
    /// Sandboxes of a worker.
    ///
    /// # Errors
    /// If the host gives it no threads.
    pub fn new(common: Common) -> Result<Processes, EngineFault> {
        let root = rustix::process::geteuid().is_root();
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
        Ok(Processes { base, common, root, outlives: Cell::new(false), cgroups, spawners })
    }

    /// Whether sandboxes are isolated: only when root.
    pub fn is_isolated(&self) -> bool {
        self.root
    }

    fn refusal(&self, spec: &Spec) -> Result<(), EngineFault> {
        let refuse = |why: &str| Err(EngineFault::lasting(why));
        if spec.image.is_some() {
            return refuse("it runs no images; let the function run on containerd or docker");
        }
        if spec.gpu.is_some() {
            return refuse("it gives out no GPUs; let the function run on docker");
        }
        self.common.check(spec)
    }

    async fn start(&self, spec: Spec) -> Result<Rc<dyn Sandbox>, EngineFault> {
        self.refusal(&spec)?;
        let agent = self.common.agent.clone()?;
        let dir = self.base.join(&spec.id);
        let broken = |what: &str, e: io::Error| {
            let passing =
                matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE));
            EngineFault { transient: passing, why: format!("{what}: {e}") }
        };
        fs::create_dir_all(self.base.join("root"))
            .map_err(|e| broken(&format!("cannot make {}", self.base.display()), e))?;
        let mut half = Half::new(&dir).map_err(|e| broken("cannot make its directory", e))?;
        let port = engine::port_of(&spec)?;
        if spec.network == Network::Bridge {
            half.network = Some(self.common.networks.lease().await?);
        }
        let listener = match port {
            Some(port) => {
                engine::keep_port(&dir, half.network.as_ref().map(|lease| lease.port(port)), port)?;
                None
            }
            None => {
                let bound =
                    UnixListener::bind(dir.join("s")).map_err(|e| broken("cannot listen for it", e))?;
                Some(bound.into())
            }
        };
        let log = File::create(dir.join("log")).map_err(|e| broken("cannot make its log", e))?;
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
        let door = Door { listener, port, network };
        let program = self
            .program(&spec, &agent, &dir, door, log, doors)
            .map_err(|e| broken("cannot prepare it", e))?;
        let (answer, answered) = oneshot::channel();
        let gone = |_| EngineFault::lasting("the threads that start processes have ended");
        self.spawners.send((program, answer)).map_err(gone)?;
        let panicked = "the thread that starts processes panicked at it; the log says why";
        let (spawned, _program) = answered.await.map_err(|_| EngineFault::passing(panicked))?;
        let (pid, pidfd) = spawned.map_err(|e| broken("cannot start it", e))?;
        Ok(self.sandbox(&spec.id, pid, pidfd, half))
    }

    fn sandbox(&self, id: &str, pid: i32, pidfd: OwnedFd, mut had: Half) -> Rc<dyn Sandbox> {
        let (dir, group, network) =
            (had.dir.take().unwrap_or_default(), had.group.take(), had.network.take());
        let sandbox = Rc::new(Process {
            trace: Trace::of(id, pid, network.as_ref()),
            life: Rc::new(Life {
                pidfd,
                // In a pid namespace the first process takes all others with it.
                group: if self.root { None } else { Pid::from_raw(pid) },
                death: RefCell::new(None),
                changed: Notify::new(),
            }),
            group: group.map(Arc::new),
            network: RefCell::new(network),
            address: engine::kept_port(&dir).map_or_else(|| Address::Unix(dir.join("s")), Address::Tcp),
            log: dir.join("log"),
            dir,
            destroyed: Cell::new(false),
            outlives: self.outlives.get(),
        });
        sandbox.watch();
        sandbox
    }

    async fn take_over(&self, trace: &Trace) -> Result<Rc<dyn Sandbox>, EngineFault> {
        let gone = |e: &dyn std::fmt::Display| EngineFault::lasting(format!("{}: {e}", trace.id));
        let pid = Pid::from_raw(trace.pid).ok_or_else(|| gone(&"it has no process"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| gone(&e))?;
        // Only now: from here on the number is that process's, or the descriptor tells that it is gone.
        if !trace.is_alive() {
            return Err(gone(&"its process has ended"));
        }
        let dir = self.base.join(&trace.id);
        if !dir.join("s").exists() && engine::kept_port(&dir).is_none() {
            return Err(gone(&"its socket is gone"));
        }
        let network = match trace.network {
            Some(slot) => Some(self.common.networks.adopt(slot).await?),
            None => None,
        };
        let group = if self.root { self.cgroups.adopt(&trace.id).map_err(|e| gone(&e))? } else { None };
        Ok(self.sandbox(&trace.id, trace.pid, pidfd, Half { dir: Some(dir), group, network }))
    }

    fn program(
        &self,
        spec: &Spec,
        agent: &Path,
        dir: &Path,
        door: Door,
        log: File,
        doors: Vec<File>,
    ) -> io::Result<Program> {
        let inside = if self.root { Path::new("/elapse-agent") } else { agent };
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
        let root = if self.root {
            Some(Root::new(&self.base.join("root"), agent, dir, spec.code.as_deref())?)
        } else {
            None
        };
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
        })
    }
}

/// How it is reached: a socket that is handed over, or a port on which it listens by itself.
struct Door {
    listener: Option<OwnedFd>,
    port: Option<u16>,
    network: Net,
}

/// What a creation has taken so far; gives it back if it comes to nothing.
struct Half {
    dir: Option<PathBuf>,
    group: Option<Group>,
    network: Option<Lease>,
}

impl Half {
    fn new(dir: &Path) -> io::Result<Half> {
        fs::create_dir(dir)?;
        Ok(Half { dir: Some(dir.to_path_buf()), group: None, network: None })
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = group.remove();
        }
        if let Some(dir) = self.dir.take() {
            let _ = fs::remove_dir_all(dir);
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

    fn outlive(&self) {
        // Without groups, what outlives a worker that never comes back could not be found again.
        self.outlives.set(self.root && *self.cgroups.hierarchy() != Hierarchy::None);
    }

    fn adopt<'a>(&'a self, trace: &'a Trace) -> Local<'a, Result<Rc<dyn Sandbox>, EngineFault>> {
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

struct Process {
    trace: Option<Trace>,
    life: Rc<Life>,
    group: Option<Arc<Group>>,
    network: RefCell<Option<Lease>>,
    dir: PathBuf,
    address: Address,
    log: PathBuf,
    destroyed: Cell<bool>,
    /// It is left to a later life of the worker, if this one ends before it.
    outlives: bool,
}

struct Life {
    pidfd: OwnedFd,
    group: Option<Pid>,
    death: RefCell<Option<Death>>,
    changed: Notify,
}

impl Process {
    /// Waits for the process's end from a task of its own, so that it is reaped whoever asks.
    fn watch(&self) {
        let life = Rc::clone(&self.life);
        let group = self.group.clone();
        drop(tokio::task::spawn_local(async move {
            let how = life.ended().await;
            let oom = group.is_some_and(|g| g.gauge().was_out_of_memory());
            *life.death.borrow_mut() = Some(if oom { Death::OutOfMemory } else { Death::Ended(how) });
            life.changed.notify_waiters();
        }));
    }
}

impl Life {
    fn kill(&self) {
        // Not yet reaped, so its number cannot be somebody else's.
        if let Some(group) = self.group.filter(|_| self.death.borrow().is_none()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    async fn ended(&self) -> String {
        if let Err(e) = ending::of(self.pidfd.as_fd()).await {
            return format!("its end cannot be watched: {e}");
        }
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("its process exited with {code}"),
                (_, Some(signal)) => format!("its process was killed by signal {signal}"),
                _ => "its process ended".into(),
            },
            Ok(None) => "its process ended".into(),
            // One that was taken over is not our child: its parent is told, and we are not.
            Err(_) => "its process ended".into(),
        }
    }
}

impl Sandbox for Process {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn memory(&self) -> Option<u64> {
        self.group.as_ref()?.gauge().memory()
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.gauge().kills())
    }

    fn death(&self) -> Option<Death> {
        self.life.death.borrow().clone()
    }

    fn trace(&self) -> Option<Trace> {
        self.trace.clone()
    }

    fn dies(&self) -> Local<'_, Death> {
        Box::pin(async move {
            loop {
                let told = self.life.changed.notified();
                if let Some(death) = self.death() {
                    return death;
                }
                told.await;
            }
        })
    }

    fn last_words(&self) -> Local<'_, String> {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(500)..]).into_owned();
        Box::pin(async move { tail.trim().replace('\n', "; ") })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(async move {
            self.life.kill();
            self.dies().await;
            self.destroyed.set(true);
            let (group, dir) = (self.group.clone(), self.dir.clone());
            let removed = tokio::task::spawn_blocking(move || {
                if let Some(group) = group {
                    group.remove()?;
                }
                fs::remove_dir_all(&dir)
            });
            // Whatever was in it has ended, and took its sockets along.
            if let Some(network) = self.network.take() {
                network.give_back();
            }
            match removed.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(EngineFault::passing(format!("something of the sandbox is left: {e}"))),
                Err(e) => Err(EngineFault::passing(format!("the removal was not finished: {e}"))),
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.destroyed.get() && !self.outlives {
            self.life.kill();
        }
    }
}
