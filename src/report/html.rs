//! report.html: one page that needs nothing beside it.

use super::Plot;
use crate::base::{ColdCause, Status};
use serde_json::Value;
use std::fmt::Write as _;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// 1234567.8 as `1,234,567.8`.
fn grouped(value: &Value) -> String {
    let Some(x) = value.as_f64() else {
        return value.as_str().map_or("–".into(), str::to_string);
    };
    let text = super::tables::short(if x.abs() >= 100.0 {
        (x * 10.0).round() / 10.0
    } else {
        (x * 1000.0).round() / 1000.0
    });
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |d| ("-", d));
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    format!("{sign}{out}{rest}")
}

const STYLE: &str = "body{font:16px/1.5 'Open Sans',system-ui,sans-serif;color:#222;max-width:940px;margin:2.5rem auto;padding:0 1rem}\
h1{font-size:1.7rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p.lead{color:#555;margin:.2rem 0 1.6rem}\
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:.8rem}\
.tile{border:1px solid #ddd;border-radius:8px;padding:.6rem .8rem}.tile b{display:block;font-size:1.35rem}.tile span{color:#666;font-size:.85rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #e5e5e5}\
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:#555;font-size:.9rem}figure{margin:1.2rem 0}svg{width:100%;height:auto}\
.warn{background:#fff4e0;border-left:4px solid #e69f00;padding:.5rem .9rem;margin:.5rem 0}footer{color:#777;font-size:.85rem;margin-top:2.5rem}";

/// The page of a run, from its `summary.json` and `methods.txt`.
pub(super) fn page(json: &Value, methods: &str, plots: &[Plot]) -> String {
    let mut out = String::new();
    let title = escape(json["name"].as_str().unwrap_or("run"));
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: Elapse</title><style>{}{STYLE}</style><h1>{title}</h1><p class=\"lead\">{} invocations of {} functions, {}, seed {}</p>",
        super::plots::font_rule(),
        grouped(&json["invocations"]),
        grouped(&json["functions"]),
        escape(json["backend"].as_str().unwrap_or("?")),
        json["seed"]
    );
    for warning in warnings(json) {
        let _ = write!(out, "<div class=\"warn\">{}</div>", escape(&warning));
    }
    out.push_str("<div class=\"tiles\">");
    let mut tile = |name: &str, value: String| {
        let _ = write!(out, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    };
    tile("completed", grouped(&json["completed"]));
    tile("cold starts", grouped(&json["cold_starts"]));
    tile("latency p50, ms", grouped(&json["latency_ms"]["p50"]));
    tile("latency p99, ms", grouped(&json["latency_ms"]["p99"]));
    tile("evictions", grouped(&json["evictions"]));
    tile("peak memory used, MB", grouped(&json["memory_mb"]["peak_used"]));
    tile("offered load, cores", grouped(&json["offered_load"]));
    tile("virtual seconds", grouped(&json["virtual_seconds"]));
    out.push_str("</div>");
    for plot in plots {
        let _ = write!(out, "<figure aria-label=\"{}\">{}</figure>", escape(&plot.title), plot.svg);
    }
    out.push_str("<h2>Times</h2><table><tr><th></th>");
    let columns = ["n", "mean", "p50", "p90", "p95", "p99", "p999", "max"];
    columns.iter().for_each(|c| {
        let _ = write!(out, "<th>{c}</th>");
    });
    out.push_str("</tr>");
    for (key, name) in [
        ("latency_ms", "latency, ms"),
        ("queue_ms", "queue, ms"),
        ("cold_ms", "cold start, ms"),
        ("exec_ms", "execution, ms"),
        ("start_delay_ms", "start delay, ms"),
        ("overhead_ms", "overhead, ms"),
        ("slowdown", "slowdown"),
    ] {
        let _ = write!(out, "<tr><td>{name}</td>");
        columns.iter().for_each(|c| {
            let _ = write!(out, "<td>{}</td>", grouped(&json[key][*c]));
        });
        out.push_str("</tr>");
    }
    out.push_str("</table><h2>Invocations and containers</h2><table>");
    let mut row = |name: &str, value: &Value| {
        let _ = write!(out, "<tr><td>{name}</td><td>{}</td></tr>", grouped(value));
    };
    Status::ALL.iter().for_each(|s| row(s.word(), &json[s.word()]));
    for key in ["cold_starts", "warm_starts", "prewarmed_starts", "late_starts"] {
        row(&key.replace('_', " "), &json[key]);
    }
    ColdCause::ALL.iter().for_each(|c| row(&format!("cold: {c}"), &json["cold_causes"][c.word()]));
    for key in
        ["evictions", "expirations", "containers_created", "containers_left", "memory_reads", "loop_restarts"]
    {
        row(&key.replace('_', " "), &json[key]);
    }
    for (key, name) in [
        ("peak_used", "peak used, MB"),
        ("peak_running", "peak running, MB"),
        ("peak_cached", "peak cached, MB"),
        ("mean_running", "mean running, MB"),
        ("mean_cached", "mean cached, MB"),
    ] {
        row(name, &json["memory_mb"][key]);
    }
    out.push_str("</table><h2>Methods</h2><p>");
    out.push_str(&escape(methods));
    let _ = writeln!(
        out,
        "</p><footer>Elapse {} · result hash {}</footer></html>",
        env!("CARGO_PKG_VERSION"),
        json["result_hash"].as_str().unwrap_or("?")
    );
    out
}

/// What a reader has to know before the figures, from a `summary.json`.
pub(super) fn warnings(json: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if json["interrupted"] == true {
        warnings.push("The run was interrupted: these are the figures up to then.".to_string());
    }
    if json["unstable"] == true {
        let busy = json["offered_load"].as_f64().unwrap_or(0.0);
        let share = json["offered_load_share"].as_f64();
        let share = share.map_or(String::new(), |s| format!(", {:.0} % of them", s * 100.0));
        warnings.push(format!(
            "Unstable: the queue still grew when arrivals ended. The load asks for {busy:.2} cores{share}; waiting times say \
             more about the length of the run than about the policy."
        ));
    }
    let remarks = json["remarks"].as_array().into_iter().flatten();
    warnings.extend(remarks.filter_map(|r| r.as_str().map(str::to_string)));
    let notes = json["trace_notes"].as_object().into_iter().flatten();
    warnings.extend(notes.map(|(kind, n)| format!("Trace: {n} {kind}.")));
    warnings
}
