//! A worker under its load, or several behind a controller: the same in both worlds.

use crate::assemble::Assembled;
use crate::backend::{Backend, Calibration, Contention, Simulated};
use crate::base::{Cpus, Duration, Fault, Front, FunctionId, FunctionSpec, Outcome, Result, Time};
use crate::controller::{Controller, Fleet, balancer, key_of};
use crate::drive::{Shared, drive, until_measured};
use crate::metrics::{Columns, HostProbe, Meter, Series, Sink};
use crate::own::Own;
use crate::rt::chance::Chance;
use crate::rt::{self, Either};
use crate::scenario::Scenario;
use crate::worker::{self, Creations, Parts, Worker};
use std::cell::RefCell;
use std::rc::Rc;

/// What is to be done.
pub struct Job {
    pub(crate) scenario: Scenario,
    pub(crate) assembled: Assembled,
    pub(crate) own: Own,
    pub(crate) window: (Time, Time),
    /// What reads a live worker's host.
    pub host: Option<HostProbe>,
    /// Where its points go besides.
    pub sink: Option<Box<dyn Sink>>,
}

/// What of a run has been started.
#[derive(Clone, Default)]
pub struct Started {
    /// In the order of their numbers.
    pub workers: Rc<RefCell<Vec<Worker>>>,
    /// What the controller measures of itself, where there is one.
    pub(crate) controller: Rc<RefCell<Option<Rc<RefCell<Series>>>>>,
    /// What the workers of a fleet hold together.
    pub(crate) fleet: Rc<RefCell<Option<worker::Fleet>>>,
}

/// The backends of a simulated run: one for all, or each that was measured, as far as the worker has it.
pub(crate) fn simulated(scenario: &Scenario) -> Result<Vec<Rc<dyn Backend>>> {
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
        let backend = plain().measured(&name, measured, &scenario.live, calibration.host.cores);
        backends.push(Rc::new(match backends.first() {
            Some(first) => backend.beside(first),
            None => backend,
        }));
    }
    Ok(backends.into_iter().map(|b| b as Rc<dyn Backend>).collect())
}

