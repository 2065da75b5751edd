//! Streams over unix sockets whose other end is not woken for nothing.
//!
//! The kernel tells whoever waits to write to a unix socket each time that its peer has read. tokio's stream always waits for
//! both directions, so each message wakes its sender once more, from the middle of the peer's read, while the peer is at work on
//! it. This one waits for room only when there was none.

use rustix::fs::Mode;
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on a socket at a path, which only who `mode` names may open: the owner, and the group with this number. At no moment
/// may others.
///
/// # Errors
/// If the host does not let it be made, or given to the group.
pub fn listen(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A socket's file gets the mode that the socket has when it is bound.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let given = std::os::unix::fs::lchown(path, None, group)
        .and_then(|()| std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)))
        .and_then(|()| Ok(net::listen(&socket, BACKLOG)?));
    if let Err(e) = given {
        let _ = std::fs::remove_file(path);
        return Err(e);
    }
    Ok(socket.into())
}

/// A stream over a unix socket; see the module.
#[derive(Debug)]
pub struct Stream {
    socket: AsyncFd<OwnedFd>,
    /// The same socket, while the kernel has no room for what is to be written.
    full: Option<AsyncFd<OwnedFd>>,
}

impl TryFrom<UnixStream> for Stream {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Stream> {
        let socket = waiting(OwnedFd::from(stream.into_std()?), Interest::READABLE)?;
        Ok(Stream { socket, full: None })
    }
}

impl Stream {
    /// The user on the other end.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn peer(&self) -> io::Result<u32> {
        let mut told = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut length = size_of_val(&told) as libc::socklen_t;
        let fd = self.socket.get_ref().as_raw_fd();
        // SAFETY: the kernel writes at most as many bytes as the structure has, any of which are numbers.
        let done = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut told).cast(), &raw mut length)
        };
        if done == 0 { Ok(told.uid) } else { Err(io::Error::last_os_error()) }
    }
}

fn waiting(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: whoever owns a descriptor keeps it open, and it is the same one until it is dropped.
    let waiting = unsafe { AsyncFd::register_with_interest(socket, interest) };
    waiting.map_err(io::Error::from)
}

impl Stream {
    fn poll_writing(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&OwnedFd) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(full) = &self.full {
                let mut room = ready!(full.poll_write_ready(cx))?;
                if let Ok(written) = room.try_io(|_| write(self.socket.get_ref())) {
                    self.full = None;
                    return Poll::Ready(written);
                }
                continue;
            }
            match write(self.socket.get_ref()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.full = Some(waiting(self.socket.get_ref().try_clone()?, Interest::WRITABLE)?);
                }
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut something = ready!(self.socket.poll_read_ready(cx))?;
            let asked = buffer.remaining();
            // SAFETY: the kernel only writes into it, so that nothing of it becomes uninitialised.
            let spare = unsafe { buffer.unfilled_mut() };
            let read = something.try_io(|socket| Ok(rustix::io::read(socket, &mut *spare)?.0.len()));
            match read {
                Ok(Ok(n)) => {
                    // SAFETY: these bytes have just been read.
                    unsafe { buffer.assume_init(n) };
                    buffer.advance(n);
                    if 0 < n && n < asked {
                        // Nothing more is there; what comes later is told anew.
                        something.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |socket| Ok(rustix::io::write(socket, bytes)?))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writing(cx, |socket| Ok(rustix::io::writev(socket, pieces)?))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(rustix::net::shutdown(self.socket.get_ref(), Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

    /// Runs this on an event loop like a worker's.
    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().expect("an event loop");
        runtime.block_on(future)
    }

    fn pair() -> (Stream, Stream) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (one.try_into().expect("it is registered"), other.try_into().expect("it is registered"))
    }

    /// Bytes that tell where they belong.
    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    /// What the kernel's epoll instances of this process tell of this descriptor.
    fn told_of(fd: i32) -> Vec<u32> {
        let infos = std::fs::read_dir("/proc/self/fdinfo").expect("it is there").filter_map(Result::ok);
        let texts: Vec<String> = infos.filter_map(|e| std::fs::read_to_string(e.path()).ok()).collect();
        let words = texts.iter().flat_map(|text| text.lines()).map(|line| line.split_whitespace().collect());
        let ours = words.filter(|w: &Vec<&str>| w.len() > 3 && w[0] == "tfd:" && w[1] == fd.to_string());
        ours.filter_map(|w| u32::from_str_radix(w[3], 16).ok()).collect()
    }

    #[test]
    fn it_is_only_told_of_room_while_there_is_none() {
        const ROOM: u32 = libc::EPOLLOUT as u32;
        run(async {
            let (mut one, mut other) = pair();
            let fd = one.socket.as_raw_fd();
            let told = told_of(fd);
            assert!(!told.is_empty() && told.iter().all(|events| events & ROOM == 0), "{told:x?}");
            let sent = bytes(4 << 20);
            let mut writing = Box::pin(one.write_all(&sent));
            assert!(futures_util::poll!(&mut writing).is_pending(), "the kernel keeps less than that");
            let mut read = vec![0; sent.len()];
            let (wrote, got) = futures_util::join!(writing, other.read_exact(&mut read));
            assert!(wrote.is_ok() && got.is_ok() && read == sent);
            assert!(one.full.is_none(), "it is not told of room any more");
        });
    }

    #[test]
    fn both_directions_at_once_lose_nothing_and_end_by_themselves() {
        run(async {
            let (one, other) = pair();
            let (there, back) = (bytes(3 << 20), bytes(2 << 20));
            let talk = |stream: Stream, sent: Vec<u8>, step: usize| async move {
                let (mut reader, mut writer) = split(stream);
                let write = async {
                    for piece in sent.chunks(step) {
                        writer.write_all(piece).await.expect("the other side reads");
                    }
                    writer.shutdown().await.expect("it is open");
                };
                let mut got = Vec::new();
                let (_, read) = futures_util::join!(write, reader.read_to_end(&mut got));
                read.expect("the other side ends well");
                got
            };
            let (got, got_back) =
                futures_util::join!(talk(one, back.clone(), 70_001), talk(other, there.clone(), 333));
            assert!(got == there && got_back == back);
        });
    }

    #[test]
    fn whoever_writes_to_a_stream_that_is_gone_is_told_so() {
        run(async {
            let (mut one, other) = pair();
            let sent = bytes(4 << 20);
            let gone = async move { drop(other) };
            let (wrote, ()) = futures_util::join!(one.write_all(&sent), gone);
            assert_eq!(wrote.expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
        });
    }
}
