//! The worker as a daemon: the program itself, asked through its API and its signals.
#![expect(clippy::disallowed_methods, reason = "it waits for another process")]

use crate::common::containers::{agent, worker_name};
use crate::common::daemon::{Daemon, elapse, said, tls};
use crate::common::{NOBODY, has, program, scratch, secret};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn can(test: &str) -> bool {
    has("process", test, agent().exists() && program("kill"))
}

#[test]
fn functions_are_registered_invoked_and_told() {
    let test = "functions_are_registered_invoked_and_told";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "");
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
    let names: Vec<&str> = loops.iter().filter_map(|l| l["name"].as_str()).collect();
    let all = [elapse::worker::LOOPS, &["exit-watcher", "watchdog", "reload", "orders"]].concat();
    assert_eq!(names, all);
    let threads = status["threads"].as_array().expect("a list");
    for name in ["spawner-1", "api"] {
        assert!(threads.iter().any(|t| t["name"] == name), "{name}: {threads:?}");
    }
    for told in [loops, threads] {
        assert!(told.iter().all(|l| l["restarts"] == 0 && l["last_panic"].is_null()), "{told:?}");
    }
    let up = status["up_seconds"].as_f64().expect("a number");
    let last = |t: &serde_json::Value| t["last_run_seconds"].as_f64().filter(|at| *at <= up);
    assert!(threads.iter().all(|t| last(t).is_some()), "{threads:?}");
    assert!(said(&daemon.ask(&["list"])).contains("\"cat\""));
    let metrics = daemon.raw("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(
        metrics.contains("elapse_cold_starts_total{worker=") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    let cached =
        format!("elapse_backend_containers_cached{{worker=\"{}\",backend=\"process\"}} 3\n", daemon.name);
    assert!(metrics.contains(&cached) && metrics.contains("elapse_memory_worker_mb{worker="), "{metrics}");
    let own = daemon.raw("GET /nowhere HTTP/1.0\r\nx-request-id: mine\r\n\r\n");
    assert!(own.starts_with("HTTP/1.0 404") && own.contains("\"request_id\":\"mine\""), "{own}");
    for (header, why) in [
        ("elapse-fail: yes", "elapse-fail is 'yes'; it is 1, or left out"),
        ("elapse-duration-ns: 5ms", "elapse-duration-ns is '5ms'; it is a whole number"),
    ] {
        let told =
            daemon.raw(&format!("POST /function/echo HTTP/1.0\r\n{header}\r\ncontent-length: 0\r\n\r\n"));
        assert!(told.starts_with("HTTP/1.0 422") && told.contains(why), "{told}");
    }
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
    let daemon = Daemon::worker(test, "", "");
    let calls: Vec<Child> = (0..8)
        .map(|_| {
            let args = ["invoke", "slow", "--at", &daemon.at];
            let mut command = Command::new(crate::common::elapse());
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
    assert!(late.status.code() == Some(1) && said(&late).contains("not admitted: "), "{}", said(&late));
    let later = daemon.ask(&["invoke", "echo", "--async"]);
    assert!(later.status.code() == Some(1) && said(&later).contains("worker drains"), "{}", said(&later));
    let health = daemon.ask(&["health"]);
    assert!(health.status.code() == Some(1) && said(&health).contains("it is draining"), "{}", said(&health));
    assert_eq!(daemon.json(&["status"])["status"], "draining");
    for mut call in calls {
        assert!(call.wait().expect("a client").success(), "an admitted invocation was lost");
    }
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_second_sigterm_ends_at_once_and_the_next_life_removes_what_it_left() {
    let test = "a_second_sigterm_ends_at_once_and_the_next_life_removes_what_it_left";
    if !can(test) {
        return;
    }
    let mut daemon = Daemon::worker(test, "", "");
    daemon
        .reconfigure("duration = \"1s\"\nbehaviour = \"sleep\"", "duration = \"60s\"\nbehaviour = \"sleep\"");
    daemon.kill();
    daemon.start_again();
    let begun = daemon.ask(&["invoke", "slow", "--async"]);
    assert!(said(&begun).contains("under way"), "{}", said(&begun));
    daemon.until("begun", || daemon.json(&["status"])["metrics"]["containers_running"] == 1.0);
    daemon.signal("TERM");
    assert!(daemon.notified().contains("STOPPING=1"));
    let asked = Instant::now();
    daemon.signal_again("TERM");
    assert!(!daemon.child.wait().expect("it ends").success());
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    daemon.reconfigure("60s", "1s");
    daemon.start_again();
    daemon.ends_well();
}

/// An invocation beyond its time is answered with 504, and bodies that are long together are refused before they come.
#[test]
fn what_takes_too_long_and_what_is_too_long_together_is_refused() {
    let test = "what_takes_too_long_and_what_is_too_long_together_is_refused";
    if !can(test) {
        return;
    }
    let mut daemon = Daemon::worker(test, "", "");
    daemon.reconfigure("body_limit = \"1MiB\"", "body_limit = \"32MiB\"");
    daemon.kill();
    daemon.start_again();
    let file = daemon.folder.join("late.toml");
    let text = "name = \"late\"\nmemory = \"64MiB\"\nbehaviour = \"sleep\"\nduration = \"60s\"\ntimeout = \"200ms\"\n";
    std::fs::write(&file, text).expect("a file");
    let registered = daemon.ask(&["register", file.to_str().expect("a path")]);
    assert!(registered.status.success(), "{}", said(&registered));
    let late = daemon.raw("POST /v1/functions/late/invoke HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
    assert!(late.starts_with("HTTP/1.0 504") && late.contains("timed out"), "{late}");
    let socket = &daemon.at["unix:".len()..];
    // Room is taken by what has come, and not by what is announced.
    let announce = || {
        let mut stream = UnixStream::connect(socket).expect("it listens");
        let head = "POST /v1/functions/echo/invoke HTTP/1.0\r\ncontent-length: 33554432\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it is read");
        stream
    };
    let announced: Vec<UnixStream> = (0..10).map(|_| announce()).collect();
    let call = "POST /v1/functions/echo/invoke HTTP/1.0\r\ncontent-length: 2\r\n\r\nab";
    assert!(daemon.raw(call).starts_with("HTTP/1.0 200"));
    drop(announced);
    // Two of them are all the room.
    let mut announced = [announce(), announce()];
    for stream in &mut announced {
        stream.write_all(&vec![0; (32 << 20) - 1]).expect("it is read");
    }
    daemon.until("refused", || {
        let answer = daemon.raw(call);
        answer.starts_with("HTTP/1.0 429") && answer.contains("too long together")
    });
    // What is said of the daemon itself has room of its own, and who breaks off gives the room back.
    assert!(daemon.ask(&["status"]).status.success());
    drop(announced);
    daemon.until("taken again", || daemon.raw(call).starts_with("HTTP/1.0 200"));
    daemon.ends_well();
}

#[test]
fn what_does_not_end_within_the_drain_is_told_so() {
    let test = "what_does_not_end_within_the_drain_is_told_so";
    if !can(test) {
        return;
    }
    let mut daemon = Daemon::worker(test, "", "");
    daemon
        .reconfigure("duration = \"1s\"\nbehaviour = \"sleep\"", "duration = \"60s\"\nbehaviour = \"sleep\"");
    daemon.reconfigure("cores = 4", "cores = 4\ndrain = \"200ms\"");
    daemon.kill();
    daemon.start_again();
    let answer = std::thread::scope(|scope| {
        let call = "POST /v1/functions/slow/invoke HTTP/1.0\r\ncontent-length: 0\r\n\r\n";
        let waiting = scope.spawn(|| daemon.raw(call));
        daemon.until("begun", || daemon.json(&["status"])["metrics"]["containers_running"] == 1.0);
        daemon.signal("TERM");
        waiting.join().expect("an answer")
    });
    assert!(answer.starts_with("HTTP/1.0 502") && answer.contains("elapse-status: lost"), "{answer}");
    let (code, log) = daemon.ended();
    assert!(code == Some(0) && log.contains("was ended"), "{code:?} {log}");
}

#[test]
fn the_answer_of_an_invocation_that_nobody_waited_for_is_fetched_by_a_command() {
    let test = "the_answer_of_an_invocation_that_nobody_waited_for_is_fetched_by_a_command";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "");
    let begun = daemon.json(&["invoke", "echo", "--async", "--body", "kept"]);
    let id = begun["id"].as_str().expect("an id");
    daemon.until("answered", || daemon.ask(&["result", id]).stdout == b"kept");
    let nothing = daemon.ask(&["result", "another"]);
    assert!(said(&nothing).contains("there is no invocation 'another'"), "{}", said(&nothing));
    assert!(daemon.ask(&["health"]).status.success());
    assert!(said(&daemon.ask(&["metrics"])).contains("elapse_cold_starts_total"));
    // One that is stopped is not waited for without an end.
    daemon.signal("STOP");
    let stopped = daemon.ask(&["status", "--timeout", "300ms"]);
    daemon.signal("CONT");
    assert!(
        stopped.status.code() == Some(3) && said(&stopped).contains("has not answered within 300ms"),
        "{}",
        said(&stopped)
    );
    let odd = daemon.raw("GET /v1/invocations/%ff HTTP/1.0\r\n\r\n");
    assert!(odd.starts_with("HTTP/1.0 400") && odd.contains("\"request_id\""), "{odd}");
    daemon.ends_well();
}

/// A web page whose name leads to the loopback (DNS rebinding) asks without an `Origin`, as of its own server.
#[test]
fn who_asks_under_another_name_is_told_nothing() {
    let test = "who_asks_under_another_name_is_told_nothing";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "").moved("allow_anonymous = true", "127.0.0.1:");
    let ask = |path: &str, host: &str| {
        daemon.raw(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    };
    for own in ["localhost:8480", "127.0.0.1"] {
        assert!(ask("/v1/status", own).starts_with("HTTP/1.1 200"), "{own}");
    }
    let page = ask("/v1/status", "a.example:8480");
    assert!(page.starts_with("HTTP/1.1 403") && page.contains("not at another name"), "{page}");
    assert!(ask("/v1/health", "a.example").starts_with("HTTP/1.1 200"));
    assert!(daemon.ask(&["status"]).status.success());
    daemon.ends_well();
}

#[test]
fn who_brings_no_token_is_told_nothing() {
    let test = "who_brings_no_token_is_told_nothing";
    if !can(test) {
        return;
    }
    let token = scratch("token").join("token");
    secret(&token, &format!("{TOKEN}\n"));
    let daemon = Daemon::worker(test, &format!("token_file = {token:?}"), "").moved("", "127.0.0.1:");
    for header in ["", "authorization: Bearer wrong\r\n", "authorization: Bearer 0123456789abcdef\r\n"] {
        let refused = daemon.raw(&format!("GET /v1/status HTTP/1.0\r\n{header}\r\n"));
        assert!(refused.starts_with("HTTP/1.0 401") && !refused.contains("metrics"), "{refused}");
    }
    assert!(daemon.raw("GET /v1/health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    let with = ["status", "--token-file", token.to_str().expect("a path")];
    assert!(daemon.ask(&with).status.success());
    assert!(daemon.log().contains("no valid token"), "{}", daemon.log());
    daemon.ends_well();
}

#[test]
fn what_a_killed_life_left_is_removed_by_the_next_and_a_second_of_the_name_refused() {
    let test = "what_a_killed_life_left_is_removed_by_the_next_and_a_second_of_the_name_refused";
    if !can(test) {
        return;
    }
    let mut daemon = Daemon::worker("killed", "", "");
    assert!(daemon.ask(&["invoke", "echo"]).status.success());
    let config = daemon.folder.join("config.toml");
    let again = || elapse(&["worker", config.to_str().expect("a path")]);
    let second = again();
    assert!(
        second.status.code() == Some(3) && said(&second).contains("runs on this host already"),
        "{}",
        said(&second)
    );
    daemon.kill();
    daemon.start_again();
    assert!(daemon.ask(&["invoke", "echo"]).status.success());
    daemon.ends_well();
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
        ("listen = \"0.0.0.0:0\"", &worker, 2, "set plaintext = true"),
        ("listen = \"0.0.0.0:0\"\nallow_anonymous = true", &worker, 2, "allow_anonymous lets anybody in"),
        ("allow_anonymous = true", &worker, 2, "allow_anonymous is for TCP"),
        ("concurrent = 9223372036854775807", &worker, 2, "it is at most 1000000"),
        ("[prewarm]\njitter = -1.0", &worker, 2, "from 0 to 1"),
        ("", "[worker]\nmemory = \"1GiB\"\nbackends = []\n", 2, "backends names none"),
        (
            "",
            "[worker]\nmemory = \"1GiB\"\nbackends = [\"simulated\", \"simulated\"]\n",
            2,
            "'simulated' twice",
        ),
        ("socket_mode = \"rw\"", &worker, 2, "no mode in octal"),
        ("socket_group = \"no-such-group\"", &worker, 2, "there is no such group"),
        ("listen = \"127.0.0.1:0\"\ntoken_file = \"/dev/zero\"", &worker, 2, "it is no file"),
        ("token_file = \"absent\"", &worker, 2, "there is no such file"),
        ("listen = \"unix:/nowhere/at/all.sock\"", &worker, 3, "the socket's folder does not exist"),
        ("", "[worker]\ncores = 1\n", 2, "memory is not given"),
        ("listen = \"https://localhost:1\"", &worker, 2, "TLS is switched on by tls_cert and tls_key"),
        ("tls_cert = \"a.pem\"", &worker, 2, "tls_cert is given and tls_key is not"),
        (
            "listen = \"unix:/tmp/x\"\ntls_cert = \"a\"\ntls_key = \"b\"",
            &worker,
            2,
            "listen is a unix socket",
        ),
        (
            "listen = \"127.0.0.1:0\"\ntls_cert = \"a.pem\"\ntls_key = \"a.key\"",
            &worker,
            2,
            "cannot read certificates from",
        ),
        ("[register]\ncode_roots = [\"/etc\"]", &worker, 2, "has to do with /etc"),
        ("", &format!("{worker}weaker = [\"secomp\"]\n"), 2, "did you mean 'seccomp'?"),
        ("", &format!("{worker}uids = \"1-10\"\n"), 2, "uids"),
        ("[graphite]\nmarker = \"3s\"", &worker, 2, "marker is for runs; a daemon only sends"),
    ] {
        std::fs::write(&file, format!("{top}\n{rest}")).expect("a configuration");
        let refused = elapse(&["worker", file.to_str().expect("a path")]);
        assert!(
            refused.status.code() == Some(code) && said(&refused).contains(why),
            "{top}: {}",
            said(&refused)
        );
    }
    // What is no socket is somebody's file.
    let theirs = folder.join("theirs");
    std::fs::write(&theirs, "precious").expect("a file");
    std::fs::write(&file, format!("listen = \"unix:{}\"\n{worker}", theirs.display())).expect("a file");
    let refused = elapse(&["worker", file.to_str().expect("a path")]);
    assert!(
        refused.status.code() == Some(3) && said(&refused).contains("another process has it"),
        "{}",
        said(&refused)
    );
    assert_eq!(std::fs::read(&theirs).expect("it is there"), b"precious");
    std::fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n{worker}")).expect("a configuration");
    let refused = elapse(&["worker", file.to_str().expect("a path")]);
    assert!(
        refused.status.code() == Some(3) && said(&refused).contains("another process has it"),
        "{}",
        said(&refused)
    );
    let away = elapse(&["status", "--at", NOBODY]);
    assert!(away.status.code() == Some(3) && said(&away).contains("does not answer"), "{}", said(&away));
}

#[test]
fn a_hangup_reads_the_configuration_again() {
    let test = "a_hangup_reads_the_configuration_again";
    if !has("process", test, agent().exists() && program("kill")) {
        return;
    }
    let daemon = Daemon::worker(test, "", "");
    // One goes, one comes, and what cannot change is named.
    daemon.reconfigure("name = \"slow\"", "name = \"slower\"");
    daemon.reconfigure("cores = 4", "cores = 3");
    daemon.reload();
    let listed = said(&daemon.ask(&["list"]));
    assert!(
        listed.contains("\"slower\"") && listed.contains("\"echo\"") && !listed.contains("\"slow\""),
        "{listed}"
    );
    assert!(
        daemon.log().contains("worker.cores") && daemon.log().contains("from the next start"),
        "{}",
        daemon.log()
    );
    // A file that cannot be used changes nothing.
    daemon.reconfigure("cores = 3", "coers = 3");
    daemon.reload();
    assert!(
        daemon.log().contains("did you mean 'cores'") && daemon.log().contains("as it was"),
        "{}",
        daemon.log()
    );
    assert!(said(&daemon.ask(&["list"])).contains("\"slower\""));
    daemon.reconfigure("coers = 3", "cores = 3");
    daemon.reload();
    daemon.ends_well();
}

#[test]
fn over_tls_only_who_is_believed_is_talked_to() {
    let test = "over_tls_only_who_is_believed_is_talked_to";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "").secured("first");
    let with = |authority: &str| {
        let file = tls(authority);
        daemon.ask(&["invoke", "echo", "--body", "secret", "--ca-file", file.to_str().expect("a path")])
    };
    // Clients that say nothing keep nobody waiting.
    let port: u16 = daemon.at["https://localhost:".len()..].parse().expect("a port");
    let silent: Vec<_> =
        (0..100).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens")).collect();
    assert_eq!(with("first-ca.pem").stdout, b"secret");
    drop(silent);
    for stranger in [with("second-ca.pem"), daemon.ask(&["status"])] {
        assert_eq!(stranger.status.code(), Some(3), "{}", said(&stranger));
        assert!(said(&stranger).contains("certificate"), "{}", said(&stranger));
    }
    let plain = elapse(&["status", "--at", &format!("127.0.0.1:{port}")]);
    assert_eq!(plain.status.code(), Some(3), "{}", said(&plain));
    // A renewed certificate is shown without a restart.
    daemon.show("second");
    daemon.reload();
    assert_eq!(with("second-ca.pem").stdout, b"secret");
    assert_eq!(with("first-ca.pem").status.code(), Some(3));
    // One that cannot be used changes nothing.
    std::fs::write(daemon.folder.join("shown.key"), "no key").expect("a file");
    daemon.reload();
    assert!(daemon.log().contains("cannot read a private key"), "{}", daemon.log());
    assert_eq!(with("second-ca.pem").stdout, b"secret");
    daemon.ends_well();
}

#[test]
fn invocations_that_nobody_waits_for_have_their_limit_too() {
    let test = "invocations_that_nobody_waits_for_have_their_limit_too";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "concurrent = 2", "");
    let begin = |id: &str| {
        daemon.raw(&format!(
            "POST /async-function/slow HTTP/1.0\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    for id in ["one", "two"] {
        assert!(begin(id).starts_with("HTTP/1.0 202"));
    }
    let third = begin("three");
    assert!(third.starts_with("HTTP/1.0 429"), "{third}");
    let fetch = |id: &str| daemon.raw(&format!("GET /v1/invocations/{id} HTTP/1.0\r\n\r\n"));
    daemon.until("answered", || {
        fetch("one").starts_with("HTTP/1.0 200") && fetch("two").starts_with("HTTP/1.0 200")
    });
    assert!(begin("four").starts_with("HTTP/1.0 202"), "there is room again");
    daemon.ends_well();
}
