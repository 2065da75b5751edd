//! Starting a sandboxed process.
//!
//! `clone` with CLONE_VM and CLONE_VFORK, as `posix_spawn` does: no page tables are copied, and the thread that asks
//! waits until the child has become another program. So it runs on threads of its own, never on the worker's. Between
//! clone and exec the child may only make system calls: everything it needs is prepared before. No signal reaches it
//! meanwhile: see [`signals`].

use super::signals::{self, Blocked};
use crate::image::CODE_INSIDE;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// A root of its own, made of parts of the host's.
#[derive(Debug)]
pub struct Root {
    /// An empty directory of the host on which it is built; mounts on it are seen by the child alone.
    at: CString,
    /// Directories and links to make: path, and what a link points to.
    entries: Vec<(CString, Option<CString>)>,
    /// Empty files to make, onto which files are bound.
    files: Vec<CString>,
    /// What is bound where, and whether it can be written to.
    binds: Vec<(CString, CString, bool)>,
    proc: CString,
    /// Device nodes: path and minor number; all are of major 1.
    devices: Vec<(CString, u64)>,
}

/// Parts of the host's root that a sandbox sees, read-only.
const SHARED: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib64", "lib32", "etc"];
const MAJOR: u64 = 1;
const DEVICES: [(&str, u64); 4] = [("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)];

fn text(path: impl AsRef<Path>) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_ref().as_os_str().as_bytes()).map_err(io::Error::from)
}

impl Root {
    /// The root of a sandbox: the host's programs and libraries, the agent, `sockets` at /run/elapse and
    /// `code` at /code.
    ///
    /// # Errors
    /// If the host's root cannot be read.
    pub fn new(at: &Path, agent: &Path, sockets: &Path, code: Option<&Path>) -> io::Result<Root> {
        let mut root = Root {
            at: text(at)?,
            entries: Vec::new(),
            files: vec![text(at.join("elapse-agent"))?],
            binds: vec![(text(agent)?, text(at.join("elapse-agent"))?, false)],
            proc: text(at.join("proc"))?,
            devices: Vec::new(),
        };
        for name in SHARED {
            let host = Path::new("/").join(name);
            let inside = text(at.join(name))?;
            match std::fs::symlink_metadata(&host) {
                Ok(meta) if meta.is_symlink() => {
                    root.entries.push((inside, Some(text(std::fs::read_link(&host)?)?)));
                }
                Ok(meta) if meta.is_dir() => {
                    root.entries.push((inside.clone(), None));
                    root.binds.push((text(&host)?, inside, false));
                }
                _ => {}
            }
        }
        for dir in ["proc", "dev", "tmp", "run", "run/elapse"] {
            root.entries.push((text(at.join(dir))?, None));
        }
        if let Some(code) = code {
            let inside = text(at.join(CODE_INSIDE.trim_start_matches('/')))?;
            root.entries.push((inside.clone(), None));
            root.binds.push((text(code)?, inside, false));
        }
        root.binds.push((text(sockets)?, text(at.join("run/elapse"))?, true));
        for (name, minor) in DEVICES {
            root.devices.push((text(at.join("dev").join(name))?, minor));
        }
        Ok(root)
    }
}

/// The network of a sandbox.
#[derive(Debug)]
pub enum Net {
    /// A namespace of its own, with a loopback.
    Own,
    /// The namespace for which this stands.
    Joined(OwnedFd),
    /// The host's.
    Host,
}

/// A process that is asked for.
#[derive(Debug)]
pub struct Program {
    /// What is executed; seen from inside the new root, if there is one.
    pub path: CString,
    /// Its arguments, the first being its name.
    pub args: Vec<CString>,
    /// `NAME=value`.
    pub env: Vec<CString>,
    /// Becomes descriptor 3, if it does not listen by itself.
    pub listener: Option<OwnedFd>,
    /// Becomes its output and its errors.
    pub log: File,
    /// The [doors](crate::cgroup::Group::doors) of the groups that it joins.
    pub doors: Vec<File>,
    /// A root of its own, with namespaces; a plain process without.
    pub root: Option<Root>,
    /// Its network; a plain process keeps the host's.
    pub network: Net,
    /// It lives on when the thread that started it ends.
    pub outlives: bool,
}

/// What the child reports if it does not come to be: the step and the error number, in memory shared with the parent.
#[derive(Clone, Copy)]
struct Report {
    step: &'static str,
    errno: c_int,
}

struct Plan<'a> {
    program: &'a Program,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    null: RawFd,
    report: Option<Report>,
}

const STACK: usize = 64 << 10;
/// Whoever runs in a sandbox is nobody.
const NOBODY: u32 = 65_534;

