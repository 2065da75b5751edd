//! When idle containers expire whose keep-alive a policy has said: each its own span.

use super::container::Key;
use crate::base::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Instants at which containers expire, earliest first, with the epoch in which each became idle: one that has not been idle since is
/// passed over.
#[derive(Default)]
pub(super) struct Expiries(BinaryHeap<Reverse<(Time, u32, u64)>>);

impl Expiries {
    /// Enters a container; `idle` is how many there are, and `is_idle` tells those that are entered still.
    pub(super) fn enter(
        &mut self,
        (at, key, epoch): (Time, Key, u64),
        idle: usize,
        is_idle: impl Fn(Key, u64) -> bool,
    ) {
        self.0.push(Reverse((at, key.0, epoch)));
        // Those that have been called meanwhile are half of it at most.
        if self.0.len() > 2 * idle + 64 {
            self.0.retain(|Reverse((_, key, epoch))| is_idle(Key(*key), *epoch));
        }
    }

    /// The first to expire of those that are idle still.
    pub(super) fn first(&mut self, is_idle: impl Fn(Key, u64) -> bool) -> Option<(Time, Key)> {
        while let Some(Reverse((at, key, epoch))) = self.0.peek().copied() {
            if is_idle(Key(key), epoch) {
                return Some((at, Key(key)));
            }
            self.0.pop();
        }
        None
    }
}
