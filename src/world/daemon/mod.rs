//! A worker as a daemon: `elapse worker CONFIG`.
//!
//! At its start it removes what an earlier life of its name left on the host, registers the functions of its file, opens
//! the API, and only then tells its service manager that it is ready. The first SIGTERM drains it: nothing more is
//! admitted, what was admitted is finished, every container is removed, and it exits with 0. A second one ends it at once.

mod api;
mod boot;
mod client;
mod config;
mod controller;
mod desk;
mod doors;
mod handshakes;
mod listener;
mod membership;
mod reception;
mod reload;
mod state;

pub use client::Client;
pub use config::DaemonConfig;
use config::address;
pub(super) use config::peer;
pub use controller::{ControllerConfig, run as run_controller};

use super::graphite::Station;
use super::live::{engines, host_probe, prepare, sweep};
use crate::base::{Cpus, Duration, Fault, Result, Time};
use crate::load::FunctionConfig;
use crate::metrics::Meter;
use crate::rt::wall::unix_now;
use crate::rt::{self, Either};
use crate::worker::{Creations, Parts, Worker};
use api::{Order, Terms};
use desk::Desk;
use doors::Doors;
use elapse_real::lock::NameLock;
use elapse_real::{Hangup, Interrupt};
use listener::Listener;
use membership::Member;
use reception::{Office, Reception};
use sd_notify::NotifyState;
use serde_json::json;
use state::State;
use std::rc::Rc;
use tokio::sync::mpsc;

/// Between two looks whether somebody wants the end.
const LOOK: Duration = Duration(50_000_000);

/// Runs a worker until it is told to end, or cannot go on. `reread` reads its configuration again, on SIGHUP.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run(
    config: DaemonConfig,
    interrupt: &Interrupt,
    reread: impl Fn() -> Result<DaemonConfig> + 'static,
) -> Result<()> {
    let hangup = Hangup::listen().map_err(|e| Fault::host(format!("cannot listen for SIGHUP: {e}")))?;
    let _name = NameLock::take(&config.live.worker).map_err(Fault::host)?;
    let doors = Doors::of(&config.door_files())?;
    let place = address(&config.listen)?;
    let listener = Listener::bind(&place)?.showing(doors.identity.clone());
    let state = config.state.as_deref().map(State::open).transpose()?.map(Rc::new);
    let runtime = rt::Live::new()?;
    let names = config.worker.backend_names();
    let functions = known_functions(&config.functions, state.as_deref());
    let specs = functions.iter().flat_map(FunctionConfig::specs).collect::<Vec<_>>();
    let engines = runtime.block_on(engines(&names, &config.live))?;
    let found = runtime.block_on(boot::found(&engines, state.as_deref(), config.on_boot))?;
    // Images may have to be pulled, and who wants the end does not wait for them.
    let prepared = async { rt::select(prepare(&engines, &names, &specs), asked(interrupt)).await };
    if let Either::Right(()) = runtime.block_on(prepared) {
        runtime.block_on(sweep(&engines, false))?;
        return Ok(());
    }
    let station = Station::of_daemon(&config.graphite)?;
    let cores = config.worker.cores.unwrap_or(Cpus::MAX);
    let host = boot::Backends::new(&engines, &config, cores, state.clone());
    let (orders, taken) = mpsc::channel(64);
    let life = unix_now().as_millis() as u64;
    let terms = Terms {
        token: doors.token.clone(),
        body_limit: config.body_limit.0 as usize,
        concurrent: config.concurrent,
        life: format!("{life:x}"),
    };
    let description = json!({
        "name": config.live.worker, "incarnation": life, "machine_id": elapse_real::machine_id(),
        "address": config.own_address(), "cores": cores.to_string(),
        "memory": config.worker.memory.map(|m| m.to_string()), "backends": names, "version": env!("CARGO_PKG_VERSION"),
    });
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
            meter: Meter::endless(config.worker.status)
                .host(host_probe(station.as_ref().map(Station::dropped)))
                .sink(station.as_ref().and_then(|s| s.endless_sink(&config.live.worker))),
            window: (Time(0), Time::MAX),
            seed: config.seed,
            creations: Creations::default(),
        })?;
        let desk = Desk::new(worker.clone(), engines.all.clone(), &config, state.clone());
        for (spec, function) in specs.into_iter().zip(&functions) {
            match desk.register(spec, function) {
                // What its file names it must serve; what was registered later may wait for its image to be back.
                Err(fault) if config.functions.contains(function) => return Err(fault),
                Err(fault) => tracing::warn!(target: "elapse", %fault, "not registered again"),
                Ok(()) => {}
            }
        }
        host.take_over(found, &worker, &desk).await;
        let served = listener.start(terms, orders)?;
        tracing::info!(target: "elapse", at = %place, worker = config.live.worker, "serving");
        let watched = rt::spawn_named("watchdog", watchdog());
        let running = reload::Running { desk: Rc::clone(&desk), doors, member: member.clone() };
        let reloads = rt::spawn_named("reload", reload::on_hangup(hangup, config.clone(), reread, running));
        let outcome = serve(&desk, &worker, member, taken, interrupt).await;
        drop((watched, reloads));
        Ok::<_, Fault>((outcome, served))
    });
    let swept = runtime.block_on(sweep(&engines, false));
    drop(runtime);
    if let Some(station) = station {
        station.end();
    }
    let (outcome, served) = outcome?;
    served.end(&config.listen);
    swept?;
    outcome
}

