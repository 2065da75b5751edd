//! The summary: every figure of a run, as JSON, and as a paragraph for a paper.

use super::{FunctionTally, Tally};
use crate::base::{ColdCause, Cpus, FunctionSpec, Mem, StartKind, Status, Time};
use crate::metrics::{Heat, Series, Sketch, Snapshot};
use serde_json::{Map, Value, json};

/// What one worker came to.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    /// Its name in metric paths.
    pub name: String,
    /// Its cores.
    pub cores: Cpus,
    /// Its policies: eviction, queue.
    pub policies: (String, String),
    /// Counts since its start.
    pub counts: crate::base::WorkerCounts,
    /// Capacity, if limited.
    pub capacity: Option<Mem>,
    /// Peaks: used, running with creating, creating, cached.
    pub peaks: [Mem; 4],
    /// GiB-seconds: creating, running, cached, removing.
    pub gb_seconds: [f64; 4],
    /// Containers alive at the end.
    pub containers_left: u64,
    /// Restarts of its loops.
    pub loop_restarts: u64,
    /// Its metric snapshots.
    pub series: Series,
}

/// What is known of a run beside its records.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// The scenario's name.
    pub name: String,
    /// Virtual time 0 on the calendar, ns since 1970.
    pub start_unix_ns: u64,
    /// The seed.
    pub seed: u64,
    /// When the run ended.
    pub end: Time,
    /// The window that figures cover.
    pub window: (Time, Time),
    /// Polls and fires.
    pub events: u64,
    /// It was stopped before its end.
    pub interrupted: bool,
    /// Where the load came from, in words.
    pub load: String,
    /// The backend, in words.
    pub backend: String,
    /// Loader's counts and remarks.
    pub dirty: Vec<(String, u64)>,
    /// Sentences that a reader has to know.
    pub remarks: Vec<String>,
    /// Busy seconds of the trace and as drawn.
    pub busy: Option<(f64, f64)>,
    /// What it was set up with.
    pub setup: super::Setup,
}

/// See the module.
pub struct Summary {
    /// The run.
    pub facts: RunFacts,
    /// The functions.
    pub functions: Vec<FunctionSpec>,
    /// Over all invocations of the window.
    pub tally: Tally,
    /// By function.
    pub by_function: Vec<FunctionTally>,
    /// By worker.
    pub workers: Vec<WorkerFacts>,
    /// What the controller in front of several workers measured of itself.
    pub controller: Option<Series>,
    /// Hash over the records.
    pub result_hash: u64,
    /// The last arrival.
    pub last_arrival: Time,
    /// By function and time, where plots were asked for.
    pub heat: Option<Heat>,
}

/// The series of a run with the names that they have in metric paths: its workers', and its controller's.
pub fn all_series<'a>(
    workers: &'a [WorkerFacts],
    controller: Option<&'a Series>,
) -> impl Iterator<Item = (&'a str, &'a Series)> {
    let of_workers = workers.iter().map(|w| (w.name.as_str(), &w.series));
    of_workers.chain(controller.map(|series| ("controller", series)))
}

/// A number as JSON that is short and the same everywhere: at most 6 decimals.
fn number(x: f64) -> Value {
    let rounded = (x * 1e6).round() / 1e6;
    if rounded.fract() == 0.0 && rounded.abs() < 9e15 { json!(rounded as i64) } else { json!(rounded) }
}

fn maybe(x: Option<f64>) -> Value {
    x.map_or(Value::Null, number)
}

fn distribution(sketch: &Sketch, per_unit: f64) -> Value {
    let quantile = |q: f64| maybe(sketch.quantile(q).map(|v| v as f64 / per_unit));
    json!({
        "n": sketch.count(),
        "mean": maybe(sketch.mean().map(|m| m / per_unit)),
        "p50": quantile(0.50),
        "p90": quantile(0.90),
        "p95": quantile(0.95),
        "p99": quantile(0.99),
        "p999": quantile(0.999),
        "max": maybe((sketch.count() > 0).then(|| sketch.max() as f64 / per_unit)),
    })
}

/// Sketches hold nanoseconds, or millionths of a slowdown; figures are milliseconds, or slowdowns.
pub(super) const PER_UNIT: f64 = 1e6;

