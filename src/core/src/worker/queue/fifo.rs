//! First come, first served. Strict (`fifo`): the head waits for what it needs, and all behind it wait too. Skipping
//! (`fifo-skip`): one that can be dispatched passes one that cannot, as OpenWhisk's per-action queues let it.

use super::{Joining, QueuePolicy};

pub(super) struct Fifo {
    pub(super) skips: bool,
}

impl QueuePolicy for Fifo {
    fn name(&self) -> &str {
        if self.skips { "fifo-skip" } else { "fifo" }
    }

    /// All alike: ties go by order of joining.
    fn rank(&mut self, _joining: &Joining) -> f64 {
        0.0
    }

    fn skips(&self) -> bool {
        self.skips
    }
}
