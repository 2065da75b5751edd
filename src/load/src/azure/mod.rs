//! Azure Functions 2019 (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020): counts per minute, durations as
//! percentiles, memory per app; the official file names, or invitro's invocations.csv, durations.csv, memory.csv.
//!
//! The key is (owner, app, function), or what the files share of it. Functions without a duration or a memory row are left
//! out and counted, as the loaders of invitro, Ilúvatar and FaasCache do. Rows that are there twice count once; of unequal
//! rows with one key counts are added, durations are drawn from each by its Count, and the first memory counts.

mod cells;
mod files;
mod law;
mod minutes;
mod rows;
mod sparse;

use super::slice::{Mark, Stretch, backwards, mark, stretched, with_clones};
use super::{Counts, Notes, Placement, TraceConfig, Workload};
use crate::backend::Model;
use crate::base::{Duration, Fault, FunctionSpec, Mem, Result, Time, Unit};
use crate::rt::chance::Seed;
use files::{Files, Key, Tables};
use law::Law;
use minutes::{Function, Minutes};
use rows::{Row, Rows};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

const MINUTE: u64 = 60_000_000_000;
const DAY: u64 = 1440 * MINUTE;
/// Days from 1970-01-01 to the one before the first of the data set, 2019-07-15.
const DAY_ZERO: u64 = 18_091;
/// Least memory of a container where the file splits an app's memory over its functions.
const LEAST_SPLIT: Mem = Mem::from_mib(128);

pub(super) fn open(folder: &Path, config: &TraceConfig, seed: u64) -> Result<Workload> {
    let files = Files::find(folder, config.day)?;
    let mut notes = Notes::default();
    if files.days > 1 {
        notes.remarks.push(format!(
            "The folder holds {} days; {} is replayed (--day chooses).",
            files.days, files.name
        ));
    }
    let joined = join(&files, config, &mut notes)?;
    if joined.rows.is_empty() {
        let path = folder.display();
        return Err(Fault::usage(format!(
            "cannot replay {path}: no function has invocations, durations and memory"
        )));
    }
    let scale = config.rate_scale.unwrap_or(1.0);
    say_timers(&joined.rows, scale, &mut notes);
    let (functions, specs) = functions(&joined, config, scale, seed)?;
    if config.cold_start.is_none() {
        notes.remarks.push(
            "Azure's data has no cold starts: they are lognormal with mean 3.24 s and sd 7.10 s (Huawei 2025)".into(),
        );
    }
    let notes = Rc::new(RefCell::new(notes));
    let Joined { first, span, .. } = joined;
    let ends = config.counts == Counts::End;
    let stretch = Stretch::of(config)?;
    let end = Time(stretch.apply(span.end - span.start));
    let begins = |day: u32| (DAY_ZERO + u64::from(day)) * DAY + u64::from(first) * MINUTE + span.start;
    let epoch = files.day.map(begins);
    let source = Minutes::new(functions, span, config.placement, ends, Rc::clone(&notes));
    Ok(Workload {
        functions: specs,
        source: stretched(Box::new(source), stretch),
        closed: Vec::new(),
        horizon: Some(end),
        begin: Some(Time::ZERO),
        end: Some(end),
        epoch,
        prewarm: Vec::new(),
        cold_start: Some(config.cold_start.clone().unwrap_or_else(Model::huawei_2025)),
        gpu: Vec::new(),
        notes,
    })
}

/// The functions that all three files know.
struct Joined {
    rows: Vec<(Row, Law, Mem)>,
    /// Memory is given by function.
    per_function: bool,
    /// The first minute of the file in the day.
    first: u32,
    /// What is replayed, in ns from that minute on.
    span: Range<u64>,
}

fn join(files: &Files, config: &TraceConfig, notes: &mut Notes) -> Result<Joined> {
    let tables = files.open()?;
    tables.say_keys(notes);
    let Tables {
        invocations, mut durations, mut memory, key, duration_key, memory_key, per_function, ..
    } = tables;
    let laws = cells::durations(&mut durations, duration_key, config.durations, notes)?;
    let sizes = cells::memory(&mut memory, memory_key, notes)?;
    let mut rows = Rows::new(invocations, key, files.day.is_some(), notes)?;
    notes.unused([rows.table(), &durations, &memory]);
    let first = rows.first;
    let span = span(config, &files.invocations, first, rows.columns)?;
    let (from, to) = ((span.start / MINUTE) as u32, span.end.div_ceil(MINUTE) as u32);
    let mut joined: Vec<(Row, Law, Mem)> = Vec::new();
    let mut known: FxHashMap<Key, usize> = FxHashMap::default();
    while let Some(row) = rows.next(from, to, notes)? {
        if let Some(&place) = known.get(&row.key) {
            notes.count("further rows of one function (counts added)", 1);
            let there = &mut joined[place].0;
            there.minutes = there.minutes.sum(&row.minutes);
            there.total += row.total;
            continue;
        }
        let (Some(durations), size) =
            (laws.get(&duration_key.part(&row.key)), sizes.get(&memory_key.part(&row.key)))
        else {
            notes.count("functions without a duration row (left out)", 1);
            notes.count("invocations of functions left out", row.total);
            continue;
        };
        let Some(size) = size else {
            notes.count("functions without a memory row (left out)", 1);
            notes.count("invocations of functions left out", row.total);
            continue;
        };
        known.insert(row.key.clone(), joined.len());
        joined.push((row, Law::of(durations, config.durations), *size));
    }
    notes.count(
        "functions whose percentiles do not allow their Average",
        joined.iter().filter(|j| j.1.is_off()).count() as u64,
    );
    Ok(Joined { rows: joined, per_function, first, span })
}

