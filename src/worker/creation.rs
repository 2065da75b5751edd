//! Creations: the container that is being created for nobody yet, and who gets it (`dispatch = "late"`).
//!
//! With late dispatch an invocation begins a creation, whose container is its own, and takes a place that frees up sooner: in a
//! container that becomes idle or has room, or in one whose owner has found such a place. Those who wait are served in order,
//! before anybody who arrives later.

use super::container::{Fate, Key};
use super::ledger::Phase;
use super::state::{Dispose, LateWaiter, State};
use super::{Disposer, Inner};
use crate::backend::{Create, CreateFault};
use crate::base::{FunctionId, StartKind};
use crate::rt::{self, sync};
use std::rc::Rc;

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
        let unlucky = {
            let mut state = inner.state.borrow_mut();
            let group = state.pool.get(key).group;
            Disposer(inner).dispose(&mut state, key, Fate::Failed, rt::now());
            state.owner_of(group, key)
        };
        // Its owner may have found another place, or have left.
        if let Some(unlucky) = unlucky {
            let _ = unlucky.place.send(Err(Rc::clone(why)));
        }
        inner.pump();
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.end(&Rc::from("the creation of a container was given up"));
    }
}

impl State {
    /// Takes out the invocation that waits for its own container of this group.
    fn owner_of(&mut self, group: u32, own: Key) -> Option<LateWaiter> {
        let waiting = self.late.get_mut(&group)?;
        let place = waiting.iter().position(|waiter| waiter.own == own)?;
        waiting.remove(place)
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

    /// Creates a container for an invocation that waits for any place of its group meanwhile.
    pub(super) fn create_late(self: &Rc<Inner>, key: Key, function: FunctionId) {
        let inner = Rc::clone(self);
        rt::spawn_detached(async move {
            let creating = Creating::new(&inner, key);
            match inner.create(key, function, false).await {
                Ok(()) => inner.offer(creating.done(), StartKind::Cold),
                Err(fault) => creating.failed(&fault.why),
            }
        });
    }

    /// Waits for a place in a container of a function's group: its own that is being created, or one that frees up sooner,
    /// behind those who wait already.
    pub(super) async fn next_place(
        &self,
        function: FunctionId,
        own: Key,
    ) -> Result<(Key, StartKind), Rc<str>> {
        let (ready, taken) = sync::oneshot();
        {
            let mut state = self.state.borrow_mut();
            let group = state.functions[function.index()].group;
            let need = state.functions[function.index()].fit;
            state.late.entry(group).or_default().push_back(LateWaiter { need, own, place: ready });
        }
        taken.await.unwrap_or_else(|_| Err(Rc::from("the worker ended while a container was created")))
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
            let next = state.owner_of(group, key).or_else(|| {
                let waiting = state.late.get_mut(&group)?;
                let next = waiting.iter().position(|w| w.need.is_met_by(memory, gpu))?;
                waiting.remove(next)
            });
            let Some(waiter) = next else { break };
            if waiter.place.send(Ok((key, start))).is_err() {
                continue;
            }
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
