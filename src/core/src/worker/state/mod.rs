//! A worker's state and its transitions: functions, queue, processors, containers and memory.
//!
//! Everything here is decided at once and without waiting: an invocation [`arrives`](State::arrive), is dispatched, begins and ends its
//! execution and gives back what it held; a container is created, becomes idle, retires and is gone. Each transition moves all that
//! belongs together, tells of it as [`WorkerEvent`]s, and is checked as a whole where checks are wanted. What has to wait, the tasks around
//! the state, sees it through these methods alone; what the state asks of them is [`Shell`].

mod check;
mod container;
mod dispatch;
mod expiries;
mod figures;
mod fleet;
mod functions;
mod gpus;
mod grant;
mod groups;
mod keeping;
mod late;
mod ledger;
mod levels;
mod life;
mod lines;
mod pool;
mod prewarm;
mod room;
mod tally;
mod ticks;
mod watch;

pub(super) use container::Key;
pub(super) use dispatch::Admission;
pub use fleet::Fleet;
pub(super) use functions::Function;
pub(super) use grant::{Grant, Way};
pub(super) use late::Place;
pub use ledger::{Peaks, Phase};
pub(super) use life::Held;
pub(super) use ticks::Asked;

use super::config::{Config, Dispatch};
use super::event::{Observer, WorkerEvent};
use super::queue::QueuePolicy;
use super::{Creations, eviction::Eviction};
use crate::backend::Sandbox;
use crate::base::{Cpus, FunctionId, Mem, Time};
use crate::worker::keep_alive::KeepAlive;
use check::Checks;
use gpus::Gpus;
use groups::Groups;
use keeping::Keeping;
use late::LateLines;
use ledger::Ledger;
use levels::Levels;
use lines::{Lines, Ticket};
use pool::Pool;
use slab::Slab;
use std::collections::VecDeque;
use tally::WindowCounts;

/// Processors that invocations hold, in 1/1000 core.
const CPUS: usize = 0;
/// Invocations that were dispatched and have not returned.
const IN_FLIGHT: usize = 1;
/// Invocations that wait to be dispatched.
const QUEUED: usize = 2;
/// See [`State::held`].
const HELD: usize = 3;

/// See the module.
pub(super) struct State {
    functions: Vec<Function>,
    /// The numbers of those that nobody calls any more.
    gone: Vec<FunctionId>,
    groups: Groups,
    pool: Pool,
    keeping: Keeping,
    ledger: Ledger,
    gpus: Gpus,
    cores: Cpus,
    /// Processors, invocations and the queue over time: see [`CPUS`] and the others.
    held: Levels<HELD>,
    /// The same of all workers of a fleet.
    fleet: Option<Fleet>,
    policy: Box<dyn QueuePolicy>,
    lines: Lines,
    tickets: Slab<Ticket>,
    joined: u64,
    deadlines: VecDeque<(Time, u64, usize)>,
    /// Invocations that wait for a place of their group while their container is created (`dispatch = "late"`).
    late: LateLines,
    /// When the memory of which container is read next, and the spell of work that this is about.
    watch: VecDeque<(Time, Key, u64)>,
    draining: bool,
    /// When a creation was last under way that is not any more.
    last_creating: Option<Time>,
    containers: u64,
    /// Containers created for each function so far, on all workers of the run.
    creations: Creations,
    config: Config,
    dispatch: Dispatch,
    counts: WindowCounts,
    /// Somebody beside the counts hears the events.
    heard: bool,
    observers: Vec<Box<dyn Observer>>,
    /// A policy does.
    policies_hear: bool,
    checks: Option<Box<Checks>>,
}

/// A worker's policies.
pub(super) struct Policies {
    pub(super) eviction: Box<dyn Eviction>,
    pub(super) queue: Box<dyn QueuePolicy>,
    pub(super) keep_alive: Box<dyn KeepAlive>,
}

/// What the state asks of the tasks around it. Each answers at once.
pub(super) trait Shell {
    /// Begins the removal of a container; true if it is gone already. Else [`State::removed`] tells.
    fn remove(&mut self, container: Key, backend: u16, sandbox: Sandbox) -> bool;

