//! Earliest expiry: the one whose keep-alive ends first goes first. With one keep-alive for all it equals `lru`.

use super::{Eviction, Idle};

pub(super) struct Ttl;

impl Eviction for Ttl {
    fn name(&self) -> &str {
        "ttl"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        idle.expires.0 as f64
    }
}
