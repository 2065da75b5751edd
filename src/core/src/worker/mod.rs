//! The worker: one copy for both worlds.
//!
//! What is decided is decided in `state`, at once: each transition of it is told as [`event`]s. Around it are tasks: an invocation is
//! one that arrives, waits for its dispatch if it must, creates its container if it needs one, executes, and returns. What it took is
//! held by guards, so that every way out, a cancelled task included, gives it back. Background loops (`loops`) sleep to their next
//! deadline under a supervisor.

mod around;
mod config;
mod creation;
pub mod event;
pub mod eviction;
mod intake;
mod invoke;
pub mod keep_alive;
mod loops;
mod prewarm;
pub mod queue;
mod registration;
mod state;
mod status;

pub use config::{Accounting, Config, Dispatch, PolicyNames, QueueConfig};
pub use intake::Intake;
pub use loops::LOOPS;
pub use prewarm::Retry;
pub use state::{Fleet, Peaks};
pub use status::{LoopReport, MemoryUse};

use crate::backend::{Backend, Sandbox, close_all};
use crate::base::{Duration, Fault, FunctionId, FunctionSpec, Result, StartKind, Time};
use crate::metrics::{BACKEND_PATHS, Columns, Meter, Series, Snapshot};
use crate::rt::chance::{RngKey, Seed};
use crate::rt::supervise::{GivenUp, Supervised};
use crate::rt::{self, Class, sync::Notify};
use around::Around;
use event::Observer;
use state::{Phase, Policies, State};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What a worker is made of.
pub struct Parts {
    /// Its number in the run.
    pub number: u16,
    /// What it was told.
    pub config: Config,
    /// Its backends, in order of preference.
    pub backends: Vec<Rc<dyn Backend>>,
    /// In place of the eviction policy that `config` names.
    pub eviction: Option<Box<dyn eviction::Eviction>>,
    /// In place of the queue policy that `config` names.
    pub queue: Option<Box<dyn queue::QueuePolicy>>,
    /// In place of the keep-alive policy that `config` names.
    pub keep_alive: Option<Box<dyn keep_alive::KeepAlive>>,
    /// Who hears what happens in it.
    pub observers: Vec<Box<dyn Observer>>,
    /// Whether all that must hold is looked at after each transition, the whole of it; in debug builds some of it always is.
    pub checked: bool,
    /// What measures it.
    pub meter: Meter,
    /// Time-weighted figures cover [from, until).
    pub window: (Time, Time),
    /// The seed of its jitter.
    pub seed: u64,
    /// Containers created so far for each function, which the workers of a run count together: the k-th creation has
    /// the same luck whichever worker makes it.
    pub creations: Creations,
}

/// See [`Parts::creations`].
pub type Creations = Rc<RefCell<Vec<u64>>>;

/// A worker. Clones are the same worker.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    number: u16,
    policies: PolicyNames,
    /// Where the window of its figures begins.
    window_from: Time,
    backends: Vec<Rc<dyn Backend>>,
    state: RefCell<State>,
    meter: RefCell<Meter>,
    rng: RngKey,
    alarms: Alarms,
    /// Told when nothing is dispatched and nothing waits.
    quiet: Notify,
    loops: RefCell<Vec<LoopHandle>>,
    given_up: RefCell<Option<GivenUp>>,
    failed: Notify,
    crashed: Cell<bool>,
}

/// When each loop will look next; a loop is only woken for something sooner.
struct Alarms {
    reaper: Alarm,
    memory: Alarm,
    queue: Alarm,
}

struct Alarm {
    /// Its place among the timers of its instant.
    class: Class,
    armed: Cell<Time>,
    changed: Notify,
}

impl Alarms {
    fn new() -> Alarms {
        let [reaper, memory] = [Class::Event; 2].map(Alarm::new);
        Alarms { reaper, memory, queue: Alarm::new(Class::Deadline) }
    }
}

impl Alarm {
    fn new(class: Class) -> Alarm {
        Alarm { class, armed: Cell::new(Time::MAX), changed: Notify::new() }
    }

    /// Something is due at `at`: wakes the loop if it would look later.
    #[inline]
    fn ring_by(&self, at: Time) {
        if at < self.armed.get() {
            self.armed.set(at);
            self.changed.notify_one();
        }
    }

    /// Waits until `next`, or for something sooner.
    async fn wait(&self, next: Option<Time>) {
        self.armed.set(next.unwrap_or(Time::MAX));
        match next {
            None => self.changed.notified().await,
            Some(at) => {
                rt::select(rt::sleep_until_as(self.class, at), self.changed.notified()).await;
            }
        }
    }
}

