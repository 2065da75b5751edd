//! One axis of time for records, our metrics and what was fetched from Graphite.
//!
//! The rule: a value at t covers [t, t + step of its series). A bucket of the common axis takes of each series what
//! covers it: gauges averaged by time, sums in proportion, minima, maxima, or the last value (of totals). Where nothing covers a
//! bucket it is empty, not zero. Records are counted in the bucket of their arrival.

use super::pattern::covers;
use super::read::{Finished, Track, each_row, float};
use super::rule::Rule;
use crate::base::{Fault, Result};
use crate::metrics::Sketch;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// How to align.
#[derive(Clone, Debug, Default)]
pub struct Alignment {
    /// Seconds of a bucket; the longest step of all series of all runs without it.
    pub step: Option<f64>,
    /// Seconds to be added to the times of series below a path or pattern: for senders whose clock is off, or who stamp
    /// the end of an interval.
    pub shifts: Vec<(String, f64)>,
    /// The offset of the series below a path or pattern is found by the burst of processor use that this series shows.
    pub markers: Vec<(String, String)>,
    /// Rules for series below a path or pattern, where the usual ones are wrong.
    pub rules: Vec<(String, Rule)>,
    /// Times are seconds since each run's start.
    pub relative: bool,
}

impl Alignment {
    fn rule(&self, track: &Track) -> Rule {
        let given = self.rules.iter().find(|(pattern, _)| covers(pattern, &track.path));
        given.map_or_else(|| Rule::usual(track), |(_, rule)| *rule)
    }
}

/// Writes time,source,path,value of these runs and returns what a reader has to know. Sources are `records`, `metrics` and
/// `graphite`, with the run's name in front where there are several.
///
/// # Errors
/// If a run cannot be read, nothing in it overlaps, or the table cannot be written.
pub fn align(runs: &[(String, Finished)], how: &Alignment, out: &mut dyn Write) -> Result<Vec<String>> {
    let mut remarks = Vec::new();
    let gone = |e: std::io::Error| Fault::host(format!("cannot write the aligned table: {e}"));
    let step = match how.step {
        Some(step) => step,
        None => longest_step(runs)?,
    };
    out.write_all(b"time,source,path,value\n").map_err(gone)?;
    for (name, run) in runs {
        let source = |kind: &str| if runs.len() > 1 { format!("{name}/{kind}") } else { kind.to_string() };
        let start = run.start().ok_or_else(|| {
            Fault::usage(format!(
                "{}: run.json has no start_unix_ns; run it again with this version",
                run.folder.display()
            ))
        })?;
        let mut all: Vec<(String, Track)> = Vec::new();
        for kind in ["metrics", "graphite"] {
            let tracks = run.tracks(&format!("{kind}.csv"))?;
            all.extend(tracks.into_iter().map(|track| (source(kind), track)));
        }
        apply_shifts(run, how, &source("graphite"), &mut all, &mut remarks)?;
        let end = start + run.seconds();
        let overlaps = |t: &Track| {
            t.points.iter().any(|(at, v)| v.is_some() && *at < end && at + t.step().unwrap_or(1.0) > start)
        };
        let fetched = all.iter().filter(|(s, _)| *s == source("graphite")).collect::<Vec<_>>();
        if !fetched.is_empty() && !fetched.iter().any(|(_, t)| overlaps(t)) {
            return Err(Fault::check(format!(
                "{}: no series of graphite.csv has a point in the run's time ({start:.0} to {end:.0}, unix seconds); see --shift, and the clock of the sender",
                run.folder.display()
            )));
        }
        // On the calendar buckets begin at whole steps, as Graphite's do; beside other runs, at the run's own start.
        let first = if how.relative { start } else { (start / step).floor() * step };
        let buckets = ((end - first) / step - 1e-9).ceil().max(1.0);
        if buckets > MOST {
            return Err(Fault::usage(format!(
                "{}: {:.0} s in buckets of {step} s are {buckets:.0} rows for each series, and at most {MOST} are written; \
                 take --step {}ms or longer",
                run.folder.display(),
                end - first,
                ((end - first) / MOST * 1e3).ceil()
            )));
        }
        let buckets = buckets as usize;
        let zero = if how.relative { first } else { 0.0 };
        let time = |i: usize| (first - zero) + i as f64 * step;
        let mut put = |source: &str, path: &str, values: &[Option<f64>]| -> Result<()> {
            let (source, path) = (super::format::quoted(source), super::format::quoted(path));
            for (i, value) in values.iter().enumerate() {
                let value = value.map_or(String::new(), super::format::short);
                writeln!(out, "{},{source},{path},{value}", super::format::short(time(i))).map_err(gone)?;
            }
            Ok(())
        };
        if run.file("records.csv").exists() {
            for (path, values) in records(&run.file("records.csv"), first, step, buckets)? {
                put(&source("records"), &path, &values)?;
            }
        }
        for (source, track) in &all {
            let values = resample(track, how.rule(track), first, step, buckets);
            put(source, &track.path, &values)?;
        }
    }
    Ok(remarks)
}

