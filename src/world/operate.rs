//! A worker under its load, or several behind a controller: the same in both worlds.

use super::assemble::Assembled;
use super::drive::{Shared, drive};
use super::scenario::Scenario;
use crate::backend::{Backend, Calibration, Contention, Simulated};
use crate::base::{Cpus, Duration, Fault, Front, FunctionSpec, Outcome, Result, Time};
use crate::controller::{Controller, Fleet, balancer, key_of};
use crate::metrics::{Columns, HostProbe, Meter, Series, Sink};
use crate::rt::chance::Chance;
use crate::rt::{self, Either};
use crate::worker::{Creations, Parts, Worker, eviction::Eviction, queue::QueuePolicy};
use std::cell::RefCell;
use std::rc::Rc;

/// Makes a policy for each worker.
pub(super) type MakeEviction = Box<dyn FnMut() -> Box<dyn Eviction>>;
/// Makes a policy for each worker.
pub(super) type MakeQueue = Box<dyn FnMut() -> Box<dyn QueuePolicy>>;

/// What is to be done.
pub(super) struct Job {
    pub(super) scenario: Scenario,
    pub(super) assembled: Assembled,
    pub(super) eviction: Option<MakeEviction>,
    pub(super) queue: Option<MakeQueue>,
    pub(super) window: (Time, Time),
    /// A live worker's host, and where its points go besides.
    pub(super) host: Option<HostProbe>,
    pub(super) sink: Option<Box<dyn Sink>>,
}

/// What of a run has been started.
#[derive(Clone, Default)]
pub(super) struct Started {
    pub(super) workers: Rc<RefCell<Vec<Worker>>>,
    /// What the controller measures of itself, where there is one.
    pub(super) controller: Rc<RefCell<Option<Rc<RefCell<Series>>>>>,
}

/// The backends of a simulated run: one for all, or each that was measured, as far as the worker has it.
pub(super) fn simulated(scenario: &Scenario) -> Result<Vec<Rc<dyn Backend>>> {
    let cores = scenario.worker.cores.unwrap_or(Cpus::MAX);
    let plain = || Simulated::new(scenario.model.clone(), cores, scenario.seed);
    let Some(path) = &scenario.model.calibration else { return Ok(vec![Rc::new(plain())]) };
    let mut calibration = Calibration::read(path)?;
    let mut backends: Vec<Rc<Simulated>> = Vec::new();
    for name in scenario.worker.backend_names() {
        let known = calibration.backend.keys().cloned().collect::<Vec<_>>().join(", ");
        let measured = calibration.backend.remove(&name).ok_or_else(|| {
            Fault::usage(format!(
                "{}: backend '{name}' was not measured there (it has {known}); run elapse calibrate --backend {name}",
                path.display()
            ))
        })?;
        let backend = plain().measured(
            &name,
            measured,
            scenario.live.behaviour,
            calibration.host.cores,
            scenario.live.pooled,
        );
        backends.push(Rc::new(match backends.first() {
            Some(first) => backend.beside(first),
            None => backend,
        }));
    }
    Ok(backends.into_iter().map(|b| b as Rc<dyn Backend>).collect())
}

