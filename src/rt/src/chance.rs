//! Chance: random streams keyed by (seed, name, purpose, k), so that a new draw in one component shifts no other.
//!
//! A stream is a counter-based generator: its state is a hash of the key, so the k-th invocation of a function meets
//! the same luck under every policy, number of workers and world, and nothing is stored between draws.

use std::convert::Infallible;

/// What a stream decides; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The duration of the k-th invocation.
    Duration = 1,
    /// Whether the k-th invocation fails.
    Failure = 2,
    /// The working set of the k-th invocation.
    Memory = 3,
    /// The time to create the k-th container.
    ColdStart = 4,
    /// Whether the k-th creation fails.
    CreationFailure = 5,
    /// Arrival instants.
    Arrival = 6,
    /// Which function is called.
    Popularity = 7,
    /// Think times of the k-th client of a closed loop.
    Think = 8,
    /// Jitter of a retry.
    Jitter = 9,
    /// The order of tasks that are ready at one instant, when it is fuzzed.
    Schedule = 10,
    /// Which records are kept.
    Sampling = 11,
    /// The time to remove the k-th container.
    Removal = 12,
    /// Traces made by the generator.
    Generate = 13,
    /// What an invocation takes beyond its duration.
    Overhead = 14,
    /// Which workers a balancer looks at.
    Balance = 15,
    /// Whether a message arrives, and how long it takes.
    Message = 16,
}

/// The seed of a run.
///
/// ```
/// use elapse_rt::chance::{Seed, Purpose};
/// use rand::RngExt;
///
/// // The k-th draw of a component is the same whatever else was drawn before.
/// let first = |k| -> u64 { Seed::new(7).named("load").draw(Purpose::Generate, k).random() };
/// assert_eq!(first(3), first(3));
/// assert_ne!(first(3), first(4));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

/// The seed of one named component of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RngKey(u64);

/// A stream of random numbers (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct RngStream(u64);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Seed {
    /// The chance of a run with this seed.
    pub fn new(seed: u64) -> Seed {
        Seed(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The luck of the component with this name.
    pub fn named(self, name: &str) -> RngKey {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        RngKey(mix(self.0 ^ hash))
    }
}

impl RngKey {
    /// The stream that decides `purpose` for the k-th event.
    pub fn draw(self, purpose: Purpose, k: u64) -> RngStream {
        RngStream(mix(self.0.wrapping_add((purpose as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
            ^ k.wrapping_mul(GOLDEN)))
    }
}

impl rand::TryRng for RngStream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|x| (x >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(GOLDEN);
        Ok(mix(self.0))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(8) {
            let bytes = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt};

    #[test]
    fn a_stream_depends_on_every_part_of_its_key_and_on_nothing_else() {
        let first = |seed, name: &str, purpose, k| Seed::new(seed).named(name).draw(purpose, k).next_u64();
        let here = first(1, "f", Purpose::Duration, 0);
        assert_eq!(here, first(1, "f", Purpose::Duration, 0));
        assert_ne!(here, first(2, "f", Purpose::Duration, 0));
        assert_ne!(here, first(1, "g", Purpose::Duration, 0));
        assert_ne!(here, first(1, "f", Purpose::Failure, 0));
        assert_ne!(here, first(1, "f", Purpose::Duration, 1));
    }

    #[test]
    fn first_draws_of_neighbouring_streams_are_uniform() {
        let rng = Seed::new(7).named("uniform");
        let n = 100_000u32;
        let mut bins = [0u32; 10];
        for k in 0..n {
            bins[(rng.draw(Purpose::Duration, u64::from(k)).random::<f64>() * 10.0) as usize] += 1;
        }
        for bin in bins {
            assert!((f64::from(bin) - 10_000.0).abs() < 450.0, "{bins:?}");
        }
    }
}
