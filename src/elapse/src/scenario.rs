//! A scenario: one file that says what runs, in either world.

use crate::backend::{LiveConfig, Model};
use crate::base::{Dist, Duration, Fault, FunctionSpec, Mem, Result};
use crate::controller;
use crate::graphite::GraphiteConfig;
use crate::load::{Format, FunctionConfig, TraceConfig};
use crate::report::Records;
use crate::worker::{Config, Retry};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is called, in results and metric paths.
    pub name: String,
    /// The seed of everything that is random.
    #[serde(default = "first_seed")]
    pub seed: u64,
    /// Virtual time 0 on the calendar.
    #[serde(default)]
    pub start: Start,
    /// How long the functions' loads last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// The load ends after this many invocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocations: Option<u64>,
    /// Which records are written: full, none, sample:0.01.
    #[serde(default, serialize_with = "as_text", deserialize_with = "from_text")]
    pub records: Records,
    /// The worker.
    #[serde(default)]
    pub worker: Config,
    /// What gives invocations to workers, where there are several.
    #[serde(default)]
    pub controller: controller::Config,
    /// What befalls workers, in simulation.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<controller::FaultConfig>,
    /// Functions and their loads.
    #[serde(default, rename = "function", skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionConfig>,
    /// A trace, instead of or beside functions with a load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceConfig>,
    /// The host's delays, in simulation.
    #[serde(default)]
    pub model: Model,
    /// What only a live run needs to know.
    #[serde(default)]
    pub live: LiveConfig,
    /// Which part of the run the figures cover.
    #[serde(default)]
    pub measure: Measure,
    /// Attempts at creations ahead of need.
    #[serde(default)]
    pub prewarm: Retry,
    /// Metric snapshots.
    #[serde(default)]
    pub metrics: Metrics,
    /// Where points go and come from besides.
    #[serde(default)]
    pub graphite: GraphiteConfig,
    /// How pictures are drawn.
    #[serde(default)]
    pub plots: Plots,
}

fn first_seed() -> u64 {
    1
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.collect_str(value)
}

fn from_text<'de, T, D>(d: D) -> std::result::Result<T, D::Error>
where
    T: std::str::FromStr<Err = String>,
    D: Deserializer<'de>,
{
    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
}

/// Which part of a run the figures cover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// Leave out what arrives within this of the load's beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Duration>,
    /// The window ends at this instant. Where it is not given: at the trace's `to`, the load's `duration`, or with the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Duration>,
    /// Whether what still runs at the end is followed to its own.
    pub at_end: AtEnd,
    /// Live, when so many invocations have ended and none of them completed, the run ends; `"off"` never.
    pub give_up: GiveUp,
}

/// See [`Measure::give_up`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveUp(pub Option<u32>);

impl Default for GiveUp {
    fn default() -> GiveUp {
        GiveUp(Some(20))
    }
}

impl Serialize for GiveUp {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Some(ends) => s.serialize_u32(ends),
            None => s.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for GiveUp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<GiveUp, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Ends(i64),
            Text(String),
        }
        let wrong = |what: String| {
            let why = format!("give_up is {what}; it is a number of invocations of at least 1, or \"off\"");
            Err(serde::de::Error::custom(why))
        };
        match Written::deserialize(d)? {
            Written::Ends(ends) => match u32::try_from(ends) {
                Ok(ends @ 1..) => Ok(GiveUp(Some(ends))),
                _ => wrong(ends.to_string()),
            },
            Written::Text(text) => match (text.as_str(), text.parse()) {
                ("off", _) => Ok(GiveUp(None)),
                // As a flag has it.
                (_, Ok(ends @ 1..)) => Ok(GiveUp(Some(ends))),
                _ => wrong(format!("'{text}'")),
            },
        }
    }
}

/// How pictures are drawn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plots {
    /// A font file for names whose letters the built-in one lacks; relative to the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub font: Option<PathBuf>,
}

/// See [`Measure::at_end`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtEnd {
    /// Invocations are followed to their return.
    #[default]
    Finish,
    /// The run ends with the window; what still runs is `unfinished`.
    Cut,
}

/// Metric snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Points that a series keeps at most; the step doubles where there would be more.
    pub points: usize,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { points: 10_000 }
    }
}

/// An instant of the calendar: ns since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start(pub u64);

impl Default for Start {
    /// 2024-01-01T00:00:00Z: any fixed day does, so that equal runs give equal bytes.
    fn default() -> Start {
        Start(1_704_067_200_000_000_000)
    }
}

impl Start {
    /// Whether nobody said another.
    pub fn is_default(&self) -> bool {
        *self == Start::default()
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Start, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Date(toml::value::Datetime),
            Text(String),
        }
        let text = match Written::deserialize(d)? {
            Written::Date(date) => date.to_string(),
            Written::Text(text) => text,
        };
        let time: jiff::Timestamp = text.parse().map_err(|_| {
            serde::de::Error::custom(format!(
                "'{text}' is not an instant; write for instance 2024-03-04T00:00:00Z"
            ))
        })?;
        u64::try_from(time.as_nanosecond()).map(Start).map_err(|_| {
            serde::de::Error::custom(format!("'{text}' is before 1970, which Graphite cannot hold"))
        })
    }
}