/// Buckets of a run at most.
const MOST: f64 = 5_000_000.0;

/// The longest step of all series, and no less than a second.
fn longest_step(runs: &[(String, Finished)]) -> Result<f64> {
    let mut longest = 1.0f64;
    for (_, run) in runs {
        for file in ["metrics.csv", "graphite.csv"] {
            longest = run.tracks(file)?.iter().filter_map(Track::step).fold(longest, f64::max);
        }
    }
    Ok(longest)
}

/// A series on the common axis.
fn resample(track: &Track, rule: Rule, first: f64, step: f64, buckets: usize) -> Vec<Option<f64>> {
    let own = track.step().unwrap_or(step);
    let mut cells = vec![Cell::default(); buckets];
    for (at, value) in track.points.iter().filter_map(|(at, v)| Some((*at, (*v)?))) {
        let (from, until) = ((at - first) / step, (at + own - first) / step);
        if until <= 0.0 {
            continue;
        }
        let range = from.max(0.0) as usize..(until.ceil() as usize).min(buckets);
        for i in range {
            let overlap = (until.min(i as f64 + 1.0) - from.max(i as f64)) * step;
            if overlap > 1e-9
                && let Some(cell) = cells.get_mut(i)
            {
                cell.add(value, overlap);
            }
        }
    }
    let value = |cell: Cell| {
        (cell.seconds > 0.0).then(|| match rule {
            Rule::Mean => cell.sum / cell.seconds,
            Rule::Sum => cell.sum / own,
            Rule::Min => cell.min,
            Rule::Max => cell.max,
            Rule::Last => cell.last,
        })
    };
    cells.into_iter().map(value).collect()
}

/// What of a series lies in a bucket.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// Values times the seconds that they cover of it.
    sum: f64,
    /// Seconds that are covered.
    seconds: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Cell {
    fn add(&mut self, value: f64, seconds: f64) {
        let is_first = self.seconds == 0.0;
        self.min = if is_first { value } else { self.min.min(value) };
        self.max = if is_first { value } else { self.max.max(value) };
        self.sum += value * seconds;
        self.seconds += seconds;
        self.last = value;
    }
}

/// Latencies of a bucket, in ns: as they are while they are few, so that many buckets take no more than the records do.
enum Latencies {
    Few(Vec<u64>),
    Many(Box<Sketch>),
}

impl Latencies {
    /// As many as take the room of a sketch.
    const FEW: usize = 400;

    fn add(&mut self, ns: u64) {
        match self {
            Latencies::Many(sketch) => sketch.add(ns),
            Latencies::Few(all) if all.len() < Latencies::FEW => all.push(ns),
            Latencies::Few(_) => {
                let mut sketch = self.sketch();
                sketch.add(ns);
                *self = Latencies::Many(Box::new(sketch));
            }
        }
    }

    fn sketch(&self) -> Sketch {
        match self {
            Latencies::Many(sketch) => (**sketch).clone(),
            Latencies::Few(all) => {
                let mut sketch = Sketch::default();
                all.iter().for_each(|ns| sketch.add(*ns));
                sketch
            }
        }
    }
}

