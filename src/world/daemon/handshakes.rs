//! Connections over TLS, handed on when they have shaken hands. A slow or silent client keeps no other waiting.

use crate::rt::{self, Either};
use elapse_real::tls::{Identity, Secured};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that may be at it at once; further ones wait to be accepted.
const AT_ONCE: usize = 4096;

/// See the module.
pub(super) struct Handshakes {
    listener: TcpListener,
    identity: Identity,
    under_way: FuturesUnordered<BoxFuture<'static, Option<(Secured, SocketAddr)>>>,
}

impl Handshakes {
    pub(super) fn new(listener: TcpListener, identity: Identity) -> Handshakes {
        Handshakes { listener, identity, under_way: FuturesUnordered::new() }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an API is only served live: tokio's timers are its event loop's"
    )]
    fn shake(&self, stream: TcpStream, from: SocketAddr) {
        let identity = self.identity.clone();
        self.under_way.push(Box::pin(async move {
            // Who cannot, or goes away, is no news.
            let secured = tokio::time::timeout(PATIENCE, identity.secure(stream)).await.ok()?.ok()?;
            Some((secured, from))
        }));
    }
}

impl axum::serve::Listener for Handshakes {
    type Io = Secured;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Secured, SocketAddr) {
        loop {
            let full = self.under_way.len() >= AT_ONCE;
            let next = async {
                match self.under_way.next().await {
                    Some(shaken) => shaken,
                    None => std::future::pending().await,
                }
            };
            let coming = async {
                if full {
                    std::future::pending().await
                } else {
                    axum::serve::Listener::accept(&mut self.listener).await
                }
            };
            match rt::select(next, coming).await {
                Either::Left(Some(shaken)) => return shaken,
                Either::Left(None) => {}
                Either::Right((stream, from)) => {
                    let _ = stream.set_nodelay(true);
                    self.shake(stream, from);
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
