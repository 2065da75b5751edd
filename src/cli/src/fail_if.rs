//! `--fail-if 'latency_ms.p99 > 2s'`: conditions on the figures of summary.json under which a run counts as failed.

use crate::show;
use elapse::base::{Duration, Fault, Mem, Result, Status, nearest};
use elapse::report::Summary;
use serde_json::Value;
use std::cmp::Ordering;
use std::sync::LazyLock;

/// A figure, a comparison and a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As it was typed.
    text: String,
    path: String,
    how: How,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Unequal,
}

/// What a figure is compared with.
#[derive(Clone, Debug, PartialEq)]
enum Limit {
    /// In the figure's own unit.
    Number(f64),
    /// Of a share, or of all invocations.
    Percent(f64),
    /// A text, `true` or `false`.
    Word(String),
}

/// Longer ones first, so that `<=` is not read as `<`.
const HOWS: [(&str, How); 6] = [
    ("<=", How::AtMost),
    (">=", How::AtLeast),
    ("==", How::Equal),
    ("!=", How::Unequal),
    ("<", How::Less),
    (">", How::More),
];

impl How {
    fn holds(self, order: Ordering) -> bool {
        match self {
            How::Less => order.is_lt(),
            How::AtMost => order.is_le(),
            How::More => order.is_gt(),
            How::AtLeast => order.is_ge(),
            How::Equal => order.is_eq(),
            How::Unequal => order.is_ne(),
        }
    }
}

impl Condition {
    fn read(text: &str, known: &Known) -> Result<Condition, String> {
        let found = HOWS.iter().filter_map(|(sign, how)| Some((text.find(sign)?, *sign, *how)));
        // The first sign, and of two that begin there the longer one.
        let Some((at, sign, how)) = found.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())) else {
            return Err(
                "it has no comparison; write for instance 'latency_ms.p99 > 2s' (<, <=, >, >=, ==, !=)"
                    .into(),
            );
        };
        let (path, limit) = (text[..at].trim(), text[at + sign.len()..].trim());
        if path.is_empty() || limit.is_empty() {
            return Err("it lacks a figure or a limit; write for instance 'latency_ms.p99 > 2s'".into());
        }
        known.check(path)?;
        let limit = limit_of(path, limit)?;
        if matches!(limit, Limit::Word(_)) && !matches!(how, How::Equal | How::Unequal) {
            return Err(format!("a word is only equal (==) or not (!=), and nothing is {sign} it"));
        }
        Ok(Condition { text: text.trim().to_string(), path: path.to_string(), how, limit })
    }
}

/// Which unit a figure has, by its name.
fn limit_of(path: &str, text: &str) -> Result<Limit, String> {
    let number = |text: &str| text.trim().replace('_', "").parse::<f64>().ok().filter(|x| x.is_finite());
    if let Some(x) = number(text) {
        return Ok(Limit::Number(x));
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = number(percent).ok_or_else(|| format!("'{text}' is no percentage"))?;
        return if is_share(path) || is_counted(path) {
            Ok(Limit::Percent(percent))
        } else {
            Err(format!("'{path}' is neither a share nor a count of invocations; give its limit without %"))
        };
    }
    let head = path.split('.').next().unwrap_or_default();
    let seconds = ["_seconds", "seconds"].iter().any(|end| head.ends_with(end)) && !head.starts_with("gb_");
    if head.ends_with("_ms") || seconds {
        let span: Duration = text.parse()?;
        return Ok(Limit::Number(if seconds { span.as_secs_f64() } else { span.as_millis_f64() }));
    }
    if head.ends_with("_mb") {
        return Ok(Limit::Number(text.parse::<Mem>()?.as_mib_f64()));
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return Err(format!("'{text}' is no number, and '{path}' has no unit"));
    }
    Ok(Limit::Word(text.trim_matches('"').to_string()))
}

fn is_share(path: &str) -> bool {
    path.split('.').any(|part| part.ends_with("_share"))
}

