//! Locality: consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, SODA 2018; Ilúvatar's CH-BL).
//!
//! A function has a home, so that its containers are found warm. An invocation goes to the first worker clockwise from
//! the function's point on a ring whose load is at most 1.25 times the mean. Where that one has work for three times its cores
//! the next clockwise that is known to have a free place takes it: the mean says nothing where one function is all the load,
//! and a worker would stay idle for ever. Each worker has many points, so that the functions of one that is gone spread over
//! all others, and no others move.

use super::{Asked, Balancer, Candidate, Make};
use crate::base::{Member, PolicyConfig};
use crate::rt::chance::RngKey;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default)]
struct Parameters {
    /// How far above the mean a worker's load may be.
    bound: f64,
    /// How much a worker has to do for each of its cores when it is passed over for one that has a free place.
    slack: f64,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters { bound: 1.25, slack: 3.0 }
    }
}

pub(super) const MEMBER: Member<Make> = Member {
    name: "locality",
    parameters: &[
        (
            "bound",
            "a worker takes no more when its load is above this times the mean; at least 1 [default: 1.25]",
        ),
        (
            "slack",
            "invocations for each core at which one is passed over for a worker with a free place [default: 3]",
        ),
    ],
    make,
};

fn make(config: &PolicyConfig, _luck: RngKey) -> Result<Box<dyn Balancer>, String> {
    let parameters: Parameters = config.parameters()?;
    if parameters.bound.is_nan() || parameters.bound < 1.0 {
        return Err(format!("bound is {}; below 1 some loads would have no worker", parameters.bound));
    }
    if parameters.slack.is_nan() || parameters.slack < 0.0 {
        return Err(format!("slack is {}; it is at least 0", parameters.slack));
    }
    Ok(Box::new(Locality { parameters, ring: Vec::new(), of: Vec::new() }))
}

/// Points of each worker on the ring.
const POINTS: u64 = 64;

struct Locality {
    parameters: Parameters,
    /// Points and whose they are, in order; and the keys of the candidates that they were made of.
    ring: Vec<(u64, usize)>,
    of: Vec<u64>,
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Locality {
    fn turn_to(&mut self, candidates: &[Candidate]) {
        if self.of.iter().copied().eq(candidates.iter().map(|c| c.key)) {
            return;
        }
        self.of = candidates.iter().map(|c| c.key).collect();
        let points = |(i, c): (usize, &Candidate)| {
            let key = c.key;
            (1..=POINTS).map(move |p| (mixed(key ^ p.wrapping_mul(0x9e37_79b9_7f4a_7c15)), i))
        };
        self.ring = candidates.iter().enumerate().flat_map(points).collect();
        self.ring.sort_unstable();
    }
}

impl Balancer for Locality {
    fn name(&self) -> &str {
        "locality"
    }

    fn choose(&mut self, asked: Asked, candidates: &[Candidate]) -> usize {
        self.turn_to(candidates);
        let mean = candidates.iter().map(|c| c.load).sum::<f64>() / candidates.len() as f64;
        let home = self.ring.partition_point(|(point, _)| *point < mixed(asked.function));
        let mut clockwise = self.ring[home..].iter().chain(&self.ring[..home]).map(|(_, i)| *i);
        // Some load is at most the mean, so one is found.
        // What sums of loads are off by must not tell.
        let most = self.parameters.bound * mean * (1.0 + 1e-12);
        let first = clockwise.find(|i| candidates[*i].load <= most).unwrap_or(0);
        if candidates[first].load < self.parameters.slack || !candidates[first].limited {
            return first;
        }
        let free = |i: &usize| candidates[*i].limited && candidates[*i].load < 1.0;
        clockwise.find(free).unwrap_or(first)
    }
}
