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
use super::listener::Listener;
use super::reception::Reception;
use super::{notify, read_token, wanted, watchdog, work};
use crate::base::{Fault, Result};
use crate::rt::wall::unix_now;
use crate::rt::{self, Either};
use desk::Desk;
use elapse_real::Interrupt;
use sd_notify::NotifyState;
use std::rc::Rc;
use tokio::sync::mpsc;

/// Runs a controller until it is told to end, or cannot go on.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run(config: ControllerConfig, interrupt: &Interrupt) -> Result<()> {
    let place = address(&config.listen)?;
    let token = config.token_file.as_deref().map(read_token).transpose()?;
    let for_workers = config.worker_token_file.as_deref().map(read_token).transpose()?.or(token.clone());
    let listener = Listener::bind(&place)?;
    let runtime = rt::Live::new()?;
    let (orders, taken) = mpsc::channel(64);
    let terms = Terms {
        token,
        body_limit: config.body_limit.0 as usize,
        concurrent: config.concurrent,
        life: format!("{:x}", unix_now().as_millis()),
    };
    let outcome = runtime.block_on(async {
        let desk = Desk::new(&config, for_workers)?;
        let health = desk.watch();
        let reception = Reception::new(Rc::clone(&desk));
        let working = rt::spawn_named("orders", work(Rc::clone(&reception), taken));
        let served = listener.start(terms, orders)?;
        tracing::info!(target: "elapse", at = %place, balancer = config.balancer, "serving");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let watched = rt::spawn_named("watchdog", watchdog());
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
        drop((watched, working));
        Ok::<_, Fault>((outcome, served))
    });
    drop(runtime);
    let (outcome, served) = outcome?;
    served.end(&config.listen);
    outcome
}
