//! Plots and the page of a run, drawn from sketches, counts and thinned-out series, never from the records one by one.

#![forbid(unsafe_code)]

mod chart;
mod distributions;
mod fonts;
mod geometry;
mod heat_map;
mod html;
mod over_time;
#[cfg(feature = "png")]
mod pixels;

pub use fonts::check_font;
#[cfg(not(feature = "png"))]
pub use fonts::outlined;
#[cfg(feature = "png")]
pub use pixels::outlined;

use crate::base::{Fault, Result};
use crate::metrics::PATHS;
use elapse_core::{base, metrics};
use elapse_report::{Distribution, Finished, HeatRow, Summary, Track, replace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A drawn plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its file, without `.svg`.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The picture, with its title and without the font: see [`Plot::standalone`].
    pub svg: String,
}

impl Plot {
    fn new(name: &'static str, title: String, svg: &str) -> Plot {
        Plot { name, svg: titled(svg, &title), title }
    }

    /// The picture as a file of its own, with its font inside.
    pub fn standalone(&self) -> String {
        fonts::with_font(&self.svg)
    }

    /// The picture as pixels, or our bug if it cannot be drawn; none where PNG is not built in (the feature `png`).
    #[cfg(feature = "png")]
    pub fn png(&self) -> Option<Result<Vec<u8>>> {
        Some(pixels::png(&self.svg).map_err(|e| undrawn(&*e)))
    }

    /// The picture as pixels: none, as PNG is not built in (the feature `png`).
    #[cfg(not(feature = "png"))]
    pub fn png(&self) -> Option<Result<Vec<u8>>> {
        None
    }
}

/// A picture that says that it is one, and of what, to who does not see it.
fn titled(svg: &str, title: &str) -> String {
    let Some((head, rest)) = svg.find('>').map(|at| svg.split_at(at)) else { return svg.to_string() };
    format!("{head} role=\"img\"><title>{}</title>{}", html::escape(title), &rest[1..])
}

/// A whole number with its thousands apart.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn undrawn(why: &dyn std::fmt::Display) -> Fault {
    Fault::bug(format!("cannot draw the plots: {why}"))
}

/// The values of an instant, in the order of the paths.
type Values = [f64; PATHS.len()];

/// What the plots need to know of a run.
#[derive(Default)]
struct Data {
    name: String,
    clock: Clock,
    start_unix: f64,
    /// Seconds.
    end: f64,
    latency: Distribution,
    start_delay: Distribution,
    /// Seconds since the start, and the workers' values added up.
    points: Vec<(f64, Values)>,
    workers: usize,
    capacity_mb: Option<f64>,
    peak_used_mb: Option<f64>,
    invocations: u64,
    functions: u64,
    heat: Vec<HeatRow>,
    graphite: Vec<Track>,
    /// Which of them the timeline shows: patterns.
    chosen: Vec<String>,
}

/// What a run's axis of time counts from.
#[derive(Clone, Debug, Default)]
struct Clock {
    /// In words.
    since: String,
    /// What the clock shows at the run's time 0, in seconds.
    offset: f64,
}

impl Clock {
    /// From what `run.json` says of the clock; the calendar, where it says nothing.
    fn of(clock: &serde_json::Value, start_unix: f64) -> Clock {
        match clock["offset_seconds"].as_f64() {
            Some(offset) => {
                let since = clock["since"].as_str().unwrap_or("the start").to_string();
                Clock { since, offset }
            }
            None => Clock { since: calendar(start_unix), offset: 0.0 },
        }
    }
}

impl Data {
    /// By what seconds are divided on the axis of time, into which unit, and what the axis says.
    fn axis(&self) -> (f64, &'static str, String) {
        let (scale, unit) = chart::time_unit(self.end);
        (scale, unit, format!("{unit} since {}", self.clock.since))
    }

    /// The figures that stand in `summary.json`.
    fn with_summary(mut self, summary: &serde_json::Value) -> Data {
        let number = |key: &str| summary[key].as_u64().unwrap_or(0);
        (self.invocations, self.functions) = (number("invocations"), number("functions"));
        self.capacity_mb = summary["memory_mb"]["capacity"].as_f64();
        self.peak_used_mb = summary["memory_mb"]["peak_used"].as_f64();
        self
    }
}

fn calendar(unix: f64) -> String {
    jiff::Timestamp::from_second(unix as i64).map_or("the start".into(), |t| t.to_string())
}

