//! The workers of a run, life by life: each begins with the run, and one that is killed may begin another life.

use crate::backend::Backend;
use crate::base::{FunctionId, FunctionSpec, Result, Time};
use crate::came_to::facts_of;
use crate::metrics::{HostProbe, Meter, Sink};
use crate::own::Own;
use crate::report::WorkerFacts;
use crate::rt;
use crate::scenario::Scenario;
use crate::worker::{Creations, Fleet, Parts, Worker};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Makes the backends of a worker.
pub(crate) type MakeBackends = Box<dyn FnMut(&Scenario) -> Result<Vec<Rc<dyn Backend>>>>;

/// What a life of a worker is made of.
pub(crate) struct Lives {
    pub(crate) scenario: Rc<Scenario>,
    /// Each with what the run's contention makes of its cores.
    pub(crate) config: crate::worker::Config,
    pub(crate) own: RefCell<Own>,
    pub(crate) backends: RefCell<MakeBackends>,
    pub(crate) functions: Vec<FunctionSpec>,
    /// Functions with the containers that are created ahead of need.
    pub(crate) prewarm: Vec<(FunctionId, u32)>,
    /// The window of the figures; its end as it was told later, if it was.
    pub(crate) window: (Time, Time),
    pub(crate) told_end: Cell<Option<Time>>,
    /// When the load begins.
    pub(crate) begin: Time,
    /// Points of a series at most.
    pub(crate) points: usize,
    pub(crate) creations: Creations,
    pub(crate) fleet: Option<Fleet>,
}

impl Lives {
    /// Begins a life of the worker with this number. Inside a runtime only.
    ///
    /// # Errors
    /// What of it cannot be meant.
    pub(crate) fn begin(
        &self,
        number: u16,
        host: Option<HostProbe>,
        sink: Option<Box<dyn Sink>>,
    ) -> Result<Worker> {
        let mut meter = Meter::new(self.config.status, self.points).beginning_at(self.begin).sink(sink);
        if let Some(host) = host {
            meter = meter.host(host);
        }
        let own = &mut *self.own.borrow_mut();
        let worker = Worker::start(Parts {
            number,
            config: self.config.clone(),
            backends: (self.backends.borrow_mut())(&self.scenario)?,
            eviction: own.eviction.as_mut().map(|make| make()),
            queue: own.queue.as_mut().map(|make| make()),
            keep_alive: own.keep_alive.as_mut().map(|make| make()),
            observers: own.observers.iter_mut().map(|make| make(number)).collect(),
            checked: own.checked,
            meter,
            window: (self.window.0, self.told_end.get().unwrap_or(self.window.1)),
            seed: self.scenario.seed,
            creations: Rc::clone(&self.creations),
        })?;
        if let Some(fleet) = &self.fleet {
            worker.count_in(fleet);
        }
        for spec in &self.functions {
            worker.register(spec.clone())?;
        }
        for (function, containers) in &self.prewarm {
            for _ in 0..*containers {
                let (worker, retry, function) = (worker.clone(), self.scenario.prewarm, *function);
                let begin = self.begin;
                rt::spawn_detached(async move {
                    // At the beginning of the load, which in a trace of calendar times is not that of time.
                    if begin > rt::now() {
                        rt::sleep_until(begin).await;
                    }
                    if let Err(fault) = worker.prewarm(function, retry).await {
                        tracing::warn!(target: "elapse", %fault);
                    }
                });
            }
        }
        Ok(worker)
    }

    /// Ends the life of a worker at this instant, with all that it has: what it came to.
    pub(crate) fn end(&self, worker: &Worker) -> WorkerFacts {
        let now = rt::now();
        let containers = worker.counts().containers();
        let (from, until) = worker.window();
        worker.crash(now);
        let mut facts = facts_of(worker, now, &self.scenario);
        if from <= now && now < until {
            // With a worker its containers are gone, which is a failure of each.
            facts.counts.containers_failed += containers;
        } else if now < from {
            // What there was is gone when the window begins.
            facts.containers_at_begin = 0;
        }
        facts
    }
}
