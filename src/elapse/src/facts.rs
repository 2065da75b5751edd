//! What is known of a run when it is over: what its workers came to, and why it could not go on.

use crate::backend::Contention;
use crate::base::{Behaviour, Fault, FunctionSpec, Held, Time};
use crate::begun::Begun;
use crate::came_to::facts_of;
use crate::operate::Started;
use crate::report::{self, WorkerFacts};
use crate::scenario::Scenario;
use crate::worker::Worker;

/// Events at one instant beyond which a simulation is taken to stand still.
pub(crate) const EVENTS_AT_ONCE: u64 = 10_000_000;
/// Ticks in a row, with nothing else to come, after which a simulation is taken to wait for ever.
pub(crate) const TICKS_ALONE: u64 = 1_000;

/// Why time does not go on.
pub(crate) fn stands_still(begun: &Begun, at: Time) -> Fault {
    let (function, sent) = begun.shared.last_called();
    let name = begun.functions.get(function.index()).map_or("?", |f| f.name.as_str());
    let closed = begun.scenario.functions.iter().any(|f| f.load.as_ref().is_some_and(|l| l.closed.is_some()));
    let hint = if closed {
        "; give its closed loop a think time, or its calls a duration, above 0"
    } else {
        "; spread its arrivals over time"
    };
    Fault::usage(format!(
        "time stands still at {at}: more than {EVENTS_AT_ONCE} events at this instant, {sent} invocations so far, the last of \
             function '{name}'{hint}"
    ))
}

/// Why nothing happens any more though invocations wait.
pub(crate) fn waits_for_ever(begun: &Begun, at: Time) -> Fault {
    let (function, sent) = begun.shared.last_called();
    let name = begun.functions.get(function.index()).map_or("?", |f| f.name.as_str());
    Fault::bug(format!(
        "nothing but ticks happens since about {at}, and {} invocations wait for ever ({sent} were sent, the last of function \
         '{name}')",
        begun.shared.outstanding()
    ))
}

/// How much of the time of invocations and creations is processor time, by what the model says.
pub(crate) fn parts(scenario: &Scenario, functions: &[FunctionSpec]) -> report::Parts {
    let measured = scenario.model.calibration.is_some();
    if !measured && scenario.model.contention != Contention::Shared {
        return report::Parts::default();
    }
    let part = |f: &FunctionSpec| match f.program.behaviour.or(measured.then_some(scenario.live.behaviour)) {
        Some(Behaviour::Spin) => 1.0,
        Some(Behaviour::Sleep | Behaviour::Alloc) => 0.0,
        _ => scenario.model.cpu_fraction,
    };
    let creation = Some(scenario.model.cold_cpu_fraction);
    report::Parts { invocation: functions.iter().map(part).collect(), creation }
}

pub(crate) fn fleet_peaks(fleet: &crate::worker::Fleet, end: Time) -> report::FleetPeaks {
    let memory = fleet.memory_peaks(end);
    let [cores, in_flight, queued] = fleet.held_peaks(end).map(|peak| (0.0, peak));
    report::FleetPeaks {
        memory: [memory.used, memory.running, memory.creating, memory.cached],
        held: Held { cores, in_flight, queued },
    }
}

impl Started {
    /// What the workers came to, measured once more at the end.
    pub(crate) fn facts(&self, end: Time, scenario: &Scenario) -> Vec<WorkerFacts> {
        let workers = self.workers.borrow();
        let lives = |(number, worker): (usize, &Worker)| {
            let ended = self.ended.borrow();
            let before = ended.iter().filter(|(of, _)| *of == number).map(|(_, facts)| facts.clone());
            let now = (!worker.has_crashed()).then(|| facts_of(worker, end, scenario));
            before.chain(now).reduce(WorkerFacts::followed_by)
        };
        workers.iter().enumerate().filter_map(lives).collect()
    }
}