/// Whether it counts invocations: by how they ended, how they started, or why they started cold.
fn is_counted(path: &str) -> bool {
    Status::ALL.iter().any(|status| status.word() == path)
        || path.ends_with("_starts")
        || path.starts_with("cold_causes.")
}

/// Reads conditions, and sees that their figures exist, before a run of hours is for nothing.
///
/// # Errors
/// What cannot be meant; of a figure that no summary has, the nearest.
pub fn read(all: &[String]) -> Result<Vec<Condition>> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = Known(Vec::new());
    paths_of("", &Summary::default().json(), &mut known.0);
    let one = |text: &String| Condition::read(text, &known);
    all.iter()
        .map(|text| one(text).map_err(|why| Fault::usage(format!("--fail-if '{}': {why}", text.trim()))))
        .collect()
}

/// The paths of all figures that a summary has; that of a table without any is marked.
struct Known(Vec<(String, bool)>);

impl Known {
    fn check(&self, path: &str) -> Result<(), String> {
        let above = path.rsplit_once('.').map_or("", |(above, _)| above);
        // What a run met is not known before it: kinds of wrong rows, errors.
        let is_open = self.0.iter().any(|(k, is_empty)| *is_empty && k == above);
        let names = || self.0.iter().filter(|(_, is_empty)| !is_empty).map(|(k, _)| k.as_str());
        if is_open || names().any(|name| name == path) {
            return Ok(());
        }
        let inside = names().find(|name| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
        let same_end = names().find(|name| name.ends_with(&format!(".{path}")));
        let hint = match inside.or(same_end).or_else(|| nearest(path, names())) {
            Some(name) => format!("; did you mean '{name}'?"),
            None => "; summary.json of any run shows which there are".into(),
        };
        Err(format!("there is no figure '{path}'{hint}"))
    }
}

/// The paths of all figures; of a table without any, its own, marked as empty.
fn paths_of(above: &str, value: &Value, all: &mut Vec<(String, bool)>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, inner) in table {
                let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
                paths_of(&path, inner, all);
            }
        }
        Value::Object(_) => all.push((above.to_string(), true)),
        _ => all.push((above.to_string(), false)),
    }
}

/// Says which of these conditions hold, in a sentence each.
pub fn held(conditions: &[Condition], summary: &Value) -> Vec<String> {
    conditions.iter().filter_map(|condition| condition.held(summary)).collect()
}

impl Condition {
    fn held(&self, summary: &Value) -> Option<String> {
        let value = found(summary, &self.path);
        let (figure, limit) = match (&self.limit, value) {
            (Limit::Word(word), _) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                let order = text.as_str().cmp(word.as_str());
                return self.how.holds(order).then(|| format!("{} is {text} ({})", self.path, self.text));
            }
            (Limit::Number(limit), _) => (figure(value), *limit),
            (Limit::Percent(percent), _) if is_share(&self.path) => (figure(value), percent / 100.0),
            (Limit::Percent(percent), _) => {
                let all = summary["invocations"].as_f64().unwrap_or(0.0).max(1.0);
                (figure(value).map(|n| n / all), percent / 100.0)
            }
        };
        let Some(figure) = figure else {
            return Some(format!("{} has no value in this run ({})", self.path, self.text));
        };
        let order = figure.partial_cmp(&limit)?;
        self.how
            .holds(order)
            .then(|| format!("{} is {} ({})", self.path, shown(&self.path, value, summary), self.text))
    }
}

/// The value at a path. What a table of kinds has no entry for did not occur.
fn found<'v>(summary: &'v Value, path: &str) -> &'v Value {
    static ZERO: LazyLock<Value> = LazyLock::new(|| Value::from(0));
    let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
    let table = above.split('.').filter(|key| !key.is_empty()).fold(summary, |v, key| &v[key]);
    let is_open = !above.is_empty() && table.as_object().is_some_and(|table| !table.contains_key(name));
    if is_open { &ZERO } else { &table[name] }
}

/// A figure as a number. One of which only a bound is known, `> 1234`, is beyond any limit.
fn figure(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) if text.starts_with('>') => Some(f64::INFINITY),
        Value::Number(n) => n.as_f64(),
        _ => None,
    }
}

