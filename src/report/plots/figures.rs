//! The figures: which lines on which axes.

use super::Data;
use super::chart::{
    BLUE, COLOURS, Drawn, GREEN, GREY, Legend, Line, Panel, VERMILION, highest, label, panel, picture, text,
    time_unit,
};
use super::{Plot, Row};
use crate::metrics::{Kind, Snapshot, path_of};
use crate::report::pattern::matches;
use crate::report::read::{Distribution, HeatRow, Track};
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;

const SIZE: (u32, u32) = (880, 460);
/// Points of a line; more cannot be told apart on paper.
const POINTS: usize = 600;
/// Series of Graphite on the timeline, where nobody chose.
const SERIES: usize = 4;
/// And at most, whatever was chosen: each is a panel.
const MOST: usize = 16;
/// Functions on the heat map.
const ROWS: usize = 40;

/// A line of a distribution. On a logarithmic axis zero has no place: what took nothing stands at the left edge.
fn distribution(name: &str, colour: RGBColor, values: &Distribution, left: f64) -> Line {
    let n = values.count().max(1) as f64;
    let mut points: Vec<(f64, f64)> = vec![];
    for (value, count) in &values.0 {
        points.push((value.max(left), *count as f64 / n * 100.0));
    }
    if let Some(first) = points.first().copied() {
        points.insert(0, (first.0, 0.0));
    }
    Line::new(name, colour, points)
}

/// Where a logarithmic axis of milliseconds begins: at the power of ten below all but the quickest, and at a tenth where some
/// take nothing.
fn left_of(all: &[(String, &Distribution)]) -> f64 {
    const NOTHING: f64 = 0.1;
    const LEAST: f64 = 1e-4;
    let quick = all.iter().filter_map(|(_, d)| d.quantile(0.001)).map(|x| if x > 0.0 { x } else { NOTHING });
    let quick = quick.fold(f64::INFINITY, f64::min);
    if quick.is_finite() { 10f64.powf(quick.log10().floor()).max(LEAST) } else { NOTHING }
}

/// Distribution functions of times in ms, each with its name.
pub(super) fn cdfs(title: &str, all: &[(String, &Distribution)]) -> Drawn<String> {
    let left = left_of(all);
    let lines: Vec<Line> = all
        .iter()
        .enumerate()
        .map(|(i, (name, values))| {
            // Where the colours are used up they come again, dashed.
            let line = distribution(name, COLOURS[i % COLOURS.len()], values, left);
            Line { dashed: i / COLOURS.len() % 2 == 1, ..line }
        })
        .collect();
    let high = all.iter().filter_map(|(_, d)| d.0.last()).map(|p| p.0).fold(1.0, f64::max) * 1.15;
    picture(SIZE, |area| {
        panel(
            area,
            &Panel {
                title,
                x: "milliseconds (logarithmic)",
                y: "share of invocations, %",
                x_range: (left, high),
                log_x: true,
                y_range: (0.0, 101.0),
                legend: Legend::Inside(SeriesLabelPosition::LowerRight),
                lines: &lines,
            },
        )
    })
}

pub(super) fn latency(data: &Data) -> Drawn<Plot> {
    let before = &data.start_delay;
    let mut name = "before execution".to_string();
    // What takes nothing has no place on the axis.
    let at_once = before.0.iter().take_while(|(ms, _)| *ms <= 0.0).last().map_or(0, |(_, count)| *count);
    let share = (at_once as f64 / before.count().max(1) as f64 * 100.0).round();
    if share > 0.0 {
        name += &format!(" (none in {share} %)");
    }
    let all = [("latency".to_string(), &data.latency), (name, before)];
    let svg = cdfs(&format!("{}: latency of invocations", data.name), &all)?;
    Ok(Plot { name: "latency-cdf", title: "Distribution of latency".into(), svg })
}

/// Averages points so that a line has few enough of them.
fn thin(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<_> = points.collect();
    let each = points.len().div_ceil(POINTS).max(1);
    points.chunks(each).map(|c| (c[0].0, c.iter().map(|p| p.1).sum::<f64>() / c.len() as f64)).collect()
}

/// The same of points with gaps: a gap is what has no point at all.
fn thin_with_gaps(points: &[(f64, Option<f64>)]) -> Vec<(f64, Option<f64>)> {
    let each = points.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(f64, Option<f64>)]| {
        let (sum, n) = chunk.iter().filter_map(|p| p.1).fold((0.0, 0), |(s, n), v| (s + v, n + 1));
        (n > 0).then(|| sum / f64::from(n))
    };
    points.chunks(each).map(|c| (c[0].0, mean(c))).collect()
}

/// Differences of a total over equal steps, by `per` seconds.
fn rate(points: &[Row], path: usize, per: f64) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(POINTS / 2).max(1);
    let kept: Vec<_> = points.iter().step_by(each).map(|(t, v)| (*t, v[path])).collect();
    kept.windows(2).map(|w| (w[1].0, (w[1].1 - w[0].1) / ((w[1].0 - w[0].0) / per).max(1e-9))).collect()
}

/// A panel over the run's time.
struct Over<'a> {
    title: &'a str,
    y: &'a str,
    lines: Vec<Line>,
}

