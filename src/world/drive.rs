//! Drives a worker, or a controller in front of several: sends every invocation at its instant and hands what became of it
//! to the recorder.

use crate::base::{Duration, Fault, Front, Invocation, Outcome, Record, Result, Time};
use crate::load::{ClosedLoop, Source};
use crate::report::Recorder;
use crate::rt::chance::Purpose;
use crate::rt::sync::{Notify, OneSender, oneshot};
use crate::rt::{self, Class};
use rustc_hash::FxHashMap;
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
    /// Clients of closed loops, by the invocation whose return they wait for.
    clients: RefCell<FxHashMap<u64, OneSender<()>>>,
    /// When the user ended the run, if that was before its load did.
    cut: Cell<Option<Time>>,
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
            clients: RefCell::default(),
            cut: Cell::new(None),
        })
    }

    /// Numbers an invocation that is sent now; `None` when there have been enough.
    #[inline]
    fn send(&self, call: &mut Invocation) -> Option<()> {
        let number = self.sent.get();
        if number >= self.limit || self.cut.get().is_some() {
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

    /// Sends an invocation and waits for its return. False if it was not sent, because there have been enough, or never
    /// returned.
    pub(super) async fn ask(&self, mut call: Invocation, front: &Rc<dyn Front>) -> bool {
        if self.send(&mut call).is_none() {
            return false;
        }
        let (tell, returned) = oneshot();
        self.clients.borrow_mut().insert(call.number, tell);
        front.submit(call);
        returned.await.is_ok()
    }

    /// Ends the run for the records: what has not returned is unfinished, whatever its containers' removal does to it.
    pub(super) fn cut_short(&self, at: Time) {
        self.cut.set(Some(at));
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

impl Outcome for Shared {
    #[inline]
    fn settle(&self, record: &Record) {
        match self.cut.get() {
            None => self.recorder.borrow_mut().take(record),
            Some(at) => self.recorder.borrow_mut().take(&record.clone().unfinished_at(at)),
        }
        self.outstanding.set(self.outstanding.get() - 1);
        let client = self.clients.borrow_mut().remove(&record.invocation);
        if let Some(client) = client {
            // It may have ended with the run.
            let _ = client.send(());
        }
        if self.outstanding.get() == 0 {
            self.settled.notify_waiters();
        }
    }
}

/// Arrivals of an open load, each sent at its instant.
struct Open {
    shared: Rc<Shared>,
    front: Rc<dyn Front>,
    source: Box<dyn Source>,
    next: Invocation,
    end: Rc<End>,
}

/// How a stream of arrivals ended.
#[derive(Default)]
struct End {
    outcome: Cell<Option<Result<()>>>,
    told: Notify,
}

impl Open {
    /// Sends the next one; when the one after it arrives.
    fn send(&mut self) -> Option<Time> {
        let mut call = self.next;
        let outcome = match self.shared.send(&mut call) {
            None => Ok(None),
            Some(()) => {
                self.front.submit(call);
                // The run ends with the last return: nothing waits for an arrival that will not be sent.
                if self.shared.is_enough() { Ok(None) } else { self.source.next() }
            }
        };
        match outcome {
            Ok(Some(next)) => {
                self.next = next;
                return Some(next.arrival);
            }
            Ok(None) => self.end.outcome.set(Some(Ok(()))),
            Err(fault) => self.end.outcome.set(Some(Err(fault))),
        }
        self.end.told.notify_waiters();
        None
    }
}

/// Sends open-loop arrivals until there are no more, or enough were sent.
async fn open(shared: &Rc<Shared>, front: &Rc<dyn Front>, mut source: Box<dyn Source>) -> Result<()> {
    if shared.is_enough() {
        return Ok(());
    }
    let Some(next) = source.next()? else { return Ok(()) };
    let end = Rc::new(End::default());
    let mut open =
        Open { shared: Rc::clone(shared), front: Rc::clone(front), source, next, end: Rc::clone(&end) };
    let _arrivals = rt::arrivals(next.arrival, move || open.send());
    loop {
        let (told, enough) = (end.told.notified(), shared.enough.notified());
        if let Some(outcome) = end.outcome.take() {
            return outcome;
        }
        // Closed loops may reach the limit while the next open arrival is still far.
        if shared.is_enough() {
            return Ok(());
        }
        rt::select(told, enough).await;
    }
}

/// Sends open-loop arrivals and runs closed loops until all have returned.
pub(super) async fn drive(
    shared: Rc<Shared>,
    front: Rc<dyn Front>,
    source: Box<dyn Source>,
    closed: Vec<ClosedLoop>,
    until: Time,
) -> Result<()> {
    let mut clients = Vec::new();
    for group in closed {
        let group = Rc::new(group);
        let calls = Rc::new(Cell::new(0u64));
        for client in 0..group.clients {
            let (shared, front) = (Rc::clone(&shared), Rc::clone(&front));
            let calls = Rc::clone(&calls);
            clients.push(rt::spawn(closed_loop(shared, front, Rc::clone(&group), client, calls, until)));
        }
    }
    open(&shared, &front, source).await?;
    for client in clients {
        client.await.map_err(|e| Fault::bug(e.to_string()))?;
    }
    shared.all_settled().await;
    Ok(())
}

async fn closed_loop(
    shared: Rc<Shared>,
    front: Rc<dyn Front>,
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
        let call = group.profile.invocation(group.function, k, now);
        if !shared.ask(call, &front).await {
            return;
        }
    }
}
