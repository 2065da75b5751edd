//! The report: what a run leaves. One recorder takes every record as its invocation returns; the rest is written at the
//! end, from sketches and series whose size does not depend on the number of invocations. What is made of finished runs
//! (plots, one axis of time for all sources, comparisons) is made from their folders.

#![forbid(unsafe_code)]

mod align;
mod bib;
mod compare;
mod errors;
mod folder;
mod html;
mod methods;
mod pattern;
mod plots;
mod read;
mod recorder;
mod records;
mod rule;
mod setup;
mod summary;
mod tables;

pub use align::{Alignment, align};
pub use compare::{Comparison, Side, Tolerance, compare, noise_floor, tolerances};
pub use errors::Errors;
pub use folder::{Folder, amend, check_target, free_name, interrupted, replace, replace_by};
pub use pattern::matches;
pub use plots::{Plot, both, check_font, draw, outlined, redraw, save, together};
pub use read::{Distribution, Finished, HeatRow, Track};
pub use recorder::{Cut, FunctionTally, Recorder, Records, Tally, WorkerTally};
pub use rule::Rule;
pub use setup::{Clock, Key, Setup, Trace};
pub use summary::{FleetPeaks, Parts, RunFacts, Summary, WorkerFacts, all_series};
pub use tables::{functions_csv, graphite_csv, metrics_csv, workers_csv};

use crate::base::{Fault, Result};
use elapse_core::{base, metrics, rt};
use std::path::{Path, PathBuf};

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

/// Writes the plots (as PNG too, if wanted) and the page into a finished run's folder; returns the paths.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write_plots(folder: &Path, plots: &[Plot], with_png: bool) -> Result<Vec<PathBuf>> {
    let run = Finished::open(folder)?.run;
    write_plots_of(folder, &run, plots, with_png)
}

/// The same in the folder of a run whose `run.json` is not written yet: this is what it will say.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write_plots_of(
    folder: &Path,
    run: &serde_json::Value,
    plots: &[Plot],
    with_png: bool,
) -> Result<Vec<PathBuf>> {
    let mut paths = save(&folder.join("plots"), plots, with_png)?;
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|e| Fault::reading(&path, &e))
    };
    let summary = serde_json::from_str(&read("summary.json")?)
        .map_err(|e| Fault::usage(format!("cannot read {}/summary.json: {e}", folder.display())))?;
    let page = folder.join("report.html");
    let text = html::page(folder, run, &summary, &read("methods.txt")?, plots)?;
    replace(&page, text.as_bytes())?;
    paths.push(page);
    Ok(paths)
}
