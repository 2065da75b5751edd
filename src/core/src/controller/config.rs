//! What a scenario says of the controller in front of several workers.

use super::balancer;
use crate::base::{Duration, PolicyConfig};
use serde::{Deserialize, Serialize};

/// `[controller]` of a scenario; it matters where there is more than one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which worker an invocation goes to: round-robin, least-loaded, power-of-two, locality.
    pub balancer: PolicyConfig,
    /// From the controller to a worker, and as long back.
    pub delay: Duration,
    /// Between two reports of a worker's load; 0 where the controller's own count is all it needs.
    pub reports: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { balancer: "locality".into(), delay: Duration::ZERO, reports: Duration::ZERO }
    }
}

impl Config {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        balancer::check(&self.balancer)
    }
}