type Rows = Vec<(String, Vec<Option<f64>>)>;

/// What records say, by the bucket of their arrival.
fn records(path: &Path, first: f64, step: f64, buckets: usize) -> Result<Rows> {
    let mut counts = BTreeMap::<String, Vec<f64>>::new();
    let mut latencies: Vec<Latencies> = (0..buckets).map(|_| Latencies::Few(Vec::new())).collect();
    let columns = ["arrival_unix_ns", "status", "start_kind", "return_ns", "exec_end_ns", "weight"];
    each_row(path, columns, |[arrival, status, start, back, end, weight]| {
        let at = ((float(arrival)? / 1e9 - first) / step).max(0.0) as usize;
        let (at, weight) = (at.min(buckets - 1), float(weight)?);
        let mut count = |path: &str| {
            // Most rows find their path there.
            if let Some(cells) = counts.get_mut(path) {
                cells[at] += weight;
            } else {
                let mut cells = vec![0.0; buckets];
                cells[at] = weight;
                counts.insert(path.to_string(), cells);
            }
        };
        count("invocations");
        count(&String::from_utf8_lossy(status));
        if start == b"cold" {
            count("cold_starts");
        }
        if !end.is_empty() && !back.is_empty() {
            latencies[at].add(float(back)? as u64);
        }
        Ok(())
    })?;
    let mut rows: Rows =
        counts.into_iter().map(|(path, cells)| (path, cells.into_iter().map(Some).collect())).collect();
    let mut figures: [Vec<Option<f64>>; 4] = Default::default();
    for bucket in latencies {
        let sketch = bucket.sketch();
        let quantile = |q| sketch.quantile(q).map(|ns| ns as f64);
        let max = (sketch.count() > 0).then(|| sketch.max() as f64);
        let row = [sketch.mean(), quantile(0.5), quantile(0.99), max];
        figures.iter_mut().zip(row).for_each(|(column, ns)| column.push(ns.map(|ns| ns / 1e6)));
    }
    let names = ["mean", "p50", "p99", "max"];
    rows.extend(names.into_iter().zip(figures).map(|(name, column)| (format!("latency_ms.{name}"), column)));
    Ok(rows)
}

fn apply_shifts(
    run: &Finished,
    how: &Alignment,
    source: &str,
    all: &mut [(String, Track)],
    remarks: &mut Vec<String>,
) -> Result<()> {
    let mut shifts = how.shifts.clone();
    for (senders, series) in &how.markers {
        let place = run.folder.display();
        let marker = &run.run["marker_unix_seconds"];
        let (Some(from), Some(until)) = (marker[0].as_f64(), marker[1].as_f64()) else {
            return Err(Fault::usage(format!(
                "{place}: the run made no marker; set [graphite] marker = \"3s\" in its scenario, or give --shift"
            )));
        };
        let track = all.iter().find(|(s, t)| s == source && t.path == *series).ok_or_else(|| {
            Fault::usage(format!(
                "{place}: there is no series '{series}' in graphite.csv to find the marker in"
            ))
        })?;
        let (offset, likeness) = offset_of(&track.1, from, until).ok_or_else(|| {
            Fault::check(format!("{place}: '{series}' has too few points around the marker"))
        })?;
        if likeness < 0.7 {
            return Err(Fault::check(format!(
                "{place}: '{series}' does not show the marker (correlation {likeness:.2}); give --shift"
            )));
        }
        remarks.push(format!(
            "{senders}: its clock is {offset:+.1} s off (correlation with the marker {likeness:.2})."
        ));
        shifts.push((senders.clone(), -offset));
    }
    for (pattern, seconds) in &shifts {
        let mut any = false;
        for (_, track) in all.iter_mut().filter(|(s, t)| s == source && covers(pattern, &t.path)) {
            any = true;
            track.points.iter_mut().for_each(|p| p.0 += seconds);
        }
        if !any {
            remarks.push(format!("no series of graphite.csv lies below '{pattern}'."));
        }
    }
    Ok(())
}

