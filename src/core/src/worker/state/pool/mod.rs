//! The container pool: which containers exist, which are idle, which one a function takes, which one goes.
//!
//! Idle containers are in two intrusive lists: that of their function or app, most recently used first, which is where
//! a warm start looks; and that of all with the same keep-alive, longest idle first, whose head expires next. Both are
//! O(1), whatever the number of containers. The order of eviction is a heap, kept only where memory is limited.

mod check;

use super::container::{Candidate, Container, Key, Links, NONE, NewContainer, UNLINKED};
use super::expiries::Expiries;
use super::groups::Fit;
use super::ledger::Phase;
use crate::backend::Sandbox;
use crate::base::{ColdCause, Duration, Mem, Time};
use crate::worker::event::Fate;
use crate::worker::eviction::{Eviction, Idle};
use slab::Slab;
use std::collections::BinaryHeap;

/// Containers of one function, or of one app.
#[derive(Debug)]
pub(in crate::worker::state) struct Group {
    newest_idle: u32,
    /// Busy containers that can take another invocation at once.
    spare: Vec<Key>,
    /// Containers that are creating, running or cached.
    pub(in crate::worker::state) living: u32,
    /// Why the last one that is gone went.
    pub(in crate::worker::state) last_loss: Option<ColdCause>,
    /// Invocations since there was last no container.
    pub(in crate::worker::state) frequency: u64,
}

impl Group {
    const EMPTY: Group =
        Group { newest_idle: NONE, spare: Vec::new(), living: 0, last_loss: None, frequency: 0 };
}

/// Idle containers with one keep-alive, longest idle first.
#[derive(Debug)]
struct Class {
    keep_alive: Duration,
    oldest: u32,
    newest: u32,
}

/// See the module.
pub(in crate::worker::state) struct Pool {
    containers: Slab<Container>,
    groups: Vec<Group>,
    classes: Vec<Class>,
    /// Of those that are in no class.
    expiries: Expiries,
    eviction: Box<dyn Eviction>,
    /// Whether anything can ever be evicted.
    limited: bool,
    candidates: BinaryHeap<Candidate>,
    idle: usize,
    idle_memory: u64,
    sequence: u64,
    epochs: u64,
}

impl Pool {
    pub(in crate::worker::state) fn new(eviction: Box<dyn Eviction>, limited: bool) -> Pool {
        Pool {
            containers: Slab::new(),
            groups: Vec::new(),
            classes: Vec::new(),
            expiries: Expiries::default(),
            eviction,
            limited,
            candidates: BinaryHeap::new(),
            idle: 0,
            idle_memory: 0,
            sequence: 0,
            epochs: 0,
        }
    }

    /// A number that no spell of any container had before.
    #[inline]
    fn new_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    pub(in crate::worker::state) fn add_group(&mut self) -> u32 {
        self.groups.push(Group::EMPTY);
        self.groups.len() as u32 - 1
    }

    /// Whether a group has a container, whatever it does.
    pub(in crate::worker::state) fn has_any(&self, group: u32) -> bool {
        self.containers.iter().any(|(_, container)| container.group == group)
    }

    /// Forgets what is known of a group that has no container.
    pub(in crate::worker::state) fn clear_group(&mut self, group: u32) {
        debug_assert!(!self.has_any(group), "a container's group goes on");
        self.groups[group as usize] = Group::EMPTY;
    }

    pub(in crate::worker::state) fn group(&mut self, group: u32) -> &mut Group {
        &mut self.groups[group as usize]
    }

    /// Why a group needs a cold start now.
    pub(in crate::worker::state) fn cold_cause(&self, group: u32) -> ColdCause {
        let group = &self.groups[group as usize];
        if group.living > 0 { ColdCause::Concurrency } else { group.last_loss.unwrap_or(ColdCause::First) }
    }

    /// Adds a container that is being created.
    pub(in crate::worker::state) fn insert(&mut self, new: NewContainer) -> Key {
        let NewContainer { number, group, function, backend, memory, gpu, concurrency, keep_alive, nth } =
            new;
        self.groups[group as usize].living += 1;
        let class = keep_alive.map_or(NONE, |span| self.class_of(span));
        let epoch = self.new_epoch();
        Key(self.containers.insert(Container {
            number,
            group,
            function,
            backend,
            phase: Phase::Creating,
            prewarmed: false,
            in_flight: 0,
            concurrency,
            retired: false,
            nth,
            memory,
            charged: memory,
            gpu,
            sandbox: None,
            keep_alive: keep_alive.unwrap_or(Duration::MAX),
            idle_since: Time::ZERO,
            cold_start: Duration::ZERO,
            epoch,
            next_read: Time::MAX,
            working_set: Mem(0),
            reading: None,
            in_group: UNLINKED,
            in_class: UNLINKED,
            class,
        }) as u32)
    }

