//! GPUs of a worker: which container has how much of which.
//!
//! A container has its part from the moment its creation begins until its removal is confirmed, as with memory. Where the
//! worker says how much memory a GPU has, several containers share one; a container that names no amount has one alone.

use crate::base::Mem;

/// A container's part of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which, numbered from 0.
    pub(super) gpu: u32,
    pub(super) memory: Mem,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Gpus {
    each: Mem,
    free: Vec<Mem>,
}

impl Gpus {
    /// So many, each with this memory.
    pub(super) fn new(count: u32, each: Mem) -> Gpus {
        Gpus { each, free: vec![each; count as usize] }
    }

    pub(super) fn count(&self) -> usize {
        self.free.len()
    }

    /// What a container needs that names this much, or nothing.
    pub(super) fn need(&self, named: Option<Mem>) -> Mem {
        named.unwrap_or(self.each)
    }

    /// The memory of each.
    pub(super) fn each(&self) -> Mem {
        self.each
    }

    /// The lowest number that has so much free, if as much as `coming` tells is added to what each has.
    pub(super) fn find(&self, need: Mem, coming: impl Fn(u32) -> Mem) -> Option<u32> {
        (0u32..)
            .zip(&self.free)
            .find(|(gpu, free)| free.0.saturating_add(coming(*gpu).0) >= need.0)
            .map(|f| f.0)
    }

    /// Takes so much of this one; the caller has seen to it that it is free.
    pub(super) fn take(&mut self, gpu: u32, memory: Mem) -> Part {
        if let Some(free) = self.free.get_mut(gpu as usize) {
            free.0 = free.0.saturating_sub(memory.0);
        }
        Part { gpu, memory }
    }

    /// Whether this one has so much free.
    pub(super) fn has(&self, gpu: u32, memory: Mem) -> bool {
        self.free.get(gpu as usize).is_some_and(|free| *free >= memory)
    }

    /// What of this one is free.
    pub(super) fn free(&self, gpu: u32) -> Mem {
        self.free.get(gpu as usize).copied().unwrap_or_default()
    }

    /// A part comes back.
    pub(super) fn give(&mut self, part: Part) {
        if let Some(free) = self.free.get_mut(part.gpu as usize) {
            free.0 = (free.0 + part.memory.0).min(self.each.0);
        }
    }
}