/// By how many seconds a sender's clock is ahead, and how like the series is to the burst at that offset, -1 to 1.
fn offset_of(track: &Track, from: f64, until: f64) -> Option<(f64, f64)> {
    /// Seconds that a clock may be off.
    const FARTHEST: f64 = 60.0;
    let step = track.step()?;
    let mut points: Vec<(f64, f64)> = track.points.iter().filter_map(|(at, v)| Some((*at, (*v)?))).collect();
    // A total shows the burst as growth, which is stamped with the end of what it grew in.
    if points.windows(2).all(|w| w[1].1 >= w[0].1) {
        points = points.windows(2).map(|w| (w[0].0, w[1].1 - w[0].1)).collect();
    }
    let span = until - from;
    points.retain(|(at, _)| *at > from - FARTHEST - span && *at < until + FARTHEST + span);
    if points.len() < 3 {
        return None;
    }
    let likeness = |offset: f64| {
        let burst = |at: f64| ((at + step).min(until + offset) - at.max(from + offset)).max(0.0) / step;
        correlation(points.iter().map(|(at, v)| (burst(*at), *v)))
    };
    let tries = (2.0 * FARTHEST / (step / 10.0)) as i64;
    (0..=tries)
        .map(|i| i as f64 * (step / 10.0) - FARTHEST)
        .map(|offset| (offset, likeness(offset)))
        // Of equals the one nearest to none.
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.abs().total_cmp(&a.0.abs())))
}

fn correlation(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let n = pairs.clone().count() as f64;
    let (mx, my) = pairs.clone().fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (xy, xx, yy) = pairs.fold((0.0, 0.0, 0.0), |(xy, xx, yy), (x, y)| {
        (xy + (x - mx) * (y - my), xx + (x - mx).powi(2), yy + (y - my).powi(2))
    });
    if xx > 0.0 && yy > 0.0 { xy / (xx * yy).sqrt() } else { -1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(points: &[(f64, f64)]) -> Track {
        Track { path: "a.b".into(), points: points.iter().map(|(t, v)| (*t, Some(*v))).collect() }
    }

    #[test]
    fn longer_buckets_follow_the_rule() {
        let t = track(&[(10.0, 1.0), (11.0, 3.0), (12.0, 5.0)]);
        let two = |rule| resample(&t, rule, 10.0, 2.0, 3);
        assert_eq!(two(Rule::Mean), [Some(2.0), Some(5.0), None]);
        assert_eq!(two(Rule::Sum), [Some(4.0), Some(5.0), None]);
        assert_eq!(two(Rule::Min), [Some(1.0), Some(5.0), None]);
        assert_eq!(two(Rule::Max), [Some(3.0), Some(5.0), None]);
        assert_eq!(two(Rule::Last), [Some(3.0), Some(5.0), None]);
    }

    #[test]
    fn a_value_covers_its_step_and_gaps_stay_gaps() {
        let mut t = track(&[(0.0, 4.0), (2.0, 6.0), (6.0, 8.0)]);
        t.points.insert(2, (4.0, None));
        assert_eq!(
            resample(&t, Rule::Mean, 0.0, 1.0, 8),
            [Some(4.0), Some(4.0), Some(6.0), Some(6.0), None, None, Some(8.0), Some(8.0)]
        );
        assert_eq!(resample(&t, Rule::Sum, 0.0, 1.0, 2), [Some(2.0), Some(2.0)]);
    }

    #[test]
    fn a_clock_that_is_off_is_found_by_the_burst() {
        for offset in [-12.0, 0.0, 0.5, 7.0] {
            let (from, until) = (100.25 + offset, 103.25 + offset);
            let value = |t: f64| 5.0 + 95.0 * ((t + 1.0).min(until) - t.max(from)).max(0.0);
            let points: Vec<(f64, f64)> = (40..180).map(|t| (f64::from(t), value(f64::from(t)))).collect();
            let (found, likeness) = offset_of(&track(&points), 100.25, 103.25).unwrap();
            assert!((found - offset).abs() < 0.11 && likeness > 0.99, "{found} for {offset}, {likeness}");
        }
    }
}
