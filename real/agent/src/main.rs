//! The server in a container.
//!
//! It answers on a unix socket (`$ELAPSE_SOCKET`, or a listening socket handed over as descriptor 3), or on TCP `$PORT`,
//! and does in an invocation what its query says, so that any trace can be replayed live. It is static, small, and may
//! be a container's only process. The wire is described in `real/WIRE.md`.

mod behaviour;
mod http;
mod serve;

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const USAGE: &str = "\
usage: elapse-agent                   answer invocations with the behaviour that each asks for
       elapse-agent exec -- CMD ARG…  run a command for each invocation: body to stdin, stdout to the answer
       elapse-agent serve -- CMD ARG… start a server once, and pass every connection on to its $PORT
It listens on $ELAPSE_SOCKET, else on 0.0.0.0:$PORT. Before it answers it does what $ELAPSE_INIT says, as the query of a call.";

/// What this agent does with an invocation.
pub enum Mode {
    /// What the invocation's query says.
    Behave,
    /// Run this command.
    Exec(Vec<String>),
    /// Hand connections on to a server on this port.
    Serve(u16),
}

/// Connections at once; what comes beyond waits in the socket's backlog.
const CONNECTIONS: usize = 1024;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "elapse-agent: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    // The kernel lets a sleeper be 50 us late unless told otherwise; threads inherit it.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut args = std::env::args().skip(1);
    let mode = args.next();
    let command: Vec<String> = args.skip_while(|a| a == "--").collect();
    let mode = match mode.as_deref() {
        None => Mode::Behave,
        Some("--version") => {
            let _ = writeln!(std::io::stdout(), "elapse-agent {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        Some("exec") if !command.is_empty() => Mode::Exec(command),
        Some("serve") if !command.is_empty() => Mode::Serve(serve::start(&command)?),
        _ => return Err(USAGE.into()),
    };
    if let Some(init) = std::env::var_os("ELAPSE_INIT") {
        let order = behaviour::Order::parse(&init.to_string_lossy());
        order.map_err(|why| format!("ELAPSE_INIT: {}", why.trim()))?.run(&[]);
    }
    let mode = Arc::new(mode);
    if let Some(listener) = inherited() {
        return accept(&mode, || listener.accept().map(|(s, _)| Connection::Unix(s)));
    }
    if let Some(path) = std::env::var_os("ELAPSE_SOCKET") {
        // A socket that a former life left would be in the way, and nobody else's can be here.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .map_err(|e| format!("cannot listen on {}: {e}", path.to_string_lossy()))?;
        return accept(&mode, || listener.accept().map(|(s, _)| Connection::Unix(s)));
    }
    let Some(port) = std::env::var("PORT").ok().and_then(|p| p.parse().ok()) else {
        return Err(format!("neither ELAPSE_SOCKET nor PORT says where to listen\n{USAGE}"));
    };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|e| format!("cannot listen on port {port}: {e}"))?;
    accept(&mode, || listener.accept().map(|(s, _)| Connection::Tcp(s)))
}

/// A listening socket that the parent made, as systemd hands them over: its backlog holds the first call before the
/// agent has even started.
fn inherited() -> Option<UnixListener> {
    let count: u32 = std::env::var("LISTEN_FDS").ok()?.parse().ok()?;
    if count == 0 {
        return None;
    }
    // SAFETY: by the protocol of LISTEN_FDS descriptor 3 is open and ours, and nothing else in here owns it.
    let fd = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(3) };
    Some(UnixListener::from(fd))
}

/// A connection of either kind.
pub enum Connection {
    /// Over a unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// Over TCP.
    Tcp(std::net::TcpStream),
}

/// A thread for each connection: calls on several connections run at once.
fn accept(mode: &Arc<Mode>, mut next: impl FnMut() -> std::io::Result<Connection>) -> Result<(), String> {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match next() {
            Ok(connection) => connection,
            Err(e) if is_passing(&e) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            }
            Err(e) => return Err(format!("cannot accept connections any more: {e}")),
        };
        while open.load(Ordering::Relaxed) >= CONNECTIONS {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (mode, counted) = (Arc::clone(mode), Arc::clone(&open));
        let spawned = std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
            talk(connection, &mode);
            counted.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            // Out of pids or memory: the connection is closed, the agent lives on.
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn talk(connection: Connection, mode: &Mode) {
    // A peer that went away ends its connection and nothing else.
    let _ = match (connection, mode) {
        (connection, Mode::Serve(port)) => serve::join(connection, *port),
        (Connection::Unix(stream), mode) => http::talk(stream, mode),
        (Connection::Tcp(stream), mode) => stream.set_nodelay(true).and_then(|()| http::talk(stream, mode)),
    };
}

fn is_passing(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, Interrupted, OutOfMemory};
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(e.kind(), Interrupted | ConnectionAborted | OutOfMemory)
        || matches!(e.raw_os_error(), Some(EMFILE | ENFILE))
}