/// Starts a worker, registers what is called, and drives the load until all have returned. Inside a runtime only.
pub(super) async fn operate(
    job: Job,
    mut backends: impl FnMut(&Scenario) -> Result<Vec<Rc<dyn Backend>>>,
    shared: Rc<Shared>,
    started: Started,
) -> Result<()> {
    let Job { scenario, mut assembled, mut eviction, mut queue, window, mut host, mut sink } = job;
    let functions = std::mem::take(&mut assembled.functions);
    let Assembled { prewarm, source, closed, until, .. } = assembled;
    let cut = scenario.cut();
    let mut config = scenario.worker.clone();
    config.cores = Some(match scenario.model.contention {
        Contention::Permits => scenario.worker.cores.unwrap_or(Cpus::MAX),
        Contention::Shared | Contention::None => Cpus::MAX,
    });
    let creations = Creations::default();
    for number in 0..config.count {
        let mut meter = Meter::new(config.status, scenario.metrics.points).sink(sink.take());
        if let Some(host) = host.take() {
            meter = meter.host(host);
        }
        let worker = Worker::start(Parts {
            number,
            config: config.clone(),
            backends: backends(&scenario)?,
            eviction: eviction.as_mut().map(|make| make()),
            queue: queue.as_mut().map(|make| make()),
            meter,
            window,
            seed: scenario.seed,
            creations: Rc::clone(&creations),
        })?;
        started.workers.borrow_mut().push(worker.clone());
        for spec in &functions {
            worker.register(spec.clone())?;
        }
        for (function, containers) in &prewarm {
            for _ in 0..*containers {
                let (worker, retry, function) = (worker.clone(), scenario.prewarm, *function);
                rt::spawn_detached(async move {
                    if let Err(fault) = worker.prewarm(function, retry).await {
                        tracing::warn!(target: "elapse", %fault);
                    }
                });
            }
        }
    }
    let workers = started.workers.borrow().clone();
    let outcome = Rc::clone(&shared) as Rc<dyn Outcome>;
    let front: Rc<dyn Front> = match workers.as_slice() {
        [worker] => Rc::new(worker.intake(outcome)),
        many => controlled(many, &scenario, &functions, outcome, &started)?,
    };
    // A task of its own, so that an arrival wakes nothing but it.
    let driver = rt::spawn_named("load", drive(shared, front, source, closed, until));
    let driven = async move { driver.await.map_err(|e| Fault::bug(e.to_string()))? };
    let whole = async move {
        let Some(at) = cut else { return driven.await };
        match rt::select(driven, rt::sleep_until(at)).await {
            // It ended early: the rest of the time is part of the run all the same.
            Either::Left(driven) => {
                rt::sleep_until(at).await;
                driven
            }
            Either::Right(()) => Ok(()),
        }
    };
    let failed = futures::future::select_all(workers.iter().map(|w| Box::pin(w.failed())));
    match rt::select(failed, whole).await {
        Either::Left((why, ..)) => Err(Fault::bug(why.to_string())),
        Either::Right(driven) => driven,
    }
}

/// A controller in front of these workers.
fn controlled(
    workers: &[Worker],
    scenario: &Scenario,
    functions: &[FunctionSpec],
    outcome: Rc<dyn Outcome>,
    started: &Started,
) -> Result<Rc<dyn Front>> {
    let config = &scenario.controller;
    let luck = Chance::new(scenario.seed).named("balancer");
    let balancer = balancer::build(&config.balancer, luck)
        .ok_or_else(|| Fault::bug("a balancer that was checked could not be built"))?;
    let mut fleet = Fleet::new(balancer);
    for worker in workers {
        fleet.join(&format!("worker-{}", worker.number()), scenario.worker.cores.unwrap_or(Cpus::MAX));
    }
    let keys = functions.iter().map(|f| key_of(&f.name)).collect();
    let controller = Controller::new(fleet, keys, config.delay, outcome);
    let intake = |w: &Worker| Rc::new(w.intake(controller.outcome())) as Rc<dyn Front>;
    controller.lead(workers.iter().map(intake).collect());
    let step = scenario.worker.status;
    let series = Rc::new(RefCell::new(Series::of(Columns::of_controller(), step, scenario.metrics.points)));
    drop(rt::spawn_named("controller-metrics", controller.measure(Rc::clone(&series))));
    started.controller.replace(Some(series));
    if config.reports > Duration::ZERO {
        let workers = workers.to_vec();
        let hearing = controller.hear(config.reports, move |i| workers[i].invocations());
        drop(rt::spawn_named("load-reports", hearing));
    }
    Ok(Rc::new(controller))
}
