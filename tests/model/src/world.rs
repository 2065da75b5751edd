//! What happens at each event: arrival, creation, execution, return, removal.

use crate::controller::Controller;
use crate::plan::{Contention, FOREVER, Ns, Plan};
use crate::record::{ColdCause, Record, StartKind, Status};
use crate::timers::{Class, Event, Timer, Timers};
use crate::worker::{State, Worker, learn};

/// What the model tells.
#[derive(Clone, Debug)]
pub struct Told {
    /// What became of each call, in the order of the calls.
    pub records: Vec<Record>,
    /// Whether two events whose order rounding decides lay within 2 us (processor sharing only).
    pub near: bool,
}

/// Two events this close may fall either way, by rounding.
const NEAR_NS: Ns = 2_000;

/// Everything there is while it runs.
pub struct World<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) now: Ns,
    pub(crate) timers: Timers,
    pub(crate) workers: Vec<Worker>,
    pub(crate) controller: Controller,
    pub(crate) records: Vec<Record>,
    /// Events so far.
    step: u64,
    /// Calls that a worker is done with.
    over: usize,
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Told {
    let mut world = World {
        plan,
        now: 0,
        timers: Timers::default(),
        workers: vec![Worker::new(plan); plan.workers],
        controller: Controller::new(plan.workers),
        records: vec![Record::new(); plan.calls.len()],
        step: 0,
        over: 0,
    };
    world.begin_run();
    let mut near = Near::default();
    while world.over < plan.calls.len() {
        let Some(next) = world.take_next() else { break };
        world.now = next.timer.key.0;
        world.step += 1;
        if world.matters(&next.timer.event) {
            world.happen(next.timer.event.clone());
            near.see(plan, next);
        }
    }
    Told { records: world.records, near: near.found }
}

/// What comes next; and the work that it ends, if it ends one.
struct Next {
    timer: Timer,
    /// When that began, how long it is, with which cpus and fraction.
    work: Option<(Ns, Ns, f64, f64)>,
}

