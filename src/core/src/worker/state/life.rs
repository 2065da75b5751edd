//! A container's life: it is created, taken, given back, kept while it is idle, retired, and gone.

use super::pool::Pool;
use super::{CPUS, IN_FLIGHT, Key, LoopDue, Phase, Shell, State};
use crate::backend::{Create, CreateFault, Sandbox};
use crate::base::{Cpus, Duration, FunctionId, Invocation, Mem, StartKind, Status, Time};
use crate::worker::config::Accounting;
use crate::worker::event::{Fate, WorkerEvent};
use crate::worker::keep_alive::Rested;

/// What a dispatched invocation holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Held {
    /// Its number.
    pub(in crate::worker) invocation: u64,
    /// Its processors.
    pub(in crate::worker) cpus: Cpus,
    /// The container it is in, or that is created for nobody else.
    pub(in crate::worker) container: Option<Key>,
    /// Its number among those that wait for a place while their container is created.
    pub(in crate::worker) late: Option<usize>,
    /// It executes.
    pub(in crate::worker) executes: bool,
}

impl State {
    /// What a backend is asked to create for a container that is entered as creating; `at_once` where it is to have stood already.
    pub(in crate::worker) fn creation_of(&mut self, key: Key, at_once: bool) -> (u16, Create) {
        let c = self.pool.get(key);
        let (backend, function, memory, nth) = (c.backend, c.function, c.memory, c.nth);
        let gpu = c.gpu.map(|part| part.gpu);
        let cpus = self.functions[function.index()].spec.cpus;
        (backend, Create { function, memory, cpus, nth, gpu, at_once })
    }

    /// A creation has come to its end, of which the span counts if it is given. One that failed is retired by who wanted it.
    pub(in crate::worker) fn created(
        &mut self,
        key: Key,
        made: Result<Sandbox, CreateFault>,
        took: Option<Duration>,
        now: Time,
    ) -> Result<(), CreateFault> {
        self.last_creating = Some(now);
        let c = self.pool.get(key);
        let (container, group) = (c.number, c.group);
        c.sandbox = made.as_ref().ok().copied();
        let usable = made.is_ok();
        if let Some(took) = took.filter(|_| usable) {
            self.groups.observe_creation(group, took);
        }
        self.emit(now, |_| WorkerEvent::CreationEnded { container, took: took.unwrap_or_default(), usable });
        self.settled();
        made.map(drop)
    }

    /// Takes a container of an earlier life of this worker as one that was created now.
    pub(in crate::worker) fn adopt(
        &mut self,
        function: FunctionId,
        gpu: Option<u32>,
        sandbox: Sandbox,
        now: Time,
    ) -> Option<Key> {
        let key = self.create_without_evicting(function, gpu, now)?;
        self.pool.get(key).sandbox = Some(sandbox);
        self.settled();
        Some(key)
    }

    /// The number, the backend and the sandbox of a container.
    #[inline]
    pub(in crate::worker) fn container(&mut self, key: Key) -> (u64, u16, Option<Sandbox>) {
        let c = self.pool.get(key);
        (c.number, c.backend, c.sandbox)
    }

    /// Puts an invocation into a container that has been chosen; how it starts there.
    #[inline]
    pub(super) fn occupy(&mut self, key: Key, now: Time) -> StartKind {
        let c = self.pool.get(key);
        let (memory, charged, was_cached) = (c.memory, c.charged, c.phase == Phase::Cached);
        let prewarmed = std::mem::take(&mut c.prewarmed);
        self.pool.occupy(key);
        if was_cached {
            self.ledger.change(Phase::Cached, charged, Phase::Running, memory, now);
        }
        if prewarmed { StartKind::Prewarmed } else { StartKind::Warm }
    }

    /// Lets the invocation enter for which a container was created.
    pub(in crate::worker) fn enter_own(&mut self, key: Key, now: Time) {
        let memory = self.pool.get(key).memory;
        self.pool.open(key);
        self.ledger.shift(Phase::Creating, Phase::Running, memory, now);
        self.settled();
    }

    /// Gives the places of a container that is ready to invocations that wait for one of its kind: to its owner, then in order.
    /// The first enters as `first` says, those behind it late. True if one did.
    pub(super) fn hand_over(&mut self, key: Key, first: StartKind, now: Time) -> bool {
        let mut start = first;
        let mut entered = false;
        while self.pool.has_room(key) {
            let c = self.pool.get(key);
            let (group, phase) = (c.group, c.phase);
            let (memory, empty) = (c.memory, c.in_flight == 0);
            let gpu = c.gpu.map(|part| part.memory);
            let Some(invocation) = self.late.place_next(group, key, (memory, gpu), start) else { break };
            self.pool.get(key).prewarmed = false;
            if empty {
                self.pool.begin_spell(key);
                self.ledger.shift(phase, Phase::Running, memory, now);
            }
            self.pool.occupy(key);
            self.emit(now, |state| WorkerEvent::Entered {
                invocation,
                container: state.pool.number(key),
                start,
            });
            (start, entered) = (StartKind::Late, true);
        }
        entered
    }

