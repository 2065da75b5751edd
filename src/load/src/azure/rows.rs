//! The rows of the invocations file: a function's counts, minute by minute.

use super::files::{Key, KeyColumns};
use super::sparse::{Sparse, WHOLE};
use crate::Notes;
use crate::base::{Fault, NumberFault, Result, decimal};
use crate::table::Table;
use rustc_hash::FxHashSet;

/// What a minute has at most; the busiest app of the whole of Azure has 90,000.
const MOST: u64 = 100_000_000;

/// A function's row of counts.
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) timer: bool,
    /// From the file's first minute on.
    pub(super) minutes: Sparse,
    /// Those of the minutes that are replayed.
    pub(super) total: u64,
}

/// The rows of the invocations file.
pub(super) struct Rows {
    table: Table,
    key: KeyColumns,
    trigger: Option<usize>,
    /// The column of the first minute.
    column: usize,
    pub(super) columns: u32,
    /// Which minute of the day that is.
    pub(super) first: u32,
    seen: FxHashSet<u64>,
}

/// `1`, `minute_1` and `1_minute` alike.
fn minute_of(header: &str) -> Option<u32> {
    header.trim_start_matches("minute_").trim_end_matches("_minute").parse().ok()
}

impl Rows {
    /// Finds the columns. Files with `official` names count minutes from 1, also where they were cut; others from 0, unless
    /// they begin with 1.
    pub(super) fn new(mut table: Table, key: KeyColumns, official: bool, notes: &mut Notes) -> Result<Rows> {
        let minutes: Vec<(usize, u32)> =
            table.header.iter().enumerate().filter_map(|(i, h)| Some((i, minute_of(h)?))).collect();
        let Some(&(column, label)) = minutes.first() else {
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
            .any(|((at, minute), i)| *minute != label.saturating_add(i) || *at != column + i as usize)
        {
            return Err(Fault::at(table.path(), 1, "the minutes in the header do not follow on each other"));
        }
        let from_one = (official && label > 0) || label == 1;
        let first = if from_one { label - 1 } else { label };
        if label > 1 {
            notes.remarks.push(format!(
                "The minutes are labelled from {label} on, which is read as {:02}:{:02}: {}.",
                first / 60,
                first % 60,
                match from_one {
                    true => "official files count from 1",
                    false => "a file that is called invocations.csv counts from 0",
                }
            ));
        }
        table.mark_used(column, minutes.len());
        let trigger = table.optional("Trigger")?;
        Ok(Rows { table, key, trigger, column, columns, first, seen: FxHashSet::default() })
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// The next row with its counts up to minute `to`; of those before `from` nothing is told.
    pub(super) fn next(&mut self, from: u32, to: u32, notes: &mut Notes) -> Result<Option<Row>> {
        loop {
            if !self.table.advance_counting(notes)? {
                return Ok(None);
            }
            if !self.seen.insert(self.table.digest()) {
                notes.count("identical rows of invocations (counted once)", 1);
                continue;
            }
            let key = self.key.read(&self.table).filter(|key| !key.2.is_empty());
            let Some(key) = key else {
                notes.count("rows of invocations without a function (left out)", 1);
                continue;
            };
            let timer = self.trigger.and_then(|column| self.table.cell(column)) == Some("timer");
            let (minutes, total) = self.counts(from, to, notes);
            return Ok(Some(Row { key, timer, minutes, total: (total + WHOLE / 2) / WHOLE }));
        }
    }

    fn counts(&self, from: u32, to: u32, notes: &mut Notes) -> (Sparse, u64) {
        let (mut minutes, mut total) = (Sparse::default(), 0);
        for minute in 0..to {
            let field = self.table.field(self.column + minute as usize);
            if field == b"0" {
                continue;
            }
            let (count, kind) = match decimal(field, WHOLE) {
                Ok(count) if count > MOST * WHOLE => {
                    (0, Some("counts above 100 million a minute (taken as 0)"))
                }
                Ok(count) if count % WHOLE > 0 => (count, Some("fractional counts (drawn with that mean)")),
                Ok(count) => (count, None),
                Err(why) => (0, Some(bad(why))),
            };
            if count > 0 {
                minutes.push(minute, count);
            }
            if minute >= from {
                total += count;
                kind.iter().for_each(|kind| notes.count(kind, 1));
            }
        }
        minutes.shrink();
        (minutes, total)
    }
}

/// The kind of a count that cannot be used.
fn bad(why: NumberFault) -> &'static str {
    match why {
        NumberFault::Empty => "empty counts (taken as 0)",
        NumberFault::Negative => "negative counts (taken as 0)",
        NumberFault::TooLarge | NumberFault::TooLong => "counts above 100 million a minute (taken as 0)",
        NumberFault::NotFinite | NumberFault::NotANumber => "counts that are no number (taken as 0)",
    }
}
