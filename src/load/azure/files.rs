//! The three files of a day: found by their names, read by their columns.

use crate::base::{Fault, Mem, Result};
use crate::load::Notes;
use crate::load::table::Table;
use rustc_hash::FxHashMap;
use std::path::{Path, PathBuf};

/// (owner, app, function).
pub(super) type Key = (String, String, String);

/// The files of one day.
pub(super) struct Files {
    pub(super) invocations: PathBuf,
    durations: PathBuf,
    memory: PathBuf,
    pub(super) day: String,
    /// Days in the folder.
    pub(super) days: usize,
}

/// A function's durations in ms: the average and the percentiles 0, 1, 25, 50, 75, 99, 100.
pub(super) struct DurationRow {
    pub(super) average: f64,
    pub(super) percentiles: [f64; 7],
}

const PERCENTILES: [&str; 7] = ["0", "1", "25", "50", "75", "99", "100"];

/// Memory by app, or by function where an app's memory was split over its functions.
pub(super) struct Memory {
    pub(super) per_function: bool,
    sizes: FxHashMap<Key, Mem>,
}

impl Memory {
    pub(super) fn of(&self, key: &Key) -> Option<Mem> {
        if self.per_function {
            return self.sizes.get(key).copied();
        }
        self.sizes.get(&(key.0.clone(), key.1.clone(), String::new())).copied()
    }
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
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        if names.iter().any(|n| n == "invocations.csv") {
            if let Some(day) = wanted {
                return Err(Fault::usage(format!(
                    "cannot replay day {day} of {}: it holds one day, invocations.csv; leave --day out",
                    folder.display()
                )));
            }
            return Ok(Files {
                invocations: folder.join("invocations.csv"),
                durations: folder.join("durations.csv"),
                memory: folder.join("memory.csv"),
                day: "invocations.csv".into(),
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
            invocations: folder.join(file("invocations_per_function_md", day)),
            durations: folder.join(file("function_durations_percentiles", day)),
            memory: folder.join(file("app_memory_percentiles", day)),
            day: format!("day {day}"),
            days: days.len(),
        })
    }

    pub(super) fn durations(&self, notes: &mut Notes) -> Result<FxHashMap<Key, DurationRow>> {
        let mut table = Table::open(&self.durations)?;
        let key = key_columns(&table)?;
        let average = table.column("Average")?;
        let columns: Vec<usize> = PERCENTILES
            .iter()
            .map(|p| table.column(&format!("percentile_Average_{p}")))
            .collect::<Result<_>>()?;
        let mut rows = FxHashMap::default();
        while table.advance()? {
            let mut average = signed(&table, average)?;
            if average <= 0.0 {
                notes.count(
                    if average < 0.0 {
                        "negative averages (kept as 1 ms)"
                    } else {
                        "zero averages (kept as 1 ms)"
                    },
                    1,
                );
                average = 1.0;
            }
            let mut percentiles = [0.0f64; 7];
            let mut highest = 0.0f64;
            let mut sunk = false;
            for (p, column) in percentiles.iter_mut().zip(&columns) {
                let value = signed(&table, *column)?;
                sunk |= value < highest;
                highest = highest.max(value);
                *p = highest;
            }
            notes
                .count("duration rows whose percentiles are negative or descend (levelled)", u64::from(sunk));
            let duplicate =
                rows.insert(read_key(&table, key)?, DurationRow { average, percentiles }).is_some();
            notes.count("duplicate duration rows (the last counts)", u64::from(duplicate));
        }
        Ok(rows)
    }

