//! The worker as a daemon: the program itself, asked through its API and its signals.
#![expect(clippy::disallowed_methods, reason = "it waits for another process")]

mod common;

use common::containers::{agent, worker_name};
use common::{has, program, scratch};
use elapse_real::doctor::leftovers_of;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn elapse(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elapse")).args(args).output().expect("elapse was started")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A worker with functions `echo` and `slow`, on a unix socket of its folder.
struct Daemon {
    child: Child,
    folder: PathBuf,
    worker: String,
    at: String,
    told: UnixDatagram,
}

impl Daemon {
    fn start(test: &str, more: &str) -> Daemon {
        let (folder, worker) = (scratch(test), worker_name());
        // A socket's path is short.
        let at = format!("unix:/tmp/{worker}.sock");
        let config = folder.join("worker.toml");
        let function = |name: &str, rest: &str| {
            format!("[[function]]\nname = \"{name}\"\nmemory = \"64MiB\"\nduration = \"1s\"\n{rest}\n")
        };
        let text = format!(
            "listen = \"{at}\"\nbody_limit = \"1MiB\"\n{more}\n[worker]\nmemory = \"1GiB\"\ncores = 4\n[live]\n\
             worker = \"{worker}\"\nagent = {:?}\n{}{}",
            agent(),
            function("echo", "behaviour = \"echo\""),
            function("slow", "behaviour = \"sleep\"")
        );
        std::fs::write(&config, text).expect("a configuration");
        let notified = format!("/tmp/{worker}.notify");
        let told = UnixDatagram::bind(&notified).expect("a socket");
        told.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let child = Command::new(env!("CARGO_BIN_EXE_elapse"))
            .args(["worker", config.to_str().expect("a path")])
            .env("NOTIFY_SOCKET", &notified)
            .stderr(std::fs::File::create(folder.join("log")).expect("a log"))
            .spawn()
            .expect("it starts");
        let daemon = Daemon { child, folder, worker, at, told };
        let first = daemon.notified();
        assert!(first.contains("READY=1"), "{first}; {}", daemon.log());
        daemon
    }

    fn notified(&self) -> String {
        let mut bytes = [0; 512];
        let n =
            self.told.recv(&mut bytes).unwrap_or_else(|e| panic!("nothing was told: {e}; {}", self.log()));
        String::from_utf8_lossy(&bytes[..n]).to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn ask(&self, args: &[&str]) -> Output {
        elapse(&[args, &["--at", &self.at]].concat())
    }

    /// One request as it is written; the whole answer.
    fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.at["unix:".len()..]).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for its end; nothing of it may be left.
    fn ended(mut self) -> (Option<i32>, String) {
        let due = Instant::now() + Duration::from_secs(30);
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status.code();
            }
            assert!(Instant::now() < due, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let left = leftovers_of(&self.worker);
        assert!(left.is_empty(), "left: {left:?}");
        assert!(!Path::new(&self.at["unix:".len()..]).exists(), "its socket is left");
        (code, self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(format!("/tmp/{}.notify", self.worker));
    }
}

fn can(test: &str) -> bool {
    has("process", test, agent().exists() && program("kill"))
}

#[test]
fn functions_are_registered_invoked_and_told() {
    let test = "functions_are_registered_invoked_and_told";
    if !can(test) {
        return;
    }
    let daemon = Daemon::start(test, "");
    let echoed = daemon.ask(&["invoke", "echo", "--body", "what was sent"]);
    assert_eq!((echoed.status.code(), echoed.stdout.as_slice()), (Some(0), b"what was sent".as_slice()));
    let file = daemon.folder.join("f.toml");
    let path = file.to_str().expect("a path");
    let write = |text: &str| std::fs::write(&file, text).expect("a function");
    write("name = \"cat\"\nmemory = \"64MiB\"\nbehaviour = \"exec\"\ncommand = [\"cat\"]\n");
    for _ in 0..2 {
        let registered = daemon.ask(&["register", path]);
        assert!(said(&registered).contains("\"backend\": \"process\""), "{}", said(&registered));
    }
    let cat = daemon.ask(&["invoke", "cat", "--body", "through a command"]);
    assert!(said(&cat).contains("through a command"), "{}", said(&cat));
    assert!(daemon.ask(&["prewarm", "slow"]).status.success());
    for (text, why) in [
        ("name = \"cat\"\nmemory = \"65MiB\"\n", "already and it differs"),
        ("name = \"x\"\nmemry = \"65MiB\"\n", "did you mean 'memory'?"),
        ("name = \"a/b\"\nmemory = \"65MiB\"\n", "part of a path"),
        ("name = \"big\"\nmemory = \"2GiB\"\n", "the worker has 1GiB"),
        ("name = \"x\"\nmemory = \"1MiB\"\nload = { constant = \"1/s\" }\n", "belong into a scenario"),
    ] {
        write(text);
        let refused = daemon.ask(&["register", path]);
        assert!(refused.status.code() == Some(2) && said(&refused).contains(why), "{}", said(&refused));
    }
    let unknown = daemon.ask(&["invoke", "ecko"]);
    assert!(
        unknown.status.code() == Some(2) && said(&unknown).contains("did you mean 'echo'?"),
        "{}",
        said(&unknown)
    );
    let status: serde_json::Value = serde_json::from_slice(&daemon.ask(&["status"]).stdout).expect("JSON");
    assert_eq!(status["metrics"]["completed"], 2.0);
    assert_eq!(status["metrics"]["containers_cached"], 3.0);
    let loops = status["loops"].as_array().expect("a list");
    assert_eq!(loops.len(), elapse::worker::LOOPS.len());
    assert!(loops.iter().all(|l| l["restarts"] == 0 && l["last_panic"].is_null()));
    assert!(said(&daemon.ask(&["list"])).contains("\"cat\""));
    let metrics = daemon.raw("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(
        metrics.contains("elapse_cold_starts_total{worker=") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let own = daemon.raw("GET /nowhere HTTP/1.0\r\nx-request-id: mine\r\n\r\n");
    assert!(own.starts_with("HTTP/1.0 404") && own.contains("\"request_id\":\"mine\""), "{own}");
    let long = daemon.raw("POST /v1/functions/echo/invoke HTTP/1.0\r\ncontent-length: 2000000\r\n\r\n");
    assert!(long.starts_with("HTTP/1.0 413"), "{long}");
    assert!(daemon.ask(&["drain"]).status.success());
    assert!(daemon.notified().contains("STOPPING=1"));
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn the_first_sigterm_finishes_what_was_admitted() {
    let test = "the_first_sigterm_finishes_what_was_admitted";
    if !can(test) {
        return;
    }
    let daemon = Daemon::start(test, "");
    let calls: Vec<Child> = (0..8)
        .map(|_| {
            let args = ["invoke", "slow", "--at", &daemon.at];
            let mut command = Command::new(env!("CARGO_BIN_EXE_elapse"));
            command.args(args).stderr(Stdio::null()).spawn().expect("a client")
        })
        .collect();
    let due = Instant::now() + Duration::from_secs(20);
    loop {
        let status: serde_json::Value =
            serde_json::from_slice(&daemon.ask(&["status"]).stdout).expect("JSON");
        if status["metrics"]["invocations"] == 8.0 {
            break;
        }
        assert!(Instant::now() < due, "{status}");
    }
    daemon.signal("TERM");
    assert!(daemon.notified().contains("STOPPING=1"));
    let late = daemon.ask(&["invoke", "echo"]);
    assert!(late.status.code() == Some(1) && said(&late).contains("worker drains"), "{}", said(&late));
    for mut call in calls {
        assert!(call.wait().expect("a client").success(), "an admitted invocation was lost");
    }
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn who_brings_no_token_is_told_nothing() {
    let test = "who_brings_no_token_is_told_nothing";
    if !can(test) {
        return;
    }
    let token = scratch("token").join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).expect("a token");
    let daemon = Daemon::start(test, &format!("token_file = {token:?}"));
    for header in ["", "authorization: Bearer wrong\r\n", "authorization: Bearer 0123456789abcdef\r\n"] {
        let refused = daemon.raw(&format!("GET /v1/status HTTP/1.0\r\n{header}\r\n"));
        assert!(refused.starts_with("HTTP/1.0 401") && !refused.contains("metrics"), "{refused}");
    }
    assert!(daemon.raw("GET /v1/health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    let with = ["status", "--token-file", token.to_str().expect("a path")];
    assert!(daemon.ask(&with).status.success());
    assert!(daemon.log().contains("no valid token"), "{}", daemon.log());
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn what_a_killed_life_left_is_removed_by_the_next_and_a_second_of_the_name_refused() {
    let test = "what_a_killed_life_left_is_removed_by_the_next_and_a_second_of_the_name_refused";
    if !can(test) {
        return;
    }
    let mut daemon = Daemon::start("killed", "");
    assert!(daemon.ask(&["invoke", "echo"]).status.success());
    let config = daemon.folder.join("worker.toml");
    let again = || elapse(&["worker", config.to_str().expect("a path")]);
    let second = again();
    assert!(
        second.status.code() == Some(3) && said(&second).contains("runs on this host already"),
        "{}",
        said(&second)
    );
    daemon.child.kill().expect("it is killed");
    daemon.child.wait().expect("it ends");
    daemon.child = Command::new(env!("CARGO_BIN_EXE_elapse"))
        .args(["worker", config.to_str().expect("a path")])
        .env("NOTIFY_SOCKET", format!("/tmp/{}.notify", daemon.worker))
        .stderr(std::fs::File::create(daemon.folder.join("log")).expect("a log"))
        .spawn()
        .expect("it starts again");
    assert!(daemon.notified().contains("READY=1"), "{}", daemon.log());
    assert!(daemon.ask(&["invoke", "echo"]).status.success());
    daemon.signal("TERM");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn wrong_configurations_are_told_in_a_sentence() {
    let folder = scratch("daemon-wrong");
    let file = folder.join("worker.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let worker = format!(
        "[worker]\nmemory = \"1GiB\"\nbackends = [\"simulated\"]\n[live]\nworker = \"{}\"\n",
        worker_name()
    );
    for (top, rest, code, why) in [
        ("lisen = \"x\"", worker.as_str(), 2, "did you mean 'listen'?"),
        ("listen = \"somewhere\"", &worker, 2, "is no address"),
        ("listen = \"0.0.0.0:0\"", &worker, 2, "there is no token_file"),
        ("token_file = \"absent\"", &worker, 2, "there is no such file"),
        ("listen = \"unix:/nowhere/at/all.sock\"", &worker, 3, "the socket's folder does not exist"),
        ("", "[worker]\ncores = 1\n", 2, "memory is not given"),
    ] {
        std::fs::write(&file, format!("{top}\n{rest}")).expect("a configuration");
        let refused = elapse(&["worker", file.to_str().expect("a path")]);
        assert!(
            refused.status.code() == Some(code) && said(&refused).contains(why),
            "{top}: {}",
            said(&refused)
        );
    }
    std::fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n{worker}")).expect("a configuration");
    let refused = elapse(&["worker", file.to_str().expect("a path")]);
    assert!(
        refused.status.code() == Some(3) && said(&refused).contains("another process has it"),
        "{}",
        said(&refused)
    );
    let away = elapse(&["status", "--at", &format!("unix:{}", folder.join("none").display())]);
    assert!(away.status.code() == Some(3) && said(&away).contains("does not answer"), "{}", said(&away));
}
