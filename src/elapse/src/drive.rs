//! Drives a worker, or a controller in front of several: sends every invocation at its instant and hands what became of it
//! to the recorder.

use crate::base::{
    CompletionSink, Duration, Fault, FunctionId, Invocation, InvocationSink, Record, Result, Status, Time,
};
use crate::load::{ClosedLoop, Source};
use crate::report::{Errors, Recorder};
use crate::rt::chance::Purpose;
use crate::rt::sync::{Notify, OneSender, oneshot};
use crate::rt::{self, Class, Either};
use crate::window;
use rustc_hash::FxHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Who hears an instant.
type Hearer = Box<dyn Fn(Time)>;

/// What the tasks of a run share.
pub struct Shared {
    /// What records them.
    pub recorder: RefCell<Recorder>,
    outstanding: Cell<u64>,
    /// Those of them that arrived in the window.
    inside: Cell<u64>,
    sent: Cell<u64>,
    /// When the first and the last was sent.
    first: Cell<Time>,
    last: Cell<Time>,
    /// The function that was called last.
    called: Cell<FunctionId>,
    limit: u64,
    /// The window: where it begins, and where it ends, which may only be known when the load is over.
    begin: Time,
    end: Cell<Option<Time>>,
    ends_with_last: bool,
    /// The load is over, and its end is just behind the last return.
    ends_with_return: Cell<bool>,
    /// Whom the end of the window is told.
    ends: RefCell<Vec<Hearer>>,
    end_told: Notify,
    settled: Notify,
    /// Told when the last invocation that the limit allows was sent.
    enough: Notify,
    /// Clients of closed loops, by the invocation whose return they wait for.
    clients: RefCell<FxHashMap<u64, OneSender<Status>>>,
    hope: Hope,
    /// When the user ended the run, if that was before its load did.
    cut: Cell<Option<Time>>,
}

/// Whether anything completes at all.
#[derive(Default)]
struct Hope {
    /// How many ends without a completion are too many; `None` where that is not asked, or something completed.
    left: Cell<Option<u32>>,
    errors: RefCell<Errors>,
    lost: Notify,
}

