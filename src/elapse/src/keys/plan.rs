//! Writes an effective plan with every key there is: its value, its default and what it means.
//!
//! What is not set stands behind a `#` with an example, so that a newcomer sees it and the file still means the same.

use super::docs::{self, Doc, Documented, Without};
use super::{Key, Shape, keys_of, open_set, parameters_of};
use crate::base::{Fault, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;
use std::path::{Component, Path};
use toml::{Table, Value};

/// Where comments begin, and where lines end.
const COLUMN: usize = 36;
const WIDTH: usize = 116;
/// A line that is longer has no comment behind it.
const LONGEST: usize = 60;

/// A plan as a file that explains itself.
///
/// # Errors
/// Our bug, if it cannot be written.
pub fn commented<T: Documented + Serialize + DeserializeOwned>(plan: &T) -> Result<String> {
    let table = from_anywhere(plan)?;
    let least: T = toml::from_str(T::LEAST).map_err(|e| bug(&e))?;
    let defaults = Table::try_from(least).map_err(|e| bug(&e))?;
    let mut page = Page { text: String::new(), keys: keys_of::<T>(), defaults, doc: docs::of::<T> };
    page.comment(&format!(
        "Every key of {}. One behind # is not set, and shows an example. Sizes: MB is MiB (2^20 bytes).",
        T::WHAT
    ));
    page.table("", &table, true, true);
    Ok(page.text)
}

fn bug(e: &dyn std::fmt::Display) -> Fault {
    Fault::bug(format!("a plan cannot be written: {e}"))
}

/// A plan as a table whose paths hold from anywhere.
///
/// # Errors
/// Our bug, if it cannot be written.
pub fn from_anywhere<T: Serialize + DeserializeOwned>(plan: &T) -> Result<Table> {
    let mut table = Table::try_from(plan).map_err(|e| bug(&e))?;
    super::each(&mut table, &keys_of::<T>(), &mut |key, value| {
        if let (Shape::Path, Value::String(path)) = (key.shape, value) {
            *path = absolute(path);
        }
    });
    Ok(table)
}

/// A path that holds from anywhere.
fn absolute(path: &str) -> String {
    let as_it_is = Path::new(path);
    if path == "-"
        || as_it_is.is_absolute() && !as_it_is.components().any(|part| part == Component::ParentDir)
    {
        return path.to_string();
    }
    let known = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    known.map_or_else(|_| path.to_string(), |p| p.display().to_string())
}

struct Page {
    text: String,
    keys: Vec<Key>,
    defaults: Table,
    /// The row of a key.
    doc: fn(&str) -> Option<&'static Doc>,
}

impl Page {
    /// What is in a table: values, then the tables in it. `set` is whether the table itself is there; with `whole`, what is
    /// not set is shown too.
    fn table(&mut self, path: &str, table: &Table, set: bool, whole: bool) {
        let inside: Vec<Key> = self.keys.iter().filter(|k| parent(&k.path) == path).cloned().collect();
        let is_table = |key: &Key| matches!(key.shape, Shape::Table(_)) && !is_inline(key);
        for key in inside.iter().filter(|key| !is_table(key)) {
            self.value(key, table.get(name(&key.path)), set, whole);
        }
        for key in inside.iter().filter(|key| is_table(key)) {
            match table.get(name(&key.path)) {
                Some(Value::Table(inner)) => self.headed(key, inner, true, whole),
                Some(Value::Array(list)) => {
                    for (nth, inner) in list.iter().filter_map(Value::as_table).enumerate() {
                        // The first one shows what the others could have.
                        self.headed(key, inner, true, whole && nth == 0);
                    }
                }
                _ if whole => self.headed(key, &Table::new(), false, true),
                _ => {}
            }
        }
    }

    fn headed(&mut self, key: &Key, table: &Table, set: bool, whole: bool) {
        let header = if key.listed { format!("[[{}]]", key.path) } else { format!("[{}]", key.path) };
        self.text.push('\n');
        let says = (self.doc)(&key.path).map_or("", |doc| doc.says);
        self.line(&if set { header } else { format!("#{header}") }, says);
        self.table(&key.path, table, set, whole);
    }

    fn value(&mut self, key: &Key, value: Option<&Value>, set: bool, whole: bool) {
        let (doc, name) = ((self.doc)(&key.path), name(&key.path));
        let default = self.default_of(&key.path);
        let line = match value {
            Some(value) => format!("{name} = {value}"),
            None if !whole => return,
            None => {
                let example = doc.map(|d| d.example.to_string()).filter(|e| !e.is_empty());
                let shown = example.or(default.as_ref().map(Value::to_string)).unwrap_or_default();
                format!("#{name} = {shown}")
            }
        };
        debug_assert!(set || line.starts_with('#'), "nothing is set in a table that is not there");
        let says = doc.map_or(String::new(), |doc| explained(doc, key, default.as_ref()));
        self.line(&line, if whole { &says } else { "" });
        for (policy, parameter, says) in parameters_of(&key.path).into_iter().filter(|_| whole) {
            self.line("", &format!("  {{ policy = \"{policy}\", {parameter} = .. }}: {says}"));
        }
        if whole && is_inline(key) {
            self.inline(&key.path, 1);
        }
    }

    /// The keys of a table that is written in one line.
    fn inline(&mut self, path: &str, depth: usize) {
        let inside: Vec<Key> = self.keys.iter().filter(|k| parent(&k.path) == path).cloned().collect();
        for key in inside {
            if let Some(doc) = (self.doc)(&key.path) {
                let indent = "  ".repeat(depth);
                let default = match doc.without {
                    Without::Words(without) if !without.is_empty() => format!(" [default: {without}]"),
                    _ => String::new(),
                };
                let text = format!("{indent}{} = {}: {}{default}", name(&key.path), doc.example, doc.says);
                self.line("", &text);
            }
            self.inline(&key.path, depth + 1);
        }
    }

    fn default_of(&self, path: &str) -> Option<Value> {
        let mut at = Value::Table(self.defaults.clone());
        for name in path.split('.') {
            at = match at {
                Value::Array(list) => list.into_iter().next()?,
                other => other,
            };
            at = at.as_table()?.get(name)?.clone();
        }
        Some(at)
    }

    fn comment(&mut self, text: &str) {
        let _ = writeln!(self.text, "# {text}");
    }

    /// A line with its comment, which goes on below where it is long.
    fn line(&mut self, line: &str, says: &str) {
        let indent = says.len() - says.trim_start().len();
        let mut rest = says.trim_start();
        let mut left = line.to_string();
        while !rest.is_empty() || !left.is_empty() {
            let long = left.chars().count() + 1;
            if long > LONGEST {
                // What is long by itself has its comment below.
                let _ = writeln!(self.text, "{left}");
                left.clear();
                continue;
            }
            let column = COLUMN.max(long);
            let room = WIDTH.saturating_sub(column + 2 + indent).max(40);
            let (now, later) = broken(rest, room);
            let text = if now.is_empty() { String::new() } else { format!("# {}{now}", " ".repeat(indent)) };
            let _ = writeln!(self.text, "{}", format!("{left:<column$}{text}").trim_end());
            (left, rest) = (String::new(), later);
        }
    }
}

/// What of a text fits into so many characters, broken at a space, and what is left.
fn broken(text: &str, room: usize) -> (&str, &str) {
    let Some((end, _)) = text.char_indices().nth(room) else { return (text, "") };
    let at = text[..end].rfind(' ').or_else(|| text[end..].find(' ').map(|at| at + end));
    at.map_or((text, ""), |at| (&text[..at], text[at..].trim_start()))
}

/// Whether a table is written as a value, in one line.
fn is_inline(key: &Key) -> bool {
    matches!(key.shape, Shape::Table(_)) && key.path.starts_with("function.")
}

fn explained(doc: &Doc, key: &Key, default: Option<&Value>) -> String {
    let words = match (open_set(&key.path), key.shape) {
        (Some(names), _) => names,
        (None, Shape::Words(words)) => words.to_vec(),
        _ => Vec::new(),
    };
    let mut text = doc.says.to_string();
    // Where each word is explained, they are there already.
    if !words.iter().all(|word| doc.says.contains(word)) {
        let _ = write!(text, ": {}", words.join(", "));
    }
    match doc.without {
        Without::Refused => text.push_str(" [required]"),
        Without::Words("") => {}
        Without::Words(without) => {
            let _ = write!(text, " [default: {without}]");
        }
        Without::Default => {
            if let Some(default) = default {
                let _ = write!(text, " [default: {default}]");
            }
        }
    }
    text
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(above, _)| above)
}

