//! Fetches the series of a run, and lays them beside its results as `graphite.csv`.

use crate::base::{Duration, Fault, Result};
use crate::report::{amend, graphite_csv, replace};
use elapse_real::graphite::{Client, Fetched};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What became of the points that a run sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) points: u64,
    pub(crate) dropped: u64,
    pub(crate) unsent: u64,
}

/// What is wanted.
pub(crate) struct Query {
    pub(crate) client: Client,
    /// Our own series, by their full paths.
    pub(crate) own: Vec<String>,
    /// Patterns, or functions of them.
    pub(crate) targets: Vec<String>,
    /// The run on its own calendar, unix seconds.
    pub(crate) from: u64,
    pub(crate) until: u64,
    /// Seconds by which the run was moved on Graphite's calendar.
    pub(crate) shift: i64,
    pub(crate) wait: Duration,
    /// Points of our own that should be there.
    pub(crate) expected: u64,
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Series.
    pub series: usize,
    /// Points that hold a value.
    pub points: u64,
    /// What a reader has to know.
    pub remarks: Vec<String>,
    /// The query and what came, for run.json.
    pub json: Value,
    pub(crate) csv: Vec<u8>,
}

/// Fetches; waits for our own last point first.
///
/// # Errors
/// Why Graphite did not answer.
pub(crate) fn gather(query: &Query, last_point: Option<u64>) -> Result<Pulled, String> {
    let mut remarks = Vec::new();
    let on_theirs = |at: u64| at.saturating_add_signed(query.shift);
    let waited = match (query.own.last(), last_point) {
        // Carbon's write queue and graphite-web's cache lag behind.
        (Some(path), Some(last)) => query.client.wait_for(path, on_theirs(last), query.wait.into())?,
        _ => Some(std::time::Duration::ZERO),
    };
    if waited.is_none() {
        remarks.push(format!(
            "Graphite: the run's last point did not show within {}; what is missing may come later: elapse graphite pull.",
            query.wait
        ));
    }
    let mut targets = query.own.clone();
    for target in &query.targets {
        if target.contains('(') {
            targets.push(target.clone());
            continue;
        }
        let found = query.client.find(target)?;
        if found.is_empty() {
            remarks.push(format!("Graphite: no series matches '{target}'."));
        }
        targets.extend(found);
    }
    let mut seen = rustc_hash::FxHashSet::default();
    targets.retain(|t| seen.insert(t.clone()));
    let mut series = whole(query, &targets, on_theirs(query.from), on_theirs(query.until))?;
    for s in &mut series {
        s.points.iter_mut().for_each(|(at, _)| *at = at.saturating_add_signed(-query.shift));
    }
    say_what_is_missing(query, &targets, &series, &mut remarks);
    let steps: BTreeMap<u64, usize> = series.iter().fold(BTreeMap::new(), |mut steps, s| {
        *steps.entry(s.step).or_default() += 1;
        steps
    });
    let points: u64 = series.iter().map(|s| s.points.iter().filter(|p| p.1.is_some()).count() as u64).sum();
    let of_ours = own_points(query, &series);
    let json = json!({
        "url": query.client.url(),
        "targets": query.targets,
        "own_series": query.own.len(),
        "from_unix_seconds": on_theirs(query.from),
        "until_unix_seconds": on_theirs(query.until),
        "shift_seconds": query.shift,
        "waited_seconds": waited.map(|w| w.as_secs_f64()),
        "series": series.len(),
        "steps_seconds": steps.keys().collect::<Vec<_>>(),
        "points": points,
        "own_points": of_ours,
        "remarks": remarks,
    });
    let rows = series.iter().map(|s| (s.target.as_str(), s.points.as_slice()));
    Ok(Pulled { series: series.len(), points, remarks, json, csv: graphite_csv(rows) })
}

/// Points of our own that hold a value.
fn own_points(query: &Query, series: &[Fetched]) -> u64 {
    let own: rustc_hash::FxHashSet<&String> = query.own.iter().collect();
    let ours = series.iter().filter(|s| own.contains(&s.target));
    ours.map(|s| s.points.iter().filter(|p| p.1.is_some()).count() as u64).sum()
}

