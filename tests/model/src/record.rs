//! What became of each call: what `records.csv` says of it.

use crate::plan::Ns;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With a result.
    Completed,
    /// With an error of the function's, or out of memory.
    Failed,
    /// After its timeout.
    TimedOut,
    /// By a limit of the queue.
    Dropped,
    /// Not.
    Unfinished,
}

/// The container it started in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartKind {
    /// One created for it.
    Cold,
    /// A cached one, or a busy one with room.
    Warm,
    /// The first use of a prewarmed one.
    Prewarmed,
    /// A place that became free while its own container was being created.
    Late,
}

/// Why a container had to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColdCause {
    /// There never was one.
    First,
    /// The last one's keep-alive had ended.
    Expired,
    /// The last one had made room.
    Evicted,
    /// All were busy.
    Concurrency,
    /// The last one was destroyed after a failure.
    Failure,
}

/// What became of a call. Instants are absolute; `None` if they never came.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// How it ended.
    pub status: Status,
    /// The container it started in.
    pub start: Option<StartKind>,
    /// Why it needed a new one.
    pub cause: Option<ColdCause>,
    /// The worker it went to.
    pub worker: usize,
    /// Its container, numbered from 1 by its worker.
    pub container: Option<usize>,
    /// When its worker had it.
    pub enqueue: Option<Ns>,
    /// When it was given processors and a container, or the memory for one.
    pub dispatch: Option<Ns>,
    /// When it began to execute.
    pub exec_start: Option<Ns>,
    /// When it stopped.
    pub exec_end: Option<Ns>,
    /// When its caller had the answer.
    pub returned: Option<Ns>,
    /// Whether its container was killed for want of memory.
    pub out_of_memory: bool,
}

impl Record {
    /// A call of which nothing is known yet.
    pub fn new() -> Record {
        Record {
            status: Status::Unfinished,
            start: None,
            cause: None,
            worker: 0,
            container: None,
            enqueue: None,
            dispatch: None,
            exec_start: None,
            exec_end: None,
            returned: None,
            out_of_memory: false,
        }
    }
}

impl Default for Record {
    fn default() -> Record {
        Record::new()
    }
}
