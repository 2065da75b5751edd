//! What a worker tells of its state: counts, a snapshot for metrics, and what it held over the window of a run.

use super::{CPUS, Fleet, HELD, IN_FLIGHT, Phase, QUEUED, State};
use crate::base::{Cpus, Held, Mem, Status, Time, WorkerCounts};
use crate::metrics::{BACKEND_PATHS, Snapshot};
use crate::worker::event::WorkerEvent;
use crate::worker::status::MemoryUse;
use std::rc::Rc;

impl State {
    /// Counts since its start.
    pub(in crate::worker) fn counts(&self) -> WorkerCounts {
        self.counts.whole
    }

    /// Counts of the window, and the containers that there were when it began.
    pub(in crate::worker) fn window_counts(&self) -> (WorkerCounts, u64) {
        self.counts.window()
    }

    /// The window: [from, until).
    pub(in crate::worker) fn window(&self) -> (Time, Time) {
        self.counts.bounds()
    }

    /// Ends the window at an instant that has not passed.
    pub(in crate::worker) fn end_window(&mut self, until: Time) {
        self.counts.end_window(until);
        self.ledger.end_window(until);
        self.held.end_window(until);
    }

    /// Lets what it holds count in its fleet as well. Before it holds anything.
    pub(in crate::worker) fn count_in(&mut self, fleet: &Fleet) {
        self.ledger.count_in(Rc::clone(&fleet.memory));
        self.fleet = Some(fleet.clone());
    }

    /// The worker is lost with all that it has: its figures end now, it takes nothing more, and nobody hears what its tasks still do.
    pub(in crate::worker) fn crash(&mut self, now: Time) {
        let (_, until) = self.window();
        self.end_window(until.min(now));
        self.ledger.leave_fleet(now);
        if let Some(fleet) = self.fleet.take() {
            (0..HELD).for_each(|i| fleet.held.borrow_mut().take(i, self.held.value(i), now));
        }
        // Its further creations do not shift the random streams of the others.
        let creations = self.creations.borrow().clone();
        self.creations = Rc::new(creations.into());
        self.emit(now, |_| WorkerEvent::Crashed);
        self.observers.clear();
        self.draining = true;
    }

    /// How many containers are in a phase.
    pub(in crate::worker) fn in_phase(&self, phase: Phase) -> u32 {
        self.ledger.count(phase)
    }

    /// Containers of each of so many backends, by phase.
    pub(in crate::worker) fn by_backend(&self, backends: usize) -> Vec<[f64; BACKEND_PATHS.len()]> {
        let mut counts = vec![[0.0; BACKEND_PATHS.len()]; backends];
        match counts.as_mut_slice() {
            // What a sole backend has is what all have; a day of ticks should not look at every container.
            [sole] => *sole = Phase::ALL.map(|phase| f64::from(self.ledger.count(phase))),
            many => self.pool.count(many),
        }
        counts
    }

    /// The worker at this instant.
    pub(in crate::worker) fn snapshot(&self, loop_restarts: u64, cores_wanted: f64) -> Snapshot {
        let held = |phase| self.ledger.held(phase).as_mib_f64();
        let count = |phase| f64::from(self.ledger.count(phase));
        let c = &self.counts.whole;
        let ended = |status: Status| c.ended[status as usize] as f64;
        Snapshot {
            memory_running_mb: held(Phase::Running) + held(Phase::Creating),
            memory_creating_mb: held(Phase::Creating),
            memory_cached_mb: held(Phase::Cached),
            memory_removing_mb: held(Phase::Removing),
            containers_creating: count(Phase::Creating),
            containers_running: count(Phase::Running),
            containers_cached: count(Phase::Cached),
            cpus_used: self.held.value(CPUS) as f64 / f64::from(Cpus::from_cores(1).0),
            queue_length: self.queue_len() as f64,
            backlog: self.queue_len() as f64 + cores_wanted,
            in_flight: self.in_flight() as f64,
            invocations: c.invocations as f64,
            completed: ended(Status::Completed),
            failed: ended(Status::Failed),
            timed_out: ended(Status::TimedOut),
            dropped: ended(Status::Dropped),
            cold_starts: c.cold_starts as f64,
            warm_starts: c.warm_starts as f64,
            evictions: c.evictions as f64,
            expirations: c.expirations as f64,
            containers_created: c.containers_created as f64,
            containers_failed: c.containers_failed as f64,
            containers_condemned: c.containers_condemned as f64,
            prewarm_attempts: c.prewarm_attempts as f64,
            prewarm_failures: c.prewarm_failures as f64,
            memory_reads: c.memory_reads as f64,
            loop_restarts: loop_restarts as f64,
        }
    }

    /// Processors, invocations and the queue over the window, up to `now`.
    pub(in crate::worker) fn use_of(&self, now: Time) -> Held {
        let of = |i: usize, unit: f64| {
            (self.held.integral(i, now) as f64 / 1e9 / unit, self.held.peak(i, now) as f64 / unit)
        };
        const { assert!(HELD == 3) };
        let core = f64::from(Cpus::from_cores(1).0);
        Held { cores: of(CPUS, core), in_flight: of(IN_FLIGHT, 1.0), queued: of(QUEUED, 1.0) }
    }

    /// Memory over the window, up to `now`.
    pub(in crate::worker) fn memory_use(&self, now: Time) -> MemoryUse {
        let gb_seconds = Phase::ALL.map(|p| self.ledger.integral(p, now) as f64 / (1u64 << 30) as f64 / 1e9);
        let capacity = Some(self.ledger.capacity()).filter(|c| *c != Mem::MAX);
        MemoryUse { capacity, peaks: self.ledger.peaks(now), gb_seconds }
    }
}