/// Panels one below the other, on one axis of time.
fn over_time(data: &Data, panels: Vec<Over<'_>>) -> Drawn<String> {
    let (scale, unit) = time_unit(data.end);
    let axis = format!("{unit} since {}", data.start);
    let n = panels.len() as u32;
    let height = if n == 1 { SIZE.1 } else { 60 + 170 * n };
    picture((SIZE.0, height), |area| {
        // The lowest has the axis' words too.
        let mut rest = area.clone();
        for (i, mut over) in (0u32..).zip(panels) {
            over.lines.iter_mut().for_each(|l| l.points.iter_mut().for_each(|p| p.0 /= scale));
            let last = i + 1 == n;
            let (room, legend) = match n {
                1 => (1.3, Legend::Inside(SeriesLabelPosition::UpperRight)),
                _ => (1.1, Legend::Above),
            };
            let (now, later) = if last { (rest.clone(), rest) } else { rest.split_vertically(170) };
            rest = later;
            panel(
                &now,
                &Panel {
                    title: over.title,
                    x: if last { &axis } else { "" },
                    y: over.y,
                    x_range: (0.0, data.end / scale),
                    log_x: false,
                    y_range: (0.0, (highest(&over.lines) * room).max(1e-6)),
                    legend,
                    lines: &over.lines,
                },
            )?;
        }
        Ok(())
    })
}

fn single(data: &Data, name: &'static str, title: &str, y: &str, lines: Vec<Line>) -> Drawn<Plot> {
    let caption = format!("{}: {title}", data.name);
    let svg = over_time(data, vec![Over { title: &caption, y, lines }])?;
    Ok(Plot { name, title: title.to_string(), svg })
}

pub(super) fn cold_starts(data: &Data) -> Drawn<Plot> {
    let line =
        Line::new("cold starts", VERMILION, rate(&data.points, Snapshot::INDEX.cold_starts, 60.0)).filled();
    single(data, "cold-starts", "cold starts", "cold starts per minute", vec![line])
}

pub(super) fn queue(data: &Data) -> Drawn<Plot> {
    let column = |path: usize| thin(data.points.iter().map(|(t, v)| (*t, v[path])));
    let index = Snapshot::INDEX;
    let lines = vec![
        Line::new("in flight", GREEN, column(index.in_flight)),
        Line::new("in the queue", BLUE, column(index.queue_length)).filled(),
    ];
    single(data, "queue", "queue and invocations in flight", "invocations", lines)
}

pub(super) fn memory(data: &Data) -> Drawn<Plot> {
    let index = Snapshot::INDEX;
    let gb = |path: usize| thin(data.points.iter().map(|(t, v)| (*t, v[path] / 1024.0)));
    let mut lines = vec![
        Line::new("cached", GREEN, gb(index.memory_cached_mb)).filled(),
        Line::new("running", BLUE, gb(index.memory_running_mb)).filled(),
    ];
    let mut title = "memory of running and of cached containers".to_string();
    if let Some(limit) = data.capacity_mb.map(|mb| mb / 1024.0) {
        if limit < 2.0 * highest(&lines) {
            lines.push(Line::new("capacity", GREY, vec![(0.0, limit), (data.end, limit)]));
        } else {
            // Drawn, a limit far above what is used would flatten everything else.
            title += &format!(" (capacity {} GiB)", label(limit));
        }
    }
    single(data, "memory", &title, "GiB", lines)
}

/// Invocations over chosen series of Graphite, on one axis.
pub(super) fn timeline(data: &Data) -> Drawn<Plot> {
    let index = Snapshot::INDEX;
    let caption = format!("{}: timeline", data.name);
    let mut panels = vec![
        Over {
            title: &caption,
            y: "per second",
            lines: vec![
                Line::new("invocations", BLUE, rate(&data.points, index.invocations, 1.0)),
                Line::new("cold starts", VERMILION, rate(&data.points, index.cold_starts, 1.0)),
            ],
        },
        Over {
            title: "",
            y: "containers",
            lines: vec![
                Line::new(
                    "running",
                    BLUE,
                    thin(data.points.iter().map(|(t, v)| (*t, v[index.containers_running]))),
                ),
                Line::new(
                    "cached",
                    GREEN,
                    thin(data.points.iter().map(|(t, v)| (*t, v[index.containers_cached]))),
                ),
            ],
        },
    ];
    let mut chosen = chosen(data);
    let more = chosen.len().saturating_sub(MOST);
    chosen.truncate(MOST);
    let units: Vec<String> = chosen.iter().map(|track| unit_of(track)).collect();
    for (i, track) in chosen.iter().enumerate() {
        let mut points: Vec<_> = track.points.iter().map(|(at, v)| (at - data.start_unix, *v)).collect();
        // Of a total its growth is seen, never the total.
        let grows = path_of(&track.path).is_some_and(|p| p.kind == Kind::Total);
        if grows {
            points = points.windows(2).map(|w| (w[1].0, growth(w[0], w[1]))).collect();
        }
        points.retain(|(at, _)| *at >= 0.0);
        let colour = COLOURS[(i + 3) % COLOURS.len()];
        let lines =
            vec![Line { points: thin_with_gaps(&points), ..Line::new(String::new(), colour, Vec::new()) }];
        panels.push(Over { title: &track.path, y: &units[i], lines });
    }
    let title = if more > 0 {
        format!("Timeline, with the first {MOST} of {} series that were chosen", MOST + more)
    } else {
        "Timeline".into()
    };
    Ok(Plot { name: "timeline", title, svg: over_time(data, panels)? })
}

