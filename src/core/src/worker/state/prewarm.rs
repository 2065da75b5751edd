//! Containers created ahead of need, and those that the keep-alive policy wants created again.

use super::{Key, Shell, State};
use crate::base::{FunctionId, Time};
use crate::worker::event::WorkerEvent;

impl State {
    /// Counts an attempt at a creation ahead of need.
    pub(in crate::worker) fn prewarm_attempted(&mut self, function: FunctionId, now: Time) {
        self.emit(now, |_| WorkerEvent::PrewarmAttempted { function });
    }

    /// Counts an attempt that failed.
    pub(in crate::worker) fn prewarm_failed(&mut self, function: FunctionId, now: Time) {
        self.emit(now, |_| WorkerEvent::PrewarmFailed { function });
    }

    /// Enters a container that is created ahead of need, which evicts nothing.
    ///
    /// # Errors
    /// Whether another attempt may succeed, and why this one did not.
    pub(in crate::worker) fn prewarm(
        &mut self,
        function: FunctionId,
        now: Time,
    ) -> Result<Key, (bool, String)> {
        if self.draining {
            return Err((false, "the worker drains".into()));
        }
        if self.functions[function.index()].gone {
            return Err((false, "the function was forgotten meanwhile".into()));
        }
        let Some(key) = self.create_without_evicting(function, None, now) else {
            return Err((true, "no memory is free for it, or too many creations are under way".into()));
        };
        self.pool.get(key).prewarmed = true;
        self.settled();
        Ok(key)
    }

    /// Creations of a function ahead of need begin to be tried.
    pub(in crate::worker) fn begin_prewarming(&mut self, function: FunctionId) {
        self.functions[function.index()].prewarming += 1;
    }

    /// Creations of a function ahead of need are not tried any more.
    pub(in crate::worker) fn end_prewarming(&mut self, function: FunctionId) {
        self.functions[function.index()].prewarming -= 1;
    }

    /// When a container of a group is to be created again; `None` where none is any more, and who waits for it ends.
    pub(in crate::worker) fn next_again(&mut self, group: u32) -> Option<Time> {
        self.keeping.adaptive().and_then(|asked| asked.next_again(group))
    }

    /// The instant has come at which a container of a group is to be created again: whether one is, because nobody came before.
    pub(in crate::worker) fn wants_again(&mut self, function: FunctionId, group: u32, at: Time) -> bool {
        self.keeping.adaptive().into_iter().for_each(|asked| asked.done(group));
        let wants = !self.draining && self.pool.group(group).living == 0;
        if wants {
            self.prewarm_attempted(function, at);
        }
        wants
    }

    /// Retires what a group has and nobody may use any more.
    pub(super) fn retire_group(&mut self, group: u32, now: Time, shell: &mut impl Shell) {
        self.retire_all(|pool| pool.settled(group), now, shell);
    }
}
