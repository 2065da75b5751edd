//! Room for containers: the memory and the GPU that a new one takes, and what goes to make them free.

use super::container::{Key, NewContainer};
use super::groups::Fit;
use super::ledger::Phase;
use super::{Shell, State};
use crate::base::{FunctionId, Mem, Time};
use crate::worker::event::{Fate, Lack, WorkerEvent};

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
    /// Charges a cached container what it reserves again, as it must before it runs (`accounting = "measured"`): false if
    /// the difference is not free and cannot be made so.
    #[inline]
    pub(super) fn grows(&mut self, container: Key, by: u64, now: Time, shell: &mut impl Shell) -> bool {
        let c = self.pool.get(container);
        let missing = Mem(c.memory.0 - c.charged.0);
        if missing == Mem(0) {
            return true;
        }
        self.ledger.free() >= missing || self.make_room(missing, Some(container), by, now, shell)
    }

    /// Reserves memory, and a GPU if it needs one, for a container of this function, evicting for an invocation where that makes
    /// room, and enters it as creating.
    ///
    /// # Errors
    /// What there is not enough of.
    pub(super) fn create_for(
        &mut self,
        function: FunctionId,
        by: u64,
        now: Time,
        shell: &mut impl Shell,
    ) -> Result<Key, Lack> {
        let Fit { memory, gpu: need } = self.needs(function)?;
        // All that is needed goes at once: what comes free later comes free together.
        let part = need.map(|need| self.gpu_for(need, by, now, shell));
        if part == Some(Gpu::None) {
            return Err(Lack::Gpu);
        }
        if self.ledger.free() < memory && !self.make_room(memory, None, by, now, shell) {
            return Err(Lack::Memory);
        }
        match part {
            Some(Gpu::Free(gpu, part)) => {
                Ok(self.enter_creating(function, memory, Some((gpu, part)), Some(by), now))
            }
            Some(Gpu::Coming | Gpu::None) => Err(Lack::Gpu),
            None => Ok(self.enter_creating(function, memory, None, Some(by), now)),
        }
    }

    /// [`create_for`](Self::create_for) nobody, of what is free alone; on this very GPU if the container has one already.
    pub(super) fn create_without_evicting(
        &mut self,
        function: FunctionId,
        gpu: Option<u32>,
        now: Time,
    ) -> Option<Key> {
        let Fit { memory, gpu: need } = self.needs(function).ok()?;
        let part = match need {
            None => None,
            Some(need) => Some((self.free_gpu(gpu, need)?, need)),
        };
        (self.ledger.free() >= memory).then(|| self.enter_creating(function, memory, part, None, now))
    }

    /// What a container of this function must have, if another creation may begin and the memory could be had at all.
    fn needs(&self, function: FunctionId) -> Result<Fit, Lack> {
        let limit = self.config.max_creating;
        if limit > 0 && self.ledger.count(Phase::Creating) >= limit {
            return Err(Lack::Creations);
        }
        let needs = self.groups.needs(self.functions[function.index()].group);
        // Nothing goes for a GPU where the memory cannot be had.
        let could_be_free = self.ledger.free() + self.ledger.held(Phase::Removing) + self.pool.evictable();
        if could_be_free < needs.memory { Err(Lack::Memory) } else { Ok(needs) }
    }

    fn enter_creating(
        &mut self,
        function: FunctionId,
        memory: Mem,
        part: Option<(u32, Mem)>,
        by: Option<u64>,
        now: Time,
    ) -> Key {
        let f = &self.functions[function.index()];
        let (group, backend) = (f.group, f.backend);
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
        let container = self.containers;
        let key = self.pool.insert(NewContainer {
            number: container,
            group,
            function,
            backend,
            memory,
            gpu: part.map(|(gpu, memory)| self.gpus.take(gpu, memory)),
            concurrency: f.spec.concurrency.max(1),
            keep_alive: f.keep_alive,
            nth,
        });
        self.ledger.enter(Phase::Creating, memory, now);
        self.emit(now, |_| WorkerEvent::CreationBegan { container, function, backend, memory, by });
        key
    }

    /// A GPU that has so much free, or this one, if it is said which.
    fn free_gpu(&self, gpu: Option<u32>, need: Mem) -> Option<u32> {
        match gpu {
            Some(gpu) => self.gpus.has(gpu, need).then_some(gpu),
            None => self.gpus.find(need, |_| Mem(0)),
        }
    }

    /// A GPU that has enough free for a container; idle containers of one are evicted if only that makes room, and if it does.
    fn gpu_for(&mut self, need: Mem, by: u64, now: Time, shell: &mut impl Shell) -> Gpu {
        if let Some(gpu) = self.free_gpu(None, need) {
            return Gpu::Free(gpu, need);
        }
        self.retire_expired(now, shell);
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
            self.retire(first, Fate::Evicted, Some(by), now, shell);
            while !self.gpus.has(chosen, Mem(need.0.saturating_sub(going(self, chosen).0))) {
                let Some(victim) = self.pool.victim_on(&[chosen]) else { return Gpu::None };
                self.retire(victim, Fate::Evicted, Some(by), now, shell);
            }
        }
        self.free_gpu(None, need).map_or(Gpu::Coming, |gpu| Gpu::Free(gpu, need))
    }

    /// Evicts idle containers, but this one, until so much memory is free or coming; true if it is free.
    fn make_room(&mut self, need: Mem, but: Option<Key>, by: u64, now: Time, shell: &mut impl Shell) -> bool {
        self.retire_expired(now, shell);
        let kept = but.map_or(Mem(0), |key| self.pool.get(key).charged);
        let coming = self.ledger.free() + self.ledger.held(Phase::Removing);
        if coming + self.pool.evictable() < need + kept {
            return false;
        }
        while self.ledger.free() + self.ledger.held(Phase::Removing) < need {
            let Some(victim) = self.pool.victim(but) else { return false };
            self.retire(victim, Fate::Evicted, Some(by), now, shell);
        }
        self.ledger.free() >= need
    }
}