struct LoopHandle {
    name: &'static str,
    pulse: rt::supervise::Heartbeat,
}

impl Worker {
    /// Starts a worker and its loops. Inside a runtime only.
    ///
    /// # Errors
    /// If its configuration cannot be meant.
    pub fn start(parts: Parts) -> Result<Worker> {
        let (config, mut meter) = (parts.config, parts.meter);
        let names: Vec<String> = parts.backends.iter().map(|b| b.name().to_string()).collect();
        meter.begin(&names);
        config.check().map_err(|why| Fault::usage(format!("[worker]: {why}")))?;
        // One from outside has its own name; one of a configuration has its parameters beside it.
        let policies = PolicyNames {
            eviction: parts.eviction.as_ref().map_or(config.eviction.to_string(), |p| p.name().to_string()),
            queue: parts.queue.as_ref().map_or(config.queue.policy.to_string(), |p| p.name().to_string()),
            keep_alive: parts
                .keep_alive
                .as_ref()
                .map_or(config.keep_alive.to_string(), |p| p.name().to_string()),
        };
        let eviction = parts.eviction.map_or_else(|| eviction::build(&config.eviction), Ok);
        let queue = parts.queue.map_or_else(|| queue::build(&config.queue.policy), Ok);
        let keep_alive = parts.keep_alive.map_or_else(|| keep_alive::build(&config.keep_alive), Ok);
        let policies_of = Policies {
            eviction: eviction.map_err(Fault::usage)?,
            queue: queue.map_err(Fault::usage)?,
            keep_alive: keep_alive.map_err(Fault::usage)?,
        };
        let heard = (parts.observers, parts.checked);
        let patience = config.patience();
        let worker = Worker(Rc::new(Inner {
            number: parts.number,
            policies,
            window_from: parts.window.0,
            backends: parts.backends,
            state: RefCell::new(State::new(config, policies_of, parts.creations, heard, parts.window)),
            meter: RefCell::new(meter),
            rng: Seed::new(parts.seed).named("worker"),
            alarms: Alarms::new(),
            quiet: Notify::new(),
            loops: RefCell::default(),
            given_up: RefCell::default(),
            failed: Notify::new(),
            crashed: Cell::new(false),
        }));
        worker.0.backends.iter().for_each(|b| b.measure_in(parts.window.0, parts.window.1));
        let backends = (0..worker.0.backends.len() as u16)
            .filter_map(|backend| loops::start_exit_watcher(&worker.0, patience, backend));
        let ticks = loops::start_ticks(&worker.0, patience);
        loops::start(&worker.0, patience)
            .into_iter()
            .chain(backends)
            .chain(ticks)
            .for_each(|loops| worker.watch(loops));
        Ok(worker)
    }

    /// Takes a loop among the worker's: it is shown with them, its restarts count, and the worker ends if it is given up.
    pub fn watch(&self, supervised: Supervised) {
        let handle = LoopHandle { name: supervised.name, pulse: supervised.pulse.clone() };
        self.0.loops.borrow_mut().push(handle);
        let inner = Rc::clone(&self.0);
        drop(rt::spawn_named("watch-loop", async move {
            let why = supervised.given_up().await;
            tracing::error!(target: "elapse", %why, "the worker ends");
            inner.given_up.borrow_mut().get_or_insert(why);
            inner.failed.notify_waiters();
        }));
    }

    /// Takes a container of an earlier life as an idle one of a function; `backend` has it under this name, and `gpu` is the
    /// one that it has. False if the function is on another backend now, there is no memory for it, or another has that GPU.
    pub fn adopt(&self, function: FunctionId, backend: &str, sandbox: Sandbox, gpu: Option<u32>) -> bool {
        let key = {
            let mut state = self.0.state.borrow_mut();
            let on =
                state.functions().get(function.index()).map(|f| &self.0.backends[usize::from(f.backend)]);
            if on.is_none_or(|on| on.name() != backend) {
                return false;
            }
            let Some(key) = state.adopt(function, gpu, sandbox, rt::now()) else { return false };
            key
        };
        self.0.offer(key, StartKind::Warm);
        true
    }

    /// Forgets a function that nobody will call any more: its idle containers are removed, and those that run when they
    /// have finished. Where it shares them with its app they stay.
    pub fn deregister(&self, id: FunctionId) {
        self.0.state.borrow_mut().deregister(id, rt::now(), &mut Around(&self.0));
    }

    /// Its functions in the order of their ids, each with the name of its backend.
    pub fn functions(&self) -> Vec<(FunctionSpec, String)> {
        let state = self.0.state.borrow();
        let backend = |number: u16| self.0.backends[usize::from(number)].name().to_string();
        state.functions().iter().map(|f| (f.spec.clone(), backend(f.backend))).collect()
    }

