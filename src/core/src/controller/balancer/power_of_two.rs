//! The power of two choices: the lighter of two workers drawn at random (Mitzenmacher, 2001; Vvedenskaya, Dobrushin and
//! Karpelevich, 1996). Nearly as even as the least loaded, and no herd follows an old report.

use super::{Asked, Balancer, Candidate};
use crate::rt::chance::{Purpose, RngKey};
use rand::RngExt;

pub(super) struct PowerOfTwo {
    pub(super) rng: RngKey,
}

impl Balancer for PowerOfTwo {
    fn name(&self) -> &str {
        "power-of-two"
    }

    fn choose(&mut self, asked: Asked, candidates: &[Candidate]) -> usize {
        let n = candidates.len();
        if n < 2 {
            return 0;
        }
        let mut draw = self.rng.draw(Purpose::Balance, asked.nth);
        let first = draw.random_range(0..n);
        let second = (first + draw.random_range(1..n)) % n;
        // At a tie the first drawn: by place, the first workers would have most of the work while there is little.
        if candidates[second].load < candidates[first].load { second } else { first }
    }
}
