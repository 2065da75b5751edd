//! A worker's state: functions, queue, processors, pool and ledger, and the one rule by which an invocation is
//! dispatched.

use super::config::{Config, Dispatch};
use super::gpus::Gpus;
use super::ledger::{Ledger, Phase};
use super::pool::{Key, Pool};
use super::queue::{Joining, QueuePolicy};
use crate::base::{
    ColdCause, Compute, Cpus, Duration, FunctionId, FunctionSpec, Invocation, Mem, StartKind, Time, Unit,
    WorkerCounts,
};
use crate::rt::sync::OneSender;
use rustc_hash::FxHashMap;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;

/// A registered function.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    pub(super) group: u32,
    pub(super) keep_alive: Duration,
    pub(super) timeout: Option<Duration>,
    /// The backend its containers are created on.
    pub(super) backend: u16,
    /// Moving average of its executions in ns; negative before the first.
    expected: f64,
}

impl Function {
    /// The function showed another execution.
    #[inline]
    pub(super) fn observe(&mut self, execution: Duration) {
        const WEIGHT: f64 = 0.3;
        let x = execution.0 as f64;
        self.expected = if self.expected < 0.0 { x } else { WEIGHT * x + (1.0 - WEIGHT) * self.expected };
    }
}

/// What a dispatched invocation was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) container: Key,
    pub(super) start: StartKind,
    pub(super) cause: Option<ColdCause>,
    /// The container has to be created first.
    pub(super) create: bool,
    /// Its processors.
    pub(super) cpus: Cpus,
}

/// An invocation that waits in the queue.
pub(super) struct Ticket {
    pub(super) function: FunctionId,
    place: Place,
    pub(super) outcome: Option<Result<Grant, Refusal>>,
    pub(super) waker: Option<Waker>,
    pub(super) deadline: Option<Time>,
}

/// Why an invocation was not dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    QueueFull,
    QueueTimeout,
    Draining,
}

impl Refusal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Refusal::QueueFull => "queue full",
            Refusal::QueueTimeout => "queue timeout",
            Refusal::Draining => "worker drains",
        }
    }
}

/// Who waits for a container that is being created, or for one that frees up sooner.
pub(super) type LateWaiter = OneSender<Result<(Key, StartKind), Rc<str>>>;

/// A place in the queue: rank (as an ordered number) and order of joining.
type Place = (u64, u64);

/// Maps a float to a number of the same order.
fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The queue: one line for each group, and the heads of all lines in order.
#[derive(Default)]
struct Lines {
    lines: FxHashMap<u32, BTreeMap<Place, usize>>,
    heads: BTreeMap<Place, u32>,
    len: usize,
}

impl Lines {
    fn join(&mut self, group: u32, place: Place, ticket: usize) {
        let line = self.lines.entry(group).or_default();
        let head = line.first_key_value().map(|(p, _)| *p);
        line.insert(place, ticket);
        self.len += 1;
        if head.is_none_or(|head| place < head) {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            self.heads.insert(place, group);
        }
    }

    fn leave(&mut self, group: u32, place: Place) {
        let Some(line) = self.lines.get_mut(&group) else { return };
        if line.remove(&place).is_none() {
            return;
        }
        self.len -= 1;
        if self.heads.remove(&place).is_some()
            && let Some((next, _)) = line.first_key_value()
        {
            self.heads.insert(*next, group);
        }
        if line.is_empty() {
            self.lines.remove(&group);
        }
    }

    /// The first head at or after a place.
    fn head_from(&self, from: Place) -> Option<(Place, u32, usize)> {
        let (place, group) = self.heads.range(from..).next()?;
        let ticket = self.lines.get(group)?.get(place)?;
        Some((*place, *group, *ticket))
    }
}

