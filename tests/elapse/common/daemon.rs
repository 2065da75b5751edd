//! A worker or a controller as a process of its own, for tests of the program itself.
#![allow(clippy::disallowed_methods, reason = "it waits for other processes")]

use super::containers::{agent, worker_name};
use super::{scratch, slower};
use elapse::rt::chance::{Purpose, Seed};
use elapse_host::doctor::leftovers_of;
use rand::RngExt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn elapse(args: &[&str]) -> Output {
    Command::new(crate::common::elapse()).args(args).output().expect("elapse was started")
}

/// A file of `tests/tls`.
pub fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// When a life ends, another moment in each and the same in every run of the test.
pub fn moment(life: u64, latest: Duration) -> Duration {
    let latest = latest.mul_f64(slower());
    latest.mul_f64(Seed::new(1).named("lives").draw(Purpose::Jitter, life).random_range(0.0..1.0))
}

/// A daemon on a unix socket, and the folder of its configuration.
pub struct Daemon {
    pub child: Child,
    pub folder: PathBuf,
    /// Its name: a worker's own.
    pub name: String,
    pub at: String,
    command: &'static str,
    told: UnixDatagram,
}

impl Daemon {
    /// A worker with functions `echo` and `slow`. `top` goes before the tables of its configuration, `tables` behind.
    pub fn worker(test: &str, top: &str, tables: &str) -> Daemon {
        let daemon = Daemon::prepared(test, "worker", |at, name| {
            let function = |name: &str, rest: &str| {
                format!("[[function]]\nname = \"{name}\"\nmemory = \"64MiB\"\nduration = \"1s\"\n{rest}\n")
            };
            format!(
                "listen = \"{at}\"\nbody_limit = \"1MiB\"\n{top}\n[worker]\nmemory = \"1GiB\"\ncores = 4\n[live]\n\
                 worker = \"{name}\"\nagent = {:?}\n{tables}\n{}{}",
                agent(),
                function("echo", "behaviour = \"echo\""),
                function("slow", "behaviour = \"sleep\"")
            )
        });
        daemon.is_ready();
        daemon
    }

    /// A controller.
    pub fn controller(test: &str, top: &str) -> Daemon {
        let daemon = Daemon::prepared(test, "controller", |at, _| {
            // Where the sockets of all workers of these tests are.
            format!("listen = \"{at}\"\nworkers_from = [\"unix:/tmp\"]\n{top}\n")
        });
        daemon.is_ready();
        daemon
    }

    fn prepared(test: &str, command: &'static str, config: impl Fn(&str, &str) -> String) -> Daemon {
        let name = worker_name();
        let folder = scratch(&format!("{test}-{name}"));
        // A socket's path is short.
        let at = format!("unix:/tmp/{name}.sock");
        std::fs::write(folder.join("config.toml"), config(&at, &name)).expect("a configuration");
        let told = UnixDatagram::bind(format!("/tmp/{name}.notify")).expect("a socket");
        told.set_read_timeout(Some(Duration::from_secs(20).mul_f64(slower()))).expect("a limit");
        let child = started(command, &folder, &name);
        Daemon { child, folder, name, at, command, told }
    }

    fn is_ready(&self) {
        let first = self.notified();
        assert!(first.contains("READY=1"), "{first}; {}", self.log());
    }

    /// Starts it anew where others reach it over TLS, with the certificate of this name in `tests/tls`; the port is free.
    pub fn secured(self, certificate: &str) -> Daemon {
        self.show(certificate);
        let lines = "allow_anonymous = true\ntls_cert = \"shown.pem\"\ntls_key = \"shown.key\"";
        self.moved(lines, "https://localhost:")
    }

    /// Starts it anew on a free port of the loopback, with these lines more, to be reached at this and the port.
    pub fn moved(mut self, lines: &str, at: &str) -> Daemon {
        self.kill();
        let _ = std::fs::remove_file(&self.at["unix:".len()..]);
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let listens = format!("listen = \"127.0.0.1:{port}\"\n{lines}");
        self.reconfigure(&format!("listen = \"{}\"", self.at), &listens);
        self.at = format!("{at}{port}");
        self.start_again();
        self
    }

    /// Starts it anew on another backend than process.
    pub fn on(mut self, backend: &str) -> Daemon {
        self.kill();
        let _ = std::fs::remove_file(&self.at["unix:".len()..]);
        self.reconfigure("cores = 4", &format!("cores = 4\nbackends = [\"{backend}\"]"));
        self.start_again();
        self
    }

