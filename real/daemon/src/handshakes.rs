//! Connections over TLS, handed on when they have shaken hands. A slow or silent client keeps no other waiting, nor do many of one peer.

use super::peers::{PeerKey, Peers, SHARE};
use elapse::rt::{self, Either};
use elapse_host::tls::{Identity, Secured};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that may be at it at once, of the descriptors that there are; further ones wait to be accepted.
const AT_ONCE: usize = 4096;

/// See the module.
pub(super) struct Handshakes {
    listener: TcpListener,
    identity: Identity,
    peers: Peers,
    most: usize,
    under_way: FuturesUnordered<BoxFuture<'static, Option<(Secured, SocketAddr)>>>,
}

impl Handshakes {
    pub(super) fn new(listener: TcpListener, identity: Identity) -> Handshakes {
        let most = AT_ONCE.min(elapse_host::descriptors() / 8);
        Handshakes { listener, identity, peers: Peers::default(), most, under_way: FuturesUnordered::new() }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an API is only served live: tokio's timers are its event loop's"
    )]
    fn shake(&self, stream: TcpStream, from: SocketAddr) {
        // Who is at it more often than is its share is not heard.
        let peer = PeerKey::of(Some(from.ip()), None);
        let Some(of_peer) = self.peers.enter(peer, self.most / SHARE) else { return };
        let identity = self.identity.clone();
        self.under_way.push(Box::pin(async move {
            // Who cannot, or goes away, is no news.
            let secured = tokio::time::timeout(PATIENCE, identity.secure(stream)).await;
            drop(of_peer);
            Some((secured.ok()?.ok()?, from))
        }));
    }
}

impl axum::serve::Listener for Handshakes {
    type Io = Secured;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Secured, SocketAddr) {
        loop {
            let full = self.under_way.len() >= self.most;
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
