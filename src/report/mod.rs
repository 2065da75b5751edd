//! The report: what a run leaves. One recorder takes every record as its invocation returns; the rest is written at the
//! end, from sketches and series whose size does not depend on the number of invocations.

mod folder;
mod html;
mod plots;
mod recorder;
mod summary;
mod tables;

pub use folder::{Folder, check_target};
pub use plots::{Plot, draw};
pub use recorder::{FunctionTally, Recorder, Records, Tally};
pub use summary::{RunFacts, Summary, WorkerFacts};
pub use tables::{functions_csv, metrics_csv, workers_csv};

use crate::base::{Fault, Result};
use std::path::Path;

/// Writes everything but the records, which were written as they came.
///
/// # Errors
/// If a file cannot be written.
pub fn write_all(folder: &Folder, summary: &Summary, with_plots: bool) -> Result<()> {
    let put = |name: &str, text: &[u8]| folder.put(name, text);
    put("summary.json", summary.json_text().as_bytes())?;
    put("functions.csv", functions_csv(summary).as_bytes())?;
    put("workers.csv", workers_csv(summary).as_bytes())?;
    let name = "metrics.csv";
    metrics_csv(summary, &mut folder.file(name)?)
        .map_err(|e| Fault::writing(&folder.target().join(name), &e))?;
    put("methods.txt", summary.methods().as_bytes())?;
    if !with_plots {
        return Ok(());
    }
    let plots = draw(summary).map_err(|e| Fault::bug(format!("cannot draw the plots: {e}")))?;
    for plot in &plots {
        put(&format!("plots/{}.svg", plot.name), plot.svg.as_bytes())?;
    }
    put("report.html", html::page(summary, &plots).as_bytes())
}

/// Draws the plots of a finished run again, from its files.
///
/// # Errors
/// If the folder is not a run, or a file cannot be read or written.
pub fn redraw(run: &Path) -> Result<Vec<String>> {
    let plots = plots::redraw(run)?;
    let mut names = Vec::new();
    for plot in plots {
        let path = run.join("plots").join(format!("{}.svg", plot.name));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Fault::writing(parent, &e))?;
        }
        std::fs::write(&path, plot.svg).map_err(|e| Fault::writing(&path, &e))?;
        names.push(path.display().to_string());
    }
    Ok(names)
}
