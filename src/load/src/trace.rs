//! Traces: which format, which part, and what the format leaves open.

use super::{Notes, Source, Workload, azure, csv_pair, iluvatar, slice, table};
use crate::base::{Dist, Fault, FunctionId, FunctionSpec, Result, Time, Unit};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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

/// What cold starts are drawn for, where a trace has none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each function has a median from the law, and its creations lie around it: simulators of the field have one cold time a
    /// function.
    #[default]
    Function,
    /// Each creation is drawn from the law by itself.
    Creation,
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
    /// Multiplies the number of invocations, but of functions that a timer calls; above 0, at most 1e6.
    ///
    /// Of single invocations each stays with that probability, or has copies before its function's next one; of counts per
    /// minute the count is multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_scale: Option<f64>,
    /// Multiplies the time between invocations: 0.5 is twice as fast. Durations stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_scale: Option<f64>,
    /// So many functions for each of the trace, the later ones called NAME~2, NAME~3, each with luck of its own. Single
    /// invocations come at one instant for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clones: Option<u32>,
    /// Wrong rows of a csv trace, and such as are out of order in Ilúvatar's, are left out and counted instead of ending it.
    /// Other rows of other formats always are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_bad: bool,
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
    /// What a cold start that the format does not tell is drawn for.
    #[serde(default)]
    pub cold_start_per: Per,
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
            time_scale: None,
            clones: None,
            skip_bad: false,
            placement: Placement::Auto,
            durations: Durations::Percentiles,
            counts: Counts::Start,
            unit: None,
            cold_start_per: Per::Function,
            cold_start: None,
        }
    }

    fn places(&self) -> Vec<PathBuf> {
        let path = Some(self.path.clone()).filter(|p| !p.as_os_str_is_empty());
        path.into_iter().chain(self.paths.iter().cloned()).collect()
    }

    /// Makes relative paths relative to `folder`; `-` stays standard input.
    pub fn resolve(&mut self, folder: &Path) {
        for path in std::iter::once(&mut self.path).chain(&mut self.paths) {
            if !path.as_os_str_is_empty() && !table::is_standard_input(path) {
                *path = folder.join(&*path);
            }
        }
    }
}

/// What a loader of single invocations hands over.
pub(super) struct RowTrace {
    pub(super) functions: Vec<FunctionSpec>,
    /// All its rows, on the file's clock.
    pub(super) source: Box<dyn Source>,
    /// The first arrival, where it is known before.
    pub(super) first: Option<Time>,
    /// The last one, where it is known before.
    pub(super) horizon: Option<Time>,
    pub(super) prewarm: Vec<(FunctionId, u32)>,
    /// Functions that need a GPU.
    pub(super) gpu: Vec<FunctionId>,
    pub(super) notes: Rc<RefCell<Notes>>,
}

/// A file of a folder, as it is or compressed.
pub(super) fn in_folder(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(name);
    let compressed = ["gz", "zst"].map(|ending| folder.join(format!("{name}.{ending}")));
    match plain.exists() {
        true => plain,
        false => compressed.into_iter().find(|path| path.exists()).unwrap_or(plain),
    }
}

/// Opens a trace.
///
/// # Errors
/// A file that is missing or wrong, with its place.
pub fn open(config: &TraceConfig, seed: u64) -> Result<Workload> {
    let scale = config.rate_scale.unwrap_or(1.0);
    if !(scale > 0.0 && scale <= 1e6) {
        return Err(Fault::usage(format!(
            "rate_scale is {scale}; it is a finite number above 0, at most 1e6"
        )));
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
            if paths.len() > 1 || table::is_standard_input(first) {
                return Err(Fault::usage("an azure-2019 trace is one folder; name only that"));
            }
            azure::open(first, config, seed)
        }
        Format::Csv => {
            let (functions, invocations) = match paths.as_slice() {
                [folder] if folder.is_dir() => {
                    (in_folder(folder, "functions.csv"), in_folder(folder, "invocations.csv"))
                }
                [functions, invocations] => (functions.clone(), invocations.clone()),
                _ => {
                    let what = "a csv trace is two files, FUNCTIONS.csv and INVOCATIONS.csv, or a folder that holds \
                                functions.csv and invocations.csv";
                    return Err(Fault::usage(what));
                }
            };
            slice::workload(csv_pair::open(&functions, &invocations, config)?, config, scale, seed)
        }
        Format::Iluvatar => slice::workload(iluvatar::open(&paths, config)?, config, scale, seed),
    }
}
