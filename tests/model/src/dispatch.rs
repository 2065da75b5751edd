//! Whose turn it is, and in which container.

use crate::plan::{Contention, Ns, Queue};
use crate::queue;
use crate::record::{StartKind, Status};
use crate::room::Need;
use crate::timers::{Class, Event};
use crate::worker::{Container, State};
use crate::world::World;

impl World<'_> {
    /// Dispatches whoever can be, and drops who waited too long.
    pub fn settle(&mut self, worker: usize) {
        self.drop_overdue(worker);
        while self.dispatch_one(worker) {}
    }

    /// Law (Queue): a deadline on the instant of the turn: dropped, by comparing times.
    fn drop_overdue(&mut self, worker: usize) {
        let Some(timeout) = self.plan.worker.queue_timeout else { return };
        for call in self.workers[worker].queue.clone() {
            if self.records[call].enqueue.is_some_and(|at| at + timeout <= self.now) {
                self.drop_call(worker, call);
            }
        }
    }

    /// Drops one that waits.
    pub fn drop_call(&mut self, worker: usize, call: usize) {
        self.workers[worker].queue.retain(|c| *c != call);
        self.records[call].status = Status::Dropped;
        self.give_back(worker, call);
    }

    /// Law (Queue): the head has its turn; with fifo-skip one that can be dispatched passes one that cannot.
    fn dispatch_one(&mut self, worker: usize) -> bool {
        let order = queue::in_order(self.plan, &self.workers[worker]);
        let turns = if self.plan.worker.queue == Queue::FifoSkip { order.len() } else { 1 };
        order.into_iter().take(turns).any(|call| self.try_dispatch(worker, call))
    }

    /// Law (Invocation): dispatched at the moment when a permit and (a cached container or the memory for a new one) can be
    /// had together: it takes both or neither.
    fn try_dispatch(&mut self, worker: usize, call: usize) -> bool {
        let function = self.plan.calls[call].function;
        let group = self.plan.group(function);
        let cpus = self.plan.functions[function].cpus;
        if self.plan.model.contention == Contention::Permits
            && self.plan.worker.cores.is_some_and(|cores| self.workers[worker].permits + cpus > cores)
        {
            return false;
        }
        self.expire(worker, Some(group));
        if let Some(container) = self.chosen(worker, group) {
            // Law (Memory): to run again a container needs the difference to what it reserves free, by eviction, else the
            // invocation waits.
            let c = &self.workers[worker].containers[container];
            let difference = Need { memory: c.memory - c.charge, gpu: false };
            if !self.make_room(worker, difference, Some(container)) {
                return false;
            }
            self.take_turn(worker, call);
            self.enter(worker, container, call, StartKind::Warm);
            return true;
        }
        // Law (CPU): `max_creating` bounds creations under way.
        if self.plan.worker.max_creating.is_some_and(|most| self.workers[worker].creating() >= most) {
            return false;
        }
        if !self.make_room(worker, self.plan.container_need(function), None) {
            return false;
        }
        let cause = self.workers[worker].cold_cause(group);
        self.take_turn(worker, call);
        let container = self.create(worker, function, Some(call));
        self.records[call].cause = Some(cause);
        self.records[call].container = Some(container + 1);
        self.workers[worker].late.push(call);
        true
    }

    /// Takes a call out of the queue, with its permit, which it holds until it returns.
    fn take_turn(&mut self, worker: usize, call: usize) {
        let function = self.plan.calls[call].function;
        let group = self.plan.group(function);
        self.records[call].dispatch = Some(self.now);
        let w = &mut self.workers[worker];
        w.queue.retain(|c| *c != call);
        w.permits += self.plan.functions[function].cpus;
        w.groups[group].frequency += 1;
    }

    /// Law (Container): a busy one with room first (of several, the one that last became busy or ceased to be full); else
    /// the most recently used cached one.
    fn chosen(&self, worker: usize, group: usize) -> Option<usize> {
        let containers = &self.workers[worker].containers;
        let open = || {
            (0..containers.len())
                .filter(|c| containers[*c].group == group && containers[*c].has_room(self.now))
        };
        let busy = open().filter(|c| containers[*c].state == State::Running);
        let cached = open().filter(|c| containers[*c].state == State::Cached);
        busy.max_by_key(|c| containers[*c].roomy).or_else(|| cached.max_by_key(|c| containers[*c].idle))
    }

    /// Begins a creation. Law (Container): concurrency, keep-alive and cold start are those of the function that caused it.
    pub fn create(&mut self, worker: usize, function: usize, owner: Option<usize>) -> usize {
        let f = &self.plan.functions[function];
        let need = self.plan.container_need(function);
        let container = self.workers[worker].containers.len();
        self.workers[worker].containers.push(Container {
            group: self.plan.group(function),
            state: State::Creating,
            memory: need.memory,
            reading: need.memory,
            charge: need.memory,
            gpu: need.gpu,
            concurrency: f.concurrency,
            keep_alive: f.keep_alive.unwrap_or(self.plan.worker.keep_alive),
            owner,
            unused_prewarm: owner.is_none(),
            inside: Vec::new(),
            created: self.now,
            idle: (0, 0),
            expiry: 0,
            priority: 0.0,
            roomy: 0,
            condemned: false,
        });
        // Law (CPU): a cold start is a delay with a CPU part. Assumed: of one core.
        let fraction = self.plan.model.cold_cpu_fraction;
        self.begin(worker, Event::Created { worker, container }, f.cold_start, 1000, fraction);
        container
    }

    /// Begins what takes a time: a timer, or work that shares the processors.
    pub fn begin(&mut self, worker: usize, done: Event, length: Ns, cpus: u64, fraction: f64) {
        if self.plan.model.contention == Contention::Shared {
            let number = self.timers.next_number();
            self.workers[worker].processors.begin(self.now, number, done, length, cpus, fraction);
        } else {
            self.timers.insert(self.now, self.now + length, Class::Timer, done);
        }
    }
}
