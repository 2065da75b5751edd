//! A part of a trace of single invocations, on the clock that it then has: `from`, `to`, `time_scale`, `clones`.

use super::scale::scaled;
use super::trace::{RowTrace, TraceConfig};
use super::{Source, Workload};
use crate::base::{Duration, Fault, FunctionId, FunctionSpec, Invocation, Result, Time};
use rustc_hash::FxHashSet;

/// A first arrival above this is unix time: ten years.
const UNIX: Time = Time(3_652 * DAY + DAY / 2);
const DAY: u64 = 86_400_000_000_000;
/// Functions that a trace may have with its clones.
const MOST_FUNCTIONS: usize = 10_000_000;

/// A place in a trace. Times of day count from midnight, durations from the trace's first instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    TimeOfDay(Duration),
    After(Duration),
}

pub(super) fn mark(text: &str) -> Result<Mark> {
    if let Some((hours, rest)) = text.split_once(':') {
        let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
        let parts = (hours.parse::<u64>(), minutes.parse::<u64>(), seconds.parse::<u64>());
        if let (Ok(h), Ok(m @ 0..60), Ok(s @ 0..60)) = parts
            && (h < 24 || (h, m, s) == (24, 0, 0))
        {
            return Ok(Mark::TimeOfDay(Duration::from_secs(h * 3600 + m * 60 + s)));
        }
        return Err(Fault::usage(format!(
            "'{text}' is not a time of day; write for instance 08:00 or 20:30:00"
        )));
    }
    text.parse().map(Mark::After).map_err(Fault::usage)
}

/// The fault of a slice that ends where it begins, or before.
pub(super) fn backwards() -> Fault {
    Fault::usage("the trace's 'from' is not before its 'to'")
}

/// How much longer a trace takes: `time_scale`, in billionths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch(u64);

impl Stretch {
    const ONE: u64 = 1_000_000_000;

    pub(super) fn of(config: &TraceConfig) -> Result<Stretch> {
        let Some(factor) = config.time_scale else { return Ok(Stretch(Stretch::ONE)) };
        if !(1e-9..=1e6).contains(&factor) {
            return Err(Fault::usage(format!(
                "time_scale is {factor}; it is a number from 1e-9 to 1e6, and 0.5 is twice as fast"
            )));
        }
        Ok(Stretch((factor * Stretch::ONE as f64).round() as u64))
    }

    fn is_one(self) -> bool {
        self.0 == Stretch::ONE
    }

    /// A span of the trace, to the nearest nanosecond; at most `Time::MAX`.
    pub(super) fn apply(self, ns: u64) -> u64 {
        let half = u128::from(Stretch::ONE / 2);
        let stretched = (u128::from(ns) * u128::from(self.0) + half) / u128::from(Stretch::ONE);
        u64::try_from(stretched).unwrap_or(u64::MAX).min(Time::MAX.0)
    }
}

/// The instants [from, to) of a source.
struct Slice {
    source: Box<dyn Source>,
    from: Time,
    to: Time,
    clock: Clock,
}

/// Maps a trace's time to the run's.
#[derive(Clone, Copy)]
struct Clock {
    /// An instant of the trace, and the same instant of the run.
    at: (Time, Time),
    stretch: Stretch,
}

impl Clock {
    fn map(self, time: Time) -> Time {
        Time(self.at.1.0.saturating_add(self.stretch.apply(time.0.saturating_sub(self.at.0.0))))
    }
}

impl Source for Slice {
    fn next(&mut self) -> Result<Option<Invocation>> {
        while let Some(mut call) = self.source.next()? {
            if call.arrival >= self.to {
                return Ok(None);
            }
            if call.arrival < self.from {
                continue;
            }
            call.arrival = self.clock.map(call.arrival);
            if call.arrival > Time::CENTURY {
                return Err(Fault::usage(
                    "time_scale moves an arrival beyond 100 years; choose a smaller one",
                ));
            }
            return Ok(Some(call));
        }
        Ok(None)
    }
}

/// The source with its clock stretched from time 0 on.
pub(super) fn stretched(source: Box<dyn Source>, stretch: Stretch) -> Box<dyn Source> {
    if stretch.is_one() {
        return source;
    }
    let clock = Clock { at: (Time::ZERO, Time::ZERO), stretch };
    Box::new(Slice { source, from: Time::ZERO, to: Time::MAX, clock })
}