fn name(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, name)| name)
}

/// What is wrong with the rows of a configuration's keys, and with the examples in them: for a test of whoever has one.
pub fn faults_of<T: Documented + Serialize + DeserializeOwned>() -> Vec<String> {
    let keys = keys_of::<T>();
    let is_key = |row: &&Doc| keys.iter().any(|k| k.path == row.key);
    let gone =
        T::OWN.iter().filter(|row| !is_key(row)).map(|row| format!("{} has no key {}", T::WHAT, row.key));
    let mut faults: Vec<String> = gone.collect();
    let least = toml::from_str::<T>(T::LEAST).map(|least| Table::try_from(least).unwrap_or_default());
    let Ok(table) = least else { return vec![format!("{}: LEAST cannot be read", T::WHAT)] };
    for key in &keys {
        let Some(doc) = docs::of::<T>(&key.path) else {
            faults.push(format!("{} has no row for {}", T::WHAT, key.path));
            continue;
        };
        let mut at = Some(Value::Table(table.clone()));
        for name in key.path.split('.') {
            let inner = at.map(|v| v.as_array().and_then(|a| a.first().cloned()).unwrap_or(v));
            at = inner.and_then(|v| v.get(name).cloned());
        }
        // A row says that there is a default where the code has one, and only there.
        let right = matches!(key.shape, Shape::Table(_))
            || doc.without == Without::Refused
            || at.is_some() == (doc.without == Without::Default);
        if !right {
            faults.push(format!("{} of {}: {:?}", key.path, T::WHAT, doc.without));
        }
    }
    faults.extend(wrong_examples::<T>());
    faults
}

