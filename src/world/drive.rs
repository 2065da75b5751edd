//! Drives a worker: sends every invocation at its instant and hands what became of it to the recorder.

use crate::base::{Duration, Fault, Invocation, Record, Result, Status, Time};
use crate::load::{ClosedLoop, Source};
use crate::report::Recorder;
use crate::rt::chance::Purpose;
use crate::rt::{self, Class, sync::Notify};
use crate::worker::Worker;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What the tasks of a run share.
pub(super) struct Shared {
    pub(super) recorder: RefCell<Recorder>,
    outstanding: Cell<u64>,
    sent: Cell<u64>,
    limit: u64,
    settled: Notify,
    /// Told when the last invocation that the limit allows was sent.
    enough: Notify,
}

impl Shared {
    pub(super) fn new(recorder: Recorder, limit: Option<u64>) -> Rc<Shared> {
        Rc::new(Shared {
            recorder: RefCell::new(recorder),
            outstanding: Cell::new(0),
            sent: Cell::new(0),
            limit: limit.unwrap_or(u64::MAX),
            settled: Notify::new(),
            enough: Notify::new(),
        })
    }

    /// Numbers an invocation that is sent now; `None` when there have been enough.
    #[inline]
    fn send(&self, call: &mut Invocation) -> Option<()> {
        let number = self.sent.get();
        if number >= self.limit {
            return None;
        }
        call.number = number;
        self.sent.set(number + 1);
        if number + 1 == self.limit {
            self.enough.notify_waiters();
        }
        self.outstanding.set(self.outstanding.get() + 1);
        Some(())
    }

    #[inline]
    fn settle(&self, record: &Record) {
        self.recorder.borrow_mut().take(record);
        self.outstanding.set(self.outstanding.get() - 1);
        if self.outstanding.get() == 0 {
            self.settled.notify_waiters();
        }
    }

    fn is_enough(&self) -> bool {
        self.sent.get() >= self.limit
    }

    /// Waits for an arrival's instant; with `limited`, not beyond the last invocation that the limit allows.
    async fn wait_for(&self, at: Time, limited: bool) {
        let due = rt::sleep_until_as(Class::Arrival, at);
        if limited {
            rt::select(due, self.enough.notified()).await;
        } else {
            due.await;
        }
    }

    async fn all_settled(&self) {
        while self.outstanding.get() > 0 {
            self.settled.notified().await;
        }
    }
}

/// An invocation under way. Dropped before it returned, it is recorded as unfinished: nothing is lost.
struct Flight {
    shared: Rc<Shared>,
    worker: Worker,
    call: Invocation,
    record: Record,
}

impl Flight {
    /// Boxed, because a task's future is moved several times on its way to its place.
    fn new(shared: &Rc<Shared>, worker: &Worker, call: Invocation) -> Box<Flight> {
        let record = Record::new(&call, worker.number(), rt::now());
        Box::new(Flight { shared: Rc::clone(shared), worker: worker.clone(), call, record })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.record.status == Status::Unfinished {
            self.record.returned = rt::now();
        }
        self.shared.settle(&self.record);
    }
}

async fn fly(mut flight: Box<Flight>) {
    let Flight { worker, call, record, .. } = &mut *flight;
    worker.invoke_into(call, record).await;
}

/// Sends open-loop arrivals and runs closed loops until all have returned.
pub(super) async fn drive(
    shared: Rc<Shared>,
    worker: Worker,
    mut source: Box<dyn Source>,
    closed: Vec<ClosedLoop>,
    until: Time,
) -> Result<()> {
    // Closed loops may reach the limit while the next open arrival is still far.
    let limited_too = shared.limit != u64::MAX && !closed.is_empty();
    let mut clients = Vec::new();
    for group in closed {
        let group = Rc::new(group);
        let calls = Rc::new(Cell::new(0u64));
        for client in 0..group.clients {
            let (shared, worker) = (Rc::clone(&shared), worker.clone());
            let calls = Rc::clone(&calls);
            clients.push(rt::spawn(closed_loop(shared, worker, Rc::clone(&group), client, calls, until)));
        }
    }
    // The run ends with the last return: nothing sleeps towards an arrival that will not be sent.
    while !shared.is_enough()
        && let Some(mut call) = source.next()?
    {
        shared.wait_for(call.arrival, limited_too).await;
        if shared.send(&mut call).is_none() {
            break;
        }
        rt::spawn_detached(fly(Flight::new(&shared, &worker, call)));
    }
    for client in clients {
        client.await.map_err(|e| Fault::bug(e.to_string()))?;
    }
    shared.all_settled().await;
    Ok(())
}

async fn closed_loop(
    shared: Rc<Shared>,
    worker: Worker,
    group: Rc<ClosedLoop>,
    client: u32,
    calls: Rc<Cell<u64>>,
    until: Time,
) {
    for turn in 0.. {
        let nth = u64::from(client) << 40 | turn;
        let think: Duration = group.think.sample(&mut group.luck.draw(Purpose::Think, nth));
        let at = rt::now() + think;
        if at >= until || shared.is_enough() {
            return;
        }
        shared.wait_for(at, shared.limit != u64::MAX).await;
        let now = rt::now();
        let k = calls.replace(calls.get() + 1);
        let mut call = group.profile.invocation(group.function, k, now);
        if shared.send(&mut call).is_none() {
            return;
        }
        fly(Flight::new(&shared, &worker, call)).await;
    }
}
