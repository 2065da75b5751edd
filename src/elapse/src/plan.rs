//! The effective plan: defaults < file < environment (`ELAPSE__WORKER__MEMORY`) < flags.

use crate::base::{Duration, Fault, Result, explain};
use crate::keys::{self, Documented, Key, Shape, keys_of};
use crate::load::FunctionConfig;
use crate::scenario::Scenario;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// Values that go over those of the file: where from, key path, value.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Clone, Debug)]
struct Override {
    /// What was typed: a fault begins with it.
    from: String,
    key: String,
    value: Value,
}

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
            overrides.add(format!("{name}={text}"), &key, value_of(&text));
        }
        overrides
    }

    /// A flag whose value is a text, as a duration, a size or a name is.
    pub fn flag(&mut self, flag: &str, key: &str, text: &str) {
        self.add(format!("{flag} {text}"), key, Value::String(text.to_string()));
    }

    /// A flag whose value may be anything: a number, a text, a distribution.
    pub fn flag_of_any(&mut self, flag: &str, key: &str, text: &str) {
        self.add(format!("{flag} {text}"), key, value_of(text));
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

    /// Any value. A path in it is relative to where the program was started.
    pub fn add(&mut self, from: String, key: &str, value: Value) {
        self.0.push(Override { from, key: key.to_string(), value });
    }
}

