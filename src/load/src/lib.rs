//! Load: what is invoked and when, from scenario files and from traces.
//!
//! Arrivals are a stream that is read as the clock reaches them, so memory does not grow with their number. Everything
//! random in them is keyed by (seed, function, k), so that a policy or a number of workers changes nothing in it.

#![forbid(unsafe_code)]

mod arrivals;
pub mod azure;
mod check;
mod csv_pair;
mod function;
pub mod generate;
mod iluvatar;
mod merge;
mod scale;
mod slice;
mod table;
mod trace;

pub use arrivals::{ClosedLoop, Load, OpenLoad};
pub use function::{FunctionConfig, Profile};
pub use merge::Merge;
pub use trace::{Counts, Durations, Format, Per, Placement, TraceConfig, open};

use elapse_core::{backend, base, rt};

use crate::base::{Compute, Dist, FunctionId, FunctionSpec, Invocation, Result, Time};
use std::cell::RefCell;
use std::rc::Rc;

/// A stream of invocations in order of arrival. Their `number` is set by whoever drives them.
pub trait Source {
    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// A row that cannot be used, with its place.
    fn next(&mut self) -> Result<Option<Invocation>>;
}

/// A source and what is known of it.
pub struct Workload {
    /// The functions it calls, in the order of their ids.
    pub functions: Vec<FunctionSpec>,
    /// Its open-loop arrivals.
    pub source: Box<dyn Source>,
    /// Its closed loops.
    pub closed: Vec<ClosedLoop>,
    /// Where it ends at the latest, if that is known before; for progress.
    pub horizon: Option<Time>,
    /// Where the window begins: the first replayed minute, or `from`. `None` where that is the first arrival.
    pub begin: Option<Time>,
    /// Where the window ends: the last replayed minute's end, or `to`. `None` where that follows from the arrivals.
    pub end: Option<Time>,
    /// The calendar time of virtual time 0, ns since 1970, where the trace says it.
    pub epoch: Option<u64>,
    /// Containers that stand before the first arrival, by function.
    pub prewarm: Vec<(FunctionId, u32)>,
    /// Cold starts of functions that bring none; `None` leaves the model's.
    pub cold_start: Option<Dist>,
    /// Functions that the trace says need a GPU; see [`Workload::with_gpus`].
    pub gpu: Vec<FunctionId>,
    /// What was found in the data.
    pub notes: Rc<RefCell<Notes>>,
}

impl Workload {
    /// Arrivals of these functions, in the order of their ids, of which nothing else is known.
    pub fn of(functions: Vec<FunctionSpec>, source: impl Source + 'static) -> Workload {
        Workload {
            functions,
            source: Box::new(source),
            closed: Vec::new(),
            horizon: None,
            begin: None,
            end: None,
            epoch: None,
            prewarm: Vec::new(),
            cold_start: None,
            gpu: Vec::new(),
            notes: Rc::default(),
        }
    }

    /// The same on workers with `gpus`: there the functions that the trace says need a GPU have one. Without, it is said that
    /// they run on processors.
    pub fn with_gpus(mut self, gpus: u32) -> Workload {
        if gpus > 0 {
            for id in &self.gpu {
                self.functions[id.index()].program.compute = Compute::Gpu;
            }
        } else if !self.gpu.is_empty() {
            self.notes.borrow_mut().remarks.push(format!(
                "Of the trace's functions {} compute on a GPU; the worker has none, so they run on its processors \
                 (worker.gpus gives it some).",
                self.gpu.len()
            ));
        }
        self
    }
}

/// What a loader found, counted by kind, to be told in report and summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Rows or values that were not as they should be, and what was done: kind, count.
    pub dirty: Vec<(String, u64)>,
    /// Sentences for the report.
    pub remarks: Vec<String>,
    /// Busy seconds that the trace's averages amount to, and those that were drawn.
    pub busy: Option<(f64, f64)>,
}

impl Notes {
    /// Counts rows of a kind.
    pub fn count(&mut self, kind: &str, n: u64) {
        if n == 0 {
            return;
        }
        match self.dirty.iter_mut().find(|(k, _)| k == kind) {
            Some((_, count)) => *count += n,
            None => self.dirty.push((kind.to_string(), n)),
        }
    }

    /// Names the columns that nobody asked for, of all tables in one sentence.
    fn unused<const N: usize>(&mut self, tables: [&table::Table; N]) {
        let names: Vec<String> = tables.iter().filter_map(|table| table.unused()).collect();
        if !names.is_empty() {
            self.remarks.push(format!("Columns that are not used: {}.", names.join("; ")));
        }
    }
}
