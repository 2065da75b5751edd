//! A comparison in words and tables.

use super::{Comparison, Figure, STAGES, Side};
use crate::base::Result;
use crate::format::{quoted, short};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Figures that everyone looks at first; all are in the files.
const FIRST: [&str; 16] = [
    "invocations",
    "completed",
    "failed",
    "timed_out",
    "dropped",
    "cold_starts",
    "prewarmed_starts",
    "evictions",
    "expirations",
    "latency_ms.mean",
    "latency_ms.p50",
    "latency_ms.p90",
    "latency_ms.p99",
    "slowdown.mean",
    "memory_mb.mean_running",
    "memory_mb.mean_cached",
];
/// Plan differences and functions that are shown.
const SHOWN: usize = 20;

/// Three decimals at most.
fn brief(x: f64) -> String {
    if x.is_finite() { short((x * 1000.0).round() / 1000.0) } else { "-".into() }
}

fn change(a: f64, b: f64) -> String {
    if a == b {
        "=".into()
    } else if a == 0.0 || !a.is_finite() || !b.is_finite() {
        "-".into()
    } else {
        format!("{:+.1} %", (b / a - 1.0) * 100.0)
    }
}

fn with_spread(figure: Figure, repeats: usize) -> String {
    if repeats > 1 {
        format!("{} (±{})", brief(figure.median), brief(figure.spread / 2.0))
    } else {
        brief(figure.median)
    }
}