    /// The list of those that are kept so long.
    fn class_of(&mut self, keep_alive: Duration) -> u32 {
        let known = self.classes.iter().position(|c| c.keep_alive == keep_alive);
        known.unwrap_or_else(|| {
            self.classes.push(Class { keep_alive, oldest: NONE, newest: NONE });
            self.classes.len() - 1
        }) as u32
    }

    #[inline]
    pub(in crate::worker::state) fn get(&mut self, key: Key) -> &mut Container {
        &mut self.containers[key.0 as usize]
    }

    /// The number of a container, in order of creation; 0 if it is gone.
    #[inline(always)]
    pub(in crate::worker::state) fn number(&self, key: Key) -> u64 {
        self.containers.get(key.0 as usize).map_or(0, |c| c.number)
    }

    /// The container, if this is still the same spell of work.
    #[inline]
    pub(in crate::worker::state) fn in_epoch(&mut self, key: Key, epoch: u64) -> Option<&mut Container> {
        self.containers.get_mut(key.0 as usize).filter(|c| c.epoch == epoch && c.in_flight > 0)
    }

    /// Forgets a container that is gone.
    pub(in crate::worker::state) fn forget(&mut self, key: Key) -> Container {
        self.containers.remove(key.0 as usize)
    }

    /// The container that an invocation of this group takes, if it has what the function needs: a busy one with room, else
    /// the most recently used idle one whose keep-alive has not ended.
    #[inline]
    pub(in crate::worker::state) fn choose(&self, group: u32, fit: Fit, now: Time) -> Option<Key> {
        let fits = |c: &Container| fit.is_met_by(c.memory, c.gpu.map(|part| part.memory));
        let g = &self.groups[group as usize];
        let with_room = g.spare.iter().rev().find(|key| fits(&self.containers[key.0 as usize]));
        if let Some(key) = with_room {
            return Some(*key);
        }
        let mut at = g.newest_idle;
        // Only where functions of one app differ in keep-alive can an older one outlive the newest.
        while let Some(c) = self.containers.get(at as usize) {
            if now < c.idle_since + c.keep_alive && fits(c) {
                return Some(Key(at));
            }
            at = c.in_group.next;
        }
        None
    }

    /// Idle containers of a group that have less than one of it must have by now.
    pub(in crate::worker::state) fn outgrown(&self, group: u32, needs: Fit) -> Vec<Key> {
        let is = |c: &Container| {
            c.group == group
                && c.phase == Phase::Cached
                && !needs.is_met_by(c.memory, c.gpu.map(|part| part.memory))
        };
        self.containers.iter().filter(|(_, c)| is(c)).map(|(i, _)| Key(i as u32)).collect()
    }

    /// Gives an invocation to a container that [`choose`](Self::choose) named or that was just created.
    #[inline]
    pub(in crate::worker::state) fn occupy(&mut self, key: Key) {
        if self.containers[key.0 as usize].phase == Phase::Cached {
            self.unlink(key);
        }
        let c = &mut self.containers[key.0 as usize];
        c.in_flight += 1;
        // While it runs it is charged what is reserved for it.
        c.charged = c.memory;
        let g = &mut self.groups[c.group as usize];
        g.frequency += 1;
        if c.concurrency > 1 {
            if c.in_flight == 1 && c.in_flight < c.concurrency {
                g.spare.push(key);
            } else if c.in_flight == c.concurrency {
                g.spare.retain(|k| *k != key);
            }
        }
        c.phase = Phase::Running;
    }

    /// Keeps the only place of a container that is being created for the invocation for which it is.
    pub(in crate::worker::state) fn reserve(&mut self, key: Key) {
        let c = &mut self.containers[key.0 as usize];
        c.in_flight = 1;
        self.groups[c.group as usize].frequency += 1;
    }

    /// Lets the invocation that [`reserve`](Self::reserve) kept a place for enter, and others where there is room.
    pub(in crate::worker::state) fn open(&mut self, key: Key) {
        let c = &mut self.containers[key.0 as usize];
        c.phase = Phase::Running;
        if c.concurrency > 1 {
            self.groups[c.group as usize].spare.push(key);
        }
    }

    /// Takes an invocation from a container; true if it was the last one.
    #[inline]
    pub(in crate::worker::state) fn vacate(&mut self, key: Key) -> bool {
        let c = &mut self.containers[key.0 as usize];
        c.in_flight -= 1;
        if c.concurrency > 1 {
            let g = &mut self.groups[c.group as usize];
            if c.in_flight == 0 {
                g.spare.retain(|k| *k != key);
            } else if c.in_flight == c.concurrency - 1 && !c.retired {
                g.spare.push(key);
            }
        }
        c.in_flight == 0
    }

