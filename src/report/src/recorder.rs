//! The recorder: takes records in order of return (ties by number), hashes, counts and writes them.

use super::records::Writer;
use crate::base::{ColdCause, FunctionSpec, Record, Result, StartKind, Status, Time};
use crate::metrics::{Heat, Sketch};
use std::fs::File;
use std::path::PathBuf;

/// Which records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Records {
    /// All.
    #[default]
    Full,
    /// None.
    None,
    /// This share, chosen by invocation number; each carries its weight.
    Sample(f64),
}

impl Records {
    /// Its words; the last is an example of a share.
    pub const WORDS: &[&str] = &["full", "none", "sample:0.01"];
}

impl std::str::FromStr for Records {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Records, String> {
        match text {
            "full" => Ok(Records::Full),
            "none" => Ok(Records::None),
            _ => text
                .strip_prefix("sample:")
                .and_then(|share| share.parse().ok())
                .filter(|share| *share > 0.0 && *share <= 1.0)
                .map(Records::Sample)
                .ok_or_else(|| format!("'{text}' says not which records; write full, none or sample:0.01")),
        }
    }
}

impl std::fmt::Display for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Records::Full => f.write_str("full"),
            Records::None => f.write_str("none"),
            Records::Sample(share) => write!(f, "sample:{share}"),
        }
    }
}

/// Distributions over the invocations of a window. Times in ns, slowdown in millionths.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By status, in the order of [`Status::ALL`].
    pub ended: [u64; Status::ALL.len()],
    /// By start kind, in the order of [`StartKind::ALL`], over those that began to execute.
    pub starts: [u64; StartKind::ALL.len()],
    /// By cause, in the order of [`ColdCause::ALL`].
    pub causes: [u64; ColdCause::ALL.len()],
    /// Return less arrival, over those that executed.
    pub latency: Sketch,
    /// Dispatch less arrival, over those dispatched.
    pub queue: Sketch,
    /// Execution's start less arrival, over those that began to execute.
    pub start_delay: Sketch,
    /// Execution's start less dispatch, over cold starts.
    pub cold: Sketch,
    /// Execution, over those that executed.
    pub exec: Sketch,
    /// Latency less queue, cold start and execution.
    pub overhead: Sketch,
    /// Latency over intended duration, in millionths, over those that completed.
    pub slowdown: Sketch,
    /// How many have no figure because the run ended before it.
    pub cut: Cut,
    /// Why invocations did not complete.
    pub errors: super::Errors,
    /// Those that completed within the window, whenever they arrived.
    pub returned: u64,
    /// Those that started late, or that waited in the queue while a container was created on their worker.
    pub affected_by_cold: u64,
    /// Those that a strict queue held though they could have been dispatched when they joined it, and their waits in ns.
    pub behind_head: (u64, u128),
}

/// Invocations that the end of a run kept from having a figure: their values are above all that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    queue: u64,
    start_delay: u64,
    cold: u64,
    exec: u64,
    latency: u64,
}

impl Cut {
    fn add(&mut self, r: &Record) {
        let dispatched = r.dispatch.is_some();
        self.queue += u64::from(!dispatched);
        self.start_delay += u64::from(r.exec_start.is_none());
        self.cold += u64::from(dispatched && r.exec_start.is_none());
        self.exec += u64::from(r.exec_end.is_none());
        self.latency += 1;
    }

    /// Those without the figure of this name in `summary.json`.
    pub fn without(&self, figure: &str) -> u64 {
        match figure {
            "queue_ms" => self.queue,
            "start_delay_ms" => self.start_delay,
            "cold_ms" => self.cold,
            "exec_ms" => self.exec,
            _ => self.latency,
        }
    }
}

impl Tally {
    /// Invocations.
    pub fn invocations(&self) -> u64 {
        self.ended.iter().sum()
    }