/// What is answered, once all our points are in it. Carbon takes points out of its cache before they are in their file: for
/// that moment they are in neither.
fn whole(
    query: &Query,
    targets: &[String],
    from: u64,
    until: u64,
) -> std::result::Result<Vec<Fetched>, String> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    let enough = |series: &[Fetched]| own_points(query, series) >= query.expected;
    query.client.render_until(targets, from, until, PATIENCE.min(query.wait.into()), enough)
}

fn say_what_is_missing(query: &Query, targets: &[String], series: &[Fetched], remarks: &mut Vec<String>) {
    let list = |names: &[&str]| {
        let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        let more = names.len().saturating_sub(3);
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let lost: Vec<&str> = targets
        .iter()
        .filter(|t| !t.contains('(') && !series.iter().any(|s| s.target == **t))
        .map(String::as_str)
        .collect();
    if !lost.is_empty() {
        remarks.push(format!(
            "Graphite: the answer is partial; {} of {} series are not in it: {}.",
            lost.len(),
            targets.len(),
            list(&lost)
        ));
    }
    let empty: Vec<&str> =
        series.iter().filter(|s| s.points.iter().all(|p| p.1.is_none())).map(|s| s.target.as_str()).collect();
    if series.is_empty() || empty.len() == series.len() {
        remarks.push(format!(
            "Graphite: no series has a point between {} and {} (unix seconds); do the run's calendar and Graphite's agree?",
            query.from.saturating_add_signed(query.shift),
            query.until.saturating_add_signed(query.shift)
        ));
    } else if !empty.is_empty() {
        remarks.push(format!(
            "Graphite: {} series have no point in the run's time: {}.",
            empty.len(),
            list(&empty)
        ));
    }
    let span = query.until.saturating_sub(query.from);
    if let Some(coarse) = series.iter().map(|s| s.step).max().filter(|step| *step > span.max(1)) {
        remarks.push(format!(
            "Graphite: its points are {coarse} s apart, and the run is {span} s long: they say little about it."
        ));
    }
    let finest = series.iter().map(|s| s.step).filter(|s| *s > 0).min();
    let ours = series.iter().filter(|s| query.own.contains(&s.target)).map(|s| s.step).max();
    if let (Some(finest), Some(ours)) = (finest, ours)
        && ours > finest.max(1)
    {
        remarks.push(format!("Graphite: our own series came {ours} s apart, the finest {finest} s; older points come from coarser archives."));
    }
}

/// Fetches the series of a finished run into its folder: its own, where it has `metrics.csv`, and `targets`.
///
/// # Errors
/// If the folder holds no run, or Graphite did not answer; the folder is then as it was.
pub fn pull(run: &Path, client: Client, targets: &[String]) -> Result<Pulled> {
    let path = run.join("run.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Fault::reading(&path, &e))?;
    let wrong =
        |why: &str| Fault::usage(format!("cannot read {}: {why}; is it an Elapse run?", path.display()));
    let about: Value = serde_json::from_str(&text).map_err(|e| wrong(&e.to_string()))?;
    let at = |key: &str| about[key].as_u64().ok_or_else(|| wrong(&format!("there is no {key}")));
    let (from, until) = (at("start_unix_ns")? / 1_000_000_000, at("end_unix_ns")? / 1_000_000_000);
    let shift = about["graphite"]["shift_seconds"].as_i64().unwrap_or(0);
    let own = own_paths(&run.join("metrics.csv"))?;
    // Whoever never sent to Graphite does not miss its own series there.
    let own = if about["plan"]["graphite"]["carbon"].is_string() { own } else { Vec::new() };
    let query = Query {
        client,
        own,
        targets: targets.to_vec(),
        from,
        until,
        shift,
        wait: Duration::ZERO,
        expected: 0,
    };
    let pulled =
        gather(&query, None).map_err(|why| Fault::host(format!("{why}; {} is as it was", run.display())))?;
    replace(&run.join("graphite.csv"), &pulled.csv)?;
    amend(&path, "graphite", pulled.json.clone())?;
    Ok(pulled)
}

/// The paths in a `metrics.csv`; none if there is none.
fn own_paths(path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(path)
        .map_err(|e| Fault::usage(format!("cannot read {}: {e}", path.display())))?;
    let mut paths: Vec<String> = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| Fault::usage(format!("cannot read {}: {e}", path.display())))?;
        let path = row.get(0).unwrap_or_default();
        // They come back with the second instant.
        if paths.first().is_some_and(|first| first == path) {
            break;
        }
        paths.push(path.to_string());
    }
    Ok(paths)
}