fn value_of(text: &str) -> Value {
    format!("x = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("x"))
        // A time of day reads as a date of TOML, and is text to everybody here.
        .filter(|value| !matches!(value, Value::Datetime(_)))
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

fn line_of(text: &str, at: usize) -> u64 {
    text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() as u64 + 1
}

/// Reads a file of this kind as a table, after checking it by itself so that a fault names its line. Words in capitals
/// are folded, and paths are made relative to where the program was started.
fn read<T: DeserializeOwned>(path: &Path, keys: &[Key]) -> Result<Table> {
    if path.is_dir() {
        return Err(Fault::reading(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    let mut table = if path.extension().is_some_and(|e| e == "json") {
        json::<T>(path, &text, keys)?
    } else {
        toml::<T>(path, text)?
    };
    fold(&mut table, keys);
    let folder = path.parent().unwrap_or(Path::new(""));
    keys::each(&mut table, keys, &mut |key, value| {
        if let (Shape::Path, Value::String(path)) = (key.shape, value)
            && path != STANDARD_INPUT
        {
            *path = folder.join(&*path).display().to_string();
        }
    });
    Ok(table)
}

/// Names no file.
const STANDARD_INPUT: &str = "-";

fn json<T: DeserializeOwned>(path: &Path, text: &str, keys: &[Key]) -> Result<Table> {
    let fault = |e: serde_json::Error| Fault::at(path, e.line() as u64, explain(&e.to_string()));
    let mut table: Table = serde_json::from_str(text).map_err(fault)?;
    if let Err(wrong) = serde_json::from_str::<T>(text) {
        // Only words in capitals are not wrong.
        fold(&mut table, keys);
        Value::Table(table.clone()).try_into::<T>().map_err(|_| fault(wrong))?;
    }
    Ok(table)
}

fn toml<T: DeserializeOwned>(path: &Path, mut text: String) -> Result<Table> {
    let fault = |text: &str, e: &toml::de::Error| {
        let line = e.span().map_or(1, |span| line_of(text, span.start));
        Fault::at(path, line, explain(e.message()))
    };
    while let Err(e) = toml::from_str::<T>(&text) {
        text = without_capitals(&text, &e).ok_or_else(|| fault(&text, &e))?;
    }
    text.parse().map_err(|e| fault(&text, &e))
}

/// The text with the word that this fault is about in small letters, if that makes it a known one.
fn without_capitals(text: &str, fault: &toml::de::Error) -> Option<String> {
    let mut words = fault.message().strip_prefix("unknown variant ")?.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let known = words.find(|known| known.eq_ignore_ascii_case(unknown))?;
    let span = fault.span()?;
    let at = span.start + text.get(span)?.find(unknown)?;
    let mut text = text.to_string();
    text.replace_range(at..at + unknown.len(), known);
    Some(text)
}

/// Puts words in capitals into small letters where that makes them known ones: `LRU` is `lru`.
fn fold(table: &mut Table, keys: &[Key]) {
    keys::each(table, keys, &mut |key, value| {
        // A policy with parameters has its name inside.
        let word = match value {
            Value::Table(policy) => policy.get_mut("policy"),
            value => Some(value),
        };
        if let Some(word) = word
            && let Some(known) = word.as_str().and_then(|word| keys::folded(key, word))
        {
            *word = Value::String(known.to_string());
        }
    });
}

/// What can be read from a file, with other values over it: a scenario, or a daemon's configuration.
pub trait Plan: Documented + Serialize + DeserializeOwned {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    fn check(&self) -> Result<()>;

    /// It as a file that shows every key there is, with its default and what it means. Its paths hold from anywhere.
    ///
    /// # Errors
    /// Our bug, if it cannot be written.
    fn to_toml(&self) -> Result<String> {
        keys::commented(self)
    }

    /// The same for programs, without what is not set.
    ///
    /// # Errors
    /// Our bug, if it cannot be written.
    fn to_json(&self) -> Result<serde_json::Value> {
        keys::from_anywhere(self)
            .and_then(|table| serde_json::to_value(table).map_err(|e| Fault::bug(e.to_string())))
    }
}

impl Plan for Scenario {
    fn check(&self) -> Result<()> {
        Scenario::check(self)
    }
}

/// A table as this kind of plan; what goes over the file's values is put into it one at a time, so that a fault names the
/// one that it comes from.
fn over<T: Plan>(mut table: Table, overrides: &[Override], keys: &[Key]) -> Result<T> {
    let typed = |table: &Table| {
        let value = Value::Table(table.clone());
        value.try_into::<T>().map_err(|e: toml::de::Error| Fault::usage(explain(e.message())))
    };
    for Override { from, key, value } in overrides {
        tracing::debug!(target: "elapse", from, key, %value, "goes over the file");
        let mut put_in = |value: Value| -> Result<()> {
            let mut with = table.clone();
            put(&mut with, key, value).map_err(Fault::usage)?;
            fold(&mut with, keys);
            typed(&with)?;
            table = with;
            Ok(())
        };
        let outcome = put_in(value.clone()).or_else(|fault| match value {
            // What reads as a number may be meant as a text, as a name may be one.
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                put_in(Value::String(value.to_string())).map_err(|_| fault)
            }
            _ => Err(fault),
        });
        outcome.map_err(|fault| fault.within(from))?;
    }
    typed(&table)
}

/// The plan of a table and what goes over it, checked. A fault begins with what was typed where that is at fault, else
/// with the file.
fn effective<T: Plan>(file: Option<&Path>, table: &Table, overrides: &[Override]) -> Result<T> {
    let keys = keys_of::<T>();
    let plan: T = over(table.clone(), overrides, &keys)?;
    let Err(fault) = plan.check() else { return Ok(plan) };
    let is_blamed = |nth: &usize| {
        let mut others = overrides.to_vec();
        others.remove(*nth);
        let without = over::<T>(table.clone(), &others, &keys).and_then(|plan| plan.check());
        without.err().is_none_or(|other| other.to_string() != fault.to_string())
    };
    // The last that was typed goes over the others.
    Err(match ((0..overrides.len()).rev().find(is_blamed), file) {
        (Some(nth), _) => {
            let why = fault.to_string();
            let Override { from, key, .. } = &overrides[nth];
            let why =
                why.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(&*why, |(_, why)| why);
            // Who wrote the key knows it; who typed a flag may not.
            let why = if from.contains(key.as_str()) { why } else { without_key(why, key) };
            Fault::usage(why).within(from)
        }
        (None, Some(file)) => fault.within(file.display()),
        (None, None) => fault,
    })
}

/// What is wrong with a key's value, for somebody who sees the value and may not know the key: `count is 0; it is at least
/// 1` is told as `it is at least 1`.
fn without_key<'w>(why: &'w str, key: &str) -> &'w str {
    let name = key.rsplit('.').next().unwrap_or(key);
    let after = why.strip_prefix(name).and_then(|rest| rest.strip_prefix(" is ")?.split_once("; "));
    after.map_or(why, |(_, what)| what)
}

/// How long an execution may take where nothing is said.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(300);

/// The effective configuration in a file of this kind.
///
/// # Errors
/// Says which key cannot be meant, and where it stands.
pub fn read_plan<T: Plan>(file: &Path, overrides: &Overrides) -> Result<T> {
    let table = read::<T>(file, &keys_of::<T>())?;
    effective(Some(file), &table, &overrides.0)
}

/// What is wrong with a function that was sent as JSON, or the function.
///
/// # Errors
/// One sentence.
pub fn function_of(json: &[u8]) -> Result<FunctionConfig> {
    let fault = |e: serde_json::Error| Fault::usage(explain(&e.to_string()));
    let mut value: serde_json::Value = serde_json::from_slice(json).map_err(fault)?;
    if let Some(table) = value.as_object_mut() {
        // A program of its own takes the time that it takes.
        table.entry("duration").or_insert_with(|| "0s".into());
        for key in keys_of::<FunctionConfig>() {
            let word = table.get(&key.path).and_then(|value| value.as_str());
            if let Some(known) = word.and_then(|word| keys::folded(&key, word)) {
                table.insert(key.path, known.into());
            }
        }
    }
    serde_json::from_value(value).map_err(fault)
}

/// The effective plan of a scenario file, or of `base` where there is none.
///
/// # Errors
/// Says which key cannot be meant, and where it stands.
pub fn load_plan(file: Option<&Path>, base: Option<Scenario>, overrides: &Overrides) -> Result<Scenario> {
    let table = match (file, base) {
        (Some(path), _) => read::<Scenario>(path, &keys_of::<Scenario>())?,
        (None, Some(base)) => {
            Table::try_from(base).map_err(|e| Fault::bug(format!("a plan cannot be written: {e}")))?
        }
        (None, None) => Table::new(),
    };
    let mut scenario: Scenario = effective(file, &table, &overrides.0)?;
    scenario.worker.timeout.get_or_insert(USUAL_TIMEOUT);
    Ok(scenario)
}
