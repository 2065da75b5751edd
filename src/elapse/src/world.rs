//! What a world beside the simulated one needs: it drives a run's load in real time, and tells what came of it.

use crate::base::{Duration, Fault, FaultKind, Result, Time};
use crate::begun::Progress;
use crate::interrupt::Interrupt;
use crate::report::WorkerFacts;
use crate::rt::{self, Either};
use crate::scenario::GiveUp;
use std::future::Future;
use std::rc::Rc;

pub use crate::assemble::Assembled;
pub use crate::begun::Begun;
pub use crate::came_to::facts_of;
pub use crate::drive::{Shared, drive, until_measured};
pub use crate::operate::{Job, Started, operate};

/// Where a run can be that is not simulated.
pub trait World {
    /// Drives the load of a run that has begun until it has returned, or until its end is wanted.
    ///
    /// # Errors
    /// What this host lacks, or what ended the load.
    fn run(self, begun: &mut Begun) -> Result<Lived>;
}

/// What is known only when such a run has ended.
pub struct Lived {
    /// When.
    pub end: Time,
    /// The user wanted it.
    pub interrupted: bool,
    /// What the first invocations said, where the run was ended because none of them completed.
    pub gave_up: Option<String>,
    /// None where the worker is another process.
    pub facts: Option<WorkerFacts>,
    /// The names of its backends, or of where its load went.
    pub backends: Vec<String>,
}

/// Between two looks whether the user wants the end.
const LOOK: Duration = Duration::from_millis(100);

/// How a live run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its load.
    Whole,
    /// The user wanted it.
    Interrupted,
    /// Nothing completed: a sentence with what was said.
    GaveUp(String),
}

impl Ending {
    /// What was said where nothing completed.
    pub fn gave_up(self) -> Option<String> {
        match self {
            Ending::GaveUp(why) => Some(why),
            Ending::Whole | Ending::Interrupted => None,
        }
    }
}

/// Waits for a load, unless the user wants the end or none of the first invocations completes.
///
/// # Errors
/// What ended the load.
pub async fn while_hopeful(
    driven: impl Future<Output = Result<()>>,
    shared: &Rc<Shared>,
    give_up: GiveUp,
    interrupted: impl Future<Output = ()>,
) -> Result<Ending> {
    shared.watch(give_up.0);
    let stopped = rt::select(shared.hopeless(), interrupted);
    Ok(match rt::select(driven, stopped).await {
        Either::Left(Err(fault)) if fault.kind() == FaultKind::Interrupted => Ending::Interrupted,
        Either::Left(outcome) => outcome.map(|()| Ending::Whole)?,
        Either::Right(Either::Right(())) => Ending::Interrupted,
        Either::Right(Either::Left(errors)) => {
            let ends = give_up.0.unwrap_or(0);
            Ending::GaveUp(format!("none of the first {ends} invocations completed: {errors}"))
        }
    })
}

/// Waits for what comes before the load.
///
/// # Errors
/// Its fault; or that the user wants the end, who does not wait for it.
pub async fn before_load<T>(work: impl Future<Output = Result<T>>, wish: &Interrupt) -> Result<T> {
    match rt::select(work, tell(None, None, wish.clone())).await {
        Either::Left(done) => done,
        Either::Right(()) => {
            Err(Fault::interrupted("interrupted before the load began; there are no results"))
        }
    }
}

/// Tells now and then how far the run is; done when the user wants its end.
pub async fn tell(
    mut progress: Option<Box<dyn FnMut(Progress)>>,
    horizon: Option<Time>,
    interrupt: Interrupt,
) {
    while !interrupt.asked() {
        rt::sleep(LOOK).await;
        if let Some(tell) = &mut progress {
            tell(Progress { now: rt::now(), horizon, speed_up: 1.0 });
        }
    }
}
