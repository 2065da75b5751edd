//! A container as the pool keeps it: what it is, what it is doing, why it goes, and its place in the order of eviction.

use super::gpus::Part;
use super::ledger::Phase;
use crate::backend::Sandbox;
use crate::base::{Duration, FunctionId, Mem, Time};
use std::cmp::Ordering;

/// A container's place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Key(pub(super) u32);

/// No container.
pub(super) const NONE: u32 = u32::MAX;

/// Its neighbours in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) prev: u32,
    pub(super) next: u32,
}

/// In no list.
pub(super) const UNLINKED: Links = Links { prev: NONE, next: NONE };

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    /// Numbered from 1 in order of creation.
    pub(super) number: u64,
    pub(super) group: u32,
    pub(super) function: FunctionId,
    pub(super) backend: u16,
    pub(super) phase: Phase,
    /// Created ahead of need and not used yet.
    pub(super) prewarmed: bool,
    pub(super) in_flight: u32,
    pub(super) concurrency: u32,
    /// No further invocation enters; it goes when the last one leaves.
    pub(super) retired: bool,
    /// Containers created for its function before it.
    pub(super) nth: u64,
    /// Memory reserved for it.
    pub(super) memory: Mem,
    /// Memory that the ledger charges for it now.
    pub(super) charged: Mem,
    pub(super) gpu: Option<Part>,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) keep_alive: Duration,
    pub(super) idle_since: Time,
    pub(super) cold_start: Duration,
    /// Counts changes between idle and busy, so that old entries of heaps and queues are recognised.
    pub(super) epoch: u64,
    /// When its memory is read next, while it runs.
    pub(super) next_read: Time,
    /// Highest working set read since it last became busy.
    pub(super) working_set: Mem,
    /// The last reading of its working set, if there was one.
    pub(super) reading: Option<Mem>,
    pub(super) in_group: Links,
    pub(super) in_class: Links,
    pub(super) class: u32,
}

/// A container that is to be created.
pub(super) struct NewContainer {
    pub(super) number: u64,
    pub(super) group: u32,
    pub(super) function: FunctionId,
    pub(super) backend: u16,
    pub(super) memory: Mem,
    pub(super) gpu: Option<Part>,
    pub(super) concurrency: u32,
    /// How long it is kept when it is idle, where that is known by now.
    pub(super) keep_alive: Option<Duration>,
    pub(super) nth: u64,
}

/// A candidate for eviction; the heap's greatest goes first.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) priority: f64,
    pub(super) since: Time,
    pub(super) sequence: u64,
    pub(super) key: Key,
    pub(super) epoch: u64,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        other
            .priority
            .total_cmp(&self.priority)
            .then(other.since.cmp(&self.since))
            .then(other.sequence.cmp(&self.sequence))
    }
}
