//! Plots, drawn from sketches and decimated series, never from the records one by one.
//!
//! Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; the font travels with the plot.

use super::Summary;
use crate::base::{Fault, Result};
use crate::metrics::{PATHS, Sketch, Snapshot};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::error::Error;
use std::path::Path;
use std::sync::Once;

/// A drawn plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its file, without `.svg`.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The picture.
    pub svg: String,
}

const SIZE: (u32, u32) = (880, 460);
const FONT: &str = "Open Sans";
static FONT_FILE: &[u8] = include_bytes!("font/OpenSans-Regular.ttf");

const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const VERMILION: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(110, 110, 110);
/// Points of a line; more cannot be told apart on paper.
const POINTS: usize = 600;

/// What the plots need to know of a run.
struct Data {
    name: String,
    latency: Sketch,
    start_delay: Sketch,
    /// Seconds since the start, and the workers' snapshots added up.
    points: Vec<(f64, [f64; PATHS.len()])>,
    capacity_mb: Option<f64>,
}

/// Draws the plots of a run.
///
/// # Errors
/// If plotters cannot.
pub fn draw(summary: &Summary) -> std::result::Result<Vec<Plot>, Box<dyn Error>> {
    let mut points: Vec<(f64, [f64; PATHS.len()])> = Vec::new();
    for worker in &summary.workers {
        for (i, (at, values)) in worker.series.points().enumerate() {
            match points.get_mut(i) {
                Some((_, sum)) => sum.iter_mut().zip(values).for_each(|(s, v)| *s += v),
                None => points.push((at.as_secs_f64(), *values)),
            }
        }
    }
    let capacity: Option<f64> =
        summary.workers.iter().map(|w| w.capacity.map(crate::base::Mem::as_mib_f64)).sum();
    draw_all(&Data {
        name: summary.facts.name.clone(),
        latency: summary.tally.latency.clone(),
        start_delay: summary.tally.start_delay.clone(),
        points,
        capacity_mb: capacity,
    })
}

fn draw_all(data: &Data) -> std::result::Result<Vec<Plot>, Box<dyn Error>> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let _ = register_font(FONT, FontStyle::Normal, FONT_FILE);
        let _ = register_font("sans-serif", FontStyle::Normal, FONT_FILE);
    });
    let mut plots = Vec::new();
    if data.latency.count() > 0 {
        plots.push(latency_cdf(data)?);
    }
    if data.points.len() > 1 {
        plots.push(cold_starts_and_queue(data)?);
        plots.push(memory(data)?);
    }
    Ok(plots)
}

/// A line with its name and colour.
struct Line {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
    filled: bool,
}

struct Axes<'a> {
    title: &'a str,
    x: String,
    y: &'a str,
    x_range: (f64, f64),
    log_x: bool,
    y_range: (f64, f64),
    legend: SeriesLabelPosition,
}

/// The unit that makes a span of seconds readable.
fn time_unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s > 2.0 * 86_400.0 => (86_400.0, "days"),
        s if s > 3.0 * 3600.0 => (3600.0, "hours"),
        s if s > 300.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
}

fn label(x: f64) -> String {
    let magnitude = x.abs();
    let (value, suffix) = match magnitude {
        m if m >= 1e9 => (x / 1e9, "G"),
        m if m >= 1e6 => (x / 1e6, "M"),
        m if m >= 1e4 => (x / 1e3, "k"),
        _ => (x, ""),
    };
    format!("{}{suffix}", super::tables::short((value * 1000.0).round() / 1000.0))
}

fn chart(axes: &Axes<'_>, lines: &[Line]) -> std::result::Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let text = |size: i32| (FONT, size).into_font().color(&RGBColor(40, 40, 40));
        let mut builder = ChartBuilder::on(&area);
        builder
            .margin(14)
            .margin_right(26)
            .caption(axes.title, text(19))
            .x_label_area_size(48)
            .y_label_area_size(72);
        let y = axes.y_range.0..axes.y_range.1;
        macro_rules! draw_on {
            ($x:expr) => {{
                let mut chart = builder.build_cartesian_2d($x, y)?;
                chart
                    .configure_mesh()
                    .light_line_style(WHITE)
                    .bold_line_style(RGBColor(225, 225, 225))
                    .axis_style(GREY)
                    .label_style(text(13))
                    .axis_desc_style(text(15))
                    .x_desc(axes.x.as_str())
                    .y_desc(axes.y)
                    .x_labels(8)
                    .x_label_formatter(&|x| label(*x))
                    .y_label_formatter(&|y| label(*y))
                    .draw()?;
                for line in lines {
                    let colour = line.colour;
                    if line.filled {
                        chart.draw_series(AreaSeries::new(
                            line.points.iter().copied(),
                            0.0,
                            colour.mix(0.25),
                        ))?;
                    }
                    chart
                        .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
                        .label(format!("{}   ", line.name))
                        .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 18, y + 4)], colour.filled()));
                }
                if lines.len() > 1 {
                    chart
                        .configure_series_labels()
                        .position(axes.legend.clone())
                        .background_style(WHITE.mix(0.85))
                        .border_style(RGBColor(200, 200, 200))
                        .label_font(text(14))
                        .margin(12)
                        .draw()?;
                }
            }};
        }
        let (low, high) = axes.x_range;
        if axes.log_x {
            draw_on!((low..high).log_scale());
        } else {
            draw_on!(low..high);
        }
        area.present()?;
    }
    Ok(with_font(&svg))
}