impl Scenario {
    /// Whether what arrived in the window is followed to its return.
    pub fn finishes(&self) -> bool {
        self.measure.at_end == AtEnd::Finish
    }

    /// Says what the simulator takes for cold starts where neither the scenario nor its functions say anything.
    pub fn assumed_cold_start(&self, functions: &[FunctionSpec]) -> Option<String> {
        let without = functions.iter().filter(|f| f.cold_start.is_none()).count();
        let is_default = self.model.calibration.is_none() && self.model.cold_start == Model::huawei_2025();
        (is_default && without > 0).then(|| {
            let whose = if without == functions.len() {
                String::new()
            } else {
                format!(" for {without} of {} functions", functions.len())
            };
            format!(
                "Assumed cold starts: nothing says how long they take{whose}, so they are lognormal with mean 3.24 s and sd 7.10 s \
                 (Huawei 2025). Give model.cold_start, or a calibration."
            )
        })
    }

    /// A scenario of this name in which nothing is said and nothing limited: the start of one that a program writes.
    pub fn of(name: &str) -> Scenario {
        Scenario {
            trace: None,
            ..Scenario::replay(name.to_string(), TraceConfig::new(Format::Csv, Vec::new()))
        }
    }

    /// A scenario that replays a trace, with what `replay` leaves unlimited.
    pub fn replay(name: String, trace: TraceConfig) -> Scenario {
        let worker = Config { memory: Some(Mem::MAX), timeout: Some(Duration::MAX), ..Config::default() };
        Scenario {
            name,
            seed: 1,
            start: Start::default(),
            duration: None,
            invocations: None,
            records: Records::Full,
            worker,
            controller: controller::Config::default(),
            faults: Vec::new(),
            functions: Vec::new(),
            trace: Some(trace),
            model: Model::default(),
            live: LiveConfig::default(),
            measure: Measure::default(),
            prewarm: Retry::default(),
            metrics: Metrics::default(),
            graphite: GraphiteConfig::default(),
            plots: Plots::default(),
        }
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        self.check_beside(false)
    }

    /// [`check`](Self::check), where arrivals come from outside as well or do not.
    pub(crate) fn check_beside(&self, arrivals: bool) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        self.worker.check().map_err(|why| Fault::usage(format!("[worker]: {why}")))?;
        self.controller.check().map_err(|why| Fault::usage(format!("[controller]: {why}")))?;
        for (i, fault) in self.faults.iter().enumerate() {
            fault
                .check(self.worker.count)
                .map_err(|why| Fault::usage(format!("[[fault]] {}: {why}", i + 1)))?;
        }
        self.prewarm.check().map_err(|why| Fault::usage(format!("[prewarm]: {why}")))?;
        self.live.check().map_err(|why| Fault::usage(format!("[live]: {why}")))?;
        self.graphite.check().map_err(|why| Fault::usage(format!("[graphite]: {why}")))?;
        if let Some(trace) = &self.trace {
            trace.check().map_err(|fault| fault.within("[trace]"))?;
        }
        if self.worker.memory.is_none() {
            return wrong(
                "[worker]: memory is not given; write for instance memory = \"16GiB\", or \"unlimited\""
                    .into(),
            );
        }
        // So that no instant of a run is beyond what 64 bits of nanoseconds hold.
        if self.start.0 > 13_000_000_000_000_000_000 {
            return wrong(format!("start is {}; it is at most in the year 2381", self.start));
        }
        if self.name.is_empty() {
            return wrong("name is empty".into());
        }
        let mut names = rustc_hash::FxHashSet::default();
        for f in &self.functions {
            f.check().map_err(Fault::usage)?;
            if !names.insert(&f.name) {
                return wrong(format!("there are two functions '{}'; names are unique", f.name));
            }
            if let Some(load) = &f.load {
                load.check().map_err(|why| Fault::usage(format!("function '{}': {why}", f.name)))?;
            }
        }
        let loaded = self.functions.iter().any(|f| f.load.is_some());
        if !loaded && self.trace.is_none() && !arrivals {
            return wrong("nothing is invoked: give a function a load, or name a [trace]".into());
        }
        if loaded && self.duration.is_none() && self.invocations.is_none() {
            return wrong(
                "the load has no end; write for instance duration = \"10min\" or invocations = 10000".into(),
            );
        }
        for (share, what) in [
            (self.model.creation_failure, "creation_failure"),
            (self.model.cpu_fraction, "cpu_fraction"),
            (self.model.cold_cpu_fraction, "cold_cpu_fraction"),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("[model]: {what} is {share}; a share is 0 to 1"));
            }
        }
        if let (Some(warm_up), Some(until)) = (self.measure.warm_up, self.measure.until)
            && warm_up >= until
        {
            return wrong(format!("[measure]: warm_up ({warm_up}) is not before until ({until})"));
        }
        Ok(())
    }

    /// Sets the cold start of a trace whose format has none.
    pub fn set_cold_start(&mut self, dist: Dist) {
        match &mut self.trace {
            Some(trace) => trace.cold_start = Some(dist),
            None => self.model.cold_start = dist,
        }
    }
}
