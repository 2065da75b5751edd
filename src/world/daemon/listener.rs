//! The API's socket, and who serves it: a thread of its own, or a task beside others.

use super::api::{Terms, routes};
use super::config::address;
use super::handshakes::Handshakes;
use super::order::Order;
use crate::base::{Fault, Result};
use crate::rt;
use axum::serve::ListenerExt;
use elapse_real::tls::Identity;
use elapse_real::wire::Address;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// How long the last answers may take to be read.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a connection may be without a request, or take to send the head of one. Longer than our own clients keep one.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes that the head of a request may have.
const HEAD: usize = 64 << 10;
/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 16_384;

/// Bound before anything else, so that a port in use is told at once.
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    Tls(std::net::TcpListener, Identity),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    pub(super) fn bind(place: &Address) -> Result<Listener> {
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
            Address::Tls(..) => Err(Fault::usage(format!("cannot listen on {place}; write HOST:PORT"))),
            Address::Tcp(at) => {
                let listener = std::net::TcpListener::bind(at).map_err(fault)?;
                listener.set_nonblocking(true).map_err(fault)?;
                Ok(Listener::Tcp(listener))
            }
            Address::Unix(path) => {
                // What a life that was killed left behind: a socket at which nobody listens. Anything else is somebody's.
                let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
                let deserted = std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused);
                if is_socket && deserted {
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

    /// Shows this identity to whoever comes over TCP, if there is one.
    pub(super) fn showing(self, identity: Option<Identity>) -> Listener {
        match (self, identity) {
            (Listener::Tcp(listener), Some(identity)) => Listener::Tls(listener, identity),
            (listener, _) => listener,
        }
    }

    /// Whether a browser reaches it under whatever name leads here: no certificate says which ones are its own.
    pub(super) fn has_any_name(&self) -> bool {
        matches!(self, Listener::Tcp(_))
    }

    async fn serve(self, routes: axum::Router, closing: oneshot::Receiver<()>, ends: watch::Sender<()>) {
        if let Err(why) = self.serves(routes, closing).await {
            tracing::error!(target: "elapse", %why, "the API ended");
        }
        drop(ends);
    }

    async fn serves(self, routes: axum::Router, closing: oneshot::Receiver<()>) -> std::io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                // Answers are short, and whoever waits for one waits for its last segment.
                let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
                    let _ = stream.set_nodelay(true);
                });
                answer(listener, routes, closing).await;
            }
            Listener::Tls(listener, identity) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                answer(Handshakes::new(listener, identity), routes, closing).await;
            }
            Listener::Unix(listener) => {
                answer(Quiet(tokio::net::UnixListener::from_std(listener)?), routes, closing).await;
            }
        }
        Ok(())
    }
}

/// Gives streams that wake nobody for nothing.
struct Quiet(tokio::net::UnixListener);

impl axum::serve::Listener for Quiet {
    type Io = elapse_real::unix::Stream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = axum::serve::Listener::accept(&mut self.0).await;
            // Who has gone already is no news.
            if let Ok(stream) = stream.try_into() {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// Answers whoever connects, until it is told to close; then what was asked is still answered.
#[expect(
    clippy::disallowed_methods,
    reason = "an API is only served live: tokio's tasks and timers are its event loop's"
)]
async fn answer<L: axum::serve::Listener>(
    mut listener: L,
    routes: axum::Router,
    closing: oneshot::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_header_size(HEAD);
    let open = Arc::new(Semaphore::new(CONNECTIONS));
    let ends = GracefulShutdown::new();
    let accepting = async {
        while let Ok(place) = Arc::clone(&open).acquire_owned().await {
            let (stream, _) = listener.accept().await;
            let service = TowerToHyperService::new(routes.clone());
            let connection = ends.watch(http.serve_connection(TokioIo::new(stream), service));
            drop(tokio::spawn(async move {
                // Who breaks off, or sends what is no HTTP, is no news.
                let _ = connection.await;
                drop(place);
            }));
        }
    };
    rt::select(accepting, closing).await;
    drop(listener);
    // Who reads no answer and sends no request keeps nobody from ending.
    rt::select(ends.shutdown(), tokio::time::sleep(FAREWELL)).await;
}

/// An API that is served.
pub(super) struct Served {
    close: oneshot::Sender<()>,
    /// Its other end is gone when the API has ended, however it did.
    end: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Serves the API on a thread of its own; what is asked goes into `orders`. Whatever floods it leaves the caller's thread
    /// alone.
    pub(super) fn start_aside(self, terms: Terms, orders: mpsc::Sender<Order>) -> Result<Served> {
        let ((close, closing), (ends, end)) = (oneshot::channel(), watch::channel(()));
        let serve = move |pulse| self.serve(routes(terms, orders, Some(pulse)), closing, ends);
        let thread = elapse_real::threads::aside("api", serve)
            .map_err(|e| Fault::host(format!("cannot start the API: {e}")))?;
        Ok(Served { close, end, thread: Some(thread) })
    }

    /// Serves the API among the tasks of the caller's thread, which does little else: two threads less have to be woken for an
    /// invocation on its way through.
    pub(super) fn start_here(self, terms: Terms, orders: mpsc::Sender<Order>) -> Served {
        let ((close, closing), (ends, end)) = (oneshot::channel(), watch::channel(()));
        rt::spawn_detached(self.serve(routes(terms, orders, None), closing, ends));
        Served { close, end, thread: None }
    }
}

impl Served {
    /// Waits until the API has ended although nobody told it to: a daemon without it must end.
    pub(super) async fn has_failed(&self) -> Fault {
        let _ = self.end.clone().changed().await;
        Fault::bug("the API has ended; the log says why")
    }

    /// What is still answered is answered; then nobody listens any more.
    pub(super) async fn end(self, listen: &str) {
        let Served { close, mut end, thread } = self;
        let _ = close.send(());
        if let Ok(Address::Unix(path)) = address(listen) {
            let _ = std::fs::remove_file(path);
        }
        let _ = end.changed().await;
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
