//! The effective plan: defaults < file < environment (`ELAPSE__WORKER__MEMORY`) < flags.

use super::Scenario;
use super::daemon::{ControllerConfig, DaemonConfig};
use crate::base::{Fault, Result, nearest};
use crate::load::FunctionConfig;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// Values that go over those of the file: where from, key path, value.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(String, String, Value)>);

impl Overrides {
    /// Those in the environment.
    pub fn from_environment() -> Overrides {
        let mut found: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .filter(|(k, _)| k.starts_with("ELAPSE__"))
            .collect();
        found.sort();
        let mut overrides = Overrides::default();
        for (name, text) in found {
            let key = name["ELAPSE__".len()..].to_lowercase().replace("__", ".");
            overrides.add(name, &key, value_of(&text));
        }
        overrides
    }

    /// A flag with its value.
    pub fn flag(&mut self, flag: &str, key: &str, text: &str) {
        self.add(flag.to_string(), key, Value::String(text.to_string()));
    }

    /// `--set any.key=value`: a TOML value, or text where it reads as none.
    ///
    /// # Errors
    /// If it has no `=`.
    pub fn set(&mut self, pair: &str) -> Result<()> {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Fault::usage(format!("--set {pair}: write --set some.key=value")));
        };
        self.add(format!("--set {pair}"), key.trim(), value_of(value.trim()));
        Ok(())
    }

    /// Any value.
    pub fn add(&mut self, from: String, key: &str, value: Value) {
        self.0.push((from, key.to_string(), value));
    }
}

fn value_of(text: &str) -> Value {
    format!("x = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("x"))
        .unwrap_or_else(|| Value::String(text.to_string()))
}

fn put(table: &mut Table, key: &str, value: Value) -> std::result::Result<(), String> {
    let Some((head, rest)) = key.split_once('.') else {
        table.insert(key.to_string(), value);
        return Ok(());
    };
    let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(list) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let n = list.len();
            match index.parse::<usize>().ok().and_then(|i| list.get_mut(i)) {
                Some(Value::Table(inner)) if !rest.is_empty() => put(inner, rest, value),
                _ => Err(format!("'{head}' is a list of {n}; write {head}.0.key for its first")),
            }
        }
        _ => Err(format!("'{head}' is a value, it has no '{rest}'")),
    }
}

/// Adds the nearest known word to what serde says of an unknown one.
fn explain(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    if let (true, Some((unknown, known))) = (is_unknown, words.split_first()) {
        let what = if message.starts_with("unknown field") { "key" } else { "word" };
        let hint = nearest(unknown, known.iter().copied()).map(|n| format!("; did you mean '{n}'?"));
        return format!(
            "unknown {what} '{unknown}'{} (known: {})",
            hint.unwrap_or_default(),
            known.join(", ")
        );
    }
    message.trim().replace('\n', "; ")
}

fn line_of(text: &str, at: usize) -> u64 {
    text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() as u64 + 1
}

