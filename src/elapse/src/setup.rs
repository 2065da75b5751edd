//! What a run was set up with, in words: the effective plan, key by key, for the methods paragraph.

use crate::base::{Duration, Fnv};
use crate::load::{FunctionConfig, TraceConfig};
use crate::report::{Clock, Key, Setup, Trace};
use crate::scenario::{Scenario, Start};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Keys that change no figure, or are told in another way: where things are, what they are called, what is drawn.
const SILENT: &[&str] = &[
    "name",
    "seed",
    "start",
    "graphite",
    "plots",
    "trace.path",
    "trace.paths",
    "model.calibration",
    "live.worker",
    "live.agent",
    "live.containerd",
    "live.docker",
    "live.subnet",
];

/// The setup of a run, which begins at `start` on the calendar.
pub(crate) fn setup(scenario: &Scenario, live: bool, start: Start) -> Setup {
    Setup {
        clock: if live { Clock::Calendar } else { clock(scenario, start) },
        keys: keys(scenario, live),
        functions: scenario.functions.iter().filter_map(phrase).collect(),
        trace: scenario.trace.as_ref().map(trace),
        calibration: scenario.model.calibration.as_deref().filter(|_| !live).map(calibration),
        host: live.then(host),
        font: scenario.plots.font.clone(),
    }
}

/// What times count from: without a start of the plan's or the trace's own, the trace's clock or the run's.
fn clock(scenario: &Scenario, start: Start) -> Clock {
    if start != Start::default() {
        return Clock::Calendar;
    }
    let own = |since: &str, offset_seconds| Clock::Own { since: since.to_string(), offset_seconds };
    let Some(trace) = &scenario.trace else { return own("the start", 0.0) };
    match trace.from.as_deref().map(span) {
        None => own("the trace's time 0", 0.0),
        Some(Some(from)) => own("the trace's time 0", from.0 as f64 / 1e9),
        Some(None) => own("the first replayed instant", 0.0),
    }
}

/// How far `from` is from the trace's time 0: a time of day, or a span.
fn span(text: &str) -> Option<Duration> {
    let Some((hours, rest)) = text.split_once(':') else { return text.parse().ok() };
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let [hours, minutes, seconds] = [hours, minutes, seconds].map(|part| part.parse::<u64>().ok());
    Some(Duration::from_secs(hours? * 3600 + minutes? * 60 + seconds?))
}

/// The host of a live run.
fn host() -> String {
    let host = crate::host();
    format!("{}, {} processors ({}), {} MB", host.kernel, host.cores, host.cpu, host.memory >> 20)
}

/// A plan in which nothing is said.
fn usual(scenario: &Scenario) -> Value {
    let plan = toml::from_str::<Scenario>("name = \"usual\"").ok().map(|mut plan| {
        plan.trace = scenario.trace.as_ref().map(|trace| TraceConfig::new(trace.format, Vec::new()));
        plan
    });
    serde_json::to_value(plan).unwrap_or_default()
}

/// The keys that change a figure in this world.
fn keys(scenario: &Scenario, live: bool) -> Vec<Key> {
    let mut all = Vec::new();
    flatten("", &serde_json::to_value(scenario).unwrap_or_default(), &mut all);
    let mut usual_ones = Vec::new();
    flatten("", &usual(scenario), &mut usual_ones);
    let backends = scenario.worker.backend_names();
    let is_modelled = !live || backends.iter().any(|b| b == "simulated");
    let matters = |name: &str| {
        let within =
            |section: &str| name.strip_prefix(section).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        !SILENT.iter().any(|silent| within(silent))
            && (live || !within("live") || scenario.model.calibration.is_some())
            && (live || !within("measure.give_up"))
            && (is_modelled || !within("model"))
            && (scenario.worker.count > 1 || !within("controller"))
    };
    let mut keys: Vec<Key> = Vec::new();
    for (name, value) in all.into_iter().filter(|(name, _)| matters(name)) {
        let usual = usual_ones.iter().any(|(key, default)| *key == name && *default == value);
        keys.push(Key { name, value, usual });
    }
    keys
}

