//! Azure Functions 2019 (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020): counts per minute, durations as
//! percentiles, memory per app; the official file names, or invitro's invocations.csv, durations.csv, memory.csv.
//!
//! The key is (owner, app, function). Functions without a duration or a memory row are left out and counted, as the
//! loaders of invitro, Ilúvatar and FaasCache do. Of duplicate memory rows the first counts.

mod files;
mod law;
mod minutes;

use super::trace::{Mark, mark};
use super::{Counts, Notes, Placement, TraceConfig, Workload};
use crate::backend::Model;
use crate::base::{Duration, Fault, FunctionSpec, Mem, Result, Time, Unit};
use crate::rt::chance::Chance;
use files::{Files, Row};
use law::Law;
use minutes::{Function, Minutes};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

const MINUTE: u64 = 60_000_000_000;
/// Least memory of a container where the file splits an app's memory over its functions.
const LEAST_SPLIT: Mem = Mem::from_mib(128);

pub(super) fn open(folder: &Path, config: &TraceConfig, seed: u64) -> Result<Workload> {
    let files = Files::find(folder, config.day)?;
    let mut notes = Notes::default();
    if files.days > 1 {
        notes.remarks.push(format!(
            "The folder holds {} days; {} is replayed (--day chooses).",
            files.days, files.day
        ));
    }
    let durations = files.durations(&mut notes)?;
    let memory = files.memory(&mut notes)?;
    let (first, rows) = files.invocations()?;
    let (from, to) = span(config, &files.invocations, first, rows.columns)?;
    let unit = config.unit.unwrap_or(if memory.per_function { Unit::Function } else { Unit::App });

    let mut functions = Vec::new();
    let mut specs = Vec::new();
    let mut joined: Vec<(Row, Law, Mem)> = Vec::new();
    let mut app_memory: rustc_hash::FxHashMap<(String, String), (Mem, u32)> =
        rustc_hash::FxHashMap::default();
    let mut rows = rows;
    while let Some(row) = rows.next(from, to)? {
        let Some(duration) = durations.get(&row.key) else {
            notes.count("functions without a duration row (left out)", 1);
            notes.count("invocations of functions left out", row.total);
            continue;
        };
        let Some(size) = memory.of(&row.key) else {
            notes.count("functions without a memory row (left out)", 1);
            notes.count("invocations of functions left out", row.total);
            continue;
        };
        let app = (row.key.0.clone(), row.key.1.clone());
        let known = app_memory.entry(app).or_insert((Mem(0), 0));
        known.0 = if memory.per_function { known.0 + size } else { size };
        known.1 += 1;
        joined.push((row, Law::new(duration, config.durations), size));
    }
    notes.count(
        "functions whose percentiles do not allow their Average",
        joined.iter().filter(|j| j.1.is_off()).count() as u64,
    );
    let names = unique_names(joined.iter().map(|(row, _, _)| row));
    let chance = Chance::new(seed);
    for ((row, law, size), name) in joined.into_iter().zip(names) {
        let app = match row.key.1.as_str() {
            "" => name.clone(),
            app => format!("{}:{app}", row.key.0),
        };
        let (whole, members) = app_memory[&(row.key.0, row.key.1)];
        let container = match (unit, memory.per_function) {
            (Unit::App, _) => whole,
            (Unit::Function, true) => size.max(LEAST_SPLIT),
            (Unit::Function, false) => Mem(whole.0.div_ceil(u64::from(members))).max(LEAST_SPLIT),
        };
        let luck = chance.named(&name);
        let mut spec = FunctionSpec::new(name, Mem(container.0.div_ceil(Mem::MIB).max(1) * Mem::MIB));
        spec.app = app;
        functions.push(Function::new(
            row.minutes,
            law,
            luck,
            row.timer && config.placement == Placement::Auto,
        ));
        specs.push(spec);
    }
    if specs.is_empty() {
        let path = folder.display();
        return Err(Fault::usage(format!(
            "cannot replay {path}: no function has invocations, durations and memory"
        )));
    }
    if config.cold_start.is_none() {
        notes.remarks.push(
            "Azure's data has no cold starts: they are lognormal with mean 3.24 s and sd 7.10 s (Huawei 2025)".into(),
        );
    }
    let notes = Rc::new(RefCell::new(notes));
    let scale = config.rate_scale.unwrap_or(1.0);
    let ends = config.counts == Counts::End;
    let source = Minutes::new(functions, to - from, config.placement, scale, ends, Rc::clone(&notes));
    Ok(Workload {
        functions: specs,
        source: Box::new(source),
        closed: Vec::new(),
        horizon: Some(Time(u64::from(to - from) * MINUTE)),
        begin: Some(Time::ZERO),
        end: Some(Time(u64::from(to - from) * MINUTE)),
        epoch: None,
        prewarm: Vec::new(),
        cold_start: Some(config.cold_start.clone().unwrap_or_else(Model::huawei_2025)),
        notes,
    })
}

/// The minutes [from, to) that are replayed, counted from the file's first minute.
fn span(config: &TraceConfig, path: &Path, first: u32, columns: u32) -> Result<(u32, u32)> {
    let place = |text: &str| -> Result<u32> {
        let (minutes, what) = match mark(text)? {
            Mark::TimeOfDay(Duration(ns)) => (ns / MINUTE, "time of day"),
            Mark::After(Duration(ns)) => (ns / MINUTE + u64::from(first), "span"),
        };
        let end = u64::from(first + columns);
        if !(u64::from(first)..=end).contains(&minutes) {
            return Err(Fault::usage(format!(
                "the {what} '{text}' is outside {}, which covers minutes {first} to {end} of the day ({:02}:{:02} to {:02}:{:02})",
                path.display(),
                first / 60,
                first % 60,
                end / 60,
                end % 60
            )));
        }
        Ok(minutes as u32 - first)
    };
    let from = config.from.as_deref().map(place).transpose()?.unwrap_or(0);
    let to = config.to.as_deref().map(place).transpose()?.unwrap_or(columns);
    if from < to { Ok((from, to)) } else { Err(Fault::usage("the trace's 'from' is not before its 'to'")) }
}

/// The function's hash where that is unique, else with its app.
fn unique_names<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Vec<String> {
    let mut times: rustc_hash::FxHashMap<&str, u32> = rustc_hash::FxHashMap::default();
    rows.clone().for_each(|row| *times.entry(&row.key.2).or_default() += 1);
    rows.map(|row| match times[row.key.2.as_str()] {
        1 => row.key.2.clone(),
        _ => format!("{}:{}:{}", row.key.0, row.key.1, row.key.2),
    })
    .collect()
}