/// See the module.
pub(super) struct State {
    pub(super) functions: Vec<Function>,
    apps: FxHashMap<String, u32>,
    pub(super) pool: Pool,
    pub(super) ledger: Ledger,
    pub(super) gpus: Gpus,
    cores: Cpus,
    pub(super) cpus_used: u64,
    policy: Box<dyn QueuePolicy>,
    lines: Lines,
    pub(super) tickets: Slab<Ticket>,
    joined: u64,
    pub(super) deadlines: VecDeque<(Time, u64, usize)>,
    /// Invocations that wait for a container of their group, first come first served (`dispatch = "late"`).
    pub(super) late: FxHashMap<u32, VecDeque<LateWaiter>>,
    pub(super) watch: VecDeque<(Time, Key, u64)>,
    pub(super) counts: WorkerCounts,
    pub(super) draining: bool,
    pub(super) in_flight: u32,
    containers: u64,
    /// Containers created for each function so far, on all workers of the run.
    creations: super::Creations,
    pub(super) config: Config,
    dispatch: Dispatch,
}

impl State {
    pub(super) fn new(
        config: Config,
        pool: Pool,
        policy: Box<dyn QueuePolicy>,
        ledger: Ledger,
        creations: super::Creations,
    ) -> State {
        State {
            functions: Vec::new(),
            apps: FxHashMap::default(),
            pool,
            ledger,
            gpus: Gpus::new(config.gpus, config.gpu_memory.unwrap_or(Mem::MAX)),
            cores: config.cores.unwrap_or(Cpus::MAX),
            cpus_used: 0,
            policy,
            lines: Lines::default(),
            tickets: Slab::new(),
            joined: 0,
            deadlines: VecDeque::new(),
            late: FxHashMap::default(),
            watch: VecDeque::new(),
            counts: WorkerCounts::default(),
            draining: false,
            in_flight: 0,
            containers: 0,
            creations,
            dispatch: config.dispatch,
            config,
        }
    }

    pub(super) fn register(&mut self, spec: FunctionSpec, backend: u16) -> FunctionId {
        let group = match self.config.unit.unwrap_or_default() {
            Unit::Function => self.pool.add_group(),
            Unit::App => match self.apps.get(&spec.app) {
                Some(group) => *group,
                None => {
                    let group = self.pool.add_group();
                    self.apps.insert(spec.app.clone(), group);
                    group
                }
            },
        };
        self.functions.push(Function {
            group,
            keep_alive: spec.keep_alive.unwrap_or(self.config.keep_alive),
            timeout: spec.timeout,
            backend,
            expected: -1.0,
            spec,
        });
        FunctionId(self.functions.len() as u32 - 1)
    }

    pub(super) fn queue_len(&self) -> usize {
        self.lines.len
    }

    pub(super) fn queue_name(&self) -> &str {
        self.policy.name()
    }

    pub(super) fn skips(&self) -> bool {
        self.policy.skips()
    }

    fn cpus_free(&self, need: Cpus) -> bool {
        self.cores == Cpus::MAX || self.cpus_used + u64::from(need.0) <= u64::from(self.cores.0)
    }