/// Starts it. The process's pid, and a descriptor that stands for it.
///
/// # Errors
/// The step that failed, and why.
pub fn spawn(program: &Program) -> io::Result<(i32, OwnedFd)> {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let null = File::options().read(true).open("/dev/null")?;
    let mut plan = Plan {
        program,
        argv: pointers(&program.args),
        envp: pointers(&program.env),
        null: null.as_raw_fd(),
        report: None,
    };
    let mut stack = vec![0u8; STACK];
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    if program.root.is_some() {
        flags |= libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
        if matches!(program.network, Net::Own) {
            flags |= libc::CLONE_NEWNET;
        }
    }
    let mut pidfd: c_int = -1;
    let blocked = Blocked::all();
    // The stack grows down from its end, which is aligned to 16 bytes.
    let top = (stack.as_mut_ptr() as usize + STACK) & !15;
    // SAFETY: the child runs `child` on a stack of its own that outlives it, because with CLONE_VFORK this thread goes on
    // only when the child has executed another program or exited. What it reads through `plan` lives until then, and it
    // touches no lock, allocator or thread-local of ours. Its handlers are copies, and its signals are blocked like ours.
    let pid = unsafe {
        libc::clone(
            child,
            top as *mut c_void,
            flags,
            std::ptr::from_mut(&mut plan).cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let cloned = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    drop(blocked);
    if let Err(e) = cloned {
        return Err(io::Error::new(e.kind(), format!("clone: {e}")));
    }
    // SAFETY: the kernel made this descriptor for us, and nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if let Some(Report { step, errno }) = plan.report {
        // SAFETY: waits for our own child, which has exited.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        let e = io::Error::from_raw_os_error(errno);
        return Err(io::Error::new(e.kind(), format!("{step}: {e}")));
    }
    Ok((pid, pidfd))
}

extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes its plan, and waits.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    // SAFETY: only system calls, on arguments that the parent prepared.
    let failed = unsafe { become_program(plan) };
    // SAFETY: errno of the call that failed.
    plan.report = Some(Report { step: failed, errno: unsafe { *libc::__errno_location() } });
    // SAFETY: ends the child without running what the parent registered for its own end.
    unsafe { libc::_exit(127) }
}

/// Turns the child into the program; returns the step that failed.
unsafe fn become_program(plan: &Plan<'_>) -> &'static str {
    let program = plan.program;
    // SAFETY: see the caller; every pointer is a CString or array that the parent keeps.
    unsafe {
        // First of all: from here on what is sent to our group, a Ctrl-C for instance, is not for it.
        if !signals::leave_group() {
            return "making a session";
        }
        for door in &program.doors {
            if libc::write(door.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                return "joining the cgroup";
            }
        }
        if let Some(root) = &program.root {
            if let Err(step) = build_root(root) {
                return step;
            }
            match &program.network {
                Net::Own if !loopback_up() => return "bringing loopback up",
                Net::Joined(namespace) if libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) != 0 => {
                    return "joining the network";
                }
                _ => {}
            }
            libc::sethostname(c"elapse".as_ptr(), 6);
        }
        if libc::dup2(plan.null, 0) < 0
            || libc::dup2(program.log.as_raw_fd(), 1) < 0
            || libc::dup2(program.log.as_raw_fd(), 2) < 0
        {
            return "redirecting output";
        }
        // Duplicating a descriptor onto itself would leave it to be closed at exec.
        if let Some(listener) = program.listener.as_ref().map(AsRawFd::as_raw_fd) {
            let moved =
                if listener == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(listener, 3) };
            if moved < 0 {
                return "handing the socket over";
            }
        }
        if program.root.is_some()
            && (libc::setgroups(0, std::ptr::null()) != 0
                || libc::setresgid(NOBODY, NOBODY, NOBODY) != 0
                || libc::setresuid(NOBODY, NOBODY, NOBODY) != 0)
        {
            return "becoming nobody";
        }
        // After the change of user, which would undo it.
        if !program.outlives {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return "giving up privileges";
        }
        signals::unblock();
        libc::execve(program.path.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
        "executing the program"
    }
}

/// Builds the new root and goes into it. Every mount is private to the child and ends with it.
unsafe fn build_root(root: &Root) -> Result<(), &'static str> {
    let none = std::ptr::null::<c_char>();
    // SAFETY: only system calls on strings that the parent keeps.
    unsafe {
        let mount =
            |from: *const c_char, to: &CStr, kind: *const c_char, flags: libc::c_ulong, data: &CStr| {
                libc::mount(from, to.as_ptr(), kind, flags, data.as_ptr().cast()) == 0
            };
        if !mount(none, c"/", none, libc::MS_REC | libc::MS_PRIVATE, c"") {
            return Err("making mounts private");
        }
        if !mount(c"elapse".as_ptr(), &root.at, c"tmpfs".as_ptr(), libc::MS_NOSUID, c"mode=755,size=256m") {
            return Err("mounting the root");
        }
        for (path, link) in &root.entries {
            let made = match link {
                Some(to) => libc::symlink(to.as_ptr(), path.as_ptr()),
                None => libc::mkdir(path.as_ptr(), 0o755),
            };
            if made != 0 {
                return Err("making a directory");
            }
        }
        for path in &root.files {
            let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o555);
            if fd < 0 {
                return Err("making a file");
            }
            libc::close(fd);
        }
        for (from, to, writable) in &root.binds {
            if !mount(from.as_ptr(), to, none, libc::MS_BIND | libc::MS_REC, c"") {
                return Err("binding a directory");
            }
            let remount = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_NOSUID;
            if !*writable && !mount(none, to, none, remount, c"") {
                return Err("binding a directory read-only");
            }
        }
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if !mount(c"proc".as_ptr(), &root.proc, c"proc".as_ptr(), flags, c"") {
            return Err("mounting /proc");
        }
        for (path, minor) in &root.devices {
            let device = (MAJOR << 8) | minor;
            if libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, device) != 0
                || libc::chmod(path.as_ptr(), 0o666) != 0
            {
                return Err("making a device");
            }
        }
        if libc::chdir(root.at.as_ptr()) != 0
            || libc::chmod(c"tmp".as_ptr(), 0o1777) != 0
            || libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) != 0
            || libc::umount2(c".".as_ptr(), libc::MNT_DETACH) != 0
            || libc::chdir(c"/".as_ptr()) != 0
        {
            return Err("entering the root");
        }
    }
    Ok(())
}

/// A new network namespace has a loopback that is down.
unsafe fn loopback_up() -> bool {
    // SAFETY: a zeroed ifreq is valid, its name is terminated, and the descriptor is closed again.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return false;
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let done = libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &raw mut request) == 0;
        libc::close(fd);
        done
    }
}