impl World<'_> {
    /// Sets the arrivals, the ticks and the prewarmed containers up.
    fn begin_run(&mut self) {
        for worker in 0..self.workers.len() {
            // Prewarming begins before the first arrival. Assumed: in the order of the functions.
            for function in 0..self.plan.functions.len() {
                for _ in 0..self.plan.functions[function].prewarm {
                    if self.make_room(worker, self.plan.container_need(function), None) {
                        self.create(worker, function, None);
                    }
                }
            }
            if self.plan.controller.reports.is_some() {
                // Law (Window): ticks begin where the window would without `warm_up`.
                self.timers.insert(
                    self.now,
                    self.plan.ticks_begin,
                    Class::Tick,
                    Event::ReportMade { worker },
                );
            }
        }
        for (call, plan) in self.plan.calls.iter().enumerate() {
            self.timers.insert(self.now, plan.arrival, Class::Arrival, Event::Arrival { call });
        }
    }

    /// Law (One instant): one at a time, by time, class and insertion. Shared work ends as if its timer had been set when it
    /// began.
    fn take_next(&mut self) -> Option<Next> {
        let done = self.workers.iter().filter_map(|w| w.processors.next_done());
        let done = done.map(|(at, work)| ((at, Class::Timer, work.number), work)).min_by_key(|(key, _)| *key);
        match (self.timers.first(), done) {
            (Some(timer), Some((key, _))) if timer.key < key => {}
            (_, Some((key, work))) => {
                let timer = Timer { key, event: work.done.clone(), inserted: work.began };
                let about = (work.began, work.length, work.cpus, work.fraction);
                return Some(Next { timer, work: Some(about) });
            }
            _ => {}
        }
        self.timers.take_first().map(|timer| Next { timer, work: None })
    }

    /// Timers that nobody waits for any more do nothing.
    fn matters(&self, event: &Event) -> bool {
        match event {
            Event::WaitedTooLong { call, worker } => self.workers[*worker].queue.contains(call),
            Event::TimeOut { call, .. } => self.records[*call].exec_end.is_none(),
            Event::KeepAliveEnds { worker, container, idle } => {
                let c = &self.workers[*worker].containers[*container];
                c.state == State::Cached && c.idle.1 == *idle
            }
            Event::ReturnHeard { .. } => self.plan.workers > 1,
            _ => true,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival { call } => {
                if self.plan.workers == 1 {
                    return self.arrive(0, call);
                }
                let worker = self.controller.send(self.plan, self.plan.calls[call].function);
                match self.plan.controller.delay {
                    0 => self.arrive(worker, call),
                    delay => {
                        self.timers.insert(
                            self.now,
                            self.now + delay,
                            Class::Timer,
                            Event::AtWorker { call, worker },
                        );
                    }
                }
            }
            Event::AtWorker { call, worker } => self.arrive(worker, call),
            Event::WaitedTooLong { worker, .. } => self.settle(worker),
            Event::Created { worker, container } => {
                self.workers[worker].processors.end(self.now, &event);
                self.created(worker, container);
            }
            Event::ExecutionEnds { call, worker } => {
                self.workers[worker].processors.end(self.now, &event);
                self.execution_ends(worker, call, false);
            }
            Event::TimeOut { call, worker } => self.time_out(worker, call),
            Event::KeepAliveEnds { worker, container, .. } => {
                self.remove(worker, container, ColdCause::Expired);
                self.settle(worker);
            }
            Event::Removed { worker, container } => {
                self.workers[worker].containers[container].state = State::Gone;
                self.settle(worker);
            }
            Event::ReturnHeard { worker, ended } => self.controller.hear_return(worker, ended),
            Event::ReportMade { worker } => {
                let (made, w) = (self.step, &self.workers[worker]);
                let heard = Event::ReportHeard { worker, made, received: w.received, left: w.left };
                let (delay, period) = (self.plan.controller.delay, self.plan.controller.reports);
                self.timers.insert(self.now, self.now + delay, Class::Timer, heard);
                let again = self.now + period.unwrap_or(FOREVER);
                self.timers.insert(self.now, again, Class::Tick, Event::ReportMade { worker });
            }
            Event::ReportHeard { worker, made, received, left } => {
                self.controller.hear_report(worker, made, received, left);
            }
        }
    }

    /// A worker has a call: it is queued, and dispatched at once if it can be.
    fn arrive(&mut self, worker: usize, call: usize) {
        self.records[call].worker = worker;
        self.records[call].enqueue = Some(self.now);
        self.workers[worker].received += 1;
        self.workers[worker].left += 1;
        let group = self.plan.group(self.plan.calls[call].function);
        self.workers[worker].join(call, group);
        self.settle(worker);
        // Law (Container): nothing is dropped unless a limit says so (queue length, timeout).
        if !self.workers[worker].queue.contains(&call) {
            return;
        }
        if self.plan.worker.queue_limit.is_some_and(|most| self.workers[worker].queue.len() > most) {
            return self.drop_call(worker, call);
        }
        if let Some(timeout) = self.plan.worker.queue_timeout {
            let event = Event::WaitedTooLong { call, worker };
            self.timers.insert(self.now, self.now + timeout, Class::Deadline, event);
        }
    }

    /// A container can be used. Who caused it is bound to it; else it is idle.
    fn created(&mut self, worker: usize, container: usize) {
        let w = &mut self.workers[worker];
        let c = &mut w.containers[container];
        let took = self.now - c.created;
        learn(&mut w.groups[c.group].creation, took);
        let mut kind = StartKind::Late;
        match c.owner.take() {
            Some(call) => {
                c.state = State::Cached;
                w.late.retain(|waiting| *waiting != call);
                self.enter(worker, container, call, StartKind::Cold);
            }
            None => {
                self.become_idle(worker, container);
                // Assumed: whoever is the first in a container that was created just now starts cold.
                kind = StartKind::Cold;
            }
        }
        self.offer(worker, container, kind);
        self.settle(worker);
    }

    /// A call enters a container and begins to execute.
    pub fn enter(&mut self, worker: usize, container: usize, call: usize, kind: StartKind) {
        let becoming = self.workers[worker].becoming();
        let c = &mut self.workers[worker].containers[container];
        if c.inside.is_empty() {
            c.roomy = becoming;
        }
        c.state = State::Running;
        // Law (Memory): running is charged what is reserved.
        c.charge = c.memory;
        c.inside.push(call);
        // Law (Words): prewarmed is the first use of a prewarmed container.
        let first_use = std::mem::replace(&mut c.unused_prewarm, false);
        let kind = if first_use { StartKind::Prewarmed } else { kind };
        let record = &mut self.records[call];
        if kind != StartKind::Cold {
            record.cause = None;
        }
        record.start = Some(kind);
        record.container = Some(container + 1);
        record.exec_start = Some(self.now);
        self.execute(worker, call);
    }

    /// Law (One instant): a completion's timer is set when execution starts.
    fn execute(&mut self, worker: usize, call: usize) {
        let function = &self.plan.functions[self.plan.calls[call].function];
        let length = self.plan.calls[call].duration;
        let timeout = function.timeout.unwrap_or(self.plan.worker.timeout);
        let done = Event::ExecutionEnds { call, worker };
        let shared = self.plan.model.contention == Contention::Shared;
        // Law (Queue): an execution that ends at its time-out's instant has completed.
        if shared || length <= timeout {
            self.begin(worker, done, length, function.cpus, function.cpu_fraction);
        }
        if shared || timeout < length {
            self.timers.insert(self.now, self.now + timeout, Class::Timer, Event::TimeOut { call, worker });
        }
    }

    /// An execution has had its time. Where processors are shared it may be over already, or end at this very instant.
    fn time_out(&mut self, worker: usize, call: usize) {
        let work = Event::ExecutionEnds { call, worker };
        let ends_now = self.workers[worker]
            .processors
            .next_done()
            .is_some_and(|(at, w)| at <= self.now && w.done == work);
        if !ends_now {
            self.workers[worker].processors.end(self.now, &work);
            self.execution_ends(worker, call, true);
        }
    }

    /// An execution is over: completed, failed, or timed out.
    fn execution_ends(&mut self, worker: usize, call: usize, timed_out: bool) {
        let function = self.plan.calls[call].function;
        let group = self.plan.group(function);
        let Some(container) = self.records[call].container.map(|number| number - 1) else { return };
        let w = &mut self.workers[worker];
        let c = &mut w.containers[container];
        // Law (Memory): a working set above what the container reserves is out of memory; it is known when it is read.
        let out_of_memory = !timed_out && self.plan.calls[call].memory.is_some_and(|used| used > c.memory);
        let record = &mut self.records[call];
        record.exec_end = Some(self.now);
        record.out_of_memory = out_of_memory;
        record.status = if timed_out {
            Status::TimedOut
        } else if out_of_memory || self.plan.calls[call].fails {
            Status::Failed
        } else {
            Status::Completed
        };
        if let (Some(start), Status::Completed) = (record.exec_start, record.status) {
            learn(&mut w.groups[group].execution, self.now - start);
        }
        w.permits -= self.plan.functions[function].cpus;
        self.give_back(worker, call);
        self.leave(worker, container, call, timed_out || out_of_memory);
        self.settle(worker);
    }

    /// A call leaves its container. Assumed: after a time-out, or out of memory, nobody enters it any more, and it is removed
    /// when the last one has left; a function's own error leaves it as it is.
    fn leave(&mut self, worker: usize, container: usize, call: usize, destroyed: bool) {
        let becoming = self.workers[worker].becoming();
        let c = &mut self.workers[worker].containers[container];
        if c.inside.len() == c.concurrency {
            c.roomy = becoming;
        }
        c.inside.retain(|other| *other != call);
        // Law (Memory): it is read during and right after an invocation, never while it is idle.
        c.reading = self.plan.calls[call].memory.unwrap_or(c.memory).min(c.memory);
        let (empty, condemned) = (c.inside.is_empty(), c.condemned || destroyed);
        if destroyed && !c.condemned {
            c.condemned = true;
            self.lose(worker, container, ColdCause::Failure);
        }
        match (empty, condemned) {
            (true, true) => self.destroy(worker, container),
            (true, false) => self.become_idle(worker, container),
            (false, _) => {}
        }
        self.offer(worker, container, StartKind::Late);
    }

    /// Law (Keep-alive): restarts whenever a container becomes idle.
    fn become_idle(&mut self, worker: usize, container: usize) {
        let idle = self.workers[worker].becoming();
        let c = &mut self.workers[worker].containers[container];
        c.state = State::Cached;
        // Law (Memory): with measured accounting cached is charged the last reading, at most what is reserved.
        c.charge = if self.plan.worker.measured { c.reading } else { c.memory };
        c.idle = (self.now, idle);
        c.expiry = self.now + c.keep_alive;
        if c.keep_alive < FOREVER {
            let event = Event::KeepAliveEnds { worker, container, idle };
            self.timers.insert(self.now, c.expiry, Class::Timer, event);
        }
        let priority = crate::eviction::greedy_dual_priority(&self.workers[worker], container);
        self.workers[worker].containers[container].priority = priority;
    }

    /// Law (Container): with late dispatch who waits for a creation takes a place that frees up sooner, in order, before
    /// later arrivals, whenever a container of the group has room.
    fn offer(&mut self, worker: usize, container: usize, mut kind: StartKind) {
        while self.plan.worker.late && self.workers[worker].containers[container].has_room(self.now) {
            let w = &mut self.workers[worker];
            let group = w.containers[container].group;
            let of_group = |call: &usize| self.plan.group(self.plan.calls[*call].function) == group;
            let Some(call) = w.late.iter().copied().find(of_group) else { return };
            w.late.retain(|waiting| *waiting != call);
            let own = w.containers.iter_mut().find(|c| c.owner == Some(call));
            own.into_iter().for_each(|own| own.owner = None);
            self.enter(worker, container, call, kind);
            kind = StartKind::Late;
        }
    }

    /// Removes an idle container.
    pub fn remove(&mut self, worker: usize, container: usize, why: ColdCause) {
        self.workers[worker].containers[container].state = State::Removing;
        self.lose(worker, container, why);
        self.destroy(worker, container);
    }

    /// Notes that a group has one container less.
    fn lose(&mut self, worker: usize, container: usize, why: ColdCause) {
        let w = &mut self.workers[worker];
        let group = w.containers[container].group;
        w.groups[group].last_end = Some(why);
        // Law (Eviction): frequency counts invocations since the function last had no container.
        if !w.has_container(group) {
            w.groups[group].frequency = 0;
        }
    }

    /// Begins a destruction. Law (Memory): the memory is held until it is confirmed.
    fn destroy(&mut self, worker: usize, container: usize) {
        let state = &mut self.workers[worker].containers[container].state;
        match self.plan.model.removal {
            0 => *state = State::Gone,
            delay => {
                *state = State::Removing;
                self.timers.insert(
                    self.now,
                    self.now + delay,
                    Class::Timer,
                    Event::Removed { worker, container },
                );
            }
        }
    }

    /// A worker is done with a call. Law (A fleet): the answer is known `delay` later.
    pub fn give_back(&mut self, worker: usize, call: usize) {
        self.over += 1;
        self.workers[worker].left -= 1;
        let delay = if self.plan.workers > 1 { self.plan.controller.delay } else { 0 };
        self.records[call].returned = Some(self.now + delay);
        let heard = Event::ReturnHeard { worker, ended: self.step };
        self.timers.insert(self.now, self.now + delay, Class::Timer, heard);
    }
}

/// Finds events whose order is decided by how a machine rounds, where processors are shared.
#[derive(Default)]
struct Near {
    last: Option<Next>,
    found: bool,
}

impl Near {
    fn see(&mut self, plan: &Plan, next: Next) {
        if let Some(last) = &self.last {
            let close = next.timer.key.0 - last.timer.key.0 < NEAR_NS;
            self.found |=
                plan.model.contention == Contention::Shared && close && !in_order_anyway(last, &next);
        }
        self.last = Some(next);
    }
}

/// Whether the order of two events does not hang on rounding: both are handed in; or the second was set at this very
/// instant; or both were set at one instant for the same one; or both are works alike to the last bit.
fn in_order_anyway(one: &Next, other: &Next) -> bool {
    let handed_in =
        |next: &Next| matches!(next.timer.event, Event::Arrival { .. } | Event::ReportMade { .. });
    let (first, second) = (&one.timer, &other.timer);
    let timers = one.work.is_none() && other.work.is_none();
    (handed_in(one) && handed_in(other))
        || (one.work.is_some() && one.work == other.work)
        || (timers && first.key.0 == second.key.0 && first.inserted == second.inserted)
        || second.inserted == second.key.0
}
