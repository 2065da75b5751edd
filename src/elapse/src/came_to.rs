//! What one worker came to over the window of a run.

use crate::base::{Cpus, Time};
use crate::report::WorkerFacts;
use crate::scenario::Scenario;
use crate::worker::Worker;

/// What a worker came to, measured once more at the end. Inside its runtime.
pub fn facts_of(worker: &Worker, end: Time, scenario: &Scenario) -> WorkerFacts {
    worker.measure_last(end);
    let memory = worker.memory_use(end);
    let (counts, containers_at_begin) = worker.window_counts();
    WorkerFacts {
        name: format!("worker-{}", worker.number()),
        cores: scenario.worker.cores.unwrap_or(Cpus::MAX),
        policies: worker.policy_names(),
        counts,
        containers_at_begin,
        held: worker.use_of(end),
        capacity: memory.capacity,
        peaks: [memory.peaks.used, memory.peaks.running, memory.peaks.creating, memory.peaks.cached],
        gb_seconds: memory.gb_seconds,
        loop_restarts: worker.window_restarts(),
        series: worker.series(),
    }
}
