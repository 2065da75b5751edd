//! The summary: every figure of a run, as JSON, and as a paragraph for a paper.

use super::{FunctionTally, Tally};
use crate::base::{ColdCause, Cpus, FunctionSpec, Held, Mem, StartKind, Status, Time};
use crate::metrics::{Heat, Series, Sketch, Snapshot};
use elapse_core::worker::PolicyNames;
use serde_json::{Map, Value, json};

/// What one worker came to.
#[derive(Clone, Debug)]
pub struct WorkerFacts {
    /// Its name in metric paths.
    pub name: String,
    /// Its cores.
    pub cores: Cpus,
    /// Its policies.
    pub policies: PolicyNames,
    /// What happened in the window; invocations, cold and warm starts are those of what arrived in it.
    pub counts: crate::base::WorkerCounts,
    /// Containers that there were when the window began.
    pub containers_at_begin: u64,
    /// What it held over the window.
    pub held: Held,
    /// Capacity, if limited.
    pub capacity: Option<Mem>,
    /// Peaks: used, running with creating, creating, cached.
    pub peaks: [Mem; 4],
    /// GiB-seconds: creating, running, cached, removing.
    pub gb_seconds: [f64; 4],
    /// Restarts of its loops in the window.
    pub loop_restarts: u64,
    /// Its metric snapshots.
    pub series: Series,
}

impl WorkerFacts {
    /// The same of two lives of a worker, of which the other began when this one was over.
    #[must_use]
    pub fn followed_by(mut self, later: WorkerFacts) -> WorkerFacts {
        let most = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1.max(b.1));
        self.counts = self.counts.plus(&later.counts);
        self.containers_at_begin += later.containers_at_begin;
        self.held = Held {
            cores: most(self.held.cores, later.held.cores),
            in_flight: most(self.held.in_flight, later.held.in_flight),
            queued: most(self.held.queued, later.held.queued),
        };
        for (peak, other) in self.peaks.iter_mut().zip(later.peaks) {
            *peak = (*peak).max(other);
        }
        for (sum, other) in self.gb_seconds.iter_mut().zip(later.gb_seconds) {
            *sum += other;
        }
        self.loop_restarts += later.loop_restarts;
        self.series.followed_by(&later.series);
        self
    }

    /// Containers that there were when the window ended.
    pub fn containers_left(&self) -> u64 {
        self.containers_at_begin + self.counts.containers_created - self.counts.containers_gone()
    }
}

/// What is known of a run beside its records.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The scenario's name.
    pub name: String,
    /// Virtual time 0 on the calendar, ns since 1970.
    pub start_unix_ns: u64,
    /// The seed.
    pub seed: u64,
    /// When the run ended.
    pub end: Time,
    /// The window that figures cover: [begin, end).
    pub window: (Time, Time),
    /// The window ended with its last return: its length is not that of a load.
    pub ends_with_return: bool,
    /// What the processors do of an invocation and of a creation.
    pub parts: Parts,
    /// Peaks of all workers together, where there are several.
    pub fleet: Option<FleetPeaks>,
    /// Whether all load is of closed loops, whose clients never outrun a worker.
    pub closed: bool,
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

/// How much of the time of invocations and creations is processor time.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Of each function's executions; all of it where processors are not shared.
    pub invocation: Vec<f64>,
    /// Cores times share of a creation; `None` where each takes its function's `cpus`.
    pub creation: Option<f64>,
}

/// The highest values at one instant of what all workers of a fleet held together.
#[derive(Clone, Copy, Debug, Default)]
pub struct FleetPeaks {
    /// Memory: used, running with creating, creating, cached.
    pub memory: [Mem; 4],
    /// Cores, invocations in flight and queued; the sums are not filled in.
    pub held: Held,
}

/// See the module. That of a run of nothing shows which figures there are.
#[derive(Default)]
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

