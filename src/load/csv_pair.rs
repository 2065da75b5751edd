//! The neutral pair: `functions.csv` (name, memory_mb, cold_ms, warm_ms) and `invocations.csv` (time_ms, function,
//! duration_ms; sorted by time; an empty duration means the function's warm_ms). Cold starts are not in the durations.

use super::table::Table;
use super::{Notes, Source, Workload};
use crate::base::{Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time, nearest};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

const MS: u64 = 1_000_000;

pub(super) fn open(functions: &Path, invocations: &Path) -> Result<Workload> {
    let (specs, warm) = read_functions(functions)?;
    let table = Table::open(invocations)?;
    let ids = specs.iter().zip(0u32..).map(|(s, id)| (s.name.as_bytes().into(), FunctionId(id))).collect();
    let source = Rows {
        time: table.column("time_ms")?,
        function: table.column("function")?,
        duration: table.column("duration_ms")?,
        table,
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
        horizon: None,
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
    ids: FxHashMap<Box<[u8]>, FunctionId>,
    warm: Vec<Duration>,
    last: Time,
    functions: std::path::PathBuf,
    rows: u64,
}

impl Source for Rows {
    fn next(&mut self) -> Result<Option<Invocation>> {
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