/// Embeds the font, so that the picture is the same everywhere.
fn with_font(svg: &str) -> String {
    let style = format!(
        "<style>@font-face{{font-family:\"{FONT}\";src:url(data:font/ttf;base64,{}) format(\"truetype\")}}</style>",
        base64(FONT_FILE)
    );
    match svg.find('>') {
        Some(end) => format!("{}\n{style}{}", &svg[..=end], &svg[end + 1..]),
        None => svg.to_string(),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |w, (i, b)| w | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

fn latency_cdf(data: &Data) -> std::result::Result<Plot, Box<dyn Error>> {
    let line = |name, colour, sketch: &Sketch| {
        // On a logarithmic axis zero has no place: what did not wait at all stands at the left edge.
        let mut points: Vec<(f64, f64)> = sketch
            .cumulative()
            .iter()
            .map(|(ns, share)| ((*ns as f64 / 1e6).max(0.1), share * 100.0))
            .collect();
        if let Some(first) = points.first().copied() {
            points.insert(0, (first.0, 0.0));
        }
        Line { name, colour, points, filled: false }
    };
    let lines =
        [line("latency", BLUE, &data.latency), line("of it before execution", VERMILION, &data.start_delay)];
    let high = (data.latency.max() as f64 / 1e6).max(1.0) * 1.15;
    let title = format!("{}: latency of invocations", data.name);
    let axes = Axes {
        title: &title,
        x: "milliseconds (logarithmic)".into(),
        y: "share of invocations, %",
        x_range: (0.1, high),
        log_x: true,
        y_range: (0.0, 101.0),
        legend: SeriesLabelPosition::LowerRight,
    };
    Ok(Plot { name: "latency-cdf", svg: chart(&axes, &lines)?, title: "Distribution of latency".into() })
}

/// Averages points so that a line has few enough of them.
fn thin(points: impl Iterator<Item = (f64, f64)>, n: usize) -> Vec<(f64, f64)> {
    let points: Vec<_> = points.collect();
    let each = points.len().div_ceil(n).max(1);
    points.chunks(each).map(|c| (c[0].0, c.iter().map(|p| p.1).sum::<f64>() / c.len() as f64)).collect()
}

/// Differences of a total over equal steps, per minute.
fn per_minute(points: &[(f64, [f64; PATHS.len()])], path: usize) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS / 2).max(1);
    let kept: Vec<_> = points.iter().step_by(each).map(|(t, v)| (*t, v[path])).collect();
    kept.windows(2).map(|w| (w[1].0, (w[1].1 - w[0].1) / ((w[1].0 - w[0].0) / 60.0).max(1e-9))).collect()
}

fn highest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|l| l.points.iter().map(|p| p.1)).fold(0.0, f64::max)
}

fn over_time(
    data: &Data,
    name: &'static str,
    title: &str,
    y: &str,
    mut lines: Vec<Line>,
) -> std::result::Result<Plot, Box<dyn Error>> {
    let end = data.points.last().map_or(1.0, |p| p.0);
    let (scale, unit) = time_unit(end);
    lines.iter_mut().for_each(|l| l.points.iter_mut().for_each(|p| p.0 /= scale));
    let caption = format!("{}: {title}", data.name);
    let axes = Axes {
        title: &caption,
        x: format!("{unit} since the start"),
        y,
        x_range: (0.0, end / scale),
        log_x: false,
        y_range: (0.0, (highest(&lines) * 1.3).max(1.0)),
        legend: SeriesLabelPosition::UpperRight,
    };
    Ok(Plot { name, title: title.to_string(), svg: chart(&axes, &lines)? })
}

