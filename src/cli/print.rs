//! The one place that prints: results on stdout, progress, notes and faults on stderr; for people, or for programs.

use super::{show, summary};
use elapse::backend::Calibration;
use elapse::base::{Dist, Fault, Result, nearest};
use elapse::world::{Finished, Plan, Pulled, Stage};
use elapse_real::doctor::{Finding, Level};
use serde_json::{Value, json};
use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How the program speaks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Results and faults only.
    pub quiet: bool,
    /// Results for programs.
    pub json: bool,
}

static MODE: OnceLock<Mode> = OnceLock::new();
/// The first fault of stdout, but that its reader has gone.
static BROKEN: OnceLock<String> = OnceLock::new();
/// Where results are that stdout was to tell of.
static KEPT: OnceLock<PathBuf> = OnceLock::new();

/// Says how to speak, once and before anything is said.
pub fn set(mode: Mode) {
    let _ = MODE.set(mode);
}

fn mode() -> Mode {
    MODE.get().copied().unwrap_or_default()
}

pub fn is_quiet() -> bool {
    mode().quiet
}

pub fn is_json() -> bool {
    mode().json
}

/// Writes a part of a result. Whoever reads it may stop when it has enough: that is no fault.
pub fn put(bytes: &[u8]) {
    note_fault(io::stdout().lock().write_all(bytes));
}

fn note_fault(written: io::Result<()>) {
    if let Err(e) = written
        && e.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = BROKEN.set(match e.kind() {
            io::ErrorKind::StorageFull => "no space is left on the device".into(),
            _ => e.to_string(),
        });
    }
}

/// What kept results from being printed, when all has been said.
pub fn broken() -> Option<Fault> {
    note_fault(io::stdout().lock().flush());
    let kept = KEPT.get().map_or(String::new(), |at| format!("; the results are whole, in {}", at.display()));
    BROKEN.get().map(|why| Fault::host(format!("cannot write to standard output: {why}{kept}")))
}

/// A line of a result for people.
pub fn line(text: Arguments<'_>) {
    put(format!("{text}\n").as_bytes());
}

/// A result for programs: a line.
pub fn value(value: &Value) {
    put(format!("{value}\n").as_bytes());
}

/// An effective plan.
pub fn plan(plan: &impl Plan) -> Result<u8> {
    match is_json() {
        true => value(&plan.to_json()?),
        false => put(plan.to_toml()?.as_bytes()),
    }
    Ok(0)
}

