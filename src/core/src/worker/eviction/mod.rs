//! Eviction: which idle container goes when memory is needed.
//!
//! A policy is one number for each idle container: the lowest goes first, ties by longest idle. To add one, write a
//! file and add a line to the set below; from outside the crate, implement [`Eviction`] and hand it to `Run::eviction`, or
//! [`add`] it under a name that scenarios can use, with parameters of its own or without.

mod greedy_dual;
mod lfu;
mod lru;
mod size;
mod ttl;

use super::event::WorkerEvent;
use crate::base::{Duration, FunctionId, Mem, Member, OpenSet, PolicyConfig, Time};

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
///
/// ```
/// use elapse_core::base::Member;
/// use elapse_core::worker::eviction::{self, Eviction, Idle};
///
/// /// Lets go of what gives back the most memory for the least time of starting it again.
/// struct Density;
///
/// impl Eviction for Density {
///     fn name(&self) -> &str {
///         "density"
///     }
///
///     fn priority(&mut self, idle: &Idle) -> f64 {
///         idle.cold_start.as_secs_f64() / idle.memory.as_mib_f64()
///     }
/// }
///
/// // From now on a scenario may say `eviction = "density"`.
/// eviction::add(Member::plain("density", |_| Ok(Box::new(Density)))).unwrap();
/// assert!(eviction::build(&"density".into()).is_ok());
/// ```
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

    /// Whether it wants to hear what happens in its worker: where it does not, nothing is told it.
    fn hears(&self) -> bool {
        false
    }

    /// Something happened: arrivals, starts, ends and evictions among all the rest. No event tells what a real worker would not know.
    fn hear(&mut self, _at: Time, _event: &WorkerEvent) {}

    /// How often [`tick`](Self::tick) is called; never without it.
    fn every(&self) -> Option<Duration> {
        None
    }

    /// Its time has come again: afterwards every idle container is asked for anew.
    fn tick(&mut self, _at: Time) {}
}

/// Makes a policy of what a configuration says.
pub type Make = fn(&PolicyConfig) -> Result<Box<dyn Eviction>, String>;

static SET: OpenSet<Make> = OpenSet::new(
    "eviction policy",
    &[
        Member::plain("lru", |_| Ok(Box::new(lru::Lru))),
        Member::plain("ttl", |_| Ok(Box::new(ttl::Ttl))),
        Member::plain("lfu", |_| Ok(Box::new(lfu::Lfu))),
        Member::plain("size", |_| Ok(Box::new(size::Size))),
        greedy_dual::MEMBER,
    ],
);

/// Adds a policy from outside: from then on scenarios and `--eviction` may name it.
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

/// Makes the policy that a configuration names.
///
/// # Errors
/// One sentence about a name or a parameter that cannot be meant.
pub fn build(config: &PolicyConfig) -> Result<Box<dyn Eviction>, String> {
    SET.maker(config)?(config).map_err(|why| SET.refusal(config, &why))
}