/// Reads a file of this kind as a table, after checking it by itself so that a fault names its line.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Table> {
    if path.is_dir() {
        return Err(Fault::reading(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    if path.extension().is_some_and(|e| e == "json") {
        let fault = |e: serde_json::Error| Fault::at(path, e.line() as u64, explain(&e.to_string()));
        serde_json::from_str::<T>(&text).map_err(fault)?;
        return serde_json::from_str(&text).map_err(fault);
    }
    let fault = |e: toml::de::Error| {
        let line = e.span().map_or(1, |span| line_of(&text, span.start));
        Fault::at(path, line, explain(e.message()))
    };
    toml::from_str::<T>(&text).map_err(fault)?;
    text.parse().map_err(fault)
}

/// A table as this kind of configuration; what goes over the file's values is put into it one at a time, so that a fault
/// names the one that it comes from.
fn over<T: DeserializeOwned>(mut table: Table, overrides: &Overrides) -> Result<T> {
    let typed =
        |table: Table| Value::Table(table).try_into::<T>().map_err(|e: toml::de::Error| explain(e.message()));
    for (from, key, value) in &overrides.0 {
        put(&mut table, key, value.clone()).map_err(|why| Fault::usage(format!("{from}: {why}")))?;
        typed(table.clone()).map_err(|why| Fault::usage(format!("{from}: {why}")))?;
    }
    typed(table).map_err(Fault::usage)
}

/// The effective configuration of a daemon.
///
/// # Errors
/// What of it cannot be meant, and where.
pub fn load_daemon(file: &Path, overrides: &Overrides) -> Result<DaemonConfig> {
    let mut config: DaemonConfig = over(read::<DaemonConfig>(file)?, overrides)?;
    if let Some(folder) = file.parent() {
        let codes = config.functions.iter_mut().filter_map(|f| f.code.as_mut());
        for path in codes
            .chain(&mut config.token_file)
            .chain(&mut config.tls_cert)
            .chain(&mut config.tls_key)
            .chain(&mut config.controller.token_file)
            .chain(&mut config.controller.ca_file)
            .chain(&mut config.state)
            .chain(&mut config.live.agent)
        {
            *path = folder.join(&*path);
        }
    }
    config.check().map_err(|fault| fault.within(file.display()))?;
    config.worker.timeout.get_or_insert(crate::base::Duration::from_secs(300));
    Ok(config)
}

/// The effective configuration of a controller.
///
/// # Errors
/// What of it cannot be meant, and where.
pub fn load_controller(file: &Path, overrides: &Overrides) -> Result<ControllerConfig> {
    let mut config: ControllerConfig = over(read::<ControllerConfig>(file)?, overrides)?;
    if let Some(folder) = file.parent() {
        let codes = config.functions.iter_mut().filter_map(|f| f.code.as_mut());
        for path in codes
            .chain(&mut config.token_file)
            .chain(&mut config.tls_cert)
            .chain(&mut config.tls_key)
            .chain(&mut config.worker_token_file)
            .chain(&mut config.worker_ca_file)
            .chain(&mut config.state)
        {
            *path = folder.join(&*path);
        }
    }
    config.check().map_err(|fault| fault.within(file.display()))?;
    Ok(config)
}

/// What is wrong with a function that was sent as JSON, or the function.
///
/// # Errors
/// One sentence.
pub(super) fn function_of(json: &[u8]) -> Result<FunctionConfig> {
    let fault = |e: serde_json::Error| Fault::usage(explain(&e.to_string()));
    let mut value: serde_json::Value = serde_json::from_slice(json).map_err(fault)?;
    if let Some(table) = value.as_object_mut() {
        // A program of its own takes the time that it takes.
        table.entry("duration").or_insert_with(|| "0s".into());
    }
    serde_json::from_value(value).map_err(fault)
}

/// The effective plan of a scenario file, or of `base` where there is none.
///
/// # Errors
/// What of it cannot be meant, and where.
pub fn load_plan(file: Option<&Path>, base: Option<Scenario>, overrides: &Overrides) -> Result<Scenario> {
    let table = match (file, base) {
        (Some(path), _) => read::<Scenario>(path)?,
        (None, Some(base)) => {
            Table::try_from(base).map_err(|e| Fault::bug(format!("a plan cannot be written: {e}")))?
        }
        (None, None) => Table::new(),
    };
    let mut scenario: Scenario = over(table, overrides)?;
    if let Some(folder) = file.map(|path| path.parent().unwrap_or(Path::new(""))) {
        if let Some(trace) = scenario.trace.as_mut() {
            trace.resolve(folder);
        }
        if let Some(calibration) = scenario.model.calibration.as_mut() {
            *calibration = folder.join(&*calibration);
        }
        if let Some(font) = scenario.plots.font.as_mut() {
            *font = folder.join(&*font);
        }
        for code in scenario.functions.iter_mut().filter_map(|f| f.code.as_mut()) {
            *code = folder.join(&*code);
        }
    }
    let place = |fault: Fault| match file {
        Some(path) => fault.within(path.display()),
        None => fault,
    };
    scenario.check().map_err(place)?;
    if scenario.worker.timeout.is_none() {
        scenario.worker.timeout = Some(crate::base::Duration::from_secs(300));
    }
    Ok(scenario)
}

impl Scenario {
    /// The plan as a scenario file.
    ///
    /// # Errors
    /// Our bug, if it cannot be written.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Fault::bug(format!("a plan cannot be written: {e}")))
    }
}
