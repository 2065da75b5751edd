//! What a sandbox has on the host: a folder that it does not see, with its log and where it answers, and in that the folder that it
//! shares with us, in which it puts its socket.
//!
//! What a sandbox can write to is never followed and never believed: its socket is opened without links and below the shared folder,
//! it is a socket, and who listens on it is in the sandbox. Its log is a pipe of ours: it is read at our pace, and of it the end is
//! kept.

use crate::engine::{EngineFault, SandboxId};
use crate::removal::remove_all;
use crate::threads::lock;
use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// What the socket is called in the shared folder.
const SOCKET: &str = "s";
/// Bytes of a log that are kept, and that a fault's sentence has of them.
const KEPT: usize = 4 << 10;
const TOLD: usize = 500;
/// Bytes of a log that are read at once, and the pause after them: whoever writes more than a megabyte a second waits.
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// The folder of a sandbox below that of its engine.
    pub(crate) fn of(base: &Path, id: &str) -> Home {
        Home { path: base.join(id) }
    }

    /// Makes it, with an empty log.
    ///
    /// # Errors
    /// If there is one already, or the host does not let it be made.
    pub(crate) fn make(&self) -> io::Result<()> {
        if let Some(base) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(base)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(&self.path)?;
        fs::mkfifoat(fs::CWD, self.log(), Mode::RUSR | Mode::WUSR)?;
        Ok(())
    }

    /// Makes the folder that it shares with the sandbox, in which whoever runs there may write.
    ///
    /// # Errors
    /// If the host does not let it be made.
    pub(crate) fn share(&self, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
        let shared = self.shared();
        std::fs::DirBuilder::new().mode(0o755).create(&shared)?;
        match owner {
            Some((user, group)) => std::os::unix::fs::chown(&shared, Some(user), Some(group))?,
            // The mode that was asked for is less what the process's mask takes.
            None => std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o777))?,
        }
        Ok(shared)
    }

    fn shared(&self) -> PathBuf {
        self.path.join("in")
    }

    /// Where our own listening socket is, which is handed to the sandbox as a descriptor.
    pub(crate) fn own_socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// The pipe that its output goes into.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Writes down where it answers, for a later life: in a network of its own, or at this port of the host.
    ///
    /// # Errors
    /// If that cannot be written.
    pub(crate) fn keep_port(&self, own: Option<SocketAddr>, port: u16) -> Result<SocketAddr, EngineFault> {
        let at = own.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let path = self.path.join("port");
        std::fs::write(&path, at.to_string())
            .map_err(|e| EngineFault::lasting(format!("cannot write {}: {e}", path.display())))?;
        Ok(at)
    }

    /// What was written down there, if it was anything.
    pub(crate) fn kept_port(&self) -> Option<SocketAddr> {
        std::fs::read_to_string(self.path.join("port")).ok()?.parse().ok()
    }

    /// Removes it; what is gone already is no fault.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove_all(&self.path)
    }

    /// Removes it on a thread for what takes long: whoever ran there may have left any number of files.
    ///
    /// # Errors
    /// What is left.
    pub(crate) async fn remove_aside(&self) -> io::Result<()> {
        let home = self.clone();
        crate::blocking(move || home.remove()).await.map_err(io::Error::other)?
    }
}

/// A socket that a sandbox makes in the folder that it shares with us.
#[derive(Debug)]
pub struct Shared {
    /// That folder, whatever becomes of its path.
    folder: OwnedFd,
    path: PathBuf,
    /// The first process of the sandbox.
    first: SandboxId,
}

impl Shared {
    /// The socket of the sandbox with this home, whose first process that is.
    ///
    /// # Errors
    /// If there is no such folder.
    pub(crate) fn of(home: &Home, first: SandboxId) -> io::Result<Rc<Shared>> {
        let path = home.shared();
        let folder = fs::open(
            &path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Rc::new(Shared { folder, path, first }))
    }

