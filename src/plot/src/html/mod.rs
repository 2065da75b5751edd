//! report.html: one page that needs nothing beside it.

mod style;
mod tables;

use super::Plot;
use crate::base::Result;
use elapse_report::warnings;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Text as it stands in a page or a picture.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// 1234567.8 as `1,234,567.8`.
fn number(value: &Value) -> String {
    let Some(x) = value.as_f64() else {
        return value.as_str().map_or("\u{2013}".into(), str::to_string);
    };
    let text = elapse_report::short(if x.abs() >= 100.0 {
        (x * 10.0).round() / 10.0
    } else {
        (x * 1000.0).round() / 1000.0
    });
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |d| ("-", d));
    let grouped = digits.parse().map_or(digits.to_string(), super::grouped);
    format!("{sign}{grouped}{rest}")
}

/// A part of a whole in per cent; nothing of nothing.
fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return String::new();
    }
    let percent = part / whole * 100.0;
    let digits = if percent >= 10.0 || percent == 0.0 { 10.0 } else { 100.0 };
    format!("{} %", elapse_report::short((percent * digits).round() / digits))
}

/// The page of a run, from its folder and `run.json`, which may not be written yet.
///
/// # Errors
/// If one of its files cannot be read.
pub(super) fn page(
    folder: &Path,
    run: &Value,
    json: &Value,
    methods: &str,
    plots: &[Plot],
) -> Result<String> {
    let mut out = String::new();
    let title = escape(json["name"].as_str().unwrap_or("run"));
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}: Elapse</title><style>{}{}</style><h1>{title}</h1>\
         <p class=\"lead\">{} invocations of {} functions, {}, seed {}</p>",
        super::fonts::font_rule(),
        style::STYLE,
        number(&json["invocations"]),
        number(&json["functions"]),
        escape(json["backend"].as_str().unwrap_or("?")),
        json["seed"]
    );
    for warning in warnings(json) {
        let _ = write!(out, "<div class=\"warn\">{}</div>", escape(&warning));
    }
    out.push_str(&tiles(json));
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            let _ = write!(out, "<h2>{title}</h2>{body}");
        }
    };
    section("Why invocations did not complete", tables::errors(json));
    let pictures = plots.iter().map(|plot| format!("<figure>{}</figure>", plot.svg));
    section("Pictures", pictures.collect());
    section("Times", tables::times(json));
    section("Starts", tables::starts(json));
    section("Memory held", tables::memory(json));
    section("Functions", tables::functions(folder)?);
    section("Workers", tables::workers(folder)?);
    section("Invocations and containers", tables::counts(json));
    section("What was run", what_was_run(run));
    section("Methods", format!("<p>{}</p>", escape(methods)));
    section("Files", files(folder));
    let _ = writeln!(
        out,
        "<footer>Elapse {} · result hash {}</footer></html>",
        env!("CARGO_PKG_VERSION"),
        json["result_hash"].as_str().unwrap_or("?")
    );
    Ok(out)
}

/// The figures that a reader looks for first.
fn tiles(json: &Value) -> String {
    let count = |key: &str| json[key].as_f64().unwrap_or(0.0);
    let starts = ["cold_starts", "warm_starts", "prewarmed_starts", "late_starts"].map(count).iter().sum();
    let failed = count("invocations") - count("completed");
    let capacity = json["memory_mb"]["capacity"]
        .as_f64()
        .map_or(String::new(), |mb| format!(" of {}", number(&mb.into())));
    let all = [
        ("completed", number(&json["completed"])),
        ("not completed", format!("{} ({})", number(&failed.into()), percent(failed, count("invocations")))),
        (
            "cold starts",
            format!("{} ({})", number(&json["cold_starts"]), percent(count("cold_starts"), starts)),
        ),
        ("latency p50, ms", number(&json["latency_ms"]["p50"])),
        ("latency p99, ms", number(&json["latency_ms"]["p99"])),
        ("peak memory used, MB", format!("{}{capacity}", number(&json["memory_mb"]["peak_used"]))),
        ("memory held idle, GB-seconds", number(&json["gb_seconds"]["cached"])),
        ("offered load, cores", number(&json["offered_load"])),
    ];
    let worth = |(name, _): &&(&str, String)| *name != "not completed" || failed > 0.0;
    let tile = |(name, value): &(&str, String)| {
        format!("<div class=\"tile\"><b>{}</b><span>{name}</span></div>", value.trim_end_matches(" ()"))
    };
    format!("<div class=\"tiles\">{}</div>", all.iter().filter(worth).map(tile).collect::<String>())
}

