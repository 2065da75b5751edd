//! A worker as a daemon: `elapse worker CONFIG`.
//!
//! At its start it removes what an earlier life of its name left on the host, registers the functions of its file, opens
//! the API, and only then tells its service manager that it is ready. The first SIGTERM drains it: nothing more is
//! admitted, what was admitted is finished, every container is removed, and it exits with 0. A second one ends it at once.

use super::config::{DaemonConfig, OnBoot, Registration};

use super::api::Terms;
use super::dispatcher::Dispatcher;
use super::ending::{BESIDE_DRAIN, asked, wanted};
use super::listener::{Listener, Served};
use super::membership::Member;
use super::phase::Phase;
use super::service::WorkerService;
use super::state::{Registered, State, known_functions};
use super::{boot, dispatcher, phase, places, reload};
use elapse::Interrupt;
use elapse::backend::close_all;
use elapse::base::{Cpus, Fault, Result, Time};
use elapse::metrics::Meter;
use elapse::rt::chance::Seed;
use elapse::rt::wall::unix_now;
use elapse::rt::{self, Either};
use elapse::worker::{Creations, Parts, Worker};
use elapse_host::lock::NameLock;
use elapse_live::backend::runtime;
use elapse_live::graphite::GraphiteSession;
use elapse_live::here::{engines, host_probe, prepare, sweep};
use elapse_live::threads::log_panics;
use serde_json::json;
use std::rc::Rc;
use tokio::sync::mpsc;

/// Runs a worker until it is told to end, or cannot go on. `reread` reads its configuration again, on SIGHUP.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run(
    config: DaemonConfig,
    interrupt: &Interrupt,
    reread: impl Fn() -> Result<DaemonConfig> + 'static,
) -> Result<()> {
    log_panics();
    let hangup =
        reload::Hangup::listen().map_err(|e| Fault::host(format!("cannot listen for SIGHUP: {e}")))?;
    let _name = NameLock::take(&config.live.worker).map_err(Fault::host)?;
    let place = config.access_keys().place()?;
    let listener = Listener::bind(&place)?;
    let _own = places::Own::of(&config.access_keys().own_name());
    let credentials = config.access_keys().open().inspect_err(|_| place.leave())?;
    let listener = listener.showing(credentials.identity.clone());
    let state = config.state.as_deref().map(State::open).transpose()?.map(Rc::new);
    let runtime = runtime()?;
    let names = config.worker.backend_names();
    let functions =
        known_functions(&config.functions, &config.register, &config.own_folders(), state.as_deref());
    let specs = functions.iter().flat_map(|f| f.config.specs()).collect::<Vec<_>>();
    let engines = runtime.block_on(engines(&names, &config.live))?;
    let found = runtime.block_on(boot::found(&engines, state.as_deref(), config.on_boot, &config.live))?;
    // Images may have to be pulled, and who wants the end does not wait for them.
    let prepared = async { rt::select(prepare(&engines, &names, &specs), asked(interrupt)).await };
    if let Either::Right(()) = runtime.block_on(prepared) {
        runtime.block_on(sweep(&engines, false))?;
        return Ok(());
    }
    let graphite = GraphiteSession::of_daemon(&config.graphite)?;
    let cores = config.worker.cores.unwrap_or(Cpus::MAX);
    let room = config.api.room();
    let host = boot::Backends::new(&engines, &config, cores, state.clone(), &room);
    let phase = Phase::default();
    let (orders, taken) = mpsc::channel(64);
    let life = unix_now().as_millis() as u64;
    let terms = Terms {
        gate: credentials.gate.clone(),
        phase: phase.clone(),
        body_limit: config.body_limit.0 as usize,
        room,
        concurrent: config.concurrent,
        any_name: listener.has_any_name(),
        life: format!("{life:x}"),
    };
    let mut description = json!({
        "name": config.live.worker, "incarnation": life, "machine_id": elapse_host::machine_id(),
        "address": config.own_address(&place.at), "cores": cores.to_string(),
        "memory": config.worker.memory.map(|m| m.to_string()), "backends": names, "version": env!("CARGO_PKG_VERSION"),
    });
    if config.registration == Registration::Required {
        description["token"] = credentials.gate.for_controller()?.into();
    }
    let member =
        Member::new(&config.live.worker, config.registration, &config.controller, config.seed, description)?;
    let outcome = runtime.block_on(async {
        let mut worker_config = config.worker.clone();
        worker_config.cores = Some(cores);
        let worker = Worker::start(Parts {
            number: 0,
            config: worker_config,
            backends: host.all.clone(),
            eviction: None,
            queue: None,
            keep_alive: None,
            observers: Vec::new(),
            checked: false,
            meter: Meter::endless(config.worker.status)
                .host(host_probe(graphite.as_ref().map(GraphiteSession::dropped)))
                .sink(
                    graphite.as_ref().and_then(|s| s.endless_sink(&config.live.worker, config.worker.status)),
                ),
            window: (Time(0), Time::MAX),
            seed: config.seed,
            creations: Creations::default(),
        })?;
        let service =
            WorkerService::new(worker.clone(), engines.all.clone(), host.all.clone(), &config, state.clone());
        for (spec, function) in specs.into_iter().zip(&functions) {
            match service.register(spec, function) {
                // What its file names it must serve; what was registered later may wait for its image to be back.
                Err(fault) if config.functions.contains(&function.config) => return Err(fault),
                Err(fault) => tracing::warn!(target: "elapse", %fault, "not registered again"),
                Ok(()) => {}
            }
        }
        let warm = host.take_over(found, &worker, &service).await;
        for Registered { config, .. } in &functions {
            service.warm_up(&config.name, warm.get(&config.name).copied().unwrap_or(0));
        }
        let served = listener.start_on_a_thread(terms, orders)?;
        tracing::info!(target: "elapse", at = %place.at, worker = config.live.worker, "serving");
        let rng = Seed::new(config.seed).named("daemon");
        worker.watch(phase::watchdog(rng));
        let running = reload::Running { service: Rc::clone(&service), credentials, member: member.clone() };
        let reloads = reload::Reloads { hangup, config: config.clone(), reread, running };
        worker.watch(reloads.watch(phase.clone(), rng));
        let dispatcher = Dispatcher::new(Rc::clone(&service));
        worker.watch(dispatcher::orders(&dispatcher, taken, rng));
        let all = Serving { service: &service, worker: &worker, served: &served, phase: &phase };
        let outcome = all.serve(&dispatcher, member.as_ref(), interrupt).await;
        dispatcher.end();
        served.end(&place).await;
        // The answers of what was admitted have gone out before the controller hears that this life is over.
        if let (Ok(()), Some(member)) = (&outcome, &member) {
            member.leave().await;
        }
        outcome
    });
    // What ends in a fault is started again; with recover its containers wait for that, as after a crash.
    let faulted = outcome.is_err();
    let kept = faulted && config.on_boot == OnBoot::Recover;
    let all = async {
        // What ended in a fault was not drained: its tasks go on, and none may begin a container behind the sweep's back.
        if faulted {
            close_all(&host.all).await;
        }
        sweep(&engines, false).await
    };
    let swept = if kept { Ok(()) } else { runtime.block_on(all).map(drop) };
    drop(runtime);
    if let Some(graphite) = graphite {
        graphite.end();
    }
    outcome.and(swept)
}