    pub(super) fn memory(&self, notes: &mut Notes) -> Result<Memory> {
        let mut table = Table::open(&self.memory)?;
        let function = table.optional("HashFunction");
        let columns = [table.optional("HashOwner"), table.optional("HashApp"), function];
        if columns[1].is_none() && function.is_none() {
            table.column("HashApp")?;
        }
        let size = table.column("AverageAllocatedMb")?;
        let mut sizes = FxHashMap::default();
        while table.advance()? {
            let key = read_key(&table, columns)?;
            let mb = signed(&table, size)?;
            notes.count("memory rows of no size (taken as 1 MB)", u64::from(mb <= 0.0));
            if sizes.contains_key(&key) {
                notes.count("duplicate memory rows (the first counts)", 1);
                continue;
            }
            let bytes = (mb.clamp(1.0, 1e9) * Mem::MIB as f64).ceil() as u64;
            sizes.insert(key, Mem(bytes));
        }
        Ok(Memory { per_function: function.is_some(), sizes })
    }

    /// The first minute that the file covers, and its rows.
    pub(super) fn invocations(&self) -> Result<(u32, Rows)> {
        let table = Table::open(&self.invocations)?;
        let key = key_columns(&table)?;
        let minutes: Vec<(usize, u32)> =
            table.header.iter().enumerate().filter_map(|(i, h)| Some((i, minute_of(h)?))).collect();
        let Some(&(column, first)) = minutes.first() else {
            return Err(Fault::at(
                table.path(),
                1,
                "no column is a minute; they are named 1, 2, 3 and so on",
            ));
        };
        let columns = minutes.len() as u32;
        if minutes
            .iter()
            .zip(0u32..)
            .any(|((at, minute), i)| *minute != first + i || *at != column + i as usize)
        {
            return Err(Fault::at(table.path(), 1, "the minutes in the header do not follow on each other"));
        }
        // The official header counts minutes from 1: minute 1 is the first of the day.
        let first = if first == 1 { 0 } else { first };
        let trigger = table.optional("Trigger");
        Ok((first, Rows { table, key, trigger, column, columns }))
    }
}

/// `1`, `minute_1` and `1_minute` alike.
fn minute_of(header: &str) -> Option<u32> {
    header.trim_start_matches("minute_").trim_end_matches("_minute").parse().ok()
}

/// Owner, app and function; samples that were cut down may have only the last.
type KeyColumns = [Option<usize>; 3];

fn key_columns(table: &Table) -> Result<KeyColumns> {
    Ok([table.optional("HashOwner"), table.optional("HashApp"), Some(table.column("HashFunction")?)])
}

fn read_key(table: &Table, [owner, app, function]: KeyColumns) -> Result<Key> {
    let text = |column: Option<usize>| column.map_or(Ok(""), |c| table.text(c)).map(str::to_string);
    Ok((text(owner)?, text(app)?, text(function)?))
}

fn signed(table: &Table, column: usize) -> Result<f64> {
    let text = table.text(column)?;
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(table.fault(format!("{} '{text}' is not a finite number", table.header[column]))),
    }
}

/// A function's row of counts.
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) timer: bool,
    /// Pairs (minutes since the last one, count) as variable-length numbers.
    pub(super) minutes: Box<[u8]>,
    pub(super) total: u64,
}

/// The rows of the invocations file.
pub(super) struct Rows {
    table: Table,
    key: KeyColumns,
    trigger: Option<usize>,
    column: usize,
    pub(super) columns: u32,
}

impl Rows {
    /// The next row with its counts of the minutes [from, to).
    pub(super) fn next(&mut self, from: u32, to: u32) -> Result<Option<Row>> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let timer = self.trigger.map_or(Ok(""), |t| self.table.text(t))? == "timer";
        let (mut minutes, mut total, mut next) = (Vec::new(), 0, 0);
        for minute in from..to {
            let column = self.column + minute as usize;
            if self.table.field(column) == b"0" {
                continue;
            }
            let count = self.table.decimal(column, 1, "a number of invocations")?;
            if count > 0 {
                push_number(&mut minutes, u64::from(minute - from - next));
                push_number(&mut minutes, count);
                next = minute - from + 1;
                total += count;
            }
        }
        let key = read_key(&self.table, self.key)?;
        Ok(Some(Row { key, timer, minutes: minutes.into(), total }))
    }
}

fn push_number(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

/// Reads a number that `push_number` wrote; `None` at the end.
pub(super) fn pull_number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
        shift += 7;
    }
}
