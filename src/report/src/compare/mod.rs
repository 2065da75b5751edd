//! Two runs against each other, or two sets of repeats: simulated against live, policy against policy.
//!
//! Of repeats the median of a figure is taken, and their spread (largest less smallest) is the noise floor, printed
//! beside. A figure is judged by a tolerance, to which half of the larger spread is added.

mod judge;
mod records;
mod text;

pub use judge::{Check, Tolerance, tolerances};
pub use text::noise_floor;

use super::folder::check_source;
use super::read::{Distribution, Finished, each_row, float};
use crate::base::{Fault, Result};
use records::Times;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The distributions that are compared: latency, and the stages that it is made of.
pub const STAGES: [&str; 5] = ["latency_ms", "queue_ms", "cold_ms", "exec_ms", "overhead_ms"];
/// Milliseconds below which two times are the same to anyone: a simulated queue takes no time, a real one some microseconds.
const RESOLUTION: f64 = 0.5;
/// Quantiles whose ratios are told.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99)];

/// One side: a run, or repeats of one.
pub struct Side {
    /// What its folder is called.
    pub name: String,
    runs: Vec<Finished>,
}

impl Side {
    /// Opens a run's folder, or one that holds runs (`repeat-1`, `repeat-2`, ...). A repeat that was interrupted is none.
    ///
    /// # Errors
    /// If it holds none, or both a run and repeats.
    pub fn open(folder: &Path) -> Result<Side> {
        check_source(folder)?;
        let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        let name = whole.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
        let mut repeats: Vec<_> = std::fs::read_dir(folder)
            .map_err(|e| Fault::reading(folder, &e))?
            .flatten()
            .map(|entry| entry.path())
            // Other runs in the same folder, or one that is still being written, are no repeats of it.
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("repeat-")))
            .filter(|path| path.join("run.json").exists() && path.join("summary.json").exists())
            .collect();
        repeats.sort();
        if repeats.is_empty() {
            return Ok(Side { name, runs: vec![Finished::open(folder)?] });
        }
        if folder.join("run.json").exists() {
            return Err(Fault::usage(format!(
                "{} holds a run and repeats of one; name one of the repeats ({}), or move the run away",
                folder.display(),
                repeats[0].display()
            )));
        }
        let mut runs = repeats.iter().map(|path| Finished::open(path)).collect::<Result<Vec<_>>>()?;
        // It has fewer invocations than its plan: beside whole ones it would make any difference look like noise.
        runs.retain(|run| run.run["interrupted"] != true);
        if runs.is_empty() {
            return Err(Fault::usage(format!(
                "every repeat in {} was interrupted; run it again",
                folder.display()
            )));
        }
        Ok(Side { name, runs })
    }

    /// Whether a run ended before its plan did.
    fn is_cut_short(&self) -> bool {
        self.runs.iter().any(|run| run.run["interrupted"] == true)
    }

    /// How many runs it is.
    pub fn repeats(&self) -> usize {
        self.runs.len()
    }

    /// Whether it ran on a real host.
    pub fn is_live(&self) -> bool {
        self.runs[0].summary["backend"] != "simulated" && self.runs[0].run["event_hash"].is_null()
    }

    fn plan(&self) -> &Value {
        &self.runs[0].run["plan"]
    }

    /// Whether what arrives depends on the answers: by the plan, or because clients sent it one after the other.
    fn is_closed(&self) -> bool {
        let mut functions = self.plan()["function"].as_array().into_iter().flatten();
        !self.runs[0].run["at"]["clients"].is_null() || functions.any(|f| !f["load"]["closed"].is_null())
    }

    /// Median and spread of every figure of its summaries.
    fn figures(&self) -> BTreeMap<String, Figure> {
        let mut seen = BTreeMap::<String, Vec<f64>>::new();
        for run in &self.runs {
            flatten("", &run.summary, &mut |path, value| {
                if let Some(x) = value.as_f64().filter(|_| !SILENT.contains(&path)) {
                    seen.entry(path.to_string()).or_default().push(x);
                }
            });
        }
        seen.into_iter().map(|(path, values)| (path, Figure::of(values))).collect()
    }

    /// The distribution of a figure over all repeats.
    fn pooled(&self, figure: &str) -> Result<Distribution> {
        let mut counts = BTreeMap::<u64, u64>::new();
        for run in &self.runs {
            let mut before = 0;
            for (value, up_to) in run.distributions()?.remove(figure).unwrap_or_default().0 {
                *counts.entry(value.to_bits()).or_default() += up_to - before;
                before = up_to;
            }
        }
        let mut up_to = 0;
        let points = counts.into_iter().map(|(bits, n)| {
            up_to += n;
            (f64::from_bits(bits), up_to)
        });
        Ok(Distribution(points.collect()))
    }

    /// The largest distance between two of its repeats: what a distance means here.
    fn floor(&self, figure: &str) -> Result<f64> {
        let mut each = Vec::new();
        for run in &self.runs {
            each.push(run.distributions()?.remove(figure).unwrap_or_default());
        }
        let mut largest = 0.0f64;
        for (i, a) in each.iter().enumerate() {
            for b in &each[i + 1..] {
                largest = largest.max(a.distance(b, RESOLUTION));
            }
        }
        Ok(largest)
    }

    /// Rows of functions.csv: invocations, cold starts, latency p50 and p99, each the median of its repeats.
    fn functions(&self) -> Result<BTreeMap<String, [f64; 4]>> {
        let mut seen = BTreeMap::<String, Vec<[f64; 4]>>::new();
        for run in &self.runs {
            let columns = ["function", "invocations", "cold_starts", "latency_p50_ms", "latency_p99_ms"];
            each_row(&run.file("functions.csv"), columns, |[name, rest @ ..]| {
                let number = |field: &[u8]| if field.is_empty() { Ok(f64::NAN) } else { float(field) };
                let mut row = [0.0; 4];
                for (to, from) in row.iter_mut().zip(rest) {
                    *to = number(from)?;
                }
                seen.entry(String::from_utf8_lossy(name).into_owned()).or_default().push(row);
                Ok(())
            })?;
        }
        let median = |rows: Vec<[f64; 4]>| {
            let of = |i: usize| rows.iter().map(|row| row[i]).filter(|x| !x.is_nan()).collect();
            [0, 1, 2, 3].map(|i| Figure::of(of(i)).median)
        };
        Ok(seen.into_iter().map(|(name, rows)| (name, median(rows))).collect())
    }
}

