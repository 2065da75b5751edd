//! Plots, drawn from sketches, counts and thinned-out series, never from the records one by one.

mod chart;
mod figures;

pub(super) use chart::font_rule;

use super::Summary;
use super::read::{Distribution, Finished, HeatRow, Track};
use crate::base::{Fault, Result};
use crate::metrics::PATHS;
use std::path::{Path, PathBuf};

/// A drawn plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its file, without `.svg`.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The picture, without the font: see [`Plot::standalone`].
    pub svg: String,
}

impl Plot {
    /// The picture as a file of its own, with its font inside.
    pub fn standalone(&self) -> String {
        chart::with_font(&self.svg)
    }

    /// The picture as pixels.
    ///
    /// # Errors
    /// Our bug, if it cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        chart::png(&self.svg).map_err(|e| undrawn(&*e))
    }
}

fn undrawn(why: &dyn std::fmt::Display) -> Fault {
    Fault::bug(format!("cannot draw the plots: {why}"))
}

/// Seconds since the start, and the workers' values added up.
type Row = (f64, [f64; PATHS.len()]);

/// What the plots need to know of a run.
#[derive(Default)]
struct Data {
    name: String,
    /// In words.
    start: String,
    start_unix: f64,
    /// Seconds.
    end: f64,
    latency: Distribution,
    start_delay: Distribution,
    points: Vec<Row>,
    capacity_mb: Option<f64>,
    heat: Vec<HeatRow>,
    graphite: Vec<Track>,
    /// Which of them the timeline shows: patterns.
    chosen: Vec<String>,
}

fn calendar(unix: f64) -> String {
    jiff::Timestamp::from_second(unix as i64).map_or("the start".into(), |t| t.to_string())
}

/// Draws the plots of a run that has just ended, with what was fetched from Graphite and is to be on the timeline.
///
/// # Errors
/// Our bug, if plotters cannot.
pub fn draw(summary: &Summary, graphite: Vec<Track>, chosen: &[String]) -> Result<Vec<Plot>> {
    let mut points: Vec<Row> = Vec::new();
    for worker in &summary.workers {
        for (i, (at, values)) in worker.series.points().enumerate() {
            match points.get_mut(i) {
                Some((_, sum)) => sum.iter_mut().zip(values).for_each(|(s, v)| *s += v),
                None => {
                    let mut row = [0.0; PATHS.len()];
                    row.copy_from_slice(&values[..PATHS.len()]);
                    points.push((at.as_secs_f64(), row));
                }
            }
        }
    }
    let capacity: Option<f64> =
        summary.workers.iter().map(|w| w.capacity.map(crate::base::Mem::as_mib_f64)).sum();
    let distribution = |sketch: &crate::metrics::Sketch| {
        Distribution(sketch.cumulative().into_iter().map(|(ns, n)| (ns as f64 / 1e6, n)).collect())
    };
    let start_unix = summary.facts.start_unix_ns as f64 / 1e9;
    draw_all(&Data {
        name: summary.facts.name.clone(),
        start: calendar(start_unix),
        start_unix,
        end: summary.facts.end.as_secs_f64(),
        latency: distribution(&summary.tally.latency),
        start_delay: distribution(&summary.tally.start_delay),
        points,
        capacity_mb: capacity,
        heat: super::tables::heat_rows(summary),
        graphite,
        chosen: chosen.to_vec(),
    })
}

fn draw_all(data: &Data) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    if data.points.len() > 1 {
        plots.push(figures::timeline(data));
    }
    if data.latency.count() > 0 {
        plots.push(figures::latency(data));
    }
    if data.points.len() > 1 {
        plots.push(figures::cold_starts(data));
        plots.push(figures::queue(data));
        plots.push(figures::memory(data));
    }
    if !data.heat.is_empty() {
        plots.push(figures::heat_map(data));
    }
    plots.into_iter().map(|plot| plot.map_err(|e| undrawn(&*e))).collect()
}

