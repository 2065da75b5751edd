//! A monotone priority queue: base-64 radix buckets above a short sorted run.
//!
//! Keys never go below the last one popped, which is what makes a radix queue possible (Ahuja, Mehlhorn, Orlin and
//! Tarjan, 1990). An entry sits in the bucket named by the highest base-64 digit in which its key differs from `base`.
//! When the sorted run at the bottom is used up, the lowest bucket becomes the new run if it is short, and is dealt
//! out over lower levels if it is long. Entries are only ever appended, so equal keys stay in order of insertion
//! without sequence numbers.

/// A key and the timer it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

const LEVELS: usize = 11;
/// A bucket of at most this many entries is sorted into the bottom run at once. Few timers: a short run is cheap to
/// insert into. Many: a long one pays for dealing out its bucket, and lets the next timers be prefetched.
const SHORT_RUN: usize = 64;
const LONG_RUN: usize = 512;
/// Timers from which on they are many.
const MANY: usize = 16_384;

#[derive(Debug)]
struct Level {
    occupied: u64,
    buckets: [Vec<Entry>; 64],
}

/// The queue. `pop` returns entries by (key, order of insertion).
#[derive(Debug)]
pub(super) struct RadixQueue {
    /// Ascending; `read` is the next to pop.
    run: Vec<Entry>,
    read: usize,
    /// Keys below this belong into the run.
    run_end: u64,
    /// Buckets are named relative to this key; no key in them is below it.
    base: u64,
    /// The last key popped.
    floor: u64,
    levels: Box<[Level; LEVELS]>,
    len: usize,
}

impl RadixQueue {
    pub(super) fn new() -> RadixQueue {
        let level = || Level { occupied: 0, buckets: std::array::from_fn(|_| Vec::new()) };
        RadixQueue {
            run: Vec::new(),
            read: 0,
            run_end: 0,
            base: 0,
            floor: 0,
            levels: Box::new(std::array::from_fn(|_| level())),
            len: 0,
        }
    }