    /// Its distributions, by the names of their figures.
    pub fn distributions(&self) -> [(&'static str, &Sketch); 7] {
        [
            ("latency_ms", &self.latency),
            ("queue_ms", &self.queue),
            ("start_delay_ms", &self.start_delay),
            ("cold_ms", &self.cold),
            ("exec_ms", &self.exec),
            ("overhead_ms", &self.overhead),
            ("slowdown", &self.slowdown),
        ]
    }
}

/// What a function's invocations came to.
#[derive(Clone, Debug, Default)]
pub struct FunctionTally {
    /// By status, in the order of [`Status::ALL`].
    pub ended: [u64; Status::ALL.len()],
    /// Those that began to execute in a container created for them.
    pub cold_starts: u64,
    /// Those that began to execute.
    pub starts: u64,
    /// Latency in ns.
    pub latency: Sketch,
    /// Sum of intended durations in ns.
    pub intended_sum: u128,
    /// Sum of executions in ns, and how many they are.
    pub exec_sum: u128,
    /// See `exec_sum`.
    pub executed: u64,
    /// Sum of start delays in ns.
    pub delay_sum: u128,
    /// Sum of cold starts in ns: execution's start less dispatch.
    pub cold_sum: u128,
    /// Latency over intended duration in millionths, over those that completed and were meant to take time.
    pub slowdown: Sketch,
    /// Sum of slowdowns.
    pub slowdown_sum: f64,
}

/// What came to one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerTally {
    /// Invocations that it was given.
    pub invocations: u64,
    /// Those that began to execute in a container created for them.
    pub cold_starts: u64,
    /// Those that began to execute in a cached one.
    pub warm_starts: u64,
}

/// See the module.
pub struct Recorder {
    window: (Time, Time),
    tally: Tally,
    functions: Vec<FunctionTally>,
    workers: Vec<WorkerTally>,
    hash: u64,
    records: u64,
    last_return: Time,
    last_arrival: Time,
    /// Records of one instant, which go out in order of their numbers.
    instant: Vec<Record>,
    writer: Option<Writer>,
    heat: Option<Heat>,
}

impl Recorder {
    /// A recorder of invocations that arrive in [from, until).
    pub fn new(functions: &[FunctionSpec], window: (Time, Time)) -> Recorder {
        Recorder {
            window,
            tally: Tally::default(),
            functions: vec![FunctionTally::default(); functions.len()],
            workers: Vec::new(),
            hash: 0,
            records: 0,
            last_return: Time::ZERO,
            last_arrival: Time::ZERO,
            instant: Vec::new(),
            writer: None,
            heat: None,
        }
    }

    /// Ends the window at an instant that has not passed.
    pub fn end_window(&mut self, until: Time) {
        self.window.1 = until;
    }

    /// Also counts by function and time, for the plots.
    pub fn with_heat(&mut self) {
        self.heat = Some(Heat::new(self.functions.len(), self.window.0));
    }

    /// Also writes them.
    pub fn write_to(
        &mut self,
        file: File,
        path: PathBuf,
        records: Records,
        start_unix_ns: u64,
        names: Vec<String>,
        seed: u64,
    ) {
        let share = match records {
            Records::None => return,
            Records::Full => 1.0,
            Records::Sample(share) => share,
        };
        self.writer = Some(Writer::new(file, path, share, start_unix_ns, &names, seed));
    }

    /// The names of the backends, as records number them.
    pub fn backends(&mut self, names: Vec<String>) {
        if let Some(writer) = &mut self.writer {
            writer.backends = names;
        }
    }

    /// The calendar's instant of time zero, where it is only known when a run begins.
    pub fn starts_at(&mut self, unix_ns: u64) {
        if let Some(writer) = &mut self.writer {
            writer.start_unix_ns = unix_ns;
        }
    }

    /// Takes a record. Their returns never go back in time.
    #[inline]
    pub fn take(&mut self, record: &Record) {
        if self.instant.first().is_some_and(|first| first.returned != record.returned) {
            self.flush_instant();
        }
        self.instant.push(record.clone());
    }

    #[inline]
    fn flush_instant(&mut self) {
        let mut instant = std::mem::take(&mut self.instant);
        if instant.len() > 1 {
            instant.sort_by_key(|r| r.invocation);
        }
        for record in &instant {
            self.settle(record);
        }
        instant.clear();
        self.instant = instant;
    }

    #[inline]
    fn settle(&mut self, r: &Record) {
        self.records += 1;
        self.last_return = r.returned;
        self.last_arrival = self.last_arrival.max(r.arrival);
        self.rehash(r);
        if let Some(writer) = &mut self.writer {
            writer.write(r);
        }
        let (from, until) = self.window;
        let returned = r.status == Status::Completed && r.returned >= from && r.returned < until;
        self.tally.returned += u64::from(returned);
        if r.arrival < from || r.arrival >= until {
            return;
        }
        if let Some(heat) = &mut self.heat {
            heat.add(r.function, r.arrival, r.start == Some(StartKind::Cold));
        }
        self.count(r);
    }