    /// Connects to whoever listens there, if that is in the sandbox.
    ///
    /// # Errors
    /// Nobody listens there; what is there is no socket, or a link; who listens is not of the sandbox.
    pub(crate) async fn connect(&self) -> io::Result<UnixStream> {
        let socket = self.open()?;
        // The inode that was looked at, whatever is at the path by now.
        let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
        // None of one that this process cannot see.
        if !stream.peer_cred()?.pid().is_some_and(|pid| self.is_inside(pid)) {
            return Err(io::Error::other("who listens there is not of the sandbox"));
        }
        Ok(stream)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let socket = match fs::openat2(&self.folder, SOCKET, flags, Mode::empty(), resolve) {
            // A kernel before 5.6: one name has no path that could leave the folder, and is not followed.
            Err(Errno::NOSYS) => fs::openat(&self.folder, SOCKET, flags, Mode::empty()),
            opened => opened,
        };
        let socket = socket.map_err(|e| match e {
            Errno::LOOP | Errno::XDEV => io::Error::other("it is a link, which is not followed"),
            e => e.into(),
        })?;
        let kind = FileType::from_raw_mode(fs::fstat(&socket)?.st_mode);
        if kind != FileType::Socket {
            return Err(io::Error::other("it is no socket"));
        }
        Ok(socket)
    }

    /// Whether a process is in the sandbox: in the pid namespace of its first process, which that of a sandbox alone is.
    fn is_inside(&self, pid: i32) -> bool {
        let namespace = |pid: i32| {
            std::fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|meta| (meta.dev(), meta.ino()))
        };
        let theirs = namespace(pid);
        theirs.is_some() && theirs == namespace(self.first.pid) && self.first.is_alive()
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Shared {}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.join(SOCKET).display())
    }
}

/// The end of what a sandbox has written. What it writes is taken out of its pipe for as long as this lives.
pub(crate) struct Log {
    pipe: Arc<Pipe>,
    reads: JoinHandle<()>,
}

struct Pipe {
    read: AsyncFd<OwnedFd>,
    kept: Mutex<VecDeque<u8>>,
}

impl Log {
    /// Begins to read the log of a home. Inside a runtime only.
    ///
    /// # Errors
    /// If the pipe cannot be opened.
    pub(crate) fn read(home: &Home) -> io::Result<Log> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let read = fs::open(home.log(), flags, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&read)?.st_mode) != FileType::Fifo {
            return Err(io::Error::other("its log is no pipe"));
        }
        // SAFETY: the descriptor is owned by the AsyncFd and stays open while it is registered.
        let read =
            unsafe { AsyncFd::register_with_interest(read, Interest::READABLE) }.map_err(io::Error::from)?;
        let pipe = Arc::new(Pipe { read, kept: Mutex::default() });
        let reading = Arc::clone(&pipe);
        let reads = tokio::task::spawn_local(async move {
            let mut piece = vec![0; PIECE];
            // Bytes since the last pause.
            let mut since = 0;
            while let Ok(mut ready) = reading.read.readable().await {
                match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut piece)?)) {
                    // Nobody has it open for writing at the moment.
                    Ok(Ok(0)) => {
                        ready.clear_ready();
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(Ok(n)) => {
                        reading.keep(&piece[..n]);
                        // However it came: a pipe may be full of less than it holds.
                        since += n;
                        if since >= PIECE {
                            since = 0;
                            tokio::time::sleep(PAUSE).await;
                        } else {
                            tokio::task::yield_now().await;
                        }
                    }
                    Ok(Err(_)) => return,
                    Err(_would_block) => {}
                }
            }
        });
        Ok(Log { pipe, reads })
    }

    /// The end of it, in one line.
    pub(crate) fn last_words(&self) -> String {
        // What was written a moment ago, and has not been read yet.
        let mut piece = vec![0; PIECE];
        if let Ok(n) = rustix::io::read(self.pipe.read.get_ref().as_fd(), &mut piece) {
            self.pipe.keep(&piece[..n]);
        }
        let kept = lock(&self.pipe.kept);
        let end: Vec<u8> = kept.iter().skip(kept.len().saturating_sub(TOLD)).copied().collect();
        String::from_utf8_lossy(&end).trim().replace('\n', "; ")
    }
}

