//! Room for a container: memory and GPUs, free or freed.

use crate::eviction;
use crate::record::ColdCause;
use crate::worker::State;
use crate::world::World;

/// What a container needs.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Bytes.
    pub memory: u64,
    /// Whether a GPU.
    pub gpu: bool,
}

impl World<'_> {
    /// Law (Container): a new one if the memory is free or can be freed by evicting cached ones in policy order; eviction
    /// happens only where it makes room. A GPU likewise. True if it can be had now. Never evicts `except`, which is to run.
    pub fn make_room(&mut self, worker: usize, need: Need, except: Option<usize>) -> bool {
        if self.has_free(worker, need) {
            return true;
        }
        // What has expired goes before anything is evicted.
        self.expire(worker, None);
        if self.has_free(worker, need) {
            return true;
        }
        let Some(leaving) = self.who_leaves(worker, need, except) else { return false };
        for container in leaving {
            let w = &mut self.workers[worker];
            w.clock = w.clock.max(w.containers[container].priority);
            self.remove(worker, container, ColdCause::Evicted);
        }
        // Where removals take no time, the room is there.
        self.has_free(worker, need)
    }

    /// Who has to be evicted; none but those that are being removed may be enough. `None` if all together would not be.
    fn who_leaves(&self, worker: usize, need: Need, except: Option<usize>) -> Option<Vec<usize>> {
        let w = &self.workers[worker];
        let free = self.free(worker);
        // Law (Memory): what is being removed holds its memory until that is confirmed; it is waited for.
        let mut memory = free.0 + w.removing_memory();
        let mut gpus = free.1 + w.removing_gpus();
        let mut leaving = Vec::new();
        let order: Vec<usize> =
            eviction::in_order(self.plan, w).into_iter().filter(|c| Some(*c) != except).collect();
        // Assumed: those with a GPU go first where one is wanted, as their memory comes with it.
        for container in order.iter().filter(|c| w.containers[**c].gpu) {
            if gpus < u32::from(need.gpu) {
                gpus += 1;
                memory += w.containers[*container].charge;
                leaving.push(*container);
            }
        }
        for container in &order {
            if memory < need.memory && !leaving.contains(container) {
                memory += w.containers[*container].charge;
                leaving.push(*container);
            }
        }
        (memory >= need.memory && gpus >= u32::from(need.gpu)).then_some(leaving)
    }

    /// Law (Keep-alive): cached on [t, t + ttl), refused at t + ttl by comparing times. Of a group, or all.
    pub fn expire(&mut self, worker: usize, group: Option<usize>) {
        for container in 0..self.workers[worker].containers.len() {
            let c = &self.workers[worker].containers[container];
            if c.state == State::Cached && c.expiry <= self.now && group.is_none_or(|g| g == c.group) {
                self.remove(worker, container, ColdCause::Expired);
            }
        }
    }

    /// Bytes and GPUs that nothing holds.
    fn free(&self, worker: usize) -> (u64, u32) {
        let w = &self.workers[worker];
        let memory = self.plan.worker.memory.map_or(u64::MAX / 2, |all| all - w.used_memory());
        (memory, self.plan.worker.gpus - w.used_gpus())
    }

    fn has_free(&self, worker: usize, need: Need) -> bool {
        let free = self.free(worker);
        free.0 >= need.memory && free.1 >= u32::from(need.gpu)
    }
}