fn shown(path: &str, value: &Value, summary: &Value) -> String {
    let Some(x) = value.as_f64() else { return value.as_str().unwrap_or("-").to_string() };
    let head = path.split('.').next().unwrap_or_default();
    if head.ends_with("_ms") && !path.ends_with(".n") {
        return show::millis(x);
    }
    if head.ends_with("_mb") {
        return show::megabytes(x);
    }
    if is_share(path) {
        return show::share(x, 1.0);
    }
    let all = summary["invocations"].as_f64().unwrap_or(0.0);
    if is_counted(path) { format!("{}, {}", show::digits(x), show::share(x, all)) } else { show::digits(x) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(text: &str) -> bool {
        let summary = json!({
            "invocations": 1000, "dropped": 12, "cold_starts": 400, "backend": "simulated", "unstable": false,
            "latency_ms": {"n": 1000, "p99": 2500.0, "p999": "> 9000"}, "memory_mb": {"peak_used": 2048},
            "virtual_seconds": 90, "cold_start_share": {"p50": 0.25}, "cold_ms": {"p50": null}, "trace_notes": {},
        });
        !held(&read(&[text.to_string()]).unwrap_or_else(|e| panic!("{e}")), &summary).is_empty()
    }

    #[test]
    fn conditions_hold_or_not_in_the_units_of_their_figures() {
        let cases = [
            ("latency_ms.p99 > 2s", true),
            ("latency_ms.p99>3s", false),
            ("latency_ms.p99 >= 2500", true),
            ("latency_ms.p99 < 2500ms", false),
            ("latency_ms.p99 <= 2500ms", true),
            ("memory_mb.peak_used > 1GiB", true),
            ("memory_mb.peak_used > 2GiB", false),
            ("virtual_seconds > 1min", true),
            ("dropped > 1%", true),
            ("dropped > 1.2 %", false),
            ("dropped != 0", true),
            ("cold_starts == 40%", true),
            ("cold_start_share.p50 > 20%", true),
            ("cold_start_share.p50 > 0.3", false),
            ("backend == simulated", true),
            ("unstable == true", false),
            ("invocations < 1_000", false),
            // What was not reached by any that returned is beyond any limit.
            ("latency_ms.p999 > 1h", true),
            ("trace_notes.rows > 0", false),
            ("trace_notes.rows == 0", true),
            // A figure that a run has not is no reason to pass.
            ("cold_ms.p50 > 1h", true),
        ];
        for (text, expected) in cases {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_told() {
        for (text, why) in [
            ("latency_ms.p99", "no comparison"),
            ("> 2s", "lacks a figure"),
            ("latency_ms.p99 > 2 parsecs", "unknown unit"),
            ("latency_ms.p99 > 5%", "neither a share"),
            ("backend > simulated", "only equal"),
            ("evictions > 5x", "no number"),
        ] {
            let said = read(&[text.to_string()]).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(&format!("--fail-if '{text}'")), "{text}: {said}");
        }
    }

    #[test]
    fn an_unknown_figure_is_told_with_the_nearest_before_the_run() {
        let asked = |text: &str| read(&[text.to_string()]);
        for text in ["latency_ms.p99 > 2s", "dropped > 0", "cold_causes.evicted > 1", "trace_notes.rows > 0"]
        {
            assert_eq!(asked(text).unwrap_or_else(|e| panic!("{e}")).len(), 1);
        }
        for (text, hint) in [
            ("latncy_ms.p99 > 2s", "'latency_ms.p99'"),
            ("latency_ms > 2s", "'latency_ms.n'"),
            ("peak_used > 5", "'memory_mb.peak_used'"),
            ("droped > 0", "'dropped'"),
            ("latency.p99 > 2s", "'latency_ms.p99'"),
        ] {
            let said = asked(text).unwrap_err().to_string();
            assert!(said.contains("there is no figure") && said.contains(hint), "{text}: {said}");
        }
    }
}
