//! Streams whose other end has to read: who takes an answer too slowly is cut off, and what the answer held is free again.

use pin_project::pin_project;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long what is to be written may take, beside a second for each so many bytes of it.
const PATIENCE: Duration = Duration::from_secs(30);
const LEAST_RATE: u64 = 16 << 10;

/// See the module.
#[pin_project]
pub(super) struct Paced<S> {
    #[pin]
    stream: S,
    /// Since when the other end has been waited for, and what it has taken since.
    behind: Option<(Instant, u64)>,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Paced<S> {
        Paced { stream, behind: None, limit: None }
    }
}

impl<S: AsyncWrite> Paced<S> {
    /// Writes, and looks whether the other end keeps up.
    fn paced(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let written = write(this.stream, cx);
        match &written {
            Poll::Ready(Ok(n)) => {
                if let Some((_, taken)) = this.behind {
                    *taken += *n as u64;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let (since, taken) = *this.behind.get_or_insert_with(|| (Instant::now(), 0));
                let until = since + PATIENCE + Duration::from_secs(taken / LEAST_RATE);
                let limit = this.limit.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if limit.deadline() != until {
                    limit.as_mut().reset(until);
                }
                if limit.as_mut().poll(cx).is_ready() {
                    let why = "the other end reads too slowly";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
            }
        }
        written
    }
}

impl<S: AsyncRead> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write_vectored(cx, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Everything that was to be written is.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let flushed = this.stream.poll_flush(cx);
        if flushed.is_ready() {
            *this.behind = None;
            *this.limit = None;
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}
