//! The simulated controller: a front for several workers of one run, with the network's delay and reports of any age.

use super::fleet::{Fleet, Place};
use crate::base::{Duration, Front, Invocation, Outcome, Record, Time};
use crate::rt::{self, Calls, OnTime};
use slab::Slab;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// See the module.
pub struct Controller {
    fleet: RefCell<Fleet>,
    /// Functions' keys, by their ids.
    functions: Vec<u64>,
    workers: OnceCell<Vec<Rc<dyn Front>>>,
    /// From the controller to a worker, and back.
    delay: Duration,
    outcome: Rc<dyn Outcome>,
    on_their_way: RefCell<Slab<Errand>>,
    calls: OnceCell<Calls>,
}

/// What is on its way over the network.
enum Errand {
    There(Place, Invocation),
    Back(Box<Record>),
}

impl Controller {
    /// A controller of these functions, by their keys, whose invocations end in `outcome`. Inside a runtime only.
    pub fn new(
        fleet: Fleet,
        functions: Vec<u64>,
        delay: Duration,
        outcome: Rc<dyn Outcome>,
    ) -> Rc<Controller> {
        let controller = Rc::new(Controller {
            fleet: RefCell::new(fleet),
            functions,
            workers: OnceCell::new(),
            delay,
            outcome,
            on_their_way: RefCell::default(),
            calls: OnceCell::new(),
        });
        let _ = controller.calls.set(Calls::of(Rc::clone(&controller) as Rc<dyn OnTime>));
        controller
    }

    /// The workers, in the order of their places in the fleet. Once.
    pub fn lead(&self, workers: Vec<Rc<dyn Front>>) {
        let led = self.workers.set(workers);
        debug_assert!(led.is_ok(), "a controller is given its workers once");
    }

    /// A worker reports how many invocations it has.
    pub fn report(&self, place: Place, invocations: u64) {
        self.fleet.borrow_mut().report(place, invocations);
    }

    fn hand_over(&self, place: Place, call: Invocation) {
        if let Some(worker) = self.workers.get().and_then(|w| w.get(place.0)) {
            worker.submit(call);
        }
    }

    fn after_delay(&self, errand: Errand) {
        let token = self.on_their_way.borrow_mut().insert(errand) as u32;
        if let Some(calls) = self.calls.get() {
            calls.at(rt::now() + self.delay, token);
        }
    }
}

impl Front for Controller {
    fn submit(&self, call: Invocation) {
        let function = self.functions.get(call.function.index()).copied().unwrap_or_default();
        let place = self.fleet.borrow_mut().choose(function, None);
        let Some(place) = place else {
            return self.outcome.settle(&nobody(&call));
        };
        if self.delay == Duration::ZERO {
            return self.hand_over(place, call);
        }
        self.after_delay(Errand::There(place, call));
    }
}

/// What is told of an invocation that no worker could take.
fn nobody(call: &Invocation) -> Record {
    let mut record = Record::new(call, 0, rt::now());
    record.status = crate::base::Status::Dropped;
    record.error = Some(Rc::from("no healthy worker"));
    record
}

impl Outcome for Controller {
    fn settle(&self, record: &Record) {
        self.fleet.borrow_mut().returned(Place(usize::from(record.worker)));
        if self.delay == Duration::ZERO || record.status == crate::base::Status::Unfinished {
            return self.outcome.settle(record);
        }
        self.after_delay(Errand::Back(Box::new(record.clone())));
    }
}

impl OnTime for Controller {
    fn on_time(&self, token: u32) {
        let errand = self.on_their_way.borrow_mut().remove(token as usize);
        match errand {
            Errand::There(place, call) => self.hand_over(place, call),
            Errand::Back(mut record) => {
                record.returned = rt::now();
                self.outcome.settle(&record);
            }
        }
    }
}

impl Controller {
    /// Tells what is still on its way as unfinished: the run ends before it arrives.
    pub fn give_up(&self) {
        let mut left: Vec<Record> = self
            .on_their_way
            .take()
            .into_iter()
            .map(|(_, errand)| match errand {
                Errand::There(_, call) => Record::new(&call, 0, rt::now()),
                Errand::Back(record) => {
                    Record { status: crate::base::Status::Unfinished, returned: rt::now(), ..*record }
                }
            })
            .collect();
        left.sort_by_key(|r| r.invocation);
        left.iter().for_each(|record| self.outcome.settle(record));
    }

    /// Workers' loads are reported each `interval` from now on, by whoever knows them.
    pub async fn hear(&self, interval: Duration, invocations: impl Fn(usize) -> u64) {
        let workers = self.workers.get().map_or(0, Vec::len);
        let mut next = rt::now() + interval;
        loop {
            rt::sleep_until_as(rt::Class::Tick, next).await;
            (0..workers).for_each(|i| self.report(Place(i), invocations(i)));
            next = next.max(Time(rt::now().0)) + interval;
        }
    }
}