impl Comparison {
    /// For people: first how the plans differ, then figures, distances, stages, functions, the verdict.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let [a, b] = &self.names;
        for remark in &self.remarks {
            let _ = writeln!(out, "{remark}");
        }
        if self.plan.is_empty() {
            out += "The plans are the same.\n";
        } else {
            let _ = writeln!(out, "The plans differ in {} keys ({a} | {b}):", self.plan.len());
            for (key, x, y) in self.plan.iter().take(SHOWN) {
                let _ = writeln!(out, "  {key}: {x} | {y}");
            }
            if self.plan.len() > SHOWN {
                let _ = writeln!(out, "  and {} more", self.plan.len() - SHOWN);
            }
        }
        let runs = |i: usize| {
            if self.repeats[i] > 1 { format!(" ({} runs)", self.repeats[i]) } else { String::new() }
        };
        let _ = writeln!(
            out,
            "\n{:<24} {:>24} {:>24} {:>10}",
            "figure",
            format!("{a}{}", runs(0)),
            format!("{b}{}", runs(1)),
            "change"
        );
        for name in FIRST {
            let Some((_, x, y)) = self.figures.iter().find(|f| f.0 == name) else { continue };
            let (left, right) = (with_spread(*x, self.repeats[0]), with_spread(*y, self.repeats[1]));
            let _ = writeln!(out, "{name:<24} {left:>24} {right:>24} {:>10}", change(x.median, y.median));
        }
        self.distances_text(&mut out);
        self.stages_text(&mut out);
        self.functions_text(&mut out);
        out += "\nVerdict:\n";
        for check in &self.checks {
            let verdict = if check.holds { "holds" } else { "FAILS" };
            let _ = writeln!(
                out,
                "  {verdict}  {:<18} {} | {}, {} apart, {} allowed{}",
                check.figure,
                brief(check.values[0]),
                brief(check.values[1]),
                brief((check.values[0] - check.values[1]).abs()),
                brief(check.allowed),
                if check.what.is_empty() { String::new() } else { format!(": {}", check.what) }
            );
        }
        out
    }

    fn distances_text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n{:<14} {:>9} {:>9} {:>7} {:>9}  {:<24} {:<24} p99 ratio",
            "distribution", "n", "n", "KS", "KS floor", "p50 ratio", "p90 ratio"
        );
        for d in &self.distances {
            let floor = if self.repeats == [1, 1] { "-".into() } else { brief(d.ks_floor) };
            let _ =
                write!(out, "{:<14} {:>9} {:>9} {:>7} {floor:>9} ", d.figure, d.n[0], d.n[1], brief(d.ks));
            for (_, ratio, interval) in &d.ratios {
                let interval =
                    interval.map_or(String::new(), |[low, high]| format!(" [{low:.3}, {high:.3}]"));
                let _ = write!(out, " {:<24}", format!("{}{interval}", brief(*ratio)));
            }
            *out = out.trim_end().to_string();
            out.push('\n');
        }
    }

    /// Where the difference of the means comes from.
    fn stages_text(&self, out: &mut String) {
        let _ =
            writeln!(out, "\n{:<14} {:>12} {:>12} {:>12}", "stage, mean ms", "first", "second", "residual");
        for stage in STAGES {
            let name = format!("{stage}.mean");
            let Some((_, x, y)) = self.figures.iter().find(|f| f.0 == name) else { continue };
            let residual = y.median - x.median;
            let _ = writeln!(
                out,
                "{:<14} {:>12} {:>12} {:>12}",
                stage.trim_end_matches("_ms"),
                brief(x.median),
                brief(y.median),
                format!("{}{}", if residual > 0.0 { "+" } else { "" }, brief(residual))
            );
        }
        if let Some(super::Stretch { sides: [a, b], ks }) = self.stretch {
            let _ = writeln!(
                out,
                "execution over intended duration: p50 {} | {}, p99 {} | {}, KS {}",
                brief(a[0]),
                brief(b[0]),
                brief(a[1]),
                brief(b[1]),
                brief(ks)
            );
        }
    }

    fn functions_text(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "\n{:<24} {:>17} {:>13} {:>21} {:>10} {:>10} {:>10} {:>7}",
            "function", "invocations", "cold starts", "p50, ms", "p50 ratio", "p90 ratio", "p99 ratio", "KS"
        );
        let pair =
            |f: &super::OfFunction, i: usize| format!("{} | {}", brief(f.sides[0][i]), brief(f.sides[1][i]));
        for f in self.functions.iter().take(SHOWN) {
            let ratio = |i: usize| brief(f.sides[1][i] / f.sides[0][i]);
            let name: String = f.name.chars().take(24).collect();
            let _ = writeln!(
                out,
                "{name:<24} {:>17} {:>13} {:>21} {:>10} {:>10} {:>10} {:>7}",
                pair(f, 0),
                pair(f, 1),
                pair(f, 2),
                ratio(2),
                brief(f.p90[1] / f.p90[0]),
                ratio(3),
                brief(f.ks)
            );
        }
        if self.functions.len() > SHOWN {
            let _ = writeln!(out, "and {} more", self.functions.len() - SHOWN);
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let number = |x: f64| if x.is_finite() { json!(x) } else { Value::Null };
        json!({
            "sides": self.names,
            "repeats": self.repeats,
            "holds": self.holds(),
            "plan_differences": self.plan.iter().map(|(k, a, b)| json!({"key": k, "a": a, "b": b})).collect::<Vec<_>>(),
            "checks": self.checks.iter().map(|c| json!({
                "figure": c.figure, "a": number(c.values[0]), "b": number(c.values[1]),
                "allowed": number(c.allowed), "holds": c.holds,
            })).collect::<Vec<_>>(),
            "distances": self.distances.iter().map(|d| json!({
                "figure": d.figure, "n": d.n, "ks": number(d.ks), "ks_floor": number(d.ks_floor),
                "ratios": d.ratios.iter().map(|(q, r, i)| json!({"quantile": q, "ratio": number(*r), "interval_95": i})).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "exec_stretch": self.stretch.map(|s| s.sides.map(|x| json!({"p50": number(x[0]), "p99": number(x[1])}))),
            "exec_stretch_ks": self.stretch.map(|s| number(s.ks)),
            "remarks": self.remarks,
        })
    }

    /// Every figure: figure, a, a_spread, b, b_spread, difference, ratio.
    pub fn figures_csv(&self) -> String {
        let mut out = String::from("figure,a,a_spread,b,b_spread,difference,ratio\n");
        for (path, x, y) in &self.figures {
            // What only one of them has is empty on the other side.
            let cell = |x: f64| if x.is_finite() { short(x) } else { String::new() };
            let ratio = if x.median == 0.0 { String::new() } else { cell(y.median / x.median) };
            let difference = cell(y.median - x.median);
            let _ = writeln!(
                out,
                "{path},{},{},{},{},{difference},{ratio}",
                cell(x.median),
                short(x.spread),
                cell(y.median),
                short(y.spread)
            );
        }
        out
    }

    /// Every function on both sides; the last columns are empty where there are no records.
    pub fn functions_csv(&self) -> String {
        let columns = ["invocations", "cold_starts", "latency_p50_ms", "latency_p99_ms"];
        let mut out = String::from("function");
        columns.iter().for_each(|c| {
            let _ = write!(out, ",a_{c},b_{c}");
        });
        out += ",a_latency_p90_ms,b_latency_p90_ms,latency_ks\n";
        for f in &self.functions {
            out += &quoted(&f.name);
            let cell = |x: f64| if x.is_finite() { short(x) } else { String::new() };
            (0..columns.len()).for_each(|i| {
                let _ = write!(out, ",{},{}", cell(f.sides[0][i]), cell(f.sides[1][i]));
            });
            let _ = writeln!(out, ",{},{},{}", cell(f.p90[0]), cell(f.p90[1]), cell(f.ks));
        }
        out
    }
}

/// What repeats of one run differ in: the noise floor of every comparison with it.
///
/// # Errors
/// If they cannot be read.
pub fn noise_floor(side: &Side) -> Result<String> {
    let figures = side.figures();
    let mut out =
        format!("noise floor of {} repeats: median, and the largest less the smallest\n", side.repeats());
    for name in FIRST {
        let Some(figure) = figures.get(name) else { continue };
        let share = if figure.median == 0.0 {
            String::new()
        } else {
            format!("{:.1} %", figure.spread / figure.median * 100.0)
        };
        let _ = writeln!(
            out,
            "  {name:<24} {:>14} {:>14} {share:>9}",
            brief(figure.median),
            brief(figure.spread)
        );
    }
    for stage in STAGES {
        let _ = writeln!(out, "  KS between repeats, {stage:<14} {:>8}", brief(side.floor(stage)?));
    }
    Ok(out)
}
