//! Least recently used: the longest idle goes first. The default of OpenWhisk's container pool.

use super::{Eviction, Idle};

pub(super) struct Lru;

impl Eviction for Lru {
    fn name(&self) -> &str {
        "lru"
    }

    /// All alike: ties go by longest idle, which is all there is to it.
    fn priority(&mut self, _idle: &Idle) -> f64 {
        0.0
    }
}
