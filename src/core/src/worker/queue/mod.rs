//! Queues: which invocation is dispatched next when processors or memory are short.
//!
//! A policy is one number for each invocation as it joins: the lowest is the head, ties by order of joining. To add one,
//! write a file and add a line to [`build`]; from outside the crate, [`add`] it under a name that scenarios can use.

mod edf;
mod fifo;
mod sjf;

use crate::base::{Duration, FunctionId, Outside, Result, Time};

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
}

/// The names of our own.
pub const NAMES: &[&str] = &["fifo", "fifo-skip", "sjf", "edf"];

/// Makes a policy.
pub type Make = fn() -> Box<dyn QueuePolicy>;

static OUTSIDE: Outside<Make> = Outside::new("queue policy", NAMES);

/// Adds a policy from outside: from then on scenarios and `--queue` may name it.
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
pub fn build(name: &str) -> Option<Box<dyn QueuePolicy>> {
    Some(match name {
        "fifo" => Box::new(fifo::Fifo { skips: false }),
        "fifo-skip" => Box::new(fifo::Fifo { skips: true }),
        "sjf" => Box::new(sjf::Sjf),
        "edf" => Box::new(edf::Edf),
        _ => OUTSIDE.get(name)?(),
    })
}