/// Command, versions and plan. A simulation's page is the same for equal plans, however they were typed: its command is that of
/// the plan, and what was typed stands in `run.json`, which is shown where it lies beside the page.
fn what_was_run(run: &Value) -> String {
    let live = run["event_hash"].is_null();
    let mut out = String::new();
    if run["plan"].is_object() {
        let plan = serde_json::to_string_pretty(&run["plan"]).unwrap_or_default();
        let same = if live { "elapse live plan.json" } else { "elapse sim plan.json" };
        let typed = if live { typed(run) } else { None };
        let _ = write!(
            out,
            "<pre><code>{}</code></pre><details><summary>The effective plan, plan.json</summary><pre>{}</pre></details>",
            escape(&typed.unwrap_or_else(|| same.to_string())),
            escape(&plan)
        );
    }
    if let Some(version) = run["version"].as_str() {
        let _ = write!(out, "<p class=\"note\">Elapse {}", escape(version));
        let host = &run["host"];
        if live && let (Some(kernel), Some(cpu)) = (host["kernel"].as_str(), host["cpu"].as_str()) {
            let (cores, memory) = (number(&host["cores"]), number(&host["memory_mb"]));
            let _ = write!(out, " on {}, {cores} × {}, {memory} MB", escape(kernel), escape(cpu));
        }
        out.push_str("</p>");
    }
    out + "<details><summary>As it was typed, where, and at what cost: run.json</summary><iframe src=\"run.json\" \
           title=\"run.json\" loading=\"lazy\"></iframe></details>"
}

/// The command without where its results went: that changes nothing in them.
fn typed(run: &Value) -> Option<String> {
    let words: Vec<&str> = run["command"].as_array()?.iter().filter_map(Value::as_str).collect();
    let mut kept = vec!["elapse".to_string()];
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        match *word {
            "--out" | "-o" => drop(rest.next()),
            "--force" => {}
            word if word.starts_with("--out=") => {}
            word => kept.push(quoted(word)),
        }
    }
    (!words.is_empty()).then(|| kept.join(" "))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Links to the files beside the page.
fn files(folder: &Path) -> String {
    const FILES: [(&str, &str); 11] = [
        ("summary.json", "every figure"),
        ("run.json", "command, plan, host and cost"),
        ("functions.csv", "a row for each function"),
        ("workers.csv", "a row for each worker"),
        ("records.csv", "a row for each invocation"),
        ("metrics.csv", "series over time"),
        ("graphite.csv", "series from Graphite"),
        ("distributions.csv", "distributions of times"),
        ("heat.csv", "functions over time"),
        ("methods.txt", "a paragraph for a paper"),
        ("methods.bib", "what it cites"),
    ];
    // run.json is written last.
    let there = FILES.iter().filter(|(name, _)| *name == "run.json" || folder.join(name).exists());
    let link = |(name, what): &(&str, &str)| format!("<li><a href=\"{name}\">{name}</a>: {what}</li>");
    format!("<ul>{}</ul>", there.map(link).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_command_is_told_without_where_its_results_went() {
        let run = json!({"command": ["/usr/bin/elapse", "sim", "my file.toml", "--out", "a", "--force", "--seed", "2"]});
        assert_eq!(typed(&run).unwrap(), "elapse sim 'my file.toml' --seed 2");
        assert_eq!(typed(&json!({})), None);
    }

    #[test]
    fn numbers_and_shares_are_short() {
        assert_eq!(
            [json!(1_234_567.84), json!(-0.12345), json!(null)].map(|v| number(&v)),
            ["1,234,567.8", "-0.123", "\u{2013}"]
        );
        assert_eq!([percent(1.0, 3.0), percent(1.0, 300.0), percent(0.0, 0.0)], ["33.3 %", "0.33 %", ""]);
    }
}