/// What says nothing about a run's behaviour.
const SILENT: [&str; 2] = ["seed", "events"];

/// A figure of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figure {
    /// The median over its repeats.
    pub median: f64,
    /// The largest less the smallest.
    pub spread: f64,
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Figure {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        if n == 0 {
            return Figure { median: f64::NAN, spread: 0.0 };
        }
        let median = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
        Figure { median, spread: values[n - 1] - values[0] }
    }
}

/// How far two distributions are apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distance {
    /// The figure.
    pub figure: &'static str,
    /// Values on each side.
    pub n: [u64; 2],
    /// Kolmogorov and Smirnov's: the largest difference of the distribution functions, 0 to 1. Times below half a
    /// millisecond count as equal.
    pub ks: f64,
    /// The same between repeats of one side; 0 where there are none.
    pub ks_floor: f64,
    /// By quantile: second over first, with the bootstrap's 95 % interval (over repeats and blocks of time) where there are
    /// records.
    pub ratios: Vec<(&'static str, f64, Option<[f64; 2]>)>,
}

/// A function on both sides: invocations, cold starts, latency p50 and p99.
#[derive(Clone, Debug, PartialEq)]
pub struct OfFunction {
    /// Its name.
    pub name: String,
    /// On each side.
    pub sides: [[f64; 4]; 2],
    /// Latency p90 in ms on each side; NaN where there are no records.
    pub p90: [f64; 2],
    /// Kolmogorov's and Smirnov's distance of the latencies; NaN where there are no records.
    pub ks: f64,
}

/// How executions took longer than they were meant to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Execution over intended duration, p50 and p99 of each side.
    pub sides: [[f64; 2]; 2],
    /// Kolmogorov's and Smirnov's distance between the two.
    pub ks: f64,
}

