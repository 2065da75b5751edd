//! One instant: which event comes next.

use crate::plan::Ns;

/// Law (One instant): completions, expirations and all else come first; then ticks; then arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Everything that a worker or a message waits for.
    Timer,
    /// Deadlines of the waiting.
    Deadline,
    /// Policy and metric ticks; here the reports to a controller.
    Tick,
    /// Arrivals.
    Arrival,
}

/// What happens at an instant. Numbers are indices: of calls, of workers, of a worker's containers.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A call arrives (at the controller, if there is one).
    Arrival { call: usize },
    /// The controller's message reaches a worker.
    AtWorker { call: usize, worker: usize },
    /// A call has waited for as long as it may.
    WaitedTooLong { call: usize, worker: usize },
    /// A container has been created.
    Created { worker: usize, container: usize },
    /// An execution has come to its end.
    ExecutionEnds { call: usize, worker: usize },
    /// An execution has come to its time-out.
    TimeOut { call: usize, worker: usize },
    /// A container's keep-alive ends, if it has been idle since.
    KeepAliveEnds { worker: usize, container: usize, idle: u64 },
    /// A container's destruction is confirmed.
    Removed { worker: usize, container: usize },
    /// The controller hears of a return.
    ReturnHeard { worker: usize, ended: u64 },
    /// A worker makes a report.
    ReportMade { worker: usize },
    /// The controller hears a report.
    ReportHeard { worker: usize, made: u64, received: u64, left: u64 },
}

/// The events to come, sorted: by time, then by class, then by insertion.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    list: Vec<Timer>,
    inserted: u64,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Timer {
    /// When, in which class, inserted as which.
    pub key: (Ns, Class, u64),
    /// What.
    pub event: Event,
    /// At which instant it was inserted.
    pub inserted: Ns,
}

impl Timers {
    /// Law (One instant): timers fire one at a time in insertion order.
    pub fn insert(&mut self, now: Ns, at: Ns, class: Class, event: Event) {
        let key = (at, class, self.next_number());
        let place = self.list.partition_point(|timer| timer.key < key);
        self.list.insert(place, Timer { key, event, inserted: now });
    }

    /// The number that the next insertion would have. What it names is ordered among the timers by it.
    pub fn next_number(&mut self) -> u64 {
        self.inserted += 1;
        self.inserted
    }

    /// The next one.
    pub fn first(&self) -> Option<&Timer> {
        self.list.first()
    }

    /// Takes the next one.
    pub fn take_first(&mut self) -> Option<Timer> {
        if self.list.is_empty() { None } else { Some(self.list.remove(0)) }
    }
}
