//! A worker's state: functions, queue, processors, pool and ledger, and the one rule by which an invocation is
//! dispatched.

use super::config::{Accounting, Config, Dispatch};
use super::container::{Fate, Key};
use super::creation::LateLines;
use super::fleet::Fleet;
use super::gpus::Gpus;
use super::groups::{Fit, Groups};
use super::keeping::Keeping;
use super::ledger::{Ledger, Phase};
use super::levels::Levels;
use super::lines::{Lines, Refusal, Ticket, ordered};
use super::pool::Pool;
use super::queue::{Joining, QueuePolicy};
use super::tally::Counted;
use crate::base::{
    ColdCause, Cpus, Duration, FunctionId, FunctionSpec, Invocation, Mem, StartKind, Time, Unit, Waited,
    WorkerCounts,
};
use slab::Slab;
use std::collections::VecDeque;

/// A registered function.
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    pub(super) group: u32,
    /// How long its containers are kept, where the policy need not be asked each time.
    pub(super) keep_alive: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    /// The backend its containers are created on.
    pub(super) backend: u16,
    /// Containers of its group that it may enter.
    pub(super) fit: Fit,
    /// Nobody calls it any more.
    pub(super) gone: bool,
    /// Creations ahead of need that are under way, or wait for another attempt.
    pub(super) prewarming: u32,
}

/// What a dispatched invocation was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) container: Key,
    pub(super) start: StartKind,
    pub(super) cause: Option<ColdCause>,
    /// How it comes by its container.
    pub(super) way: Way,
    /// Its processors.
    pub(super) cpus: Cpus,
    /// How it waited.
    pub(super) waited: Waited,
}

/// How a dispatched invocation comes by its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It exists.
    Exists,
    /// It is created first.
    Created,
    /// It is created, and a place that frees up sooner is taken meanwhile: the invocation's number among those that wait so.
    Late(usize),
}

/// Processors that invocations hold, in 1/1000 core.
pub(super) const CPUS: usize = 0;
/// Invocations that were dispatched and have not returned.
pub(super) const IN_FLIGHT: usize = 1;
/// Invocations that wait to be dispatched.
pub(super) const QUEUED: usize = 2;
/// See [`State::held`].
pub(super) const HELD: usize = 3;

/// See the module.
pub(super) struct State {
    pub(super) functions: Vec<Function>,
    /// The numbers of those that nobody calls any more.
    pub(super) gone: Vec<FunctionId>,
    pub(super) groups: Groups,
    pub(super) pool: Pool,
    pub(super) keeping: Keeping,
    pub(super) ledger: Ledger,
    pub(super) gpus: Gpus,
    cores: Cpus,
    /// Processors, invocations and the queue over time: see [`CPUS`] and the others.
    pub(super) held: Levels<HELD>,
    /// The same of all workers of a fleet.
    pub(super) fleet: Option<Fleet>,
    policy: Box<dyn QueuePolicy>,
    lines: Lines,
    pub(super) tickets: Slab<Ticket>,
    joined: u64,
    pub(super) deadlines: VecDeque<(Time, u64, usize)>,
    /// Invocations that wait for a place of their group while their container is created (`dispatch = "late"`).
    pub(super) late: LateLines,
    pub(super) watch: VecDeque<(Time, Key, u64)>,
    pub(super) counts: Counted,
    pub(super) draining: bool,
    /// When a creation was last under way that is not any more.
    last_creating: Option<Time>,
    pub(super) containers: u64,
    /// Containers created for each function so far, on all workers of the run.
    pub(super) creations: super::Creations,
    pub(super) config: Config,
    dispatch: Dispatch,
}

impl State {
    pub(super) fn new(
        config: Config,
        (pool, keeping): (Pool, Keeping),
        policy: Box<dyn QueuePolicy>,
        ledger: Ledger,
        creations: super::Creations,
        (from, until): (Time, Time),
    ) -> State {
        State {
            functions: Vec::new(),
            gone: Vec::new(),
            groups: Groups::new(config.unit.unwrap_or_default()),
            pool,
            keeping,
            ledger,
            gpus: Gpus::new(config.gpus, config.gpu_memory.unwrap_or(Mem::MAX)),
            cores: config.cores.unwrap_or(Cpus::MAX),
            held: Levels::new(from, until),
            fleet: None,
            policy,
            lines: Lines::default(),
            tickets: Slab::new(),
            joined: 0,
            deadlines: VecDeque::new(),
            late: LateLines::default(),
            watch: VecDeque::new(),
            counts: Counted::new(from, until),
            draining: false,
            last_creating: None,
            containers: 0,
            creations,
            dispatch: config.dispatch,
            config,
        }
    }

