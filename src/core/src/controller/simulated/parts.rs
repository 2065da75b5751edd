//! What the simulated controller keeps: its workers, calls that are not over, and messages on their way.

use super::network::Way;
use crate::base::{Invocation, InvocationSink, Record};
use crate::controller::fleet::Report;
use crate::controller::protocol::{Attempt, Session};
use rustc_hash::FxHashMap;
use std::rc::Rc;

/// A worker as the controller's side of the run sees it.
pub(super) struct WorkerSlot {
    pub(super) name: String,
    /// None where it is away.
    pub(super) front: Option<Rc<dyn InvocationSink>>,
    /// Counts its lives, from 1.
    pub(super) life: u64,
    /// As far as it knows itself.
    pub(super) registered: bool,
    /// Calls that it has received in this life, and those that it has answered.
    pub(super) received: u64,
    pub(super) answered: u64,
    /// Attempts that it has, by the number of their invocation.
    pub(super) has: FxHashMap<u64, Attempt>,
}

/// A call that is not over.
pub(super) struct Pending {
    pub(super) call: Invocation,
    /// The last answer to it, whatever it says.
    pub(super) answer: Option<Box<Record>>,
    /// Its last attempt.
    pub(super) last: Option<Attempt>,
}

/// What is on its way over the network.
pub(super) enum Message {
    Call(Attempt, Invocation),
    Answer(Attempt, Box<Record>),
    Introduce(Session, u64),
    Introduced(Session),
    Register(u64),
    Beat(u64, Report),
    /// What the controller says to a worker's life of a heartbeat or a registration: it is known there, or not.
    Known(u64, bool),
    Told(Report),
}

impl Message {
    /// Which way it goes.
    pub(super) fn way(&self) -> Way {
        match self {
            Message::Call(..) | Message::Introduce(..) | Message::Known(..) => Way::There,
            _ => Way::Back,
        }
    }
}