/// What of a configuration's file with everything that stands behind a `#` cannot be read.
fn wrong_examples<T: Documented + Serialize + DeserializeOwned>() -> Option<String> {
    let text = toml::from_str::<T>(T::EXAMPLE)
        .map_err(|e| e.to_string())
        .and_then(|plan| commented(&plan).map_err(|fault| fault.to_string()));
    let text = match text {
        Ok(text) => text,
        Err(why) => return Some(format!("{}: {why}", T::WHAT)),
    };
    if let Some(long) = text.lines().find(|line| line.chars().count() > WIDTH + 20) {
        return Some(format!("a long line: {long}"));
    }
    let open = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let whole: String = text.lines().map(open).collect();
    toml::from_str::<T>(&whole).err().map(|e| format!("{}: {e}", T::WHAT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_key_has_its_row_and_every_row_its_key() {
        assert_eq!(faults_of::<Scenario>(), Vec::<String>::new());
        let keys = keys_of::<Scenario>();
        let without = |row: &&Doc| !keys.iter().any(|k| k.path == row.key);
        let gone: Vec<&str> = docs::DOCS.iter().filter(without).map(|row| row.key).collect();
        assert!(gone.is_empty(), "rows in keys/docs.rs of keys that no scenario has: {gone:?}");
        let shown = commented(&toml::from_str::<Scenario>(Scenario::EXAMPLE).unwrap()).unwrap();
        assert!(shown.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")).count() > 25);
    }
}
