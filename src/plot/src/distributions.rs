//! Distribution functions: lines of steps on an axis of percentiles, so that a tail is as wide as it matters.

use super::chart::{Across, Axis, COLOURS, Drawn, Form, Legend, Mark, Panel, panel, picture};
use super::geometry::{nines, percentiles, staircase, top_of};
use super::{Data, Plot};
use elapse_report::Distribution;
use plotters::prelude::*;

const SIZE: (u32, u32) = (880, 500);
/// Quantiles that are marked.
const MARKED: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];

/// Where a logarithmic axis of milliseconds begins: at the power of ten below all but the quickest, and at a tenth where some
/// take nothing.
fn left_of(all: &[(String, &Distribution)]) -> f64 {
    const NOTHING: f64 = 0.1;
    const LEAST: f64 = 1e-4;
    let quick = all.iter().filter_map(|(_, d)| d.quantile(0.001)).map(|x| if x > 0.0 { x } else { NOTHING });
    let quick = quick.fold(f64::INFINITY, f64::min);
    if quick.is_finite() { 10f64.powf(quick.log10().floor()).max(LEAST) } else { NOTHING }
}

/// A time of so many milliseconds in three digits.
fn words(ms: f64) -> String {
    let (value, unit) = if ms >= 1000.0 { (ms / 1000.0, "s") } else { (ms, "ms") };
    let digit = 10f64.powf(2.0 - value.abs().max(1e-9).log10().floor()).min(1e6);
    format!("{} {unit}", elapse_report::short((value * digit).round() / digit))
}

/// Its marked quantiles: share, name, value; none beyond what so many values can tell.
fn marked(values: &Distribution) -> Vec<(f64, &'static str, f64)> {
    let told = |q: f64| (1.0 - q) * values.count() as f64 >= 1.0;
    MARKED
        .iter()
        .filter(|(q, _)| told(*q))
        .filter_map(|(q, name)| Some((*q, *name, values.quantile(*q)?)))
        .collect()
}

/// One distribution after the other, each with its name.
struct Drawing<'a> {
    title: &'a str,
    all: &'a [(String, &'a Distribution)],
    /// Quantiles stand beside the points of the first; else in the legend.
    alone: bool,
}

fn draw(drawing: &Drawing<'_>) -> Drawn<String> {
    let Drawing { title, all, alone } = *drawing;
    let left = left_of(all);
    let top = top_of(all.iter().map(|(_, d)| d.count()).max().unwrap_or(1));
    let most = all.iter().filter_map(|(_, d)| d.0.last()).map(|p| p.0).fold(left * 2.0, f64::max);
    // Room for the words beside the last points.
    let high = most * (most / left).powf(if alone { 0.15 } else { 0.03 });
    let mut marks = Vec::new();
    for (i, (name, values)) in all.iter().enumerate() {
        let n = values.count();
        let line =
            staircase(&values.0, left).into_iter().map(|(x, count)| (x, nines(count, n, top))).collect();
        let quantiles = marked(values);
        let beside = |words: &dyn Fn(&str, f64) -> String| -> Vec<(f64, f64, String)> {
            let place = |(q, name, value): &(f64, &str, f64)| {
                (value.max(left), -(1.0 - q).log10(), words(name, *value))
            };
            quantiles.iter().map(place).collect()
        };
        let listed = || {
            let each: Vec<String> =
                quantiles.iter().map(|(_, name, v)| format!("{name} {}", words(*v))).collect();
            if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
        };
        let (words, dots) = match (alone, i) {
            (true, 0) => (String::new(), beside(&|name, value| format!("{name} {}", words(value)))),
            (true, _) => (String::new(), Vec::new()),
            (false, _) => (listed(), beside(&|_, _| String::new())),
        };
        // Where the colours are used up they come again, dashed.
        let colour = COLOURS[i % COLOURS.len()];
        let form = if i / COLOURS.len() % 2 == 1 { Form::Dashed(line) } else { Form::Line(line) };
        marks.push(Mark::new(format!("{name}{words}"), colour, form));
        marks.push(Mark::new("", colour, Form::Dots(dots)));
    }
    picture(SIZE, |area| {
        panel(
            area,
            &Panel {
                title,
                x: "milliseconds (logarithmic)",
                y: "percentile of invocations",
                across: Across::Logarithmic(left, high),
                up: Axis { range: (0.0, top * 1.02), marks: percentiles(top) },
                // There no distribution function can be but one of values that are all alike.
                legend: Legend::Inside(SeriesLabelPosition::UpperLeft),
                marks: &marks,
            },
        )
    })
}

/// Distribution functions of times in ms, each with its name.
pub(super) fn cdfs(title: &str, all: &[(String, &Distribution)]) -> Drawn<String> {
    draw(&Drawing { title, all, alone: false })
}

/// The latency of a run, and what of it came before execution.
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
    let n = data.latency.count();
    // Those that were dropped, or never ended, have none.
    let of = if n < data.invocations {
        format!(" of {}", super::grouped(data.invocations))
    } else {
        String::new()
    };
    let title = format!("{}: latency of {}{of} invocations", data.name, super::grouped(n));
    let svg = draw(&Drawing { title: &title, all: &all, alone: true })?;
    let quantiles: Vec<String> =
        marked(&data.latency).into_iter().map(|(_, name, v)| format!("{name} {}", words(v))).collect();
    let title = format!("Distribution of latency: {}", quantiles.join(", "));
    Ok(Plot::new("latency-cdf", title.trim_end_matches(": ").to_string(), &svg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_marked_as_far_as_the_values_tell() {
        let of = |n: u64| Distribution((1..=n).map(|i| (i as f64, i)).collect());
        let names = |n| marked(&of(n)).iter().map(|m| m.1).collect::<Vec<_>>();
        assert_eq!(names(99), ["p50"]);
        assert_eq!(names(1000), ["p50", "p99", "p99.9"]);
        assert_eq!(marked(&of(1000))[2].2, 999.0);
    }

    #[test]
    fn times_have_three_digits_and_the_unit_that_suits_them() {
        assert_eq!(
            [0.0, 0.012_34, 9.999, 123.4, 61_472.0].map(words),
            ["0 ms", "0.0123 ms", "10 ms", "123 ms", "61.5 s"]
        );
    }
}