    /// The number of the next function: one that was forgotten and that nothing bears any more, so that whoever registers and
    /// forgets for ever takes no more room than what is registered at once; or a new one.
    pub(super) fn next_number(&self) -> FunctionId {
        let is_free = |id: FunctionId, f: &Function| {
            f.prewarming == 0
                && !self.pool.has_any(f.group)
                && self.tickets.iter().all(|(_, ticket)| ticket.function != id)
        };
        // Where apps share containers, a group outlives its functions.
        let looked_at =
            if self.config.unit.unwrap_or_default() == Unit::Function { &self.gone[..] } else { &[] };
        let free = looked_at.iter().find(|id| is_free(**id, &self.functions[id.index()]));
        free.copied().unwrap_or(FunctionId(self.functions.len() as u32))
    }

    /// Enters a function under the [`next_number`](Self::next_number); the containers of its app that it has outgrown.
    pub(super) fn register(&mut self, id: FunctionId, spec: FunctionSpec, backend: u16) -> Vec<Key> {
        let fit = Fit::of(&spec, &self.gpus);
        let pool = &mut self.pool;
        let group = match self.functions.get(id.index()) {
            Some(before) => {
                self.gone.retain(|gone| *gone != id);
                pool.clear_group(before.group);
                self.groups.begin_anew(before.group, fit);
                self.keeping.clear(before.group);
                before.group
            }
            None => self.groups.enter(&spec, fit, || pool.add_group()),
        };
        let function = Function {
            group,
            keep_alive: self.keeping.known(spec.keep_alive),
            timeout: spec.timeout,
            backend,
            fit,
            gone: false,
            prewarming: 0,
            spec,
        };
        match self.functions.get_mut(id.index()) {
            Some(place) => *place = function,
            None => self.functions.push(function),
        }
        let needs = self.groups.needs(group);
        self.pool.outgrown(group, needs)
    }

    pub(super) fn queue_len(&self) -> usize {
        self.lines.len()
    }

    /// Invocations that were dispatched and have not returned.
    pub(super) fn in_flight(&self) -> u64 {
        self.held.value(IN_FLIGHT)
    }

    pub(super) fn skips(&self) -> bool {
        self.policy.skips()
    }

