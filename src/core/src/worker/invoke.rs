//! The way of an invocation through the worker.

use super::container::{Fate, Key};
use super::ledger::Phase;
use super::lines::Refusal;
use super::state::{Dispose, Grant, Way};
use super::{Disposer, Inner, Worker};
use crate::backend::{CallFault, Work};
use crate::base::{Cpus, Duration, Exchange, FunctionId, Invocation, Mem, Record, StartKind, Status, Time};
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
    seat: Seat,
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
        let status = record.status as usize;
        self.state.borrow_mut().count(now, |c| c.ended[status] += 1);
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
        let mut seat = Seat::take(self, call.function, &grant);
        record.dispatch = Some(rt::now());
        (record.start, record.cause, record.waited) = (Some(grant.start), grant.cause, grant.waited);
        let mut start = grant.start;
        if grant.way != Way::Exists {
            start = seat.create(call.function, record).await.map_err(|why| {
                record.error = Some(why);
                Status::Failed
            })?;
        }
        let (running, work, timeout) = self.begin(call, seat, start, exchange, rt::now()).map_err(|why| {
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
        seat: Seat,
        start: StartKind,
        exchange: Option<&Rc<Exchange>>,
        started: Time,
    ) -> Result<Begun, &'static str> {
        let state = &mut *self.state.borrow_mut();
        let c = state.pool.get(seat.key());
        let (container, backend) = (c.number, c.backend);
        let sandbox = c.sandbox.ok_or("the container is gone")?;
        let does = &self.backends[usize::from(backend)];
        let work = match exchange {
            None => does.invoke(sandbox, call),
            Some(exchange) => does.exchange(sandbox, call, exchange),
        };
        if c.in_flight == 1 || c.next_read == Time::MAX {
            // What is known to end before its first reading needs no watch, if nobody else may enter meanwhile.
            let short = work.due().is_some_and(|due| due < started + self.memory_check);
            if short && c.concurrency == 1 {
                c.working_set = Mem(0);
            } else {
                self.begin_watch(state, seat.key(), started);
            }
        }
        if start == StartKind::Cold {
            state.count(started, |c| c.cold_starts += 1);
        } else {
            state.count(started, |c| c.warm_starts += 1);
        }
        let timeout = state.functions[call.function.index()].timeout;
        Ok((Running { seat, started, container, backend, start }, work, timeout))
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
        let Running { seat, started, .. } = running;
        record.exec_end = Some(ended);
        record.memory = self.read_after(seat.key(), ended);
        let (status, why, keep): (_, Option<Rc<str>>, _) = match answer {
            Ok(Ok(())) => (Status::Completed, None, true),
            Ok(Err(CallFault::Function(why))) => (Status::Failed, Some(why), true),
            Ok(Err(CallFault::OutOfMemory)) => (Status::Failed, Some(Rc::from("oom")), false),
            Ok(Err(CallFault::Broken(why))) => (Status::Failed, Some(why), false),
            // What still runs in there would disturb the next one.
            Err(rt::Elapsed) => (Status::TimedOut, Some(Rc::from("execution timeout")), false),
        };
        if status == Status::Completed {
            let state = &mut *self.state.borrow_mut();
            state.groups.observe(state.functions[call.function.index()].group, ended.since(started));
        }
        record.error = why;
        if keep {
            seat.give_back(ended);
        }
        status
    }

    #[inline]
    pub(super) fn admit(self: &Rc<Inner>, call: &Invocation, now: Time) -> Admission {
        let mut state = self.state.borrow_mut();
        state.count(now, |c| c.invocations += 1);
        if state.queue_len() > 0 {
            state.drop_overdue(now);
        }
        if state.draining {
            return Admission::Refused(Refusal::Draining);
        }
        if state.keeping.is_adaptive() {
            let group = state.functions[call.function.index()].group;
            state.keeping.arrived(call.function, group, now);
        }
        if (state.queue_len() == 0 || state.skips())
            && let Some(grant) = state.dispatch(call.function, now, &mut Disposer(self))
        {
            // What it took may be what one that it passed was counting on.
            if state.queue_len() > 0 {
                state.pump(now, &mut Disposer(self));
            }
            return Admission::Granted(grant);
        }
        match state.join(call, now) {
            // The limit is for those that wait, not for one that need not.
            Err(Refusal::QueueFull) if state.would_be_first(call, now) => {
                match state.dispatch(call.function, now, &mut Disposer(self)) {
                    Some(grant) => Admission::Granted(grant),
                    None => Admission::Refused(Refusal::QueueFull),
                }
            }
            Err(why) => Admission::Refused(why),
            Ok((ticket, first)) => {
                if let Some(deadline) = state.tickets[ticket].deadline {
                    self.alarms.queue.ring_by(deadline);
                }
                if first {
                    state.pump(now, &mut Disposer(self));
                }
                Admission::Queued(ticket)
            }
        }
    }

    /// Memory is read while an invocation runs: each interval from its start.
    #[inline]
    fn begin_watch(&self, state: &mut super::state::State, key: Key, now: Time) {
        let due = now + self.memory_check;
        let c = state.pool.get(key);
        c.next_read = due;
        c.working_set = Mem(0);
        let epoch = c.epoch;
        state.watch.push_back((due, key, epoch));
        self.alarms.memory.ring_by(due);
    }

    /// Memory is read right after an invocation, and first whatever was due by then.
    #[inline]
    fn read_after(&self, key: Key, now: Time) -> Mem {
        let mut state = self.state.borrow_mut();
        while state.pool.get(key).next_read <= now {
            self.read_memory(&mut state, key, now);
        }
        self.read_memory(&mut state, key, now)
    }

    /// Reads a container's memory once; the highest working set since it became busy.
    #[inline]
    pub(super) fn read_memory(&self, state: &mut super::state::State, key: Key, now: Time) -> Mem {
        state.count(now, |c| c.memory_reads += 1);
        let c = state.pool.get(key);
        if c.next_read <= now {
            c.next_read = c.next_read + self.memory_check;
        }
        let measured = c.sandbox.and_then(|s| self.backends[usize::from(c.backend)].memory(s));
        let reading = measured.unwrap_or(c.memory);
        c.reading = Some(reading);
        c.working_set = c.working_set.max(reading);
        c.working_set
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

/// What came of asking for a place in the worker.
pub(super) enum Admission {
    Granted(Grant),
    Queued(usize),
    Refused(Refusal),
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
        let inner = Rc::clone(&self.inner);
        let mut state = inner.state.borrow_mut();
        let ticket = &mut state.tickets[self.ticket];
        match ticket.outcome {
            Some(outcome) => {
                state.tickets.remove(self.ticket);
                self.settled = true;
                Poll::Ready(outcome)
            }
            None => {
                ticket.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut state = self.inner.state.borrow_mut();
        state.leave(self.ticket, rt::now());
        let ticket = state.tickets.remove(self.ticket);
        drop(state);
        if let Some(Ok(grant)) = ticket.outcome {
            drop(Seat::take(&self.inner, ticket.function, &grant));
        }
    }
}

/// What a dispatched invocation holds: its processors and its place in a container. Dropping it without
/// [`give_back`](Seat::give_back) destroys the container: nobody knows what state it is in.
pub(super) struct Seat {
    inner: Rc<Inner>,
    container: Option<Key>,
    /// Its number among those that wait for a place while their container is created (`dispatch = "late"`).
    late: Option<usize>,
    cpus: Cpus,
    /// It still holds what it took.
    open: bool,
}

impl Seat {
    #[inline]
    pub(super) fn take(inner: &Rc<Inner>, function: FunctionId, grant: &Grant) -> Seat {
        let (container, late) = match grant.way {
            Way::Exists | Way::Created => (Some(grant.container), None),
            // The container belongs to nobody until it is ready.
            Way::Late(waiter) => (None, Some(waiter)),
        };
        let seat = Seat { inner: Rc::clone(inner), container, late, cpus: grant.cpus, open: true };
        if late.is_some() {
            inner.create_late(grant.container, function);
        }
        seat
    }

    /// Only while the seat has a container, which is always once it was created.
    fn key(&self) -> Key {
        self.container.expect("a seat that executes has a container")
    }

    /// Creates the container, or waits for the first place that there is.
    async fn create(&mut self, function: FunctionId, record: &mut Record) -> Result<StartKind, Rc<str>> {
        let Some(key) = self.container else {
            let waiter = self.late.expect("a seat without a container waits for one");
            let place = self.inner.next_place(waiter).await;
            self.late = None;
            let (key, start) = place?;
            self.container = Some(key);
            if start != StartKind::Cold {
                record.cause = None;
            }
            return Ok(start);
        };
        {
            let state = &mut *self.inner.state.borrow_mut();
            let c = state.pool.get(key);
            (record.container, record.backend) = (Some(c.number), Some(c.backend));
        }
        self.inner.create(key, function, false).await.map_err(|fault| fault.why)?;
        let mut state = self.inner.state.borrow_mut();
        let c = state.pool.get(key);
        let memory = c.memory;
        // It was counted as in flight when it was dispatched, so that nobody else could take it.
        c.in_flight = 0;
        let group = c.group;
        state.pool.group(group).frequency -= 1;
        state.pool.occupy(key);
        state.ledger.shift(Phase::Creating, Phase::Running, memory, rt::now());
        drop(state);
        // A creation less is under way, and there may be room for others in the container.
        self.inner.pump();
        Ok(StartKind::Cold)
    }

    /// The container is as good as before.
    fn give_back(mut self, now: Time) {
        let Some(key) = self.container.take() else { return };
        {
            let mut state = self.inner.state.borrow_mut();
            state.give_back(self.cpus, now);
            let empty = state.pool.vacate(key);
            if state.pool.get(key).condemned {
                if empty {
                    Disposer(&self.inner).dispose(&mut state, key, Fate::Failed, now);
                }
            } else if !self.inner.hand_over(&mut state, key, StartKind::Late) && empty {
                self.inner.rest(&mut state, key, now);
            }
        }
        self.open = false;
        self.inner.pump();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        {
            let mut state = self.inner.state.borrow_mut();
            state.give_back(self.cpus, rt::now());
            // A place that it was given and did not take is one that it held.
            let given = self.late.take().and_then(|waiter| state.late.leave(waiter));
            if let Some(key) = self.container.or(given) {
                // Others may be in it still: nobody enters any more, and it goes when the last one leaves.
                state.pool.vacate(key);
                Disposer(&self.inner).dispose(&mut state, key, Fate::Failed, rt::now());
            }
        }
        self.inner.pump();
    }
}
