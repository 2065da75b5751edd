//! Fixed: every idle container is kept for the same span, unless its function says another. What AWS Lambda, Azure Functions and
//! OpenWhisk do (10 min, 20 min and 10 min; Shahrad et al., ATC 2020).

use super::{Keep, KeepAlive, Make, Rested};
use crate::base::{Duration, Member, PolicyConfig};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default)]
struct Fixed {
    ttl: Duration,
}

impl Default for Fixed {
    fn default() -> Fixed {
        Fixed { ttl: Duration::from_secs(600) }
    }
}

pub(super) const MEMBER: Member<Make> = Member {
    name: "fixed",
    parameters: &[("ttl", "how long an idle container is kept; or \"forever\" [default: 600s]")],
    make,
};

fn make(config: &PolicyConfig) -> Result<Box<dyn KeepAlive>, String> {
    Ok(Box::new(config.parameters::<Fixed>()?))
}

/// The policy that keeps every container so long.
pub(super) fn kept_for(ttl: Duration) -> Box<dyn KeepAlive> {
    Box::new(Fixed { ttl })
}

impl KeepAlive for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn fixed(&self) -> Option<Duration> {
        Some(self.ttl)
    }

    fn keep(&mut self, rested: &Rested) -> Keep {
        Keep::only(rested.own.unwrap_or(self.ttl))
    }
}
