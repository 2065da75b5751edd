//! Says where a scenario's distributions are cut so that their mean is another than the one that was written.

use super::Scenario;
use crate::base::{Dist, Quantity};

/// A sentence for each of them.
pub(crate) fn cut(scenario: &Scenario) -> Vec<String> {
    let mut said = Vec::new();
    for f in &scenario.functions {
        let of = |what: &str| format!("function '{}': {what}", f.name);
        tell(of("duration"), Some(&f.duration), &mut said);
        tell(of("cold_start"), f.cold_start.as_ref(), &mut said);
        tell(of("memory_used"), f.memory_used.as_ref(), &mut said);
        let closed = f.load.as_ref().and_then(|load| load.closed.as_ref());
        tell(of("load.closed.think"), closed.map(|closed| &closed.think), &mut said);
    }
    let trace = scenario.trace.as_ref().and_then(|trace| trace.cold_start.as_ref());
    tell("trace.cold_start".into(), trace, &mut said);
    // A calibration goes instead of these.
    if scenario.model.calibration.is_none() {
        tell("model.cold_start".into(), Some(&scenario.model.cold_start), &mut said);
        tell("model.removal".into(), Some(&scenario.model.removal), &mut said);
    }
    said
}

fn tell<Q: Quantity>(what: String, dist: Option<&Dist<Q>>, said: &mut Vec<String>) {
    said.extend(dist.and_then(Dist::cut_mean).map(|cut| format!("{what}: {cut}.")));
}
