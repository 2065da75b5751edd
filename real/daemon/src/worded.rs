//! Puts words to what the HTTP server answers by itself: to a head that it cannot read it says a number and nothing else, and every
//! error of a daemon has the one form, `{"error": ..., "request_id": ...}`.
//!
//! What is written while nobody serves a request of the connection is the server's own. A request is served from when its head was read
//! until its answer is written to the end and the stream is flushed, so nothing of an answer is ever taken for it.

use pin_project::pin_project;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const NOBODY: u8 = 0;
const SERVES: u8 = 1;
/// The answer was handed over, and may not be written yet.
const HANDED_OVER: u8 = 2;

/// Whether a request of a connection is served.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicU8>);

impl Turn {
    /// A request's head was read. Its answer is handed over when what this returns is dropped.
    pub(super) fn begins(&self) -> TurnGuard {
        self.0.store(SERVES, Ordering::Relaxed);
        TurnGuard(self.clone())
    }

    fn is_nobodys(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NOBODY
    }

    /// All that was to be written is.
    fn flushed(&self) {
        let _ = self.0.compare_exchange(HANDED_OVER, NOBODY, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// See [`Turn::begins`].
#[derive(Debug)]
pub(super) struct TurnGuard(Turn);

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.0.0.store(HANDED_OVER, Ordering::Relaxed);
    }
}

/// A body that knows when it is over.
#[pin_project]
pub(super) struct GuardedBody<B> {
    #[pin]
    pub(super) body: B,
    pub(super) serving: TurnGuard,
}

impl<B: http_body_util::BodyExt + axum::body::HttpBody> axum::body::HttpBody for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// See the module.
#[pin_project]
pub(super) struct Worded<S> {
    #[pin]
    stream: S,
    turn: Turn,
    /// What goes in place of so many of the server's own bytes, as far as it is not written.
    own: Option<(Vec<u8>, usize)>,
}

impl<S> Worded<S> {
    pub(super) fn new(stream: S, turn: Turn) -> Worded<S> {
        Worded { stream, turn, own: None }
    }
}

/// An error of the server's own with words, if these bytes are one without.
fn worded(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(bytes).ok()?;
    let (version, line) = head.split("\r\n").next()?.split_once(' ')?;
    let why = match line.get(..3)? {
        "400" => "this is no HTTP request that can be read",
        "414" => "the path is too long",
        "431" => "the head is longer than 64 KiB, or has too many headers",
        "505" => "HTTP/1.0 and HTTP/1.1 are spoken here",
        code if code.starts_with(['4', '5']) => "the request cannot be read",
        _ => return None,
    };
    let bare = version.starts_with("HTTP/1.")
        && head.ends_with("\r\n\r\n")
        && head.to_ascii_lowercase().contains("\r\ncontent-length: 0\r\n");
    let body = format!("{{\"error\":\"{why}\",\"request_id\":\"\"}}");
    let length = body.len();
    bare.then(|| {
        format!(
            "{version} {line}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    })
}

impl<S: AsyncWrite> Worded<S> {
    /// Writes what goes in place of the server's own, if something does.
    fn write_own(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut this = self.project();
        while let Some((text, stands_for)) = this.own {
            if text.is_empty() {
                let written = *stands_for;
                *this.own = None;
                return Poll::Ready(Ok(written));
            }
            let n = ready!(this.stream.as_mut().poll_write(cx, text))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            text.drain(..n);
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncRead> AsyncRead for Worded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite> AsyncWrite for Worded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.as_mut().project();
        if this.own.is_none() && this.turn.is_nobodys() {
            *this.own = worded(bytes).map(|text| (text, bytes.len()));
        }
        if self.own.is_some() { self.write_own(cx) } else { self.project().stream.poll_write(cx, bytes) }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.own.is_some() || self.turn.is_nobodys() {
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            return self.poll_write(cx, &whole);
        }
        self.project().stream.poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let flushed = this.stream.poll_flush(cx);
        if flushed.is_ready() {
            this.turn.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: today\r\n\r\n";

    #[tokio::test]
    async fn only_the_servers_own_errors_get_words() {
        // A pipe that takes a few bytes at a time.
        let (ours, mut theirs) = tokio::io::duplex(16);
        let turn = Turn::default();
        let mut stream = Worded::new(ours, turn.clone());
        let reads = async move {
            let mut all = String::new();
            theirs.read_to_string(&mut all).await.map(|_| all)
        };
        let writes = async move {
            let serving = turn.begins();
            stream.write_all(BARE).await.expect("an answer that is served");
            drop(serving);
            // It may stand in a buffer still.
            stream.write_all(BARE).await.expect("the rest of it");
            stream.flush().await.expect("written");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("no error");
            stream.write_all(BARE).await.expect("the server's own");
            stream.shutdown().await.expect("an end");
            drop(stream);
        };
        let (all, ()) = tokio::join!(reads, writes);
        let all = all.expect("text");
        let parts: Vec<&str> = all.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(parts.len(), 4, "{all}");
        assert!(parts[..2].iter().all(|part| part.ends_with("\r\n\r\n") && part.starts_with("400")), "{all}");
        let (head, body) = parts[3].split_once("\r\n\r\n").expect("a head");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert!(body["error"].as_str().is_some_and(|why| why.contains("no HTTP request")), "{body}");
        assert!(head.contains(&format!(
            "content-length: {}",
            parts[3].split("\r\n\r\n").nth(1).expect("a body").len()
        )));
    }
}
