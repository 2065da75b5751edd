//! The neutral pair: `functions.csv` (name, memory_mb, cold_ms, warm_ms) and `invocations.csv` (time_ms, function,
//! duration_ms; sorted by time; an empty duration means the function's warm_ms). Cold starts are not in the durations.

use super::table::Table;
use super::{Notes, Source, Workload};
use crate::base::{
    Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time, leading_decimal, nearest,
};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

const MS: u64 = 1_000_000;

pub(super) fn open(functions: &Path, invocations: &Path) -> Result<Workload> {
    let (specs, warm) = read_functions(functions)?;
    let table = Table::open(invocations)?;
    let plain = table.header == ["time_ms", "function", "duration_ms"];
    let ids = specs.iter().zip(0u32..).map(|(s, id)| (s.name.as_bytes().into(), FunctionId(id))).collect();
    let horizon = table.column("time_ms").ok().and_then(|time| table.last_decimal(time, MS)).map(Time);
    let source = Rows {
        time: table.column("time_ms")?,
        function: table.column("function")?,
        duration: table.column("duration_ms")?,
        table,
        plain,
        ids,
        warm,
        last: Time::ZERO,
        functions: functions.to_path_buf(),
        rows: 0,
    };
    Ok(Workload {
        functions: specs,
        source: Box::new(source),
        closed: Vec::new(),
        horizon,
        begin: None,
        end: None,
        epoch: None,
        prewarm: Vec::new(),
        cold_start: None,
        notes: Rc::new(RefCell::new(Notes::default())),
    })
}

fn read_functions(path: &Path) -> Result<(Vec<FunctionSpec>, Vec<Duration>)> {
    let mut table = Table::open(path)?;
    let [name, memory, cold, warm] =
        ["name", "memory_mb", "cold_ms", "warm_ms"].map(|column| table.column(column));
    let (name, memory, cold, warm) = (name?, memory?, cold?, warm?);
    let (mut specs, mut warms) = (Vec::<FunctionSpec>::new(), Vec::new());
    let mut seen = rustc_hash::FxHashSet::default();
    while table.advance()? {
        let text = table.text(name)?.to_string();
        if !seen.insert(text.clone()) {
            return Err(table.fault(format!("function '{text}' is there twice")));
        }
        let mut spec = FunctionSpec::new(text, Mem(table.decimal(memory, Mem::MIB, "MB")?));
        spec.cold_start = Some(Dist::constant(Duration(table.decimal(cold, MS, "milliseconds")?)));
        warms.push(Duration(table.decimal(warm, MS, "milliseconds")?));
        specs.push(spec);
    }
    if specs.is_empty() {
        return Err(Fault::usage(format!("cannot read {}: there are no functions in it", path.display())));
    }
    Ok((specs, warms))
}

struct Rows {
    table: Table,
    time: usize,
    function: usize,
    duration: usize,
    /// These are the columns, in this order, and no others.
    plain: bool,
    ids: FxHashMap<Box<[u8]>, FunctionId>,
    warm: Vec<Duration>,
    last: Time,
    functions: std::path::PathBuf,
    rows: u64,
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
        if !self.table.advance()? {
            if self.rows == 0 {
                let path = self.table.path().display();
                return Err(Fault::usage(format!("cannot read {path}: there are no invocations in it")));
            }
            return Ok(None);
        }
        self.rows += 1;
        let arrival = Time(self.table.decimal(self.time, MS, "milliseconds")?);
        if arrival < self.last {
            return Err(self.unsorted(arrival));
        }
        self.last = arrival;
        let Some(&function) = self.ids.get(self.table.field(self.function)) else {
            return Err(self.unknown());
        };
        let intended = match self.table.field(self.duration) {
            b"" => self.warm[function.index()],
            _ => Duration(self.table.decimal(self.duration, MS, "milliseconds")?),
        };
        Ok(Some(Invocation { number: 0, function, arrival, intended, fails: false, usage: None }))
    }
}

impl Rows {
    #[cold]
    fn unsorted(&self, arrival: Time) -> Fault {
        self.table.fault(format!(
            "time_ms {} is before {} in the row above; sort the file by time_ms",
            arrival.0 as f64 / MS as f64,
            self.last.0 as f64 / MS as f64
        ))
    }

    #[cold]
    fn unknown(&self) -> Fault {
        let name = String::from_utf8_lossy(self.table.field(self.function)).into_owned();
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