    #[inline]
    fn rehash(&mut self, r: &Record) {
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        let at = |t: Option<Time>| t.map_or(u64::MAX, |t| t.0);
        let kinds = (r.status as u64)
            | r.start.map_or(0xff, |s| s as u64) << 8
            | r.cause.map_or(0xff, |c| c as u64) << 16
            | u64::from(r.worker) << 24
            | u64::from(r.attempt) << 40;
        let place = u64::from(r.function.0) | r.container.unwrap_or(0) << 32;
        let mut h = self.hash;
        for word in [
            r.invocation,
            place,
            kinds,
            r.arrival.0,
            at(r.dispatch),
            at(r.exec_start),
            at(r.exec_end),
            r.returned.0,
            r.intended.0,
            r.memory.0,
        ] {
            h = (h.rotate_left(23) ^ word).wrapping_mul(K);
        }
        self.hash = h;
    }

    #[inline]
    fn count(&mut self, r: &Record) {
        let t = &mut self.tally;
        let f = &mut self.functions[r.function.index()];
        t.ended[r.status as usize] += 1;
        f.ended[r.status as usize] += 1;
        if r.status != Status::Completed {
            t.errors.add(r.status, r.error.as_deref());
        }
        f.intended_sum += u128::from(r.intended.0);
        let place = usize::from(r.worker);
        if self.workers.len() <= place {
            self.workers.resize(place + 1, WorkerTally::default());
        }
        let w = &mut self.workers[place];
        w.invocations += 1;
        if r.status == Status::Unfinished {
            t.cut.add(r);
        }
        let Some(dispatch) = r.dispatch else { return };
        let queue = dispatch.since(r.arrival).0;
        t.queue.add(queue);
        if r.waited.behind_head {
            t.behind_head = (t.behind_head.0 + 1, t.behind_head.1 + u128::from(queue));
        }
        let Some(exec_start) = r.exec_start else { return };
        let delay = exec_start.since(r.arrival).0;
        t.start_delay.add(delay);
        f.delay_sum += u128::from(delay);
        f.starts += 1;
        if let Some(start) = r.start {
            t.starts[start as usize] += 1;
        }
        let setup = exec_start.since(dispatch).0;
        let cold = r.start == Some(StartKind::Cold);
        let waited = r.waited.behind_creation && r.enqueue.is_some_and(|enqueue| dispatch > enqueue);
        if !cold && (waited || r.start == Some(StartKind::Late)) {
            t.affected_by_cold += 1;
        }
        w.warm_starts += u64::from(r.start == Some(StartKind::Warm));
        if cold {
            w.cold_starts += 1;
            f.cold_starts += 1;
            f.cold_sum += u128::from(setup);
            t.cold.add(setup);
            if let Some(cause) = r.cause {
                t.causes[cause as usize] += 1;
            }
        }
        let Some(exec_end) = r.exec_end else { return };
        let exec = exec_end.since(exec_start).0;
        let latency = r.returned.since(r.arrival).0;
        f.exec_sum += u128::from(exec);
        f.executed += 1;
        if r.status == Status::Unfinished {
            // It has executed, and its answer is on its way.
            return t.exec.add(exec);
        }
        if exec == latency {
            Sketch::add_to_all([&mut t.exec, &mut t.latency, &mut f.latency], exec);
        } else {
            t.exec.add(exec);
            Sketch::add_to_all([&mut t.latency, &mut f.latency], latency);
        }
        t.overhead.add(latency - queue - setup - exec);
        if r.status == Status::Completed && r.intended.0 > 0 {
            let slowdown = if latency == r.intended.0 { 1.0 } else { latency as f64 / r.intended.0 as f64 };
            Sketch::add_to_all([&mut t.slowdown, &mut f.slowdown], (slowdown * 1e6 + 0.5) as u64);
            f.slowdown_sum += slowdown;
        }
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// If the records could not be written.
    pub fn finish(&mut self) -> Result<()> {
        self.flush_instant();
        self.writer.take().map_or(Ok(()), Writer::finish)
    }

    /// Distributions over the window.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// By function.
    pub fn functions(&self) -> &[FunctionTally] {
        &self.functions
    }

    /// By worker, as far as invocations came to them.
    pub fn workers(&self) -> &[WorkerTally] {
        &self.workers
    }

    /// By function and time, if that was asked for.
    pub fn heat(&self) -> Option<&Heat> {
        self.heat.as_ref()
    }

    /// Hash over all records, in order.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Records, outside the window too.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The last return.
    pub fn last_return(&self) -> Time {
        self.last_return
    }

    /// The last arrival.
    pub fn last_arrival(&self) -> Time {
        self.last_arrival
    }
}
