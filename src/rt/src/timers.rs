//! Timers: the queue of deadlines, and for each one whom to wake. Both arms use it; only what drives it differs.
//!
//! A timer's key is its deadline and, below it, its [`Class`], so that one queue orders both. A cancelled timer leaves
//! its entry behind, which is recognised by its generation and swept when the dead outnumber the living. A timer that
//! makes a call ([`super::calls`]) is its entry and nothing else: it is never taken back, so it needs no slot.

use super::queue::{Entry, RadixQueue};
use crate::clock::Time;
use slab::Slab;
use std::collections::VecDeque;
use std::task::Waker;

/// Which timers go first among those of one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Completions, expirations and whatever else a run is made of.
    #[default]
    Event = 0,
    /// Deadlines of what waits: they come when everything has ended that ends at their instant.
    Deadline = 1,
    /// Ticks of policies and metrics: they see an instant when its events are over.
    Tick = 2,
    /// Arrivals: last, so that reading ahead in a trace changes nothing.
    Arrival = 3,
}

impl Class {
    fn from_key(key: u64) -> Class {
        match key & 3 {
            0 => Class::Event,
            1 => Class::Deadline,
            2 => Class::Tick,
            _ => Class::Arrival,
        }
    }
}

/// Whom a timer wakes: a task of this runtime by its word, or a foreign waker (`join!`, `FuturesUnordered`, tokio); or
/// the call it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sleeper {
    Task(u64),
    Foreign(usize),
    Call { handler: u32, token: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// A task's word, or `FOREIGN` and the number of a foreign waker; free slots hold the next free one.
    word: u64,
    generation: u32,
}

const FOREIGN: u64 = 1 << 63;
/// In the place of a slot's generation: the entry is a call, of the handler named by the bits below.
const CALL: u32 = 1 << 31;
const NO_SLOT: u32 = u32::MAX;

/// Names a registered timer. It is stale once the timer fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerId {
    slot: u32,
    generation: u32,
}

/// Counts since the runtime began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimerCounts {
    pub(super) fires: u64,
    pub(super) cancels: u64,
    pub(super) sweeps: u64,
    pub(super) longest: usize,
}

#[derive(Debug)]
pub(super) struct Timers {
    queue: RadixQueue,
    /// Deadlines that are not in the future: they fire at the present instant, before anything in the queue.
    due: VecDeque<Entry>,
    slots: Vec<Slot>,
    free: u32,
    foreign: Slab<Waker>,
    dead: usize,
    /// Living timers that are no ticks.
    beside_ticks: usize,
    last_key: u64,
    pub(super) counts: TimerCounts,
}

/// The queue key of a deadline.
#[inline]
pub(super) fn key(at: Time, class: Class) -> u64 {
    (at.0.min(Time::MAX.0) << 2) | class as u64
}

/// What fires next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fired {
    pub(super) at: Time,
    pub(super) class: Class,
    pub(super) sleeper: Sleeper,
}

impl Timers {
    pub(super) fn new() -> Timers {
        Timers {
            queue: RadixQueue::new(),
            due: VecDeque::new(),
            slots: Vec::new(),
            free: NO_SLOT,
            foreign: Slab::new(),
            dead: 0,
            beside_ticks: 0,
            last_key: 0,
            counts: TimerCounts::default(),
        }
    }

    /// Registers a timer that wakes `sleeper` at `at`, or as the next thing if `at` is not in the future.
    #[inline]
    pub(super) fn insert(&mut self, at: Time, class: Class, word: u64) -> TimerId {
        let slot = self.allocate(word);
        let generation = self.slots[slot as usize].generation;
        self.push(Entry { key: key(at, class), slot, generation }, class);
        TimerId { slot, generation }
    }

    /// Registers a call of a handler at `at`, or as the next thing if `at` is not in the future.
    #[inline]
    pub(super) fn insert_call(&mut self, at: Time, class: Class, handler: u32, token: u32) {
        self.push(Entry { key: key(at, class), slot: token, generation: CALL | handler }, class);
    }

    #[inline]
    fn push(&mut self, mut entry: Entry, class: Class) {
        self.beside_ticks += usize::from(class != Class::Tick);
        if entry.key < self.last_key {
            entry.key = self.last_key & !3 | class as u64;
            if entry.key < self.last_key {
                self.due.push_back(entry);
                return;
            }
        }
        self.queue.push(entry);
        self.counts.longest = self.counts.longest.max(self.queue.len());
    }

    /// Registers a timer for a waker that is not a task of this runtime.
    pub(super) fn insert_foreign(&mut self, at: Time, class: Class, waker: Waker) -> TimerId {
        let number = self.foreign.insert(waker);
        self.insert(at, class, FOREIGN | number as u64)
    }

    #[inline]
    fn allocate(&mut self, word: u64) -> u32 {
        if self.free == NO_SLOT {
            let slot = self.slots.len() as u32;
            self.slots.push(Slot { word, generation: 0 });
            slot
        } else {
            let slot = self.free;
            let s = &mut self.slots[slot as usize];
            self.free = s.word as u32;
            s.word = word;
            slot
        }
    }

    #[inline]
    fn release(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.generation = s.generation.wrapping_add(1) & !CALL;
        s.word = u64::from(self.free);
        self.free = slot;
    }

    /// Whether the timer has neither fired nor been cancelled.
    #[inline]
    pub(super) fn is_pending(&self, id: TimerId) -> bool {
        self.slots[id.slot as usize].generation == id.generation
    }

    /// Whether no timer is set but ticks.
    pub(super) fn only_ticks(&self) -> bool {
        self.beside_ticks == 0
    }

