//! What a worker counts: since its start, and within the window of a run.

use crate::base::{Time, WorkerCounts};

/// Counts by the instant at which something happens.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    /// Since the start.
    pub(super) whole: WorkerCounts,
    /// Before the window.
    before: WorkerCounts,
    /// In [from, until).
    within: WorkerCounts,
    from: Time,
    until: Time,
}

impl Counted {
    pub(super) fn new(from: Time, until: Time) -> Counted {
        let [whole, before, within] = [WorkerCounts::default(); 3];
        Counted { whole, before, within, from, until }
    }

    /// Ends the window at an instant that has not passed.
    pub(super) fn end_window(&mut self, until: Time) {
        self.until = until;
    }

    /// The window: [from, until).
    pub(super) fn bounds(&self) -> (Time, Time) {
        (self.from, self.until)
    }

    /// Counts something that happens now.
    #[inline]
    pub(super) fn add(&mut self, now: Time, add: impl Fn(&mut WorkerCounts)) {
        add(&mut self.whole);
        if now < self.from {
            add(&mut self.before);
        } else if now < self.until {
            add(&mut self.within);
        }
    }

    /// Counts of the window, and the containers that there were when it began.
    pub(super) fn window(&self) -> (WorkerCounts, u64) {
        (self.within, self.before.containers())
    }
}
