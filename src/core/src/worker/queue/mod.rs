//! Queues: which invocation is dispatched next when processors or memory are short.
//!
//! A policy is one number for each invocation as it joins: the lowest is the head, ties by order of joining. To add one,
//! write a file and add a line to the set below; from outside the crate, [`add`] it under a name that scenarios can use.

mod edf;
mod fifo;
mod sjf;

use super::event::WorkerEvent;
use crate::base::{Duration, FunctionId, Member, OpenSet, PolicyConfig, Time};

/// What a policy may know of an invocation that joins the queue: never its true duration.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// What is called.
    pub function: FunctionId,
    /// When it joins.
    pub at: Time,
    /// Moving average (a = 0.3) of the function's executions; `None` before the first returned.
    pub expected: Option<Duration>,
    /// The function's deadline after arrival, if it has one.
    pub deadline: Option<Duration>,
}

/// A policy.
pub trait QueuePolicy {
    /// Its name in scenarios.
    fn name(&self) -> &str;

    /// The lowest is dispatched first.
    fn rank(&mut self, joining: &Joining) -> f64;

    /// Whether an invocation that can be dispatched may pass one that cannot.
    fn skips(&self) -> bool {
        false
    }

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

    /// Its time has come again: afterwards every invocation that waits is ranked anew, as if it joined at its own instant.
    fn tick(&mut self, _at: Time) {}
}

/// Makes a policy of what a configuration says.
pub type Make = fn(&PolicyConfig) -> Result<Box<dyn QueuePolicy>, String>;

static SET: OpenSet<Make> = OpenSet::new(
    "queue policy",
    &[
        Member::plain("fifo", |_| Ok(Box::new(fifo::Fifo { skips: false }))),
        Member::plain("fifo-skip", |_| Ok(Box::new(fifo::Fifo { skips: true }))),
        Member::plain("sjf", |_| Ok(Box::new(sjf::Sjf))),
        Member::plain("edf", |_| Ok(Box::new(edf::Edf))),
    ],
);

/// Adds a policy from outside: from then on scenarios and `--queue` may name it.
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
pub fn build(config: &PolicyConfig) -> Result<Box<dyn QueuePolicy>, String> {
    SET.maker(config)?(config).map_err(|why| SET.refusal(config, &why))
}
