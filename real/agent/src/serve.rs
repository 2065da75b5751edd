//! `serve -- CMD`: a user's own HTTP server, started once, its port joined to our socket.

use crate::Connection;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, exit};
use std::time::{Duration, Instant};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the server and waits until it listens. When it ends, so does the agent, with its exit code.
pub fn start(command: &[String]) -> Result<u16, String> {
    let Some((program, args)) = command.split_first() else { return Err("there is no command".into()) };
    let port = match std::env::var("ELAPSE_SERVE_PORT").ok().and_then(|p| p.parse().ok()) {
        Some(port) => port,
        None => free_port().map_err(|e| format!("no port is free: {e}"))?,
    };
    let mut child = Command::new(program)
        .args(args)
        .env("PORT", port.to_string())
        .env_remove("ELAPSE_SOCKET")
        .env_remove("LISTEN_FDS")
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("{program} ended with {status} before it listened on port {port}"));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{program} does not listen on port {port} ($PORT)"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::spawn(move || {
        let code = child.wait().ok().and_then(|s| s.code()).unwrap_or(1);
        exit(code);
    });
    Ok(port)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Passes bytes both ways until either side is done.
pub fn join(connection: Connection, port: u16) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    server.set_nodelay(true)?;
    let (mut to_server, mut from_server) = (server.try_clone()?, server);
    // Sockets of either family are read, written and shut down alike.
    let client = UnixStream::from(match connection {
        Connection::Unix(stream) => OwnedFd::from(stream),
        Connection::Tcp(stream) => OwnedFd::from(stream),
    });
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    Ok(())
}
