//! The way of an invocation through the worker.

use super::around::Around;
use super::event::Refusal;
use super::state::{Admission, Grant, Held, Key, Way};
use super::{Inner, Worker};
use crate::backend::{CallFault, Work};
use crate::base::{Duration, Exchange, Invocation, Record, StartKind, Status, Time};
use crate::rt::{self, Class};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What a backend says of a call.
pub(super) type Answer = Result<(), CallFault>;

impl Worker {
    /// Runs an invocation and tells what became of it.
    pub async fn invoke(self, call: Invocation) -> Record {
        let mut record = Record::new(&call, self.0.number, rt::now());
        self.carry_out(&call, &mut record, None).await;
        record
    }

    /// Runs an invocation whose caller sent a body; what the function answers is in the exchange afterwards.
    pub async fn exchange(self, call: Invocation, exchange: Rc<Exchange>) -> Record {
        let mut record = Record::new(&call, self.0.number, rt::now());
        self.carry_out(&call, &mut record, Some(&exchange)).await;
        record
    }

    async fn carry_out(&self, call: &Invocation, record: &mut Record, exchange: Option<&Rc<Exchange>>) {
        let admission = self.0.admit(call, rt::now());
        self.0.carry_on(call, record, exchange, admission).await;
    }
}

/// An invocation that executes.
pub(super) struct Running {
    slot: Slot,
    started: Time,
    /// The container's number.
    container: u64,
    backend: u16,
    start: StartKind,
}

impl Running {
    /// Tells a record where and when it began.
    #[inline]
    pub(super) fn tell(&self, record: &mut Record) {
        record.exec_start = Some(self.started);
        record.start = Some(self.start);
        (record.container, record.backend) = (Some(self.container), Some(self.backend));
    }
}

/// What executes, what it waits for, and for how long at most.
pub(super) type Begun = (Running, Work<Answer>, Option<Duration>);

impl Inner {
    /// From its admission to its end.
    pub(super) async fn carry_on(
        self: &Rc<Inner>,
        call: &Invocation,
        record: &mut Record,
        exchange: Option<&Rc<Exchange>>,
        admission: Admission,
    ) {
        if let Err(status) = self.run(call, record, exchange, admission).await {
            record.status = status;
        }
        self.returned(record, rt::now());
    }

    /// Its caller has the answer.
    #[inline]
    pub(super) fn returned(&self, record: &mut Record, now: Time) {
        record.returned = now;
        self.state.borrow_mut().returned(record.invocation, record.status, now);
    }

    async fn run(
        self: &Rc<Inner>,
        call: &Invocation,
        record: &mut Record,
        exchange: Option<&Rc<Exchange>>,
        admission: Admission,
    ) -> Result<(), Status> {
        let admitted = match admission {
            Admission::Granted(grant) => Ok(grant),
            Admission::Refused(why) => Err(why),
            Admission::Queued(ticket) => Waiting { inner: Rc::clone(self), ticket, settled: false }.await,
        };
        let grant = admitted.map_err(|why| {
            record.error = Some(Rc::from(why.word()));
            Status::Dropped
        })?;
        let mut slot = Slot::take(self, &grant);
        record.dispatch = Some(rt::now());
        (record.start, record.cause, record.waited) = (Some(grant.start), grant.cause, grant.waited);
        let mut start = grant.start;
        if grant.way != Way::Exists {
            start = slot.create(record).await.map_err(|why| {
                record.error = Some(why);
                Status::Failed
            })?;
        }
        let (running, work, timeout) = self.begin(call, slot, start, exchange, rt::now()).map_err(|why| {
            record.error = Some(Rc::from(why));
            Status::Failed
        })?;
        running.tell(record);
        let answer = answered(work, timeout).await;
        record.status = self.conclude(call, record, running, answer, rt::now());
        Ok(())
    }

    /// Its execution begins.
    #[inline]
    pub(super) fn begin(
        self: &Rc<Inner>,
        call: &Invocation,
        mut slot: Slot,
        start: StartKind,
        exchange: Option<&Rc<Exchange>>,
        started: Time,
    ) -> Result<Begun, &'static str> {
        let state = &mut *self.state.borrow_mut();
        let (container, backend, sandbox) = state.container(slot.key());
        let sandbox = sandbox.ok_or("the container is gone")?;
        let does = &self.backends[usize::from(backend)];
        let work = match exchange {
            None => does.invoke(sandbox, call),
            Some(exchange) => does.exchange(sandbox, call, exchange),
        };
        let timeout = state.start(call, slot.key(), start, work.due(), started, &mut Around(self));
        slot.held.executes = true;
        Ok((Running { slot, started, container, backend, start }, work, timeout))
    }

    /// Its execution has ended, or its time has: how, and what becomes of its container.
    #[inline]
    pub(super) fn conclude(
        self: &Rc<Inner>,
        call: &Invocation,
        record: &mut Record,
        running: Running,
        answer: Result<Answer, rt::Elapsed>,
        ended: Time,
    ) -> Status {
        let Running { mut slot, started, .. } = running;
        record.exec_end = Some(ended);
        let (status, why, keep): (_, Option<Rc<str>>, _) = match answer {
            Ok(Ok(())) => (Status::Completed, None, true),
            Ok(Err(CallFault::Function(why))) => (Status::Failed, Some(why), true),
            Ok(Err(CallFault::OutOfMemory)) => (Status::Failed, Some(Rc::from("oom")), false),
            Ok(Err(CallFault::Broken(why))) => (Status::Failed, Some(why), false),
            // What still runs in there would disturb the next one.
            Err(rt::Elapsed) => (Status::TimedOut, Some(Rc::from("execution timeout")), false),
        };
        let mut state = self.state.borrow_mut();
        record.memory = state.end(call, slot.key(), status, started, ended, &mut Around(self));
        drop(state);
        slot.held.executes = false;
        record.error = why;
        if keep {
            slot.give_back(ended);
        }
        status
    }

    /// Asks for a place in the worker.
    #[inline]
    pub(super) fn admit(self: &Rc<Inner>, call: &Invocation, now: Time) -> Admission {
        self.state.borrow_mut().arrive(call, now, &mut Around(self))
    }
}

