//! Balancers: which worker an invocation goes to.
//!
//! A balancer sees the workers that can take the invocation, never one that is lost or drains, each with its load. To
//! add one, write a file and add a line to the set below; from outside the crate, [`add`] it under a name that scenarios can use.

mod least_loaded;
mod locality;
mod power_of_two;
mod round_robin;

use crate::base::{Member, OpenSet, PolicyConfig};
use crate::rt::chance::{RngKey, Seed};

/// An invocation that needs a worker.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The function's key: the same for every invocation of it, in every run.
    pub function: u64,
    /// Invocations that were sent before.
    pub nth: u64,
}

/// A worker that can take an invocation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its key: the same as long as it has its name.
    pub key: u64,
    /// Its place in the fleet; for ties, and for who goes in turn.
    pub place: usize,
    /// Invocations that it has, for each of its cores; as many as the controller knows of.
    pub load: f64,
    /// Whether its cores limit what it does at once: with as many invocations as cores it has no free place.
    pub limited: bool,
}

/// A policy.
pub trait Balancer {
    /// Its name in scenarios and configurations.
    fn name(&self) -> &str;

    /// The index of the candidate that takes the invocation. There is at least one.
    fn choose(&mut self, asked: Asked, candidates: &[Candidate]) -> usize;
}

/// Makes a balancer of what a configuration says, with luck of its own.
pub type Make = fn(&PolicyConfig, RngKey) -> Result<Box<dyn Balancer>, String>;

static SET: OpenSet<Make> = OpenSet::new(
    "balancer",
    &[
        Member::plain("round-robin", |_, _| Ok(Box::new(round_robin::RoundRobin::default()))),
        Member::plain("least-loaded", |_, _| Ok(Box::new(least_loaded::LeastLoaded))),
        Member::plain("power-of-two", |_, rng| Ok(Box::new(power_of_two::PowerOfTwo { rng }))),
        locality::MEMBER,
    ],
);

/// Adds a balancer from outside: from then on scenarios and `--balancer` may name it.
///
/// # Errors
/// If there is one of this name.
pub fn add(member: Member<Make>) -> crate::base::Result<()> {
    SET.add(member)
}

/// Those that [`build`] knows, with their parameters.
pub fn members() -> Vec<Member<Make>> {
    SET.members()
}

/// The names that [`build`] knows.
pub fn names() -> Vec<&'static str> {
    SET.names()
}

/// What of a configuration cannot be meant.
///
/// # Errors
/// One sentence.
pub fn check(config: &PolicyConfig) -> Result<(), String> {
    build(config, Seed::new(0).named("balancer")).map(drop)
}

/// Makes the balancer that a configuration names.
///
/// # Errors
/// One sentence about a name or a parameter that cannot be meant.
pub fn build(config: &PolicyConfig, rng: RngKey) -> Result<Box<dyn Balancer>, String> {
    SET.maker(config)?(config, rng).map_err(|why| SET.refusal(config, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn candidates(loads: &[f64]) -> Vec<Candidate> {
        let one = |(place, load): (usize, &f64)| Candidate {
            key: (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            place,
            load: *load,
            limited: true,
        };
        loads.iter().enumerate().map(one).collect()
    }

    fn make(name: &str) -> Box<dyn Balancer> {
        build(&name.into(), Seed::new(7).named("balancer")).expect("a known name")
    }

    #[test]
    fn every_balancer_names_itself_and_stays_within_the_candidates() {
        for name in names() {
            let mut balancer = make(name);
            assert_eq!(balancer.name(), name);
            for n in 1..6usize {
                let all = candidates(&vec![1.0; n]);
                for nth in 0..50 {
                    assert!(balancer.choose(Asked { function: nth * 31, nth }, &all) < n, "{name}");
                }
            }
        }
        assert!(build(&"fairest".into(), Seed::new(1).named("x")).is_err());
    }

    #[test]
    fn round_robin_goes_in_turn_and_skips_who_is_away() {
        let mut balancer = make("round-robin");
        let mut all = candidates(&[0.0; 4]);
        let mut turn = |all: &[Candidate], nth| all[balancer.choose(Asked { function: 1, nth }, all)].place;
        assert_eq!((0..6).map(|n| turn(&all, n)).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1]);
        all.remove(2);
        assert_eq!((6..10).map(|n| turn(&all, n)).collect::<Vec<_>>(), [3, 0, 1, 3]);
    }

    #[test]
    fn least_loaded_takes_the_lightest_and_the_first_at_a_tie() {
        let mut balancer = make("least-loaded");
        let asked = Asked { function: 1, nth: 0 };
        assert_eq!(balancer.choose(asked, &candidates(&[2.0, 0.5, 0.5, 1.0])), 1);
    }

    #[test]
    fn power_of_two_spreads_and_prefers_the_lighter_of_its_two() {
        let mut balancer = make("power-of-two");
        let all = candidates(&[0.0, 0.0, 0.0, 9.0]);
        let mut counts = [0; 4];
        (0..4000).for_each(|nth| counts[balancer.choose(Asked { function: 1, nth }, &all)] += 1);
        // The heavy one is taken only where both draws are it: never, as the two differ.
        assert_eq!(counts[3], 0);
        assert!(counts[..3].iter().all(|c| (1100..1600).contains(c)), "{counts:?}");
    }

    #[test]
    fn locality_keeps_a_function_where_it_is_until_that_is_overloaded() {
        let mut balancer = make("locality");
        let all = candidates(&[1.0; 5]);
        let homes: BTreeMap<u64, usize> =
            (0..1000).map(|f| (f, balancer.choose(Asked { function: f, nth: f }, &all))).collect();
        let again: BTreeMap<u64, usize> =
            (0..1000).map(|f| (f, balancer.choose(Asked { function: f, nth: 0 }, &all))).collect();
        assert_eq!(homes, again);
        let mut share = [0usize; 5];
        homes.values().for_each(|w| share[*w] += 1);
        assert!(share.iter().all(|s| (120..290).contains(s)), "{share:?}");
        // Without one worker, only its functions move.
        let fewer: Vec<Candidate> = all.iter().copied().filter(|c| c.place != 2).collect();
        for (function, home) in &homes {
            let now = fewer[balancer.choose(Asked { function: *function, nth: 0 }, &fewer)].place;
            assert!(*home == 2 || now == *home, "function {function} moved from {home} to {now}");
        }
        // One that has three times its cores to do is passed over for the next that is known to have a free place, whatever
        // the mean; where none has, it stays.
        let mut busy = candidates(&[3.5, 3.5, 3.5, 3.5, 0.5]);
        assert!((0..1000).all(|f| balancer.choose(Asked { function: f, nth: 0 }, &busy) == 4));
        busy[4].load = 3.0;
        let spread =
            (0..1000).filter(|f| balancer.choose(Asked { function: *f, nth: 0 }, &busy) == 4).count();
        assert!((100..350).contains(&spread), "{spread}");
        // A worker above 1.25 times the mean takes no more.
        let mut heavy = all.clone();
        heavy[3].load = 8.0;
        assert!((0..1000).all(|f| balancer.choose(Asked { function: f, nth: 0 }, &heavy) != 3));
    }
}
