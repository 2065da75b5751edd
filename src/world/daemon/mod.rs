//! A worker as a daemon: `elapse worker CONFIG`.
//!
//! At its start it removes what an earlier life of its name left on the host, registers the functions of its file, opens
//! the API, and only then tells its service manager that it is ready. The first SIGTERM drains it: nothing more is
//! admitted, what was admitted is finished, every container is removed, and it exits with 0. A second one ends it at once.

mod api;
mod client;
mod config;
mod desk;

pub use client::Client;
pub use config::DaemonConfig;
pub(super) use config::address;

use super::live::{engines, host_probe, make_backends, sweep};
use crate::base::{Cpus, Duration, Fault, Result, Time};
use crate::metrics::Meter;
use crate::rt::wall::unix_now;
use crate::rt::{self, Either};
use crate::worker::{Creations, Parts, Worker};
use api::{Order, Terms, routes};
use desk::Desk;
use elapse_real::Interrupt;
use elapse_real::lock::NameLock;
use elapse_real::wire::Address;
use sd_notify::NotifyState;
use std::path::Path;
use std::rc::Rc;
use tokio::sync::{mpsc, oneshot};

/// Between two looks whether somebody wants the end.
const LOOK: Duration = Duration(50_000_000);
/// How long the last answers may take to be read.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(5);
/// Points of its series that a daemon keeps.
const POINTS: usize = 10_000;

/// Runs a worker until it is told to end, or cannot go on.
///
/// # Errors
/// Why it could not start, or what ended it.
pub fn run(config: DaemonConfig, interrupt: &Interrupt) -> Result<()> {
    let _name = NameLock::take(&config.live.worker).map_err(Fault::host)?;
    let token = config.token_file.as_deref().map(read_token).transpose()?;
    let place = address(&config.listen)?;
    let listener = Listener::bind(&place)?;
    let runtime = rt::Live::new()?;
    let names = config.worker.backend_names();
    let mut functions = config.functions.iter().flat_map(|f| f.specs()).collect::<Vec<_>>();
    let engines = runtime.block_on(engines(&names, &config.live, &functions))?;
    let left = runtime.block_on(sweep(&engines))?;
    if !left.is_empty() {
        tracing::warn!(target: "elapse", left = left.join(", "), "removed what an earlier life of this worker had left");
    }
    let cores = config.worker.cores.unwrap_or(Cpus::MAX);
    let backends = make_backends(engines.clone(), cores, &config.live, &Default::default(), config.seed);
    let (orders, taken) = mpsc::channel(64);
    let (close, closing) = oneshot::channel();
    let life = format!("{:x}", unix_now().as_millis());
    let terms =
        Terms { token, body_limit: config.body_limit.0 as usize, concurrent: config.concurrent, life };
    let outcome = runtime.block_on(async {
        let mut worker_config = config.worker.clone();
        worker_config.cores = Some(cores);
        let worker = Worker::start(Parts {
            number: 0,
            config: worker_config,
            backends,
            eviction: None,
            queue: None,
            meter: Meter::new(config.worker.status, POINTS).host(host_probe(None::<fn() -> f64>)),
            window: (Time(0), Time::MAX),
            seed: config.seed,
            creations: Creations::default(),
        })?;
        let desk = Desk::new(worker.clone(), engines.clone(), &config);
        for (spec, function) in functions.drain(..).zip(&config.functions) {
            desk.register(spec, function)?;
        }
        let thread = elapse_real::aside("api", move || listener.serve(routes(terms, orders), closing))
            .map_err(|e| Fault::host(format!("cannot start the API: {e}")))?;
        tracing::info!(target: "elapse", at = %place, worker = config.live.worker, "serving");
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let watched = rt::spawn_named("watchdog", watchdog());
        let outcome = serve(&desk, &worker, taken, interrupt).await;
        drop(watched);
        Ok::<_, Fault>((outcome, thread))
    });
    let swept = runtime.block_on(sweep(&engines));
    // What is still answered is answered; then nobody listens any more.
    let _ = close.send(());
    drop(runtime);
    if let Address::Unix(path) = address(&config.listen)? {
        let _ = std::fs::remove_file(path);
    }
    let (outcome, thread) = outcome?;
    let _ = thread.join();
    swept?;
    outcome
}

/// Takes orders until the end is wanted, then drains while questions are still answered.
async fn serve(
    desk: &Rc<Desk>,
    worker: &Worker,
    mut orders: mpsc::Receiver<Order>,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut work = async || {
        while let Some(order) = orders.recv().await {
            Rc::clone(desk).take(order);
        }
    };
    let wanted = async {
        while !interrupt.asked() && !desk.drains() {
            rt::sleep(LOOK).await;
        }
    };
    match rt::select(worker.failed(), rt::select(work(), wanted)).await {
        Either::Left(why) => return Err(Fault::bug(why.to_string())),
        Either::Right(_) => tracing::info!(target: "elapse", "draining"),
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    let drained = match rt::select(worker.drain(), work()).await {
        Either::Left(drained) => drained,
        Either::Right(()) => worker.drain().await,
    };
    if !drained {
        tracing::warn!(target: "elapse", "what had not ended within worker.drain was ended");
    }
    Ok(())
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

fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::usage(format!(
            "{}: a token has at least 16 letters and digits; make one with: openssl rand -hex 32",
            path.display()
        )));
    }
    Ok(token.to_string())
}

/// The API's socket, bound before anything else so that a port in use is told at once.
enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    fn bind(place: &Address) -> Result<Listener> {
        let fault = |e: std::io::Error| {
            let hint = match e.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another process has it; end it, or take another address (listen)"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "permission denied; take a port above 1023 or another folder"
                }
                std::io::ErrorKind::NotFound => "the socket's folder does not exist; make it",
                _ => "take another address (listen)",
            };
            Fault::host(format!("cannot listen on {place}: {e}; {hint}"))
        };
        match place {
            Address::Tcp(at) => {
                let listener = std::net::TcpListener::bind(at).map_err(fault)?;
                listener.set_nonblocking(true).map_err(fault)?;
                Ok(Listener::Tcp(listener))
            }
            Address::Unix(path) => {
                // What a life that was killed left behind; nobody answers there.
                if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
                    std::fs::remove_file(path).map_err(fault)?;
                }
                let listener = std::os::unix::net::UnixListener::bind(path).map_err(fault)?;
                // Who may open the socket may ask: its owner and group.
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
                std::fs::set_permissions(path, mode).map_err(fault)?;
                listener.set_nonblocking(true).map_err(fault)?;
                Ok(Listener::Unix(listener))
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the API's thread has an event loop of its own, with tokio's timers"
    )]
    async fn serve(self, routes: axum::Router, closing: oneshot::Receiver<()>) {
        let (tell, told) = oneshot::channel();
        let closed = async {
            let _ = closing.await;
            let _ = tell.send(());
        };
        // Who reads no answer and sends no request keeps nobody from ending.
        let enough = async {
            let _ = told.await;
            tokio::time::sleep(FAREWELL).await;
        };
        let served = async {
            match self {
                Listener::Tcp(listener) => match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => axum::serve(listener, routes).with_graceful_shutdown(closed).await,
                    Err(e) => Err(e),
                },
                Listener::Unix(listener) => match tokio::net::UnixListener::from_std(listener) {
                    Ok(listener) => axum::serve(listener, routes).with_graceful_shutdown(closed).await,
                    Err(e) => Err(e),
                },
            }
        };
        if let Either::Left(Err(why)) = rt::select(served, enough).await {
            tracing::error!(target: "elapse", %why, "the API ended");
        }
    }
}