/// What the backend says, if it does in time. What ends at the instant at which its time runs out has ended, whichever
/// timer was set first.
pub(super) async fn answered(work: Work<Answer>, limit: Option<Duration>) -> Result<Answer, rt::Elapsed> {
    let Some(limit) = limit else { return Ok(work.await) };
    let limit = rt::now() + limit;
    match work.due() {
        Some(due) if due <= limit => Ok(work.await),
        Some(_) => {
            rt::sleep_until(limit).await;
            Err(rt::Elapsed)
        }
        None => {
            let mut work = std::pin::pin!(work);
            match rt::select(work.as_mut(), rt::sleep_until(limit)).await {
                rt::Either::Left(answer) => Ok(answer),
                // Other events of this instant may be its end.
                rt::Either::Right(()) => match rt::select(work, rt::sleep_until_as(Class::Tick, limit)).await
                {
                    rt::Either::Left(answer) => Ok(answer),
                    rt::Either::Right(()) => Err(rt::Elapsed),
                },
            }
        }
    }
}

/// Waits in the queue. Dropping it leaves the queue.
struct Waiting {
    inner: Rc<Inner>,
    ticket: usize,
    settled: bool,
}

impl Future for Waiting {
    type Output = Result<Grant, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let told = self.inner.state.borrow_mut().poll_ticket(self.ticket, cx);
        self.settled = told.is_ready();
        told
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let given = self.inner.state.borrow_mut().leave_queue(self.ticket, rt::now());
        if let Some(grant) = given {
            drop(Slot::take(&self.inner, &grant));
        }
        // Whoever stood behind it may be the head now.
        self.inner.pump();
    }
}

/// What a dispatched invocation holds: its processors and its place in a container. Dropping it without
/// [`give_back`](Slot::give_back) destroys the container: nobody knows what state it is in.
pub(super) struct Slot {
    inner: Rc<Inner>,
    held: Held,
    /// It still holds what it took.
    open: bool,
}

impl Slot {
    #[inline]
    pub(super) fn take(inner: &Rc<Inner>, grant: &Grant) -> Slot {
        let (container, late) = match grant.way {
            Way::Exists | Way::Created => (Some(grant.container), None),
            // The container belongs to nobody until it is ready.
            Way::Late(waiter) => (None, Some(waiter)),
        };
        let held = Held { invocation: grant.invocation, cpus: grant.cpus, container, late, executes: false };
        let slot = Slot { inner: Rc::clone(inner), held, open: true };
        if late.is_some() {
            inner.create_late(grant.container);
        }
        slot
    }

    /// Only while it has a container, which is always once it was created.
    fn key(&self) -> Key {
        self.held.container.expect("an invocation that executes has a container")
    }

    /// Creates the container, or waits for the first place that there is.
    async fn create(&mut self, record: &mut Record) -> Result<StartKind, Rc<str>> {
        let Some(key) = self.held.container else {
            let waiter = self.held.late.expect("an invocation without a container waits for one");
            let place = self.inner.next_place(waiter).await;
            self.held.late = None;
            let (key, start) = place?;
            self.held.container = Some(key);
            if start != StartKind::Cold {
                record.cause = None;
            }
            return Ok(start);
        };
        let (container, backend, _) = self.inner.state.borrow_mut().container(key);
        (record.container, record.backend) = (Some(container), Some(backend));
        self.inner.create(key, false).await.map_err(|fault| fault.why)?;
        self.inner.state.borrow_mut().enter_own(key, rt::now());
        // A creation less is under way, and there may be room for others in the container.
        self.inner.pump();
        Ok(StartKind::Cold)
    }

    /// The container is as good as before.
    fn give_back(mut self, now: Time) {
        self.open = false;
        self.inner.state.borrow_mut().give_back(&self.held, now, &mut Around(&self.inner));
        self.inner.pump();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        self.inner.state.borrow_mut().abandon(&self.held, rt::now(), &mut Around(&self.inner));
        self.inner.pump();
    }
}
