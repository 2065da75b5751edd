//! Wakers of the virtual-time executor: one word each, so that cloning and dropping costs nothing.
//!
//! Waking looks the runtime up in this thread and checks the generation: a stale waker wakes nobody, and one in a
//! foreign thread is refused loudly instead of corrupting a single-threaded run.

use super::context;
use std::task::{RawWaker, RawWakerVTable, Waker};

const GENERATION_BITS: u32 = 19;
const RUNTIME_SHIFT: u32 = 32 + GENERATION_BITS;

/// A waker's data: runtime (12 bits), generation (19) and index (32). Bit 63 is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Whether a slot of this generation is the one that the word was made for.
    #[inline]
    pub(super) fn is_of(self, generation: u32) -> bool {
        generation & ((1 << GENERATION_BITS) - 1) == self.generation()
    }

    pub(super) fn new(runtime: u16, generation: u32, index: u32) -> Word {
        Word(
            u64::from(runtime & 0xfff) << RUNTIME_SHIFT
                | u64::from(generation & ((1 << GENERATION_BITS) - 1)) << 32
                | u64::from(index),
        )
    }
    pub(super) fn runtime(self) -> u16 {
        (self.0 >> RUNTIME_SHIFT) as u16 & 0xfff
    }
    pub(super) fn index(self) -> u32 {
        self.0 as u32
    }
    fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    /// The word in a waker, if the waker is one of ours.
    #[inline]
    pub(super) fn of(waker: &Waker) -> Option<Word> {
        std::ptr::eq(waker.vtable(), &VTABLE).then(|| Word(waker.data() as usize as u64))
    }

    /// A waker for this task. Dropping it is a no-op, so forgetting to is too.
    #[inline]
    pub(super) fn waker(self) -> Waker {
        // SAFETY: the vtable's functions take the data as a number, never as an address, so every contract of
        // RawWaker about clone, wake and drop holds trivially and in every thread.
        unsafe { Waker::from_raw(RawWaker::new(self.0 as usize as *const (), &VTABLE)) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    |data| context::wake(Word(data as usize as u64)),
    |data| context::wake(Word(data as usize as u64)),
    |_| {},
);
