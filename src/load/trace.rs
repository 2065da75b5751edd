//! Traces: which format, which part, and what the format leaves open.

use super::{Source, Workload, azure, csv_pair, iluvatar};
use crate::base::{Dist, Duration, Fault, Invocation, Result, Time, Unit};
use crate::rt::chance::{Chance, Draw, Purpose};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The formats that can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// functions.csv and invocations.csv of our own.
    Csv,
    /// Azure Functions 2019, official names or invitro's.
    #[serde(rename = "azure-2019")]
    Azure2019,
    /// Ilúvatar's pair.
    Iluvatar,
}

/// Where a minute's invocations are placed in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Timer-triggered functions at one seeded phase of every minute, others uniform.
    #[default]
    Auto,
    /// Uniform in the minute.
    Uniform,
    /// As many as a Poisson law with the count as its mean says, uniform in the minute.
    Poisson,
    /// At equal distances from the minute's start.
    Equidistant,
}

/// How durations are drawn from a format that has only percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durations {
    /// Inverse CDF through the percentiles, its tail shaped so that the mean is `Average`.
    #[default]
    Percentiles,
    /// Always `Average`.
    Average,
    /// Lognormal with the median and the mean of the row.
    Lognormal,
}

/// Whether a minute's count says when invocations started or when they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// They started in it.
    #[default]
    Start,
    /// They ended in it, as the data set's own documentation says.
    End,
}

/// A scenario's `[trace]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceConfig {
    /// Its format.
    pub format: Format,
    /// A file or folder; relative to the scenario.
    #[serde(default, skip_serializing_if = "PathBuf::as_os_str_is_empty")]
    pub path: PathBuf,
    /// Several files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathBuf>,
    /// From this time of day, or this long after the trace's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time of day, or this long after the trace's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Which day of a folder that holds several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<u32>,
    /// Multiplies the number of invocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_scale: Option<f64>,
    /// See [`Placement`].
    #[serde(default)]
    pub placement: Placement,
    /// See [`Durations`].
    #[serde(default)]
    pub durations: Durations,
    /// See [`Counts`].
    #[serde(default)]
    pub counts: Counts,
    /// Who shares a container; by default what the memory file speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Cold starts, where the format has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<Dist>,
}

trait EmptyPath {
    fn as_os_str_is_empty(&self) -> bool;
}

impl EmptyPath for PathBuf {
    fn as_os_str_is_empty(&self) -> bool {
        self.as_os_str().is_empty()
    }
}

impl TraceConfig {
    /// A trace with nothing but its place.
    pub fn new(format: Format, paths: Vec<PathBuf>) -> TraceConfig {
        TraceConfig {
            format,
            path: PathBuf::new(),
            paths,
            from: None,
            to: None,
            day: None,
            rate_scale: None,
            placement: Placement::Auto,
            durations: Durations::Percentiles,
            counts: Counts::Start,
            unit: None,
            cold_start: None,
        }
    }

    fn places(&self) -> Vec<PathBuf> {
        let path = Some(self.path.clone()).filter(|p| !p.as_os_str_is_empty());
        path.into_iter().chain(self.paths.iter().cloned()).collect()
    }

    /// Makes relative paths relative to `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        if !self.path.as_os_str_is_empty() {
            self.path = folder.join(&self.path);
        }
        self.paths.iter_mut().for_each(|p| *p = folder.join(&*p));
    }
}

/// A span of a trace. Times of day count from midnight, durations from the trace's first instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    TimeOfDay(Duration),
    After(Duration),
}

pub(super) fn mark(text: &str) -> Result<Mark> {
    if let Some((hours, rest)) = text.split_once(':') {
        let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
        let parts = (hours.parse::<u64>(), minutes.parse::<u64>(), seconds.parse::<u64>());
        if let (Ok(h @ 0..=24), Ok(m @ 0..60), Ok(s @ 0..60)) = parts {
            return Ok(Mark::TimeOfDay(Duration::from_secs(h * 3600 + m * 60 + s)));
        }
        return Err(Fault::usage(format!(
            "'{text}' is not a time of day; write for instance 08:00 or 20:30:00"
        )));
    }
    text.parse().map(Mark::After).map_err(Fault::usage)
}

