//! The API's socket, and who serves it: a thread of its own, or a task beside others.

use super::api::{BodyRoom, OtherEnd, Terms, routes};
use super::credentials::Place;
use super::handshakes::Handshakes;
use super::paced::Paced;
use super::peers::{PeerKey, Peers, SHARE};
use super::request::PendingRequest;
use super::worded::{GuardedBody, Turn, Worded};
use axum::serve::ListenerExt;
use elapse::base::{Fault, Result};
use elapse::rt;
use elapse_host::room::Room;
use elapse_host::threads::ThreadHeartbeat;
use elapse_host::tls::Identity;
use elapse_host::wire::Address;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tower::Layer;

/// How long the last answers may take to be read.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long a connection may be without a request, or take to send the head of one. Longer than our own clients keep one.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes that the head of a request may have, and that a connection reads ahead of whoever takes them.
const HEAD: usize = 64 << 10;
/// Connections at once, where the process may have as many descriptors and as many more; further ones wait to be accepted.
const CONNECTIONS: usize = 16_384;
/// Connections beyond those, each for one question and not for long: whoever asks for health is answered then too.
const SPARE: usize = 32;
const SPARE_TIME: Duration = Duration::from_secs(2);

/// Bound before anything else, so that a port in use is told at once.
pub(super) enum Listener {
    Tcp(std::net::TcpListener),
    Tls(std::net::TcpListener, Identity),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Binds it.
    ///
    /// # Errors
    /// Why it cannot be, and what to do.
    pub(super) fn bind(place: &Place) -> Result<Listener> {
        let Place { at: place, mode, group } = place;
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
            Address::Tls(..) | Address::Shared(_) => {
                Err(Fault::usage(format!("cannot listen on {place}; write HOST:PORT")))
            }
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
                let listener = elapse_host::unix::listen(path, *mode, *group).map_err(fault)?;
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

    async fn serve(self, api: Api, closing: oneshot::Receiver<()>, ends: watch::Sender<()>) {
        if let Err(why) = self.serves(api, closing).await {
            tracing::error!(target: "elapse", %why, "the API ended");
        }
        drop(ends);
    }

    async fn serves(self, api: Api, closing: oneshot::Receiver<()>) -> std::io::Result<()> {
        match self {
            Listener::Tcp(listener) => {
                // Answers are short, and whoever waits for one waits for its last segment.
                let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|stream| {
                    let _ = stream.set_nodelay(true);
                });
                answer(listener, api, closing).await;
            }
            Listener::Tls(listener, identity) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                answer(Handshakes::new(listener, identity), api, closing).await;
            }
            Listener::Unix(listener) => {
                answer(Quiet(tokio::net::UnixListener::from_std(listener)?), api, closing).await;
            }
        }
        Ok(())
    }
}

/// Joins the routes that are served with the room that request bodies share.
struct Api {
    routes: axum::Router,
    room: Room,
}

impl Api {
    fn new(terms: Terms, orders: mpsc::Sender<PendingRequest>, pulse: Option<ThreadHeartbeat>) -> Api {
        let room = terms.room.clone();
        Api { routes: routes(terms, orders, pulse), room }
    }
}

/// Where somebody comes from, as far as it tells one peer from another.
trait Keyed {
    /// The peer; none where all come alike.
    fn key(&self) -> Option<IpAddr>;
}

/// A stream that may tell which user of this host is on its other end.
trait Told {
    fn user(&self) -> Option<u32> {
        None
    }
}

impl Told for tokio::net::TcpStream {}

impl Told for elapse_host::tls::Secured {}

impl Told for elapse_host::unix::Stream {
    fn user(&self) -> Option<u32> {
        self.peer().ok()
    }
}

impl Keyed for SocketAddr {
    fn key(&self) -> Option<IpAddr> {
        Some(self.ip())
    }
}

impl Keyed for tokio::net::unix::SocketAddr {
    fn key(&self) -> Option<IpAddr> {
        None
    }
}

/// Gives streams that wake nobody for nothing.
struct Quiet(tokio::net::UnixListener);

impl axum::serve::Listener for Quiet {
    type Io = elapse_host::unix::Stream;
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
async fn answer<L: axum::serve::Listener<Addr: Keyed, Io: Told>>(
    mut listener: L,
    Api { routes, room }: Api,
    closing: oneshot::Receiver<()>,
) {
    let mut http = http1::Builder::new();
    // Whoever has said all that it will say still reads.
    http.max_buf_size(HEAD);
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_header_size(HEAD).half_close(true);
    let mut once = http.clone();
    once.keep_alive(false).header_read_timeout(SPARE_TIME);
    let most = CONNECTIONS.min(elapse_host::descriptors() / 2);
    let (open, spare) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(SPARE)));
    let peers = Peers::sharing(room);
    let ends = GracefulShutdown::new();
    let accepting = async {
        loop {
            let (stream, from) = listener.accept().await;
            let (address, user) = (from.key(), stream.user());
            let Some(of_peer) = peers.enter(PeerKey::of(address, user), most / SHARE) else { continue };
            let routes = axum::Extension(OtherEnd { user, address }).layer(routes.clone());
            let routes = axum::Extension(BodyRoom(of_peer.room.clone())).layer(routes);
            let turn = Turn::default();
            let (answers, turns) = (TowerToHyperService::new(routes), turn.clone());
            let service = hyper::service::service_fn(move |request| {
                let serving = turns.begins();
                let answered = answers.call(request);
                async move { answered.await.map(|answer| answer.map(|body| GuardedBody { body, serving })) }
            });
            let stream = TokioIo::new(Worded::new(Paced::new(stream), turn));
            let (connection, place, limit) = match Arc::clone(&open).try_acquire_owned() {
                Ok(place) => (http.serve_connection(stream, service), place, None),
                Err(_) => {
                    let Ok(place) = Arc::clone(&spare).acquire_owned().await else { return };
                    (once.serve_connection(stream, service), place, Some(SPARE_TIME))
                }
            };
            let connection = ends.watch(connection);
            drop(tokio::spawn(async move {
                // Who breaks off, or sends what is no HTTP, is no news.
                match limit {
                    None => drop(connection.await),
                    Some(limit) => drop(tokio::time::timeout(limit, connection).await),
                }
                drop((place, of_peer));
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
    pub(super) fn start_on_a_thread(
        self,
        terms: Terms,
        orders: mpsc::Sender<PendingRequest>,
    ) -> Result<Served> {
        let ((close, closing), (ends, end)) = (oneshot::channel(), watch::channel(()));
        let serve = move |pulse| self.serve(Api::new(terms, orders, Some(pulse)), closing, ends);
        let thread = elapse_host::threads::spawn_runtime("api", serve)
            .map_err(|e| Fault::host(format!("cannot start the API: {e}")))?;
        Ok(Served { close, end, thread: Some(thread) })
    }

    /// Serves the API among the tasks of the caller's thread, which does little else: two threads less have to be woken for an
    /// invocation on its way through.
    pub(super) fn start_here(self, terms: Terms, orders: mpsc::Sender<PendingRequest>) -> Served {
        let ((close, closing), (ends, end)) = (oneshot::channel(), watch::channel(()));
        rt::spawn_detached(self.serve(Api::new(terms, orders, None), closing, ends));
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
    pub(super) async fn end(self, place: &Place) {
        let Served { close, mut end, thread } = self;
        let _ = close.send(());
        if let Address::Unix(path) = &place.at {
            let _ = std::fs::remove_file(path);
        }
        let _ = end.changed().await;
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
