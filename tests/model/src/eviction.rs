//! Who makes room.

use crate::plan::{Eviction, Plan};
use crate::worker::{State, Worker};

/// The idle containers, the one that goes first at the front.
///
/// Law (Eviction): idle containers only, ties by longest idle.
pub fn in_order(plan: &Plan, worker: &Worker) -> Vec<usize> {
    let mut order: Vec<usize> =
        (0..worker.containers.len()).filter(|c| worker.containers[*c].state == State::Cached).collect();
    let of = |c: &usize| &worker.containers[*c];
    // Longest idle first; the sorts below keep this order among equals.
    order.sort_by_key(|c| of(c).idle);
    match plan.worker.eviction {
        Eviction::Lru => {}
        Eviction::Ttl => order.sort_by_key(|c| of(c).expiry),
        // Assumed: here and below a container's memory is what it is charged, as that is what comes free.
        Eviction::Size => order.sort_by_key(|c| std::cmp::Reverse(of(c).charge)),
        Eviction::Lfu => order.sort_by_key(|c| worker.groups[of(c).group].frequency),
        Eviction::GreedyDual => order.sort_by(|a, b| of(a).priority.total_cmp(&of(b).priority)),
    }
    order
}

/// Law (Eviction): greedy-dual's priority of a container that becomes idle: clock + frequency x cold_ms / memory_mb.
pub fn greedy_dual_priority(worker: &Worker, container: usize) -> f64 {
    let container = &worker.containers[container];
    let group = &worker.groups[container.group];
    let cold_ms = group.creation.unwrap_or(0.0) / 1e6;
    let memory_mb = container.charge as f64 / (1 << 20) as f64;
    worker.clock + group.frequency as f64 * cold_ms / memory_mb
}