    /// Reads the memory of a container, where its backend can tell.
    fn read(&mut self, backend: u16, sandbox: Sandbox) -> Option<Mem>;

    /// Something is due at an instant: who would look at it later looks then.
    fn look_by(&mut self, what: LoopDue, at: Time);

    /// Begins to wait for when containers of a group are to be created again ([`State::next_again`]).
    fn create_again(&mut self, function: FunctionId, group: u32);
}

/// What a background loop looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoopDue {
    /// The end of a keep-alive.
    Expiry,
    /// A reading of memory.
    Reading,
    /// The end of a wait in the queue.
    Deadline,
}

impl State {
    /// A worker without functions; its figures cover [from, until).
    pub(super) fn new(
        config: Config,
        policies: Policies,
        creations: Creations,
        (observers, checked): (Vec<Box<dyn Observer>>, bool),
        (from, until): (Time, Time),
    ) -> State {
        let capacity = config.memory.unwrap_or(Mem::MAX);
        let checks = Checks::wanted(checked);
        let policies_hear =
            policies.eviction.hears() || policies.queue.hears() || policies.keep_alive.hears();
        State {
            functions: Vec::new(),
            gone: Vec::new(),
            groups: Groups::new(config.unit.unwrap_or_default()),
            pool: Pool::new(policies.eviction, capacity != Mem::MAX || config.gpus > 0),
            keeping: Keeping::new(policies.keep_alive),
            ledger: Ledger::new(capacity, from, until),
            gpus: Gpus::new(config.gpus, config.gpu_memory.unwrap_or(Mem::MAX)),
            cores: config.cores.unwrap_or(Cpus::MAX),
            held: Levels::new(from, until),
            fleet: None,
            policy: policies.queue,
            lines: Lines::default(),
            tickets: Slab::new(),
            joined: 0,
            deadlines: VecDeque::new(),
            late: LateLines::default(),
            watch: VecDeque::new(),
            draining: false,
            last_creating: None,
            containers: 0,
            creations,
            dispatch: config.dispatch,
            config,
            counts: WindowCounts::new(from, until),
            heard: checks.is_some() || !observers.is_empty() || policies_hear,
            observers,
            policies_hear,
            checks,
        }
    }

    /// Tells of something that happens now. Where nobody hears it but the counts, the compiler leaves of the event what they need.
    #[inline(always)]
    fn emit(&mut self, now: Time, event: impl Fn(&State) -> WorkerEvent) {
        let told = event(self);
        self.counts.observe(now, &told);
        if self.heard {
            self.tell(now, event(self));
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&mut self, now: Time, event: WorkerEvent) {
        if let Some(checks) = &mut self.checks {
            checks.observe(now, &event);
        }
        self.observers.iter_mut().for_each(|observer| observer.observe(now, &event));
        if self.policies_hear {
            self.tell_policies(now, &event);
        }
    }

    /// Ends a transition: where checks are wanted, all that must hold is looked at.
    #[inline(always)]
    fn settled(&mut self) {
        if self.heard {
            self.check();
        }
    }

    #[inline]
    fn hold(&mut self, what: usize, n: u64, now: Time) {
        self.held.add(what, n, now);
        if let Some(fleet) = &self.fleet {
            fleet.held.borrow_mut().add(what, n, now);
        }
    }

    #[inline]
    fn release(&mut self, what: usize, n: u64, now: Time) {
        self.held.take(what, n, now);
        if let Some(fleet) = &self.fleet {
            fleet.held.borrow_mut().take(what, n, now);
        }
    }

    /// Invocations that wait.
    #[inline]
    pub(super) fn queue_len(&self) -> usize {
        self.lines.len()
    }

    /// Invocations that were dispatched and have not returned.
    #[inline]
    pub(super) fn in_flight(&self) -> u64 {
        self.held.value(IN_FLIGHT)
    }

    /// What the worker was told.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether no invocation is taken any more.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Takes no invocation any more.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
    }
}
