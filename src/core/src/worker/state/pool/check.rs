//! What must hold of the pool: its lists, its counts and its containers agree.

use super::super::container::{Container, Key, NONE};
use super::super::ledger::Phase;
use super::Pool;
use rustc_hash::{FxHashMap, FxHashSet};

impl Pool {
    /// Containers with their places.
    pub(in crate::worker::state) fn all(&self) -> impl Iterator<Item = (Key, &Container)> {
        self.containers.iter().map(|(i, c)| (Key(i as u32), c))
    }

    /// Containers that may be entered still: creating, running or cached.
    pub(in crate::worker::state) fn living(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.living)).sum()
    }

    /// What does not hold of it.
    pub(in crate::worker::state) fn broken(&self) -> Option<String> {
        self.all()
            .find_map(|(_, c)| broken(c))
            .or_else(|| self.broken_groups())
            .or_else(|| self.broken_lists())
    }

    fn broken_groups(&self) -> Option<String> {
        let mut living = vec![0u32; self.groups.len()];
        let mut roomy: FxHashSet<u32> = FxHashSet::default();
        for (key, c) in self.all() {
            living[c.group as usize] += u32::from(!c.retired);
            let has_room = c.phase == Phase::Running && !c.retired && c.in_flight > 0;
            if has_room && c.in_flight < c.concurrency {
                roomy.insert(key.0);
            }
        }
        for (number, (group, living)) in self.groups.iter().zip(living).enumerate() {
            if group.living != living {
                return Some(format!("group {number} counts {} containers and has {living}", group.living));
            }
            for key in &group.spare {
                if !roomy.remove(&key.0) {
                    return Some(format!("group {number} tells of room twice, or where there is none"));
                }
            }
        }
        let lost = roomy.into_iter().next()?;
        Some(format!(
            "container {} has room that its group does not know",
            self.containers[lost as usize].number
        ))
    }

    fn broken_lists(&self) -> Option<String> {
        let cached = || self.all().filter(|(_, c)| c.phase == Phase::Cached);
        let (count, memory) = cached().fold((0, 0), |(n, sum), (_, c)| (n + 1, sum + c.charged.0));
        if (self.idle, self.idle_memory) != (count, memory) {
            return Some(format!(
                "{} idle containers with {} bytes are counted, and there are {count} with {memory}",
                self.idle, self.idle_memory
            ));
        }
        // Each idle container stands once in the list of its group, newest first, and once where it expires.
        let mut of_group: FxHashSet<u32> = FxHashSet::default();
        for group in 0..self.groups.len() {
            let (mut at, mut before) = (self.groups[group].newest_idle, NONE);
            while let Some(c) = self.containers.get(at as usize) {
                let newer = self.containers.get(before as usize);
                let in_order = newer.is_none_or(|newer| newer.idle_since >= c.idle_since);
                let right =
                    c.phase == Phase::Cached && c.group as usize == group && c.in_group.prev == before;
                if !right || !in_order || !of_group.insert(at) {
                    return Some(format!(
                        "the idle list of group {group} is broken at container {}",
                        c.number
                    ));
                }
                (before, at) = (at, c.in_group.next);
            }
        }
        let mut of_class: FxHashSet<u32> = FxHashSet::default();
        for class in 0..self.classes.len() {
            let (mut at, mut before) = (self.classes[class].oldest, NONE);
            while let Some(c) = self.containers.get(at as usize) {
                let older = self.containers.get(before as usize);
                let in_order = older.is_none_or(|older| older.idle_since <= c.idle_since);
                let right =
                    c.phase == Phase::Cached && c.class as usize == class && c.in_class.prev == before;
                if !right || !in_order || !of_class.insert(at) {
                    return Some(format!("the expiries are out of order at container {}", c.number));
                }
                (before, at) = (at, c.in_class.next);
            }
        }
        let candidates: FxHashMap<u32, u64> = self.candidates.iter().map(|c| (c.key.0, c.epoch)).fold(
            FxHashMap::default(),
            |mut newest, (key, epoch)| {
                let known = newest.entry(key).or_insert(epoch);
                *known = epoch.max(*known);
                newest
            },
        );
        cached().find_map(|(key, c)| {
            let expires = c.class == NONE || of_class.contains(&key.0);
            let evictable = !self.limited || candidates.get(&key.0) == Some(&c.epoch);
            let listed = of_group.contains(&key.0) && expires && evictable;
            (!listed)
                .then(|| format!("idle container {} is in not all the lists that it belongs to", c.number))
        })
    }
}

/// What does not hold of a container by itself.
fn broken(c: &Container) -> Option<String> {
    let holds = match c.phase {
        Phase::Creating => c.in_flight <= 1 && !c.retired && c.charged == c.memory,
        Phase::Running => (1..=c.concurrency).contains(&c.in_flight) && c.charged == c.memory,
        Phase::Cached => c.in_flight == 0 && !c.retired && c.charged <= c.memory && c.sandbox.is_some(),
        Phase::Removing => c.in_flight == 0 && c.retired && c.charged <= c.memory,
    };
    (!holds).then(|| {
        format!(
            "container {} is {:?} with {} invocations of {}, retired: {}, charged {} of {}",
            c.number, c.phase, c.in_flight, c.concurrency, c.retired, c.charged, c.memory
        )
    })
}
