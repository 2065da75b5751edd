//! Room for containers: the memory and the GPU that a new one takes, and what goes to make them free.

use super::container::{Fate, Key, NewContainer};
use super::groups::Fit;
use super::ledger::Phase;
use super::state::{Dispose, State};
use crate::base::{FunctionId, Mem, Time};

/// What a look for a GPU came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gpu {
    /// This one has so much free.
    Free(u32, Mem),
    /// One will have it when removals that are under way are over.
    Coming,
    /// None has it, and none can be made to.
    None,
}

impl State {
    /// Whether an invocation could be dispatched now if nobody was before it. Nothing is changed.
    pub(super) fn could_dispatch(&self, function: FunctionId, now: Time) -> bool {
        let f = &self.functions[function.index()];
        if !self.cpus_free(f.spec.cpus) {
            return false;
        }
        if self.pool.choose(f.group, f.fit, now).is_some() {
            return true;
        }
        let limit = self.config.max_creating;
        let needs = self.groups.needs(f.group);
        (limit == 0 || self.ledger.count(Phase::Creating) < limit)
            && needs.gpu.is_none_or(|need| self.gpus.find(need, |_| Mem(0)).is_some())
            && self.ledger.free() + self.pool.evictable() >= needs.memory
    }

    /// Charges a cached container what it reserves again, as it must before it runs (`accounting = "measured"`): false if
    /// the difference is not free and cannot be made so.
    pub(super) fn grows(&mut self, container: Key, now: Time, dispose: &mut dyn Dispose) -> bool {
        let c = self.pool.get(container);
        let missing = Mem(c.memory.0 - c.charged.0);
        if missing == Mem(0) {
            return true;
        }
        self.ledger.free() >= missing || self.make_room(missing, Some(container), now, dispose)
    }

    /// Reserves memory, and a GPU if it needs one, for a container of this function, evicting if `dispose` is given, and
    /// enters it as creating.
    pub(super) fn begin_creation(
        &mut self,
        function: FunctionId,
        now: Time,
        dispose: Option<&mut dyn Dispose>,
    ) -> Option<Key> {
        self.begin_creation_on(None, function, now, dispose)
    }

    /// [`begin_creation`](State::begin_creation) of a container that has this very GPU already.
    pub(super) fn begin_creation_on(
        &mut self,
        gpu: Option<u32>,
        function: FunctionId,
        now: Time,
        mut dispose: Option<&mut dyn Dispose>,
    ) -> Option<Key> {
        let limit = self.config.max_creating;
        if limit > 0 && self.ledger.count(Phase::Creating) >= limit {
            return None;
        }
        let Fit { memory, gpu: need } = self.groups.needs(self.functions[function.index()].group);
        // Nothing goes for a GPU where the memory cannot be had.
        let could_be_free = self.ledger.free() + self.ledger.held(Phase::Removing) + self.pool.evictable();
        if could_be_free < memory {
            return None;
        }
        // All that is needed goes at once: what comes free later comes free together.
        let part = need.map(|need| self.gpu_for(gpu, need, now, &mut dispose));
        if part == Some(Gpu::None) {
            return None;
        }
        if self.ledger.free() < memory && !dispose.is_some_and(|d| self.make_room(memory, None, now, d)) {
            return None;
        }
        let part = match part {
            Some(Gpu::Free(gpu, memory)) => Some((gpu, memory)),
            Some(Gpu::Coming | Gpu::None) => return None,
            None => None,
        };
        let f = &self.functions[function.index()];
        let nth = {
            let mut creations = self.creations.borrow_mut();
            if creations.len() < self.functions.len() {
                creations.resize(self.functions.len(), 0);
            }
            let created = &mut creations[function.index()];
            *created += 1;
            *created - 1
        };
        self.containers += 1;
        let key = self.pool.insert(NewContainer {
            number: self.containers,
            group: f.group,
            function,
            backend: f.backend,
            memory,
            gpu: part.map(|(gpu, memory)| self.gpus.take(gpu, memory)),
            concurrency: f.spec.concurrency.max(1),
            keep_alive: f.keep_alive,
            nth,
        });
        self.ledger.enter(Phase::Creating, memory, now);
        self.count(now, |c| c.containers_created += 1);
        Some(key)
    }

    /// A GPU that has enough free for a container, this one if it is said which; idle containers of one are evicted if only
    /// that makes room, and if it does.
    fn gpu_for(
        &mut self,
        gpu: Option<u32>,
        need: Mem,
        now: Time,
        dispose: &mut Option<&mut dyn Dispose>,
    ) -> Gpu {
        let free = |state: &State| match gpu {
            Some(gpu) => state.gpus.has(gpu, need).then_some(Gpu::Free(gpu, need)),
            None => state.gpus.find(need, |_| Mem(0)).map(|gpu| Gpu::Free(gpu, need)),
        };
        if let Some(found) = free(self) {
            return found;
        }
        let Some(dispose) = dispose.as_deref_mut() else { return Gpu::None };
        self.expire(now, dispose);
        let going = |state: &State, gpu| state.pool.on_gpu(gpu, Phase::Removing);
        // What is being removed comes back by itself: nothing else goes for it.
        if self.gpus.find(need, |gpu| going(self, gpu)).is_none() {
            let idle = |gpu| Mem(self.pool.on_gpu(gpu, Phase::Cached).0.saturating_add(going(self, gpu).0));
            let able: Vec<u32> = (0..self.gpus.count() as u32)
                .filter(|g| self.gpus.has(*g, Mem(need.0.saturating_sub(idle(*g).0))))
                .collect();
            // The policy says which container goes first, and so which GPU: that of the first that is on one of these.
            let Some(first) = self.pool.victim_on(&able) else { return Gpu::None };
            let Some(chosen) = self.pool.get(first).gpu.map(|part| part.gpu) else { return Gpu::None };
            dispose.dispose(self, first, Fate::Evicted, now);
            while !self.gpus.has(chosen, Mem(need.0.saturating_sub(going(self, chosen).0))) {
                let Some(victim) = self.pool.victim_on(&[chosen]) else { return Gpu::None };
                dispose.dispose(self, victim, Fate::Evicted, now);
            }
        }
        free(self).unwrap_or(Gpu::Coming)
    }

    /// Evicts idle containers, but this one, until so much memory is free or coming; true if it is free.
    fn make_room(&mut self, need: Mem, but: Option<Key>, now: Time, dispose: &mut dyn Dispose) -> bool {
        self.expire(now, dispose);
        let kept = but.map_or(Mem(0), |key| self.pool.get(key).charged);
        let coming = self.ledger.free() + self.ledger.held(Phase::Removing);
        if coming + self.pool.evictable() < need + kept {
            return false;
        }
        while self.ledger.free() + self.ledger.held(Phase::Removing) < need {
            let Some(victim) = self.pool.victim(but) else { return false };
            dispose.dispose(self, victim, Fate::Evicted, now);
        }
        self.ledger.free() >= need
    }

    /// Removes every container whose keep-alive has ended.
    pub(super) fn expire(&mut self, now: Time, dispose: &mut dyn Dispose) {
        while let Some((at, key)) = self.pool.next_expiry()
            && at <= now
        {
            dispose.dispose(self, key, Fate::Expired, now);
        }
    }
}
