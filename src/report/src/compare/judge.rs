//! Tolerances, and whether they hold.

use super::{Figure, OfFunction, Side};
use crate::base::{Fault, Result, nearest};

/// How far a figure may be off.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerance {
    /// The figure's path in summary.json, for instance `latency_ms.p99`.
    pub figure: String,
    /// Share of the reference: of the live side where one is live, else of the first.
    pub relative: f64,
    /// At least this much in the figure's own unit.
    pub absolute: f64,
}

/// What a tolerance came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The figure.
    pub figure: String,
    /// In words, what it measures.
    pub what: &'static str,
    /// Both sides' medians; NaN where a side has no such figure.
    pub values: [f64; 2],
    /// How far they may be apart: the tolerance, and half of the larger spread.
    pub allowed: f64,
    /// Whether they are not farther apart.
    pub holds: bool,
}

/// The figure of [`functions_apart`].
pub(super) const FUNCTIONS_APART: &str = "functions_apart";

/// The share of invocations that are of a function whose latency p50 differs by more than 15 % and 1 ms.
pub(super) fn functions_apart(functions: &[OfFunction]) -> f64 {
    let weight = |f: &OfFunction| f.sides[0][0].max(f.sides[1][0]);
    let apart = |f: &&OfFunction| {
        let [x, y] = f.sides.map(|side| side[2]);
        // One that was never answered on one side has no latency there.
        x.is_nan() != y.is_nan() || (x - y).abs() > (0.15 * x.min(y)).max(1.0)
    };
    let all: f64 = functions.iter().map(weight).sum();
    functions.iter().filter(apart).fold(0.0, |sum, f| sum + weight(f)) / all.max(1.0)
}

/// Those that hold for a simulator that is worth its name, and what each measures.
const USUAL: [(&str, f64, f64, &str); 12] = [
    ("invocations", 0.0, 0.0, "the load"),
    ("completed", 0.02, 1.0, "what became of it"),
    ("cold_starts", 0.02, 1.0, "how often containers are created for an invocation"),
    ("latency_ms.p50", 0.05, 0.0, "the usual latency"),
    ("latency_ms.p99", 0.15, 0.0, "the tail of latency"),
    ("queue_ms.mean", 0.15, 0.5, "the stage of queueing"),
    ("cold_ms.p50", 0.15, 0.5, "the stage of cold starts"),
    ("exec_ms.p50", 0.05, 0.1, "the stage of execution"),
    ("exec_stretch.p50", 0.05, 0.0, "how much longer than intended execution usually is"),
    ("exec_stretch.p99", 0.15, 0.0, "how much longer than intended execution is at worst"),
    ("overhead_ms.p50", 0.0, 1.0, "the stage of overhead"),
    (FUNCTIONS_APART, 0.0, 0.1, "the share of invocations whose function's usual latency is off"),
];

/// The usual tolerances, with these in place of or beside them: `figure=5%`, `figure=1`, `figure=2%,1`, `figure=off`.
///
/// # Errors
/// What of them cannot be meant.
pub fn tolerances(given: &[String]) -> Result<Vec<Tolerance>> {
    let mut all: Vec<Tolerance> = USUAL
        .iter()
        .map(|(figure, relative, absolute, _)| Tolerance {
            figure: (*figure).to_string(),
            relative: *relative,
            absolute: *absolute,
        })
        .collect();
    for text in given {
        let wrong = || {
            Fault::usage(format!(
                "--tolerance {text}: write FIGURE=5%, FIGURE=1, FIGURE=2%,1 or FIGURE=off, for instance latency_ms.p99=10%"
            ))
        };
        let (figure, allowed) = text.split_once('=').ok_or_else(wrong)?;
        all.retain(|t| t.figure != figure);
        if allowed == "off" {
            continue;
        }
        let mut tolerance = Tolerance { figure: figure.to_string(), relative: 0.0, absolute: 0.0 };
        for part in allowed.split(',') {
            let (number, share) = part.strip_suffix('%').map_or((part, false), |n| (n, true));
            let x: f64 = number.trim().parse().map_err(|_| wrong())?;
            if !(x.is_finite() && x >= 0.0) {
                return Err(wrong());
            }
            if share { tolerance.relative = x / 100.0 } else { tolerance.absolute = x }
        }
        all.push(tolerance);
    }
    Ok(all)
}

