//! The order of the waiting.

use crate::plan::{Plan, Queue};
use crate::worker::Worker;

/// Who waits, the one whose turn is first at the front.
pub fn in_order(plan: &Plan, worker: &Worker) -> Vec<usize> {
    // By joining.
    let mut order = worker.queue.clone();
    match plan.worker.queue {
        Queue::Fifo | Queue::FifoSkip => {}
        // What was expected of it when it joined; equal ones by joining.
        Queue::Sjf => order.sort_by(|a, b| worker.expected(*a).total_cmp(&worker.expected(*b))),
        // The time after arrival by which it should have returned. Assumed: without a deadline, what is expected of it.
        Queue::Edf => order.sort_by_key(|waiting| {
            let call = &plan.calls[*waiting];
            let expected = worker.expected(*waiting).max(0.0) as u64;
            call.arrival + plan.functions[call.function].deadline.unwrap_or(expected)
        }),
    }
    order
}
