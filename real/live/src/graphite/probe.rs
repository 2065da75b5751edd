//! Finds out by experiment what a Graphite keeps of a path: no part of its interface tells.

use super::{Client, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Points of one step, kept for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Seconds between points.
    pub step: u64,
    /// Seconds that they are kept.
    pub retention: u64,
}

/// What a Graphite keeps of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Until a point could be read.
    pub readable_after: Duration,
    /// The finest first.
    pub archives: Vec<Archive>,
    /// How points of the finest archive become one of the next: average, sum, last, max, min, or what was seen.
    pub aggregation: Option<String>,
}

const LOOK: Duration = Duration::from_millis(100);
/// No Graphite keeps points for longer.
const LONGEST: u64 = 30 * 365 * 86_400;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Sends a point of this path and waits until it can be read; its step, and how long that took.
///
/// # Errors
/// Why it could not be read within `limit`.
pub fn step_of(
    sender: &Sender,
    client: &Client,
    path: &str,
    limit: Duration,
) -> Result<(u64, Duration), String> {
    let begun = Instant::now();
    let paths: Arc<[String]> = Arc::from([path.to_string()]);
    let at = now();
    sender.offer(&paths, at, vec![1.0]);
    loop {
        let seen = client.render(&[path.to_string()], at.saturating_sub(600), at + 1)?;
        if let Some(series) = seen.iter().find(|s| s.points.iter().any(|p| p.1.is_some())) {
            return Ok((series.step.max(1), begun.elapsed()));
        }
        if begun.elapsed() > limit {
            let why = sender.report().fault.map_or(String::new(), |why| format!(" ({why})"));
            return Err(format!(
                "a point sent to carbon could not be read at {} within {} s{why}",
                client.url(),
                limit.as_secs()
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// Finds out what is kept of `path`, of which it sends four points.
///
/// # Errors
/// Why nothing could be found out.
pub fn probe(sender: &Sender, client: &Client, path: &str, limit: Duration) -> Result<Probe, String> {
    let (_, readable_after) = step_of(sender, client, path, limit)?;
    let archives = archives(client, path)?;
    let aggregation = match archives.as_slice() {
        [finest, next, ..] => aggregation(sender, client, path, *finest, *next, limit)?,
        _ => None,
    };
    Ok(Probe { readable_after, archives, aggregation })
}

/// The step of what is answered of so many seconds ago; `None` where nothing is kept.
fn step_at(client: &Client, path: &str, ago: u64) -> Result<Option<u64>, String> {
    let from = now().saturating_sub(ago);
    let series = client.render(&[path.to_string()], from, from + (ago / 50).max(300))?;
    // Whoever asks for more than is kept is given what is kept.
    let whole = |s: &&super::Fetched| s.points.first().is_some_and(|p| p.0 <= from + 2 * s.step);
    Ok(series.first().filter(whole).map(|s| s.step).filter(|s| *s > 0))
}

fn archives(client: &Client, path: &str) -> Result<Vec<Archive>, String> {
    let mut archives = Vec::new();
    let mut step = step_at(client, path, 30)?;
    let mut ago = 30;
    while let Some(finest) = step {
        // The longest time ago at which the answer still has this step.
        let (mut low, mut high) = (ago, LONGEST);
        while high - low > finest {
            let middle = low + (high - low) / 2;
            if step_at(client, path, middle)? == Some(finest) { low = middle } else { high = middle }
        }
        archives.push(Archive { step: finest, retention: rounded(low, finest) });
        ago = high + finest;
        step = step_at(client, path, ago)?.filter(|s| *s > finest);
    }
    Ok(archives)
}

/// Boundaries are met to within a step, and people choose round ones.
fn rounded(seconds: u64, step: u64) -> u64 {
    for unit in [86_400, 3600, 60] {
        let round = (seconds + unit / 2) / unit * unit;
        if round > 0 && round.abs_diff(seconds) <= 3 * step {
            return round;
        }
    }
    seconds
}

/// Puts 1, 5 and 2 where the next archive has one point, and reads that.
fn aggregation(
    sender: &Sender,
    client: &Client,
    path: &str,
    finest: Archive,
    next: Archive,
    limit: Duration,
) -> Result<Option<String>, String> {
    if next.step < 3 * finest.step {
        return Ok(None);
    }
    let paths: Arc<[String]> = Arc::from([path.to_string()]);
    let slot = (now() / next.step).saturating_sub(2) * next.step;
    if now() - slot > finest.retention {
        return Ok(None);
    }
    for (i, value) in [1.0, 5.0, 2.0].into_iter().enumerate() {
        sender.offer(&paths, slot + i as u64 * finest.step, vec![value]);
    }
    let begun = Instant::now();
    let mut seen;
    loop {
        let from = now().saturating_sub(finest.retention + 2 * next.step);
        let series = client.render(&[path.to_string()], from, now())?;
        let points = series.iter().filter(|s| s.step == next.step).flat_map(|s| &s.points);
        seen = points.filter(|p| p.0 == slot).find_map(|p| p.1);
        let named = match seen {
            Some(v) if (v - 8.0 / 3.0).abs() < 1e-9 => "average",
            Some(8.0) => "sum",
            Some(2.0) => "last",
            Some(5.0) => "max",
            Some(1.0) => "min",
            _ => "",
        };
        // What is still in carbon's cache is merged in its own way; the file has the last word.
        if begun.elapsed() > Duration::from_secs(2) && !named.is_empty() {
            return Ok(Some(named.to_string()));
        }
        if begun.elapsed() > limit {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(Some(match seen {
        Some(value) => format!("something that makes {value} of 1, 5 and 2"),
        None => format!(
            "nothing: 3 points of {} are too few for its xFilesFactor",
            next.step / finest.step.max(1)
        ),
    }))
}

/// Sends a point of `n` new series below `prefix`; how many of them could be found, and after how long.
///
/// # Errors
/// Why Graphite did not answer.
pub fn creations(
    sender: &Sender,
    client: &Client,
    prefix: &str,
    n: usize,
    limit: Duration,
) -> Result<(usize, Duration), String> {
    let paths: Arc<[String]> = (0..n).map(|i| format!("{prefix}.p{i:03}")).collect();
    sender.offer(&paths, now(), vec![1.0; n]);
    let begun = Instant::now();
    loop {
        let found = client.find(&format!("{prefix}.*"))?.len();
        if found >= n || begun.elapsed() > limit {
            return Ok((found, begun.elapsed()));
        }
        std::thread::sleep(LOOK);
    }
}
