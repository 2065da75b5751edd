//! The trail of a run: a rolling hash over every poll and fire, with hashes kept along the way, and a way to find the
//! first event in which two runs differ.

use std::ops::Range;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A task was polled.
    Poll = 0,
    /// A timer of an ordinary event fired.
    FireEvent = 1,
    /// A tick's timer fired.
    FireTick = 2,
    /// An arrival's timer fired, or the next of a stream came.
    FireArrival = 3,
    /// A call was made; its token stands in place of a task.
    Call = 4,
}

/// A poll or a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the run, from 1.
    pub number: u64,
    /// Virtual time in ns.
    pub at_ns: u64,
    /// The task's slot; `u32::MAX` for a waker that is not a task's.
    pub task: u32,
    /// What happened.
    pub kind: Kind,
}

/// The hash after some number of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Events covered.
    pub events: u64,
    /// Hash over them.
    pub hash: u64,
}

/// Hashes along a run, and the events that were watched.
#[derive(Clone, Debug)]
pub struct Trail {
    hash: u64,
    events: u64,
    stride: u64,
    marks: Vec<Mark>,
    watch: Range<u64>,
    watched: Vec<Event>,
}

const MARKS: usize = 1024;

/// The rolling hash after one more event.
#[inline]
pub(super) fn rolled(hash: u64, at_ns: u64, task: u32, kind: Kind) -> u64 {
    let word = at_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(task) << 3 | kind as u64);
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

impl Trail {
    pub(super) fn new(watch: Range<u64>) -> Trail {
        Trail { hash: 0, events: 0, stride: 1, marks: Vec::new(), watch, watched: Vec::new() }
    }

    /// Keeps what is wanted of the event with this number, and says at which event to call again.
    #[cold]
    pub(super) fn keep(&mut self, event: Event, hash: u64) -> u64 {
        (self.events, self.hash) = (event.number, hash);
        if event.number.is_multiple_of(self.stride) {
            self.marks.push(Mark { events: event.number, hash });
            if self.marks.len() == MARKS {
                self.stride *= 2;
                self.marks.retain(|m| m.events.is_multiple_of(self.stride));
            }
        }
        if self.watch.contains(&event.number) {
            self.watched.push(event);
        }
        let next_mark = (event.number / self.stride + 1) * self.stride;
        let next_watched = (event.number + 1).max(self.watch.start);
        if next_watched < self.watch.end { next_mark.min(next_watched) } else { next_mark }
    }

    /// Brings the totals up to date.
    pub(super) fn settle(&mut self, events: u64, hash: u64) {
        (self.events, self.hash) = (events, hash);
    }

    /// The hash over all events.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The events that were watched.
    pub fn watched(&self) -> &[Event] {
        &self.watched
    }

    /// The events among which the first difference to `other` lies; `None` if the two runs are equal.
    pub fn differs_within(&self, other: &Trail) -> Option<Range<u64>> {
        if self.events == other.events && self.hash == other.hash {
            return None;
        }
        let theirs: rustc_hash::FxHashMap<u64, u64> =
            other.marks.iter().map(|m| (m.events, m.hash)).collect();
        let (mut low, mut high) = (0, self.events.max(other.events));
        for mark in &self.marks {
            match theirs.get(&mark.events) {
                Some(hash) if *hash == mark.hash => low = mark.events,
                Some(_) => {
                    high = mark.events;
                    break;
                }
                None => {}
            }
        }
        Some(low + 1..high + 1)
    }
}

/// The first event in which two runs differ; `None` on the side that ended before it.
pub type Divergence = (Option<Event>, Option<Event>);

/// Finds the first event in which two runs differ. Each run is made twice: once for its hashes, once watched.
pub fn first_divergence(
    mut a: impl FnMut(Range<u64>) -> Trail,
    mut b: impl FnMut(Range<u64>) -> Trail,
) -> Option<Divergence> {
    let window = a(0..0).differs_within(&b(0..0))?;
    let (a, b) = (a(window.clone()), b(window));
    let longest = a.watched.len().max(b.watched.len());
    (0..longest).map(|i| (a.watched.get(i).copied(), b.watched.get(i).copied())).find(|(a, b)| a != b)
}
