//! Fetches the series of a run, and lays them beside its results as `graphite.csv`.

use super::remarks::{self, Asked, list};
use super::{Client, Fetched, Patience, is_pattern};
use elapse::base::{Duration, Fault, Result};
use elapse::report::{Finished, Track, amend, graphite_csv, replace};
use elapse::rt::wall::unix_now;
use elapse::{Interrupt, Pulled};
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
    /// Ends what is waited for.
    pub(crate) interrupt: Interrupt,
    /// Points of our own that should be there.
    pub(crate) expected: u64,
    /// Seconds from one of them to the next; 0 if that is not known.
    pub(crate) spacing: u64,
    /// Our own paths with the last point that was sent, on the run's calendar: what lies there already is an earlier run's.
    pub(crate) latest: Vec<(String, u64, f64)>,
}

impl Query {
    fn patience(&self) -> Patience {
        Patience::new(self.wait.into(), &self.interrupt)
    }
}

/// The series as `graphite.csv`.
pub(crate) fn csv(fetched: &[Fetched]) -> Vec<u8> {
    graphite_csv(fetched.iter().map(|s| (s.target.as_str(), s.points.as_slice())))
}

/// What was fetched earlier and is more than what came now: Graphite keeps fine points for a shorter time than coarse ones,
/// and forgets.
fn better_before(before: Vec<Track>, now: &[Fetched]) -> Vec<Fetched> {
    let count = |points: &[(u64, Option<f64>)]| points.iter().filter(|p| p.1.is_some()).count();
    let as_fetched = |track: Track| Fetched {
        step: track.step().map_or(0, |step| step as u64),
        target: track.path,
        points: track.points.into_iter().map(|(at, value)| (at as u64, value)).collect(),
    };
    let is_better = |old: &Fetched| {
        let new = now.iter().find(|new| new.target == old.target);
        count(&old.points) > 0 && new.is_none_or(|new| count(&new.points) == 0 || new.step > old.step.max(1))
    };
    before.into_iter().map(as_fetched).filter(is_better).collect()
}

/// Fetches; waits for our own last point first.
///
/// # Errors
/// Why Graphite did not answer.
pub(crate) fn gather(query: &Query, last_point: Option<u64>) -> Result<(Pulled, Vec<Fetched>), String> {
    let mut remarks = Vec::new();
    let on_theirs = |at: u64| at.saturating_add_signed(query.shift);
    let waited = match (query.own.last(), last_point) {
        // Carbon's write queue and graphite-web's cache lag behind.
        (Some(path), Some(last)) => query.client.wait_for(path, on_theirs(last), query.patience())?,
        _ => Some(std::time::Duration::ZERO),
    };
    if waited.is_none() {
        let within = if query.interrupt.asked() {
            "before the wait for it was interrupted".to_string()
        } else {
            format!("within {}", query.wait)
        };
        remarks.push(format!(
            "Graphite: the run's last point did not show {within}; what is missing may come later: elapse graphite pull."
        ));
    }
    let (names, written) = questions(query, &mut remarks)?;
    let (from, until) = (on_theirs(query.from), on_theirs(query.until));
    let mut series = whole(query, &names, from, until)?;
    let lost = names.iter().filter(|name| !series.iter().any(|s| s.target == **name)).cloned().collect();
    for target in &written {
        let given = query.client.render_target(target, from, until)?;
        remarks.extend(remarks::of_target(target, &given, unix_now().as_secs()));
        series.extend(given);
    }
    remarks.extend(keep_apart(&mut series));
    let others = of_others(query, &series);
    if others > 0 {
        remarks.push(format!(
            "Graphite: {others} of our series end with another value than was sent; they may be an earlier run's of the same name."
        ));
    }
    for s in &mut series {
        s.points.iter_mut().for_each(|(at, _)| *at = at.saturating_add_signed(-query.shift));
    }
    let asked = Asked { series: names.len() + written.len(), lost };
    remarks::of_answer(query, &asked, &series, own_points(query, &series), &mut remarks);
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
        "fault": null,
    });
    Ok((Pulled { series: series.len(), points, remarks, json }, series))
}

/// What is asked for: series by their names, our own first, and targets as they were written.
fn questions(query: &Query, remarks: &mut Vec<String>) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut names, mut written) = (query.own.clone(), Vec::new());
    for target in &query.targets {
        if !is_pattern(target) {
            written.push(target.clone());
            continue;
        }
        let found = query.client.find(target)?;
        if found.is_empty() {
            remarks.push(format!("Graphite: no series matches '{target}'."));
        }
        names.extend(found);
    }
    let mut seen = rustc_hash::FxHashSet::default();
    names.retain(|name| seen.insert(name.clone()));
    // What a pattern has found as well is the same series.
    written.retain(|target| seen.insert(target.clone()));
    Ok((names, written))
}

/// Gives every series a name of its own: functions may call several alike. The second of a name becomes `name#2`, and that
/// is told.
fn keep_apart(series: &mut [Fetched]) -> Option<String> {
    let mut taken: rustc_hash::FxHashSet<String> = series.iter().map(|s| s.target.clone()).collect();
    let mut numbers = rustc_hash::FxHashMap::<String, u64>::default();
    let mut renamed = Vec::new();
    for s in series {
        let number = numbers.entry(s.target.clone()).or_insert(0);
        *number += 1;
        if *number == 1 {
            continue;
        }
        let mut name = format!("{}#{number}", s.target);
        while !taken.insert(name.clone()) {
            *number += 1;
            name = format!("{}#{number}", s.target);
        }
        renamed.push(name.clone());
        s.target = name;
    }
    let names: Vec<&str> = renamed.iter().map(String::as_str).collect();
    (!names.is_empty())
        .then(|| format!("Graphite: series of one name are told apart by a number: {}.", list(&names)))
}

