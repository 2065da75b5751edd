//! The live world: the same worker, on tokio, with real containers of this host.

use super::drive::Shared;
use super::facts::facts_of;
use super::graphite::Station;
use super::operate::{Started, operate};
use super::run::{Begun, Progress, Run};
use super::scenario::{GiveUp, Scenario};
use crate::backend::{Backend, Live, LiveConfig, Model, Simulated};
use crate::base::{Cpus, Duration, Fault, FaultKind, FunctionSpec, Result, Time, nearest};
use crate::metrics::HostProbe;
use crate::report::WorkerFacts;
use crate::rt::wall::unix_now;
use crate::rt::{self, Either};
use elapse_real::Interrupt;
use elapse_real::docker::Dockers;
use elapse_real::engine::{Common, Engine, EngineFault, agent_path};
use elapse_real::lock::NameLock;
use elapse_real::net::Networks;
use elapse_real::process::{self, Processes};
use std::future::Future;
use std::rc::Rc;

/// The backends that a worker can have, by name.
pub const BACKENDS: [&str; 4] = ["process", "containerd", "docker", "simulated"];

/// What is known only when a live run has ended.
pub(super) struct Lived {
    pub(super) end: Time,
    pub(super) interrupted: bool,
    /// What the first invocations said, where the run was ended because none of them completed.
    pub(super) gave_up: Option<String>,
    /// None where the worker is another process.
    pub(super) facts: Option<WorkerFacts>,
    pub(super) backends: Vec<String>,
}

/// Between two looks whether the user wants the end.
const LOOK: Duration = Duration::from_millis(100);

fn host_fault(fault: EngineFault) -> Fault {
    Fault::host(fault.why)
}

/// What the engines of a worker share. No network is made before a function needs one.
pub(super) fn common(config: &LiveConfig) -> Result<Common> {
    let subnet = config.subnet.parse().map_err(Fault::usage)?;
    Ok(Common {
        worker: config.worker.clone(),
        agent: agent_path(config.agent.as_deref()),
        image_size: config.image_size.0,
        networks: Networks::new(&config.worker, subnet, config.networks as usize)
            .reaching_host(config.reach_host),
    })
}

/// An engine by its name; none where the name is that of the simulated backend. Inside a runtime only.
pub(super) async fn engine(
    name: &str,
    config: &LiveConfig,
    common: Common,
) -> Result<Option<Rc<dyn Engine>>> {
    let made: std::result::Result<Rc<dyn Engine>, EngineFault> = match name {
        "process" => {
            let users = crate::live::users(config).map_err(Fault::usage)?;
            let made = Processes::with_users(common, &users, &config.weaker);
            for (lacking, without) in made.iter().flat_map(|_| process::lacking()) {
                tracing::warn!(target: "elapse", lacking, "sandboxes of process are held less: {without}");
            }
            made.map(|e| Rc::new(e) as _)
        }
        "docker" => Dockers::connect(&config.docker, common).await.map(|e| Rc::new(e) as _),
        #[cfg(feature = "containerd")]
        "containerd" => {
            let (socket, runtime) = (&config.containerd, config.runtime.word());
            let pooled = config.pooled as usize;
            let made = elapse_real::containerd::Containerds::connect(socket, common, runtime, pooled);
            made.await.map(|e| Rc::new(e) as _)
        }
        #[cfg(not(feature = "containerd"))]
        "containerd" => Err(EngineFault::lasting(
            "this build cannot talk to containerd; install protobuf-compiler and build with --features containerd",
        )),
        "simulated" => return Ok(None),
        _ => {
            let hint = nearest(name, BACKENDS).map_or(String::new(), |n| format!("; did you mean '{n}'?"));
            return Err(Fault::usage(format!(
                "[worker]: there is no backend '{name}'{hint} (known: {})",
                BACKENDS.join(", ")
            )));
        }
    };
    made.map(Some).map_err(host_fault)
}

/// The engines of a worker's backends, none where one is simulated, and the networks that they share.
#[derive(Clone)]
pub(super) struct Engines {
    pub(super) all: Vec<Option<Rc<dyn Engine>>>,
    pub(super) networks: Rc<Networks>,
}

/// The engines of these backends.
pub(super) async fn engines(names: &[String], config: &LiveConfig) -> Result<Engines> {
    let common = common(config)?;
    let mut engines = Engines { all: Vec::new(), networks: Rc::clone(&common.networks) };
    for name in names {
        engines.all.push(engine(name, config, common.clone()).await?);
    }
    Ok(engines)
}

