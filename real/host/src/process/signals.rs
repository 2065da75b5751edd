//! Keeps signals away from a child until it is a program of its own.
//!
//! Between clone and exec the child shares our memory and has our handlers: a Ctrl-C that reached both would be counted
//! twice, as the first signal and the second. So the thread that clones blocks every signal before, and the child leaves
//! our process group, drops what is pending and takes the defaults before it unblocks them.

use std::mem::MaybeUninit;

/// Signals of this thread that are held back for as long as it lives. What arrives meanwhile for the process goes to
/// another thread, or comes afterwards.
pub(super) struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    /// Blocks every signal that can be blocked.
    pub(super) fn all() -> Blocked {
        let mut before = empty();
        // SAFETY: both sets are initialised and live through the call; with a valid `how` it cannot fail.
        unsafe {
            let mut every = empty();
            libc::sigfillset(&raw mut every);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const every, &raw mut before);
        }
        Blocked { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by `all`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Makes the calling process the leader of a session of its own with the default dispositions; false if it cannot. What was
/// sent to the group that it leaves is forgotten. Its signals stay blocked.
///
/// # Safety
/// For a child between clone and exec, with every signal blocked and its handlers not shared with the parent.
pub(super) unsafe fn leave_group() -> bool {
    // SAFETY: system calls only; a number that is no signal, or one of libc's own, is refused and stays as it is.
    unsafe {
        if libc::setsid() < 0 {
            return false;
        }
        for signal in 1..=libc::SIGRTMAX() {
            // To ignore a signal discards one that is pending.
            libc::signal(signal, libc::SIG_IGN);
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    true
}

/// Lets the calling process hear every signal again.
///
/// # Safety
/// For a child between clone and exec.
pub(super) unsafe fn unblock() {
    let none = empty();
    // SAFETY: the set is initialised and lives through the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}
