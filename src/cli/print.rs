//! The one place that prints: results on stdout, progress and faults on stderr.

use elapse::backend::Calibration;
use elapse::base::{Dist, Fault, Status};
use elapse::world::{Finished, Progress as Far, Pulled, Stage};
use elapse_real::doctor::{Finding, Level};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};

pub fn fault(fault: &Fault) {
    eprintln!("elapse: {fault}");
}

/// What a daemon answered: JSON is laid out, anything else is printed as it is.
pub fn answer(body: &[u8]) -> Result<u8, Fault> {
    let mut out = io::stdout().lock();
    let written = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(value) if value.is_object() => writeln!(out, "{value:#}"),
        _ => out.write_all(body),
    };
    match written {
        // Whoever reads our output may stop when it has enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Fault::host(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(0),
    }
}

pub fn measuring(backend: &str) {
    eprintln!("measuring {backend}; nothing else should run meanwhile");
}

/// What was measured, in means, and what of it does not come out when it is simulated again.
pub fn calibrated(calibration: &Calibration, off: &[Stage]) {
    let ms = |dist: &Dist| format!("{:.3} ms", dist.mean() / 1e6);
    for (name, m) in &calibration.backend {
        let cold: Vec<String> = m.cold_start.iter().map(|(n, d)| format!("{} at {n}", ms(d))).collect();
        say!("{name}: cold start {}; removal {}", cold.join(", "), ms(&m.removal));
        let over: Vec<String> = m.overhead.iter().map(|(b, d)| format!("{} {}", b.word(), ms(d))).collect();
        say!("  beyond the intended duration: {}; first call {}", over.join(", "), ms(&m.first_call));
        if let Some(read) = &m.memory_read {
            say!("  a reading of its memory: {:.1} us", read.mean() / 1e3);
        }
    }
    for stage in off {
        say!(
            "  note: {}: {}: {:.3} ms measured, {:.3} ms when it is simulated again ({:+.0} %)",
            stage.backend,
            stage.what,
            stage.measured,
            stage.simulated,
            stage.off() * 100.0
        );
    }
    calibration.remarks().iter().for_each(|remark| say!("  note: {remark}"));
}

/// What was seen of this host.
pub fn findings(all: &[Finding]) {
    for finding in all {
        let mark = match finding.level {
            Level::Good => "ok     ",
            Level::Spoils => "spoils ",
            Level::Missing => "missing",
        };
        say!("{mark}  {:<12} {}", finding.what, finding.says);
    }
}

pub fn text(text: &str) {
    print!("{text}");
}

pub fn paths(paths: &[std::path::PathBuf]) {
    paths.iter().for_each(|path| say!("{}", path.display()));
}

/// Stdout for a table. Whoever reads it may stop early.
pub struct Table;

impl Write for Table {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().flush() {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e),
            _ => Ok(()),
        }
    }
}

/// What a reader of a table has to know.
pub fn remarks(remarks: &[String]) {
    remarks.iter().for_each(|remark| eprintln!("note: {remark}"));
}

/// What came from Graphite.
pub fn pulled(pulled: &Pulled) {
    say!("{} series with {} points", pulled.series, pulled.points);
    pulled.remarks.iter().for_each(|remark| say!("  note: {remark}"));
}

/// A line on the terminal that tells how far a run is.
pub struct Progress(ProgressBar);

impl Progress {
    /// None where stderr is no terminal.
    pub fn new() -> Option<Progress> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} {bar:30} {percent:>3}% {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Some(Progress(bar))
    }

    pub fn teller(&self) -> impl FnMut(Far) + use<> {
        let bar = self.0.clone();
        move |far: Far| {
            let share = far.horizon.map_or(0.0, |h| far.now.as_secs_f64() / h.as_secs_f64().max(1e-9));
            bar.set_position((share * 1000.0).min(1000.0) as u64);
            bar.set_message(format!(
                "virtual {:.0} s, {:.0} times real time",
                far.now.as_secs_f64(),
                far.speed_up
            ));
        }
    }

    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The result of a run, for people.
pub fn finished(finished: &Finished) {
    let summary = &finished.summary;
    let json = summary.json();
    let get = |path: &str| -> String {
        let value = path.split('.').fold(&json, |v, key| &v[key]);
        value
            .as_f64()
            .map_or_else(|| "-".into(), |x| if x.fract() == 0.0 { format!("{x}") } else { format!("{x:.3}") })
    };
    let ended: Vec<String> = Status::ALL
        .iter()
        .filter(|s| summary.ended(**s) > 0)
        .map(|s| format!("{} {s}", summary.ended(*s)))
        .collect();
    say!("{}: {} invocations: {}", summary.facts.name, summary.invocations(), ended.join(", "));
    say!(
        "  starts     cold {}  warm {}  prewarmed {}  late {}",
        get("cold_starts"),
        get("warm_starts"),
        get("prewarmed_starts"),
        get("late_starts")
    );
    say!(
        "  containers created {}  evicted {}  expired {}  left {}",
        get("containers_created"),
        get("evictions"),
        get("expirations"),
        get("containers_left")
    );
    say!("  ms         {:>12} {:>12} {:>12} {:>12} {:>12}", "mean", "p50", "p90", "p99", "max");
    for (name, key) in [
        ("latency", "latency_ms"),
        ("queue", "queue_ms"),
        ("cold start", "cold_ms"),
        ("execution", "exec_ms"),
    ] {
        let at = |q: &str| get(&format!("{key}.{q}"));
        say!(
            "  {name:<10} {:>12} {:>12} {:>12} {:>12} {:>12}",
            at("mean"),
            at("p50"),
            at("p90"),
            at("p99"),
            at("max")
        );
    }
    say!(
        "  memory MB  peak used {}  running {}  cached {}  of {}",
        get("memory_mb.peak_used"),
        get("memory_mb.peak_running"),
        get("memory_mb.peak_cached"),
        json["memory_mb"]["capacity"].as_f64().map_or("unlimited".into(), |mb| mb.to_string())
    );
    let seconds = summary.facts.end.as_secs_f64();
    match finished.event_hash {
        Some(event_hash) => say!(
            "  virtual {seconds:.1} s in {:.2} s: {:.0} times real time, {:.0} invocations per CPU second; result hash {:016x}, event hash {event_hash:016x}",
            finished.wall_seconds,
            seconds / finished.wall_seconds.max(1e-9),
            summary.invocations() as f64 / finished.cpu_seconds.max(1e-9),
            summary.result_hash,
        ),
        None => say!(
            "  live on {} for {seconds:.1} s, worker and load used {:.2} CPU seconds",
            summary.facts.backend,
            finished.cpu_seconds
        ),
    }
    for warning in summary.warnings() {
        say!("  note: {warning}");
    }
    if let Some(graphite) = &finished.graphite {
        if let Some(pulled) = &graphite.pulled {
            say!("  Graphite: {} series with {} points, in graphite.csv", pulled.series, pulled.points);
        }
        graphite.remarks.iter().for_each(|remark| say!("  note: {remark}"));
    }
    if let Some(folder) = &finished.folder {
        let folder = folder.display();
        say!("  results in {folder}; open {folder}/report.html");
    }
}