/// What the functions do, and what they are, in the same order.
fn functions(
    joined: &Joined,
    config: &TraceConfig,
    scale: f64,
    seed: u64,
) -> Result<(Vec<Function>, Vec<FunctionSpec>)> {
    let per_function = joined.per_function;
    let unit = config.unit.unwrap_or(if per_function { Unit::Function } else { Unit::App });
    // A function of no app is one of its own.
    let app_of = |key: &Key| match key.1.as_str() {
        "" => key.clone(),
        _ => (key.0.clone(), key.1.clone(), String::new()),
    };
    let mut apps: FxHashMap<Key, (Mem, u32)> = FxHashMap::default();
    for (row, _, size) in &joined.rows {
        let app = apps.entry(app_of(&row.key)).or_insert((Mem(0), 0));
        app.0 = if per_function { app.0 + *size } else { *size };
        app.1 += 1;
    }
    let names = unique_names(joined.rows.iter().map(|(row, _, _)| row));
    let singles = joined.rows.iter().zip(names).map(|((row, _, size), name)| {
        let (whole, members) = apps[&app_of(&row.key)];
        let container = match (unit, per_function) {
            (Unit::App, _) => whole,
            (Unit::Function, true) => (*size).max(LEAST_SPLIT),
            (Unit::Function, false) => Mem(whole.0.div_ceil(u64::from(members))).max(LEAST_SPLIT),
        };
        let mut spec = FunctionSpec::new(name, Mem(container.0.div_ceil(Mem::MIB).max(1) * Mem::MIB));
        if !row.key.1.is_empty() {
            spec.app = format!("{}:{}", row.key.0, row.key.1);
        }
        spec
    });
    let specs = with_clones(singles.collect(), config.clones.unwrap_or(1))?;
    let chance = Seed::new(seed);
    let counts: Vec<Rc<_>> = joined.rows.iter().map(|(row, _, _)| Rc::new(row.minutes.clone())).collect();
    let functions = specs.iter().zip(joined.rows.iter().zip(&counts).cycle());
    let functions = functions.map(|(spec, ((row, law, _), counts))| {
        let phased = row.timer && config.placement == Placement::Auto;
        let scale = if row.timer { 1.0 } else { scale };
        Function::new(Rc::clone(counts), law.clone(), chance.named(&spec.name), phased, scale)
    });
    Ok((functions.collect(), specs))
}

/// Says which functions `rate_scale` leaves as they are.
fn say_timers(rows: &[(Row, Law, Mem)], scale: f64, notes: &mut Notes) {
    let timers = || rows.iter().map(|(row, _, _)| row).filter(|row| row.timer);
    if scale != 1.0 && timers().next().is_some() {
        notes.remarks.push(format!(
            "rate_scale leaves what timers call as it is, {} invocations of {} of the functions: timers keep their period.",
            timers().map(|row| row.total).sum::<u64>(),
            timers().count()
        ));
    }
}

/// The instants [from, to) that are replayed, in ns from the file's first minute on.
fn span(config: &TraceConfig, path: &Path, first: u32, columns: u32) -> Result<Range<u64>> {
    let (start, end) = (u64::from(first) * MINUTE, u64::from(first + columns) * MINUTE);
    let clock = |ns: u64| format!("{:02}:{:02}", ns / (60 * MINUTE), ns / MINUTE % 60);
    let place = |text: &str| -> Result<u64> {
        let (at, what) = match mark(text)? {
            Mark::TimeOfDay(Duration(ns)) => (ns, "time of day"),
            Mark::After(Duration(ns)) => (ns.saturating_add(start), "span"),
        };
        if !(start..=end).contains(&at) {
            return Err(Fault::usage(format!(
                "the {what} '{text}' is outside {}, which covers minutes {first} to {} of the day ({} to {})",
                path.display(),
                first + columns,
                clock(start),
                clock(end)
            )));
        }
        Ok(at - start)
    };
    let from = config.from.as_deref().map(place).transpose()?.unwrap_or(0);
    let to = config.to.as_deref().map(place).transpose()?.unwrap_or(end - start);
    if from < to { Ok(from..to) } else { Err(backwards()) }
}

/// The function's hash where that is unique, else with its app.
fn unique_names<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Vec<String> {
    let mut times: FxHashMap<&str, u32> = FxHashMap::default();
    rows.clone().for_each(|row| *times.entry(&row.key.2).or_default() += 1);
    rows.map(|row| match times[row.key.2.as_str()] {
        1 => row.key.2.clone(),
        _ => format!("{}:{}:{}", row.key.0, row.key.1, row.key.2),
    })
    .collect()
}