/// Points of our own that hold a value.
fn own_points(query: &Query, series: &[Fetched]) -> u64 {
    let own: rustc_hash::FxHashSet<&String> = query.own.iter().collect();
    let ours = series.iter().filter(|s| own.contains(&s.target));
    ours.map(|s| s.points.iter().filter(|p| p.1.is_some()).count() as u64).sum()
}

/// How many of our series have another value where our last point should be. An archive that is coarser than what was sent
/// has made something else of it, and says nothing.
fn of_others(query: &Query, series: &[Fetched]) -> usize {
    let by_path: rustc_hash::FxHashMap<&str, &Fetched> =
        series.iter().map(|s| (s.target.as_str(), s)).collect();
    let differs = |(path, at, value): &&(String, u64, f64)| {
        let at = at.saturating_add_signed(query.shift);
        let found = by_path.get(path.as_str()).filter(|s| s.step <= 1);
        let point = found.and_then(|s| s.points.iter().find(|p| p.0 == at)).and_then(|p| p.1);
        point.is_some_and(|there| (there - value).abs() > 1e-6 * value.abs().max(1.0))
    };
    query.latest.iter().filter(differs).count()
}

/// What is answered, once all our points are in it. Carbon takes points out of its cache before they are in their file: for
/// that moment they are in neither.
fn whole(
    query: &Query,
    names: &[String],
    from: u64,
    until: u64,
) -> std::result::Result<Vec<Fetched>, String> {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    let begun = unix_now();
    let enough = |series: &[Fetched]| {
        let all = own_points(query, series) >= query.expected || unix_now().saturating_sub(begun) >= PATIENCE;
        all && of_others(query, series) == 0
    };
    query.client.render_until(names, from, until, query.patience(), enough)
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
    let (start, end) = (at("start_unix_ns")? / 1_000_000_000, at("end_unix_ns")? / 1_000_000_000);
    let (from, until) = span(start, end, about["marker_unix_seconds"][0].as_f64());
    let shift = about["graphite"]["shift_seconds"].as_i64().unwrap_or(0);
    let (own, spacing) = own_paths(&run.join("metrics.csv"))?;
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
        interrupt: Interrupt::default(),
        expected: 0,
        spacing,
        latest: Vec::new(),
    };
    let (mut pulled, mut fetched) =
        gather(&query, None).map_err(|why| Fault::host(format!("{why}; {} is as it was", run.display())))?;
    let file = run.join("graphite.csv");
    let before = Finished::open(run)?.tracks("graphite.csv")?;
    let kept = better_before(before, &fetched);
    if !kept.is_empty() {
        pulled.remarks.push(format!(
            "Graphite: {} series are kept as they were fetched before: they are not in this answer, or were finer then.",
            kept.len()
        ));
        pulled.json["remarks"] = json!(pulled.remarks);
        fetched.retain(|new| !kept.iter().any(|old| old.target == new.target));
        fetched.extend(kept);
    }
    replace(&file, &csv(&fetched))?;
    // What was sent stays known.
    let mut json = about["graphite"].as_object().cloned().unwrap_or_default();
    json.extend(pulled.json.as_object().cloned().unwrap_or_default());
    amend(&path, "graphite", json.into())?;
    Ok(pulled)
}

/// From when to when a run's series are fetched: a marker belongs to them, and as much time before it and behind the end as
/// `elapse align --marker` searches for it in the series of a sender whose clock is off.
pub(crate) fn span(start: u64, end: u64, marker: Option<f64>) -> (u64, u64) {
    /// Seconds: a minute, and some quiet beside the burst.
    const CLOCKS: u64 = 90;
    marker.map_or((start, end), |at| ((at as u64).saturating_sub(CLOCKS).min(start), end + CLOCKS))
}

/// The paths in a `metrics.csv`, none if there is none, and the seconds between the first two points of a path.
fn own_paths(path: &Path) -> Result<(Vec<String>, u64)> {
    if !path.exists() {
        return Ok((Vec::new(), 0));
    }
    let fault = |e: csv::Error| Fault::usage(format!("cannot read {}: {e}", path.display()));
    let mut reader = csv::Reader::from_path(path).map_err(fault)?;
    let mut paths: Vec<String> = Vec::new();
    let mut seen = rustc_hash::FxHashSet::<String>::default();
    let mut instants: Vec<u64> = Vec::new();
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(fault)? {
        let path = row.get(0).unwrap_or_default();
        if !seen.contains(path) {
            seen.insert(path.to_string());
            paths.push(path.to_string());
        }
        if instants.len() < 2 && paths.first().is_some_and(|first| first == path) {
            instants.extend(row.get(1).and_then(|at| at.parse::<u64>().ok()));
        }
    }
    let spacing = instants.windows(2).map(|w| w[1].saturating_sub(w[0])).next().unwrap_or(0);
    Ok((paths, spacing))
}
