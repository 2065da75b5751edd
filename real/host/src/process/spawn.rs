//! Starting a sandboxed process.
//!
//! `clone` with CLONE_VM and CLONE_VFORK, as `posix_spawn` does: no page tables are copied, and the thread that asks
//! waits until the child has become another program. So it runs on threads of its own, never on the worker's. Between
//! clone and exec the child may only make system calls: everything it needs is prepared before. No signal reaches it
//! meanwhile: see [`signals`].

use super::measures::Measures;
use super::root::{Owner, Root, build_root, write_into};
use super::signals::{self, Blocked};
use crate::host::DESCRIPTORS;
use crate::seccomp::Filters;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

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
    /// The user that it is, and the group of that number; ours where it has no root of its own.
    pub user: u32,
    /// The system calls that it may make, if not all.
    pub filters: Option<Arc<Filters>>,
    /// What its files may have, in bytes; 0 for any number.
    pub file_size: u64,
    /// What this kernel has to hold it with.
    pub measures: Measures,
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
    filters: Vec<libc::sock_fprog>,
    null: RawFd,
    report: Option<Report>,
}

/// keyctl(2).
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const STACK: usize = 64 << 10;
/// The size of a core file: with 0 a pattern that pipes it to a program is followed all the same (core(5)).
const CORE: u64 = 1;

/// Starts it. The process's pid, and a descriptor that stands for it.
///
/// # Errors
/// The step that failed, and why.
pub fn spawn(program: &Program) -> io::Result<(i32, OwnedFd)> {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let filters = program.filters.as_ref().map_or_else(Vec::new, |filters| {
        let program = |code: &[seccompiler::sock_filter]| libc::sock_fprog {
            // At most 4096, as the kernel wants it.
            len: code.len() as u16,
            filter: code.as_ptr().cast_mut().cast(),
        };
        filters.programs().map(program).collect()
    });
    let null = File::options().read(true).open("/dev/null")?;
    let mut plan = Plan {
        program,
        argv: pointers(&program.args),
        envp: pointers(&program.env),
        filters,
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
        if program.root.as_ref().is_some_and(|root| root.owner != Owner::Root) {
            flags |= libc::CLONE_NEWUSER;
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
            // Only now that it is in its groups: these are the roots of what it sees.
            if !root.maps.iter().all(|(file, what)| write_into(file, what)) {
                return "naming its user (user namespaces)";
            }
            if program.measures.cgroup_namespace && libc::unshare(libc::CLONE_NEWCGROUP) != 0 {
                return "making a cgroup namespace";
            }
            if let Err(step) = build_root(root, program.measures) {
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
        // Whatever we had from whoever started us, and may not be closed at exec.
        let first: libc::c_uint = if program.listener.is_some() { 4 } else { 3 };
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) != 0 {
            return "closing descriptors (close_range, Linux 5.9)";
        }
        let limit = |what, soft: u64, hard: u64| {
            let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // Where we may not raise it, it stays as low as it is.
            libc::getrlimit(what, &raw mut now) == 0 && {
                let hard = hard.min(now.rlim_max);
                libc::setrlimit(what, &libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard }) == 0
            }
        };
        if program.root.is_some() {
            let limited = limit(libc::RLIMIT_NOFILE, DESCRIPTORS.0, DESCRIPTORS.1)
                && limit(libc::RLIMIT_CORE, CORE, CORE)
                && (program.file_size == 0
                    || limit(libc::RLIMIT_FSIZE, program.file_size, program.file_size));
            if !limited {
                return "limiting it";
            }
            // Where the kernel has keys a session's would be handed on.
            libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>());
            let user = program.user;
            let given = program.root.as_ref().is_some_and(|root| root.owner == Owner::Root);
            if !given {
                // In a user namespace it is who we are; what that may is gone with the next program.
            } else if libc::setgroups(0, std::ptr::null()) != 0
                || libc::setresgid(user, user, user) != 0
                || libc::setresuid(user, user, user) != 0
            {
                return "becoming its own user";
            }
        }
        // After the change of user, which would undo it.
        if !program.outlives {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return "giving up privileges";
        }
        for filter in &plan.filters {
            let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
            if libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(filter),
            ) != 0
            {
                return "filtering system calls (seccomp)";
            }
        }
        signals::unblock();
        libc::execve(program.path.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
        "executing the program"
    }
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
