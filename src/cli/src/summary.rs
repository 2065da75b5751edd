//! A run's result for people: what of its figures is not nothing, in units that scale, with the words that only this field
//! has explained where they stand.

use crate::show;
use elapse::Finished;
use elapse::base::{ColdCause, Cpus, StartKind, Status};
use serde_json::Value;

/// Where figures begin.
const COLUMN: usize = 15;
/// Where lines end that have several parts.
const WIDTH: usize = 100;

/// The summary in lines.
pub fn text(finished: &Finished) -> String {
    let json = finished.summary.json();
    let is_unlimited = finished.summary.workers.iter().any(|w| w.cores == Cpus::MAX);
    let mut page = Page { json: &json, is_unlimited, text: String::new() };
    page.invocations(&finished.summary.facts.name);
    page.errors();
    page.starts();
    page.containers();
    page.distributions();
    page.memory();
    page.load();
    page.run(finished);
    let mut text = page.text;
    for warning in finished.summary.warnings() {
        text.push_str(&format!("  note: {warning}\n"));
    }
    if let Some(graphite) = &finished.graphite {
        if let Some(pulled) = &graphite.pulled {
            let (series, points) = (show::count(pulled.series as u64), show::count(pulled.points));
            text.push_str(&format!("  Graphite: {series} series with {points} points, in graphite.csv\n"));
        }
        for remark in &graphite.remarks {
            text.push_str(&format!("  note: {remark}\n"));
        }
    }
    if let Some(folder) = &finished.folder {
        let page = folder.join("report.html");
        let open = if page.exists() { format!("; open {}", page.display()) } else { String::new() };
        text.push_str(&format!("  results in {}{open}\n", folder.display()));
    }
    text
}

struct Page<'a> {
    json: &'a Value,
    /// Whether cores are never short.
    is_unlimited: bool,
    text: String,
}

