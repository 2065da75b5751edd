//! A controller as a daemon: `elapse controller CONFIG`.
//!
//! Workers register with it and say that they are alive; it gives each invocation to one of them by the fleet's balancer,
//! the one of the simulated controller. What it answers is what a worker answers, and its API has the workers besides.

mod config;
mod desk;
mod members;
mod workers;

pub use config::ControllerConfig;

use super::api::Terms;
use super::config::address;
use super::doors::{Doors, Token};
use super::listener::Listener;
use super::reception::Reception;
use super::reload::{self, Reloaded};
use super::state::State;
use super::{notify, wanted, watchdog, work};
use crate::base::{Fault, Result};
use crate::rt::wall::unix_now;
use crate::rt::{self, Either};
use crate::world::graphite::Station;
use desk::Desk;
use elapse_real::{Hangup, Interrupt};
use sd_notify::NotifyState;
use std::rc::Rc;
use tokio::sync::mpsc;

impl Reloaded for ControllerConfig {
    const AT_ONCE: &'static [&'static str] = &["tls_cert", "tls_key", "token_file", "worker_token_file"];
    type Running = Running;

    async fn apply(&self, _: &ControllerConfig, running: &Running) -> Result<()> {
        running.doors.exchange(&self.door_files())?;
        match &self.worker_token_file {
            Some(file) => running.for_workers.exchange(Some(file)),
            None => Ok(()),
        }
    }
}

/// What a reload changes of a controller.
pub(super) struct Running {
    doors: Doors,
    /// What workers ask for: a token of their own, or the same.
    for_workers: Token,
}

/// Runs a controller until it is told to end, or cannot go on. `reread` reads its configuration again, on SIGHUP.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run(
    config: ControllerConfig,
    interrupt: &Interrupt,
    reread: impl Fn() -> Result<ControllerConfig> + 'static,
) -> Result<()> {
    let hangup = Hangup::listen().map_err(|e| Fault::host(format!("cannot listen for SIGHUP: {e}")))?;
    let place = address(&config.listen)?;
    let doors = Doors::of(&config.door_files())?;
    let for_workers = match &config.worker_token_file {
        Some(file) => Token::of(Some(file))?,
        None => doors.token.clone(),
    };
    let listener = Listener::bind(&place)?.showing(doors.identity.clone());
    let state = config.state.as_deref().map(State::open).transpose()?;
    let station = Station::of_daemon(&config.graphite)?;
    let runtime = rt::Live::new()?;
    let (orders, taken) = mpsc::channel(64);
    let terms = Terms {
        token: doors.token.clone(),
        body_limit: config.body_limit.0 as usize,
        concurrent: config.concurrent,
        life: format!("{:x}", unix_now().as_millis()),
    };
    let outcome = runtime.block_on(async {
        let desk = Desk::new(&config, for_workers.clone(), state)?;
        let health = desk.watch();
        let sink = station.as_ref().and_then(|station| station.endless_sink("controller"));
        let measured = sink.map(|sink| desk.measure(sink));
        let reception = Reception::new(Rc::clone(&desk));
        let working = rt::spawn_named("orders", work(Rc::clone(&reception), taken));
        let served = listener.start(terms, orders)?;
        tracing::info!(target: "elapse", at = %place, balancer = config.balancer, "serving");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let watched = rt::spawn_named("watchdog", watchdog());
        let running = Running { doors, for_workers };
        let reloads = rt::spawn_named("reload", reload::on_hangup(hangup, config.clone(), reread, running));
        let outcome = match rt::select(health.given_up(), wanted(&reception, interrupt)).await {
            Either::Left(why) => Err(Fault::bug(why.to_string())),
            Either::Right(()) => {
                tracing::info!(target: "elapse", "draining");
                notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
                if !desk.drain(config.drain).await {
                    tracing::warn!(target: "elapse", "invocations that were under way beyond drain are not answered");
                }
                Ok(())
            }
        };
        drop((watched, working, reloads, measured));
        Ok::<_, Fault>((outcome, served))
    });
    drop(runtime);
    if let Some(station) = station {
        station.end();
    }
    let (outcome, served) = outcome?;
    served.end(&config.listen);
    outcome
}