/// Obtains the images that functions need; what cannot be had is told at registration. After the sweep at the start, which
/// takes images along.
pub(super) async fn prepare(engines: &Engines, names: &[String], functions: &[FunctionSpec]) {
    for (name, engine) in names.iter().zip(&engines.all) {
        let Some(engine) = engine else { continue };
        let wanted = functions.iter().filter(|f| f.backends.is_empty() || f.backends.contains(name));
        let mut images: Vec<Option<&str>> = wanted.map(|f| f.program.image.as_deref()).collect();
        images.sort_unstable();
        images.dedup();
        for image in images {
            if let Err(fault) = engine.prepare(image).await {
                tracing::info!(target: "elapse", backend = name, image, %fault);
            }
        }
    }
}

/// Runs a scenario on this host until its load has returned, then removes what it made.
pub(super) fn run(run: &mut Run, begun: &mut Begun) -> Result<Lived> {
    let scenario = run.scenario.clone();
    let names = scenario.worker.backend_names();
    let _name = NameLock::take(&scenario.live.worker).map_err(Fault::host)?;
    let started = Started::default();
    let runtime = crate::live::runtime()?;
    let engines = runtime.block_on(before_load(engines(&names, &scenario.live), &run.interrupt))?;
    let prepared = async {
        sweep(&engines, true).await?;
        prepare(&engines, &names, &begun.assembled.functions).await;
        Ok(())
    };
    if let Err(fault) = runtime.block_on(before_load(prepared, &run.interrupt)) {
        runtime.block_on(sweep(&engines, false))?;
        return Err(fault);
    }
    if let Some(span) = begun.station.as_ref().and_then(Station::marker) {
        let from = unix_now();
        elapse_real::mark(span.into());
        let from = from.as_secs_f64();
        begun.marker = Some((from, from + span.as_secs_f64()));
    }
    // What was prepared is no part of the run. One anchor of the monotonic clock to the calendar for the whole run.
    runtime.restart_clock();
    let anchor = runtime.block_on(async { unix_now().as_nanos() as u64 - rt::now().0 });
    begun.facts.start_unix_ns = anchor;
    begun.shared.recorder.borrow_mut().starts_at(anchor);
    begun.shared.recorder.borrow_mut().backends(names.clone());
    let horizon = begun.assembled.horizon;
    let mut job = run.job(begun);
    let dropped = begun.station.as_ref().map(Station::dropped);
    job.host = Some(host_probe(dropped));
    job.sink = begun
        .station
        .as_ref()
        .and_then(|s| s.sink(&scenario.name, "worker-0", scenario.worker.status, Some(anchor)));
    let (shared, started_too, backends) = (Rc::clone(&begun.shared), started.clone(), engines.clone());
    let watched = Rc::clone(&begun.shared);
    let make = move |scenario: &Scenario| {
        let cores = scenario.worker.cores.unwrap_or(Cpus::MAX);
        Ok(make_backends(backends.clone(), cores, &scenario.live, &scenario.model, scenario.seed))
    };
    let outcome = runtime.block_on(async {
        let told = tell(run.progress.take(), horizon, run.interrupt.clone());
        let driven = operate(job, make, shared, started_too);
        while_hopeful(driven, &watched, scenario.measure.give_up, told).await
    });
    let interrupted = matches!(outcome, Ok(Ending::Interrupted));
    let worker = started.workers.borrow().first().cloned();
    let ended = worker.map(|worker| {
        runtime.block_on(async {
            let end = rt::now();
            let facts = facts_of(&worker, end, &scenario);
            if interrupted {
                begun.shared.cut_short(end);
            } else {
                rt::select(worker.drain(), tell(None, None, run.interrupt.clone())).await;
            }
            if run.interrupt.asked() {
                worker.stop().await;
            }
            (end, facts)
        })
    });
    // What is still under way is recorded as unfinished when its task is dropped, and its container goes with it.
    let swept = runtime.block_on(sweep(&engines, false));
    drop(runtime);
    let ending = outcome?;
    let left = swept?;
    if !left.is_empty() && ending == Ending::Whole {
        tracing::warn!(target: "elapse", left = left.join(", "), "removed what the worker had left on the host");
    }
    let (end, facts) = ended.ok_or_else(|| Fault::bug("the worker was never started"))?;
    Ok(Lived {
        end,
        interrupted: ending == Ending::Interrupted,
        gave_up: ending.gave_up(),
        facts: Some(facts),
        backends: names,
    })
}

/// Reads what the host does, in the order of `HOST_PATHS`.
pub(super) fn host_probe(dropped: Option<impl Fn() -> f64 + 'static>) -> HostProbe {
    Box::new(move || {
        let load = elapse_real::load();
        let mib = |bytes: u64| crate::base::Mem(bytes).as_mib_f64();
        [
            load.host_cpu_seconds,
            load.process_cpu_seconds,
            mib(load.host_memory_used),
            mib(load.process_memory),
            dropped.as_ref().map_or(0.0, |dropped| dropped()),
            elapse_real::threads::restarts() as f64,
        ]
    })
}

