//! What becomes of containers that nobody is in: they are kept for a while, or removed.

use super::Inner;
use super::container::{Fate, Key};
use super::keep_alive::Rested;
use super::ledger::Phase;
use super::state::{Dispose, State};
use crate::backend::Work;
use crate::base::{Duration, Time};
use crate::rt;
use std::rc::Rc;

impl Inner {
    /// Makes a container idle, for as long as the keep-alive policy says; the reaper looks when it expires.
    #[inline]
    pub(super) fn rest(self: &Rc<Inner>, state: &mut State, key: Key, now: Time) {
        let c = state.pool.get(key);
        let (memory, before, reading) = (c.memory, c.charged, c.reading);
        let (phase, mut keep_alive, group) = (c.phase, c.keep_alive, c.group);
        let (function, prewarmed) = (c.function, c.prewarmed);
        if state.groups.is_forgotten(group) {
            // It was being created when its last function was forgotten, and has done what it was created for.
            return Disposer(self).dispose(state, key, Fate::Condemned, now);
        }
        let charged = state.charge_of_cached(memory, reading);
        let cold_start = state.groups.expected_creation(group);
        if let Some(asked) = state.keeping.adaptive() {
            let own = state.functions[function.index()].spec.keep_alive;
            let sharers = group;
            let (span, begins) =
                asked.keep(&Rested { function, sharers, at: now, memory, cold_start, own, prewarmed });
            keep_alive = span;
            state.pool.get(key).keep_alive = span;
            if begins {
                self.create_again(function, group);
            }
        }
        state.pool.get(key).cold_start = cold_start;
        state.pool.rest(key, charged, now);
        state.ledger.change(phase, before, Phase::Cached, charged, now);
        if keep_alive != Duration::MAX {
            self.alarms.reaper.ring_by(now + keep_alive);
        }
    }
}

/// Begins removals on behalf of the state.
pub(super) struct Disposer<'a>(pub(super) &'a Rc<Inner>);

impl Dispose for Disposer<'_> {
    fn dispose(&mut self, state: &mut State, key: Key, fate: Fate, now: Time) {
        if !state.pool.get(key).condemned {
            state.condemn(key, fate, now);
        }
        let c = state.pool.get(key);
        if c.in_flight > 0 {
            return;
        }
        let (phase, memory) = (c.phase, c.charged);
        let work = match c.sandbox.take() {
            Some(sandbox) => self.0.backends[usize::from(c.backend)].remove(sandbox),
            None => Work::ready(()),
        };
        if matches!(work, Work::Ready(_)) {
            state.forget(key, phase, now);
            return;
        }
        state.pool.get(key).phase = Phase::Removing;
        state.ledger.shift(phase, Phase::Removing, memory, now);
        let inner = Rc::clone(self.0);
        rt::spawn_detached(async move {
            work.await;
            inner.removed(key);
        });
    }
}
