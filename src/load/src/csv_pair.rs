//! The neutral pair: `functions.csv` (name, memory_mb, cold_ms, warm_ms) and `invocations.csv` (time_ms, function,
//! duration_ms; sorted by time; an empty duration means the function's warm_ms). Cold starts are not in the durations.
//!
//! It is strict: the first wrong row ends it, with its line; with `skip_bad` wrong rows are left out and counted by kind.
//! Spaces around a field are no part of it.

use super::table::{MISFITS, Step, Table};
use super::trace::{RowTrace, TraceConfig};
use super::{Notes, Source};
use crate::base::{
    Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, NumberFault, Result, Time,
    leading_decimal, nearest,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MS: u64 = 1_000_000;

pub(super) fn open(functions: &Path, invocations: &Path, config: &TraceConfig) -> Result<RowTrace> {
    let mut notes = Notes::default();
    let mut named = Table::open(functions)?;
    let (specs, warm) = read_functions(&mut named, config.skip_bad, &mut notes)?;
    let mut table = Table::open(invocations)?;
    table.check_header()?;
    let plain = table.header == ["time_ms", "function", "duration_ms"];
    let [time, function, duration] = ["time_ms", "function", "duration_ms"].map(|name| table.column(name));
    let (time, function, duration) = (time?, function?, duration?);
    notes.unused([&named, &table]);
    let ids = specs.iter().zip(0u32..).map(|(s, id)| (s.name.as_bytes().into(), FunctionId(id))).collect();
    let horizon = table.last_decimal(time, MS).map(Time);
    let notes = Rc::new(RefCell::new(notes));
    let mut source = Rows {
        time,
        function,
        duration,
        table,
        plain,
        skip_bad: config.skip_bad,
        ids,
        warm,
        last: Time::ZERO,
        functions: functions.to_path_buf(),
        rows: 0,
        notes: Rc::clone(&notes),
    };
    let first = source.first()?;
    Ok(RowTrace {
        functions: specs,
        source: Box::new(source),
        first,
        horizon,
        prewarm: Vec::new(),
        gpu: Vec::new(),
        notes,
    })
}

fn read_functions(
    table: &mut Table,
    skip_bad: bool,
    notes: &mut Notes,
) -> Result<(Vec<FunctionSpec>, Vec<Duration>)> {
    table.check_header()?;
    let columns = ["name", "memory_mb", "cold_ms", "warm_ms"].map(|name| table.column(name));
    let [name, memory, cold, warm] = columns;
    let columns = [name?, memory?, cold?, warm?];
    let (mut specs, mut warms) = (Vec::<FunctionSpec>::new(), Vec::new());
    let mut seen = FxHashSet::default();
    loop {
        let read = match table.step()? {
            Step::End => break,
            Step::Row => read_function(table, columns),
            Step::Misfit => Err(table.misfit()),
        };
        let read = read.and_then(|(spec, warm)| match seen.insert(spec.name.clone()) {
            true => Ok((spec, warm)),
            false => Err(table.fault(format!("function '{}' is there twice", spec.name))),
        });
        match read {
            Ok((spec, warm)) => {
                specs.push(spec);
                warms.push(warm);
            }
            Err(_) if skip_bad => notes.count("wrong rows of the functions (left out)", 1),
            Err(fault) => return Err(fault),
        }
    }
    if specs.is_empty() {
        let path = table.path().display();
        return Err(Fault::usage(format!("cannot read {path}: there are no functions in it")));
    }
    Ok((specs, warms))
}

fn read_function(table: &Table, [name, memory, cold, warm]: [usize; 4]) -> Result<(FunctionSpec, Duration)> {
    let text = table.text(name)?;
    if text.is_empty() {
        return Err(table.fault("the function has no name"));
    }
    let millis = |column| {
        table.millis(column).map(Duration).map_err(|why| table.bad_number(column, why, "milliseconds"))
    };
    let bytes = table.decimal(memory, Mem::MIB).map_err(|why| table.bad_number(memory, why, "MB"))?;
    let mut spec = FunctionSpec::new(text, Mem(bytes));
    spec.cold_start = Some(Dist::constant(millis(cold)?));
    Ok((spec, millis(warm)?))
}

/// An instant in milliseconds, to the nanosecond.
fn in_ms(at: Time) -> String {
    let text = format!("{}.{:06}", at.0 / MS, at.0 % MS);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

struct Rows {
    table: Table,
    time: usize,
    function: usize,
    duration: usize,
    /// These are the columns, in this order, and no others.
    plain: bool,
    /// Wrong rows are counted, not told.
    skip_bad: bool,
    ids: FxHashMap<Box<[u8]>, FunctionId>,
    warm: Vec<Duration>,
    last: Time,
    functions: PathBuf,
    rows: u64,
    notes: Rc<RefCell<Notes>>,
}

/// What is wrong with a row.
enum Flaw {
    Fields,
    Time(NumberFault),
    Unsorted(Time),
    Function,
    Duration(NumberFault),
}

impl Flaw {
    /// The kind that is counted.
    fn kind(&self) -> &'static str {
        match self {
            Flaw::Fields => MISFITS,
            Flaw::Time(_) => "rows with a bad time_ms (left out)",
            Flaw::Unsorted(_) => "rows before the one above (left out)",
            Flaw::Function => "rows of unknown functions (left out)",
            Flaw::Duration(_) => "rows with a bad duration_ms (left out)",
        }
    }
}

impl Source for Rows {
    #[inline]
    fn next(&mut self) -> Result<Option<Invocation>> {
        match self.plain_row() {
            Some(call) => Ok(Some(call)),
            None => self.any_row(),
        }
    }
}

impl Rows {
    /// When the first usable row is; it is then the next one.
    fn first(&mut self) -> Result<Option<Time>> {
        loop {
            match self.table.step()? {
                Step::End => return Ok(None),
                Step::Row | Step::Misfit => {}
            }
            let time = self.table.millis(self.time).map(Time);
            match time {
                Err(_) if self.skip_bad => {
                    self.notes.borrow_mut().count(Flaw::Time(NumberFault::Empty).kind(), 1)
                }
                time => {
                    self.table.put_back();
                    return Ok(time.ok());
                }
            }
        }
    }

    /// The next row, read in one pass, if it is as nearly all are; `None`, and nothing is used, for any other.
    #[inline]
    fn plain_row(&mut self) -> Option<Invocation> {
        /// No name that is longer is read here, nor anything near the end of what was read from the file.
        const NAME: usize = 64;
        let text = self.table.ahead();
        if !self.plain || text.len() < 128 {
            return None;
        }
        let (arrival, at) = leading_decimal(text)?;
        let name = &text[at + 1..];
        let length = name.iter().take(NAME).position(|c| *c == b',')?;
        let end = name.get(length + 1..)?;
        let (intended, used) = leading_decimal(end)?;
        let (arrival, function) = (Time(arrival), *self.ids.get(&name[..length])?);
        if text[at] != b',' || end[used] != b'\n' || arrival < self.last {
            return None;
        }
        if !self.table.use_row(at + 1 + length + 1 + used + 1) {
            return None;
        }
        self.rows += 1;
        self.last = arrival;
        let intended = Duration(intended);
        Some(Invocation { number: 0, function, arrival, intended, fails: false, usage: None })
    }

    fn any_row(&mut self) -> Result<Option<Invocation>> {
        loop {
            let read = match self.table.step()? {
                Step::End => return self.end(),
                Step::Row => self.row(),
                Step::Misfit => Err(Flaw::Fields),
            };
            match read {
                Ok(call) => {
                    self.rows += 1;
                    self.last = call.arrival;
                    return Ok(Some(call));
                }
                Err(flaw) if self.skip_bad => self.notes.borrow_mut().count(flaw.kind(), 1),
                Err(flaw) => return Err(self.fault(&flaw)),
            }
        }
    }

    fn row(&self) -> Result<Invocation, Flaw> {
        let arrival = Time(self.table.millis(self.time).map_err(Flaw::Time)?);
        if arrival < self.last {
            return Err(Flaw::Unsorted(arrival));
        }
        let name = self.table.field(self.function);
        // Most names have no spaces around them.
        let found = self.ids.get(name).or_else(|| self.ids.get(self.table.cell(self.function)?.as_bytes()));
        let function = *found.ok_or(Flaw::Function)?;
        let intended = match self.table.millis(self.duration) {
            Err(NumberFault::Empty) => self.warm[function.index()],
            read => Duration(read.map_err(Flaw::Duration)?),
        };
        Ok(Invocation { number: 0, function, arrival, intended, fails: false, usage: None })
    }

    fn end(&self) -> Result<Option<Invocation>> {
        if self.rows > 0 {
            return Ok(None);
        }
        let (path, notes) = (self.table.path().display(), self.notes.borrow());
        Err(Fault::usage(match notes.dirty.first() {
            Some((kind, n)) => {
                format!("cannot read {path}: none of its rows can be used; first of all {n} {kind}")
            }
            None => format!("cannot read {path}: there are no invocations in it"),
        }))
    }

    #[cold]
    fn fault(&self, flaw: &Flaw) -> Fault {
        match flaw {
            Flaw::Fields => self.table.misfit(),
            Flaw::Time(why) => self.table.bad_number(self.time, *why, "milliseconds"),
            Flaw::Duration(why) => self.table.bad_number(self.duration, *why, "milliseconds"),
            Flaw::Unsorted(arrival) => self.table.fault(format!(
                "time_ms {} is before {} in the row above; sort the file by time_ms",
                in_ms(*arrival),
                in_ms(self.last)
            )),
            Flaw::Function => self.unknown(),
        }
    }

    fn unknown(&self) -> Fault {
        let name = String::from_utf8_lossy(self.table.field(self.function)).trim().to_string();
        let names: Vec<_> = self.ids.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect();
        let hint =
            nearest(&name, names.iter().map(String::as_str)).map(|n| format!(" (the nearest is '{n}')"));
        let functions = self.functions.display();
        self.table.fault(format!(
            "function '{name}' is not in {functions}{}; add it there or remove the row",
            hint.unwrap_or_default()
        ))
    }
}
