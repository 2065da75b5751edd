//! What a worker counts of its events: since its start, and within the window of a run.

use crate::base::{StartKind, Time, WorkerCounts};
use crate::worker::event::{Event, Fate};

/// Counts by the instant at which something happens.
#[derive(Clone, Debug)]
pub(super) struct Counted {
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

impl Counted {
    pub(super) fn new(from: Time, until: Time) -> Counted {
        let whole = WorkerCounts::default();
        Counted { whole, before: None, by_end: None, from, until, border: from }
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
    pub(super) fn observe(&mut self, now: Time, event: &Event) {
        match event {
            Event::Arrived { .. } => self.add(now, |c| c.invocations += 1),
            Event::Started { start: StartKind::Cold, .. } => self.add(now, |c| c.cold_starts += 1),
            Event::Started { .. } => self.add(now, |c| c.warm_starts += 1),
            Event::Returned { status, .. } => self.add(now, |c| c.ended[*status as usize] += 1),
            Event::CreationBegan { .. } => self.add(now, |c| c.containers_created += 1),
            Event::Retired { why, .. } => self.add(now, |c| match why {
                Fate::Evicted => c.evictions += 1,
                Fate::Expired => c.expirations += 1,
                Fate::Failed => c.containers_failed += 1,
                Fate::Condemned => c.containers_condemned += 1,
            }),
            Event::Read { .. } => self.add(now, |c| c.memory_reads += 1),
            Event::PrewarmAttempted { .. } => self.add(now, |c| c.prewarm_attempts += 1),
            Event::PrewarmFailed { .. } => self.add(now, |c| c.prewarm_failures += 1),
            Event::Registered { .. }
            | Event::Deregistered { .. }
            | Event::Crashed
            | Event::Waits { .. }
            | Event::Refused { .. }
            | Event::Left { .. }
            | Event::Dispatched { .. }
            | Event::Entered { .. }
            | Event::CreationEnded { .. }
            | Event::Idle { .. }
            | Event::Gone { .. }
            | Event::Ended { .. }
            | Event::Released { .. } => {}
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