fn cold_starts_and_queue(data: &Data) -> std::result::Result<Plot, Box<dyn Error>> {
    let index = Snapshot::INDEX;
    let queue = thin(data.points.iter().map(|(t, v)| (*t, v[index.queue_length])), POINTS);
    let lines = vec![
        Line {
            name: "cold starts per minute",
            colour: VERMILION,
            points: per_minute(&data.points, index.cold_starts),
            filled: true,
        },
        Line { name: "queue length", colour: BLUE, points: queue, filled: false },
    ];
    over_time(
        data,
        "cold-starts-and-queue",
        "cold starts and queue",
        "cold starts per minute, invocations in queue",
        lines,
    )
}

fn memory(data: &Data) -> std::result::Result<Plot, Box<dyn Error>> {
    let index = Snapshot::INDEX;
    let gb = |path: usize| thin(data.points.iter().map(|(t, v)| (*t, v[path] / 1024.0)), POINTS);
    let mut lines = vec![
        Line { name: "cached", colour: GREEN, points: gb(index.memory_cached_mb), filled: true },
        Line { name: "running", colour: BLUE, points: gb(index.memory_running_mb), filled: true },
    ];
    let end = data.points.last().map_or(1.0, |p| p.0);
    // A limit far above what is used would flatten everything else.
    if let Some(limit) = data.capacity_mb.map(|mb| mb / 1024.0).filter(|gb| *gb < 2.0 * highest(&lines)) {
        lines.push(Line {
            name: "capacity",
            colour: GREY,
            points: vec![(0.0, limit), (end, limit)],
            filled: false,
        });
    }
    over_time(data, "memory", "memory of running and of cached containers", "GiB", lines)
}

/// Draws the plots of a finished run from its files.
pub(super) fn redraw(run: &Path) -> Result<Vec<Plot>> {
    let read = |name: &str| {
        let path = run.join(name);
        std::fs::File::open(&path)
            .map_err(|e| Fault::reading(&path, &e))
            .map(|f| (path, std::io::BufReader::new(f)))
    };
    let (path, file) = read("summary.json")?;
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        Fault::usage(format!("cannot read {}: {why}; is it an Elapse run?", path.display()))
    };
    let summary: serde_json::Value = serde_json::from_reader(file).map_err(|e| bad(&path, &e))?;
    let mut points: Vec<(f64, [f64; PATHS.len()])> = Vec::new();
    let (path, file) = read("metrics.csv")?;
    let mut row_of = rustc_hash::FxHashMap::default();
    let mut first = None;
    for row in csv::Reader::from_reader(file).into_deserialize::<(String, f64, f64)>() {
        let (name, at, value) = row.map_err(|e| bad(&path, &e))?;
        let Some(column) = PATHS.iter().position(|p| name.rsplit('.').next() == Some(p.name)) else {
            continue;
        };
        let start = *first.get_or_insert(at);
        let row = *row_of.entry(at.to_bits()).or_insert_with(|| {
            points.push((at - start, [0.0; PATHS.len()]));
            points.len() - 1
        });
        points[row].1[column] += value;
    }
    let (latency, start_delay) = match run.join("records.csv").exists() {
        true => latencies(&run.join("records.csv"))?,
        false => Default::default(),
    };
    let data = Data {
        name: summary["name"].as_str().unwrap_or("run").to_string(),
        latency,
        start_delay,
        points,
        capacity_mb: summary["memory_mb"]["capacity"].as_f64(),
    };
    draw_all(&data).map_err(|e| Fault::bug(format!("cannot draw the plots: {e}")))
}

fn latencies(path: &Path) -> Result<(Sketch, Sketch)> {
    let mut reader = csv::Reader::from_path(path)
        .map_err(|e| Fault::usage(format!("cannot read {}: {e}", path.display())))?;
    let bad = |e: &dyn std::fmt::Display| Fault::usage(format!("cannot read {}: {e}", path.display()));
    let header = reader.headers().map_err(|e| bad(&e))?.clone();
    let column = |name: &str| {
        header.iter().position(|h| h == name).ok_or_else(|| bad(&format!("there is no column {name}")))
    };
    let (start, end, back) = (column("exec_start_ns")?, column("exec_end_ns")?, column("return_ns")?);
    let (mut latency, mut delay) = (Sketch::default(), Sketch::default());
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).map_err(|e| bad(&e))? {
        let number = |i: usize| crate::base::decimal(row.get(i).unwrap_or_default(), 1).ok();
        if let Some(ns) = number(start) {
            delay.add(ns);
        }
        if let (Some(_), Some(ns)) = (number(end), number(back)) {
            latency.add(ns);
        }
    }
    Ok((latency, delay))
}