/// Starts a worker, registers what is called, and drives the load until all have returned. Inside a runtime only.
pub async fn operate(
    job: Job,
    mut backends: impl FnMut(&Scenario) -> Result<Vec<Rc<dyn Backend>>>,
    shared: Rc<Shared>,
    started: Started,
) -> Result<()> {
    let Job { scenario, mut assembled, mut own, window, mut host, mut sink } = job;
    let functions = std::mem::take(&mut assembled.functions);
    let Assembled { prewarm, standing, first, source, closed, until, begin, .. } = assembled;
    let mut config = scenario.worker.clone();
    config.cores = Some(match scenario.model.contention {
        Contention::Permits => scenario.worker.cores.unwrap_or(Cpus::MAX),
        Contention::Shared | Contention::None => Cpus::MAX,
    });
    let creations = Creations::default();
    let fleet = (config.count > 1).then(|| worker::Fleet::new(window.0, window.1));
    started.fleet.replace(fleet.clone());
    let points = points(&scenario, host.is_some());
    for number in 0..config.count {
        let mut meter = Meter::new(config.status, points).beginning_at(begin).sink(sink.take());
        if let Some(host) = host.take() {
            meter = meter.host(host);
        }
        let worker = Worker::start(Parts {
            number,
            config: config.clone(),
            backends: backends(&scenario)?,
            eviction: own.eviction.as_mut().map(|make| make()),
            queue: own.queue.as_mut().map(|make| make()),
            keep_alive: own.keep_alive.as_mut().map(|make| make()),
            meter,
            window,
            seed: scenario.seed,
            observers: own.observers.iter_mut().map(|make| make(number)).collect(),
            checked: own.checked,
            creations: Rc::clone(&creations),
        })?;
        if let Some(fleet) = &fleet {
            worker.count_in(fleet);
        }
        started.workers.borrow_mut().push(worker.clone());
        for spec in &functions {
            worker.register(spec.clone())?;
        }
        for (function, containers) in &prewarm {
            for _ in 0..*containers {
                let (worker, retry, function) = (worker.clone(), scenario.prewarm, *function);
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
    }
    let workers = started.workers.borrow().clone();
    let told = workers.clone();
    shared.when_it_ends(move |end| {
        told.iter().for_each(|w| w.end_window(end));
        if let Some(fleet) = &fleet {
            fleet.end_window(end);
        }
    });
    let outcome = Rc::clone(&shared) as Rc<dyn Outcome>;
    let front: Rc<dyn Front> = match workers.as_slice() {
        [worker] => Rc::new(worker.intake(outcome)),
        many => controlled(many, &scenario, &functions, outcome, &started, begin, points)?,
    };
    if !standing.is_empty() {
        stand_by(&workers, standing, begin);
    }
    // What is on its way when the last one was sent still arrives.
    let _kept = Rc::clone(&front);
    // A task of its own, so that an arrival wakes nothing but it.
    let driver = rt::spawn_named("load", drive(Rc::clone(&shared), front, (first, source), closed, until));
    let driven = async move { driver.await.map_err(|e| Fault::bug(e.to_string()))? };
    let whole = until_measured(&shared, driven, scenario.finishes());
    let failed = futures_util::future::select_all(workers.iter().map(|w| Box::pin(w.failed())));
    match rt::select(failed, whole).await {
        Either::Left((why, ..)) => Err(Fault::bug(why.to_string())),
        Either::Right(driven) => driven,
    }
}

/// Points that a series keeps at most: what the scenario says, and no more than lets all series of the run stay readable.
fn points(scenario: &Scenario, live: bool) -> usize {
    /// Rows of metrics.csv.
    const ROWS: usize = 200_000;
    let workers = usize::from(scenario.worker.count.max(1));
    let backends = if live || scenario.model.calibration.is_some() {
        scenario.worker.backend_names()
    } else {
        vec!["simulated".into()]
    };
    let controller = if workers > 1 { Columns::of_controller().names.len() } else { 0 };
    let columns = workers * Columns::new(&backends, live).names.len() + controller;
    scenario.metrics.points.min(ROWS / columns.max(1)).max(16)
}

/// Lets containers stand when the load begins, before its first arrival: created without a delay where that can be, among
/// the workers in turn.
fn stand_by(workers: &[Worker], standing: Vec<(FunctionId, u32)>, begin: Time) {
    let workers = workers.to_vec();
    rt::spawn_detached(async move {
        if begin > rt::now() {
            rt::sleep_until(begin).await;
        }
        let containers = standing.into_iter().flat_map(|(f, n)| (0..n).map(move |_| f));
        for (function, worker) in containers.zip(workers.iter().cycle()) {
            if let Err(fault) = worker.stand_by(function).await {
                tracing::warn!(target: "elapse", %fault);
            }
        }
    });
}

/// A controller in front of these workers.
fn controlled(
    workers: &[Worker],
    scenario: &Scenario,
    functions: &[FunctionSpec],
    outcome: Rc<dyn Outcome>,
    started: &Started,
    begin: Time,
    points: usize,
) -> Result<Rc<dyn Front>> {
    let config = &scenario.controller;
    let luck = Chance::new(scenario.seed).named("balancer");
    let balancer = balancer::build(&config.balancer, luck).map_err(Fault::usage)?;
    let mut fleet = Fleet::new(balancer);
    for worker in workers {
        fleet.join(&format!("worker-{}", worker.number()), scenario.worker.cores.unwrap_or(Cpus::MAX));
    }
    let keys = functions.iter().map(|f| key_of(&f.name)).collect();
    let controller = Controller::new(fleet, keys, config.delay, outcome);
    let intake = |w: &Worker| Rc::new(w.intake(controller.outcome())) as Rc<dyn Front>;
    controller.lead(workers.iter().map(intake).collect());
    let step = scenario.worker.status;
    let series = Series::of(Columns::of_controller(), step, points).beginning_at(begin);
    let series = Rc::new(RefCell::new(series));
    drop(rt::spawn_named("controller-metrics", controller.measure(Rc::clone(&series))));
    started.controller.replace(Some(series));
    if config.reports > Duration::ZERO {
        let workers = workers.to_vec();
        let hearing = controller.hear(begin, config.reports, move |i| workers[i].invocations());
        drop(rt::spawn_named("load-reports", hearing));
    }
    Ok(Rc::new(controller))
}