/// The values of several workers added up, by whole seconds since the start.
#[derive(Default)]
struct Rows(BTreeMap<u64, Values>);

impl Rows {
    /// Adds what one worker told: `put` adds a point's values to those of its second.
    fn add<T>(&mut self, points: impl Iterator<Item = (u64, T)>, put: impl Fn(&mut Values, T)) {
        for (second, values) in last_of_each(points) {
            put(self.0.entry(second).or_insert([0.0; PATHS.len()]), values);
        }
    }

    fn into_points(self) -> Vec<(f64, Values)> {
        self.0.into_iter().map(|(second, values)| (second as f64, values)).collect()
    }
}

/// Of the points of one second the last.
fn last_of_each<T>(points: impl Iterator<Item = (u64, T)>) -> impl Iterator<Item = (u64, T)> {
    let mut points = points.peekable();
    std::iter::from_fn(move || {
        loop {
            let point = points.next()?;
            if points.peek().is_none_or(|next| next.0 > point.0) {
                return Some(point);
            }
        }
    })
}

/// Draws the plots of a run that has just ended, with what was fetched from Graphite and is to be on the timeline.
///
/// # Errors
/// A font that cannot be read; our bug, if plotters cannot draw.
pub fn draw(summary: &Summary, graphite: Vec<Track>, chosen: &[String]) -> Result<Vec<Plot>> {
    const SECOND: u64 = 1_000_000_000;
    let start = summary.facts.start_unix_ns;
    let mut rows = Rows::default();
    for worker in &summary.workers {
        // Whole seconds of the calendar, as metrics.csv has them.
        let second = |at: u64| (start + at) / SECOND - start / SECOND;
        let points = worker.series.points().map(|(at, values)| (second(at.0), values));
        rows.add(points, |sum, values| sum.iter_mut().zip(values).for_each(|(s, v)| *s += v));
    }
    let distribution = |sketch: &crate::metrics::Sketch| {
        Distribution(sketch.cumulative().into_iter().map(|(ns, n)| (ns as f64 / 1e6, n)).collect())
    };
    let start_unix = start as f64 / 1e9;
    let data = Data {
        name: summary.facts.name.clone(),
        clock: Clock::of(&summary.facts.setup.clock.json(), start_unix),
        start_unix,
        end: summary.facts.end.as_secs_f64(),
        latency: distribution(&summary.tally.latency),
        start_delay: distribution(&summary.tally.start_delay),
        points: rows.into_points(),
        workers: summary.workers.len(),
        heat: elapse_report::heat_rows(summary),
        graphite,
        chosen: chosen.to_vec(),
        ..Data::default()
    };
    let plots = draw_all(&data.with_summary(&summary.json()))?;
    match &summary.facts.setup.font {
        Some(font) => outlined(plots, font),
        None => Ok(plots),
    }
}

fn draw_all(data: &Data) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    if data.points.len() > 1 {
        plots.push(over_time::timeline(data));
    }
    if data.latency.count() > 0 {
        plots.push(distributions::latency(data));
    }
    if data.points.len() > 1 {
        plots.push(over_time::cold_starts(data));
        plots.push(over_time::queue(data));
        plots.push(over_time::memory(data));
    }
    if !data.heat.is_empty() {
        plots.push(heat_map::heat_map(data));
    }
    plots.into_iter().map(|plot| plot.map_err(|e| undrawn(&*e))).collect()
}

