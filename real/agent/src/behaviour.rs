//! What an invocation does: sleep, spin, alloc, echo, or a command.

use crate::http::Answer;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// What an invocation asks for, in its query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    kind: Kind,
    duration: Duration,
    /// Bytes that are held meanwhile.
    alloc: usize,
    /// It reports an error in the end.
    fail: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Waits.
    Sleep,
    /// Uses a processor for that much of the thread's own time, whatever else runs.
    Spin,
    /// Gives the body back.
    Echo,
}

/// Memory is touched by this step, the page size.
const PAGE: usize = 4096;

impl Order {
    /// Reads `behaviour=spin&duration_ns=1000000&alloc=1048576&fail=1`.
    pub fn parse(query: &str) -> Result<Order, String> {
        let mut order = Order { kind: Kind::Echo, duration: Duration::ZERO, alloc: 0, fail: false };
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || value.parse().map_err(|_| format!("{key} '{value}' is no whole number >= 0\n"));
            match key {
                "behaviour" => {
                    order.kind = match value {
                        // Whatever it does, it holds `alloc` bytes meanwhile.
                        "sleep" | "alloc" => Kind::Sleep,
                        "spin" => Kind::Spin,
                        "echo" => Kind::Echo,
                        _ => {
                            return Err(format!(
                                "behaviour '{value}' is not known; there are sleep, spin, alloc, echo\n"
                            ));
                        }
                    }
                }
                "duration_ns" => order.duration = Duration::from_nanos(number()?),
                "alloc" => order.alloc = usize::try_from(number()?).unwrap_or(usize::MAX),
                "fail" => order.fail = value == "1",
                // The worker may say more than this agent knows.
                _ => {}
            }
        }
        Ok(order)
    }

    /// Does it.
    pub fn run(self, body: &[u8]) -> Answer {
        let held = match hold(self.alloc) {
            Ok(held) => held,
            Err(()) => return Answer::text(500, "out of memory\n"),
        };
        match self.kind {
            Kind::Spin => spin(self.duration),
            Kind::Sleep | Kind::Echo if self.duration > Duration::ZERO => std::thread::sleep(self.duration),
            Kind::Sleep | Kind::Echo => {}
        }
        drop(held);
        if self.fail {
            return Answer::text(500, "the invocation was asked to fail\n");
        }
        Answer { status: 200, body: if self.kind == Kind::Echo { body.to_vec() } else { Vec::new() } }
    }
}

/// Memory that is really there: every page is written to.
fn hold(bytes: usize) -> Result<Vec<u8>, ()> {
    let mut held: Vec<u8> = Vec::new();
    held.try_reserve_exact(bytes).map_err(|_| ())?;
    let start = held.as_mut_ptr();
    for at in (0..bytes).step_by(PAGE) {
        // SAFETY: `at` lies within the capacity just reserved, and bytes beyond the length may be written raw.
        unsafe { start.add(at).write_volatile(1) };
    }
    Ok(held)
}

fn spin(span: Duration) {
    let used = || {
        let t = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
    };
    let until = used() + span;
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    while used() < until {
        // A few microseconds of work between two looks at the clock, which is a system call.
        for _ in 0..2_000 {
            x = x.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(17);
        }
        std::hint::black_box(x);
    }
}

/// Bytes of a command's output that are an answer, and of its errors that are told.
const OUTPUT: usize = 16 << 20;
const ERRORS: usize = 64 << 10;
/// How long what a command wrote may take to come when it has ended: somebody that it left behind may hold the other end.
const REST: Duration = Duration::from_millis(200);

/// Keeps what comes out of a pipe, up to so many bytes, and counts the rest.
struct Output {
    bytes: Arc<Mutex<(Vec<u8>, usize)>>,
    ended: mpsc::Receiver<()>,
}

impl Output {
    /// Reads a pipe to its end, from a thread of its own.
    fn of(mut pipe: impl Read + Send + 'static, most: usize) -> Output {
        let bytes = Arc::new(Mutex::new((Vec::new(), 0)));
        let (tell, ended) = mpsc::channel();
        let read = Arc::clone(&bytes);
        let reads = move || {
            let mut piece = vec![0; 64 << 10];
            while let Ok(n) = pipe.read(&mut piece) {
                if n == 0 {
                    break;
                }
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                let room = most - read.0.len();
                read.0.extend_from_slice(&piece[..n.min(room)]);
                read.1 += n;
            }
            let _ = tell.send(());
        };
        // Without a thread nothing is read, and the command's end tells all the same.
        let _ = std::thread::Builder::new().stack_size(256 << 10).spawn(reads);
        Output { bytes, ended }
    }

