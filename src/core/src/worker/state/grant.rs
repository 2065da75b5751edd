//! What a dispatched invocation is given.

use super::container::Key;
use crate::base::{ColdCause, Cpus, StartKind, Waited};

/// What a dispatched invocation was given.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Grant {
    /// Its number.
    pub(in crate::worker) invocation: u64,
    pub(in crate::worker) container: Key,
    pub(in crate::worker) start: StartKind,
    pub(in crate::worker) cause: Option<ColdCause>,
    /// How it comes by its container.
    pub(in crate::worker) way: Way,
    /// Its processors.
    pub(in crate::worker) cpus: Cpus,
    /// How it waited.
    pub(in crate::worker) waited: Waited,
}

/// How a dispatched invocation comes by its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Way {
    /// It exists.
    Exists,
    /// It is created first.
    Created,
    /// It is created, and a place that frees up sooner is taken meanwhile: the invocation's number among those that wait so.
    Late(usize),
}