/// A worker that is up.
struct Serving<'a> {
    service: &'a Rc<WorkerService>,
    worker: &'a Worker,
    served: &'a Served,
    phase: &'a Phase,
}

impl Serving<'_> {
    /// Serves until the end is wanted, then drains while questions are still answered.
    async fn serve(
        &self,
        dispatcher: &Rc<Dispatcher<WorkerService>>,
        member: Option<&Rc<Member>>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let failed = async {
            match rt::select(self.worker.failed(), self.served.has_failed()).await {
                Either::Left(why) => Fault::bug(why.to_string()),
                Either::Right(fault) => fault,
            }
        };
        let up = async {
            // What takes part in a fleet is ready when the fleet knows it: until then the controller already asks.
            if let Some(member) = member {
                member.register().await?;
                let counted = self.worker.clone();
                self.worker.watch(member.beat(move || counted.invocations()));
            }
            self.phase.serves();
            Err::<(), Fault>(failed.await)
        };
        match rt::select(up, wanted(dispatcher, interrupt)).await {
            Either::Left(outcome) => return outcome,
            Either::Right(()) => tracing::info!(target: "elapse", "draining"),
        }
        // Nothing more is admitted from here on, whether the controller hears of it or not.
        self.service.drain();
        self.phase.drains(self.worker.drain_limit() * 2 + BESIDE_DRAIN);
        let told = async {
            if let Some(member) = member {
                member.drains().await;
            }
        };
        let (finished, ()) = futures::future::join(self.worker.drain(), told).await;
        if !finished {
            tracing::warn!(target: "elapse", "what had not ended within worker.drain was ended");
        }
        Ok(())
    }
}
