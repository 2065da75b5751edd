//! Durations and memory, as the files have them: bad cells leave out their row, and are counted by kind.

use super::files::{Key, KeyColumns};
use crate::base::{CENTURY, Mem, NumberFault, Result};
use crate::table::Table;
use crate::{Durations, Notes};
use rustc_hash::{FxHashMap, FxHashSet};

/// A function's durations in ms: the average and the percentiles 0, 1, 25, 50, 75, 99, 100.
pub(super) struct DurationRow {
    pub(super) average: f64,
    /// Those that the chosen law needs; else 0.
    pub(super) percentiles: [f64; 7],
    /// Executions that the row speaks of; `None` where the file says nothing that can be used.
    pub(super) count: Option<f64>,
}

const PERCENTILES: [&str; 7] = ["0", "1", "25", "50", "75", "99", "100"];

/// Which of the percentiles a law needs.
fn needed(durations: Durations) -> std::ops::Range<usize> {
    match durations {
        Durations::Percentiles => 0..7,
        Durations::Lognormal => 3..4,
        Durations::Average => 0..0,
    }
}

/// A number >= 0, or what it is instead.
fn cell(table: &Table, column: usize) -> Result<f64, &'static str> {
    let text = table.cell(column).ok_or("a cell that is no number")?;
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        Ok(x) if x < 0.0 => Err("a negative cell"),
        _ if text.is_empty() => Err("an empty cell"),
        _ => Err("a cell that is no number"),
    }
}

/// The duration rows of each key, those of equal keys in the order of the file.
pub(super) fn durations(
    table: &mut Table,
    key: KeyColumns,
    law: Durations,
    notes: &mut Notes,
) -> Result<FxHashMap<Key, Vec<DurationRow>>> {
    let average = table.column("Average")?;
    let wanted = needed(law);
    let columns: Vec<usize> = PERCENTILES[wanted.clone()]
        .iter()
        .map(|p| table.column(&format!("percentile_Average_{p}")))
        .collect::<Result<_>>()?;
    let count = table.optional("Count")?;
    let (mut rows, mut seen) = (FxHashMap::<Key, Vec<DurationRow>>::default(), FxHashSet::default());
    while table.advance_counting(notes)? {
        if !seen.insert(table.digest()) {
            notes.count("identical duration rows (counted once)", 1);
            continue;
        }
        let Some(key) = key.read(table) else {
            notes.count("duration rows whose key is no text (left out)", 1);
            continue;
        };
        let mut row = DurationRow { average: 0.0, percentiles: [0.0; 7], count: None };
        let used = row.percentiles[wanted.clone()].iter_mut().zip(columns.iter().copied());
        let mut bad = None;
        for (value, column) in std::iter::once((&mut row.average, average)).chain(used) {
            match cell(table, column) {
                Ok(ms) if ms * 1e6 > CENTURY as f64 => {
                    return Err(table.bad_number(column, NumberFault::TooLong, "milliseconds"));
                }
                Ok(ms) => *value = ms,
                Err(kind) => bad = bad.or(Some(kind)),
            }
        }
        if let Some(kind) = bad {
            notes.count(&format!("duration rows with {kind} (left out)"), 1);
            continue;
        }
        if row.average == 0.0 {
            notes.count("zero averages (kept as 1 ms)", 1);
            row.average = 1.0;
        }
        if !row.percentiles.is_sorted() && law == Durations::Percentiles {
            notes.count("duration rows whose percentiles descend (levelled)", 1);
            let mut highest = 0.0f64;
            for p in &mut row.percentiles {
                highest = highest.max(*p);
                *p = highest;
            }
        }
        row.count = count.and_then(|column| cell(table, column).ok());
        rows.entry(key).or_default().push(row);
    }
    let further = rows.values().map(|rows| rows.len() as u64 - 1).sum();
    notes.count("further duration rows of one function (each call draws its row by Count)", further);
    let weighed = rows.values().filter(|rows| rows.len() > 1).flatten();
    notes.count(
        "bad counts of these duration rows (taken as 0)",
        weighed.filter(|row| row.count.is_none()).count() as u64,
    );
    Ok(rows)
}

/// Memory by key: of an app, or of a function where an app's memory was split over its functions.
pub(super) fn memory(table: &mut Table, key: KeyColumns, notes: &mut Notes) -> Result<FxHashMap<Key, Mem>> {
    /// What is more is no memory of a container: a petabyte.
    const MOST_MB: f64 = (1u64 << 30) as f64;
    let size = table.column("AverageAllocatedMb")?;
    let (mut sizes, mut seen) = (FxHashMap::default(), FxHashSet::default());
    while table.advance_counting(notes)? {
        if !seen.insert(table.digest()) {
            notes.count("identical memory rows (counted once)", 1);
            continue;
        }
        let Some(key) = key.read(table) else {
            notes.count("memory rows whose key is no text (left out)", 1);
            continue;
        };
        let mb = match cell(table, size) {
            Ok(mb) if mb <= MOST_MB => mb,
            Ok(_) => {
                notes.count("memory rows above a petabyte (left out)", 1);
                continue;
            }
            Err(kind) => {
                notes.count(&format!("memory rows with {kind} (left out)"), 1);
                continue;
            }
        };
        notes.count("memory rows of no size (taken as 1 MB)", u64::from(mb == 0.0));
        if sizes.contains_key(&key) {
            notes.count("duplicate memory rows (the first counts)", 1);
            continue;
        }
        sizes.insert(key, Mem((mb.max(1.0) * Mem::MIB as f64).ceil() as u64));
    }
    Ok(sizes)
}