    /// Waits for the pipe's end, so long at most; gives what came, and how much it was in all.
    fn taken(self, limit: Duration) -> (Vec<u8>, usize) {
        let _ = self.ended.recv_timeout(limit);
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a command: the body is its input, its output the answer. It has answered when it has ended; what it left behind is killed.
pub fn exec(command: &[String], body: &[u8], deadline_ms: Option<u64>) -> Answer {
    let (Some(program), args) = (command.first(), &command[1.min(command.len())..]) else {
        return Answer::text(500, "there is no command\n");
    };
    let child = Command::new(program)
        .args(args)
        .envs(deadline_ms.map(|ms| ("ELAPSE_DEADLINE_MS", ms.to_string())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(e) => return Answer::text(500, format!("cannot run {program}: {e}\n")),
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let output = stdout.map(|pipe| Output::of(pipe, OUTPUT));
    let errors = stderr.map(|pipe| Output::of(pipe, ERRORS));
    let body = body.to_vec();
    // From a thread of its own: a command that writes before it has read everything must not block. Nobody waits for it.
    let _ = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&body);
        }
    });
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // As long as it is not reaped its number, which is that of its group, is nobody else's.
        let _ = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = kill_process_group(group, Signal::KILL);
    }
    let ended = child.wait();
    let taken = |output: Option<Output>| output.map(|o| o.taken(REST)).unwrap_or_default();
    let ((output, length), (errors, _)) = (taken(output), taken(errors));
    match ended {
        Ok(status) if status.success() && length > OUTPUT => {
            Answer::text(500, format!("{program} wrote {length} bytes; an answer has at most {OUTPUT}\n"))
        }
        Ok(status) if status.success() => Answer { status: 200, body: output },
        Ok(status) => {
            let said = String::from_utf8_lossy(&errors);
            let tail: String = said.chars().rev().take(500).collect::<Vec<_>>().into_iter().rev().collect();
            Answer::text(500, format!("{program} ended with {status}: {}\n", tail.trim()))
        }
        Err(e) => Answer::text(500, format!("cannot wait for {program}: {e}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_uses_the_threads_own_time() {
        let before = clock_gettime(ClockId::ThreadCPUTime);
        spin(Duration::from_millis(5));
        let after = clock_gettime(ClockId::ThreadCPUTime);
        let used = (after.tv_sec - before.tv_sec) * 1_000_000_000 + (after.tv_nsec - before.tv_nsec);
        assert!(used >= 5_000_000, "{used}");
    }

    #[test]
    fn a_query_is_read_and_the_unknown_ignored() {
        let order = Order::parse("behaviour=spin&duration_ns=5&alloc=7&fail=1&later=x").unwrap();
        assert_eq!(
            order,
            Order { kind: Kind::Spin, duration: Duration::from_nanos(5), alloc: 7, fail: true }
        );
        assert!(Order::parse("duration_ns=-1").is_err());
    }

    #[test]
    fn a_command_gets_the_body_and_its_failure_is_told() {
        let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let answer = exec(&words("cat"), b"hello", None);
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"hello".as_slice()));
        let failed = exec(&words("false"), b"", None);
        assert_eq!(failed.status, 500);
        assert_eq!(exec(&words("/no/such/program"), b"", None).status, 500);
    }

    #[test]
    fn a_command_has_answered_when_it_has_ended_and_what_it_left_is_killed() {
        let shell = |script: &str| ["/bin/sh", "-c", script].map(str::to_string);
        let begun = std::time::Instant::now();
        let answer = exec(&shell("sleep 20 & echo hi $!"), b"", None);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let said = String::from_utf8(answer.body).unwrap();
        let left = said.trim().strip_prefix("hi ").expect("what it said").to_string();
        // Killed, it may still have to be told of, and waited for by whoever that is.
        let state = || std::fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
        let is_over = || state().is_empty() || state().contains(") Z");
        while !is_over() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(is_over(), "{}", state());
        // One that has left the group holds the output's other end, and nobody waits for it.
        let answer = exec(&shell("setsid sleep 3 & echo hi"), b"", None);
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"hi\n".as_slice()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let answer = exec(&shell("head -c 17000000 /dev/zero"), b"", None);
        assert!(answer.status == 500 && answer.body.starts_with(b"/bin/sh wrote 17000000 bytes"));
        // A command may write while it still reads its input: all of it is there.
        let long = vec![b'x'; 3 << 20];
        assert_eq!(exec(&["cat".to_string()], &long, None).body, long);
    }
}
