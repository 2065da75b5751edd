//! The API's socket, and the thread that serves it.

use super::api::{Order, Terms, routes};
use super::config::address;
use super::handshakes::Handshakes;
use crate::base::{Fault, Result};
use crate::rt::{self, Either};
use elapse_real::tls::Identity;
use elapse_real::wire::Address;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How long the last answers may take to be read.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(5);

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

    /// Shows this identity to whoever comes over TCP, if there is one.
    pub(super) fn showing(self, identity: Option<Identity>) -> Listener {
        match (self, identity) {
            (Listener::Tcp(listener), Some(identity)) => Listener::Tls(listener, identity),
            (listener, _) => listener,
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
                Listener::Tls(listener, identity) => match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let secured = Handshakes::new(listener, identity);
                        axum::serve(secured, routes).with_graceful_shutdown(closed).await
                    }
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

/// An API that is served.
pub(super) struct Served {
    close: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Serves the API on a thread of its own; what is asked goes into `orders`.
    pub(super) fn start(self, terms: Terms, orders: mpsc::Sender<Order>) -> Result<Served> {
        let (close, closing) = oneshot::channel();
        let thread = elapse_real::aside("api", move || self.serve(routes(terms, orders), closing))
            .map_err(|e| Fault::host(format!("cannot start the API: {e}")))?;
        Ok(Served { close, thread })
    }
}

impl Served {
    /// What is still answered is answered; then nobody listens any more.
    pub(super) fn end(self, listen: &str) {
        let _ = self.close.send(());
        if let Ok(Address::Unix(path)) = address(listen) {
            let _ = std::fs::remove_file(path);
        }
        let _ = self.thread.join();
    }
}
