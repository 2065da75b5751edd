//! The simulated controller: a front for several workers of one run, with the network's delay and reports of any age.

use super::fleet::{Fleet, Place, Report};
use crate::base::{Duration, Front, Invocation, Outcome, Record, Status, Time};
use crate::metrics::{CONTROLLER_PATHS, Series};
use crate::rt::{self, Calls, Class, OnTime};
use slab::Slab;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// See the module. Dropped, it tells what is on its way as unfinished: the run ends before it arrives.
pub struct Controller(Rc<Hub>);

/// What the workers' outcomes, the network and the front share.
struct Hub {
    fleet: RefCell<Fleet>,
    /// Functions' keys, by their ids.
    functions: Vec<u64>,
    workers: RefCell<Vec<Rc<dyn Front>>>,
    /// Requests that each worker has received, and those that it has answered.
    received: RefCell<Vec<[u64; 2]>>,
    /// From the controller to a worker, and back.
    delay: Duration,
    outcome: Rc<dyn Outcome>,
    on_their_way: RefCell<Slab<Errand>>,
    calls: OnceCell<Calls>,
    counts: Counts,
}

/// Invocations since the start, and those that are not answered yet.
#[derive(Default)]
struct Counts {
    invocations: Cell<u64>,
    refused: Cell<u64>,
    under_way: Cell<u64>,
}

fn add(count: &Cell<u64>, n: u64) {
    count.set(count.get() + n);
}

/// What is on its way over the network.
enum Errand {
    There(Place, Invocation),
    Back(Box<Record>),
    Told(Place, Report),
}

impl Controller {
    /// A controller of these functions, by their keys, whose invocations end in `outcome`. Inside a runtime only.
    pub fn new(fleet: Fleet, functions: Vec<u64>, delay: Duration, outcome: Rc<dyn Outcome>) -> Controller {
        let hub = Rc::new(Hub {
            fleet: RefCell::new(fleet),
            functions,
            workers: RefCell::default(),
            received: RefCell::default(),
            delay,
            outcome,
            on_their_way: RefCell::default(),
            calls: OnceCell::new(),
            counts: Counts::default(),
        });
        let _ = hub.calls.set(Calls::of(Rc::clone(&hub) as Rc<dyn OnTime>));
        Controller(hub)
    }

    /// Where what its workers did ends.
    pub fn outcome(&self) -> Rc<dyn Outcome> {
        Rc::clone(&self.0) as Rc<dyn Outcome>
    }

    /// Its workers, in the order of their places in the fleet.
    pub fn lead(&self, workers: Vec<Rc<dyn Front>>) {
        *self.0.received.borrow_mut() = vec![[0; 2]; workers.len()];
        *self.0.workers.borrow_mut() = workers;
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

    /// Lets every worker report each `interval` from `begin` on, for ever, how many invocations it has. A report arrives as late
    /// as any message.
    pub fn hear<F: Fn(usize) -> u64>(
        &self,
        begin: Time,
        interval: Duration,
        invocations: F,
    ) -> impl Future<Output = ()> + use<F> {
        let hub = Rc::downgrade(&self.0);
        async move {
            let mut next = begin.max(rt::now()) + interval;
            loop {
                rt::sleep_until_as(Class::Tick, next).await;
                let Some(hub) = hub.upgrade() else { return };
                let received = hub.received.borrow().clone();
                for (i, [received, answered]) in received.into_iter().enumerate() {
                    let report = Report { received, answered, left: invocations(i) };
                    hub.tell(Place(i), report);
                }
                next = next + interval;
            }
        }
    }
}

impl Front for Controller {
    fn submit(&self, call: Invocation) {
        let hub = &self.0;
        let function = hub.functions.get(call.function.index()).copied().unwrap_or_default();
        add(&hub.counts.invocations, 1);
        let place = hub.fleet.borrow_mut().choose(function);
        add(if place.is_some() { &hub.counts.under_way } else { &hub.counts.refused }, 1);
        match place {
            None => hub.outcome.settle(&nobody(&call)),
            Some(place) if hub.delay == Duration::ZERO => hub.hand_over(place, call),
            Some(place) => hub.send(Errand::There(place, call)),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // The workers know the hub, and the hub no longer them.
        let workers = self.0.workers.take();
        drop(workers);
        let on_their_way = self.0.on_their_way.take();
        for (_, errand) in on_their_way {
            let record = match errand {
                Errand::There(_, call) => Record::new(&call, 0, rt::now()),
                Errand::Back(record) => Record { status: Status::Unfinished, returned: rt::now(), ..*record },
                Errand::Told(..) => continue,
            };
            self.0.outcome.settle(&record);
        }
    }
}

/// What is told of an invocation that no worker could take.
fn nobody(call: &Invocation) -> Record {
    let mut record = Record::new(call, 0, rt::now());
    (record.status, record.enqueue) = (Status::Dropped, None);
    record.error = Some(Rc::from("no healthy worker"));
    record
}

impl Hub {
    /// The values of `CONTROLLER_PATHS`: a simulated worker is never lost, and nothing is tried twice.
    fn row(&self) -> [f64; CONTROLLER_PATHS.len()] {
        let (able, counts) = (self.fleet.borrow().able(), &self.counts);
        let (under_way, refused) = (counts.under_way.get(), counts.refused.get());
        let all = [able as u64, 0, under_way, counts.invocations.get(), 0, refused, 0, 0, 0];
        all.map(|n| n as f64)
    }

    /// An invocation's caller has its answer.
    fn answer(&self, record: &Record) {
        self.counts.under_way.set(self.counts.under_way.get().saturating_sub(1));
        self.outcome.settle(record);
    }

    fn hand_over(&self, place: Place, call: Invocation) {
        let worker = self.workers.borrow().get(place.0).cloned();
        if let Some(worker) = worker {
            self.received.borrow_mut()[place.0][0] += 1;
            worker.submit(call);
        }
    }

    fn tell(&self, place: Place, report: Report) {
        if self.delay == Duration::ZERO {
            self.fleet.borrow_mut().hear(place, report);
        } else {
            self.send(Errand::Told(place, report));
        }
    }

    /// The controller has heard that a worker is done with an invocation.
    fn hear_of(&self, record: &Record) {
        self.fleet.borrow_mut().returned(Place(usize::from(record.worker)));
    }

    fn send(&self, errand: Errand) {
        let token = self.on_their_way.borrow_mut().insert(errand) as u32;
        if let Some(calls) = self.calls.get() {
            calls.at(rt::now() + self.delay, token);
        }
    }
}

impl Outcome for Hub {
    fn settle(&self, record: &Record) {
        if let Some([_, answered]) = self.received.borrow_mut().get_mut(usize::from(record.worker)) {
            *answered += 1;
        }
        // A run that ends does not wait for the network.
        if self.delay == Duration::ZERO || record.status == Status::Unfinished {
            self.hear_of(record);
            return self.answer(record);
        }
        self.send(Errand::Back(Box::new(record.clone())));
    }
}

impl OnTime for Hub {
    fn on_time(&self, token: u32) {
        let errand = self.on_their_way.borrow_mut().try_remove(token as usize);
        match errand {
            Some(Errand::There(place, call)) => self.hand_over(place, call),
            Some(Errand::Told(place, report)) => self.fleet.borrow_mut().hear(place, report),
            Some(Errand::Back(mut record)) => {
                self.hear_of(&record);
                record.returned = rt::now();
                self.answer(&record);
            }
            None => {}
        }
    }
}
