//! The queue: one line for each function, and the heads of all lines in order.
//!
//! Invocations of one function need the same, so where its head cannot be dispatched nobody behind it can.

use super::grant::Grant;
use crate::base::{FunctionId, Time};
use crate::worker::event::{Lack, Refusal};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::task::Waker;

/// An invocation that waits in the queue.
pub(super) struct Ticket {
    /// The invocation's number.
    pub(super) invocation: u64,
    pub(super) function: FunctionId,
    pub(super) place: Place,
    pub(super) outcome: Option<Result<Grant, Refusal>>,
    pub(super) waker: Option<Waker>,
    pub(super) deadline: Option<Time>,
    /// When it joined.
    pub(super) since: Time,
    /// It could have been dispatched when it joined, had nobody been before it.
    pub(super) blocked: bool,
    /// What it waits for, as it was told last.
    pub(super) lacks: Lack,
}

impl Ticket {
    /// Tells what became of it to whoever waits for that.
    pub(super) fn tell(&mut self, outcome: Result<Grant, Refusal>) {
        self.outcome = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A place in the queue: rank (as an ordered number) and order of joining.
pub(super) type Place = (u64, u64);

/// Maps a float to a number of the same order.
pub(super) fn ordered(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// See the module.
#[derive(Default)]
pub(super) struct Lines {
    lines: FxHashMap<u32, BTreeMap<Place, usize>>,
    heads: BTreeMap<Place, u32>,
    len: usize,
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Joins a function's line; true if it is the head of all lines now.
    pub(super) fn join(&mut self, function: FunctionId, place: Place, ticket: usize) -> bool {
        let line = self.lines.entry(function.0).or_default();
        let head = line.first_key_value().map(|(p, _)| *p);
        line.insert(place, ticket);
        self.len += 1;
        if head.is_none_or(|head| place < head) {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            self.heads.insert(place, function.0);
        }
        self.heads.first_key_value().is_some_and(|(p, _)| *p == place)
    }

    /// Leaves a function's line; false if it did not stand there.
    pub(super) fn leave(&mut self, function: FunctionId, place: Place) -> bool {
        let Some(line) = self.lines.get_mut(&function.0) else { return false };
        if line.remove(&place).is_none() {
            return false;
        }
        self.len -= 1;
        if self.heads.remove(&place).is_some()
            && let Some((next, _)) = line.first_key_value()
        {
            self.heads.insert(*next, function.0);
        }
        if line.is_empty() {
            self.lines.remove(&function.0);
        }
        true
    }

    /// Those that stand in lines, counted one by one; each line's head is among the heads.
    pub(super) fn standing(&self) -> usize {
        let heads_right = self.heads.len() == self.lines.len()
            && self.heads.iter().all(|(place, function)| {
                let line = self.lines.get(function);
                line.and_then(BTreeMap::first_key_value).is_some_and(|(first, _)| first == place)
            });
        if heads_right { self.lines.values().map(BTreeMap::len).sum() } else { usize::MAX }
    }

    /// The first head at or after a place.
    pub(super) fn head_from(&self, from: Place) -> Option<(Place, usize)> {
        let (place, function) = self.heads.range(from..).next()?;
        let ticket = self.lines.get(function)?.get(place)?;
        Some((*place, *ticket))
    }
}
