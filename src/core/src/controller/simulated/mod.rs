//! The simulated controller: it drives the controller's [`Protocol`] over a network with delays and losses, in front of the
//! workers of one run.
//!
//! A worker is whatever takes invocations; it begins another life when it is restarted, and what an earlier one still does is heard by
//! nobody. Where heartbeats are wanted every worker sends them, and registers again when it is not known.

mod network;
mod parts;

use super::config::Config;
use super::fleet::{Fleet, Health, Place, Report};
use super::protocol::{Action, Attempt, Beat, CallEnd, Heard, Load, Newcomer, Protocol, Session, Verdict};
use crate::base::{CompletionSink, Cpus, Duration, Invocation, InvocationSink, Record, Status, Time};
use crate::metrics::{CONTROLLER_PATHS, Series};
use crate::rt::chance::Seed;
use crate::rt::{self, Class, EventHandler, Scheduler};
use network::{Network, Way};
use parts::{Message, Pending, WorkerSlot};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// See the module. Dropped, it tells what is on its way as unfinished: the run ends before it arrives.
pub struct Controller(Rc<Shared>);

/// Asks for the protocol's next deadline, among tokens of messages.
const DEADLINE: u32 = u32::MAX;

/// What the workers' outcomes, the network and the front share.
struct Shared {
    protocol: RefCell<Protocol>,
    network: RefCell<Network>,
    /// Functions' keys, by their ids.
    functions: Vec<u64>,
    workers: RefCell<Vec<WorkerSlot>>,
    cores: Cpus,
    outcome: Rc<dyn CompletionSink>,
    /// Calls that are not over.
    calls: RefCell<FxHashMap<u64, Pending>>,
    on_their_way: RefCell<Slab<(Place, Message)>>,
    calls_at: OnceCell<Scheduler>,
    /// When the protocol is asked next what is due.
    armed: Cell<Time>,
}

/// Hands what a life of a worker did to the controller.
struct LifeSink(Rc<Shared>, Place, u64);

impl CompletionSink for LifeSink {
    fn settle(&self, record: &Record) {
        self.0.worker_answers(self.1, self.2, record);
    }
}

impl Controller {
    /// A controller of these functions, by their keys, in front of so many workers with these cores; its invocations end in `outcome`.
    /// `faults` where something befalls workers. Inside a runtime only.
    pub fn new(
        config: &Config,
        faults: bool,
        fleet: Fleet,
        functions: Vec<u64>,
        (workers, cores): (usize, Cpus),
        seed: u64,
        outcome: Rc<dyn CompletionSink>,
    ) -> Controller {
        let rng = Seed::new(seed).named("network");
        let network = Network::new(config.delay.clone(), config.loss, config.ordered, rng, workers);
        let terms = config.terms(config.heartbeats(faults).is_some());
        let hub = Rc::new(Shared {
            protocol: RefCell::new(Protocol::new(fleet, terms)),
            network: RefCell::new(network),
            functions,
            workers: RefCell::default(),
            cores,
            outcome,
            calls: RefCell::default(),
            on_their_way: RefCell::default(),
            calls_at: OnceCell::new(),
            armed: Cell::new(Time::MAX),
        });
        let _ = hub.calls_at.set(Scheduler::of(Rc::clone(&hub) as Rc<dyn EventHandler>));
        Controller(hub)
    }

    /// Makes the sink of what a life of a worker did. Lives are numbered from 1.
    pub fn outcome(&self, worker: usize, life: u64) -> Rc<dyn CompletionSink> {
        Rc::new(LifeSink(Rc::clone(&self.0), Place(worker), life))
    }

    /// Its workers, in the order of their places in the fleet: they are registered already when the run begins.
    pub fn lead(&self, workers: Vec<Rc<dyn InvocationSink>>) {
        let hub = &self.0;
        for (number, front) in workers.into_iter().enumerate() {
            let name = format!("worker-{number}");
            let mut protocol = hub.protocol.borrow_mut();
            if let Ok(session) = protocol.register(hub.newcomer(&name, 1), rt::now()) {
                protocol.introduced(session, true, rt::now());
            }
            while protocol.poll().is_some() {}
            let front = Some(front);
            let slot = WorkerSlot {
                name,
                front,
                life: 1,
                registered: true,
                received: 0,
                answered: 0,
                has: FxHashMap::default(),
            };
            hub.workers.borrow_mut().push(slot);
        }
        hub.arm();
    }