/// A distribution's figures. Quantiles rank those too that the end of the run left `without` a value: one that falls on them is
/// above the largest value that is known.
fn distribution(sketch: &Sketch, without: u64, per_unit: f64) -> Value {
    let n = sketch.count();
    let max = || sketch.max() as f64 / per_unit;
    let quantile = |q: f64| {
        if without == 0 || n == 0 {
            return maybe(sketch.quantile(q).map(|v| v as f64 / per_unit));
        }
        let rank = (q * (n + without) as f64 - 1e-9).ceil().max(1.0);
        if rank > n as f64 {
            return json!(format!("> {}", number(max())));
        }
        maybe(sketch.quantile((rank - 0.5) / n as f64).map(|v| v as f64 / per_unit))
    };
    let mut figures = json!({
        "n": n,
        "mean": maybe(sketch.mean().map(|m| m / per_unit)),
        "p50": quantile(0.50),
        "p90": quantile(0.90),
        "p95": quantile(0.95),
        "p99": quantile(0.99),
        "p999": quantile(0.999),
        "max": maybe((n > 0).then(max)),
    });
    if without > 0 {
        figures["without"] = json!(without);
    }
    figures
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

    /// Core seconds that the window's invocations ask for, a second: `None` where the window is not that of a load.
    pub fn offered_load(&self) -> Option<f64> {
        let part = |i: usize| self.facts.parts.invocation.get(i).copied().unwrap_or(1.0);
        self.core_seconds_a_second(|i, f| f.intended_sum as f64 * self.functions[i].cpus.as_f64() * part(i))
    }

    /// The same of its cold starts, as long as they took.
    pub fn cold_start_load(&self) -> Option<f64> {
        let part = |i: usize| self.facts.parts.creation.unwrap_or(self.functions[i].cpus.as_f64());
        self.core_seconds_a_second(|i, f| f.cold_sum as f64 * part(i))
    }

    fn core_seconds_a_second(&self, core_ns: impl Fn(usize, &FunctionTally) -> f64) -> Option<f64> {
        let seconds = self.window_seconds();
        let sum: f64 = self.by_function.iter().enumerate().map(|(i, f)| core_ns(i, f)).sum();
        (seconds > 0.0 && !self.facts.ends_with_return).then(|| sum / 1e9 / seconds)
    }

    /// Cores of all workers, if they are limited.
    fn cores(&self) -> Option<f64> {
        let cores: f64 = self.workers.iter().map(|w| w.cores.as_f64()).sum();
        (self.workers.iter().all(|w| w.cores != Cpus::MAX) && cores > 0.0).then_some(cores)
    }

    /// Whether the backlog still grew when arrivals ended: its mean rose from quarter to quarter of the load. Clients of closed
    /// loops wait for their answers, so theirs cannot.
    pub fn unstable(&self) -> bool {
        let backlog = Snapshot::INDEX.backlog;
        let (from, until) = self.facts.window;
        let load = |t: Time| t >= from && t <= until.min(self.last_arrival);
        !self.facts.closed
            && self.workers.iter().any(|w| {
                let points: Vec<f64> =
                    w.series.points().filter(|(t, _)| load(*t)).map(|(_, v)| v[backlog]).collect();
                let quarter = points.len() / 4;
                if quarter < 4 {
                    return false;
                }
                let mean =
                    |i: usize| points[i * quarter..(i + 1) * quarter].iter().sum::<f64>() / quarter as f64;
                mean(3) > 5.0 && mean(3) > 1.15 * mean(2) && mean(2) > 1.15 * mean(1)
            })
    }

    /// Shares of cold starts of these numbers of cold starts and starts: their quantiles.
    fn shares(counts: impl Iterator<Item = (u64, u64)>) -> Value {
        let mut shares: Vec<f64> = counts
            .filter(|(_, starts)| *starts > 0)
            .map(|(cold, starts)| cold as f64 / starts as f64)
            .collect();
        shares.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let rank = ((q * shares.len() as f64).ceil() as usize).max(1) - 1;
            maybe(shares.get(rank).copied())
        };
        json!({"p25": at(0.25), "p50": at(0.50), "p75": at(0.75), "p90": at(0.90)})
    }

    /// Cold starts and starts by app.
    fn by_app(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut apps: std::collections::BTreeMap<&str, (u64, u64)> = std::collections::BTreeMap::new();
        for (spec, f) in self.functions.iter().zip(&self.by_function) {
            let app = apps.entry(spec.app.as_str()).or_default();
            *app = (app.0 + f.cold_starts, app.1 + f.starts);
        }
        apps.into_values()
    }

    /// Over functions that completed something: the geometric means of their mean and of their p99 slowdown, and Jain's index.
    fn over_functions(&self) -> [Option<f64>; 3] {
        let slowdowns: Vec<f64> = self
            .by_function
            .iter()
            .filter(|f| f.slowdown.count() > 0)
            .map(|f| f.slowdown_sum / f.slowdown.count() as f64)
            .collect();
        let n = slowdowns.len().max(1) as f64;
        let geometric = |logs: f64| (logs / n).exp();
        let mean = geometric(slowdowns.iter().map(|s| s.ln()).sum());
        let tail = |f: &FunctionTally| f.slowdown.quantile(0.99).map_or(0.0, |s| (s as f64 / PER_UNIT).ln());
        let p99 = geometric(self.by_function.iter().map(tail).sum());
        let squares: f64 = slowdowns.iter().map(|s| s * s).sum();
        let jain = if squares > 0.0 { slowdowns.iter().sum::<f64>().powi(2) / (n * squares) } else { 1.0 };
        [mean, p99, jain].map(|figure| (!slowdowns.is_empty()).then_some(figure))
    }

    /// The mean and the peak of what workers held together.
    fn held(&self, of: impl Fn(&Held) -> (f64, f64)) -> Value {
        let seconds = self.window_seconds();
        let mean = (seconds > 0.0).then(|| self.workers.iter().map(|w| of(&w.held).0).sum::<f64>() / seconds);
        let peak = match (self.workers.as_slice(), &self.facts.fleet) {
            ([sole], _) => Some(of(&sole.held).1),
            (_, Some(fleet)) => Some(of(&fleet.held).1),
            _ => None,
        };
        if self.workers.is_empty() { Value::Null } else { json!({"mean": maybe(mean), "peak": maybe(peak)}) }
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
        put("cold_seconds", number(self.by_function.iter().map(|f| f.cold_sum).sum::<u128>() as f64 / 1e9));
        put("affected_by_cold", json!(t.affected_by_cold));
        let exec: u128 = self.by_function.iter().map(|f| f.exec_sum).sum();
        let cold: u128 = self.by_function.iter().map(|f| f.cold_sum).sum();
        put("execution_time_increase", maybe((exec > 0).then(|| cold as f64 / exec as f64)));
        put("containers_at_begin", self.total(|w| w.containers_at_begin));
        put("containers_created", self.total(|w| w.counts.containers_created));
        put("evictions", self.total(|w| w.counts.evictions));
        put("expirations", self.total(|w| w.counts.expirations));
        put("containers_failed", self.total(|w| w.counts.containers_failed));
        put("containers_condemned", self.total(|w| w.counts.containers_condemned));
        put("containers_left", self.total(WorkerFacts::containers_left));
        put("prewarm_attempts", self.total(|w| w.counts.prewarm_attempts));
        put("prewarm_failures", self.total(|w| w.counts.prewarm_failures));
        put("memory_reads", self.total(|w| w.counts.memory_reads));
        put("loop_restarts", self.total(|w| w.loop_restarts));
        put("virtual_seconds", number(self.facts.end.as_secs_f64()));
        let (from, until) = self.facts.window;
        put("window_begin_seconds", number(from.as_secs_f64()));
        put("window_seconds", number(self.window_seconds()));
        put("drain_seconds", number(self.facts.end.since(until).as_secs_f64()));
        let seconds = self.window_seconds();
        put("throughput", maybe((seconds > 0.0).then(|| t.returned as f64 / seconds)));
        let offered = self.offered_load();
        put("offered_load", maybe(offered));
        put("offered_load_share", maybe(offered.zip(self.cores()).map(|(busy, cores)| busy / cores)));
        put("cold_start_load", maybe(self.cold_start_load()));
        let mut busy = self.held(|held| held.cores);
        if self.workers.len() > 1 && !self.facts.parts.invocation.is_empty() {
            // What work has of shared cores is known of each worker alone.
            busy["peak"] = Value::Null;
        }
        put("busy_cores", busy);
        put("in_flight", self.held(|held| held.in_flight));
        put("queue_length", self.held(|held| held.queued));
        let (blocked, waited) = t.behind_head;
        put("blocked_behind_head", json!({"n": blocked, "ms": number(waited as f64 / 1e6)}));
        put("unstable", json!(self.unstable()));
        put("interrupted", json!(self.facts.interrupted));
        put("events", json!(self.facts.events));
        put("seed", json!(self.facts.seed));
        put("result_hash", json!(format!("{:016x}", self.result_hash)));
        for (figure, sketch) in t.distributions() {
            put(figure, distribution(sketch, t.cut.without(figure), PER_UNIT));
        }
        put("memory_mb", self.memory());
        let phases = ["creating", "running", "cached", "removing"];
        let gb = |i: usize| self.sum(|w| w.gb_seconds[i]);
        put(
            "gb_seconds",
            Value::Object(phases.iter().enumerate().map(|(i, p)| ((*p).to_string(), gb(i))).collect()),
        );
        let held: f64 = self.workers.iter().flat_map(|w| w.gb_seconds).sum();
        let [running, cached] = [1, 2].map(|i| self.workers.iter().map(|w| w.gb_seconds[i]).sum::<f64>());
        let known = !self.workers.is_empty();
        put("memory_time_wasted", maybe(known.then_some(cached)));
        put("memory_time_held_per_used", maybe((known && running > 0.0).then(|| held / running)));
        let [geometric, tail, jain] = self.over_functions();
        put("functions", json!(self.functions.len()));
        let counts = self.by_function.iter().map(|f| (f.cold_starts, f.starts));
        put("cold_start_share", Self::shares(counts));
        put("cold_start_share_by_app", Self::shares(self.by_app()));
        put("geometric_mean_slowdown", maybe(geometric));
        put("geometric_mean_p99_slowdown", maybe(tail));
        put("jain_index", maybe(jain));
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
        let peak = |i: usize| match &self.facts.fleet {
            Some(fleet) => number(fleet.memory[i].as_mib_f64()),
            None => self.sum(|w| w.peaks[i].as_mib_f64()),
        };
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
        super::warnings(&self.json())
    }
}
