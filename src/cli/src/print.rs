//! The one place that prints: results on stdout, progress, notes and faults on stderr; for people, or for programs.

use crate::summary;
use elapse::base::{Fault, Result};
use elapse::{Finished, Plan};
use serde_json::{Value, json};
use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::PathBuf;
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
pub fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

pub fn fault(fault: &Fault) {
    to_stderr(&format!("elapse: {fault}"));
}

/// What a reader of a result has to know.
pub fn remarks(remarks: &[String]) {
    if !is_quiet() {
        remarks.iter().for_each(|remark| to_stderr(&format!("note: {remark}")));
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
