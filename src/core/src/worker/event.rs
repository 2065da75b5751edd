//! Events: what a worker decides and does, told as it happens.
//!
//! Each change of a worker's state is one of these, in the order in which they happen. What counts, measures, checks or explains a
//! worker hears them and needs nothing else. With nobody who listens an event costs a look at one flag.

use crate::base::{ColdCause, Cpus, Duration, FunctionId, Mem, StartKind, Status, Time, Waited};

/// What happened in a worker. Containers are numbered from 1 in the order of their creation; invocations as the run numbers them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WorkerEvent {
    /// A function can be called from now on.
    Registered {
        /// Its number.
        function: FunctionId,
    },
    /// Nobody will call a function any more.
    Deregistered {
        /// Its number.
        function: FunctionId,
    },
    /// An invocation came to the worker.
    Arrived {
        /// Its number.
        invocation: u64,
        /// What is called.
        function: FunctionId,
    },
    /// An invocation waits: told when it joins the queue, and again when it is looked at and lacks something else.
    Waits {
        /// Its number.
        invocation: u64,
        /// What it waits for.
        lacks: Lack,
        /// It joins the queue now.
        joins: bool,
    },
    /// An invocation is not served.
    Refused {
        /// Its number.
        invocation: u64,
        /// Why not.
        why: Refusal,
        /// It had waited in the queue.
        waited: bool,
    },
    /// An invocation that waited was given up by its caller.
    Left {
        /// Its number.
        invocation: u64,
    },
    /// An invocation was given its processors, and its place in a container or the memory for one.
    Dispatched {
        /// Its number.
        invocation: u64,
        /// The container that it enters, or that is created for it.
        container: u64,
        /// Processors that it holds until it is [`Released`](WorkerEvent::Released).
        cpus: Cpus,
        /// How it starts.
        start: StartKind,
        /// Why it starts cold, if it does.
        cause: Option<ColdCause>,
        /// How it waited.
        waited: Waited,
        /// It stood in the queue.
        from_queue: bool,
        /// It has its place in that container, which may have to be created first; else it takes the first place that there is
        /// (`dispatch = "late"`).
        placed: bool,
    },
    /// An invocation that took the first place that there was has one.
    Entered {
        /// The invocation.
        invocation: u64,
        /// The container.
        container: u64,
        /// How it starts there.
        start: StartKind,
    },
    /// The creation of a container began; its memory is reserved.
    CreationBegan {
        /// Its number.
        container: u64,
        /// The function for which it is created.
        function: FunctionId,
        /// The backend, as the worker numbers them.
        backend: u16,
        /// What is reserved for it.
        memory: Mem,
        /// The invocation for which it is created; none where it is created ahead of need, or taken over.
        by: Option<u64>,
    },
    /// A creation came to its end.
    CreationEnded {
        /// The container.
        container: u64,
        /// How long it took.
        took: Duration,
        /// Whether the container can be used.
        usable: bool,
    },
    /// A container became idle.
    Idle {
        /// The container.
        container: u64,
        /// When its keep-alive ends.
        until: Time,
        /// What it is charged meanwhile.
        charged: Mem,
    },
    /// Nobody enters a container any more: it goes when the last one in it leaves.
    Retired {
        /// The container.
        container: u64,
        /// Why.
        why: Fate,
        /// For which invocation, where it makes room for one.
        by: Option<u64>,
    },
    /// A container is gone: what it had is free.
    Gone {
        /// The container.
        container: u64,
    },
    /// An execution began.
    Started {
        /// The invocation.
        invocation: u64,
        /// What is called.
        function: FunctionId,
        /// Its container.
        container: u64,
        /// How it started.
        start: StartKind,
    },
    /// An execution came to its end.
    Ended {
        /// The invocation.
        invocation: u64,
        /// What was called; of one that was given up, whose container it was.
        function: FunctionId,
        /// Its container.
        container: u64,
        /// How it ended.
        status: Status,
    },
    /// A dispatched invocation gave back what it held.
    Released {
        /// The invocation.
        invocation: u64,
        /// The container it was in, if it came to be in one.
        container: Option<u64>,
        /// Its processors.
        cpus: Cpus,
    },
    /// An invocation's caller has its answer.
    Returned {
        /// The invocation.
        invocation: u64,
        /// How it ended.
        status: Status,
    },
    /// The memory of a container was read.
    Read {
        /// The container.
        container: u64,
        /// Its working set; what is reserved, where the backend cannot tell.
        memory: Mem,
    },
    /// The worker is lost with all that it has: nothing more is told of it.
    Crashed,
    /// A creation ahead of need was attempted.
    PrewarmAttempted {
        /// For whom.
        function: FunctionId,
    },
    /// An attempt at a creation ahead of need failed.
    PrewarmFailed {
        /// For whom.
        function: FunctionId,
    },
}

/// What an invocation that waits does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Processors.
    Cores,
    /// Memory for a container.
    Memory,
    /// A GPU, or enough memory of one.
    Gpu,
    /// A free place among the creations that may be under way at once (`max_creating`).
    Creations,
    /// Its turn: somebody is before it in a strict queue.
    Turn,
}

/// Why an invocation is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may (`queue.limit`).
    QueueFull,
    /// It waited as long as it may (`queue.timeout`).
    QueueTimeout,
    /// The worker takes none any more.
    Draining,
}

impl Refusal {
    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Refusal::QueueFull => "queue full",
            Refusal::QueueTimeout => "queue timeout",
            Refusal::Draining => "worker drains",
        }
    }
}

/// Why a container goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It makes room for another.
    Evicted,
    /// Its keep-alive has ended.
    Expired,
    /// Its creation or an invocation in it failed, or it ended by itself.
    Failed,
    /// Nobody may use it any more: its function is gone, or its app needs larger ones.
    Condemned,
}

impl Fate {
    /// Why a cold start is needed where it was the last of its group.
    pub(super) fn cause(self) -> ColdCause {
        match self {
            Fate::Evicted | Fate::Condemned => ColdCause::Evicted,
            Fate::Expired => ColdCause::Expired,
            Fate::Failed => ColdCause::Failure,
        }
    }
}

/// Hears what happens in a worker.
///
/// ```
/// use elapse_core::base::Time;
/// use elapse_core::worker::event::{WorkerEvent, Fate, Observer};
/// use std::{cell::Cell, rc::Rc};
///
/// /// Counts containers that made room for others.
/// struct Evictions(Rc<Cell<u64>>);
///
/// impl Observer for Evictions {
///     fn observe(&mut self, _at: Time, event: &WorkerEvent) {
///         if let WorkerEvent::Retired { why: Fate::Evicted, .. } = event {
///             self.0.set(self.0.get() + 1);
///         }
///     }
/// }
/// ```
pub trait Observer {
    /// Something happened. Events come in their order; those of one instant have one `at`.
    fn observe(&mut self, at: Time, event: &WorkerEvent);
}