/// A line beside the results. Nobody is obliged to read it.
pub fn aside(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

pub fn fault(fault: &Fault) {
    aside(&format!("elapse: {fault}"));
}

/// What a reader of a result has to know.
pub fn remarks(remarks: &[String]) {
    if !is_quiet() {
        remarks.iter().for_each(|remark| aside(&format!("note: {remark}")));
    }
}

/// What a daemon answered: JSON is laid out, anything else is printed as it is.
pub fn answer(body: &[u8]) {
    match (serde_json::from_slice::<Value>(body), is_json()) {
        (Ok(found), true) => value(&found),
        (Err(_), true) => value(&json!(String::from_utf8_lossy(body))),
        (Ok(found), false) if found.is_object() => line(format_args!("{found:#}")),
        _ => put(body),
    }
}

pub fn measuring(backend: &str) {
    if !is_quiet() {
        aside(&format!("measuring {backend}; nothing else should run meanwhile"));
    }
}

/// What was measured, in means, what of it does not come out when it is simulated again, and where it is.
pub fn calibrated(calibration: &Calibration, off: &[Stage], path: &Path) {
    if is_json() {
        let measured = serde_json::to_value(calibration).unwrap_or_default();
        return value(&json!({"out": path, "calibration": measured}));
    }
    let ms = |dist: &Dist| show::millis(dist.mean() / 1e6);
    for (name, m) in calibration.backend.iter().filter(|_| !is_quiet()) {
        let cold: Vec<String> = m.cold_start.iter().map(|(n, d)| format!("{} at {n}", ms(d))).collect();
        say!("{name}: cold start {}; removal {}", cold.join(", "), ms(&m.removal));
        let over: Vec<String> = m.overhead.iter().map(|(b, d)| format!("{} {}", b.word(), ms(d))).collect();
        say!("  beyond the intended duration: {}; first call {}", over.join(", "), ms(&m.first_call));
        if let Some(read) = &m.memory_read {
            say!("  a reading of its memory: {}", ms(read));
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
    say!("{}", path.display());
}

/// What was seen of this host.
pub fn findings(all: &[Finding]) {
    for finding in all {
        let mark = match finding.level {
            Level::Good => "ok",
            Level::Spoils => "spoils",
            Level::Missing => "missing",
        };
        if is_json() {
            value(&json!({"level": mark, "what": finding.what, "says": finding.says}));
        } else {
            say!("{mark:<7}  {:<12} {}", finding.what, finding.says);
        }
    }
}

/// What was removed of a worker.
pub fn removed(removed: &[String], worker: &str) {
    if is_json() {
        return value(&json!({"worker": worker, "removed": removed}));
    }
    removed.iter().for_each(|what| say!("removed {what}"));
    if removed.is_empty() {
        let others = elapse_real::doctor::workers();
        let near = nearest(worker, others.iter().map(String::as_str));
        let hint = match (near, others.is_empty()) {
            (_, true) => String::new(),
            (Some(near), _) => format!("; did you mean '{near}'?"),
            (None, _) => format!("; it has something of {}", others.join(", ")),
        };
        say!("this host has nothing of a worker '{worker}'{hint}");
    }
}

/// Files that were written.
pub fn paths(paths: &[PathBuf]) {
    for path in paths {
        if is_json() {
            value(&json!({"path": path}));
        } else {
            say!("{}", path.display());
        }
    }
}

/// Stdout for a table of comma-separated values; for programs, an object a row.
#[derive(Default)]
pub struct Table {
    columns: Vec<String>,
    begun: Vec<u8>,
}

impl Table {
    fn row(&mut self, row: &[u8]) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row);
        let Some(Ok(fields)) = reader.records().next() else { return };
        if self.columns.is_empty() {
            self.columns = fields.iter().map(str::to_string).collect();
            return;
        }
        let cell = |text: &str| match (text.parse::<i64>(), text.parse::<f64>()) {
            _ if text.is_empty() => Value::Null,
            (Ok(whole), _) => json!(whole),
            (_, Ok(number)) => json!(number),
            _ => json!(text),
        };
        let pairs = self.columns.iter().cloned().zip(fields.iter().map(cell));
        value(&Value::Object(pairs.collect()));
    }
}

impl Write for Table {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !is_json() {
            put(bytes);
            return Ok(bytes.len());
        }
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let row = std::mem::take(&mut self.begun);
                self.row(&row);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came from Graphite, and where it is.
pub fn pulled(pulled: &Pulled, path: &Path) {
    if is_json() {
        let remarks = &pulled.remarks;
        return value(
            &json!({"path": path, "series": pulled.series, "points": pulled.points, "remarks": remarks}),
        );
    }
    say!("{} series with {} points", show::count(pulled.series as u64), show::count(pulled.points));
    pulled.remarks.iter().for_each(|remark| say!("  note: {remark}"));
    say!("{}", path.display());
}

/// What a check found, and whether all is well.
pub fn says(lines: &[String], good: bool) {
    if is_json() {
        value(&json!({"good": good, "says": lines}));
    } else {
        lines.iter().for_each(|line| say!("{line}"));
    }
}

/// What repeats differ in.
pub fn noise_floor(text: &str, folder: &Path) {
    if is_json() {
        value(&json!({"folder": folder, "noise_floor": text.lines().collect::<Vec<_>>()}));
    } else if is_quiet() {
        say!("{}", folder.display());
    } else {
        say!("{text}");
    }
}

/// The result of a run.
pub fn finished(finished: &Finished) {
    if let Some(folder) = &finished.folder {
        let _ = KEPT.set(folder.clone());
    }
    match mode() {
        Mode { json: true, .. } => {
            let mut all = finished.summary.json();
            all["folder"] = json!(finished.folder);
            all["wall_seconds"] = json!(finished.wall_seconds);
            all["cpu_seconds"] = json!(finished.cpu_seconds);
            all["event_hash"] = json!(finished.event_hash.map(|hash| format!("{hash:016x}")));
            value(&all);
        }
        Mode { quiet: true, .. } => {
            if let Some(folder) = &finished.folder {
                say!("{}", folder.display());
            }
        }
        _ => put(summary::text(finished).as_bytes()),
    }
}
