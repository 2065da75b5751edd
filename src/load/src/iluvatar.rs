//! Ilúvatar's pair (Fuerst et al., HPDC 2023): an invocations CSV (`func_name,invoke_time_ms`, sorted) and a metadata CSV
//! (`func_name,cold_dur_ms,warm_dur_ms,mem_mb`, optional `prewarms` and `compute`). There are no durations per invocation:
//! each takes the function's warm_dur_ms. `cold_dur_ms` is the whole cold run, so the cold start is its difference to it.
//!
//! Bad rows are left out and counted by kind, as in all traces of others.

use super::table::{Step, Table, is_standard_input};
use super::trace::{RowTrace, TraceConfig};
use super::{Notes, Source};
use crate::base::{
    Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, NumberFault, Result, Time,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MS: u64 = 1_000_000;
/// Containers ahead of need that a row may ask for; what is more is no count.
const MOST_PREWARMS: u64 = 1_000_000;

/// Tells the two files apart by their header, whatever their names and order; a folder is searched for them.
fn find(paths: &[PathBuf]) -> Result<(Table, Table)> {
    let mut candidates = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| Fault::reading(path, &e))?;
            candidates.extend(entries.flatten().map(|e| (e.path(), true)).filter(|(p, _)| is_table(p)));
        } else {
            candidates.push((path.clone(), false));
        }
    }
    candidates.sort();
    let (mut rows, mut metadata, mut fault) = (Vec::new(), Vec::new(), None);
    for (path, searched) in candidates {
        match Table::open(&path) {
            Ok(table) if table.has("invoke_time_ms") => rows.push(table),
            Ok(table) if table.has("cold_dur_ms") => metadata.push(table),
            Ok(_) => {}
            // Something else in a folder does not matter while the two are there.
            Err(why) if searched => fault = fault.or(Some(why)),
            Err(why) => return Err(why),
        }
    }
    match (rows.len(), metadata.len(), rows.pop(), metadata.pop()) {
        (1, 1, Some(rows), Some(metadata)) => Ok((rows, metadata)),
        (found, described, ..) => Err(fault.unwrap_or_else(|| {
            Fault::usage(format!(
                "an Ilúvatar trace is one CSV with invoke_time_ms and one with cold_dur_ms; found {found} and \
                 {described}; name the two files"
            ))
        })),
    }
}

fn is_table(path: &Path) -> bool {
    let name = path.to_string_lossy();
    !is_standard_input(path) && [".csv", ".csv.gz", ".csv.zst"].iter().any(|ending| name.ends_with(ending))
}

pub(super) fn open(paths: &[PathBuf], config: &TraceConfig) -> Result<RowTrace> {
    let (mut table, mut described) = find(paths)?;
    let mut notes = Notes::default();
    let metadata = read_metadata(&mut described, &mut notes)?;
    let (function, time) = (table.column("func_name")?, table.column("invoke_time_ms")?);
    notes.unused([&table, &described]);
    let Metadata { specs, warm, prewarm, gpu } = metadata;
    let ids = specs.iter().zip(0u32..).map(|(s, id)| (s.name.clone(), FunctionId(id))).collect();
    let horizon = table.last_decimal(time, MS).map(Time);
    let notes = Rc::new(RefCell::new(notes));
    let mut source = Rows {
        table,
        function,
        time,
        ids,
        warm,
        last: Time::ZERO,
        rows: 0,
        skip_bad: config.skip_bad,
        notes: Rc::clone(&notes),
    };
    let first = source.first()?;
    Ok(RowTrace { functions: specs, source: Box::new(source), first, horizon, prewarm, gpu, notes })
}

struct Metadata {
    specs: Vec<FunctionSpec>,
    warm: Vec<Duration>,
    prewarm: Vec<(FunctionId, u32)>,
    gpu: Vec<FunctionId>,
}

/// Columns of the metadata.
struct Columns {
    name: usize,
    cold: usize,
    warm: usize,
    memory: usize,
    prewarms: Option<usize>,
    compute: Option<usize>,
}

fn read_metadata(table: &mut Table, notes: &mut Notes) -> Result<Metadata> {
    let columns = Columns {
        name: table.column("func_name")?,
        cold: table.column("cold_dur_ms")?,
        warm: table.column("warm_dur_ms")?,
        memory: table.column("mem_mb")?,
        prewarms: table.optional("prewarms")?,
        compute: table.optional("compute")?,
    };
    let mut read = Metadata { specs: Vec::new(), warm: Vec::new(), prewarm: Vec::new(), gpu: Vec::new() };
    let (mut names, mut rows) = (FxHashSet::default(), FxHashSet::default());
    while table.advance_counting(notes)? {
        if !rows.insert(table.digest()) {
            notes.count("identical metadata rows (counted once)", 1);
            continue;
        }
        let Some(name) = table.cell(columns.name).filter(|name| !name.is_empty()) else {
            notes.count("metadata rows without a name (left out)", 1);
            continue;
        };
        if names.contains(name) {
            notes.count("further metadata rows of one function (the first holds)", 1);
            continue;
        }
        let Some((cold, warm, memory)) = usable(table, &columns, notes)? else { continue };
        notes.count("cold_dur_ms below warm_dur_ms (cold start taken as 0)", u64::from(cold < warm));
        names.insert(name.to_string());
        let id = FunctionId(read.specs.len() as u32);
        let mut spec = FunctionSpec::new(name, memory);
        spec.cold_start = Some(Dist::constant(Duration(cold.0.saturating_sub(warm.0))));
        read.specs.push(spec);
        read.warm.push(warm);
        if let Some(column) = columns.prewarms {
            match table.decimal(column, 1) {
                Ok(0) => {}
                Ok(n) if n <= MOST_PREWARMS => read.prewarm.push((id, n as u32)),
                _ => notes.count("bad prewarms (taken as 0)", 1),
            }
        }
        let compute = columns.compute.and_then(|column| table.cell(column));
        if compute.is_some_and(|compute| compute.eq_ignore_ascii_case("gpu")) {
            read.gpu.push(id);
        }
    }
    if read.specs.is_empty() {
        let path = table.path().display();
        let why =
            notes.dirty.first().map_or(String::new(), |(kind, n)| format!(" that can be used; {n} {kind}"));
        return Err(Fault::usage(format!("cannot read {path}: there are no functions in it{why}")));
    }
    say_where_from(&read.specs, notes);
    Ok(read)
}

