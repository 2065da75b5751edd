//! Ilúvatar's pair: an invocations CSV (`func_name,invoke_time_ms`, sorted) and a metadata CSV (`func_name,
//! cold_dur_ms,warm_dur_ms,mem_mb`, optional `prewarms`). There are no durations per invocation: each takes the
//! function's warm_dur_ms. `cold_dur_ms` is the whole cold run, so the cold start is its difference to warm_dur_ms.

use super::table::Table;
use super::{Notes, Source, Workload};
use crate::base::{Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const MS: u64 = 1_000_000;

/// Tells the two files apart by their header, whatever their names and order; a folder is searched for them.
fn find(paths: &[PathBuf]) -> Result<(PathBuf, PathBuf)> {
    let mut candidates = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| Fault::reading(path, &e))?;
            candidates.extend(
                entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "csv")),
            );
        } else {
            candidates.push(path.clone());
        }
    }
    candidates.sort();
    let (mut rows, mut metadata) = (Vec::new(), Vec::new());
    for path in candidates {
        let table = Table::open(&path)?;
        if table.optional("invoke_time_ms").is_some() {
            rows.push(path);
        } else if table.optional("cold_dur_ms").is_some() {
            metadata.push(path);
        }
    }
    match (rows.as_slice(), metadata.as_slice()) {
        ([rows], [metadata]) => Ok((rows.clone(), metadata.clone())),
        _ => Err(Fault::usage(format!(
            "an Ilúvatar trace is one CSV with invoke_time_ms and one with cold_dur_ms; found {} and {}; name the two files",
            rows.len(),
            metadata.len()
        ))),
    }
}

pub(super) fn open(paths: &[PathBuf]) -> Result<Workload> {
    let (rows, metadata) = find(paths)?;
    let mut notes = Notes::default();
    let (specs, warm) = read_metadata(&metadata, &mut notes)?;
    let table = Table::open(&rows)?;
    let ids = specs.iter().zip(0u32..).map(|(s, id)| (s.name.clone(), FunctionId(id))).collect();
    let (function, time) = (table.column("func_name")?, table.column("invoke_time_ms")?);
    let horizon = table.last_decimal(time, MS).map(Time);
    let source = Rows { table, function, time, ids, warm, last: Time::ZERO, metadata };
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
        notes: Rc::new(RefCell::new(notes)),
    })
}

fn read_metadata(path: &Path, notes: &mut Notes) -> Result<(Vec<FunctionSpec>, Vec<Duration>)> {
    let mut table = Table::open(path)?;
    let (name, cold) = (table.column("func_name")?, table.column("cold_dur_ms")?);
    let (warm, memory) = (table.column("warm_dur_ms")?, table.column("mem_mb")?);
    let (mut specs, mut warms): (Vec<FunctionSpec>, Vec<Duration>) = (Vec::new(), Vec::new());
    while table.advance()? {
        let cold = table.decimal(cold, MS, "milliseconds")?;
        let warm = table.decimal(warm, MS, "milliseconds")?;
        notes.count("cold_dur_ms below warm_dur_ms (cold start taken as 0)", u64::from(cold < warm));
        let name = table.text(name)?.to_string();
        if specs.iter().any(|s| s.name == name) {
            return Err(table.fault(format!("function '{name}' is there twice")));
        }
        let mut spec = FunctionSpec::new(name, Mem(table.decimal(memory, Mem::MIB, "MB")?));
        spec.cold_start = Some(Dist::constant(Duration(cold.saturating_sub(warm))));
        specs.push(spec);
        warms.push(Duration(warm));
    }
    if specs.is_empty() {
        return Err(Fault::usage(format!("cannot read {}: there are no functions in it", path.display())));
    }
    Ok((specs, warms))
}

struct Rows {
    table: Table,
    function: usize,
    time: usize,
    ids: FxHashMap<String, FunctionId>,
    warm: Vec<Duration>,
    last: Time,
    metadata: PathBuf,
}

impl Source for Rows {
    fn next(&mut self) -> Result<Option<Invocation>> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let arrival = Time(self.table.decimal(self.time, MS, "milliseconds")?);
        if arrival < self.last {
            return Err(self
                .table
                .fault("invoke_time_ms is before that of the row above; sort the file by it"));
        }
        self.last = arrival;
        let name = self.table.text(self.function)?;
        let Some(&function) = self.ids.get(name) else {
            let metadata = self.metadata.display();
            return Err(self
                .table
                .fault(format!("function '{name}' has no metadata in {metadata}; add a row for it")));
        };
        let intended = self.warm[function.index()];
        Ok(Some(Invocation { number: 0, function, arrival, intended, fails: false, usage: None }))
    }
}