    /// Invocations that it has, waiting or dispatched.
    pub fn invocations(&self) -> u64 {
        let state = self.0.state.borrow();
        state.in_flight() + state.queue_len() as u64
    }

    /// The worker at this instant.
    pub fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    /// Containers that are alive: creating, running or cached.
    pub fn containers_alive(&self) -> u64 {
        let state = self.0.state.borrow();
        [Phase::Creating, Phase::Running, Phase::Cached].map(|p| u64::from(state.in_phase(p))).iter().sum()
    }

    /// Makes the loop with this name panic when it next wakes: for tests of its supervision. False if there is none.
    pub fn inject_panic(&self, name: &str) -> bool {
        let loops = self.0.loops.borrow();
        loops.iter().filter(|l| l.name == name).map(|l| l.pulse.inject_panic()).count() > 0
    }

    /// Everything that is measured, at this instant: what, and the values.
    pub fn look(&self) -> (Rc<Columns>, Vec<f64>) {
        let (snapshot, counts) = self.0.figures();
        self.0.meter.borrow_mut().look(&snapshot, &counts)
    }

    /// Measures the worker once more, at the end of a run.
    pub fn measure_last(&self, end: Time) {
        let (snapshot, counts) = self.0.figures();
        self.0.meter.borrow_mut().push_last(end, &snapshot, &counts);
    }

    /// The points so far.
    pub fn series(&self) -> Series {
        self.0.meter.borrow().series().clone()
    }

    /// Waits until a background loop is given up. A worker without its loops must end.
    pub async fn failed(&self) -> GivenUp {
        loop {
            let told = self.0.failed.notified();
            if let Some(why) = self.0.given_up.borrow().clone() {
                return why;
            }
            told.await;
        }
    }

    /// How long [`drain`](Worker::drain) waits for what is admitted, and again for removals.
    pub fn drain_limit(&self) -> Duration {
        self.0.state.borrow().config().drain
    }

    /// Stops admitting, waits for what is admitted (at most the configured limit), and removes every idle container,
    /// waiting as long again for that to be confirmed; no container is created any more then. True if nothing was left.
    pub async fn drain(&self) -> bool {
        let limit = self.drain_limit();
        self.drain_within(limit, limit).await
    }

    /// Stops admitting and removes every idle container, without waiting for what is admitted. Removals may take a moment.
    pub async fn stop(&self) -> bool {
        const MOMENT: Duration = Duration::from_secs(2);
        self.drain_within(Duration::ZERO, MOMENT).await
    }

    async fn drain_within(&self, admitted: Duration, removals: Duration) -> bool {
        self.0.state.borrow_mut().begin_drain();
        let finished = rt::timeout(admitted, async {
            loop {
                let told = self.0.quiet.notified();
                if self.0.is_quiet() {
                    return;
                }
                told.await;
            }
        })
        .await
        .is_ok();
        self.0.state.borrow_mut().clear_idle(rt::now(), &mut Around(&self.0));
        let removed = rt::timeout(removals, async {
            loop {
                let told = self.0.quiet.notified();
                if self.0.state.borrow().in_phase(Phase::Removing) == 0 {
                    return;
                }
                told.await;
            }
        });
        let removed = removed.await.is_ok();
        close_all(&self.0.backends).await && removed && finished
    }
}

impl Inner {
    fn snapshot(&self) -> Snapshot {
        let restarts = self.loops.borrow().iter().map(|l| l.pulse.restarts()).sum();
        let wanted = self.backends.iter().find_map(|b| b.shared()).map_or(0.0, |shared| shared.wanted);
        self.state.borrow().snapshot(restarts, wanted)
    }

    /// The worker, and the containers of each of its backends by state.
    fn figures(&self) -> (Snapshot, Vec<[f64; BACKEND_PATHS.len()]>) {
        let counts = self.state.borrow().by_backend(self.backends.len());
        (self.snapshot(), counts)
    }

    /// Measures the worker at a tick.
    fn measure(&self, at: Time) {
        let (snapshot, counts) = self.figures();
        self.meter.borrow_mut().push(at, &snapshot, &counts);
    }

    fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        state.in_flight() == 0 && state.queue_len() == 0
    }

    /// Dispatches what waits, after something was given back.
    #[inline]
    fn pump(self: &Rc<Inner>) {
        let mut state = self.state.borrow_mut();
        if state.queue_len() > 0 {
            let now = rt::now();
            state.pump(now, &mut Around(self));
        } else if state.is_draining() && state.in_flight() == 0 {
            self.quiet.notify_waiters();
        }
    }
}
