//! Round robin: each worker in turn, whatever it has to do.

use super::{Asked, Balancer, Candidate};

#[derive(Default)]
pub(super) struct RoundRobin {
    /// The first place that is next.
    next: usize,
}

impl Balancer for RoundRobin {
    fn name(&self) -> &str {
        "round-robin"
    }

    fn choose(&mut self, _asked: Asked, candidates: &[Candidate]) -> usize {
        let chosen = candidates.iter().position(|c| c.place >= self.next).unwrap_or(0);
        self.next = candidates[chosen].place + 1;
        chosen
    }
}