/// Draws the plots of a finished run from its files; `chosen` series of Graphite on the timeline. Names are drawn with the
/// font that its plan names, where that is still there.
///
/// # Errors
/// If the folder is not a run, or a file cannot be read.
pub fn redraw(run: &Finished, chosen: &[String]) -> Result<Vec<Plot>> {
    let mut distributions = run.distributions()?;
    let tracks = run.tracks("metrics.csv")?;
    let first = tracks.iter().filter_map(|t| t.points.first()).map(|p| p.0).fold(f64::MAX, f64::min);
    let start_unix = run.start().unwrap_or(first);
    let mut rows = Rows::default();
    let mut workers = std::collections::BTreeSet::new();
    for track in &tracks {
        // A worker's own, not those of one of its backends, of its host, or of the controller before it. What a run is called
        // says nothing.
        let mut parts = track.path.splitn(4, '.').skip(2);
        let (worker, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let column = PATHS.iter().position(|p| p.name == name);
        let Some(column) = column.filter(|_| worker != "controller") else { continue };
        workers.insert(worker);
        // Ticks are whole steps after the start, and Graphite's seconds are whole.
        let second = |at: f64| (at - start_unix.floor()).max(0.0) as u64;
        let points = track.points.iter().map(|(at, value)| (second(*at), value.unwrap_or(0.0)));
        rows.add(points, |sum, value| sum[column] += value);
    }
    let plan = &run.run["plan"];
    let named: Vec<String> = plan["graphite"]["plot"]
        .as_array()
        .map(|list| list.iter().filter_map(|p| p.as_str().map(str::to_string)).collect())
        .unwrap_or_default();
    let data = Data {
        name: run.name().to_string(),
        clock: Clock::of(&run.run["clock"], start_unix),
        start_unix,
        end: run.seconds(),
        latency: distributions.remove("latency_ms").unwrap_or_default(),
        start_delay: distributions.remove("start_delay_ms").unwrap_or_default(),
        points: rows.into_points(),
        workers: workers.len(),
        heat: run.heat()?,
        graphite: run.tracks("graphite.csv")?,
        chosen: if chosen.is_empty() { named } else { chosen.to_vec() },
        ..Data::default()
    };
    let plots = draw_all(&data.with_summary(&run.summary))?;
    match plan["plots"]["font"].as_str().map(Path::new).filter(|font| font.exists()) {
        Some(font) => outlined(plots, font),
        None => Ok(plots),
    }
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
    let svg = distributions::cdfs("latency of invocations", &lines).map_err(|e| undrawn(&*e))?;
    Ok(Plot::new("latency-cdfs", "Distributions of latency".into(), &svg))
}

/// The latencies of two sides in one picture.
///
/// # Errors
/// Our bug, if it cannot be drawn.
pub fn both(names: &[String; 2], latencies: &[Distribution; 2]) -> Result<Plot> {
    let lines: Vec<(String, &Distribution)> = names.iter().cloned().zip(latencies).collect();
    let svg = distributions::cdfs("latency of invocations", &lines).map_err(|e| undrawn(&*e))?;
    Ok(Plot::new("latency-cdfs", "Distributions of latency".into(), &svg))
}

/// Writes plots into a folder as SVG, and as PNG if wanted and built (the feature `png`); returns the paths.
///
/// # Errors
/// If a file cannot be written.
pub fn save(folder: &Path, plots: &[Plot], with_png: bool) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(|e| Fault::writing(folder, &e))?;
    if let Some(note) = fonts::note(plots) {
        tracing::warn!(target: "elapse", "{note}");
    }
    let mut paths = Vec::new();
    for plot in plots {
        let mut put = |ending: &str, bytes: &[u8]| {
            let path = folder.join(format!("{}.{ending}", plot.name));
            replace(&path, bytes).map(|()| paths.push(path))
        };
        put("svg", plot.standalone().as_bytes())?;
        if with_png && let Some(pixels) = plot.png() {
            put("png", &pixels?)?;
        }
    }
    Ok(paths)
}

/// Writes the plots (as PNG too, if wanted) and the page into a finished run's folder; returns the paths.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write_plots(folder: &Path, plots: &[Plot], with_png: bool) -> Result<Vec<PathBuf>> {
    let run = Finished::open(folder)?.run;
    write_plots_of(folder, &run, plots, with_png)
}

/// The same in the folder of a run whose `run.json` is not written yet: this is what it will say.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write_plots_of(
    folder: &Path,
    run: &serde_json::Value,
    plots: &[Plot],
    with_png: bool,
) -> Result<Vec<PathBuf>> {
    let mut paths = save(&folder.join("plots"), plots, with_png)?;
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|e| Fault::reading(&path, &e))
    };
    let summary = serde_json::from_str(&read("summary.json")?)
        .map_err(|e| Fault::usage(format!("cannot read {}/summary.json: {e}", folder.display())))?;
    let page = folder.join("report.html");
    let text = html::page(folder, run, &summary, &read("methods.txt")?, plots)?;
    replace(&page, text.as_bytes())?;
    paths.push(page);
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::last_of_each;

    #[test]
    fn the_last_point_of_a_second_holds() {
        let points = [(1, 'a'), (2, 'b'), (2, 'c'), (4, 'd')];
        assert_eq!(last_of_each(points.into_iter()).collect::<Vec<_>>(), [(1, 'a'), (2, 'c'), (4, 'd')]);
    }
}