    pub(super) fn cpus_free(&self, need: Cpus) -> bool {
        self.cores == Cpus::MAX || self.held.value(CPUS) + u64::from(need.0) <= u64::from(self.cores.0)
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
        let (cpus, group, fit) = (f.spec.cpus, f.group, f.fit);
        if !self.cpus_free(cpus) {
            return None;
        }
        let grant = match self.pool.choose(group, fit, now) {
            Some(container) if self.grows(container, now, dispose) => self.take_warm(container, cpus, now),
            Some(_) => return None,
            None => {
                // So that the cause is the same whether or not the reaper has run at this instant.
                self.expire(now, dispose);
                let cause = self.pool.cold_cause(group);
                let container = self.begin_creation(function, now, Some(dispose))?;
                let way = match self.dispatch {
                    Dispatch::Early => {
                        self.pool.get(container).in_flight = 1;
                        self.pool.group(group).frequency += 1;
                        Way::Created
                    }
                    // In line at once: what frees up at this very instant is its, and nobody's who comes later.
                    Dispatch::Late => Way::Late(self.late.join(group, fit, container)),
                };
                let waited = Waited::default();
                Grant { container, start: StartKind::Cold, cause: Some(cause), way, cpus, waited }
            }
        };
        self.hold(CPUS, u64::from(cpus.0), now);
        self.hold(IN_FLIGHT, 1, now);
        Some(grant)
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

    /// Gives back what a dispatched invocation held beside its container.
    #[inline]
    pub(super) fn give_back(&mut self, cpus: Cpus, now: Time) {
        self.release(CPUS, u64::from(cpus.0), now);
        self.release(IN_FLIGHT, 1, now);
    }

    /// Puts an invocation into a container that exists.
    #[inline]
    pub(super) fn take_warm(&mut self, container: Key, cpus: Cpus, now: Time) -> Grant {
        let c = self.pool.get(container);
        let (memory, charged, was_cached) = (c.memory, c.charged, c.phase == Phase::Cached);
        let prewarmed = std::mem::take(&mut c.prewarmed);
        self.pool.occupy(container);
        if was_cached {
            self.ledger.change(Phase::Cached, charged, Phase::Running, memory, now);
        }
        let start = if prewarmed { StartKind::Prewarmed } else { StartKind::Warm };
        Grant { container, start, cause: None, way: Way::Exists, cpus, waited: Waited::default() }
    }

    /// Lets nobody enter a container any more, and counts why.
    pub(super) fn condemn(&mut self, key: Key, fate: Fate, now: Time) {
        if self.pool.get(key).phase == Phase::Creating {
            self.created(now);
        }
        self.pool.condemn(key, fate);
        self.count(now, |c| match fate {
            Fate::Evicted => c.evictions += 1,
            Fate::Expired => c.expirations += 1,
            Fate::Failed => c.containers_failed += 1,
            Fate::Condemned => c.containers_condemned += 1,
        });
    }

    /// Says anew what containers of a group must have, when one of its functions is gone.
    pub(super) fn shrink_needs(&mut self, group: u32) {
        let left = self.functions.iter().filter(|f| f.group == group && !f.gone);
        self.groups.set_needs(group, left.map(|f| f.fit));
    }

    /// A container is gone: what it had is free.
    pub(super) fn forget(&mut self, key: Key, phase: Phase, now: Time) {
        let container = self.pool.forget(key);
        self.ledger.leave(phase, container.charged, now);
        if let Some(part) = container.gpu {
            self.gpus.give(part);
        }
    }

    /// Lets an invocation join the queue. Its ticket, and whether it is now the head of all lines.
    pub(super) fn join(&mut self, call: &Invocation, now: Time) -> Result<(usize, bool), Refusal> {
        let limit = self.config.queue.limit;
        if limit.is_some_and(|limit| self.lines.len() as u64 >= limit) {
            return Err(Refusal::QueueFull);
        }
        let blocked = !self.policy.skips() && self.could_dispatch(call.function, now);
        let f = &self.functions[call.function.index()];
        let rank = self.policy.rank(&Joining {
            function: call.function,
            at: now,
            expected: self.groups.expected(f.group),
            deadline: f.spec.deadline,
        });
        self.joined += 1;
        let place = (ordered(rank), self.joined);
        let deadline = self.config.queue.timeout.filter(|t| *t != Duration::MAX).map(|t| now + t);
        let ticket = self.tickets.insert(Ticket {
            function: call.function,
            place,
            outcome: None,
            waker: None,
            deadline,
            since: now,
            blocked,
        });
        let first = self.lines.join(call.function, place, ticket);
        self.hold(QUEUED, 1, now);
        if let Some(deadline) = deadline {
            self.deadlines.push_back((deadline, self.joined, ticket));
        }
        Ok((ticket, first))
    }

    /// Whether an invocation that joined now would be before all that wait.
    pub(super) fn would_be_first(&mut self, call: &Invocation, now: Time) -> bool {
        let f = &self.functions[call.function.index()];
        let (expected, deadline) = (self.groups.expected(f.group), f.spec.deadline);
        let rank = self.policy.rank(&Joining { function: call.function, at: now, expected, deadline });
        self.lines.head_from((0, 0)).is_none_or(|((head, _), _)| ordered(rank) < head)
    }

    /// Takes a ticket out of the queue.
    pub(super) fn leave(&mut self, ticket: usize, now: Time) {
        let t = &self.tickets[ticket];
        let before = self.lines.len();
        self.lines.leave(t.function, t.place);
        self.release(QUEUED, (before - self.lines.len()) as u64, now);
    }

    /// Drops who has waited for as long as the queue lets them; the next deadline.
    pub(super) fn drop_overdue(&mut self, now: Time) -> Option<Time> {
        while let Some((deadline, joined, ticket)) = self.deadlines.front().copied() {
            let waits = self.tickets.get(ticket).is_some_and(|t| t.place.1 == joined && t.outcome.is_none());
            if waits && deadline > now {
                return Some(deadline);
            }
            if waits {
                self.leave(ticket, now);
                self.tickets[ticket].tell(Err(Refusal::QueueTimeout));
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Dispatches whatever can be dispatched, in the order of the policy. Whose deadline is this instant is dropped first,
    /// whichever timer was set first.
    pub(super) fn pump(&mut self, now: Time, dispose: &mut dyn Dispose) {
        self.drop_overdue(now);
        let skips = self.policy.skips();
        let first = (0, 0);
        let mut from = first;
        while let Some((place, ticket)) = self.lines.head_from(from) {
            let t = &self.tickets[ticket];
            let waited = Waited { behind_creation: self.creating_since(t.since), behind_head: t.blocked };
            match self.dispatch(t.function, now, dispose) {
                Some(grant) => {
                    self.leave(ticket, now);
                    self.tickets[ticket].tell(Ok(Grant { waited, ..grant }));
                    // What it took, or made room of, may be what one that was passed over waits for.
                    from = first;
                }
                None if skips => from = (place.0, place.1 + 1),
                None => return,
            }
        }
    }

    /// Counts something that happens now, over the run and over the window.
    #[inline]
    pub(super) fn count(&mut self, now: Time, add: impl Fn(&mut WorkerCounts)) {
        self.counts.add(now, add);
    }

    /// Takes note that a creation which was under way is not any more.
    pub(super) fn created(&mut self, now: Time) {
        self.last_creating = Some(now);
    }

    /// Whether a creation was under way at some time since `since`.
    pub(super) fn creating_since(&self, since: Time) -> bool {
        self.ledger.count(Phase::Creating) > 0 || self.last_creating.is_some_and(|last| last > since)
    }

    /// What an idle container is charged, given its last reading.
    pub(super) fn charge_of_cached(&self, memory: Mem, reading: Option<Mem>) -> Mem {
        match self.config.accounting {
            Accounting::Reserved => memory,
            Accounting::Measured => reading.unwrap_or(memory).min(memory),
        }
    }
}

/// Destroys containers: the worker with its backends, seen from the state it owns.
pub(super) trait Dispose {
    /// Begins the removal of a container; its memory is free when it is confirmed.
    fn dispose(&mut self, state: &mut State, container: Key, fate: Fate, now: Time);
}