/// Backends on these engines, simulated ones where there is none.
pub(super) fn make_backends(
    engines: Engines,
    cores: Cpus,
    live: &LiveConfig,
    model: &Model,
    seed: u64,
) -> Vec<Rc<dyn Backend>> {
    engines
        .all
        .into_iter()
        .map(|engine| -> Rc<dyn Backend> {
            match engine {
                Some(engine) => Rc::new(Live::new(engine, live.clone())),
                None => Rc::new(Simulated::new(model.clone(), cores, seed)),
            }
        })
        .collect()
}

/// Removes what bears the worker's name, and tells what of it should not have been there: when the worker starts, all.
pub(super) async fn sweep(engines: &Engines, starts: bool) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for engine in engines.all.iter().flatten() {
        all.extend(engine.sweep().await.map_err(host_fault)?);
    }
    let networks = &engines.networks;
    let left = if starts { networks.sweep().await } else { networks.clear().await };
    all.extend(left.map_err(host_fault)?);
    Ok(all)
}

/// How a live run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With its load.
    Whole,
    /// The user wanted it.
    Interrupted,
    /// Nothing completed: a sentence with what was said.
    GaveUp(String),
}

impl Ending {
    pub(super) fn gave_up(self) -> Option<String> {
        match self {
            Ending::GaveUp(why) => Some(why),
            Ending::Whole | Ending::Interrupted => None,
        }
    }
}

/// Waits for a load, unless the user wants the end or none of the first invocations completes.
///
/// # Errors
/// What ended the load.
pub(super) async fn while_hopeful(
    driven: impl Future<Output = Result<()>>,
    shared: &Rc<Shared>,
    give_up: GiveUp,
    interrupted: impl Future<Output = ()>,
) -> Result<Ending> {
    shared.watch(give_up.0);
    let stopped = rt::select(shared.hopeless(), interrupted);
    Ok(match rt::select(driven, stopped).await {
        Either::Left(Err(fault)) if fault.kind() == FaultKind::Interrupted => Ending::Interrupted,
        Either::Left(outcome) => outcome.map(|()| Ending::Whole)?,
        Either::Right(Either::Right(())) => Ending::Interrupted,
        Either::Right(Either::Left(errors)) => {
            let ends = give_up.0.unwrap_or(0);
            Ending::GaveUp(format!("none of the first {ends} invocations completed: {errors}"))
        }
    })
}

/// Waits for what comes before the load.
///
/// # Errors
/// Its fault; or that the user wants the end, who does not wait for it.
pub(super) async fn before_load<T>(work: impl Future<Output = Result<T>>, wish: &Interrupt) -> Result<T> {
    match rt::select(work, tell(None, None, wish.clone())).await {
        Either::Left(done) => done,
        Either::Right(()) => {
            Err(Fault::interrupted("interrupted before the load began; there are no results"))
        }
    }
}

/// Tells now and then how far the run is; done when the user wants its end.
pub(super) async fn tell(
    mut progress: Option<Box<dyn FnMut(Progress)>>,
    horizon: Option<Time>,
    interrupt: Interrupt,
) {
    while !interrupt.asked() {
        rt::sleep(LOOK).await;
        if let Some(tell) = &mut progress {
            tell(Progress { now: rt::now(), horizon, speed_up: 1.0 });
        }
    }
}

/// Removes from this host everything that bears a worker's name, on every backend that can be reached.
///
/// # Errors
/// A worker of this name that runs, or what cannot be removed.
pub fn clean(config: &LiveConfig) -> Result<Vec<String>> {
    crate::live::check(config).map_err(Fault::usage)?;
    let _name = NameLock::take(&config.worker).map_err(Fault::host)?;
    let runtime = crate::live::runtime()?;
    let mut removed = Vec::new();
    let mut away = Vec::new();
    let common = common(config)?;
    for name in BACKENDS {
        match runtime.block_on(engine(name, config, common.clone())) {
            Ok(Some(engine)) => removed.extend(runtime.block_on(engine.sweep()).map_err(host_fault)?),
            Ok(None) => {}
            Err(why) => away.push(why.to_string()),
        }
    }
    removed.extend(runtime.block_on(common.networks.sweep()).map_err(host_fault)?);
    let left = elapse_real::doctor::leftovers_of(&config.worker);
    if left.is_empty() {
        return Ok(removed);
    }
    // Only a daemon that did not answer can have kept it.
    Err(Fault::host(format!("{} is left of '{}'; {}", left.join(", "), config.worker, away.join("; "))))
}
