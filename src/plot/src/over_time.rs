//! What a run did over its time: queue, cold starts, memory, and the timeline beside Graphite's series.

use super::chart::{
    Across, Axis, BLUE, COLOURS, DARK, Drawn, Form, GREEN, Legend, Mark, ORANGE, PURPLE, Panel, VERMILION,
    label, panel, picture,
};
use super::geometry::{Step, is_thinned, rates, spaced, stack, steps};
use super::{Data, Plot, Values};
use crate::metrics::{Kind, Snapshot, path_of};
use elapse_report::Track;

const SIZE: (u32, u32) = (880, 460);
/// Points that are drawn as they are; more cannot be told apart on paper.
const POINTS: usize = 600;
/// Steps that are drawn where there are more: wide enough that a band is seen.
const STEPS: usize = 240;
/// Series of Graphite on the timeline, where nobody chose.
const SERIES: usize = 4;
/// And at most, whatever was chosen: each is a panel.
const MOST: usize = 16;

/// A panel over the run's time.
struct Over<'a> {
    title: &'a str,
    y: String,
    marks: Vec<Mark>,
}

/// How wide the first step is that stands for several values, in seconds.
fn thinned(marks: &[Mark]) -> Option<f64> {
    marks.iter().find_map(|mark| match &mark.form {
        Form::Steps(s) | Form::Filled(s) | Form::Band(s) if is_thinned(s) => s.first().map(|s| s.to - s.from),
        _ => None,
    })
}

/// Panels one below the other, on one axis of time.
fn over_time(data: &Data, panels: Vec<Over<'_>>) -> Drawn<String> {
    let (scale, unit, mut axis) = data.axis();
    if let Some(width) = panels.iter().find_map(|over| thinned(&over.marks)) {
        axis += &format!("; a step is {} s: mean, and band from least to most", label(width));
    }
    let shift = data.clock.offset;
    let n = panels.len() as u32;
    let height = if n == 1 { SIZE.1 } else { 60 + 170 * n };
    picture((SIZE.0, height), |area| {
        // The lowest has the axis' words too.
        let mut rest = area.clone();
        for (i, over) in (0u32..).zip(panels) {
            let marks: Vec<Mark> = over.marks.into_iter().map(|mark| mark.at(shift, scale)).collect();
            let last = i + 1 == n;
            let limit = if n == 1 { 9 } else { 5 };
            let (now, later) = if last { (rest.clone(), rest) } else { rest.split_vertically(170) };
            rest = later;
            let high = marks.iter().map(Mark::highest).fold(0.0, f64::max);
            panel(
                &now,
                &Panel {
                    title: over.title,
                    x: if last { &axis } else { "" },
                    y: &over.y,
                    across: Across::Linear(Axis::of_time((shift / scale, (shift + data.end) / scale), unit)),
                    up: Axis::from_zero(high * 1.1, limit),
                    legend: Legend::Above,
                    marks: &marks,
                },
            )?;
        }
        Ok(())
    })
}

fn single(data: &Data, name: &'static str, title: &str, y: String, marks: Vec<Mark>) -> Drawn<Plot> {
    let caption = format!("{}: {title}", data.name);
    let svg = over_time(data, vec![Over { title: &caption, y, marks }])?;
    Ok(Plot::new(name, caption, &svg))
}

/// A series as few enough steps.
fn few(points: &[(f64, Option<f64>)], end: f64) -> Vec<Step> {
    steps(points, end, if points.len() > POINTS { STEPS } else { POINTS })
}

/// A gauge as steps.
fn gauge(data: &Data, of: impl Fn(&Values) -> f64) -> Vec<Step> {
    let points: Vec<_> = data.points.iter().map(|(at, values)| (*at, Some(of(values)))).collect();
    few(&points, data.end)
}

