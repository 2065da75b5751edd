//! System calls as attempts make them.

use crate::tries::Outcome;
use libc::{c_int, c_long, c_ulong};
use std::ffi::CString;
use std::io;

/// Terminates a text as the kernel wants it.
pub fn text(s: &str) -> CString {
    CString::new(s).unwrap_or_default()
}

/// Reads a number; 0 where there is none.
pub fn number(given: &str) -> usize {
    given.parse().unwrap_or(0)
}

/// Says what the kernel had against something just now.
pub fn last(what: &str) -> String {
    format!("{what}: {}", io::Error::last_os_error())
}

/// A system call: through if it succeeds.
pub fn call(number: c_long, args: &[c_ulong]) -> Outcome {
    let a = |i: usize| args.get(i).copied().unwrap_or(0);
    // SAFETY: the arguments are numbers, null, or point to what lives until the call returns.
    let done = unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) };
    if done < 0 { Err(last(&format!("call {number}"))) } else { Ok(format!("call {number} gave {done}")) }
}

/// Does something in a child, so that this process is as before.
pub fn in_child(does: fn() -> Outcome) -> Outcome {
    // SAFETY: this process has one thread; the child does what it is to and exits.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let code = match does() {
                Ok(_) => 0,
                Err(_) => io::Error::last_os_error().raw_os_error().unwrap_or(1).clamp(1, 200),
            };
            // SAFETY: ends the child.
            unsafe { libc::_exit(code) }
        }
        -1 => Err(last("fork")),
        _ => {
            let mut status: c_int = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            match libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)) {
                Some(0) => Ok("done in a child".into()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno).to_string()),
                None => Err(format!("the child ended with {status:#x}")),
            }
        }
    }
}
