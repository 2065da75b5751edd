//! An invocation as it is asked for, and as it is told afterwards.

use super::{Duration, FunctionId, Mem, Time};
use std::rc::Rc;

/// One call of a function, with the luck it was dealt.
///
/// Duration, failure and memory are drawn before any policy sees the call, so that every policy and both worlds meet
/// the same ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Invocation {
    /// Its number in the run: 0, 1, 2 ... in order of arrival.
    pub number: u64,
    /// What is called.
    pub function: FunctionId,
    /// When it was meant to arrive.
    pub arrival: Time,
    /// How long it executes in a warm container that has the processors to itself.
    pub intended: Duration,
    /// Whether the function will report an error.
    pub fails: bool,
    /// Working set it will reach; `None` means its container's reserved size.
    pub usage: Option<Mem>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant),* }
        impl $name {
            /// Every value, in the order of its code.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The word in CSV, JSON and metrics.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// How an invocation ended. Every invocation has exactly one.
    Status {
        /// It returned a result.
        Completed => "completed",
        /// The function, its container or the creation of one failed.
        Failed => "failed",
        /// It executed longer than its timeout.
        TimedOut => "timed_out",
        /// A limit of the queue (length or waiting time), or a draining worker, refused it.
        Dropped => "dropped",
        /// Its worker was lost.
        Lost => "lost",
        /// The run ended first.
        Unfinished => "unfinished",
    }
}

words! {
    /// The container an invocation started in.
    StartKind {
        /// One created for it.
        Cold => "cold",
        /// A cached one.
        Warm => "warm",
        /// The first use of one that was created ahead of need.
        Prewarmed => "prewarmed",
        /// One that became free while its own was still being created (`dispatch = "late"`).
        Late => "late",
    }
}

words! {
    /// Why a cold start was needed.
    ColdCause {
        /// The function never had a container.
        First => "first",
        /// Its last container's keep-alive ended.
        Expired => "expired",
        /// Its last container made room for another.
        Evicted => "evicted",
        /// All its containers were busy.
        Concurrency => "concurrency",
        /// Its last container was destroyed after a failure.
        Failure => "failure",
    }
}

/// How an invocation waited in its worker's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// While it waited a container was being created on its worker.
    pub behind_creation: bool,
    /// It could have been dispatched when it joined a strict queue, and somebody was before it.
    pub behind_head: bool,
}

/// What became of an invocation: a row of `records.csv`. Instants that never came are `None`.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// [`Invocation::number`].
    pub invocation: u64,
    /// What was called.
    pub function: FunctionId,
    /// The worker that took it, from 0.
    pub worker: u16,
    /// The backend of its container, as the worker numbers them.
    pub backend: Option<u16>,
    /// The container, numbered from 1 in order of creation.
    pub container: Option<u64>,
    /// The container it started in.
    pub start: Option<StartKind>,
    /// Why a cold start was needed.
    pub cause: Option<ColdCause>,
    /// How it ended.
    pub status: Status,
    /// When it was meant to arrive.
    pub arrival: Time,
    /// When the worker took it into its queue.
    pub enqueue: Option<Time>,
    /// When it was given its processors and its container or memory.
    pub dispatch: Option<Time>,
    /// When the function started to execute.
    pub exec_start: Option<Time>,
    /// When the function stopped.
    pub exec_end: Option<Time>,
    /// When its caller had the answer.
    pub returned: Time,
    /// [`Invocation::intended`].
    pub intended: Duration,
    /// Highest working set read during and after it; the reserved size where nothing was read.
    pub memory: Mem,
    /// How it waited in the queue.
    pub waited: Waited,
    /// 1, or 2 and more for a retry of the same request.
    pub attempt: u16,
    /// Why it did not complete, in a word or a sentence.
    pub error: Option<Rc<str>>,
}