/// What the axis of a series of Graphite says: of one of ours its unit, of which a total's growth is shown; of another's nothing
/// is known.
fn unit_of(track: &Track) -> String {
    match path_of(&track.path) {
        Some(path) if path.kind == Kind::Total => format!("{} per second", path.unit),
        Some(path) => path.unit.to_string(),
        None => "value".to_string(),
    }
}

/// By how much a total grew in each second between two points.
fn growth(from: (f64, Option<f64>), to: (f64, Option<f64>)) -> Option<f64> {
    Some((to.1? - from.1?) / (to.0 - from.0))
}

/// The series of Graphite that were asked for; without that the first that are not ours, or none.
fn chosen(data: &Data) -> Vec<&Track> {
    if data.chosen.is_empty() {
        return data.graphite.iter().filter(|t| !t.path.starts_with("elapse.")).take(SERIES).collect();
    }
    let wanted = |t: &&Track| data.chosen.iter().any(|pattern| matches(pattern, &t.path));
    data.graphite.iter().filter(wanted).collect()
}

/// Functions by time; the colour says how many invocations per minute.
pub(super) fn heat_map(data: &Data) -> Drawn<Plot> {
    let rows: &[HeatRow] = &data.heat[..data.heat.len().min(ROWS)];
    let cells = || rows.iter().flat_map(|r| &r.cells);
    let per_minute = |cell: &(f64, f64, u64, u64)| cell.2 as f64 / ((cell.1 - cell.0) / 60.0).max(1e-9);
    let low = cells().map(per_minute).fold(f64::MAX, f64::min);
    let high = cells().map(per_minute).fold(low, f64::max);
    let tone = |x: f64| if high > low { (x / low).ln() / (high / low).ln() } else { 1.0 };
    let (scale, unit) = time_unit(data.end);
    let end = cells().map(|c| c.1).fold(data.end, f64::max);
    let row_height = (400 / rows.len().max(1) as u32).clamp(14, 28);
    let height = 110 + row_height * rows.len() as u32;
    let axis = format!("{unit} since {}", data.start);
    let title = format!("{}: invocations per minute, the {} most invoked functions", data.name, rows.len());
    let svg = picture((SIZE.0, height), |area| {
        let (main, legend) = area.split_horizontally(SIZE.0 - 92);
        let mut chart = ChartBuilder::on(&main)
            .margin(10)
            .caption(&title, text(17))
            .x_label_area_size(48)
            .y_label_area_size(130)
            .build_cartesian_2d(0.0..end / scale, 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .axis_style(GREY)
            .label_style(text(13))
            .axis_desc_style(text(15))
            .x_desc(axis.as_str())
            .x_labels(8)
            .x_label_formatter(&|x| label(*x))
            .draw()?;
        let y_of = |i: usize| (rows.len() - 1 - i) as f64;
        for (i, row) in rows.iter().enumerate() {
            chart.draw_series(row.cells.iter().map(|cell| {
                let colour = ViridisRGB.get_color(tone(per_minute(cell)));
                Rectangle::new(
                    [(cell.0 / scale, y_of(i) + 0.04), (cell.1 / scale, y_of(i) + 0.96)],
                    colour.filled(),
                )
            }))?;
            let (x, y) = chart.backend_coord(&(0.0, y_of(i) + 0.5));
            let style = text(12).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            ));
            let (left, top) = main.get_base_pixel();
            main.draw(&Text::new(shortened(&row.function), (x - left - 6, y - top), style))?;
        }
        let top = 48;
        let span = height as i32 - 110;
        for i in 0..span {
            let colour = ViridisRGB.get_color(1.0 - f64::from(i) / f64::from(span.max(1)));
            legend.draw(&Rectangle::new([(6, top + i), (24, top + i + 1)], colour.filled()))?;
        }
        for (share, value) in [(0.0, high), (0.5, (low * high).sqrt()), (1.0, low)] {
            let y = top + (share * f64::from(span)) as i32 - 6;
            legend.draw(&Text::new(label(rounded(value)), (30, y), text(13)))?;
        }
        Ok(())
    })?;
    Ok(Plot { name: "heat-map", title: "Invocations by function and time".into(), svg })
}

/// Two digits are enough for a colour.
fn rounded(x: f64) -> f64 {
    let unit = 10f64.powf(x.abs().max(1e-9).log10().floor() - 1.0);
    (x / unit).round() * unit
}

/// The two ends of a long name, as hashes have them.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= 18 {
        return name.to_string();
    }
    let (head, tail): (String, String) =
        (letters[..10].iter().collect(), letters[letters.len() - 6..].iter().collect());
    format!("{head}…{tail}")
}
