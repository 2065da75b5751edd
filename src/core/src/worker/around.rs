//! What the state of a worker asks of the tasks around it.

use super::Inner;
use super::state::{Key, LoopDue, Shell};
use crate::backend::{Sandbox, Work};
use crate::base::{FunctionId, Mem, Time};
use crate::rt;
use std::rc::Rc;

/// The tasks, the backends and the loops of a worker.
pub(super) struct Around<'a>(pub(super) &'a Rc<Inner>);

impl Shell for Around<'_> {
    fn remove(&mut self, container: Key, backend: u16, sandbox: Sandbox) -> bool {
        let work = self.0.backends[usize::from(backend)].remove(sandbox);
        if matches!(work, Work::Ready(_)) {
            return true;
        }
        let inner = Rc::clone(self.0);
        rt::spawn_detached(async move {
            work.await;
            inner.removed(container);
        });
        false
    }

    #[inline]
    fn read(&mut self, backend: u16, sandbox: Sandbox) -> Option<Mem> {
        self.0.backends[usize::from(backend)].memory(sandbox)
    }

    #[inline]
    fn look_by(&mut self, what: LoopDue, at: Time) {
        let alarms = &self.0.alarms;
        match what {
            LoopDue::Expiry => alarms.reaper.ring_by(at),
            LoopDue::Reading => alarms.memory.ring_by(at),
            LoopDue::Deadline => alarms.queue.ring_by(at),
        }
    }

    fn create_again(&mut self, function: FunctionId, group: u32) {
        self.0.create_again(function, group);
    }
}