impl Page<'_> {
    /// A figure, if the run has it.
    fn figure(&self, path: &str) -> Option<f64> {
        path.split('.').fold(self.json, |v, key| &v[key]).as_f64()
    }

    /// A figure that is worth a word.
    fn some(&self, path: &str) -> Option<f64> {
        self.figure(path).filter(|x| *x > 0.0)
    }

    /// A line with these parts, if there are any; more below where they are too long for one.
    fn line(&mut self, name: &str, parts: &[String]) {
        let mut line = format!("  {name:<width$}", width = COLUMN - 2);
        for (nth, part) in parts.iter().enumerate() {
            let is_first = line.len() <= COLUMN;
            if !is_first && line.chars().count() + 2 + part.chars().count() > WIDTH {
                self.text.push_str(&format!("{line}\n"));
                line = " ".repeat(COLUMN);
            } else if nth > 0 {
                line.push_str("  ");
            }
            line.push_str(part);
        }
        if !parts.is_empty() {
            self.text.push_str(&format!("{line}\n"));
        }
    }

    fn invocations(&mut self, name: &str) {
        let all = self.figure("invocations").unwrap_or(0.0);
        let functions = self.figure("functions").unwrap_or(0.0) as u64;
        let plural = if functions == 1 { "" } else { "s" };
        let ended: Vec<(Status, f64)> =
            Status::ALL.iter().filter_map(|s| Some((*s, self.some(s.word())?))).collect();
        let how = match ended.as_slice() {
            [(status, _)] => format!(", all {}", status.word().replace('_', " ")),
            _ => String::new(),
        };
        self.text.push_str(&format!(
            "{name}: {} invocations of {} function{plural}{how}\n",
            show::count(all as u64),
            show::count(functions)
        ));
        let why = |status: &Status| match status {
            Status::Completed | Status::Failed => "",
            Status::TimedOut => ": ran too long",
            Status::Dropped => ": the queue was full, or they waited too long",
            Status::Lost => ": with their worker",
            Status::Unfinished => ": still under way at the end",
        };
        let part = |(status, n): &(Status, f64)| {
            let word = status.word().replace('_', " ");
            format!("{word} {} ({}{})", show::count(*n as u64), show::share(*n, all), why(status))
        };
        if ended.len() > 1 {
            self.line("ended", &ended.iter().map(part).collect::<Vec<_>>());
        }
    }

    /// Why invocations failed, the most frequent first.
    fn errors(&mut self) {
        let kinds = self.json["errors"].as_array().cloned().unwrap_or_default();
        for (nth, kind) in kinds.iter().enumerate() {
            let (Some(count), Some(text)) = (kind["count"].as_u64(), kind["text"].as_str()) else { continue };
            self.line(if nth == 0 { "errors" } else { "" }, &[format!("{} x {text}", show::count(count))]);
        }
        if let Some(others) = self.some("other_errors") {
            self.line("", &[format!("{} others", show::count(others as u64))]);
        }
    }

    fn starts(&mut self) {
        let of = |kind: &StartKind| self.figure(&format!("{}_starts", kind.word())).unwrap_or(0.0);
        let all: f64 = StartKind::ALL.iter().map(of).sum();
        let mut parts = Vec::new();
        for kind in StartKind::ALL.iter().filter(|kind| of(kind) > 0.0) {
            let what = match kind {
                StartKind::Late => ": in a container that became free before their own was there",
                StartKind::Prewarmed => ": in one created ahead of need",
                StartKind::Cold | StartKind::Warm => "",
            };
            parts.push(format!(
                "{} {} ({}{what})",
                kind.word(),
                show::count(of(kind) as u64),
                show::share(of(kind), all)
            ));
        }
        self.line("starts", &parts);
        let cold = self.some("cold_starts").unwrap_or(1.0);
        let mut causes: Vec<(&ColdCause, f64)> = ColdCause::ALL
            .iter()
            .filter_map(|c| Some((c, self.some(&format!("cold_causes.{}", c.word()))?)))
            .collect();
        causes.sort_by(|a, b| b.1.total_cmp(&a.1));
        let told = causes.iter().map(|(cause, n)| {
            let why = match cause {
                ColdCause::First => "never called before",
                ColdCause::Expired => "keep-alive over",
                ColdCause::Evicted => "memory was needed",
                ColdCause::Concurrency => "all were busy",
                ColdCause::Failure => "the last one failed",
            };
            format!("{} {} ({}: {why})", cause.word(), show::count(*n as u64), show::share(*n, cold))
        });
        let told: Vec<String> = told.collect();
        self.line("cold because", &told);
    }

    fn containers(&mut self) {
        let parts = [
            ("created", "containers_created"),
            ("evicted", "evictions"),
            ("expired", "expirations"),
            ("failed", "containers_failed"),
            ("condemned", "containers_condemned"),
            ("left", "containers_left"),
        ];
        let part =
            |(word, key): &(&str, &str)| Some(format!("{word} {}", show::count(self.some(key)? as u64)));
        let parts: Vec<String> = parts.iter().filter_map(part).collect();
        self.line("containers", &parts);
    }

    fn distributions(&mut self) {
        const AT: [(&str, &str); 7] = [
            ("mean", "mean"),
            ("p50", "p50"),
            ("p90", "p90"),
            ("p95", "p95"),
            ("p99", "p99"),
            ("p99.9", "p999"),
            ("max", "max"),
        ];
        const ROWS: [(&str, &str); 5] = [
            ("latency", "latency_ms"),
            ("queue", "queue_ms"),
            ("cold start", "cold_ms"),
            ("execution", "exec_ms"),
            ("overhead", "overhead_ms"),
        ];
        let shown: Vec<&(&str, &str)> =
            ROWS.iter().filter(|(_, key)| self.some(&format!("{key}.max")).is_some()).collect();
        if shown.is_empty() {
            return;
        }
        let cells = |cells: Vec<String>| cells.iter().map(|c| format!("{c:>10}")).collect::<String>();
        let width = COLUMN - 2;
        self.text.push_str(&format!("  {:width$}{}\n", "", cells(AT.map(|(word, _)| word.into()).to_vec())));
        for (name, key) in shown {
            let row = AT.map(|(_, at)| time(&self.json[*key][at]));
            self.text.push_str(&format!("  {name:<width$}{}\n", cells(row.to_vec())));
        }
    }

    fn memory(&mut self) {
        let Some(peak) = self.some("memory_mb.peak_used") else { return };
        let of = match self.figure("memory_mb.capacity") {
            Some(capacity) => {
                format!("{} ({}; MB is MiB)", show::megabytes(capacity), show::share(peak, capacity))
            }
            None => "unlimited (MB is MiB)".into(),
        };
        let mut parts = vec![format!("at most {} of {of}", show::megabytes(peak))];
        let means = [("running", "memory_mb.mean_running"), ("idle and kept", "memory_mb.mean_cached")];
        let means: Vec<String> = means
            .iter()
            .filter_map(|(word, key)| Some(format!("{} {word}", show::megabytes(self.some(key)?))))
            .collect();
        if !means.is_empty() {
            parts.push(format!("mean {}", means.join(", ")));
        }
        self.line("memory", &parts);
    }

    fn load(&mut self) {
        let mut parts = Vec::new();
        if let Some(offered) = self.some("offered_load") {
            let of = match self.some("offered_load_share") {
                Some(share) => {
                    format!(" of {} ({})", show::digits(offered / share), show::share(share, 1.0))
                }
                None if self.is_unlimited => " of unlimited".into(),
                None => String::new(),
            };
            parts.push(format!("{}{of} asked for in the mean (offered load)", show::digits(offered)));
        }
        if let Some(busy) = self.some("busy_cores.mean") {
            parts.push(format!("{} busy", show::digits(busy)));
        }
        self.line("cores", &parts);
        if let (Some(mean), Some(peak)) = (self.some("queue_length.mean"), self.some("queue_length.peak")) {
            let parts = vec![format!("{} in the mean, {} at most", show::digits(mean), show::digits(peak))];
            self.line("waiting", &parts);
        }
    }

    fn run(&mut self, finished: &Finished) {
        let summary = &finished.summary;
        let seconds = summary.facts.end.as_secs_f64();
        let cpu = finished.cpu_seconds.max(1e-9);
        match finished.event_hash {
            Some(event_hash) => {
                let parts = [
                    format!(
                        "{} of virtual time in {} ({} times real time)",
                        show::millis(seconds * 1e3),
                        show::millis(finished.wall_seconds * 1e3),
                        show::digits(seconds / finished.wall_seconds.max(1e-9)),
                    ),
                    format!(
                        "{} invocations per CPU second",
                        show::digits(summary.invocations() as f64 / cpu)
                    ),
                ];
                self.line("simulated", &parts);
                let hashes = format!("result {:016x}  events {event_hash:016x}", summary.result_hash);
                self.line("hashes", &[hashes]);
            }
            None => {
                let parts = vec![format!(
                    "{} on {}; worker and load used {} of processor time",
                    show::millis(seconds * 1e3),
                    summary.facts.backend,
                    show::millis(finished.cpu_seconds * 1e3)
                )];
                self.line("live", &parts);
            }
        }
    }
}

/// A time of a distribution: in milliseconds, or a bound of it.
fn time(value: &Value) -> String {
    if let Some(bound) = value.as_str().and_then(|text| text.strip_prefix('>')) {
        return bound
            .trim()
            .parse()
            .map_or_else(|_| format!("> {bound}"), |ms| format!("> {}", show::millis(ms)));
    }
    value.as_f64().map_or_else(|| "-".into(), show::millis)
}