    /// Dispatches an invocation if its processors and a container, or the memory for one, can be had together now.
    ///
    /// `None` leaves everything as it was, except for containers evicted to make room that is not confirmed free yet.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        function: FunctionId,
        now: Time,
        dispose: &mut dyn Dispose,
    ) -> Option<Grant> {
        let f = &self.functions[function.index()];
        let (cpus, group) = (f.spec.cpus, f.group);
        if !self.cpus_free(cpus) {
            return None;
        }
        let grant = match self.pool.choose(group, now) {
            Some(container) => self.take_warm(container, cpus, now),
            None => {
                // So that the cause is the same whether or not the reaper has run at this instant.
                self.expire(now, dispose);
                let cause = self.pool.cold_cause(group);
                let container = self.begin_creation(function, now, Some(dispose))?;
                if self.dispatch == Dispatch::Early {
                    self.pool.get(container).in_flight = 1;
                    self.pool.group(group).frequency += 1;
                }
                Grant { container, start: StartKind::Cold, cause: Some(cause), create: true, cpus }
            }
        };
        self.cpus_used += u64::from(cpus.0);
        self.in_flight += 1;
        Some(grant)
    }

    /// Puts an invocation into a container that exists.
    #[inline]
    pub(super) fn take_warm(&mut self, container: Key, cpus: Cpus, now: Time) -> Grant {
        let c = self.pool.get(container);
        let (memory, was_cached) = (c.memory, c.phase == Phase::Cached);
        let prewarmed = std::mem::take(&mut c.prewarmed);
        self.pool.occupy(container);
        if was_cached {
            self.ledger.shift(Phase::Cached, Phase::Running, memory, now);
        }
        let start = if prewarmed { StartKind::Prewarmed } else { StartKind::Warm };
        Grant { container, start, cause: None, create: false, cpus }
    }

    /// Reserves memory, and a GPU if it needs one, for a container of this function, evicting if `dispose` is given, and
    /// enters it as creating.
    pub(super) fn begin_creation(
        &mut self,
        function: FunctionId,
        now: Time,
        dispose: Option<&mut dyn Dispose>,
    ) -> Option<Key> {
        self.begin_creation_on(None, function, now, dispose)
    }

    /// [`begin_creation`](State::begin_creation) of a container that has this very GPU already.
    pub(super) fn begin_creation_on(
        &mut self,
        gpu: Option<u32>,
        function: FunctionId,
        now: Time,
        mut dispose: Option<&mut dyn Dispose>,
    ) -> Option<Key> {
        let limit = self.config.max_creating;
        if limit > 0 && self.ledger.count(Phase::Creating) >= limit {
            return None;
        }
        let spec = &self.functions[function.index()].spec;
        let memory = spec.memory;
        let part = match spec.program.compute {
            Compute::Cpu => None,
            Compute::Gpu => Some(self.gpu_for(gpu, spec.program.gpu_memory, now, &mut dispose)?),
        };
        if self.ledger.free() < memory && !dispose.is_some_and(|d| self.make_room(memory, now, d)) {
            return None;
        }
        let f = &self.functions[function.index()];
        let nth = {
            let mut creations = self.creations.borrow_mut();
            if creations.len() < self.functions.len() {
                creations.resize(self.functions.len(), 0);
            }
            let created = &mut creations[function.index()];
            *created += 1;
            *created - 1
        };
        self.containers += 1;
        let key = self.pool.insert(
            self.containers,
            f.group,
            function,
            f.backend,
            memory,
            f.spec.concurrency.max(1),
            f.keep_alive,
            nth,
        );
        self.pool.get(key).gpu = part.map(|(gpu, memory)| self.gpus.take(gpu, memory));
        self.ledger.enter(Phase::Creating, memory, now);
        self.counts.containers_created += 1;
        Some(key)
    }

    /// A GPU that has enough free for a container, this one if it is said which; idle containers of one are evicted if only
    /// that makes room, and if it does.
    fn gpu_for(
        &mut self,
        gpu: Option<u32>,
        named: Option<Mem>,
        now: Time,
        dispose: &mut Option<&mut dyn Dispose>,
    ) -> Option<(u32, Mem)> {
        let need = self.gpus.need(named);
        let free = |state: &State| match gpu {
            Some(gpu) => state.gpus.has(gpu, need).then_some((gpu, need)),
            None => state.gpus.find(need, |_| Mem(0)).map(|gpu| (gpu, need)),
        };
        if let Some(found) = free(self) {
            return Some(found);
        }
        let dispose = dispose.as_deref_mut()?;
        self.expire(now, dispose);
        let going = |state: &State, gpu| state.pool.on_gpu(gpu, Phase::Removing);
        // What is being removed comes back by itself: nothing else goes for it.
        if self.gpus.find(need, |gpu| going(self, gpu)).is_none() {
            let idle = |gpu| Mem(self.pool.on_gpu(gpu, Phase::Cached).0.saturating_add(going(self, gpu).0));
            let chosen = self.gpus.find(need, idle)?;
            while !self.gpus.has(chosen, Mem(need.0.saturating_sub(going(self, chosen).0))) {
                let victim = self.pool.victim_on(chosen)?;
                self.counts.evictions += 1;
                dispose.dispose(self, victim, ColdCause::Evicted, now);
            }
        }
        free(self)
    }

    /// A container is gone: what it had is free.
    pub(super) fn forget(&mut self, key: Key, phase: Phase, now: Time) {
        let container = self.pool.forget(key);
        self.ledger.leave(phase, container.memory, now);
        if let Some(part) = container.gpu {
            self.gpus.give(part);
        }
    }

    fn make_room(&mut self, need: Mem, now: Time, dispose: &mut dyn Dispose) -> bool {
        self.expire(now, dispose);
        let coming = self.ledger.free() + self.ledger.held(Phase::Removing);
        if coming + self.pool.evictable() < need {
            return false;
        }
        while self.ledger.free() + self.ledger.held(Phase::Removing) < need {
            let Some(victim) = self.pool.victim() else { return false };
            self.counts.evictions += 1;
            dispose.dispose(self, victim, ColdCause::Evicted, now);
        }
        self.ledger.free() >= need
    }

    /// Removes every container whose keep-alive has ended.
    pub(super) fn expire(&mut self, now: Time, dispose: &mut dyn Dispose) {
        while let Some((at, key)) = self.pool.next_expiry()
            && at <= now
        {
            self.counts.expirations += 1;
            dispose.dispose(self, key, ColdCause::Expired, now);
        }
    }

    /// An invocation joins the queue. Its ticket, and whether it is now the head of its line.
    pub(super) fn join(&mut self, call: &Invocation, now: Time) -> Result<(usize, bool), Refusal> {
        let limit = self.config.queue.limit;
        if limit.is_some_and(|limit| self.lines.len as u64 >= limit) {
            return Err(Refusal::QueueFull);
        }
        let f = &self.functions[call.function.index()];
        let rank = self.policy.rank(&Joining {
            function: call.function,
            at: now,
            expected: (f.expected >= 0.0).then(|| Duration::from_nanos_f64(f.expected)),
            deadline: f.spec.deadline,
        });
        self.joined += 1;
        let place = (ordered(rank), self.joined);
        let group = f.group;
        let deadline = self.config.queue.timeout.filter(|t| *t != Duration::MAX).map(|t| now + t);
        let ticket = self.tickets.insert(Ticket {
            function: call.function,
            place,
            outcome: None,
            waker: None,
            deadline,
        });
        self.lines.join(group, place, ticket);
        if let Some(deadline) = deadline {
            self.deadlines.push_back((deadline, self.joined, ticket));
        }
        let first = self.lines.heads.first_key_value().is_some_and(|(p, _)| *p == place);
        Ok((ticket, first))
    }

    /// Takes a ticket out of the queue.
    pub(super) fn leave(&mut self, ticket: usize) {
        let t = &self.tickets[ticket];
        let group = self.functions[t.function.index()].group;
        self.lines.leave(group, t.place);
    }

    /// Whether this entry of `deadlines` still waits.
    pub(super) fn waits(&self, ticket: usize, joined: u64) -> bool {
        self.tickets.get(ticket).is_some_and(|t| t.place.1 == joined && t.outcome.is_none())
    }

    /// Dispatches whatever can be dispatched, in the order of the policy.
    pub(super) fn pump(&mut self, now: Time, dispose: &mut dyn Dispose) {
        let skips = self.policy.skips();
        let mut from = (0, 0);
        while let Some((place, group, ticket)) = self.lines.head_from(from) {
            let function = self.tickets[ticket].function;
            match self.dispatch(function, now, dispose) {
                Some(grant) => {
                    self.lines.leave(group, place);
                    let t = &mut self.tickets[ticket];
                    t.outcome = Some(Ok(grant));
                    if let Some(waker) = t.waker.take() {
                        waker.wake();
                    }
                }
                None if skips => from = (place.0, place.1 + 1),
                None => return,
            }
        }
    }
}

/// Destroys containers: the worker with its backends, seen from the state it owns.
pub(super) trait Dispose {
    /// Begins the removal of a container; its memory is free when it is confirmed.
    fn dispose(&mut self, state: &mut State, container: Key, cause: ColdCause, now: Time);
}