    /// Puts the certificate of this name where its configuration says.
    pub fn show(&self, certificate: &str) {
        for kind in ["pem", "key"] {
            let from = tls(&format!("{certificate}.{kind}"));
            std::fs::copy(from, self.folder.join(format!("shown.{kind}"))).expect("a copy");
        }
    }

    /// Changes its configuration for the next start.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let file = self.folder.join("config.toml");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).expect("a configuration");
    }

    /// The process ids of its containers.
    pub fn containers(&self) -> Vec<i32> {
        let base = Path::new("/sys/fs/cgroup");
        let group = elapse_host::cgroup::path_of(&self.name, "process");
        let parents = [base.join("memory").join(&group), base.join(&group)];
        let groups = parents.iter().flat_map(|p| std::fs::read_dir(p).into_iter().flatten().flatten());
        let procs = groups.filter_map(|g| std::fs::read_to_string(g.path().join("cgroup.procs")).ok());
        procs.flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<i32>>()).collect()
    }

    /// Kills it as the kernel would.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }

    /// Starts it again with the same configuration.
    pub fn start_again(&mut self) {
        self.child = started(self.command, &self.folder, &self.name);
        self.is_ready();
    }

    /// The JSON that it answers to a command.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.ask(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}; {}", said(&output)))
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let due = Instant::now() + Duration::from_secs(20).mul_f64(slower());
        while !holds() {
            assert!(Instant::now() < due, "not {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn notified(&self) -> String {
        let mut bytes = [0; 512];
        let n =
            self.told.recv(&mut bytes).unwrap_or_else(|e| panic!("nothing was told: {e}; {}", self.log()));
        String::from_utf8_lossy(&bytes[..n]).to_string()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A client that asks it, and nobody reads what it prints.
    pub fn client(&self, args: &[&str]) -> Child {
        let mut command = Command::new(crate::common::elapse());
        command.args(args).args(["--at", &self.at]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a client")
    }

    /// What its next start does with what an earlier life left.
    pub fn boots(&mut self, clean: bool) {
        let (from, to) = if clean { ("recover", "clean") } else { ("clean", "recover") };
        self.reconfigure(&format!("on_boot = \"{from}\""), &format!("on_boot = \"{to}\""));
    }

    pub fn ask(&self, args: &[&str]) -> Output {
        elapse(&[args, &["--at", &self.at]].concat())
    }

    /// One request as it is written; the whole answer.
    pub fn raw(&self, request: &str) -> String {
        let limit = Some(Duration::from_secs(30));
        match self.at.strip_prefix("unix:") {
            Some(path) => {
                let mut stream = UnixStream::connect(path).expect("it listens");
                stream.set_read_timeout(limit).expect("a limit");
                answer(&mut stream, request)
            }
            None => {
                let mut stream = TcpStream::connect(&self.at).expect("it listens");
                stream.set_read_timeout(limit).expect("a limit");
                answer(&mut stream, request)
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Sends a second one. At once it would be the same wish, told twice.
    pub fn signal_again(&self, name: &str) {
        std::thread::sleep(std::time::Duration::from_millis(300));
        self.signal(name);
    }

    /// Reads its configuration again, and has done so when this returns.
    pub fn reload(&self) {
        self.signal("HUP");
        let told = [self.notified(), self.notified()];
        assert!(told[0].contains("RELOADING=1") && told[0].contains("MONOTONIC_USEC="), "{told:?}");
        assert!(told[1].contains("READY=1"), "{told:?}");
    }

    /// Ends it as a service manager does; nothing of it may be left.
    pub fn ends_well(self) {
        self.signal("TERM");
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log}");
    }

    /// Waits for its end; nothing of it may be left.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let due = Instant::now() + Duration::from_secs(30).mul_f64(slower());
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status.code();
            }
            assert!(Instant::now() < due, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let left = leftovers_of(&self.name);
        assert!(left.is_empty(), "left: {left:?}");
        let is_left = self.at.strip_prefix("unix:").is_some_and(|path| Path::new(path).exists());
        assert!(!is_left, "its socket is left");
        (code, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(format!("/tmp/{}.notify", self.name));
    }
}

/// What is answered to a request.
fn answer(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn started(command: &str, folder: &Path, name: &str) -> Child {
    let config = folder.join("config.toml");
    Command::new(crate::common::elapse())
        .args([command, config.to_str().expect("a path")])
        .env("NOTIFY_SOCKET", format!("/tmp/{name}.notify"))
        .stderr(std::fs::File::create(folder.join("log")).expect("a log"))
        .spawn()
        .expect("it starts")
}
