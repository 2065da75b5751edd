//! The tables of the page: from `summary.json`, `functions.csv` and `workers.csv`.

use super::{escape, number, percent};
use crate::base::{ColdCause, Result, Status};
use elapse_report::each_row;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Functions that the page tells of.
const FUNCTIONS: usize = 20;
/// Workers that it tells of one by one.
const WORKERS: usize = 40;

/// A table whose first row names its columns.
pub(super) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut out = String::from("<table><tr>");
    head.iter().for_each(|name| {
        let _ = write!(out, "<th>{}</th>", escape(name));
    });
    out.push_str("</tr>");
    for row in rows {
        out.push_str("<tr>");
        row.iter().for_each(|cell| {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        });
        out.push_str("</tr>");
    }
    out + "</table>"
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// How invocations started, and why they started cold.
pub(super) fn starts(json: &Value) -> String {
    let kinds = ["cold_starts", "warm_starts", "prewarmed_starts", "late_starts"];
    let all: f64 = kinds.iter().map(|key| float(&json[*key])).sum();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for key in kinds.iter().filter(|key| float(&json[**key]) > 0.0) {
        let n = &json[*key];
        rows.push(vec![key.replace('_', " "), number(n), percent(float(n), all)]);
        if *key == "cold_starts" {
            for cause in ColdCause::ALL {
                let because = &json["cold_causes"][cause.word()];
                if float(because) > 0.0 {
                    let why = format!("\u{2014} {}", why(*cause));
                    rows.push(vec![why, number(because), percent(float(because), all)]);
                }
            }
        }
    }
    table(&["starts", "n", "share of starts"], rows)
}

fn why(cause: ColdCause) -> &'static str {
    match cause {
        ColdCause::First => "first: the function never had a container",
        ColdCause::Expired => "expired: its last one's keep-alive had ended",
        ColdCause::Evicted => "evicted: its last one had made room",
        ColdCause::Concurrency => "concurrency: all of its own were busy",
        ColdCause::Failure => "failure: its last one was destroyed after one",
    }
}

/// How invocations ended, and what became of containers; nothing that never happened.
pub(super) fn counts(json: &Value) -> String {
    let invocations = float(&json["invocations"]);
    let ended = Status::ALL
        .iter()
        .map(|s| (s.word().to_string(), &json[s.word()], percent(float(&json[s.word()]), invocations)));
    let keys = [
        "containers_created",
        "evictions",
        "expirations",
        "containers_left",
        "prewarm_attempts",
        "prewarm_failures",
        "memory_reads",
        "loop_restarts",
    ];
    let others = keys.iter().map(|key| (key.replace('_', " "), &json[*key], String::new()));
    let seen = ended.chain(others).filter(|(_, value, _)| float(value) > 0.0);
    table(
        &["", "n", "share of invocations"],
        seen.map(|(name, value, share)| vec![name, number(value), share]),
    )
}

/// Memory over time by what it was held for, and the peaks.
pub(super) fn memory(json: &Value) -> String {
    let states = ["running", "creating", "cached", "removing"];
    let gb = |state: &str| float(&json["gb_seconds"][state]);
    let all: f64 = states.iter().map(|s| gb(s)).sum();
    if all <= 0.0 {
        return String::new();
    }
    let memory = &json["memory_mb"];
    let row = |state: &str, name: &str, peak: &str| {
        vec![
            name.to_string(),
            number(&json["gb_seconds"][state]),
            percent(gb(state), all),
            number(&memory[peak]),
        ]
    };
    let held = [
        row("running", "running", "peak_running"),
        row("creating", "creating", "peak_creating"),
        row("cached", "cached: idle, kept", "peak_cached"),
        row("removing", "removing", "peak_removing"),
        vec!["used".into(), number(&Value::from(all)), String::new(), number(&memory["peak_used"])],
    ];
    let capacity = match memory["capacity"].as_f64() {
        Some(mb) => format!("Capacity: {} MB.", number(&Value::from(mb))),
        None => "Capacity: unlimited.".to_string(),
    };
    let per_run = gb("cached") / (gb("running") + gb("creating")).max(1e-9);
    format!(
        "{}<p class=\"note\">{capacity} Idle containers held {per_run:.2} times the memory-time of those at work. The peak of \
         running includes creating.</p>",
        table(&["memory", "GB-seconds held", "share", "peak, MB"], held)
    )
}