    /// Measures the controller at every tick of this series, for ever: what [`CONTROLLER_PATHS`](crate::metrics::CONTROLLER_PATHS)
    /// says.
    pub fn measure(&self, series: Rc<RefCell<Series>>) -> impl Future<Output = ()> + use<> {
        let hub = Rc::downgrade(&self.0);
        async move {
            loop {
                let next = series.borrow().next(rt::now());
                rt::sleep_until_as(Class::Tick, next).await;
                let Some(hub) = hub.upgrade() else { return };
                series.borrow_mut().push(next, &hub.row());
            }
        }
    }

    /// Lets every worker report each `interval` from `begin` on, for ever, how many invocations it has; as heartbeats, or of its load
    /// alone. A report arrives as late as any message.
    pub fn hear<F: Fn(usize) -> u64>(
        &self,
        begin: Time,
        interval: Duration,
        heartbeats: bool,
        invocations: F,
    ) -> impl Future<Output = ()> + use<F> {
        let hub = Rc::downgrade(&self.0);
        async move {
            let mut next = begin.max(rt::now()) + interval;
            loop {
                rt::sleep_until_as(Class::Tick, next).await;
                let Some(hub) = hub.upgrade() else { return };
                let workers = hub.workers.borrow().len();
                (0..workers).for_each(|i| hub.worker_tells(Place(i), heartbeats, invocations(i)));
                next = next + interval;
            }
        }
    }

    /// Parts a worker from the controller, or joins them again.
    pub fn part(&self, worker: usize, parted: bool) {
        self.0.network.borrow_mut().part(worker, parted);
    }

    /// A worker is gone with all that it has; false if it was gone already.
    pub fn kill(&self, worker: usize) -> bool {
        let front = {
            let slot = &mut self.0.workers.borrow_mut()[worker];
            let front = slot.front.take();
            if front.is_some() {
                slot.life += 1;
                (slot.registered, slot.received, slot.answered) = (false, 0, 0);
                slot.has.clear();
            }
            front
        };
        front.is_some()
    }

    /// A worker that was killed begins another life. Its number, with which [`outcome`](Self::outcome)s are asked for.
    pub fn life_of(&self, worker: usize) -> u64 {
        self.0.workers.borrow()[worker].life
    }

    /// The next life of a worker is there: it registers.
    pub fn restart(&self, worker: usize, front: Rc<dyn InvocationSink>) {
        let life = {
            let slot = &mut self.0.workers.borrow_mut()[worker];
            slot.front = Some(front);
            slot.life
        };
        self.0.send(Place(worker), Message::Register(life));
    }

    /// What does not hold of it, for tests.
    pub fn broken(&self) -> Option<String> {
        let (protocol, calls) = (self.0.protocol.borrow(), self.0.calls.borrow());
        let differ = (protocol.under_way() != calls.len() as u64).then(|| {
            format!("{} calls are under way, and {} are waited for", protocol.under_way(), calls.len())
        });
        protocol.broken().or(differ)
    }
}

impl InvocationSink for Controller {
    fn submit(&self, call: Invocation) {
        let hub = &self.0;
        let function = hub.functions.get(call.function.index()).copied().unwrap_or_default();
        let number = hub.protocol.borrow_mut().invoke(function, rt::now());
        let pending = Pending { call, answer: None, last: None };
        hub.calls.borrow_mut().insert(number, pending);
        hub.act();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The workers know it, and it no longer them. What they have they tell themselves, when they end.
        let fronts: Vec<_> = self.0.workers.borrow_mut().iter_mut().map(|slot| slot.front.take()).collect();
        drop(fronts);
        for (_, (_, message)) in self.0.on_their_way.take() {
            if let Message::Answer(attempt, record) = message {
                self.0.keep(attempt, record);
            }
        }
        let with_workers: Vec<Attempt> =
            self.0.workers.borrow().iter().flat_map(|slot| slot.has.values().copied()).collect();
        let is_nobodys = |pending: &Pending| pending.last.is_none_or(|last| !with_workers.contains(&last));
        let mut calls: Vec<(u64, Pending)> =
            self.0.calls.borrow_mut().extract_if(|_, pending| is_nobodys(pending)).collect();
        calls.sort_unstable_by_key(|(number, _)| *number);
        for (_, Pending { call, answer, last }) in calls {
            let worker = last.map_or(0, |attempt| attempt.place.0 as u16);
            let record = match answer {
                Some(record) => Record { status: Status::Unfinished, returned: rt::now(), ..*record },
                None => Record::new(&call, worker, rt::now()),
            };
            self.0.outcome.settle(&record);
        }
    }
}

