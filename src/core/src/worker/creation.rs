//! Creations: the container that is being created for nobody yet, and who gets it (`dispatch = "late"`).
//!
//! With late dispatch an invocation begins a creation, whose container is its own, and takes a place that frees up sooner: in a
//! container that becomes idle or has room, or in one whose owner has found such a place. Those who wait are served in order,
//! before anybody who arrives later.

use super::container::{Fate, Key};
use super::groups::Fit;
use super::ledger::Phase;
use super::state::{Dispose, State};
use super::{Disposer, Inner};
use crate::backend::{Create, CreateFault};
use crate::base::{FunctionId, StartKind};
use crate::rt;
use rustc_hash::FxHashMap;
use slab::Slab;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A container that is being created and belongs to nobody. Dropped before its creation has ended, it is destroyed.
pub(super) struct Creating {
    inner: Rc<Inner>,
    key: Option<Key>,
}

impl Creating {
    pub(super) fn new(inner: &Rc<Inner>, key: Key) -> Creating {
        Creating { inner: Rc::clone(inner), key: Some(key) }
    }

    /// It was created, and is somebody else's to keep.
    pub(super) fn done(mut self) -> Key {
        self.key.take().expect("a creation ends once")
    }

    /// It could not be created.
    pub(super) fn failed(mut self, why: &Rc<str>) {
        self.end(why);
    }

    fn end(&mut self, why: &Rc<str>) {
        let Some(key) = self.key.take() else { return };
        let inner = &self.inner;
        {
            let mut state = inner.state.borrow_mut();
            let group = state.pool.get(key).group;
            Disposer(inner).dispose(&mut state, key, Fate::Failed, rt::now());
            // Its owner may have found another place, or have left.
            if let Some(owner) = state.late.owner_of(group, key) {
                state.late.tell(owner, Err(Rc::clone(why)));
            }
        }
        inner.pump();
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.end(&Rc::from("the creation of a container was given up"));
    }
}

/// What an invocation that waits for a place gets: a place in a container and how it starts there, or why it gets none.
pub(super) type Place = Result<(Key, StartKind), Rc<str>>;

/// An invocation that waits for a place in a container of its group.
struct LateWaiter {
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
    pub(super) fn join(&mut self, group: u32, need: Fit, own: Key) -> usize {
        let waiter = self.waiters.insert(LateWaiter { group, need, own, outcome: None, waker: None });
        self.lines.entry(group).or_default().push_back(waiter);
        waiter
    }

    /// Takes out whoever waits for its own container of this group.
    fn owner_of(&mut self, group: u32, own: Key) -> Option<usize> {
        self.take_first(group, |waiter| waiter.own == own)
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

    fn poll(&mut self, waiter: usize, cx: &Context<'_>) -> Poll<Place> {
        match self.waiters[waiter].outcome.take() {
            Some(outcome) => {
                self.waiters.remove(waiter);
                Poll::Ready(outcome)
            }
            None => {
                self.waiters[waiter].waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Inner {
    /// Creates the sandbox of a container that is entered as creating; `at_once` where it is to have stood already.
    pub(super) async fn create(
        self: &Rc<Inner>,
        key: Key,
        function: FunctionId,
        at_once: bool,
    ) -> Result<(), CreateFault> {
        let begun = rt::now();
        let work = {
            let mut state = self.state.borrow_mut();
            let cpus = state.functions[function.index()].spec.cpus;
            let c = state.pool.get(key);
            let (backend, request) = (
                c.backend,
                Create {
                    function,
                    memory: c.memory,
                    cpus,
                    nth: c.nth,
                    gpu: c.gpu.map(|part| part.gpu),
                    at_once,
                },
            );
            self.backends[usize::from(backend)].create(&request)
        };
        let created = work.await;
        let mut state = self.state.borrow_mut();
        state.created(rt::now());
        let c = state.pool.get(key);
        c.sandbox = Some(created?);
        let group = c.group;
        if !at_once {
            state.groups.observe_creation(group, rt::now().since(begun));
        }
        Ok(())
    }

    /// Creates a container for an invocation that waits for any place of its group meanwhile. The creation begins before this
    /// returns, so that what is dispatched later at this instant ends later.
    pub(super) fn create_late(self: &Rc<Inner>, key: Key, function: FunctionId) {
        let inner = Rc::clone(self);
        let mut creation = Box::pin(async move {
            let creating = Creating::new(&inner, key);
            match inner.create(key, function, false).await {
                Ok(()) => inner.offer(creating.done(), StartKind::Cold),
                Err(fault) => creating.failed(&fault.why),
            }
        });
        if creation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            rt::spawn_detached(creation);
        }
    }

    /// Waits for a place in a container of its group: its own that is being created, or one that frees up sooner.
    pub(super) async fn next_place(&self, waiter: usize) -> Place {
        poll_fn(|cx| self.state.borrow_mut().late.poll(waiter, cx)).await
    }

    /// Hands out the places of a container that is ready: to those who wait for one of its kind, else it is idle.
    pub(super) fn offer(self: &Rc<Inner>, key: Key, start: StartKind) {
        let now = rt::now();
        let mut state = self.state.borrow_mut();
        if !self.hand_over(&mut state, key, start) {
            self.rest(&mut state, key, now);
        }
        drop(state);
        self.pump();
    }

    /// Gives the places of a container to invocations that wait for one of its kind: to its owner, then in order. The first
    /// enters as `first` says, those behind it late. True if one did.
    pub(super) fn hand_over(&self, state: &mut State, key: Key, first: StartKind) -> bool {
        let mut start = first;
        let mut entered = false;
        while state.pool.has_room(key) {
            let c = state.pool.get(key);
            let (group, phase, memory, empty) = (c.group, c.phase, c.memory, c.in_flight == 0);
            let gpu = c.gpu.map(|part| part.memory);
            let late = &mut state.late;
            let next = late.owner_of(group, key);
            let next = next.or_else(|| late.take_first(group, |w| w.need.is_met_by(memory, gpu)));
            let Some(waiter) = next else { break };
            late.tell(waiter, Ok((key, start)));
            state.pool.get(key).prewarmed = false;
            if empty {
                state.pool.begin_spell(key);
                state.ledger.shift(phase, Phase::Running, memory, rt::now());
            }
            state.pool.occupy(key);
            (start, entered) = (StartKind::Late, true);
        }
        entered
    }
}
