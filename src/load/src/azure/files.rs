//! The three files of a day: found by their names, and by which key columns they are joined.

use crate::Notes;
use crate::base::{Fault, Result};
use crate::table::Table;
use crate::trace::in_folder;
use std::path::{Path, PathBuf};

/// (owner, app, function); what a file does not have, or is not joined by, is empty.
pub(super) type Key = (String, String, String);

/// The files of one day.
pub(super) struct Files {
    pub(super) invocations: PathBuf,
    durations: PathBuf,
    memory: PathBuf,
    /// The day, for files with official names.
    pub(super) day: Option<u32>,
    pub(super) name: String,
    /// Days in the folder.
    pub(super) days: usize,
}

impl Files {
    pub(super) fn find(folder: &Path, wanted: Option<u32>) -> Result<Files> {
        if folder.is_file() {
            return Err(Fault::usage(format!(
                "cannot replay {}: it is a file; an azure-2019 trace is the folder that holds its three files",
                folder.display()
            )));
        }
        let entries = std::fs::read_dir(folder).map_err(|e| Fault::reading(folder, &e))?;
        let mut names: Vec<String> =
            entries.flatten().map(|e| table_name(&e.file_name().to_string_lossy())).collect();
        names.sort();
        names.dedup();
        if names.iter().any(|n| n == "invocations.csv") {
            if let Some(day) = wanted {
                return Err(Fault::usage(format!(
                    "cannot replay day {day} of {}: it holds one day, invocations.csv; leave --day out",
                    folder.display()
                )));
            }
            return Ok(Files {
                invocations: in_folder(folder, "invocations.csv"),
                durations: in_folder(folder, "durations.csv"),
                memory: in_folder(folder, "memory.csv"),
                day: None,
                name: "invocations.csv".into(),
                days: 1,
            });
        }
        let prefix = "invocations_per_function_md.anon.d";
        let days: Vec<&str> =
            names.iter().filter_map(|n| n.strip_prefix(prefix)?.strip_suffix(".csv")).collect();
        let file = |stem: &str, day: &str| format!("{stem}.anon.d{day}.csv");
        let complete = |day: &&&str| names.contains(&file("app_memory_percentiles", day));
        let chosen = match wanted {
            // Their numbers are written with two digits.
            Some(wanted) => {
                let found = days.iter().find(|day| day.parse() == Ok(wanted));
                Some(found.ok_or_else(|| {
                    Fault::usage(format!(
                        "cannot replay day {wanted} of {}: it holds {}",
                        folder.display(),
                        if days.is_empty() { "none".to_string() } else { days.join(", ") }
                    ))
                })?)
            }
            None => days.iter().find(complete).or(days.first()),
        };
        let Some(day) = chosen else {
            return Err(Fault::usage(format!(
                "cannot replay {}: it holds neither invocations.csv nor {prefix}01.csv and its like",
                folder.display()
            )));
        };
        Ok(Files {
            invocations: in_folder(folder, &file("invocations_per_function_md", day)),
            durations: in_folder(folder, &file("function_durations_percentiles", day)),
            memory: in_folder(folder, &file("app_memory_percentiles", day)),
            day: day.parse().ok().filter(|day| *day <= 366),
            name: format!("day {day}"),
            days: days.len(),
        })
    }

    /// Opens them.
    pub(super) fn open(&self) -> Result<Tables> {
        let mut invocations = Table::open(&self.invocations)?;
        let mut durations = Table::open(&self.durations)?;
        let mut memory = Table::open(&self.memory)?;
        let key = KeyColumns::of(&mut invocations)?;
        invocations.column(FUNCTION)?;
        durations.column(FUNCTION)?;
        let own = [KeyColumns::of(&mut durations)?, KeyColumns::of(&mut memory)?];
        let per_function = own[1].0[2].is_some();
        if !per_function {
            // It speaks of apps, so these have to be known.
            memory.column(APP)?;
            invocations.column(APP)?;
        }
        let [duration_key, memory_key] = own.map(|own| own.shared(key));
        Ok(Tables { invocations, durations, memory, key, own, duration_key, memory_key, per_function })
    }
}

/// What a file's name would be if it were not compressed.
fn table_name(name: &str) -> String {
    name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(name).to_string()
}

const OWNER: &str = "HashOwner";
const APP: &str = "HashApp";
const FUNCTION: &str = "HashFunction";

/// The three tables, and the columns that they are joined by.
pub(super) struct Tables {
    pub(super) invocations: Table,
    pub(super) durations: Table,
    pub(super) memory: Table,
    pub(super) key: KeyColumns,
    /// The key columns that durations and memory have by themselves.
    own: [KeyColumns; 2],
    pub(super) duration_key: KeyColumns,
    pub(super) memory_key: KeyColumns,
    /// Memory is given by function, as samples split an app's over its functions.
    pub(super) per_function: bool,
}

impl Tables {
    /// Says by what the files are joined, where that is not all that their keys have.
    pub(super) fn say_keys(&self, notes: &mut Notes) {
        let name =
            |table: &Table| table.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut apps = self.key;
        apps.0[2] = apps.0[2].filter(|_| self.per_function);
        let joined = [
            (&self.durations, self.duration_key, self.key, self.own[0]),
            (&self.memory, self.memory_key, apps, self.own[1]),
        ];
        for (table, by, ours, theirs) in joined {
            if by.names() != ours.names() || by.names() != theirs.names() {
                notes.remarks.push(format!(
                    "{} and {} are joined by {} alone, the key that both have.",
                    name(&self.invocations),
                    name(table),
                    by.names().join(" and ")
                ));
            }
        }
    }
}

/// Where a table has owner, app and function; samples that were cut down may have only some.
#[derive(Clone, Copy)]
pub(super) struct KeyColumns([Option<usize>; 3]);

impl KeyColumns {
    fn of(table: &mut Table) -> Result<KeyColumns> {
        let [owner, app, function] = [OWNER, APP, FUNCTION].map(|name| table.optional(name));
        Ok(KeyColumns([owner?, app?, function?]))
    }

    /// Those of them that another table has too.
    fn shared(self, other: KeyColumns) -> KeyColumns {
        let [owner, app, function] = other.0;
        let [a, b, c] = self.0;
        KeyColumns([owner.and(a), app.and(b), function.and(c)])
    }

    fn names(self) -> Vec<&'static str> {
        [OWNER, APP, FUNCTION].into_iter().zip(self.0).filter_map(|(name, c)| c.map(|_| name)).collect()
    }

    /// The key of the present row; `None` if a part is no text.
    pub(super) fn read(self, table: &Table) -> Option<Key> {
        let text = |column: Option<usize>| match column {
            Some(column) => table.cell(column).map(str::to_string),
            None => Some(String::new()),
        };
        let [owner, app, function] = self.0;
        Some((text(owner)?, text(app)?, text(function)?))
    }

    /// The part of a whole key that these columns have.
    pub(super) fn part(self, key: &Key) -> Key {
        let text = |column: Option<usize>, text: &String| column.map_or(String::new(), |_| text.clone());
        let [owner, app, function] = self.0;
        (text(owner, &key.0), text(app, &key.1), text(function, &key.2))
    }
}
