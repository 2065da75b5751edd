//! What a worker counts of its events: since its start, and within the window of a run.

use crate::base::{StartKind, Time, WorkerCounts};
use crate::worker::event::{Fate, WorkerEvent};

/// Counts by the instant at which something happens.
#[derive(Clone, Debug)]
pub(super) struct WindowCounts {
    /// Since the start.
    pub(super) whole: WorkerCounts,
    /// Those of before the window, once it has begun.
    before: Option<WorkerCounts>,
    /// Those of before its end, once it has ended.
    by_end: Option<WorkerCounts>,
    from: Time,
    until: Time,
    /// When the window begins, or else ends: nothing that was counted so far came as late.
    border: Time,
}

impl WindowCounts {
    pub(super) fn new(from: Time, until: Time) -> WindowCounts {
        let whole = WorkerCounts::default();
        WindowCounts { whole, before: None, by_end: None, from, until, border: from }
    }

    /// Ends the window at an instant that has not passed.
    pub(super) fn end_window(&mut self, until: Time) {
        self.until = until;
        if self.before.is_some() {
            self.border = until;
        }
    }

    /// The window: [from, until).
    pub(super) fn bounds(&self) -> (Time, Time) {
        (self.from, self.until)
    }

    /// Counts an event. Where it is told, the compiler leaves of this what is about that event.
    #[inline(always)]
    pub(super) fn observe(&mut self, now: Time, event: &WorkerEvent) {
        match event {
            WorkerEvent::Arrived { .. } => self.add(now, |c| c.invocations += 1),
            WorkerEvent::Started { start: StartKind::Cold, .. } => self.add(now, |c| c.cold_starts += 1),
            WorkerEvent::Started { .. } => self.add(now, |c| c.warm_starts += 1),
            WorkerEvent::Returned { status, .. } => self.add(now, |c| c.ended[*status as usize] += 1),
            WorkerEvent::CreationBegan { .. } => self.add(now, |c| c.containers_created += 1),
            WorkerEvent::Retired { why, .. } => self.add(now, |c| match why {
                Fate::Evicted => c.evictions += 1,
                Fate::Expired => c.expirations += 1,
                Fate::Failed => c.containers_failed += 1,
                Fate::Condemned => c.containers_condemned += 1,
            }),
            WorkerEvent::Read { .. } => self.add(now, |c| c.memory_reads += 1),
            WorkerEvent::PrewarmAttempted { .. } => self.add(now, |c| c.prewarm_attempts += 1),
            WorkerEvent::PrewarmFailed { .. } => self.add(now, |c| c.prewarm_failures += 1),
            WorkerEvent::Registered { .. }
            | WorkerEvent::Deregistered { .. }
            | WorkerEvent::Crashed
            | WorkerEvent::Waits { .. }
            | WorkerEvent::Refused { .. }
            | WorkerEvent::Left { .. }
            | WorkerEvent::Dispatched { .. }
            | WorkerEvent::Entered { .. }
            | WorkerEvent::CreationEnded { .. }
            | WorkerEvent::Idle { .. }
            | WorkerEvent::Gone { .. }
            | WorkerEvent::Ended { .. }
            | WorkerEvent::Released { .. } => {}
        }
    }

    #[inline(always)]
    fn add(&mut self, now: Time, add: impl Fn(&mut WorkerCounts)) {
        if now >= self.border {
            self.cross(now);
        }
        add(&mut self.whole);
    }

    /// Keeps what was counted before the window's beginning and before its end.
    #[cold]
    fn cross(&mut self, now: Time) {
        if now >= self.from && self.before.is_none() {
            self.before = Some(self.whole);
            self.border = self.until;
        }
        if now >= self.until && self.by_end.is_none() {
            self.by_end = Some(self.whole);
        }
        if self.by_end.is_some() {
            self.border = Time::MAX;
        }
    }

    /// Counts of the window, and the containers that there were when it began.
    pub(super) fn window(&self) -> (WorkerCounts, u64) {
        // Where nothing was counted since its beginning or its end, all that was counted is what was counted before.
        let before = self.before.unwrap_or(self.whole);
        (self.by_end.unwrap_or(self.whole).since(&before), before.containers())
    }
}