impl Hope {
    fn settle(&self, record: &Record) {
        // Of what still ends after the last of them nothing changes any more.
        let Some(left) = self.left.get().filter(|left| *left > 0) else { return };
        match record.status {
            Status::Unfinished => {}
            Status::Completed => self.left.set(None),
            status => {
                self.errors.borrow_mut().add(status, record.error.as_deref());
                self.left.set(Some(left - 1));
                if left == 1 {
                    self.lost.notify_waiters();
                }
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(recorder: Recorder, limit: Option<u64>, window: window::Plan) -> Rc<Shared> {
        Rc::new(Shared {
            recorder: RefCell::new(recorder),
            outstanding: Cell::new(0),
            inside: Cell::new(0),
            sent: Cell::new(0),
            first: Cell::new(Time::ZERO),
            last: Cell::new(Time::ZERO),
            called: Cell::new(FunctionId(0)),
            limit: limit.unwrap_or(u64::MAX),
            begin: window.begin,
            end: Cell::new(window.end),
            ends_with_last: window.ends_with_last,
            ends_with_return: Cell::new(false),
            ends: RefCell::default(),
            end_told: Notify::new(),
            settled: Notify::new(),
            enough: Notify::new(),
            clients: RefCell::default(),
            hope: Hope::default(),
            cut: Cell::new(None),
        })
    }

    /// Asks that so many ends without a completion be told.
    pub(crate) fn watch(&self, ends: Option<u32>) {
        self.hope.left.set(ends);
    }

    /// Waits until that many have ended and none has completed; says why they did not.
    pub(crate) async fn hopeless(&self) -> String {
        let hope = &self.hope;
        while hope.left.get() != Some(0) {
            hope.lost.notified().await;
        }
        hope.errors.borrow().words().unwrap_or_default()
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
        if number == 0 {
            self.first.set(call.arrival);
        }
        self.last.set(call.arrival);
        self.called.set(call.function);
        self.outstanding.set(self.outstanding.get() + 1);
        self.inside.set(self.inside.get() + u64::from(self.is_inside(call.arrival)));
        if number + 1 == self.limit {
            if self.ends_with_last {
                self.load_is_over();
            }
            self.enough.notify_waiters();
        }
        Some(())
    }

    /// Whether what arrives at an instant is in the window.
    #[inline]
    fn is_inside(&self, at: Time) -> bool {
        at >= self.begin && self.end.get().is_none_or(|end| at < end)
    }

    /// The window, up to `now` where its end was not known by then.
    pub(crate) fn window(&self, now: Time) -> (Time, Time) {
        (self.begin, self.end.get().unwrap_or(now))
    }

    /// Whether the window has no end but that of its last return.
    pub(crate) fn ends_with_return(&self) -> bool {
        self.ends_with_return.get()
    }

    /// Invocations that were sent and have not returned.
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding.get()
    }

    /// The function that was called last, and how many invocations were sent so far.
    pub(crate) fn last_called(&self) -> (FunctionId, u64) {
        (self.called.get(), self.sent.get())
    }

    /// Tells `hear` the end of the window when it is known; nothing if it is known already.
    pub(crate) fn when_it_ends(&self, hear: impl Fn(Time) + 'static) {
        if self.end.get().is_none() || self.ends_with_last {
            self.ends.borrow_mut().push(Box::new(hear));
        }
    }

    /// Nothing will arrive any more that the window waits for: its end follows from what did.
    pub fn load_is_over(&self) {
        let by_number = self.is_enough() && self.ends_with_last;
        if self.end.get().is_some() && !by_number {
            return;
        }
        match window::end_of(self.sent.get(), self.first.get(), self.last.get()) {
            Some(end) => self.end_at(end),
            None if self.outstanding.get() > 0 => self.ends_with_return.set(true),
            None => self.end_at(Time(rt::now().max(self.begin).0 + u64::from(self.sent.get() > 0))),
        }
    }

    fn end_at(&self, end: Time) {
        self.end.set(Some(end));
        self.recorder.borrow_mut().end_window(end);
        self.ends.take().iter().for_each(|hear| hear(end));
        self.end_told.notify_waiters();
    }

    /// Waits until the window has ended and, if `finish`, all that arrived in it has returned. The load goes on meanwhile.
    pub(crate) async fn measured(&self, finish: bool) {
        loop {
            let told = self.end_told.notified();
            // A number of invocations may end it sooner than was known.
            match self.end.get() {
                Some(end) if rt::now() >= end => break,
                Some(end) => drop(rt::select(rt::sleep_until(end), told).await),
                None => told.await,
            }
        }
        while finish && self.inside.get() > 0 {
            self.settled.notified().await;
        }
    }

    /// Sends an invocation and waits for its return: how it ended. `None` if it was not sent, because there have been enough,
    /// or never returned.
    pub async fn ask(&self, mut call: Invocation, front: &Rc<dyn InvocationSink>) -> Option<Status> {
        self.send(&mut call)?;
        let (tell, returned) = oneshot();
        self.clients.borrow_mut().insert(call.number, tell);
        front.submit(call);
        returned.await.ok()
    }

    /// Ends the run for the records: what has not returned is unfinished, whatever its containers' removal does to it.
    pub fn cut_short(&self, at: Time) {
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
}

impl CompletionSink for Shared {
    #[inline]
    fn settle(&self, record: &Record) {
        let inside = self.is_inside(record.arrival);
        match self.cut.get() {
            None => self.recorder.borrow_mut().take(record),
            Some(at) => self.recorder.borrow_mut().take(&record.clone().unfinished_at(at)),
        }
        self.hope.settle(record);
        self.outstanding.set(self.outstanding.get() - 1);
        self.inside.set(self.inside.get() - u64::from(inside));
        let client = self.clients.borrow_mut().remove(&record.invocation);
        if let Some(client) = client {
            // It may have ended with the run.
            let _ = client.send(record.status);
        }
        if inside && self.inside.get() == 0 {
            self.settled.notify_waiters();
        }
        if self.outstanding.get() == 0 && self.ends_with_return.get() && self.end.get().is_none() {
            self.end_at(Time(record.returned.0 + 1));
        }
    }
}

/// Arrivals of an open load, each sent at its instant.
struct Open {
    shared: Rc<Shared>,
    front: Rc<dyn InvocationSink>,
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
async fn open(
    shared: &Rc<Shared>,
    front: &Rc<dyn InvocationSink>,
    first: Option<Invocation>,
    source: Box<dyn Source>,
) -> Result<()> {
    let Some(next) = first.filter(|_| !shared.is_enough()) else { return Ok(()) };
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

/// Sends open-loop arrivals and runs closed loops until there is nothing more to send.
pub async fn drive(
    shared: Rc<Shared>,
    front: Rc<dyn InvocationSink>,
    (first, source): (Option<Invocation>, Box<dyn Source>),
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
    open(&shared, &front, first, source).await?;
    for client in clients {
        client.await.map_err(|e| Fault::bug(e.to_string()))?;
    }
    shared.load_is_over();
    Ok(())
}

/// Lets `driver` send its load until the window has been measured, or the load fails.
pub async fn until_measured(
    shared: &Shared,
    driver: impl Future<Output = Result<()>>,
    finish: bool,
) -> Result<()> {
    let failed = async {
        match driver.await {
            Ok(()) => std::future::pending().await,
            Err(fault) => fault,
        }
    };
    match rt::select(failed, shared.measured(finish)).await {
        Either::Left(fault) => Err(fault),
        Either::Right(()) => Ok(()),
    }
}

async fn closed_loop(
    shared: Rc<Shared>,
    front: Rc<dyn InvocationSink>,
    group: Rc<ClosedLoop>,
    client: u32,
    calls: Rc<Cell<u64>>,
    until: Time,
) {
    let mut refused = false;
    for turn in 0.. {
        let nth = u64::from(client) << 40 | turn;
        let think: Duration = group.think.sample(&mut group.rng.draw(Purpose::Think, nth));
        let think = if refused { think.max(group.retry) } else { think };
        let at = rt::now() + think;
        if at >= until || shared.is_enough() {
            return;
        }
        shared.wait_for(at, shared.limit != u64::MAX).await;
        let now = rt::now();
        let k = calls.replace(calls.get() + 1);
        let call = group.profile.invocation(group.function, k, now);
        match shared.ask(call, &front).await {
            None => return,
            // Who is refused does not ask again at once: nothing would have changed, and time would stand still.
            Some(status) => refused = status == Status::Dropped,
        }
    }
}
