//! How a simulated run behaves, what it counts, and why it may stop.

use super::tasks::Blocked;
use crate::clock::Time;
use std::fmt;

/// How a simulated run behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Told with every panic; seeds the schedule if it is fuzzed.
    pub seed: u64,
    /// Permute tasks that are ready at one instant, by the seed: what only works in one order shows itself.
    pub fuzz_schedule: bool,
    /// A panic in a task ends the task (and shows in its handle) rather than the run.
    pub contain_panics: bool,
    /// Polls and calls at one instant after which the run is taken to be livelocked.
    pub polls_per_instant: u64,
    /// Ticks in a row, with no other timer set, after which the run is taken to wait for ever; `None` lets it tick on.
    pub ticks_alone: Option<u64>,
    /// The clock does not pass this instant.
    pub time_limit: Option<Time>,
    /// Virtual seconds per real second; `None` runs as fast as it can.
    pub pace: Option<f64>,
    /// Keep the polls and fires with these numbers, to compare two runs.
    pub watch: std::ops::Range<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            fuzz_schedule: false,
            contain_panics: true,
            polls_per_instant: 100_000_000,
            ticks_alone: None,
            time_limit: None,
            pace: None,
            watch: 0..0,
        }
    }
}

/// Why a run stopped before it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Tasks wait, and nothing can wake them: no timer is set, or none but ticks.
    Deadlock(Vec<Blocked>),
    /// Too many polls at one instant, and the task polled last.
    Livelock(Time, Blocked),
    /// The clock reached its limit.
    TimeLimit(Time),
    /// A task panicked and panics are not contained.
    Panicked(String),
    /// The observer asked for it.
    Interrupted,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Deadlock(tasks) => {
                write!(
                    f,
                    "all {} tasks will wait for ever: no timer is set but ticks, and nothing is ready",
                    tasks.len()
                )?;
                for task in tasks.iter().take(20) {
                    write!(f, "\n  {task}")?;
                }
                if tasks.len() > 20 {
                    write!(f, "\n  and {} more", tasks.len() - 20)?;
                }
                Ok(())
            }
            Stop::Livelock(at, task) => {
                write!(f, "time stands still at {at}: tasks wake each other without end; the last was {task}")
            }
            Stop::TimeLimit(at) => write!(f, "the virtual-time limit of {at} was reached"),
            Stop::Panicked(what) => f.write_str(what),
            Stop::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for Stop {}

/// What a run did, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Polls of tasks.
    pub polls: u64,
    /// Timers that fired.
    pub fires: u64,
    /// Timers that were cancelled.
    pub cancels: u64,
    /// Times that cancelled timers were swept out.
    pub sweeps: u64,
    /// The longest the timer queue has been, cancelled timers included.
    pub longest_queue: usize,
}

impl Counters {
    /// Polls and fires together: the events that the hash covers.
    pub fn events(&self) -> u64 {
        self.polls + self.fires
    }
}

/// What [`Sim::step`](crate::Sim::step) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A ready task was polled.
    Polled,
    /// A timer fired, and the clock may have moved.
    Fired,
    /// Nothing is ready and no timer is set.
    Idle,
}