pub(super) fn judge(
    a: &Side,
    b: &Side,
    figures: &[(String, Figure, Figure)],
    tolerances: &[Tolerance],
) -> Result<Vec<Check>> {
    let alone = [a.figures(), b.figures()];
    let mut checks = Vec::new();
    for tolerance in tolerances {
        let what = USUAL.iter().find(|usual| usual.0 == tolerance.figure).map_or("", |usual| usual.3);
        let Some((_, x, y)) = figures.iter().find(|(path, ..)| *path == tolerance.figure) else {
            // One that only one of them has (cold starts on one side, none on the other) is as different as can be.
            let [x, y] = alone.each_ref().map(|of| of.get(&tolerance.figure).map(|f| f.median));
            if x.is_some() || y.is_some() {
                let values = [x, y].map(|v| v.unwrap_or(f64::NAN));
                let figure = tolerance.figure.clone();
                checks.push(Check { figure, what, values, allowed: tolerance.absolute, holds: false });
                continue;
            }
            // A figure that neither run has (no cold start at all) is equal on both sides.
            if USUAL.iter().any(|usual| usual.0 == tolerance.figure) {
                continue;
            }
            let hint = nearest(&tolerance.figure, figures.iter().map(|f| f.0.as_str()));
            let hint = hint.map_or(String::new(), |n| format!("; did you mean '{n}'?"));
            return Err(Fault::usage(format!(
                "--tolerance: the runs have no figure '{}'{hint} (see summary.json)",
                tolerance.figure
            )));
        };
        let reference = if b.is_live() && !a.is_live() { y } else { x };
        let allowed = (tolerance.relative * reference.median.abs()).max(tolerance.absolute)
            + x.spread.max(y.spread) / 2.0;
        // Figures are told with six decimals.
        let holds = (x.median - y.median).abs() <= allowed + 1e-6;
        checks.push(Check {
            figure: tolerance.figure.clone(),
            what,
            values: [x.median, y.median],
            allowed,
            holds,
        });
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_apart_by_share_of_invocations() {
        let of = |invocations: f64, [x, y]: [f64; 2]| OfFunction {
            name: String::new(),
            sides: [[invocations, 0.0, x, x], [invocations, 0.0, y, y]],
            p90: [f64::NAN; 2],
            ks: f64::NAN,
        };
        let usual = of(70.0, [100.0, 114.0]);
        // A millisecond is nothing that anybody sees; a function that is answered on one side only is another.
        let all = [usual.clone(), of(10.0, [2.0, 2.9]), of(15.0, [100.0, 116.0]), of(5.0, [f64::NAN, 1.0])];
        assert!((functions_apart(&all) - 0.2).abs() < 1e-9);
        assert_eq!((functions_apart(&[usual]), functions_apart(&[])), (0.0, 0.0));
    }

    #[test]
    fn tolerances_are_read_and_replaced() {
        let all = tolerances(&["latency_ms.p99=2%,1".into(), "cold_starts=off".into(), "evictions=3".into()])
            .unwrap();
        let of = |figure: &str| all.iter().find(|t| t.figure == figure).map(|t| (t.relative, t.absolute));
        assert_eq!(of("latency_ms.p99"), Some((0.02, 1.0)));
        assert_eq!((of("cold_starts"), of("evictions")), (None, Some((0.0, 3.0))));
        for wrong in ["latency", "a=b", "a=-1", "a=5%%"] {
            assert!(tolerances(&[wrong.into()]).is_err(), "{wrong}");
        }
    }
}