/// The functions of the configuration, and those that were registered in earlier lives.
fn known_functions(configured: &[FunctionConfig], state: Option<&State>) -> Vec<FunctionConfig> {
    let mut all = configured.to_vec();
    for function in state.map(State::functions).unwrap_or_default() {
        match configured.iter().find(|f| f.name == function.name) {
            None => all.push(function),
            Some(ours) if *ours == function => {}
            Some(_) => tracing::warn!(
                target: "elapse", function = function.name, "the configuration's goes before the one that was registered"
            ),
        }
    }
    all
}

/// Takes orders until the end is wanted, then drains while questions are still answered.
async fn serve(
    desk: &Rc<Desk>,
    worker: &Worker,
    member: Option<Rc<Member>>,
    orders: mpsc::Receiver<Order>,
    interrupt: &Interrupt,
) -> Result<()> {
    let reception = Reception::new(Rc::clone(desk));
    let working = rt::spawn_named("orders", work(Rc::clone(&reception), orders));
    // What takes part in a fleet is ready when the fleet knows it: until then the controller already asks.
    let beats = match &member {
        None => None,
        Some(member) => {
            let registered = rt::select(member.register(), wanted(&reception, interrupt)).await;
            match registered {
                Either::Left(outcome) => outcome?,
                Either::Right(()) => return Ok(()),
            }
            let counted = worker.clone();
            Some(member.beat(move || counted.invocations()))
        }
    };
    if let Some(beats) = &beats {
        desk.watch(beats);
    }
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let given_up = async {
        match beats {
            Some(beats) => beats.given_up().await,
            None => std::future::pending().await,
        }
    };
    let failed = async {
        match rt::select(worker.failed(), given_up).await {
            Either::Left(why) | Either::Right(why) => why,
        }
    };
    match rt::select(failed, wanted(&reception, interrupt)).await {
        Either::Left(why) => return Err(Fault::bug(why.to_string())),
        Either::Right(()) => tracing::info!(target: "elapse", "draining"),
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    if let Some(member) = &member {
        member.drains().await;
    }
    if !worker.drain().await {
        tracing::warn!(target: "elapse", "what had not ended within worker.drain was ended");
    }
    if let Some(member) = &member {
        member.leave().await;
    }
    drop(working);
    Ok(())
}

/// Takes orders as they come.
async fn work<O: Office>(reception: Rc<Reception<O>>, mut orders: mpsc::Receiver<Order>) {
    while let Some(order) = orders.recv().await {
        reception.take(order);
    }
}

/// Waits until a signal asks for the end.
async fn asked(interrupt: &Interrupt) {
    while !interrupt.asked() {
        rt::sleep(LOOK).await;
    }
}

/// Waits until somebody wants the end.
async fn wanted<O: Office>(reception: &Rc<Reception<O>>, interrupt: &Interrupt) {
    while !interrupt.asked() && !reception.drains() {
        rt::sleep(LOOK).await;
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        tracing::warn!(target: "elapse", %why, "the service manager could not be told");
    }
}

/// Tells the service manager that the worker's loop turns, twice as often as it asks.
async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        notify(&[NotifyState::Watchdog]);
        rt::sleep(Duration((limit.as_nanos() / 2).min(u128::from(u64::MAX)) as u64)).await;
    }
}
