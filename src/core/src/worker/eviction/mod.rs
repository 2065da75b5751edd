//! Eviction: which idle container goes when memory is needed.
//!
//! A policy is one number for each idle container: the lowest goes first, ties by longest idle. To add one, write a
//! file and add a line to [`build`]; from outside the crate, implement [`Eviction`] and hand it to
//! `Run::eviction`, or [`add`] it under a name that scenarios can use.

mod greedy_dual;
mod lfu;
mod lru;
mod size;
mod ttl;

use crate::base::{Duration, FunctionId, Mem, Outside, Result, Time};

/// What a policy may know of an idle container.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// The function it served last.
    pub function: FunctionId,
    /// Memory that it holds, and that its eviction would free.
    pub memory: Mem,
    /// Since when it is idle.
    pub since: Time,
    /// When its keep-alive ends.
    pub expires: Time,
    /// Invocations of its function (or app) since that last had no container.
    pub frequency: u64,
    /// How long a creation is expected to take: a moving average (a = 0.3) of what its function (or app) showed.
    pub cold_start: Duration,
}

/// A policy. It is asked when a container becomes idle, and sees only what a real worker knows.
pub trait Eviction {
    /// Its name in scenarios.
    fn name(&self) -> &str;

    /// The lowest goes first.
    fn priority(&mut self, idle: &Idle) -> f64;

    /// Whether a container's priority may rise while it is idle; then it is asked for again before it is evicted.
    fn rises(&self) -> bool {
        false
    }

    /// This container was evicted, at this priority.
    fn evicted(&mut self, _idle: &Idle, _priority: f64) {}
}

/// The names of our own.
pub const NAMES: &[&str] = &["lru", "ttl", "lfu", "size", "greedy-dual"];

/// Makes a policy.
pub type Make = fn() -> Box<dyn Eviction>;

static OUTSIDE: Outside<Make> = Outside::new("eviction policy", NAMES);

/// Adds a policy from outside: from then on scenarios and `--eviction` may name it.
///
/// # Errors
/// If there is one of this name.
pub fn add(name: &'static str, make: Make) -> Result<()> {
    OUTSIDE.add(name, make)
}

/// The names that [`build`] knows.
pub fn names() -> Vec<&'static str> {
    OUTSIDE.names()
}

/// Whether [`build`] knows this name.
///
/// # Errors
/// One sentence, with the nearest known one.
pub fn check(name: &str) -> Result<(), String> {
    OUTSIDE.check(name)
}

/// The policy with this name.
pub fn build(name: &str) -> Option<Box<dyn Eviction>> {
    Some(match name {
        "lru" => Box::new(lru::Lru),
        "ttl" => Box::new(ttl::Ttl),
        "lfu" => Box::new(lfu::Lfu),
        "size" => Box::new(size::Size),
        "greedy-dual" => Box::new(greedy_dual::GreedyDual::default()),
        _ => OUTSIDE.get(name)?(),
    })
}
