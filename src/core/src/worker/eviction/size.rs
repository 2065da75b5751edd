//! Largest first: few evictions for much memory (the SIZE policy that FaasCache is compared with).

use super::{Eviction, Idle};

pub(super) struct Size;

impl Eviction for Size {
    fn name(&self) -> &str {
        "size"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        -(idle.memory.0 as f64)
    }
}
