//! The live world: the same worker, on tokio, with real containers of this host.

use crate::agent;
use crate::backend::{self, Live};
use crate::threads::log_panics;
use elapse::backend::{Backend, LiveConfig, Model, NAMES, Simulated};
use elapse::base::{Cpus, Fault, FunctionSpec, Mem, Result, nearest};
use elapse::metrics::HostProbe;
use elapse::rt;
use elapse::rt::wall::unix_now;
use elapse::world::{
    Begun, Ending, Lived, Started, World, before_load, facts_of, operate, tell, while_hopeful,
};
use elapse::{Finished, Run, Scenario};
use elapse_host::docker::Dockers;
use elapse_host::engine::{Common, Engine, EngineFault};
use elapse_host::lock::NameLock;
use elapse_host::net::Networks;
use elapse_host::process::{self, Processes};
use std::rc::Rc;

fn host_fault(fault: EngineFault) -> Fault {
    Fault::host(fault.why)
}

/// What the engines of a worker share. No network is made before a function needs one.
pub fn common(config: &LiveConfig) -> Result<Common> {
    let subnet = config.subnet.parse().map_err(Fault::usage)?;
    Ok(Common {
        worker: config.worker.clone(),
        agent: agent::place(config.agent.as_deref()),
        image_size: config.image_size.0,
        networks: Networks::new(&config.worker, subnet, config.networks as usize)
            .reaching_host(config.reach_host),
    })
}

/// An engine by its name; none where the name is that of the simulated backend. Inside a runtime only.
pub async fn engine(name: &str, config: &LiveConfig, common: Common) -> Result<Option<Rc<dyn Engine>>> {
    let made: std::result::Result<Rc<dyn Engine>, EngineFault> = match name {
        "process" => {
            let users = backend::users(config).map_err(Fault::usage)?;
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
            let made = elapse_host::containerd::Containerds::connect(socket, common, runtime, pooled);
            made.await.map(|e| Rc::new(e) as _)
        }
        #[cfg(not(feature = "containerd"))]
        "containerd" => Err(EngineFault::lasting(
            "this build cannot talk to containerd; install protobuf-compiler and build with --features containerd",
        )),
        "simulated" => return Ok(None),
        _ => {
            let hint = nearest(name, NAMES).map_or(String::new(), |n| format!("; did you mean '{n}'?"));
            return Err(Fault::usage(format!(
                "[worker]: there is no backend '{name}'{hint} (known: {})",
                NAMES.join(", ")
            )));
        }
    };
    made.map(Some).map_err(host_fault)
}

/// The engines of a worker's backends, none where one is simulated, and the networks that they share.
#[derive(Clone)]
pub struct Engines {
    /// In the order of the backends; none where one is simulated.
    pub all: Vec<Option<Rc<dyn Engine>>>,
    /// What they take their networks from.
    pub networks: Rc<Networks>,
}

/// The engines of these backends.
pub async fn engines(names: &[String], config: &LiveConfig) -> Result<Engines> {
    let common = common(config)?;
    let mut engines = Engines { all: Vec::new(), networks: Rc::clone(&common.networks) };
    for name in names {
        engines.all.push(engine(name, config, common.clone()).await?);
    }
    Ok(engines)
}