impl Summary {
    /// All its series.
    pub fn series(&self) -> impl Iterator<Item = (&str, &Series)> {
        all_series(&self.workers, self.controller.as_ref())
    }

    /// The span that figures cover, in seconds.
    pub fn window_seconds(&self) -> f64 {
        let (from, until) = self.facts.window;
        until.min(self.facts.end).since(from).as_secs_f64()
    }

    /// Invocations that arrived.
    pub fn invocations(&self) -> u64 {
        self.tally.invocations()
    }

    /// Invocations that ended so.
    pub fn ended(&self, status: Status) -> u64 {
        self.tally.ended[status as usize]
    }

    /// Busy cores that the load asks for, and its share of the cores there are.
    pub fn offered_load(&self) -> (f64, Option<f64>) {
        // Over the time in which invocations arrived: what is served after it was offered before.
        let (from, until) = self.facts.window;
        let seconds = until.min(self.last_arrival).since(from).as_secs_f64();
        let busy = if seconds > 0.0 { self.tally.offered as f64 / 1e12 / seconds } else { 0.0 };
        let cores: f64 = self.workers.iter().map(|w| w.cores.as_f64()).sum();
        let limited = self.workers.iter().all(|w| w.cores != Cpus::MAX) && cores > 0.0;
        (busy, limited.then(|| busy / cores))
    }

    /// Whether the queue still grew when arrivals ended: its mean rose from quarter to quarter.
    pub fn unstable(&self) -> bool {
        let queue = Snapshot::INDEX.queue_length;
        self.workers.iter().any(|w| {
            let points: Vec<f64> =
                w.series.points().filter(|(t, _)| *t <= self.last_arrival).map(|(_, v)| v[queue]).collect();
            let quarter = points.len() / 4;
            if quarter < 4 {
                return false;
            }
            let mean = |i: usize| points[i * quarter..(i + 1) * quarter].iter().sum::<f64>() / quarter as f64;
            mean(3) > 5.0 && mean(3) > 1.15 * mean(2) && mean(2) > 1.15 * mean(1)
        })
    }