impl Pipe {
    fn keep(&self, piece: &[u8]) {
        let mut kept = lock(&self.kept);
        kept.extend(&piece[piece.len().saturating_sub(KEPT)..]);
        let beyond = kept.len().saturating_sub(KEPT);
        kept.drain(..beyond);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.reads.abort();
    }
}

/// Opens a log's pipe for a sandbox to write into. It is open for reading too, so that a sandbox whose worker is away waits, and does
/// not die of writing.
///
/// # Errors
/// If it cannot be opened.
pub(crate) fn writable(home: &Home) -> io::Result<File> {
    Ok(fs::open(home.log(), OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn home(name: &str) -> Home {
        let base = std::env::temp_dir().join(format!("elapse-home-{}", std::process::id()));
        let home = Home::of(&base, name);
        let _ = home.remove();
        home.make().expect("a home");
        home
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    fn ourselves() -> SandboxId {
        SandboxId::of("a", i32::try_from(std::process::id()).expect("a pid"), None).expect("it lives")
    }

    #[test]
    fn a_socket_is_not_followed_and_its_listener_is_of_the_sandbox() {
        let home = home("shared");
        let folder = home.share(None).expect("a folder");
        let shared = Shared::of(&home, ourselves()).expect("a socket");
        let why = |shared: &Shared| run(shared.connect()).map(drop).expect_err("refused").to_string();
        assert!(why(&shared).contains("No such file"), "{}", why(&shared));
        let elsewhere = home.own_socket();
        let _theirs = UnixListener::bind(&elsewhere).expect("it listens");
        symlink(&elsewhere, folder.join("s")).expect("a link");
        assert!(why(&shared).contains("no socket"), "{}", why(&shared));
        std::fs::remove_file(folder.join("s")).expect("removed");
        std::fs::write(folder.join("s"), "").expect("a file");
        assert!(why(&shared).contains("no socket"), "{}", why(&shared));
        std::fs::remove_file(folder.join("s")).expect("removed");
        let _ours = UnixListener::bind(folder.join("s")).expect("it listens");
        run(shared.connect()).expect("its own");
        let gone = SandboxId { started: ourselves().started + 1, ..ourselves() };
        let another = Shared::of(&home, gone).expect("a socket");
        assert!(why(&another).contains("not of the sandbox"), "{}", why(&another));
        // A folder in the place of the shared one is not looked into.
        std::fs::rename(&folder, home.path.join("away")).expect("moved");
        symlink("/run", &folder).expect("a link");
        run(shared.connect()).expect("the folder that was opened");
        assert!(Shared::of(&home, ourselves()).is_err());
        home.remove().expect("removed");
    }

    #[test]
    fn of_a_log_the_end_is_kept_and_whoever_writes_much_waits() {
        let home = home("log");
        run(async {
            let log = Log::read(&home).expect("a log");
            let mut write = writable(&home).expect("it is open");
            assert_eq!(log.last_words(), "");
            write.write_all(b"one\ntwo\n").expect("written");
            assert_eq!(log.last_words(), "one; two");
            let writes = std::thread::spawn(move || {
                let line = [b'x'; 1023].iter().copied().chain([b'\n']).collect::<Vec<u8>>();
                (0..1024).for_each(|_| write.write_all(&line).expect("written"));
                write.write_all(b"the end").expect("written");
            });
            while !writes.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(lock(&log.pipe.kept).len() <= KEPT);
            }
            let said = log.last_words();
            assert!(said.ends_with("x; the end") && said.len() <= TOLD + 2, "{said}");
        });
        home.remove().expect("removed");
    }
}
