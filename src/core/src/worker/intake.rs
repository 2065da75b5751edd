//! The intake: invocations that nobody waits for one by one, as an open load sends them.
//!
//! Each goes the way of every invocation ([`super::invoke`]) and ends in an [`CompletionSink`]. What has to wait for anything
//! is a task. What starts at once in a container that exists, and whose end is known, which is nearly every warm
//! invocation under simulation, takes the same steps without one: its end is a call at its instant.

use super::invoke::{Answer, Begun, Running, Slot, answered};
use super::state::{Admission, Way};
use super::{Inner, Worker};
use crate::base::{CompletionSink, Invocation, InvocationSink, Record, StartKind, Status, Time};
use crate::rt::{self, Elapsed, EventHandler, Scheduler};
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;

/// See the module. Clones are the same intake.
#[derive(Clone)]
pub struct Intake {
    express: Rc<FastPath>,
    calls: Scheduler,
}

/// Invocations under way without a task.
struct FastPath {
    worker: Rc<Inner>,
    outcome: Rc<dyn CompletionSink>,
    under_way: RefCell<Slab<InFlight>>,
}

/// It was dispatched when it arrived, and began to execute at once: its record is made when it ends.
struct InFlight {
    call: Invocation,
    enqueue: Time,
    running: Running,
    answer: Result<Answer, Elapsed>,
}

impl InFlight {
    fn record(call: &Invocation, worker: u16, enqueue: Time, running: &Running) -> Record {
        let mut record = Record::new(call, worker, enqueue);
        record.dispatch = Some(enqueue);
        running.tell(&mut record);
        record
    }
}

impl Worker {
    /// An intake of this worker. Inside a runtime only, which keeps it to its end.
    pub fn intake(&self, outcome: Rc<dyn CompletionSink>) -> Intake {
        let worker = Rc::clone(&self.0);
        let express = Rc::new(FastPath { worker, outcome, under_way: RefCell::new(Slab::new()) });
        let calls = Scheduler::of(Rc::clone(&express) as Rc<dyn EventHandler>);
        Intake { express, calls }
    }
}

impl InvocationSink for Intake {
    #[inline]
    fn submit(&self, call: Invocation) {
        let FastPath { worker, under_way, .. } = &*self.express;
        let now = rt::now();
        let grant = match worker.admit(&call, now) {
            Admission::Granted(grant) if grant.way == Way::Exists => grant,
            admission => return rt::spawn_detached(self.queued(call, now).carry_on(admission)),
        };
        let slot = Slot::take(worker, &grant);
        let begun = worker.begin(&call, slot, grant.start, None, now);
        let (running, work, timeout) = match begun {
            Ok((running, work, timeout)) if work.due().is_some() => (running, work, timeout),
            begun => return rt::spawn_detached(self.queued(call, now).execute(grant.start, begun)),
        };
        let due = work.due().unwrap_or(now);
        let (at, answer) = match (timeout.map(|limit| now + limit), work.into_value()) {
            (Some(limit), _) if limit < due => (limit, Err(Elapsed)),
            (_, Some(answer)) => (due, Ok(answer)),
            (_, None) => unreachable!("work that is due at an instant has its value"),
        };
        let token = under_way.borrow_mut().insert(InFlight { call, enqueue: now, running, answer });
        self.calls.at(at, token as u32);
    }
}

impl Intake {
    /// Boxed, because a task's future is moved several times on its way to its place.
    #[cold]
    fn queued(&self, call: Invocation, now: Time) -> Box<QueuedCall> {
        let (worker, outcome) = (Rc::clone(&self.express.worker), Rc::clone(&self.express.outcome));
        let record = Record::new(&call, worker.number, now);
        Box::new(QueuedCall { call, record, worker, outcome })
    }
}

impl EventHandler for FastPath {
    #[inline]
    fn on_time(&self, token: u32) {
        let InFlight { call, enqueue, running, answer } = self.under_way.borrow_mut().remove(token as usize);
        let now = rt::now();
        let mut record = InFlight::record(&call, self.worker.number, enqueue, &running);
        record.status = self.worker.conclude(&call, &mut record, running, answer, now);
        self.worker.returned(&mut record, now);
        self.outcome.settle(&record);
    }
}

impl Drop for FastPath {
    /// What did not return is told as unfinished: nothing is lost.
    fn drop(&mut self) {
        for (_, InFlight { call, enqueue, running, .. }) in self.under_way.take() {
            let mut record = InFlight::record(&call, self.worker.number, enqueue, &running);
            record.returned = rt::now();
            self.outcome.settle(&record);
        }
    }
}

/// An invocation in a task. Dropped before it returned, it is told as unfinished.
struct QueuedCall {
    call: Invocation,
    record: Record,
    worker: Rc<Inner>,
    outcome: Rc<dyn CompletionSink>,
}

impl QueuedCall {
    async fn carry_on(mut self: Box<QueuedCall>, admission: Admission) {
        let QueuedCall { call, record, worker, .. } = &mut *self;
        worker.carry_on(call, record, None, admission).await;
    }

    async fn execute(mut self: Box<QueuedCall>, start: StartKind, begun: Result<Begun, &'static str>) {
        let QueuedCall { call, record, worker, .. } = &mut *self;
        (record.dispatch, record.start) = (record.enqueue, Some(start));
        match begun {
            Ok((running, work, timeout)) => {
                running.tell(record);
                let answer = answered(work, timeout).await;
                record.status = worker.conclude(call, record, running, answer, rt::now());
            }
            Err(why) => (record.status, record.error) = (Status::Failed, Some(Rc::from(why))),
        }
        worker.returned(record, rt::now());
    }
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        if self.record.status == Status::Unfinished {
            self.record.returned = rt::now();
        }
        self.outcome.settle(&self.record);
    }
}
