//! A run under way: what it began with, and what is known of it until its results are written.

use crate::assemble::Assembled;
use crate::base::{FunctionSpec, Time};
use crate::drive::Shared;
use crate::interrupt::Interrupt;
use crate::load::Notes;
use crate::metrics::Series;
use crate::operate::Job;
use crate::own::Own;
use crate::publisher::{ClockMarker, Publisher};
use crate::report::{Folder, RunFacts, WorkerFacts};
use crate::rt::wall::Stopwatch;
use crate::rt::{Counters, Sim};
use crate::scenario::Scenario;
use std::cell::RefCell;
use std::rc::Rc;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time.
    pub now: Time,
    /// Its end, as far as it is known.
    pub horizon: Option<Time>,
    /// Virtual seconds per real second.
    pub speed_up: f64,
}

/// A run under way.
#[non_exhaustive]
pub struct Begun {
    pub(crate) clock: Stopwatch,
    pub(crate) cpu_before: f64,
    pub(crate) folder: Option<Folder>,
    /// Its plan.
    pub scenario: Scenario,
    /// Asks whether the user wants its end.
    pub interrupt: Interrupt,
    /// What is told how far it is.
    pub progress: Option<Box<dyn FnMut(Progress)>>,
    pub(crate) own: Own,
    pub(crate) window: (Time, Time),
    pub(crate) functions: Vec<FunctionSpec>,
    pub(crate) notes: Rc<RefCell<Notes>>,
    /// Its load and its functions, until they are taken.
    pub assembled: Assembled,
    /// What counts and records its invocations.
    pub shared: Rc<Shared>,
    /// What is known of it so far.
    pub facts: RunFacts,
    pub(crate) workers: Vec<WorkerFacts>,
    pub(crate) controller: Option<Series>,
    pub(crate) counters: Counters,
    pub(crate) event_hash: Option<u64>,
    /// Who takes its points.
    pub publisher: Option<Box<dyn Publisher>>,
    /// Seconds by which a simulated run was moved on Graphite's calendar.
    pub(crate) shift: i64,
    /// See [`ClockMarker`].
    pub marker: ClockMarker,
    /// Where the load went, if not to a worker of the run's own.
    pub at: Option<serde_json::Value>,
    /// What the first invocations said, where it was ended because none of them completed.
    pub(crate) gave_up: Option<String>,
}

impl Begun {
    /// What is to be done in its world. Once: it takes the load and the policies.
    pub fn job(&mut self) -> Job {
        Job {
            scenario: self.scenario.clone(),
            assembled: std::mem::take(&mut self.assembled),
            own: std::mem::take(&mut self.own),
            window: self.window,
            host: None,
            sink: None,
        }
    }

    /// Lets a simulation tell how far it is, and end early.
    pub(crate) fn observe(&mut self, sim: &Sim) {
        let (interrupt, horizon) = (self.interrupt.clone(), self.assembled.horizon);
        let mut tell = self.progress.take();
        let clock = Stopwatch::start();
        let mut told = 0.0;
        sim.observe(Box::new(move |now, _events| {
            if let Some(tell) = &mut tell {
                let elapsed = clock.elapsed().as_secs_f64();
                if elapsed - told > 0.2 {
                    told = elapsed;
                    tell(Progress { now, horizon, speed_up: now.as_secs_f64() / elapsed });
                }
            }
            !interrupt.asked()
        }));
    }
}

/// What a reader of a run has to know of what was read and drawn.
pub(crate) fn remarks(notes: &Notes) -> Vec<String> {
    /// Drawn busy time may differ from the trace's by this share before it is warned of.
    const TOLERANCE: f64 = 0.02;
    let mut remarks = notes.remarks.clone();
    if let Some((trace, drawn)) = notes.busy.filter(|(trace, _)| *trace > 0.0) {
        let off = drawn / trace - 1.0;
        let says = format!(
            "The trace's averages amount to {trace:.0} busy seconds; {drawn:.0} were drawn ({:+.2} %).",
            off * 100.0
        );
        remarks.push(if off.abs() > TOLERANCE {
            format!("{says} That is more than 2 % apart.")
        } else {
            says
        });
    }
    remarks
}