/// What invocations that did not complete said.
pub(super) fn errors(json: &Value) -> String {
    let named: Vec<&Value> = json["errors"].as_array().into_iter().flatten().collect();
    if named.is_empty() {
        return String::new();
    }
    let all = float(&json["invocations"]);
    let mut rows: Vec<Vec<String>> = named
        .iter()
        .map(|e| {
            let text = e["text"].as_str().unwrap_or("?").to_string();
            vec![text, number(&e["count"]), percent(float(&e["count"]), all)]
        })
        .collect();
    let others = &json["other_errors"];
    if float(others) > 0.0 {
        rows.push(vec!["others".into(), number(others), percent(float(others), all)]);
    }
    table(&["error (numbers as #)", "n", "share of invocations"], rows)
}

/// Quantiles of every time.
pub(super) fn times(json: &Value) -> String {
    const COLUMNS: [&str; 8] = ["n", "mean", "p50", "p90", "p95", "p99", "p999", "max"];
    let rows = [
        ("latency_ms", "latency, ms"),
        ("queue_ms", "queue, ms"),
        ("cold_ms", "cold start, ms"),
        ("exec_ms", "execution, ms"),
        ("start_delay_ms", "start delay, ms"),
        ("overhead_ms", "overhead, ms"),
        ("slowdown", "slowdown"),
    ];
    let cells = |(key, name): (&str, &str)| {
        let figures = COLUMNS.iter().map(|c| number(&json[key][*c]));
        std::iter::once(name.to_string()).chain(figures).collect()
    };
    table(&["", "n", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"], rows.map(cells))
}

/// A row of a CSV file: its first field is a name, its second is what rows are ordered by.
type Row<const N: usize> = [String; N];

fn rows_of<const N: usize>(path: &Path, columns: [&str; N]) -> Result<Vec<Row<N>>> {
    let mut rows = Vec::new();
    if path.exists() {
        each_row(path, columns, |fields| {
            rows.push(fields.map(|f| String::from_utf8_lossy(f).into_owned()));
            Ok(())
        })?;
    }
    Ok(rows)
}

fn of(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

/// A field as a number for people; empty where it is.
fn shown(text: &str) -> String {
    text.parse::<f64>().map_or(String::new(), |x| number(&Value::from(x)))
}

/// The most invoked functions.
///
/// # Errors
/// If `functions.csv` cannot be read.
pub(super) fn functions(folder: &Path) -> Result<String> {
    const COLUMNS: [&str; 8] = [
        "function",
        "invocations",
        "completed",
        "cold_start_share",
        "latency_p50_ms",
        "latency_p99_ms",
        "exec_mean_ms",
        "memory_mb",
    ];
    let mut rows = rows_of(&folder.join("functions.csv"), COLUMNS)?;
    let all: f64 = rows.iter().map(|r| of(&r[1])).sum();
    rows.sort_by(|a, b| of(&b[1]).total_cmp(&of(&a[1])).then_with(|| a[0].cmp(&b[0])));
    let n = rows.len();
    let cells = rows.iter().take(FUNCTIONS).map(|r| {
        let [name, invocations, completed, cold, p50, p99, exec, memory] = r;
        let failed = of(invocations) - of(completed);
        vec![
            name.clone(),
            shown(invocations),
            percent(of(invocations), all),
            if failed > 0.0 { shown(&failed.to_string()) } else { String::new() },
            if cold.is_empty() { String::new() } else { percent(of(cold), 1.0) },
            shown(p50),
            shown(p99),
            shown(exec),
            shown(memory),
        ]
    });
    let head =
        ["function", "n", "share", "not completed", "cold", "p50, ms", "p99, ms", "execution, ms", "MB"];
    let note = if n > FUNCTIONS {
        format!("<p class=\"note\">The {FUNCTIONS} most invoked of {n}; all are in functions.csv.</p>")
    } else {
        String::new()
    };
    Ok(if n == 0 { String::new() } else { table(&head, cells) + &note })
}

/// Workers, and how far apart they are; nothing of a single one.
///
/// # Errors
/// If `workers.csv` cannot be read.
pub(super) fn workers(folder: &Path) -> Result<String> {
    const COLUMNS: [&str; 6] =
        ["worker", "invocations", "cold_starts", "evictions", "peak_used_mb", "gb_seconds_running"];
    let rows = rows_of(&folder.join("workers.csv"), COLUMNS)?;
    if rows.len() < 2 {
        return Ok(String::new());
    }
    let all: f64 = rows.iter().map(|r| of(&r[1])).sum();
    let cells = rows.iter().take(WORKERS).map(|r| {
        vec![
            r[0].clone(),
            shown(&r[1]),
            percent(of(&r[1]), all),
            percent(of(&r[2]), of(&r[1])),
            shown(&r[3]),
            shown(&r[4]),
            shown(&r[5]),
        ]
    });
    let head = ["worker", "n", "share", "cold", "evictions", "peak used, MB", "running, GB-seconds"];
    let more = match rows.len().saturating_sub(WORKERS) {
        0 => String::new(),
        more => format!(" {more} more are in workers.csv."),
    };
    let apart = |column: usize| {
        let (most, spread) = imbalance(&rows.iter().map(|r| of(&r[column])).collect::<Vec<_>>());
        format!(
            "the most of a worker is {most:.2} times the mean, the standard deviation {:.0} % of it",
            spread * 100.0
        )
    };
    Ok(format!(
        "{}<p class=\"note\">Imbalance: of invocations {}; of memory-time at work {}.{more}</p>",
        table(&head, cells),
        apart(1),
        apart(5)
    ))
}

/// The most over the mean, and the standard deviation over the mean.
fn imbalance(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    if mean <= 0.0 {
        return (1.0, 0.0);
    }
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (values.iter().copied().fold(0.0, f64::max) / mean, variance.sqrt() / mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn imbalance_is_told_against_the_mean() {
        assert_eq!(imbalance(&[1.0, 1.0, 4.0]), (2.0, 2f64.sqrt() / 2.0));
        assert_eq!((imbalance(&[3.0, 3.0]), imbalance(&[0.0, 0.0])), ((1.0, 0.0), (1.0, 0.0)));
    }

    #[test]
    fn cold_starts_have_their_share_and_their_causes() {
        let json = json!({"cold_starts": 25, "warm_starts": 75, "prewarmed_starts": 0, "late_starts": 0,
            "cold_causes": {"first": 5, "expired": 20, "evicted": 0}});
        let table = starts(&json);
        for cell in [
            "<td>cold starts</td><td>25</td><td>25 %</td>",
            "<td>20</td><td>20 %</td>",
            "<td>5</td><td>5 %</td>",
        ] {
            assert!(table.contains(cell), "{cell} in {table}");
        }
        assert!(
            !table.contains("prewarmed") && !table.contains("evicted"),
            "what never happened has no line"
        );
    }

    #[test]
    fn memory_time_is_told_by_what_it_was_held_for() {
        let json = json!({"gb_seconds": {"running": 10, "creating": 10, "cached": 60, "removing": 0},
            "memory_mb": {"capacity": 2048, "peak_used": 2000}});
        let table = memory(&json);
        assert!(table.contains("<td>60</td><td>75 %</td>") && table.contains("held 3.00 times"), "{table}");
    }
}
