//! Least frequently used: the function with the fewest invocations since it last had no container goes first
//! (the FREQ policy that FaasCache is compared with; Fuerst and Sharma, ASPLOS 2021).

use super::{Eviction, Idle};

pub(super) struct Lfu;

impl Eviction for Lfu {
    fn name(&self) -> &str {
        "lfu"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        idle.frequency as f64
    }

    /// Other containers of the function may serve it while this one is idle.
    fn rises(&self) -> bool {
        true
    }
}