    /// No further invocation goes to this container.
    pub(in crate::worker::state) fn retire(&mut self, key: Key, fate: Fate) {
        let c = &self.containers[key.0 as usize];
        if c.phase == Phase::Cached {
            self.unlink(key);
        }
        let epoch = self.new_epoch();
        let c = &mut self.containers[key.0 as usize];
        c.epoch = epoch;
        c.retired = true;
        let g = &mut self.groups[c.group as usize];
        if c.concurrency > 1 {
            g.spare.retain(|k| *k != key);
        }
        g.living -= 1;
        g.last_loss = Some(fate.cause());
        if g.living == 0 {
            g.frequency = 0;
        }
    }

    /// Makes a container idle, charged with so much memory.
    #[inline]
    pub(in crate::worker::state) fn rest(&mut self, key: Key, charged: Mem, now: Time) {
        let epoch = self.new_epoch();
        let c = &mut self.containers[key.0 as usize];
        c.phase = Phase::Cached;
        c.charged = charged;
        c.next_read = Time::MAX;
        c.idle_since = now;
        c.epoch = epoch;
        let (group, class) = (c.group as usize, c.class as usize);
        let expires = c.idle_since + c.keep_alive;
        let newest = std::mem::replace(&mut self.groups[group].newest_idle, key.0);
        c.in_group = Links { prev: NONE, next: newest };
        self.idle += 1;
        self.idle_memory += charged.0;
        if class == NONE as usize {
            let containers = &self.containers;
            let is_idle = |key: Key, epoch| containers.get(key.0 as usize).is_some_and(|c| c.epoch == epoch);
            self.expiries.enter((expires, key, epoch), self.idle, is_idle);
        } else {
            let before = std::mem::replace(&mut self.classes[class].newest, key.0);
            c.in_class = Links { prev: before, next: NONE };
            match self.containers.get_mut(before as usize) {
                Some(older) => older.in_class.next = key.0,
                None => self.classes[class].oldest = key.0,
            }
        }
        if let Some(older) = self.containers.get_mut(newest as usize) {
            older.in_group.prev = key.0;
        }
        if self.limited {
            self.nominate(key);
        }
    }

    fn unlink(&mut self, key: Key) {
        let epoch = self.new_epoch();
        let c = &mut self.containers[key.0 as usize];
        let (group, class) = (c.group as usize, c.class as usize);
        let (in_group, in_class) = (c.in_group, c.in_class);
        c.in_group = UNLINKED;
        c.in_class = UNLINKED;
        c.epoch = epoch;
        self.idle -= 1;
        self.idle_memory -= c.charged.0;
        match self.containers.get_mut(in_group.prev as usize) {
            Some(prev) => prev.in_group.next = in_group.next,
            None => self.groups[group].newest_idle = in_group.next,
        }
        if let Some(next) = self.containers.get_mut(in_group.next as usize) {
            next.in_group.prev = in_group.prev;
        }
        if class == NONE as usize {
            return;
        }
        match self.containers.get_mut(in_class.prev as usize) {
            Some(prev) => prev.in_class.next = in_class.next,
            None => self.classes[class].oldest = in_class.next,
        }
        match self.containers.get_mut(in_class.next as usize) {
            Some(next) => next.in_class.prev = in_class.prev,
            None => self.classes[class].newest = in_class.prev,
        }
    }

    /// The idle container whose keep-alive ends first, and when.
    pub(in crate::worker::state) fn next_expiry(&mut self) -> Option<(Time, Key)> {
        let containers = &self.containers;
        let is_idle = |key: Key, epoch| containers.get(key.0 as usize).is_some_and(|c| c.epoch == epoch);
        // Later than 100 years is never.
        let own = self.expiries.first(is_idle).filter(|(at, _)| *at < Time::MAX);
        let listed = self
            .classes
            .iter()
            .filter(|c| c.keep_alive != Duration::MAX)
            .filter_map(|class| {
                let c = self.containers.get(class.oldest as usize)?;
                Some((c.idle_since + class.keep_alive, Key(class.oldest)))
            })
            .min_by_key(|(at, key)| (*at, key.0));
        [own, listed].into_iter().flatten().min_by_key(|(at, key)| (*at, key.0))
    }

    /// Begins a new spell of work in a container in which nobody is: what was due in the one before is not any more.
    pub(in crate::worker::state) fn begin_spell(&mut self, key: Key) {
        let epoch = self.new_epoch();
        let c = self.get(key);
        (c.epoch, c.next_read) = (epoch, Time::MAX);
    }

    /// Whether a container takes another invocation.
    pub(in crate::worker::state) fn has_room(&self, key: Key) -> bool {
        let c = &self.containers[key.0 as usize];
        !c.retired && c.in_flight < c.concurrency
    }