/// A total's points, and the instant before the first, at which nothing had been counted.
fn total(data: &Data, path: usize) -> (Vec<(f64, f64)>, f64) {
    let points: Vec<(f64, f64)> = data.points.iter().map(|(at, values)| (*at, values[path])).collect();
    let tick = points.windows(2).map(|w| w[1].0 - w[0].0).next().unwrap_or(f64::INFINITY);
    let origin = points.first().map_or(0.0, |first| (first.0 - tick).max(0.0));
    (points, origin)
}

/// How fast a total grew, by `unit` seconds; each interval is `width` seconds at least.
fn growth(data: &Data, path: usize, width: f64, unit: f64) -> Vec<Step> {
    let (points, origin) = total(data, path);
    let kept = spaced(&points, origin, width);
    let end = kept.last().map_or(data.end, |p| p.0);
    few(&rates(&kept, origin, unit), end)
}

/// The interval by which a run of so many seconds is counted, in seconds and in words.
fn interval(seconds: f64) -> (f64, &'static str) {
    const INTERVALS: [(f64, &str); 9] = [
        (1.0, "second"),
        (5.0, "5 seconds"),
        (10.0, "10 seconds"),
        (30.0, "30 seconds"),
        (60.0, "minute"),
        (300.0, "5 minutes"),
        (1800.0, "30 minutes"),
        (3600.0, "hour"),
        (86_400.0, "day"),
    ];
    const FINEST: f64 = 300.0;
    *INTERVALS.iter().find(|(width, _)| seconds / width <= FINEST).unwrap_or(&INTERVALS[8])
}

pub(super) fn cold_starts(data: &Data) -> Drawn<Plot> {
    let (width, words) = interval(data.end);
    let counts = growth(data, Snapshot::INDEX.cold_starts, width, width);
    let marks = vec![Mark::new("cold starts", VERMILION, Form::Filled(counts))];
    single(data, "cold-starts", "cold starts", format!("cold starts per {words}"), marks)
}

pub(super) fn queue(data: &Data) -> Drawn<Plot> {
    let index = Snapshot::INDEX;
    let marks = vec![
        Mark::new("in flight", GREEN, Form::Steps(gauge(data, |v| v[index.in_flight]))),
        Mark::new("in the queue", BLUE, Form::Filled(gauge(data, |v| v[index.queue_length]))),
    ];
    single(data, "queue", "queue and invocations in flight", "invocations".into(), marks)
}

/// What containers hold, one state on the other: the sum is what is used.
pub(super) fn memory(data: &Data) -> Drawn<Plot> {
    const MB: f64 = 1024.0;
    let index = Snapshot::INDEX;
    // What runs is told with what is being created.
    let running = |v: &Values| v[index.memory_running_mb] - v[index.memory_creating_mb];
    let used =
        |v: &Values| v[index.memory_running_mb] + v[index.memory_cached_mb] + v[index.memory_removing_mb];
    let layers = [
        gauge(data, |v| running(v) / MB),
        gauge(data, |v| v[index.memory_creating_mb] / MB),
        gauge(data, |v| v[index.memory_cached_mb] / MB),
        gauge(data, |v| v[index.memory_removing_mb] / MB),
    ];
    let names = [("running", BLUE), ("creating", ORANGE), ("cached", GREEN), ("removing", PURPLE)];
    let slabs = stack(&layers).into_iter().zip(names);
    let seen = |layer: &[super::geometry::Slab]| layer.iter().any(|s| s.top > s.bottom);
    let mut marks: Vec<Mark> = slabs
        .filter(|(slabs, _)| seen(slabs))
        .map(|(slabs, (name, colour))| Mark::new(name, colour, Form::Slabs(slabs)))
        .collect();
    // The legend reads from above, as the stack does.
    marks.reverse();
    let used = gauge(data, |v| used(v) / MB);
    let highest = used.iter().map(|s| s.most).fold(0.0, f64::max);
    if is_thinned(&used) {
        marks.push(Mark::new("used, least to most", DARK, Form::Band(used)));
    }
    let gib = |mb: f64| label((mb / MB * 100.0).round() / 100.0);
    let mut title = if data.workers > 1 {
        format!("memory of the containers of {} workers", data.workers)
    } else {
        "memory of containers".to_string()
    };
    let limit = data.capacity_mb;
    match (data.peak_used_mb, limit) {
        (Some(peak), Some(limit)) => title += &format!(", at most {} of {} GiB", gib(peak), gib(limit)),
        (Some(peak), None) => title += &format!(", at most {} GiB", gib(peak)),
        (None, Some(limit)) => title += &format!(" of {} GiB", gib(limit)),
        (None, None) => {}
    }
    // Drawn, a limit far above what is used would flatten everything else.
    if let Some(limit) = limit.map(|mb| mb / MB).filter(|limit| *limit < 2.0 * highest) {
        marks.push(Mark::new("capacity", VERMILION, Form::Line(vec![(0.0, limit), (data.end, limit)])));
    }
    single(data, "memory", &title, "GiB".into(), marks)
}

