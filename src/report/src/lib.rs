//! The report: what a run leaves. One recorder takes every record as its invocation returns; the rest is written at the
//! end, from sketches and series whose size does not depend on the number of invocations. What is made of finished runs
//! (plots, one axis of time for all sources, comparisons) is made from their folders.

#![forbid(unsafe_code)]

mod align;
mod bib;
mod compare;
mod errors;
mod folder;
mod format;
mod methods;
mod pattern;
mod read;
mod recorder;
mod records;
mod rule;
mod setup;
mod summary;
mod tables;
mod warnings;

pub use align::{Alignment, align};
pub use compare::{Comparison, Side, Tolerance, compare, noise_floor, tolerances};
pub use errors::Errors;
pub use folder::{Folder, amend, check_target, free_name, interrupted, replace, replace_by};
pub use format::short;
pub use pattern::matches;
pub use read::{Distribution, Finished, HeatRow, Track, each_row};
pub use recorder::{Cut, FunctionTally, Recorder, Records, Tally, WorkerTally};
pub use rule::Rule;
pub use setup::{Clock, Key, Setup, Trace};
pub use summary::{FleetPeaks, Parts, RunFacts, Summary, WorkerFacts, all_series};
pub use tables::{functions_csv, graphite_csv, heat_rows, metrics_csv, workers_csv};
pub use warnings::warnings;

use crate::base::{Fault, Result};
use elapse_core::{base, metrics, rt};

/// Writes the results but the records, which were written as they came, and the plots.
///
/// # Errors
/// If a file cannot be written.
pub fn write_all(folder: &Folder, summary: &Summary) -> Result<()> {
    let put = |name: &str, text: &[u8]| folder.put(name, text);
    put("summary.json", summary.json_text().as_bytes())?;
    put("functions.csv", tables::functions_csv(summary).as_bytes())?;
    put("workers.csv", tables::workers_csv(summary).as_bytes())?;
    put("distributions.csv", tables::distributions_csv(summary).as_bytes())?;
    if summary.heat.is_some() {
        put("heat.csv", tables::heat_csv(&tables::heat_rows(summary)).as_bytes())?;
    }
    let name = "metrics.csv";
    metrics_csv(summary, &mut folder.file(name)?)
        .map_err(|e| Fault::writing(&folder.target().join(name), &e))?;
    put("methods.txt", summary.methods().as_bytes())?;
    put("methods.bib", bib::bib(summary).as_bytes())
}
