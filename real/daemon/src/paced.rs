//! Streams whose other end has to read: who takes an answer too slowly is cut off, and what the answer held is free again.

use pin_project::pin_project;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// While the other end keeps us waiting, each such span has to bring so much further. What was taken before excuses no standing still.
const SPAN: Duration = Duration::from_secs(30);
const LEAST: u64 = 30 * (16 << 10);

/// See the module.
#[pin_project]
pub(super) struct Paced<S> {
    #[pin]
    stream: S,
    behind: Option<Behind>,
}

/// The other end is waited for.
struct Behind {
    /// What it has taken in this span.
    taken: u64,
    /// The end of the span.
    limit: Pin<Box<Sleep>>,
}

impl Behind {
    fn new() -> Behind {
        Behind { taken: 0, limit: Box::pin(sleep_until(Instant::now() + SPAN)) }
    }

    /// Whether the other end keeps up; the task is woken when it is to be asked again.
    fn keeps_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.limit.as_mut().poll(cx).is_ready() {
            if self.taken < LEAST {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the other end reads too slowly"));
            }
            self.taken = 0;
            self.limit.as_mut().reset(Instant::now() + SPAN);
        }
        Ok(())
    }
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Paced<S> {
        Paced { stream, behind: None }
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
                if let Some(behind) = this.behind {
                    behind.taken += *n as u64;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.behind.get_or_insert_with(Behind::new).keeps_up(cx)?,
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

    /// Everything that was to be written is. A stream may hold what it took, so that it is waited for here.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let flushed = this.stream.poll_flush(cx);
        match flushed {
            Poll::Ready(_) => *this.behind = None,
            Poll::Pending => this.behind.get_or_insert_with(Behind::new).keeps_up(cx)?,
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let shut = this.stream.poll_shutdown(cx);
        if shut.is_pending() {
            this.behind.get_or_insert_with(Behind::new).keeps_up(cx)?;
        }
        shut
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of these tests is tokio's, which stands still while nobody waits"
)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What it takes to write a megabyte to who reads so much at once and then so much a second.
    async fn written(first: usize, a_second: usize) -> (io::Result<()>, u64) {
        let (ours, mut theirs) = tokio::io::duplex(4 << 10);
        let begun = Instant::now();
        let reads = async move {
            let mut piece = vec![0; first];
            theirs.read_exact(&mut piece).await.expect("so much is written");
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let mut piece = vec![0; a_second];
                if a_second > 0 && theirs.read_exact(&mut piece).await.is_err() {
                    return;
                }
            }
        };
        let writes = async {
            let mut paced = Paced::new(ours);
            paced.write_all(&vec![0; 1 << 20]).await
        };
        let written =
            tokio::select! { written = writes => written, () = reads => unreachable!("it writes on") };
        (written, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_must_read_on_however_much_was_read_before() {
        for first in [1, 600 << 10, 1000 << 10] {
            let (written, took) = written(first, 0).await;
            assert_eq!(written.expect_err("it stands still").kind(), io::ErrorKind::TimedOut);
            assert!((30..=61).contains(&took), "{first}: {took} s");
        }
        assert!(written(1, 20 << 10).await.0.is_ok());
        assert!(written(1, 10 << 10).await.0.is_err());
    }
}