/// Invocations over chosen series of Graphite, on one axis.
pub(super) fn timeline(data: &Data) -> Drawn<Plot> {
    let index = Snapshot::INDEX;
    let caption = format!("{}: timeline", data.name);
    let per_second = |path: usize| Form::Steps(growth(data, path, 0.0, 1.0));
    let containers = |path: usize| Form::Steps(gauge(data, |v| v[path]));
    let mut panels = vec![
        Over {
            title: &caption,
            y: "per second".into(),
            marks: vec![
                Mark::new("invocations", BLUE, per_second(index.invocations)),
                Mark::new("cold starts", VERMILION, per_second(index.cold_starts)),
            ],
        },
        Over {
            title: "",
            y: "containers".into(),
            marks: vec![
                Mark::new("running", BLUE, containers(index.containers_running)),
                Mark::new("cached", GREEN, containers(index.containers_cached)),
            ],
        },
    ];
    let mut chosen = chosen(data);
    let more = chosen.len().saturating_sub(MOST);
    chosen.truncate(MOST);
    for (i, track) in chosen.iter().enumerate() {
        let mut points: Vec<_> = track.points.iter().map(|(at, v)| (at - data.start_unix, *v)).collect();
        // Of a total its growth is seen, never the total.
        let grows = path_of(&track.path).is_some_and(|p| p.kind == Kind::Total);
        if grows {
            points = points.windows(2).map(|w| (w[0].0, grown(w[0], w[1]))).collect();
        }
        points.retain(|(at, _)| (0.0..=data.end).contains(at));
        let form = Form::Steps(few(&points, data.end));
        let marks = vec![Mark::new("", COLOURS[(i + 3) % COLOURS.len()], form)];
        panels.push(Over { title: &track.path, y: unit_of(track), marks });
    }
    let title = if more > 0 {
        format!("{caption}, with the first {MOST} of {} series that were chosen", MOST + more)
    } else {
        caption.clone()
    };
    let svg = over_time(data, panels)?;
    Ok(Plot::new("timeline", title, &svg))
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
fn grown(from: (f64, Option<f64>), to: (f64, Option<f64>)) -> Option<f64> {
    Some((to.1? - from.1?) / (to.0 - from.0))
}

/// The series of Graphite that were asked for; without that the first that are not ours, or none.
fn chosen(data: &Data) -> Vec<&Track> {
    if data.chosen.is_empty() {
        return data.graphite.iter().filter(|t| !t.path.starts_with("elapse.")).take(SERIES).collect();
    }
    let wanted = |t: &&Track| data.chosen.iter().any(|pattern| elapse_report::matches(pattern, &t.path));
    data.graphite.iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_counted_by_an_interval_that_leaves_few_enough_of_them() {
        assert_eq!(
            [60.0, 300.0, 1800.0, 30_000.0, 86_400.0].map(|s| interval(s).1),
            ["second", "second", "10 seconds", "5 minutes", "5 minutes"]
        );
    }
}
