//! A worker under its load, or several behind a controller: the same in both worlds.

use crate::assemble::Assembled;
use crate::backend::{Backend, Calibration, Contention, Simulated};
use crate::base::{CompletionSink, Cpus, Duration, Fault, FunctionId, InvocationSink, Result, Time};
use crate::controller::{Breakage, Controller, FaultConfig, Fleet, balancer, key_of};
use crate::drive::{Shared, drive, until_measured};
use crate::lives::Lives;
use crate::metrics::{Columns, HostProbe, Series, Sink};
use crate::own::Own;
use crate::report::WorkerFacts;
use crate::rt::chance::Seed;
use crate::rt::{self, Either};
use crate::scenario::Scenario;
use crate::worker::{self, Creations, Worker};
use std::cell::{Cell, RefCell};
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
    /// What lives of workers came to that are over, by the workers' numbers.
    pub(crate) ended: Rc<RefCell<Vec<(usize, WorkerFacts)>>>,
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
    backends: impl FnMut(&Scenario) -> Result<Vec<Rc<dyn Backend>>> + 'static,
    shared: Rc<Shared>,
    started: Started,
) -> Result<()> {
    let Job { scenario, mut assembled, own, window, mut host, mut sink } = job;
    let functions = std::mem::take(&mut assembled.functions);
    let Assembled { prewarm, standing, first, source, closed, until, begin, .. } = assembled;
    let mut config = scenario.worker.clone();
    config.cores = Some(match scenario.model.contention {
        Contention::Permits => scenario.worker.cores.unwrap_or(Cpus::MAX),
        Contention::Shared | Contention::None => Cpus::MAX,
    });
    let fleet = (config.count > 1).then(|| worker::Fleet::new(window.0, window.1));
    started.fleet.replace(fleet.clone());
    let points = points(&scenario, host.is_some());
    let lives = Rc::new(Lives {
        scenario: Rc::new(scenario),
        config,
        own: RefCell::new(own),
        backends: RefCell::new(Box::new(backends)),
        functions,
        prewarm,
        window,
        told_end: Cell::new(None),
        begin,
        points,
        creations: Creations::default(),
        fleet,
    });
    for number in 0..lives.config.count {
        let worker = lives.begin(number, host.take(), sink.take())?;
        started.workers.borrow_mut().push(worker);
    }
    let workers = started.workers.borrow().clone();
    let (told, fleet) = (Rc::clone(&started.workers), lives.fleet.clone());
    let later = Rc::clone(&lives);
    shared.when_it_ends(move |end| {
        later.told_end.set(Some(end));
        told.borrow().iter().for_each(|w| w.end_window(end));
        if let Some(fleet) = &fleet {
            fleet.end_window(end);
        }
    });
    let outcome = Rc::clone(&shared) as Rc<dyn CompletionSink>;
    let front: Rc<dyn InvocationSink> = match workers.as_slice() {
        [worker] if lives.scenario.faults.is_empty() => Rc::new(worker.intake(outcome)),
        many => controlled(many, &lives, outcome, &started)?,
    };
    if !standing.is_empty() {
        stand_by(&workers, standing, begin);
    }
    // What is on its way when the last one was sent still arrives.
    let _kept = Rc::clone(&front);
    // A task of its own, so that an arrival wakes nothing but it.
    let driver = rt::spawn_named("load", drive(Rc::clone(&shared), front, (first, source), closed, until));
    let driven = async move { driver.await.map_err(|e| Fault::bug(e.to_string()))? };
    let whole = until_measured(&shared, driven, lives.scenario.finishes());
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

/// A controller in front of these workers, and what befalls them.
fn controlled(
    workers: &[Worker],
    lives: &Rc<Lives>,
    outcome: Rc<dyn CompletionSink>,
    started: &Started,
) -> Result<Rc<dyn InvocationSink>> {
    let (scenario, begin) = (&lives.scenario, lives.begin);
    let config = &scenario.controller;
    let rng = Seed::new(scenario.seed).named("balancer");
    let balancer = balancer::build(&config.balancer, rng).map_err(Fault::usage)?;
    let keys = lives.functions.iter().map(|f| key_of(&f.name)).collect();
    let faults = !scenario.faults.is_empty();
    let size = (workers.len(), scenario.worker.cores.unwrap_or(Cpus::MAX));
    let controller =
        Rc::new(Controller::new(config, faults, Fleet::new(balancer), keys, size, scenario.seed, outcome));
    let intake =
        |(i, w): (usize, &Worker)| Rc::new(w.intake(controller.outcome(i, 1))) as Rc<dyn InvocationSink>;
    controller.lead(workers.iter().enumerate().map(intake).collect());
    let step = scenario.worker.status;
    let series = Series::of(Columns::of_controller(), step, lives.points).beginning_at(begin);
    let series = Rc::new(RefCell::new(series));
    drop(rt::spawn_named("controller-metrics", controller.measure(Rc::clone(&series))));
    started.controller.replace(Some(series));
    let hear = |interval: Duration, heartbeats: bool| {
        let now = Rc::clone(&started.workers);
        controller.hear(begin, interval, heartbeats, move |i| now.borrow()[i].invocations())
    };
    if config.reports > Duration::ZERO {
        drop(rt::spawn_named("load-reports", hear(config.reports, false)));
    }
    if let Some(interval) = config.heartbeats(faults) {
        drop(rt::spawn_named("heartbeats", hear(interval, true)));
    }
    for fault in &scenario.faults {
        let (fault, controller, lives) = (fault.clone(), Rc::clone(&controller), Rc::clone(lives));
        rt::spawn_detached(befall(fault, controller, lives, started.clone()));
    }
    Ok(controller)
}

/// Lets something befall a worker when its instant has come, and end when its time is over.
async fn befall(fault: FaultConfig, controller: Rc<Controller>, lives: Rc<Lives>, started: Started) {
    let worker = usize::from(fault.worker);
    rt::sleep_until(lives.begin + fault.at).await;
    match fault.kind {
        Breakage::Part => controller.part(worker, true),
        // One that is away already is not killed twice.
        Breakage::Kill | Breakage::Restart if !controller.kill(worker) => return,
        Breakage::Kill | Breakage::Restart => {
            let facts = lives.end(&started.workers.borrow()[worker]);
            started.ended.borrow_mut().push((worker, facts));
        }
    }
    let Some(span) = fault.span() else { return };
    rt::sleep(span).await;
    match fault.kind {
        Breakage::Part => controller.part(worker, false),
        Breakage::Kill => {}
        Breakage::Restart => match lives.begin(fault.worker, None, None) {
            Ok(next) => {
                let intake = next.intake(controller.outcome(worker, controller.life_of(worker)));
                started.workers.borrow_mut()[worker] = next;
                controller.restart(worker, Rc::new(intake));
            }
            Err(fault) => tracing::warn!(target: "elapse", %fault, "a worker does not come back"),
        },
    }
}