    /// Wakes another task from now on. The foreign waker in its place, if there was one, is to be dropped when nothing is
    /// borrowed.
    #[must_use]
    pub(super) fn set_task(&mut self, id: TimerId, word: u64) -> Option<Waker> {
        let old = std::mem::replace(&mut self.slots[id.slot as usize].word, word);
        self.foreign_of(old)
    }

    /// Whether a timer wakes what this foreign waker wakes.
    pub(super) fn wakes(&self, id: TimerId, waker: &Waker) -> bool {
        let word = self.slots[id.slot as usize].word;
        word & FOREIGN != 0 && self.foreign[(word & !FOREIGN) as usize].will_wake(waker)
    }

    /// Wakes another foreign waker from now on; the one in its place is to be dropped when nothing is borrowed.
    #[must_use]
    pub(super) fn set_foreign(&mut self, id: TimerId, waker: Waker) -> Option<Waker> {
        let word = FOREIGN | self.foreign.insert(waker) as u64;
        self.set_task(id, word)
    }

    /// Takes out the foreign waker that a slot's word names.
    #[inline]
    fn foreign_of(&mut self, word: u64) -> Option<Waker> {
        (word & FOREIGN != 0).then(|| self.foreign.remove((word & !FOREIGN) as usize))
    }

    /// Takes a timer back: it never fires, never wakes, never moves the clock. Its foreign waker, if it had one, is to be
    /// dropped when nothing is borrowed.
    #[inline]
    #[must_use]
    pub(super) fn cancel(&mut self, id: TimerId, class: Class) -> Option<Waker> {
        if !self.is_pending(id) {
            return None;
        }
        let waker = self.foreign_of(self.slots[id.slot as usize].word);
        self.beside_ticks -= usize::from(class != Class::Tick);
        self.release(id.slot);
        self.dead += 1;
        self.counts.cancels += 1;
        if self.dead > 1024 && self.dead > self.queue.len() / 2 {
            self.sweep();
        }
        waker
    }

    #[cold]
    fn sweep(&mut self) {
        let slots = &self.slots;
        self.queue.retain(|e| is_live(slots, e));
        self.due.retain(|e| is_live(slots, e));
        self.dead = 0;
        self.counts.sweeps += 1;
    }

    /// The deadline of the next living timer; a `due` one is told as the instant of the last that fired.
    pub(super) fn next_deadline(&mut self) -> Option<Time> {
        while let Some(entry) = self.due.front().copied() {
            if is_live(&self.slots, &entry) {
                return Some(Time(self.last_key >> 2));
            }
            self.due.pop_front();
            self.dead = self.dead.saturating_sub(1);
        }
        while let Some(entry) = self.queue.peek() {
            if is_live(&self.slots, &entry) {
                return Some(Time(entry.key >> 2));
            }
            self.queue.skip();
            self.dead = self.dead.saturating_sub(1);
        }
        None
    }

    /// Takes the next living timer whose [`key`] is not above `limit`.
    #[inline]
    pub(super) fn pop(&mut self, limit: u64) -> Option<Fired> {
        loop {
            let entry = if let Some(entry) = self.due.pop_front() {
                entry
            } else {
                let entry = self.queue.peek()?;
                if entry.key > limit {
                    // A dead entry must not hide that nothing is due, nor a living one behind it.
                    if is_live(&self.slots, &entry) {
                        return None;
                    }
                } else if let Some(next) = self.queue.glimpse(12) {
                    prefetch(&self.slots, next.slot as usize);
                }
                if is_live(&self.slots, &entry) {
                    self.queue.advance();
                } else {
                    self.queue.skip();
                }
                entry
            };
            let sleeper = if entry.generation & CALL != 0 {
                Sleeper::Call { handler: entry.generation & !CALL, token: entry.slot }
            } else {
                let slot = self.slots[entry.slot as usize];
                if slot.generation != entry.generation {
                    self.dead = self.dead.saturating_sub(1);
                    continue;
                }
                self.release(entry.slot);
                if slot.word & FOREIGN == 0 {
                    Sleeper::Task(slot.word)
                } else {
                    Sleeper::Foreign((slot.word & !FOREIGN) as usize)
                }
            };
            self.last_key = self.last_key.max(entry.key);
            self.counts.fires += 1;
            let class = Class::from_key(entry.key);
            self.beside_ticks -= usize::from(class != Class::Tick);
            return Some(Fired { at: Time(self.last_key >> 2), class, sleeper });
        }
    }

    /// The task that a timer about to fire will wake: a hint for prefetching.
    #[inline]
    pub(super) fn glimpse(&self, ahead: usize) -> Option<u64> {
        let entry = self.queue.glimpse(ahead).filter(|e| e.generation & CALL == 0)?;
        self.slots.get(entry.slot as usize).map(|s| s.word).filter(|w| w & FOREIGN == 0)
    }

    /// Takes out a foreign waker named by [`Sleeper::Foreign`].
    pub(super) fn take_foreign(&mut self, number: usize) -> Waker {
        self.foreign.remove(number)
    }

    /// Declares that the clock was moved without a timer: deadlines with a lower [`key`] are past from here on.
    #[inline]
    pub(super) fn move_to(&mut self, key: u64) {
        self.last_key = self.last_key.max(key);
    }
}

/// Whether the timer of an entry was not cancelled.
#[inline]
fn is_live(slots: &[Slot], entry: &Entry) -> bool {
    entry.generation & CALL != 0 || slots[entry.slot as usize].generation == entry.generation
}

/// Asks the processor to fetch `items[i]`, which will be needed soon. A hint: it is never wrong to leave it out.
#[inline]
pub(super) fn prefetch<T>(items: &[T], i: usize) {
    if let Some(item) = items.get(i) {
        prefetch_at(std::ptr::from_ref(item).cast());
    }
}

/// Asks the processor to fetch an address.
#[inline]
pub(super) fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can observe and does not fault, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