    /// Hands out the places of a container that is ready: to those who wait for one of its kind, else it is idle.
    pub(in crate::worker) fn offer(&mut self, key: Key, start: StartKind, now: Time, shell: &mut impl Shell) {
        if !self.hand_over(key, start, now) {
            self.rest(key, now, shell);
        }
        self.settled();
    }

    /// An execution begins, which ends at `due` if that is known; how long it may take.
    #[inline]
    pub(in crate::worker) fn start(
        &mut self,
        call: &Invocation,
        key: Key,
        start: StartKind,
        due: Option<Time>,
        now: Time,
        shell: &mut impl Shell,
    ) -> Option<Duration> {
        self.watch_memory(key, due, now, shell);
        self.emit(now, |state| WorkerEvent::Started {
            invocation: call.number,
            function: call.function,
            container: state.pool.number(key),
            start,
        });
        self.functions[call.function.index()].timeout
    }

    /// An execution has ended: the highest working set that was read since the container became busy.
    #[inline]
    pub(in crate::worker) fn end(
        &mut self,
        call: &Invocation,
        key: Key,
        status: Status,
        began: Time,
        now: Time,
        shell: &mut impl Shell,
    ) -> Mem {
        let memory = self.read_after(key, now, shell);
        if status == Status::Completed {
            self.groups.observe(self.functions[call.function.index()].group, now.since(began));
        }
        self.emit(now, |state| WorkerEvent::Ended {
            invocation: call.number,
            function: call.function,
            container: state.pool.number(key),
            status,
        });
        memory
    }

    /// An invocation gives back its processors and its place in a container that is as good as before.
    #[inline]
    pub(in crate::worker) fn give_back(&mut self, held: &Held, now: Time, shell: &mut impl Shell) {
        let Some(key) = held.container else { return };
        let empty = self.free(held, Some(key), now);
        if self.pool.get(key).retired {
            if empty {
                self.retire(key, Fate::Failed, None, now, shell);
            }
        } else if !self.hand_over(key, StartKind::Late, now) && empty {
            self.rest(key, now, shell);
        }
        self.settled();
    }

    /// An invocation that was dispatched is over, and nobody knows what state its container is in: it goes when the last one in it
    /// leaves.
    pub(in crate::worker) fn abandon(&mut self, held: &Held, now: Time, shell: &mut impl Shell) {
        // A place that it was given and did not take is one that it held.
        let given = held.late.and_then(|waiter| self.late.leave(waiter));
        let container = held.container.or(given);
        if let Some(key) = container.filter(|_| held.executes) {
            let (invocation, status) = (held.invocation, Status::Unfinished);
            let c = self.pool.get(key);
            let (container, function) = (c.number, c.function);
            self.emit(now, |_| WorkerEvent::Ended { invocation, function, container, status });
        }
        self.free(held, container, now);
        if let Some(key) = container {
            self.retire(key, Fate::Failed, None, now, shell);
        }
        self.settled();
    }

    /// Frees what an invocation holds; true if it was the last one in its container.
    #[inline]
    fn free(&mut self, held: &Held, container: Option<Key>, now: Time) -> bool {
        self.release(CPUS, u64::from(held.cpus.0), now);
        self.release(IN_FLIGHT, 1, now);
        let empty = container.is_some_and(|key| self.pool.vacate(key));
        self.emit(now, |state| WorkerEvent::Released {
            invocation: held.invocation,
            container: container.map(|key| state.pool.number(key)),
            cpus: held.cpus,
        });
        empty
    }

    /// An invocation's caller has its answer.
    #[inline]
    pub(in crate::worker) fn returned(&mut self, invocation: u64, status: Status, now: Time) {
        self.emit(now, |_| WorkerEvent::Returned { invocation, status });
    }