    /// Entries in the queue, cancelled ones included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry, behind all that have the same key. `entry.key` must not be below the last key popped.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        self.len += 1;
        if entry.key < self.run_end {
            self.push_run(entry);
        } else {
            self.push_bucket(entry);
        }
    }

    #[inline]
    fn push_bucket(&mut self, entry: Entry) {
        let differs = entry.key ^ self.base;
        let level = ((63 - (differs | 1).leading_zeros()) / 6) as usize;
        let digit = ((entry.key >> (6 * level)) & 63) as usize;
        let level = &mut self.levels[level];
        level.occupied |= 1 << digit;
        level.buckets[digit].push(entry);
    }

    fn push_run(&mut self, entry: Entry) {
        // A run that is always refilled before its end would keep all it ever held.
        if self.read >= SHORT_RUN && 2 * self.read >= self.run.len() {
            self.run.drain(..self.read);
            self.read = 0;
        }
        let at = self.read + self.run[self.read..].partition_point(|e| e.key <= entry.key);
        self.run.insert(at, entry);
        if self.run.len() - self.read > 2 * LONG_RUN {
            self.spill();
        }
    }

    /// Gives the upper half of the run back to the buckets; equal keys stay together.
    #[cold]
    fn spill(&mut self) {
        let middle = self.read + (self.run.len() - self.read) / 2;
        let split = self.run[middle].key;
        if split < self.base {
            return self.rebase();
        }
        let cut = self.read + self.run[self.read..].partition_point(|e| e.key < split);
        if cut == self.read {
            return;
        }
        self.run_end = split;
        for entry in self.run.split_off(cut) {
            self.push_bucket(entry);
        }
        self.run.drain(..self.read);
        self.read = 0;
    }

    /// Names the buckets anew, from the last key popped: a look far ahead was followed by nearer pushes.
    #[cold]
    fn rebase(&mut self) {
        let differs = self.base ^ self.floor;
        let top = ((63 - (differs | 1).leading_zeros()) / 6) as usize;
        let mut entries = self.run.split_off(self.read);
        for level in &mut self.levels[..=top] {
            level.occupied = 0;
            level.buckets.iter_mut().for_each(|b| entries.append(b));
        }
        self.run.clear();
        self.read = 0;
        self.base = self.floor;
        self.run_end = self.floor;
        for entry in entries {
            self.push_bucket(entry);
        }
    }

    /// The next entry, without taking it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<Entry> {
        if self.read == self.run.len() && !self.refill() {
            return None;
        }
        Some(self.run[self.read])
    }

    /// Takes the entry that [`peek`](Self::peek) showed.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.floor = self.run[self.read].key;
        self.read += 1;
        self.len -= 1;
    }

    /// Drops the entry that [`peek`](Self::peek) showed, as if it had never been there: keys below it may still come.
    pub(super) fn skip(&mut self) {
        self.read += 1;
        self.len -= 1;
    }

    /// An entry that will be popped `ahead` pops from now, if it is already sorted: a hint for prefetching.
    #[inline]
    pub(super) fn glimpse(&self, ahead: usize) -> Option<&Entry> {
        self.run.get(self.read + ahead)
    }

    /// Sorts the lowest bucket into the run. False if there is none.
    #[cold]
    fn refill(&mut self) -> bool {
        self.run.clear();
        self.read = 0;
        let longest = if self.len > MANY { LONG_RUN } else { SHORT_RUN };
        loop {
            let Some(l) = self.levels.iter().position(|level| level.occupied != 0) else {
                return false;
            };
            let digit = self.levels[l].occupied.trailing_zeros() as usize;
            self.levels[l].occupied &= !(1 << digit);
            let shift = 6 * l as u32;
            let above = shift + 6;
            let high = if above >= 64 { 0 } else { self.base >> above << above };
            self.base = high | (digit as u64) << shift;
            let bucket = &mut self.levels[l].buckets[digit];
            if bucket.len() <= longest || l == 0 {
                std::mem::swap(&mut self.run, bucket);
                self.run.sort_by_key(|e| e.key);
                self.run_end = self.base.saturating_add(1 << shift);
                return true;
            }
            let mut dealt = std::mem::take(bucket);
            for entry in dealt.drain(..) {
                self.push_bucket(entry);
            }
            // The emptied vector keeps no capacity: a bucket that was long once would hold its memory for ever.
        }
    }

    /// Drops every entry for which `keep` is false.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.run.drain(..self.read);
        self.read = 0;
        self.run.retain(&mut keep);
        let mut len = self.run.len();
        for level in self.levels.iter_mut() {
            for (digit, bucket) in level.buckets.iter_mut().enumerate() {
                bucket.retain(&mut keep);
                if bucket.is_empty() {
                    level.occupied &= !(1 << digit);
                    *bucket = Vec::new();
                }
                len += bucket.len();
            }
        }
        self.len = len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A step of a history: push this far beyond the last key popped, or pop this many.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Pop(usize),
        Peek,
        DropOdd,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let distance = prop_oneof![
            Just(0u64),
            0..4u64,
            0..200u64,
            0..100_000u64,
            0..10_000_000_000u64,
            Just(1 << 40),
            0..(1u64 << 61)
        ];
        let step = prop_oneof![
            6 => distance.prop_map(Step::Push),
            3 => (1..8usize).prop_map(Step::Pop),
            1 => Just(Step::Peek),
            1 => Just(Step::DropOdd),
        ];
        prop::collection::vec(step, 1..3000)
    }

    fn agree(history: &[Step]) {
        let mut queue = RadixQueue::new();
        let mut model: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        let (mut last, mut sequence) = (0u64, 0u64);
        let pop = |queue: &mut RadixQueue, model: &mut BTreeMap<(u64, u64), u32>| {
            let got = queue.peek();
            if got.is_some() {
                queue.advance();
            }
            let want = model.pop_first();
            assert_eq!(got.map(|e| (e.key, e.slot)), want.map(|((k, _), s)| (k, s)));
            got.map(|e| e.key)
        };
        for step in history {
            match step {
                Step::Push(distance) => {
                    let key = last.saturating_add(*distance).min(u64::MAX - 1);
                    queue.push(Entry { key, slot: sequence as u32, generation: 0 });
                    model.insert((key, sequence), sequence as u32);
                    sequence += 1;
                }
                Step::Pop(n) => {
                    for _ in 0..*n {
                        last = pop(&mut queue, &mut model).unwrap_or(last);
                    }
                }
                Step::Peek => {
                    let want = model.first_key_value().map(|((k, _), s)| (*k, *s));
                    assert_eq!(queue.peek().map(|e| (e.key, e.slot)), want);
                }
                Step::DropOdd => {
                    queue.retain(|e| e.slot % 2 == 0);
                    model.retain(|_, slot| *slot % 2 == 0);
                }
            }
            assert_eq!(queue.len(), model.len());
        }
        while pop(&mut queue, &mut model).is_some() {}
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 200 }))]
        #[test]
        fn it_pops_what_a_sorted_map_pops(history in steps()) {
            agree(&history);
        }
    }

    #[test]
    fn long_runs_spill_and_long_buckets_are_dealt_out() {
        let mut history: Vec<Step> = (0..5000).map(|i| Step::Push(i * 7919 % 100_003)).collect();
        history.push(Step::Pop(1));
        history.extend((0..5000).map(|i| Step::Push(i * 31 % 50)));
        history.push(Step::Pop(9000));
        history.extend((0..3000).map(|_| Step::Push(5)));
        agree(&history);
    }

    #[test]
    fn a_look_far_ahead_does_not_spoil_nearer_pushes() {
        let mut history = vec![Step::Push(1 << 40), Step::Push(1 << 41), Step::Peek];
        history.extend((0..5000).map(|i| Step::Push(i * 7919 % 100_003)));
        history.extend([Step::Peek, Step::Pop(2000), Step::Push(1 << 20), Step::Pop(10)]);
        agree(&history);
    }
}