/// What was found.
pub struct Comparison {
    /// The names of the sides.
    pub names: [String; 2],
    /// How many runs each is.
    pub repeats: [usize; 2],
    /// Keys of the plans that differ, with both values.
    pub plan: Vec<(String, String, String)>,
    /// Every figure of the summaries that both have, in their order; then what only both together have.
    pub figures: Vec<(String, Figure, Figure)>,
    /// Latency and its stages.
    pub distances: Vec<Distance>,
    /// What a reader has to know, a sentence each.
    pub remarks: Vec<String>,
    /// How execution was stretched beyond its intended duration; where there are records.
    pub stretch: Option<Stretch>,
    /// Functions, the most invoked first.
    pub functions: Vec<OfFunction>,
    /// Tolerances, and whether they hold.
    pub checks: Vec<Check>,
    /// The pooled latency of each side, for a plot.
    pub latency: [Distribution; 2],
}

impl Comparison {
    /// Whether every tolerance holds.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// Compares two sides.
///
/// # Errors
/// If they cannot be compared (an open loop with a closed one), or cannot be read.
pub fn compare(a: &Side, b: &Side, tolerances: &[Tolerance]) -> Result<Comparison> {
    let closed = [a, b].map(Side::is_closed);
    if closed[0] != closed[1] {
        let (open, closed) = if closed[0] { (&b.name, &a.name) } else { (&a.name, &b.name) };
        return Err(Fault::usage(format!(
            "cannot compare {open} with {closed}: the first is an open loop and the second a closed one, whose arrivals depend on \
             the answers; run both with the same kind of load"
        )));
    }
    let (of_a, of_b) = (a.figures(), b.figures());
    let mut figures = Vec::new();
    flatten("", &a.runs[0].summary, &mut |path, _| {
        if let (Some(x), Some(y)) = (of_a.get(path), of_b.get(path)) {
            figures.push((path.to_string(), *x, *y));
        }
    });
    // One length for all, so that a block of time has the same arrivals on both sides, whichever took longer to serve them.
    let lengths =
        a.runs.iter().chain(&b.runs).map(|run| run.window()[1].min(run.seconds()) - run.window()[0]);
    let length = lengths.fold(f64::INFINITY, f64::min).max(1e-9);
    let times = [Times::read(&a.runs, length)?, Times::read(&b.runs, length)?];
    let mut distances = Vec::new();
    let mut latency = [Distribution::default(), Distribution::default()];
    for (stage, figure) in STAGES.into_iter().enumerate() {
        let pooled = [a.pooled(figure)?, b.pooled(figure)?];
        let ratio = |q: f64| Some(pooled[1].quantile(q)? / pooled[0].quantile(q)?);
        let intervals = match &times {
            [Some(a), Some(b)] => records::intervals(a, b, stage, QUANTILES.map(|(_, q)| q)),
            _ => [None; QUANTILES.len()],
        };
        distances.push(Distance {
            figure,
            n: [pooled[0].count(), pooled[1].count()],
            ks: pooled[0].distance(&pooled[1], RESOLUTION),
            ks_floor: a.floor(figure)?.max(b.floor(figure)?),
            ratios: QUANTILES
                .iter()
                .zip(intervals)
                .map(|((name, q), interval)| (*name, ratio(*q).unwrap_or(f64::NAN), interval))
                .collect(),
        });
        if figure == "latency_ms" {
            latency = pooled;
        }
    }
    let stretch = match &times {
        [Some(a), Some(b)] => {
            let each = [a, b].map(Times::stretch);
            let ends = |of: &Distribution| [0.5, 0.99].map(|q| of.quantile(q).unwrap_or(f64::NAN));
            Some(Stretch { sides: each.each_ref().map(ends), ks: each[0].distance(&each[1], 0.0) })
        }
        _ => None,
    };
    let functions = by_function(a, b, &times)?;
    let one = |value: f64| Figure { median: value, spread: 0.0 };
    if let Some(Stretch { sides: [x, y], .. }) = stretch {
        for (i, quantile) in ["p50", "p99"].into_iter().enumerate() {
            // One that neither side has is equal on both.
            if x[i].is_finite() || y[i].is_finite() {
                figures.push((format!("exec_stretch.{quantile}"), one(x[i]), one(y[i])));
            }
        }
    }
    figures.push((judge::FUNCTIONS_APART.to_string(), one(0.0), one(judge::functions_apart(&functions))));
    let checks = judge::judge(a, b, &figures, tolerances)?;
    Ok(Comparison {
        names: [a.name.clone(), b.name.clone()],
        repeats: [a.repeats(), b.repeats()],
        plan: plan_differences(&a.runs[0].run, &b.runs[0].run),
        figures,
        distances,
        stretch,
        remarks: remarks(a, b),
        functions,
        checks,
        latency,
    })
}

/// What makes a difference say less than it seems to.
fn remarks(a: &Side, b: &Side) -> Vec<String> {
    let cut_short = [a, b].into_iter().filter(|side| side.is_cut_short());
    let mut all: Vec<String> =
        cut_short.map(|side| format!("{} was interrupted before its load had ended.", side.name)).collect();
    for (simulated, live) in [(a, b), (b, a)] {
        let (calibrated, host) = (&simulated.runs[0].run["calibration"]["host"], &live.runs[0].run["host"]);
        if !calibrated.is_object() || !live.is_live() {
            continue;
        }
        let differs = |key: &&&str| calibrated[**key] != host[**key];
        if let Some(key) = ["cpu", "cores", "kernel"].iter().find(differs) {
            all.push(format!(
                "{} is simulated with the calibration of another host than {} ran on ({key}: {} | {}).",
                simulated.name, live.name, calibrated[*key], host[*key]
            ));
        }
    }
    all
}

fn by_function(a: &Side, b: &Side, times: &[Option<Times>; 2]) -> Result<Vec<OfFunction>> {
    let (of_a, of_b) = (a.functions()?, b.functions()?);
    let names: BTreeSet<&String> = of_a.keys().chain(of_b.keys()).collect();
    let nothing = [0.0, 0.0, f64::NAN, f64::NAN];
    let row = |of: &BTreeMap<String, [f64; 4]>, name: &String| of.get(name).copied().unwrap_or(nothing);
    let mut all: Vec<OfFunction> = names
        .into_iter()
        .map(|name| {
            let latency = times.each_ref().map(|side| side.as_ref()?.latency(name));
            let p90 = latency.each_ref().map(|d| d.as_ref()?.quantile(0.9)).map(|x| x.unwrap_or(f64::NAN));
            let ks = match &latency {
                [Some(x), Some(y)] => x.distance(y, RESOLUTION),
                _ => f64::NAN,
            };
            OfFunction { name: name.clone(), sides: [row(&of_a, name), row(&of_b, name)], p90, ks }
        })
        .filter(|f| f.sides.iter().any(|side| side[0] > 0.0))
        .collect();
    all.sort_by(|x, y| (y.sides[0][0] + y.sides[1][0]).total_cmp(&(x.sides[0][0] + x.sides[1][0])));
    Ok(all)
}

/// Hands out the leaves of a JSON value with their paths.
fn flatten(before: &str, value: &Value, take: &mut impl FnMut(&str, &Value)) {
    let path = |key: &str| if before.is_empty() { key.to_string() } else { format!("{before}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| flatten(&path(key), inner, take)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, inner)| flatten(&path(&i.to_string()), inner, take))
        }
        leaf => take(before, leaf),
    }
}

/// Keys of the plans that differ, and of where the load went.
fn plan_differences(a: &Value, b: &Value) -> Vec<(String, String, String)> {
    let leaves = |run: &Value| {
        let mut all = BTreeMap::new();
        for (before, part) in [("", &run["plan"]), ("at", &run["at"]), ("calibration", &run["calibration"])] {
            flatten(before, part, &mut |path, value| {
                if value.is_null() {
                    return;
                }
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                all.insert(path.to_string(), text);
            });
        }
        all
    };
    let (of_a, of_b) = (leaves(a), leaves(b));
    let keys: BTreeSet<&String> = of_a.keys().chain(of_b.keys()).collect();
    let value =
        |of: &BTreeMap<String, String>, key: &String| of.get(key).cloned().unwrap_or_else(|| "-".into());
    let differing = keys.into_iter().filter(|key| of_a.get(*key) != of_b.get(*key));
    differing.map(|key| (key.clone(), value(&of_a, key), value(&of_b, key))).collect()
}
