//! Queues: which invocation is dispatched next when processors or memory are short.
//!
//! A policy is one number for each invocation as it joins: the lowest is the head, ties by order of joining. To add one,
//! write a file and add a line to [`build`].

mod edf;
mod fifo;
mod sjf;

use crate::base::{Duration, FunctionId, Time};

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

/// The names that [`build`] knows.
pub const NAMES: &[&str] = &["fifo", "fifo-skip", "sjf", "edf"];

/// The policy with this name.
pub fn build(name: &str) -> Option<Box<dyn QueuePolicy>> {
    Some(match name {
        "fifo" => Box::new(fifo::Fifo { skips: false }),
        "fifo-skip" => Box::new(fifo::Fifo { skips: true }),
        "sjf" => Box::new(sjf::Sjf),
        "edf" => Box::new(edf::Edf),
        _ => return None,
    })
}