    /// Memory that eviction could free.
    pub(in crate::worker::state) fn evictable(&self) -> Mem {
        Mem(self.idle_memory)
    }

    /// Counts containers by backend and phase.
    pub(in crate::worker::state) fn count(&self, backends: &mut [[f64; Phase::ALL.len()]]) {
        for (_, c) in &self.containers {
            if let Some(phases) = backends.get_mut(usize::from(c.backend)) {
                phases[c.phase as usize] += 1.0;
            }
        }
    }

    /// Containers of a group that are cached or running, without those that go already.
    pub(in crate::worker::state) fn settled(&self, group: u32) -> Vec<Key> {
        let settled = |c: &Container| {
            c.group == group && !c.retired && matches!(c.phase, Phase::Cached | Phase::Running)
        };
        self.containers.iter().filter(|(_, c)| settled(c)).map(|(i, _)| Key(i as u32)).collect()
    }

    /// The container that its backend has under this name.
    pub(in crate::worker::state) fn find(&self, backend: u16, sandbox: Sandbox) -> Option<Key> {
        let is_it = |(_, c): &(usize, &Container)| c.backend == backend && c.sandbox == Some(sandbox);
        self.containers.iter().find(is_it).map(|(i, _)| Key(i as u32))
    }

    /// Idle containers.
    pub(in crate::worker::state) fn idle(&self) -> Vec<Key> {
        self.containers.iter().filter(|(_, c)| c.phase == Phase::Cached).map(|(i, _)| Key(i as u32)).collect()
    }

    /// The eviction policy.
    pub(in crate::worker::state) fn eviction(&mut self) -> &mut dyn Eviction {
        &mut *self.eviction
    }

    /// Asks the policy anew about every idle container.
    pub(in crate::worker::state) fn nominate_anew(&mut self) {
        if !self.limited {
            return;
        }
        self.candidates.clear();
        for key in self.idle() {
            self.nominate(key);
        }
    }

    fn idle_view(&self, key: Key) -> Idle {
        let c = &self.containers[key.0 as usize];
        Idle {
            function: c.function,
            memory: c.charged,
            since: c.idle_since,
            expires: c.idle_since + c.keep_alive,
            frequency: self.groups[c.group as usize].frequency,
            cold_start: c.cold_start,
        }
    }

    fn nominate(&mut self, key: Key) {
        let view = self.idle_view(key);
        let priority = self.eviction.priority(&view);
        let epoch = self.containers[key.0 as usize].epoch;
        self.sequence += 1;
        self.candidates.push(Candidate { priority, since: view.since, sequence: self.sequence, key, epoch });
        if self.candidates.len() > 2 * self.idle + 64 {
            let containers = &self.containers;
            self.candidates.retain(|c| containers.get(c.key.0 as usize).is_some_and(|k| k.epoch == c.epoch));
        }
    }

    /// Memory of this GPU that containers in this phase have.
    pub(in crate::worker::state) fn on_gpu(&self, gpu: u32, phase: Phase) -> Mem {
        let parts = self.containers.iter().filter(|(_, c)| c.phase == phase).filter_map(|(_, c)| c.gpu);
        Mem(parts.filter(|part| part.gpu == gpu).fold(0u64, |sum, part| sum.saturating_add(part.memory.0)))
    }

    /// The idle container that the policy lets go first, but for this one.
    pub(in crate::worker::state) fn victim(&mut self, but: Option<Key>) -> Option<Key> {
        self.victim_among(|key, _| Some(key) != but)
    }

    /// The idle container on one of these GPUs that the policy lets go first.
    pub(in crate::worker::state) fn victim_on(&mut self, gpus: &[u32]) -> Option<Key> {
        self.victim_among(|_, c| c.gpu.is_some_and(|part| gpus.contains(&part.gpu)))
    }

    fn victim_among(&mut self, wanted: impl Fn(Key, &Container) -> bool) -> Option<Key> {
        let mut others = Vec::new();
        let found = loop {
            let Some(mut candidate) = self.candidates.pop() else { break None };
            let Some(c) = self.containers.get(candidate.key.0 as usize) else { continue };
            if c.epoch != candidate.epoch || c.phase != Phase::Cached {
                continue;
            }
            if !wanted(candidate.key, c) {
                others.push(candidate);
                continue;
            }
            let view = self.idle_view(candidate.key);
            if self.eviction.rises() {
                let priority = self.eviction.priority(&view);
                if priority > candidate.priority {
                    candidate.priority = priority;
                    self.candidates.push(candidate);
                    continue;
                }
            }
            self.eviction.evicted(&view, candidate.priority);
            break Some(candidate.key);
        };
        self.candidates.extend(others);
        found
    }
}