/// Obtains the images that functions need; what cannot be had is told at registration. After the sweep at the start, which
/// takes images along.
pub async fn prepare(engines: &Engines, names: &[String], functions: &[FunctionSpec]) {
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

/// Runs a scenario on this host, in real time: the same worker as in simulation, on the backends that it names.
///
/// # Errors
/// What of the plan or its data cannot be used, or what this host lacks.
///
/// ```no_run
/// # use elapse::{Run, Scenario};
/// # fn demo(scenario: Scenario) -> elapse::base::Result<()> {
/// let finished = elapse_live::live(Run::new(scenario))?;
/// println!("{} cold starts", finished.summary.json()["cold_starts"]);
/// # Ok(())
/// # }
/// ```
pub fn live(run: Run) -> Result<Finished> {
    if run.scenario().worker.count > 1 {
        return Err(Fault::usage(
            "[worker]: count is for simulations; live, each worker is a daemon: elapse worker CONFIG on each host, and \
             elapse controller CONFIG in front of them",
        ));
    }
    check(run.scenario())?;
    log_panics();
    run.publish_with(crate::graphite::open).within(Here)
}

/// What of a scenario cannot be meant on a host.
pub(crate) fn check(scenario: &Scenario) -> Result<()> {
    backend::check(&scenario.live).map_err(|why| Fault::usage(format!("[live]: {why}")))
}

/// This host.
struct Here;

impl World for Here {
    fn run(self, begun: &mut Begun) -> Result<Lived> {
        drive(begun)
    }
}

/// Runs a scenario on this host until its load has returned, then removes what it made.
fn drive(begun: &mut Begun) -> Result<Lived> {
    let scenario = begun.scenario.clone();
    let names = scenario.worker.backend_names();
    let _name = NameLock::take(&scenario.live.worker).map_err(Fault::host)?;
    let started = Started::default();
    let runtime = backend::runtime()?;
    let engines = runtime.block_on(before_load(engines(&names, &scenario.live), &begun.interrupt))?;
    let prepared = async {
        sweep(&engines, true).await?;
        prepare(&engines, &names, &begun.assembled.functions).await;
        Ok(())
    };
    if let Err(fault) = runtime.block_on(before_load(prepared, &begun.interrupt)) {
        runtime.block_on(sweep(&engines, false))?;
        return Err(fault);
    }
    if let Some(span) = begun.publisher.as_ref().and_then(|publisher| publisher.marker()) {
        let from = unix_now();
        elapse_host::mark(span.into());
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
    let mut job = begun.job();
    let dropped = begun.publisher.as_ref().map(|publisher| publisher.dropped());
    job.host = Some(host_probe(dropped));
    job.sink = begun
        .publisher
        .as_ref()
        .and_then(|s| s.sink(&scenario.name, "worker-0", scenario.worker.status, Some(anchor)));
    let (shared, started_too, backends) = (Rc::clone(&begun.shared), started.clone(), engines.clone());
    let watched = Rc::clone(&begun.shared);
    let make = move |scenario: &Scenario| {
        let cores = scenario.worker.cores.unwrap_or(Cpus::MAX);
        Ok(make_backends(backends.clone(), cores, &scenario.live, &scenario.model, scenario.seed))
    };
    let outcome = runtime.block_on(async {
        let told = tell(begun.progress.take(), horizon, begun.interrupt.clone());
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
                rt::select(worker.drain(), tell(None, None, begun.interrupt.clone())).await;
            }
            if begun.interrupt.asked() {
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
pub fn host_probe(dropped: Option<Box<dyn Fn() -> f64>>) -> HostProbe {
    Box::new(move || {
        let load = elapse_host::load();
        let mib = |bytes: u64| Mem(bytes).as_mib_f64();
        [
            load.host_cpu_seconds,
            load.process_cpu_seconds,
            mib(load.host_memory_used),
            mib(load.process_memory),
            dropped.as_ref().map_or(0.0, |dropped| dropped()),
            elapse_host::threads::restarts() as f64,
        ]
    })
}

/// Backends on these engines, simulated ones where there is none.
pub fn make_backends(
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
pub async fn sweep(engines: &Engines, starts: bool) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for engine in engines.all.iter().flatten() {
        all.extend(engine.sweep().await.map_err(host_fault)?);
    }
    let networks = &engines.networks;
    let left = if starts { networks.sweep().await } else { networks.clear().await };
    all.extend(left.map_err(host_fault)?);
    Ok(all)
}

/// Removes from this host everything that bears a worker's name, on every backend that can be reached.
///
/// # Errors
/// A worker of this name that runs, or what cannot be removed.
pub fn clean(config: &LiveConfig) -> Result<Vec<String>> {
    backend::check(config).map_err(Fault::usage)?;
    let _name = NameLock::take(&config.worker).map_err(Fault::host)?;
    let runtime = backend::runtime()?;
    let mut removed = Vec::new();
    let mut away = Vec::new();
    let common = common(config)?;
    for name in NAMES {
        match runtime.block_on(engine(name, config, common.clone())) {
            Ok(Some(engine)) => removed.extend(runtime.block_on(engine.sweep()).map_err(host_fault)?),
            Ok(None) => {}
            Err(why) => away.push(why.to_string()),
        }
    }
    removed.extend(runtime.block_on(common.networks.sweep()).map_err(host_fault)?);
    let left = elapse_host::doctor::leftovers_of(&config.worker);
    if left.is_empty() {
        return Ok(removed);
    }
    // Only a daemon that did not answer can have kept it.
    Err(Fault::host(format!("{} is left of '{}'; {}", left.join(", "), config.worker, away.join("; "))))
}
