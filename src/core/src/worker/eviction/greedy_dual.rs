//! Greedy-Dual-Size-Frequency, as FaasCache applies it to keep-alive (Fuerst and Sharma, ASPLOS 2021; Cherkasova, 1998).
//!
//! Priority = clock + frequency x cost / size, with the cost of a cold start in ms and the size in MB. The clock is the
//! highest priority evicted so far, so that what was used long ago ages against what is used now.

use super::{Eviction, Idle};

#[derive(Default)]
pub(super) struct GreedyDual {
    clock: f64,
}

impl Eviction for GreedyDual {
    fn name(&self) -> &str {
        "greedy-dual"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        self.clock
            + idle.frequency as f64 * idle.cold_start.as_millis_f64() / idle.memory.as_mib_f64().max(1e-6)
    }

    fn evicted(&mut self, _idle: &Idle, priority: f64) {
        self.clock = self.clock.max(priority);
    }
}
