//! Greedy-Dual-Size-Frequency, as FaasCache applies it to keep-alive (Fuerst and Sharma, ASPLOS 2021; Cherkasova, 1998).
//!
//! Priority = clock + frequency x cost / size, with the cost of a cold start in ms and the size in MB. The clock is the
//! highest priority evicted so far, so that what was used long ago ages against what is used now. With `cost = "uniform"` every
//! cold start costs the same, as where a hit is all that counts.

use super::{Eviction, Idle, Make};
use crate::base::{Member, PolicyConfig};
use serde::Deserialize;

/// What a cold start costs.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Cost {
    /// The time that it is expected to take.
    #[default]
    ColdStart,
    /// The same for every function: 1.
    Uniform,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    cost: Cost,
}

pub(super) const MEMBER: Member<Make> = Member {
    name: "greedy-dual",
    parameters: &[(
        "cost",
        "what a cold start costs: cold-start (its expected time), uniform [default: cold-start]",
    )],
    make,
};

fn make(config: &PolicyConfig) -> Result<Box<dyn Eviction>, String> {
    let Parameters { cost } = config.parameters()?;
    Ok(Box::new(GreedyDual { cost, clock: 0.0 }))
}

struct GreedyDual {
    cost: Cost,
    clock: f64,
}

impl Eviction for GreedyDual {
    fn name(&self) -> &str {
        "greedy-dual"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        let cost = match self.cost {
            Cost::ColdStart => idle.cold_start.as_millis_f64(),
            Cost::Uniform => 1.0,
        };
        self.clock + idle.frequency as f64 * cost / idle.memory.as_mib_f64().max(1e-6)
    }

    fn evicted(&mut self, _idle: &Idle, priority: f64) {
        self.clock = self.clock.max(priority);
    }
}