/// Values by their keys: the sections of a plan, and sections within those.
fn flatten(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    const SECTIONS: &[&str] = &[
        "worker",
        "worker.queue",
        "controller",
        "trace",
        "model",
        "live",
        "measure",
        "prewarm",
        "metrics",
        "graphite",
        "plots",
    ];
    let Value::Object(table) = value else { return };
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if name == "function" {
            continue;
        }
        if SECTIONS.contains(&name.as_str()) {
            flatten(&name, value, into);
        } else {
            into.push((name, words(value)));
        }
    }
}

/// A value in words: `lognormal (median 500ms, sigma 0.5)`.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Number(n) => match n.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e15) {
            Some(whole) => (whole as i64).to_string(),
            None => n.as_f64().map_or_else(|| n.to_string(), |x| ((x * 1e6).round() / 1e6).to_string()),
        },
        Value::Object(table) => {
            let part = |(key, value): (&String, &Value)| match value {
                Value::Object(inner) => format!("{key} ({})", listed(inner)),
                _ => format!("{key} {}", words(value)),
            };
            table.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn listed(table: &Map<String, Value>) -> String {
    table.iter().map(|(key, value)| format!("{key} {}", words(value))).collect::<Vec<_>>().join(", ")
}

/// A group of functions as a phrase: its name, how many, and what of it is not usual.
fn phrase(config: &FunctionConfig) -> Option<String> {
    let usual: FunctionConfig = toml::from_str("name = \"\"\nmemory = \"1MiB\"\nduration = \"0s\"").ok()?;
    let (own, usual) = (serde_json::to_value(config).ok()?, serde_json::to_value(usual).ok()?);
    let mut parts = Vec::new();
    for (key, value) in own.as_object()? {
        let told = ["memory", "duration", "load"].contains(&key.as_str());
        if !["name", "count", "code"].contains(&key.as_str()) && (told || usual[key] != *value) {
            parts.push(format!("{} {}", key.replace('_', " "), words(value)));
        }
    }
    let count = if config.count > 1 { format!("{} of ", config.count) } else { String::new() };
    Some(format!("{count}'{}' ({})", config.name, parts.join("; ")))
}

/// The files of a trace: those named, or in the folder that is named.
fn files(config: &TraceConfig) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in places(config) {
        match std::fs::read_dir(path) {
            Ok(entries) => files.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_file())),
            Err(_) => files.push(path.clone()),
        }
    }
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.retain(|path| [".csv", ".txt", ".json", ".gz", ".zst"].iter().any(|end| name(path).ends_with(end)));
    if let Some(day) = config.day.map(|day| format!(".d{day:02}.")) {
        files.retain(|path| name(path).contains(&day));
    }
    files.sort_by_key(name);
    files
}

fn places(config: &TraceConfig) -> impl Iterator<Item = &PathBuf> {
    std::iter::once(&config.path).filter(|p| !p.as_os_str().is_empty()).chain(&config.paths)
}

fn trace(config: &TraceConfig) -> Trace {
    let named = |path: &PathBuf| {
        let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        whole.file_name().map_or("?".into(), |n| n.to_string_lossy().into_owned())
    };
    let name = places(config).map(named).collect::<Vec<_>>().join("' and '");
    let files = files(config);
    let mut hash = Fnv::default();
    let whole = !files.is_empty() && files.iter().all(|path| add_file(&mut hash, path).is_ok());
    Trace { name, files: files.len(), hash: whole.then_some(hash.0) }
}

fn calibration(path: &Path) -> String {
    let mut hash = Fnv::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if add_file(&mut hash, path).is_ok() { format!("{name}, hash {:016x}", hash.0) } else { name }
}

/// Bytes of each end.
const END: u64 = 64 << 10;

/// Adds the size and the two ends of a file, so that gigabytes cost no time.
fn add_file(hash: &mut Fnv, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    hash.add(&facts.len().to_le_bytes());
    let mut bytes = Vec::new();
    (&mut file).take(END).read_to_end(&mut bytes)?;
    hash.add(&bytes);
    let last = facts.len().saturating_sub(END).max(END);
    if last < facts.len() {
        bytes.clear();
        file.seek(SeekFrom::Start(last))?;
        file.take(END).read_to_end(&mut bytes)?;
        hash.add(&bytes);
    }
    Ok(())
}
