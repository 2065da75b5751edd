//! Who waits for a place while its container is created (`dispatch = "late"`).
//!
//! With late dispatch an invocation begins a creation, whose container is its own, and takes a place that frees up sooner: in a
//! container that becomes idle or has room, or in one whose owner has found such a place. Those who wait are served in order,
//! before anybody who arrives later.

use super::groups::Fit;
use super::{Key, State};
use crate::base::{Mem, StartKind};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What an invocation that waits for a place gets: a place in a container and how it starts there, or why it gets none.
pub(in crate::worker) type Place = Result<(Key, StartKind), Rc<str>>;

/// An invocation that waits for a place in a container of its group.
struct LateWaiter {
    invocation: u64,
    group: u32,
    need: Fit,
    /// The container that is being created for it.
    own: Key,
    outcome: Option<Place>,
    waker: Option<Waker>,
}

/// Invocations that wait for a place of their group, in the order of their dispatch.
#[derive(Default)]
pub(super) struct LateLines {
    waiters: Slab<LateWaiter>,
    lines: FxHashMap<u32, VecDeque<usize>>,
}

impl LateLines {
    /// Joins the line of a group; its number there.
    pub(super) fn join(&mut self, invocation: u64, group: u32, need: Fit, own: Key) -> usize {
        let (outcome, waker) = (None, None);
        let waiter = self.waiters.insert(LateWaiter { invocation, group, need, own, outcome, waker });
        self.lines.entry(group).or_default().push_back(waiter);
        waiter
    }

    /// Gives a place in this container, which has so much memory and so much of a GPU, to its owner, else to the first in line that it
    /// serves: the invocation that got it.
    pub(super) fn place_next(
        &mut self,
        group: u32,
        key: Key,
        (memory, gpu): (Mem, Option<Mem>),
        start: StartKind,
    ) -> Option<u64> {
        let owner = self.take_first(group, |waiter| waiter.own == key);
        let next = owner.or_else(|| self.take_first(group, |w| w.need.is_met_by(memory, gpu)))?;
        self.tell(next, Ok((key, start)));
        Some(self.waiters[next].invocation)
    }

    /// Tells the owner of a container that it cannot be created. It may have found another place, or have left.
    pub(super) fn fail_owner(&mut self, group: u32, own: Key, why: &Rc<str>) {
        if let Some(owner) = self.take_first(group, |waiter| waiter.own == own) {
            self.tell(owner, Err(Rc::clone(why)));
        }
    }

    /// Takes out the first of a group that is so.
    fn take_first(&mut self, group: u32, is: impl Fn(&LateWaiter) -> bool) -> Option<usize> {
        let line = self.lines.get_mut(&group)?;
        let place = line.iter().position(|waiter| is(&self.waiters[*waiter]))?;
        line.remove(place)
    }

    /// Tells one that was taken out what it gets.
    fn tell(&mut self, waiter: usize, outcome: Place) {
        let waiter = &mut self.waiters[waiter];
        waiter.outcome = Some(outcome);
        if let Some(waker) = waiter.waker.take() {
            waker.wake();
        }
    }

    /// Gives up waiting; the container of the place that it had been given by then.
    pub(super) fn leave(&mut self, waiter: usize) -> Option<Key> {
        let LateWaiter { group, outcome, .. } = self.waiters.remove(waiter);
        match outcome {
            Some(place) => place.ok().map(|(key, _)| key),
            None => {
                if let Some(line) = self.lines.get_mut(&group) {
                    line.retain(|w| *w != waiter);
                }
                None
            }
        }
    }

    /// Those that have no place yet, and those that stand in a line.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let without = self.waiters.iter().filter(|(_, waiter)| waiter.outcome.is_none()).count();
        (without, self.lines.values().map(VecDeque::len).sum())
    }
}

impl State {
    /// What one that waits for a place gets; whoever asks is woken when there is more to tell.
    pub(in crate::worker) fn poll_place(&mut self, waiter: usize, cx: &Context<'_>) -> Poll<Place> {
        let waiters = &mut self.late.waiters;
        match waiters[waiter].outcome.take() {
            Some(outcome) => {
                waiters.remove(waiter);
                Poll::Ready(outcome)
            }
            None => {
                waiters[waiter].waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
