//! One worker under its load: the same in both worlds.

use super::assemble::Assembled;
use super::drive::{Shared, drive};
use super::scenario::{AtEnd, Scenario};
use crate::backend::{Backend, Calibration, Contention, Simulated};
use crate::base::{Cpus, Fault, Front, Outcome, Result, Time};
use crate::metrics::{HostProbe, Meter, Sink};
use crate::rt::{self, Either};
use crate::worker::{Parts, Worker, eviction::Eviction, queue::QueuePolicy};
use std::cell::RefCell;
use std::rc::Rc;

/// What is to be done.
pub(super) struct Job {
    pub(super) scenario: Scenario,
    pub(super) assembled: Assembled,
    pub(super) eviction: Option<Box<dyn Eviction>>,
    pub(super) queue: Option<Box<dyn QueuePolicy>>,
    pub(super) window: (Time, Time),
    /// A live worker's host, and where its points go besides.
    pub(super) host: Option<HostProbe>,
    pub(super) sink: Option<Box<dyn Sink>>,
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
        let backend = plain().measured(&name, measured, scenario.live.behaviour);
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
    backends: impl FnOnce(&Scenario) -> Result<Vec<Rc<dyn Backend>>>,
    shared: Rc<Shared>,
    started: Rc<RefCell<Option<Worker>>>,
) -> Result<()> {
    let Job { scenario, assembled, eviction, queue, window, host, sink } = job;
    let Assembled { functions, prewarm, source, closed, until, .. } = assembled;
    let cut = (scenario.measure.at_end == AtEnd::Cut)
        .then(|| scenario.measure.until.or(scenario.duration))
        .flatten();
    let mut config = scenario.worker.clone();
    config.cores = Some(match scenario.model.contention {
        Contention::Permits => scenario.worker.cores.unwrap_or(Cpus::MAX),
        Contention::Shared | Contention::None => Cpus::MAX,
    });
    let mut meter = Meter::new(config.status, scenario.metrics.points).sink(sink);
    if let Some(host) = host {
        meter = meter.host(host);
    }
    let worker = Worker::start(Parts {
        number: 0,
        config,
        backends: backends(&scenario)?,
        eviction,
        queue,
        meter,
        window,
        seed: scenario.seed,
    })?;
    *started.borrow_mut() = Some(worker.clone());
    for spec in functions {
        worker.register(spec)?;
    }
    for (function, containers) in prewarm {
        for _ in 0..containers {
            let (worker, retry) = (worker.clone(), scenario.prewarm);
            rt::spawn_detached(async move {
                if let Err(fault) = worker.prewarm(function, retry).await {
                    tracing::warn!(target: "elapse", %fault);
                }
            });
        }
    }
    let front: Rc<dyn Front> = Rc::new(worker.intake(Rc::clone(&shared) as Rc<dyn Outcome>));
    // A task of its own, so that an arrival wakes nothing but it.
    let driver = rt::spawn_named("load", drive(shared, front, source, closed, until));
    let driven = async move { driver.await.map_err(|e| Fault::bug(e.to_string()))? };
    let whole = async move {
        let Some(at) = cut.map(|at| Time(at.0)) else { return driven.await };
        match rt::select(driven, rt::sleep_until(at)).await {
            // It ended early: the rest of the time is part of the run all the same.
            Either::Left(driven) => {
                rt::sleep_until(at).await;
                driven
            }
            Either::Right(()) => Ok(()),
        }
    };
    match rt::select(worker.failed(), whole).await {
        Either::Left(why) => Err(Fault::bug(why.to_string())),
        Either::Right(driven) => driven,
    }
}
