//! What a worker tells of itself: counts since its start, figures of its window, its loops.

use super::state::{Fleet, Peaks};
use super::{PolicyNames, Worker};
use crate::base::{Held, Mem, Time, WorkerCounts};
use crate::rt::supervise::LoopStatus;

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
    /// Its number in the run.
    pub fn number(&self) -> u16 {
        self.0.number
    }

    /// The names of its backends, as records number them.
    pub fn backend_names(&self) -> Vec<String> {
        self.0.backends.iter().map(|b| b.name().to_string()).collect()
    }

    /// The names of its policies.
    pub fn policy_names(&self) -> PolicyNames {
        self.0.policies.clone()
    }

    /// Counts since its start.
    pub fn counts(&self) -> WorkerCounts {
        self.0.state.borrow().counts()
    }

    /// What happened in the window so far, and the containers that there were at its beginning.
    pub fn window_counts(&self) -> (WorkerCounts, u64) {
        self.0.state.borrow().window_counts()
    }

    /// Its background loops.
    pub fn loops(&self) -> Vec<LoopReport> {
        let loops = self.0.loops.borrow();
        loops.iter().map(|l| LoopReport { name: l.name, status: l.pulse.status() }).collect()
    }

    /// Restarts of its loops in the window.
    pub fn window_restarts(&self) -> u64 {
        let (from, until) = self.0.state.borrow().window();
        self.0.loops.borrow().iter().map(|l| l.pulse.restarts_in(from, until)).sum()
    }

    /// Ends the window of its figures at an instant that has not passed, where it was not known at the start.
    pub fn end_window(&self, until: Time) {
        // One that is lost came to its figures' end.
        if self.has_crashed() {
            return;
        }
        self.0.state.borrow_mut().end_window(until);
        self.0.backends.iter().for_each(|b| b.measure_in(self.0.window_from, until));
    }

    /// The window of its figures: [from, until).
    pub fn window(&self) -> (Time, Time) {
        self.0.state.borrow().window()
    }

    /// Loses the worker with all that it has, as a host that fails does: its figures end now, it counts in its fleet no more, and what
    /// its tasks still do is nobody's.
    pub fn crash(&self, now: Time) {
        let until = self.window().1.min(now);
        self.0.backends.iter().for_each(|b| b.measure_in(self.0.window_from, until));
        self.0.state.borrow_mut().crash(now);
        self.0.crashed.set(true);
    }

    /// Whether it was [lost](Self::crash).
    pub fn has_crashed(&self) -> bool {
        self.0.crashed.get()
    }

    /// Lets what it holds count in its fleet as well. Before it holds anything.
    pub fn count_in(&self, fleet: &Fleet) {
        self.0.state.borrow_mut().count_in(fleet);
    }

    /// Processors, invocations and its queue over the window, up to `now`.
    pub fn use_of(&self, now: Time) -> Held {
        let held = self.0.state.borrow().use_of(now);
        match self.0.backends.iter().find_map(|b| b.shared()) {
            Some(shared) => Held { cores: (shared.core_seconds, shared.peak), ..held },
            None => held,
        }
    }

    /// Memory over the window, up to `now`.
    pub fn memory_use(&self, now: Time) -> MemoryUse {
        self.0.state.borrow().memory_use(now)
    }
}
