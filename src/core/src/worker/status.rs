//! What a worker tells of itself: counts since its start, a snapshot for metrics, its loops.

use super::ledger::{Peaks, Phase};
use super::state::{CPUS, HELD, IN_FLIGHT, QUEUED};
use super::{Fleet, Worker};
use crate::base::{Cpus, Held, Mem, Status, Time, WorkerCounts};
use crate::metrics::Snapshot;
use crate::rt::supervise::LoopStatus;
use std::rc::Rc;

/// A worker's use of memory over the window of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryUse {
    /// What may be reserved; `None` if unlimited.
    pub capacity: Option<Mem>,
    /// Highest values.
    pub peaks: Peaks,
    /// GiB-seconds while creating, running, cached and removing.
    pub gb_seconds: [f64; 4],
}

/// A background loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopReport {
    /// Its name.
    pub name: &'static str,
    /// What is known of it.
    pub status: LoopStatus,
}

impl Worker {
    /// What happened in the window so far, and the containers that there were at its beginning.
    pub fn window_counts(&self) -> (WorkerCounts, u64) {
        self.0.state.borrow().counts.window()
    }

    /// Restarts of its loops in the window.
    pub fn window_restarts(&self) -> u64 {
        let (from, until) = self.0.state.borrow().counts.bounds();
        self.0.loops.borrow().iter().map(|l| l.pulse.restarts_in(from, until)).sum()
    }

    /// Ends the window of its figures at an instant that has not passed, where it was not known at the start.
    pub fn end_window(&self, until: Time) {
        let mut state = self.0.state.borrow_mut();
        state.counts.end_window(until);
        state.ledger.end_window(until);
        state.held.end_window(until);
        self.0.backends.iter().for_each(|b| b.measure_in(self.0.window_from, until));
    }

    /// Lets what it holds count in its fleet as well. Before it holds anything.
    pub fn count_in(&self, fleet: &Fleet) {
        let mut state = self.0.state.borrow_mut();
        state.ledger.count_in(Rc::clone(&fleet.memory));
        state.fleet = Some(fleet.clone());
    }

    /// Processors, invocations and its queue over the window, up to `now`.
    pub fn use_of(&self, now: Time) -> Held {
        let mut state = self.0.state.borrow_mut();
        state.held.settle(now);
        let held = state.use_so_far();
        match self.0.backends.iter().find_map(|b| b.shared()) {
            Some(shared) => Held { cores: (shared.core_seconds, shared.peak), ..held },
            None => held,
        }
    }

    /// Memory over the window, up to `now`.
    pub fn memory_use(&self, now: Time) -> MemoryUse {
        let mut state = self.0.state.borrow_mut();
        state.ledger.settle(now);
        state.memory_use()
    }
}

impl super::state::State {
    /// The worker at this instant.
    pub(super) fn snapshot(&self, loop_restarts: u64, cores_wanted: f64) -> Snapshot {
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

    /// What was held over the window so far; ask after settling [`State::held`].
    pub(super) fn use_so_far(&self) -> Held {
        let of = |i: usize, unit: f64| {
            (self.held.integral(i) as f64 / 1e9 / unit, self.held.peak(i) as f64 / unit)
        };
        const { assert!(HELD == 3) };
        let core = f64::from(Cpus::from_cores(1).0);
        Held { cores: of(CPUS, core), in_flight: of(IN_FLIGHT, 1.0), queued: of(QUEUED, 1.0) }
    }

    /// Memory over the window so far.
    pub(super) fn memory_use(&self) -> MemoryUse {
        let gb_seconds = Phase::ALL.map(|p| self.ledger.integral(p) as f64 / (1u64 << 30) as f64 / 1e9);
        let capacity = Some(self.ledger.capacity()).filter(|c| *c != Mem::MAX);
        MemoryUse { capacity, peaks: self.ledger.peaks(), gb_seconds }
    }
}