/// Applies everything of a `[trace]` to a trace of single invocations.
pub(super) fn workload(rows: RowTrace, config: &TraceConfig, factor: f64, seed: u64) -> Result<Workload> {
    let RowTrace { functions, mut source, first, horizon, prewarm, notes, gpu } = rows;
    let (singles, clones) = (functions.len() as u32, config.clones.unwrap_or(1));
    let functions = with_clones(functions, clones)?;
    if clones > 1 {
        source = Box::new(Clones { source, singles, clones, call: None, next: clones });
    }
    let source = scaled(source, &functions, factor, seed);
    let unix = first.filter(|first| *first > UNIX);
    if let Some(first) = unix {
        notes.borrow_mut().remarks.push(format!(
            "The trace's times are unix time, from {} on; from and to count from there.",
            calendar(first)
        ));
    }
    let zero = unix.unwrap_or(Time::ZERO);
    let place = |text: &Option<String>| -> Result<Option<Time>> {
        let mark = text.as_deref().map(mark).transpose()?;
        Ok(mark.map(|mark| match mark {
            Mark::TimeOfDay(d) => Time(zero.0 / DAY * DAY) + d,
            Mark::After(d) => zero + d,
        }))
    };
    let (from, to) = (place(&config.from)?, place(&config.to)?);
    if from.unwrap_or(Time::ZERO) >= to.unwrap_or(Time::MAX) {
        return Err(backwards());
    }
    let stretch = Stretch::of(config)?;
    let clock = Clock { at: from.map_or((zero, zero), |from| (from, Time::ZERO)), stretch };
    let source = match from.is_none() && to.is_none() && stretch.is_one() {
        true => source,
        false => {
            let (from, to) = (from.unwrap_or(Time::ZERO), to.unwrap_or(Time::MAX));
            Box::new(Slice { source, from, to, clock })
        }
    };
    let last = horizon.map(|last| to.map_or(last, |to| to.min(last))).or(to);
    let every = |j: u32| prewarm.iter().map(move |(id, n)| (FunctionId(id.0 + j * singles), *n));
    Ok(Workload {
        functions,
        source,
        closed: Vec::new(),
        horizon: last.map(|last| clock.map(last)),
        begin: from.map(|_| Time::ZERO),
        end: to.map(|to| clock.map(to)),
        epoch: unix.map(|_| from.unwrap_or(Time::ZERO).0),
        prewarm: (0..clones).flat_map(every).collect(),
        cold_start: config.cold_start.clone(),
        gpu: (0..clones).flat_map(|j| gpu.iter().map(move |id| FunctionId(id.0 + j * singles))).collect(),
        notes,
    })
}

/// An instant of unix time as a date.
fn calendar(at: Time) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(at.0)) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{} ns", at.0),
    }
}

/// The functions, and behind them as often as asked the same under names of their own.
pub(super) fn with_clones(singles: Vec<FunctionSpec>, clones: u32) -> Result<Vec<FunctionSpec>> {
    if clones == 0 || singles.len().saturating_mul(clones as usize) > MOST_FUNCTIONS {
        return Err(Fault::usage(format!(
            "clones is {clones}; it is at least 1, and at most {} here, for {MOST_FUNCTIONS} functions",
            MOST_FUNCTIONS / singles.len().max(1)
        )));
    }
    if clones == 1 {
        return Ok(singles);
    }
    let known: FxHashSet<String> = singles.iter().map(|f| f.name.clone()).collect();
    let mut functions = singles.clone();
    for clone in 2..=clones {
        for single in &singles {
            let mut function = single.clone();
            function.name = format!("{}~{clone}", single.name);
            function.app = format!("{}~{clone}", single.app);
            if known.contains(&function.name) {
                return Err(Fault::usage(format!(
                    "clones cannot be named: the trace has a function '{}' already",
                    function.name
                )));
            }
            functions.push(function);
        }
    }
    Ok(functions)
}

/// Each invocation once for every clone of its function, at one instant.
struct Clones {
    source: Box<dyn Source>,
    singles: u32,
    clones: u32,
    call: Option<Invocation>,
    /// The next clone that is called, from 0.
    next: u32,
}

impl Source for Clones {
    fn next(&mut self) -> Result<Option<Invocation>> {
        if self.next == self.clones {
            self.call = self.source.next()?;
            self.next = 0;
        }
        let Some(mut call) = self.call else { return Ok(None) };
        call.function = FunctionId(call.function.0 + self.next * self.singles);
        self.next += 1;
        Ok(Some(call))
    }
}