impl Shared {
    fn newcomer<'a>(&self, name: &'a str, life: u64) -> Newcomer<'a> {
        Newcomer { name, incarnation: life, machine: "simulated", cores: self.cores }
    }

    /// The values of `CONTROLLER_PATHS`; a simulated controller's loops never fail.
    fn row(&self) -> [f64; CONTROLLER_PATHS.len()] {
        let protocol = self.protocol.borrow();
        let (able, lost) = (protocol.workers(Health::Healthy), protocol.workers(Health::Lost));
        let totals = protocol.totals();
        let of_calls = [totals.invocations, totals.lost, totals.refused, totals.retries];
        let [invocations, lost_attempts, refused, retries] = of_calls;
        [able, lost, protocol.under_way(), invocations, lost_attempts, refused, retries, 0, 0]
            .map(|n| n as f64)
    }

    /// Does what the protocol wants done.
    fn act(&self) {
        loop {
            let action = self.protocol.borrow_mut().poll();
            match action {
                Some(Action::Send(attempt)) => {
                    let call = self.calls.borrow_mut().get_mut(&attempt.call).map(|pending| {
                        pending.last = Some(attempt);
                        pending.call
                    });
                    if let Some(call) = call {
                        self.send(attempt.place, Message::Call(attempt, call));
                    }
                }
                Some(Action::End { call, how }) => self.end(call, how),
                Some(Action::Introduce(session)) => self.introduce(session),
                Some(Action::Over { .. }) => {}
                None => break,
            }
        }
        self.arm();
    }

    /// Has the protocol asked at its next deadline.
    fn arm(&self) {
        let Some(due) = self.protocol.borrow_mut().next_deadline() else { return };
        if due < self.armed.get()
            && let Some(calls) = self.calls_at.get()
        {
            self.armed.set(due);
            calls.at(due, DEADLINE);
        }
    }

    /// A call's caller has its answer.
    fn end(&self, call: u64, how: CallEnd) {
        let Some(Pending { call, answer, last }) = self.calls.borrow_mut().remove(&call) else { return };
        let (now, worker) = (rt::now(), last.map_or(0, |attempt| attempt.place.0));
        let attempt = last.map_or(1, |attempt| attempt.attempt as u16);
        let untaken = |status: Status, why: &str| {
            let mut record = Record::new(&call, worker as u16, now);
            (record.status, record.enqueue, record.attempt) = (status, None, attempt);
            record.error = Some(Rc::from(why));
            record
        };
        let record = match (how, answer) {
            (CallEnd::Answered | CallEnd::Refused, Some(record)) => {
                Record { returned: now, attempt, ..*record }
            }
            (CallEnd::Lost, _) => {
                let why = format!("lost with worker-{worker}, where it may have run");
                untaken(Status::Lost, &why)
            }
            _ => untaken(Status::Dropped, "no healthy worker"),
        };
        self.outcome.settle(&record);
    }

    /// Keeps an answer, unless its attempt was given up: then nobody hears it.
    fn keep(&self, attempt: Attempt, record: Box<Record>) {
        if let Some(pending) = self.calls.borrow_mut().get_mut(&attempt.call)
            && pending.last == Some(attempt)
        {
            pending.answer = Some(record);
        }
    }

    fn introduce(&self, session: Session) {
        let workers = self.workers.borrow();
        let of = |slot: &WorkerSlot| self.protocol.borrow().session_of(&slot.name) == Some(session);
        let Some((place, life)) = workers.iter().position(of).map(|i| (Place(i), workers[i].life)) else {
            return;
        };
        drop(workers);
        self.send(place, Message::Introduce(session, life));
    }

    /// Introduces a worker once more that is still being introduced: a message of it may have been lost.
    fn introduce_again(&self, session: Option<Session>) {
        let waits = |session: &Session| self.protocol.borrow().is_introducing(*session);
        if let Some(session) = session.filter(waits) {
            self.introduce(session);
        }
    }

    /// A worker tells of its load, and that it is alive; or registers, if it is not known.
    fn worker_tells(&self, place: Place, heartbeat: bool, left: u64) {
        let message = {
            let slot = &self.workers.borrow()[place.0];
            let report = Report { received: slot.received, answered: slot.answered, left };
            match (&slot.front, heartbeat) {
                (None, _) => return,
                (Some(_), false) => Message::Told(report),
                (Some(_), true) if slot.registered => Message::Beat(slot.life, report),
                (Some(_), true) => Message::Register(slot.life),
            }
        };
        self.send(place, message);
    }

    /// A life of a worker is done with an invocation.
    fn worker_answers(&self, place: Place, life: u64, record: &Record) {
        let attempt = {
            let mut workers = self.workers.borrow_mut();
            let Some(slot) = workers.get_mut(place.0).filter(|slot| slot.life == life) else { return };
            slot.answered += 1;
            slot.has.remove(&record.invocation)
        };
        let Some(attempt) = attempt else { return };
        // A run that ends does not wait for the network.
        if record.status == Status::Unfinished {
            self.protocol.borrow_mut().give_up(attempt.call);
            if self.calls.borrow_mut().remove(&attempt.call).is_some() {
                self.outcome.settle(record);
            }
            return;
        }
        self.send(place, Message::Answer(attempt, Box::new(record.clone())));
    }

    /// Sends a message: it arrives at once, later, or never.
    fn send(&self, place: Place, message: Message) {
        let now = rt::now();
        let Some(at) = self.network.borrow_mut().send(place.0, message.way(), now) else { return };
        if at == now {
            return self.arrive(place, message);
        }
        let token = self.on_their_way.borrow_mut().insert((place, message)) as u32;
        if let Some(calls) = self.calls_at.get() {
            calls.at(at, token);
        }
    }

    fn arrive(&self, place: Place, message: Message) {
        if self.network.borrow().is_parted(place.0) {
            return;
        }
        match message.way() {
            Way::There => self.arrive_at_worker(place, message),
            Way::Back => {
                self.arrive_at_controller(place, message);
                self.act();
            }
        }
    }

    fn arrive_at_worker(&self, place: Place, message: Message) {
        let mut workers = self.workers.borrow_mut();
        let Some(slot) = workers.get_mut(place.0) else { return };
        let Some(front) = slot.front.clone() else { return };
        match message {
            Message::Call(attempt, call) => {
                slot.received += 1;
                slot.has.insert(call.number, attempt);
                drop(workers);
                front.submit(call);
            }
            Message::Introduce(session, life) if life == slot.life => {
                drop(workers);
                self.send(place, Message::Introduced(session));
            }
            Message::Known(life, known) if life == slot.life => {
                slot.registered = known;
                drop(workers);
                if !known {
                    self.send(place, Message::Register(life));
                }
            }
            _ => {}
        }
    }

    fn arrive_at_controller(&self, place: Place, message: Message) {
        let now = rt::now();
        let protocol = || self.protocol.borrow_mut();
        match message {
            Message::Answer(attempt, record) => {
                let verdict = match record.status {
                    Status::Dropped => Verdict::NotTaken,
                    _ => Verdict::Answered { ran: true },
                };
                self.keep(attempt, record);
                protocol().answered(attempt, verdict, now);
            }
            Message::Introduced(session) => protocol().introduced(session, true, now),
            Message::Told(report) => protocol().report(place, report),
            Message::Register(life) => {
                let name = self.workers.borrow()[place.0].name.clone();
                let before = protocol().session_of(&name);
                let session = protocol().register(self.newcomer(&name, life), now).ok();
                self.introduce_again(session.filter(|session| Some(*session) == before));
                self.send(place, Message::Known(life, session.is_some()));
            }
            Message::Beat(life, report) => {
                let name = self.workers.borrow()[place.0].name.clone();
                let beat = Beat { incarnation: life, draining: false, load: Load::Report(report) };
                let before = protocol().introducing(&name);
                let heard = protocol().beat(&name, beat, now);
                self.introduce_again(before);
                let known = matches!(heard, Heard::Is(_) | Heard::Registering);
                self.send(place, Message::Known(life, known));
            }
            Message::Call(..) | Message::Introduce(..) | Message::Known(..) => {}
        }
    }
}

impl EventHandler for Shared {
    fn on_time(&self, token: u32) {
        if token == DEADLINE {
            // An earlier one was set after this, and has set the next.
            if self.armed.get() > rt::now() {
                return;
            }
            self.armed.set(Time::MAX);
            self.protocol.borrow_mut().handle_timeout(rt::now());
            return self.act();
        }
        let message = self.on_their_way.borrow_mut().try_remove(token as usize);
        if let Some((place, message)) = message {
            self.arrive(place, message);
        }
    }
}