/// Opens a trace.
///
/// # Errors
/// A file that is missing or wrong, with its place.
pub fn open(config: &TraceConfig, seed: u64) -> Result<Workload> {
    let scale = config.rate_scale.unwrap_or(1.0);
    if !(scale.is_finite() && scale > 0.0) {
        return Err(Fault::usage(format!("rate_scale is {scale}; it is a finite number above 0")));
    }
    if config.day.is_some() && config.format != Format::Azure2019 {
        return Err(Fault::usage(
            "day chooses among the days of an azure-2019 folder; other traces have none",
        ));
    }
    let paths = config.places();
    let Some(first) = paths.first() else {
        return Err(Fault::usage("the trace has no path; name its files or its folder"));
    };
    match config.format {
        Format::Azure2019 => {
            if paths.len() > 1 {
                return Err(Fault::usage("an azure-2019 trace is one folder; name only that"));
            }
            azure::open(first, config, seed)
        }
        Format::Csv => {
            let (functions, invocations) = match paths.as_slice() {
                [folder] if folder.is_dir() => (folder.join("functions.csv"), folder.join("invocations.csv")),
                [functions, invocations] => (functions.clone(), invocations.clone()),
                _ => {
                    let what = "a csv trace is two files, FUNCTIONS.csv and INVOCATIONS.csv, or a folder that holds \
                                functions.csv and invocations.csv";
                    return Err(Fault::usage(what));
                }
            };
            cut(csv_pair::open(&functions, &invocations)?, config, scale, seed)
        }
        Format::Iluvatar => cut(iluvatar::open(&paths)?, config, scale, seed),
    }
}

/// Applies `from`, `to` and `rate_scale` to a trace of single invocations.
fn cut(mut workload: Workload, config: &TraceConfig, scale: f64, seed: u64) -> Result<Workload> {
    let at = |text: &Option<String>| -> Result<Option<Time>> {
        text.as_deref().map(mark).transpose().map(|m| {
            m.map(|m| match m {
                Mark::TimeOfDay(d) | Mark::After(d) => Time(d.0),
            })
        })
    };
    let (from, to) = (at(&config.from)?.unwrap_or(Time::ZERO), at(&config.to)?.unwrap_or(Time::MAX));
    if from >= to {
        return Err(Fault::usage("the trace's 'from' is not before its 'to'"));
    }
    workload.cold_start.clone_from(&config.cold_start);
    let ends = workload.horizon.map_or(to, |end| end.min(to));
    workload.horizon = (ends != Time::MAX).then(|| Time(ends.0.saturating_sub(from.0)));
    workload.begin = config.from.is_some().then_some(Time::ZERO);
    workload.end = config.to.is_some().then(|| Time(to.0 - from.0));
    if from > Time::ZERO || to != Time::MAX || scale != 1.0 {
        let draw = Chance::new(seed).named("rate_scale").draw(Purpose::Arrival, 0);
        workload.source =
            Box::new(Cut { source: workload.source, from, to, scale, draw, copies: 0, last: None });
    }
    Ok(workload)
}

struct Cut {
    source: Box<dyn Source>,
    from: Time,
    to: Time,
    scale: f64,
    draw: Draw,
    copies: u64,
    last: Option<Invocation>,
}

impl Source for Cut {
    fn next(&mut self) -> Result<Option<Invocation>> {
        loop {
            if self.copies > 0 {
                self.copies -= 1;
                return Ok(self.last);
            }
            let Some(mut call) = self.source.next()? else { return Ok(None) };
            if call.arrival >= self.to {
                return Ok(None);
            }
            if call.arrival < self.from {
                continue;
            }
            call.arrival = Time(call.arrival.0 - self.from.0);
            self.copies = whole_of(self.scale, &mut self.draw);
            self.last = Some(call);
        }
    }
}

/// A whole number whose mean is `x`.
pub(super) fn whole_of(x: f64, draw: &mut Draw) -> u64 {
    let part = x.fract();
    x as u64 + u64::from(part > 0.0 && draw.random::<f64>() < part)
}
