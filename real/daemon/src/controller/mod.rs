//! A controller as a daemon: `elapse controller CONFIG`.
//!
//! Workers register with it and say that they are alive; it gives each invocation to one of them by the fleet's balancer,
//! the one of the simulated controller. What it answers is what a worker answers, and its API has the workers besides.

mod config;
mod functions;
mod invocations;
mod members;
mod service;
mod sources;
mod workers;

pub use config::ControllerConfig;

use super::api::Terms;
use super::credentials::{Credentials, Token};
use super::dispatcher::{self, Dispatcher};
use super::ending::{BESIDE_DRAIN, wanted};
use super::listener::Listener;
use super::phase::{self, Phase};
use super::places;
use super::reload::Hangup;
use super::reload::{Reloaded, Reloads};
use super::state::State;
use elapse::Interrupt;
use elapse::base::{Fault, Result};
use elapse::rt::chance::Seed;
use elapse::rt::wall::unix_now;
use elapse::rt::{self, Either};
use elapse_live::graphite::GraphiteSession;
use elapse_live::threads::log_panics;
use futures::future::select_all;
use service::{ControllerService, STEP};
use std::rc::Rc;
use tokio::sync::mpsc;

impl Reloaded for ControllerConfig {
    const AT_ONCE: &'static [&'static str] = &["tls_cert", "tls_key", "token_file", "worker_token_file"];
    type Running = Running;

    async fn apply(&self, _: &ControllerConfig, running: &Running) -> Result<()> {
        let next = self.token_for_workers()?;
        running.credentials.exchange(&self.access_keys())?;
        running.for_workers.become_like(&next);
        Ok(())
    }
}

/// What a reload changes of a controller.
pub(super) struct Running {
    credentials: Credentials,
    /// What workers ask for.
    for_workers: Token,
}

impl ControllerConfig {
    /// What workers ask for: a token of their own, or the controller's.
    fn token_for_workers(&self) -> Result<Token> {
        Token::of(self.worker_token_file.as_deref().or(self.token_file.as_deref()))
    }
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
    log_panics();
    let hangup = Hangup::listen().map_err(|e| Fault::host(format!("cannot listen for SIGHUP: {e}")))?;
    let place = config.access_keys().place()?;
    let for_workers = config.token_for_workers()?;
    let listener = Listener::bind(&place)?;
    let _own = places::Own::of(&config.access_keys().own_name());
    let credentials = config.access_keys().open().inspect_err(|_| place.leave())?;
    let listener = listener.showing(credentials.identity.clone());
    let state = config.state.as_deref().map(State::open).transpose()?;
    let graphite = GraphiteSession::of_daemon(&config.graphite)?;
    let runtime = elapse_live::backend::runtime()?;
    let (orders, taken) = mpsc::channel(64);
    let phase = Phase::default();
    let room = config.api.room();
    let terms = Terms {
        gate: credentials.gate.clone(),
        phase: phase.clone(),
        body_limit: config.body_limit.0 as usize,
        room: room.clone(),
        concurrent: config.concurrent,
        any_name: listener.has_any_name(),
        life: format!("{:x}", unix_now().as_millis()),
    };
    let outcome = runtime.block_on(async {
        let service = ControllerService::new(&config, for_workers.clone(), state, room)?;
        let rng = Seed::new(config.seed).named("daemon");
        let dispatcher = Dispatcher::new(Rc::clone(&service));
        let running = Running { credentials, for_workers };
        let reloads = Reloads { hangup, config: config.clone(), reread, running };
        let mut loops = vec![
            service.health(),
            phase::watchdog(rng),
            reloads.watch(phase.clone(), rng),
            dispatcher::orders(&dispatcher, taken, rng),
        ];
        let sink = graphite.as_ref().and_then(|graphite| graphite.endless_sink("controller", STEP));
        loops.extend(sink.map(|sink| service.measure(sink)));
        service.watch(&loops);
        let served = listener.start_here(terms, orders);
        tracing::info!(target: "elapse", at = %place.at, balancer = %config.balancer, "serving");
        phase.serves();
        let given_up = select_all(loops.into_iter().map(|each| Box::pin(each.given_up())));
        let failed = rt::select(given_up, served.has_failed());
        let outcome = match rt::select(failed, wanted(&dispatcher, interrupt)).await {
            Either::Left(Either::Left((why, ..))) => Err(Fault::bug(why.to_string())),
            Either::Left(Either::Right(fault)) => Err(fault),
            Either::Right(()) => {
                tracing::info!(target: "elapse", "draining");
                phase.drains(config.drain + BESIDE_DRAIN);
                if !service.drain(config.drain).await {
                    tracing::warn!(target: "elapse", "invocations that were under way beyond drain are not answered");
                }
                Ok(())
            }
        };
        dispatcher.end();
        served.end(&place).await;
        outcome
    });
    drop(runtime);
    if let Some(graphite) = graphite {
        graphite.end();
    }
    outcome
}