    fn over_functions(&self) -> (Value, f64, f64) {
        let mut shares: Vec<f64> = self
            .by_function
            .iter()
            .filter(|f| f.starts > 0)
            .map(|f| f.cold_starts as f64 / f.starts as f64)
            .collect();
        shares.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let rank = ((q * shares.len() as f64).ceil() as usize).max(1) - 1;
            maybe(shares.get(rank).copied())
        };
        let slowdowns: Vec<f64> = self
            .by_function
            .iter()
            .filter(|f| f.slowdown_sum > 0.0)
            .map(|f| f.slowdown_sum / f.ended[Status::Completed as usize].max(1) as f64)
            .collect();
        let n = slowdowns.len().max(1) as f64;
        let geometric = (slowdowns.iter().map(|s| s.ln()).sum::<f64>() / n).exp();
        let squares: f64 = slowdowns.iter().map(|s| s * s).sum();
        let jain = if squares > 0.0 { slowdowns.iter().sum::<f64>().powi(2) / (n * squares) } else { 1.0 };
        (json!({"p25": at(0.25), "p50": at(0.50), "p75": at(0.75), "p90": at(0.90)}), geometric, jain)
    }

    /// A total over the workers; nothing is known of those that run elsewhere.
    fn total(&self, of: impl Fn(&WorkerFacts) -> u64) -> Value {
        if self.workers.is_empty() { Value::Null } else { json!(self.workers.iter().map(of).sum::<u64>()) }
    }

    /// The same of a quantity.
    fn sum(&self, of: impl Fn(&WorkerFacts) -> f64) -> Value {
        if self.workers.is_empty() { Value::Null } else { number(self.workers.iter().map(of).sum()) }
    }

    /// Every figure.
    pub fn json(&self) -> Value {
        let t = &self.tally;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_string(), value);
        };
        let start = |kind: StartKind| json!(t.starts[kind as usize]);
        put("name", json!(self.facts.name));
        put("backend", json!(self.facts.backend));
        put("invocations", json!(self.invocations()));
        for status in Status::ALL {
            put(status.word(), json!(self.ended(*status)));
        }
        put("cold_starts", start(StartKind::Cold));
        put("warm_starts", start(StartKind::Warm));
        put("prewarmed_starts", start(StartKind::Prewarmed));
        put("late_starts", start(StartKind::Late));
        let causes = ColdCause::ALL.iter().map(|c| (c.word().to_string(), json!(t.causes[*c as usize])));
        put("cold_causes", Value::Object(causes.collect()));
        put("evictions", self.total(|w| w.counts.evictions));
        put("expirations", self.total(|w| w.counts.expirations));
        put("containers_created", self.total(|w| w.counts.containers_created));
        put("containers_left", self.total(|w| w.containers_left));
        put("prewarm_attempts", self.total(|w| w.counts.prewarm_attempts));
        put("prewarm_failures", self.total(|w| w.counts.prewarm_failures));
        put("memory_reads", self.total(|w| w.counts.memory_reads));
        put("loop_restarts", self.total(|w| w.loop_restarts));
        put("virtual_seconds", number(self.facts.end.as_secs_f64()));
        put("window_seconds", number(self.window_seconds()));
        let (busy, share) = self.offered_load();
        put("offered_load", number(busy));
        put("offered_load_share", maybe(share));
        put("unstable", json!(self.unstable()));
        put("interrupted", json!(self.facts.interrupted));
        put("events", json!(self.facts.events));
        put("seed", json!(self.facts.seed));
        put("result_hash", json!(format!("{:016x}", self.result_hash)));
        for (figure, sketch) in t.distributions() {
            put(figure, distribution(sketch, PER_UNIT));
        }
        put("memory_mb", self.memory());
        let phases = ["creating", "running", "cached", "removing"];
        let gb = |i: usize| self.sum(|w| w.gb_seconds[i]);
        put(
            "gb_seconds",
            Value::Object(phases.iter().enumerate().map(|(i, p)| ((*p).to_string(), gb(i))).collect()),
        );
        let (shares, geometric, jain) = self.over_functions();
        put("functions", json!(self.functions.len()));
        put("cold_start_share", shares);
        put("geometric_mean_slowdown", number(geometric));
        put("jain_index", number(jain));
        put("trace_busy_seconds", maybe(self.facts.busy.map(|b| b.0)));
        put("drawn_busy_seconds", maybe(self.facts.busy.map(|b| b.1)));
        let dirty = self.facts.dirty.iter().map(|(kind, n)| (kind.clone(), json!(n)));
        let (named, others) = t.errors.named();
        let kinds = named.iter().map(|(text, count)| json!({"text": text, "count": count})).collect();
        put("errors", Value::Array(kinds));
        put("other_errors", json!(others));
        put("trace_notes", Value::Object(dirty.collect()));
        put("remarks", json!(self.facts.remarks));
        Value::Object(map)
    }

    fn memory(&self) -> Value {
        let capacity: Option<f64> = self.workers.iter().map(|w| w.capacity.map(Mem::as_mib_f64)).sum();
        let capacity = capacity.filter(|_| !self.workers.is_empty());
        let peak = |i: usize| self.sum(|w| w.peaks[i].as_mib_f64());
        let seconds = self.window_seconds();
        let mean = |phases: &[usize]| {
            let gb = |w: &WorkerFacts| phases.iter().map(|p| w.gb_seconds[*p]).sum::<f64>();
            if seconds > 0.0 { self.sum(|w| gb(w) * 1024.0 / seconds) } else { Value::Null }
        };
        json!({
            "capacity": maybe(capacity),
            "peak_used": peak(0),
            "peak_running": peak(1),
            "peak_creating": peak(2),
            "peak_cached": peak(3),
            "mean_running": mean(&[0, 1]),
            "mean_cached": mean(&[2]),
        })
    }

    /// [`json`](Self::json) as the text of a file.
    pub fn json_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.json()).unwrap_or_default();
        text.push('\n');
        text
    }

    /// What a reader has to know before the figures.
    pub fn warnings(&self) -> Vec<String> {
        super::html::warnings(&self.json())
    }

    /// One paragraph for the set-up section of a paper.
    pub fn methods(&self) -> String {
        super::methods::methods(self)
    }
}