impl Record {
    /// The record of a call that arrives at a worker now.
    pub fn new(call: &Invocation, worker: u16, now: Time) -> Record {
        Record {
            invocation: call.number,
            function: call.function,
            worker,
            backend: None,
            container: None,
            start: None,
            cause: None,
            status: Status::Unfinished,
            arrival: call.arrival,
            enqueue: Some(now),
            dispatch: None,
            exec_start: None,
            exec_end: None,
            returned: now,
            intended: call.intended,
            memory: Mem(0),
            waited: Waited::default(),
            attempt: 1,
            error: None,
        }
    }

    /// The record of the same call in a run that ended at an instant before it returned: what came later did not happen.
    #[must_use]
    pub fn unfinished_at(self, end: Time) -> Record {
        let seen = |instant: Option<Time>| instant.filter(|at| *at <= end);
        let dispatch = seen(self.dispatch);
        Record {
            status: Status::Unfinished,
            enqueue: seen(self.enqueue),
            dispatch,
            start: self.start.filter(|_| dispatch.is_some()),
            cause: self.cause.filter(|_| dispatch.is_some()),
            backend: self.backend.filter(|_| dispatch.is_some()),
            container: self.container.filter(|_| dispatch.is_some()),
            exec_start: seen(self.exec_start),
            exec_end: seen(self.exec_end),
            returned: end,
            error: None,
            ..self
        }
    }
}

/// Counts since a worker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Invocations that arrived.
    pub invocations: u64,
    /// By how they ended, in the order of [`Status::ALL`].
    pub ended: [u64; Status::ALL.len()],
    /// Dispatched invocations that needed a new container.
    pub cold_starts: u64,
    /// Dispatched invocations that did not.
    pub warm_starts: u64,
    /// Containers that made room for others.
    pub evictions: u64,
    /// Containers whose keep-alive ended.
    pub expirations: u64,
    /// Containers whose creation was begun.
    pub containers_created: u64,
    /// Containers whose creation failed, or that went after a failure.
    pub containers_failed: u64,
    /// Idle containers that went because nobody may use them any more.
    pub containers_condemned: u64,
    /// Attempts to create a container ahead of need.
    pub prewarm_attempts: u64,
    /// Attempts of those that failed.
    pub prewarm_failures: u64,
    /// Readings of containers' memory.
    pub memory_reads: u64,
}

/// What a worker held over the window of a run: sums over time, and the most at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// Core seconds that invocations held, or had of the cores that they share.
    pub cores: (f64, f64),
    /// Invocation-seconds from dispatch to return.
    pub in_flight: (f64, f64),
    /// Invocation-seconds in the queue.
    pub queued: (f64, f64),
}

impl WorkerCounts {
    /// What was counted since `before` was all.
    #[must_use]
    pub fn since(&self, before: &WorkerCounts) -> WorkerCounts {
        self.with(before, |now, then| now - then)
    }

    /// What was counted here and there.
    #[must_use]
    pub fn plus(&self, other: &WorkerCounts) -> WorkerCounts {
        self.with(other, |here, there| here + there)
    }

    fn with(&self, other: &WorkerCounts, of: impl Fn(u64, u64) -> u64) -> WorkerCounts {
        WorkerCounts {
            invocations: of(self.invocations, other.invocations),
            ended: std::array::from_fn(|i| of(self.ended[i], other.ended[i])),
            cold_starts: of(self.cold_starts, other.cold_starts),
            warm_starts: of(self.warm_starts, other.warm_starts),
            evictions: of(self.evictions, other.evictions),
            expirations: of(self.expirations, other.expirations),
            containers_created: of(self.containers_created, other.containers_created),
            containers_failed: of(self.containers_failed, other.containers_failed),
            containers_condemned: of(self.containers_condemned, other.containers_condemned),
            prewarm_attempts: of(self.prewarm_attempts, other.prewarm_attempts),
            prewarm_failures: of(self.prewarm_failures, other.prewarm_failures),
            memory_reads: of(self.memory_reads, other.memory_reads),
        }
    }

    /// Containers that there are, by these counts since the start.
    pub fn containers(&self) -> u64 {
        self.containers_created - self.containers_gone()
    }

    /// Containers that went, whatever for.
    pub fn containers_gone(&self) -> u64 {
        self.evictions + self.expirations + self.containers_failed + self.containers_condemned
    }
}