/// The cold run, the warm run and the memory of a row; `None`, and the row is counted, if one of them cannot be used.
fn usable(table: &Table, columns: &Columns, notes: &mut Notes) -> Result<Option<(Duration, Duration, Mem)>> {
    let bad = |column, why, unit| match why {
        NumberFault::TooLong => Err(table.bad_number(column, why, unit)),
        _ => Ok(()),
    };
    let mut times = [Duration::ZERO; 2];
    for (time, column) in times.iter_mut().zip([columns.cold, columns.warm]) {
        match table.millis(column) {
            Ok(ns) => *time = Duration(ns),
            Err(why) => {
                bad(column, why, "milliseconds")?;
                notes.count(&format!("metadata rows with a duration that {why} (left out)"), 1);
                return Ok(None);
            }
        }
    }
    match table.decimal(columns.memory, Mem::MIB) {
        Ok(bytes) => Ok(Some((times[0], times[1], Mem(bytes)))),
        Err(why) => {
            notes.count(&format!("metadata rows with a memory that {why} (left out)"), 1);
            Ok(None)
        }
    }
}

/// Says so where the times look like those that Ilúvatar's own loader of Azure's data writes.
fn say_where_from(specs: &[FunctionSpec], notes: &mut Notes) {
    let hashed = |name: &str| name.len() >= 8 && name.bytes().all(|c| c.is_ascii_hexdigit());
    if specs.iter().all(|spec| hashed(&spec.name)) {
        notes.remarks.push(
            "The functions have names like Azure's: Ilúvatar's loader of that data takes the longest execution of a day as \
             cold_dur_ms, and the 25th percentile as warm_dur_ms. If so, the cold starts are no measured ones, and mostly \
             far too long."
                .into(),
        );
    }
}

struct Rows {
    table: Table,
    function: usize,
    time: usize,
    ids: FxHashMap<String, FunctionId>,
    warm: Vec<Duration>,
    last: Time,
    rows: u64,
    skip_bad: bool,
    notes: Rc<RefCell<Notes>>,
}

impl Rows {
    /// When the first usable row is; it is then the next one.
    fn first(&mut self) -> Result<Option<Time>> {
        loop {
            match self.table.step()? {
                Step::End => return Ok(None),
                Step::Row | Step::Misfit => {}
            }
            if let Ok(time) = self.table.millis(self.time) {
                self.table.put_back();
                return Ok(Some(Time(time)));
            }
            if matches!(self.table.millis(self.time), Err(NumberFault::TooLong)) {
                self.table.put_back();
                return Ok(None);
            }
            self.notes.borrow_mut().count(BAD_TIMES, 1);
        }
    }

    fn end(&self) -> Result<Option<Invocation>> {
        if self.rows > 0 {
            return Ok(None);
        }
        let (path, notes) = (self.table.path().display(), self.notes.borrow());
        Err(Fault::usage(match notes.dirty.last() {
            Some((kind, n)) => {
                format!("cannot read {path}: there are no invocations in it that can be used; {n} {kind}")
            }
            None => format!("cannot read {path}: there are no invocations in it"),
        }))
    }
}

const BAD_TIMES: &str = "rows with a bad invoke_time_ms (left out)";

impl Source for Rows {
    fn next(&mut self) -> Result<Option<Invocation>> {
        loop {
            if !self.table.advance_counting(&mut self.notes.borrow_mut())? {
                return self.end();
            }
            let arrival = match self.table.millis(self.time) {
                Ok(ns) => Time(ns),
                Err(why @ NumberFault::TooLong) => {
                    return Err(self.table.bad_number(self.time, why, "milliseconds"));
                }
                Err(_) => {
                    self.notes.borrow_mut().count(BAD_TIMES, 1);
                    continue;
                }
            };
            if arrival < self.last {
                if !self.skip_bad {
                    return Err(self
                        .table
                        .fault("invoke_time_ms is before that of the row above; sort the file by it"));
                }
                self.notes.borrow_mut().count("rows before the one above (left out)", 1);
                continue;
            }
            self.last = arrival;
            let name = self.table.cell(self.function);
            let Some(&function) = name.and_then(|name| self.ids.get(name)) else {
                self.notes.borrow_mut().count("invocations of functions without metadata (left out)", 1);
                continue;
            };
            self.rows += 1;
            let intended = self.warm[function.index()];
            return Ok(Some(Invocation {
                number: 0,
                function,
                arrival,
                intended,
                fails: false,
                usage: None,
            }));
        }
    }
}