    /// Makes a container idle, for as long as the keep-alive policy says; the reaper looks when it expires.
    #[inline]
    fn rest(&mut self, key: Key, now: Time, shell: &mut impl Shell) {
        let c = self.pool.get(key);
        let (memory, before, reading) = (c.memory, c.charged, c.reading);
        let (phase, mut keep_alive, group) = (c.phase, c.keep_alive, c.group);
        let (function, prewarmed) = (c.function, c.prewarmed);
        if self.groups.is_forgotten(group) {
            // It was being created when its last function was forgotten, and has done what it was created for.
            return self.retire(key, Fate::Condemned, None, now, shell);
        }
        let charged = self.charge_of_cached(memory, reading);
        let cold_start = self.groups.expected_creation(group);
        if let Some(asked) = self.keeping.adaptive() {
            let own = self.functions[function.index()].spec.keep_alive;
            let sharers = group;
            let (span, begins) =
                asked.keep(&Rested { function, sharers, at: now, memory, cold_start, own, prewarmed });
            keep_alive = span;
            self.pool.get(key).keep_alive = span;
            if begins {
                shell.create_again(function, group);
            }
        }
        self.pool.get(key).cold_start = cold_start;
        self.pool.rest(key, charged, now);
        self.ledger.change(phase, before, Phase::Cached, charged, now);
        if keep_alive != Duration::MAX {
            shell.look_by(LoopDue::Expiry, now + keep_alive);
        }
        self.emit(now, |state| WorkerEvent::Idle {
            container: state.pool.number(key),
            until: now + keep_alive,
            charged,
        });
    }

    /// What an idle container is charged, given its last reading.
    fn charge_of_cached(&self, memory: Mem, reading: Option<Mem>) -> Mem {
        match self.config.accounting {
            Accounting::Reserved => memory,
            Accounting::Measured => reading.unwrap_or(memory).min(memory),
        }
    }

    /// Lets nobody enter a container any more, and begins its removal if nobody is in it; `by` is the invocation for which it makes
    /// room. Its memory is free when the removal is confirmed.
    pub(super) fn retire(&mut self, key: Key, why: Fate, by: Option<u64>, now: Time, shell: &mut impl Shell) {
        let c = self.pool.get(key);
        let (container, phase) = (c.number, c.phase);
        if !c.retired {
            if phase == Phase::Creating {
                self.last_creating = Some(now);
            }
            self.pool.retire(key, why);
            self.emit(now, |_| WorkerEvent::Retired { container, why, by });
        }
        let c = self.pool.get(key);
        if c.in_flight > 0 {
            return;
        }
        let (memory, backend) = (c.charged, c.backend);
        let gone = c.sandbox.take().is_none_or(|sandbox| shell.remove(key, backend, sandbox));
        if gone {
            return self.forget(key, phase, now);
        }
        self.pool.get(key).phase = Phase::Removing;
        self.ledger.shift(phase, Phase::Removing, memory, now);
    }

    /// The removal of a container is confirmed.
    pub(in crate::worker) fn removed(&mut self, key: Key, now: Time) {
        self.forget(key, Phase::Removing, now);
        self.settled();
    }

    /// What a container had is free.
    fn forget(&mut self, key: Key, phase: Phase, now: Time) {
        let container = self.pool.forget(key);
        self.ledger.leave(phase, container.charged, now);
        if let Some(part) = container.gpu {
            self.gpus.give(part);
        }
        self.emit(now, |_| WorkerEvent::Gone { container: container.number });
    }

    /// The creation of a container that belongs to nobody failed, or was given up; its owner, where it has one that still waits, is
    /// told why.
    pub(in crate::worker) fn creation_failed(
        &mut self,
        key: Key,
        why: &std::rc::Rc<str>,
        now: Time,
        shell: &mut impl Shell,
    ) {
        let group = self.pool.get(key).group;
        self.retire(key, Fate::Failed, None, now, shell);
        self.late.fail_owner(group, key, why);
        self.settled();
    }

    /// A container has ended by itself: its number, if it was one of these.
    pub(in crate::worker) fn ended_by_itself(
        &mut self,
        backend: u16,
        sandbox: Sandbox,
        now: Time,
        shell: &mut impl Shell,
    ) -> Option<u64> {
        let key = self.pool.find(backend, sandbox)?;
        let number = self.pool.get(key).number;
        self.retire(key, Fate::Failed, None, now, shell);
        self.settled();
        Some(number)
    }

    /// Retires every container whose keep-alive has ended; when the next one's does.
    pub(in crate::worker) fn expire(&mut self, now: Time, shell: &mut impl Shell) -> Option<Time> {
        self.retire_expired(now, shell);
        self.settled();
        self.pool.next_expiry().map(|(at, _)| at)
    }

    pub(super) fn retire_expired(&mut self, now: Time, shell: &mut impl Shell) {
        while let Some((at, key)) = self.pool.next_expiry()
            && at <= now
        {
            self.retire(key, Fate::Expired, None, now, shell);
        }
    }

    /// Retires every idle container: the worker ends.
    pub(in crate::worker) fn clear_idle(&mut self, now: Time, shell: &mut impl Shell) {
        self.retire_all(Pool::idle, now, shell);
        self.settled();
    }

    /// Retires, because nobody may use them any more, containers of the pool.
    pub(super) fn retire_all(
        &mut self,
        which: impl Fn(&Pool) -> Vec<Key>,
        now: Time,
        shell: &mut impl Shell,
    ) {
        for key in which(&self.pool) {
            self.retire(key, Fate::Condemned, None, now, shell);
        }
    }
}