/// Draws the plots of a finished run from its files; `chosen` series of Graphite on the timeline.
///
/// # Errors
/// If the folder is not a run, or a file cannot be read.
pub fn redraw(run: &Finished, chosen: &[String]) -> Result<Vec<Plot>> {
    let mut distributions = run.distributions()?;
    let tracks = run.tracks("metrics.csv")?;
    let first = tracks.iter().filter_map(|t| t.points.first()).map(|p| p.0).fold(f64::MAX, f64::min);
    let start_unix = run.start().unwrap_or(first);
    let mut points: Vec<Row> = Vec::new();
    let mut row_of = rustc_hash::FxHashMap::default();
    for track in &tracks {
        // A worker's own, not those of one of its backends, of its host, or of the controller before it. What a run is called
        // says nothing.
        let mut parts = track.path.splitn(4, '.').skip(2);
        let (worker, name) = (parts.next(), parts.next().unwrap_or_default());
        let column = PATHS.iter().position(|p| p.name == name);
        let Some(column) = column.filter(|_| worker != Some("controller")) else { continue };
        for (at, value) in &track.points {
            let row = *row_of.entry(at.to_bits()).or_insert_with(|| {
                // Ticks are whole steps after the start, and Graphite's seconds are whole.
                points.push(((at - start_unix.floor()).max(0.0), [0.0; PATHS.len()]));
                points.len() - 1
            });
            points[row].1[column] += value.unwrap_or(0.0);
        }
    }
    let named: Vec<String> = run.run["plan"]["graphite"]["plot"]
        .as_array()
        .map(|list| list.iter().filter_map(|p| p.as_str().map(str::to_string)).collect())
        .unwrap_or_default();
    draw_all(&Data {
        name: run.name().to_string(),
        start: calendar(start_unix),
        start_unix,
        end: run.seconds(),
        latency: distributions.remove("latency_ms").unwrap_or_default(),
        start_delay: distributions.remove("start_delay_ms").unwrap_or_default(),
        points,
        capacity_mb: run.summary["memory_mb"]["capacity"].as_f64(),
        heat: run.heat()?,
        graphite: run.tracks("graphite.csv")?,
        chosen: if chosen.is_empty() { named } else { chosen.to_vec() },
    })
}

/// The latencies of several runs in one picture.
///
/// # Errors
/// If a run's distributions cannot be read.
pub fn together(runs: &[(String, Finished)]) -> Result<Plot> {
    let mut all = Vec::new();
    for (name, run) in runs {
        let latency = run.distributions()?.remove("latency_ms").unwrap_or_default();
        all.push((name.clone(), latency));
    }
    let lines: Vec<(String, &Distribution)> = all.iter().map(|(n, d)| (n.clone(), d)).collect();
    let svg = figures::cdfs("latency of invocations", &lines).map_err(|e| undrawn(&*e))?;
    Ok(Plot { name: "latency-cdfs", title: "Distributions of latency".into(), svg })
}

/// The latencies of two sides in one picture.
///
/// # Errors
/// Our bug, if it cannot be drawn.
pub fn both(names: &[String; 2], latencies: &[Distribution; 2]) -> Result<Plot> {
    let lines: Vec<(String, &Distribution)> = names.iter().cloned().zip(latencies).collect();
    let svg = figures::cdfs("latency of invocations", &lines).map_err(|e| undrawn(&*e))?;
    Ok(Plot { name: "latency-cdfs", title: "Distributions of latency".into(), svg })
}

/// Writes plots into a folder as SVG, and as PNG if wanted; returns the paths.
///
/// # Errors
/// If a file cannot be written.
pub fn save(folder: &Path, plots: &[Plot], with_png: bool) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(|e| Fault::writing(folder, &e))?;
    let mut paths = Vec::new();
    for plot in plots {
        let mut put = |ending: &str, bytes: &[u8]| {
            let path = folder.join(format!("{}.{ending}", plot.name));
            super::replace(&path, bytes).map(|()| paths.push(path))
        };
        put("svg", plot.standalone().as_bytes())?;
        if with_png {
            put("png", &plot.png()?)?;
        }
    }
    Ok(paths)
}
