//! Least loaded: the worker with the fewest invocations for each core, the first at a tie.
//!
//! Where loads are stale reports, everyone's next invocations go to whoever looked idle then (herding: Mitzenmacher, "How
//! useful is old information?", 2000). The fleet therefore adds what it sent since the report.

use super::{Asked, Balancer, Candidate};

pub(super) struct LeastLoaded;

impl Balancer for LeastLoaded {
    fn name(&self) -> &str {
        "least-loaded"
    }

    fn choose(&mut self, _asked: Asked, candidates: &[Candidate]) -> usize {
        let lightest = candidates.iter().enumerate().min_by(|(_, a), (_, b)| a.load.total_cmp(&b.load));
        lightest.map_or(0, |(i, _)| i)
    }
}
