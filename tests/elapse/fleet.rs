//! A controller and its workers as daemons: registration, health in both directions, losses, restarts of either side.

#![expect(clippy::disallowed_methods, reason = "it waits for other processes")]

use crate::common::NOBODY;
use crate::common::daemon::{Daemon, elapse, said, tls};
use crate::common::fleet::{REQUIRED, can, controller, header, health, invoke, membership, worker};

use serde_json::Value;

/// Echoes what it was asked, as text of a type of its own; what it knows of the caller stands in headers.
const SERVER: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Tells(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def tell(self):
        # What may have a body always says how long it is.
        length = self.headers["content-length"] if self.command in ("POST", "PUT") else "0"
        body = self.rfile.read(int(length))
        told = f"{self.command} {self.path} {self.headers.get('content-type')} {len(body)}".encode()
        self.send_response(201 if self.command == "PUT" else 301 if self.path == "/moved" else 200)
        self.send_header("content-type", "text/x-told")
        self.send_header("content-length", str(len(told)))
        self.send_header("x-knows", " ".join(n for n in ("authorization", "x-mine", "x-hop") if n in self.headers))
        for cookie in ("a=1", "b=2"):
            self.send_header("set-cookie", cookie)
        if self.path == "/moved":
            self.send_header("location", "/there/?again")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)
    do_GET = do_HEAD = do_POST = do_PUT = tell
    def log_message(self, *args):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Tells).serve_forever()
"#;

/// Through a worker and through a controller: the method, the path, the query, the headers and the status.
#[test]
fn a_function_that_is_an_http_server_gets_requests_as_they_are() {
    let test = "a_function_that_is_an_http_server_gets_requests_as_they_are";
    let python = std::path::Path::new("/usr/bin/python3").exists();
    if !can(test) || !crate::common::has("python3", test, python) {
        return;
    }
    let controller = controller(test, "");
    let worker = worker(test, &controller);
    let code = crate::common::scratch(&format!("{test}-code"));
    std::fs::write(code.join("server.py"), SERVER).expect("a file");
    let inside = if elapse_host::is_root() { "/code".into() } else { code.display().to_string() };
    let file = controller.folder.join("tells.toml");
    let text = format!(
        "name = \"tells\"\nmemory = \"128MiB\"\nbehaviour = \"serve\"\ncode = {code:?}\n\
         command = [\"/usr/bin/python3\", \"{inside}/server.py\"]\n"
    );
    std::fs::write(&file, text).expect("a file");
    let registered = controller.ask(&["register", file.to_str().expect("a path")]);
    assert!(registered.status.success(), "{}", said(&registered));
    for daemon in [&worker, &controller] {
        let ask = |line: &str, body: &str| {
            let n = body.len();
            daemon.raw(&format!(
                "{line} HTTP/1.0\r\ncontent-type: image/png\r\ncontent-length: {n}\r\nauthorization: Basic eDp5\r\n\
                 x-mine: 1\r\nconnection: close, x-hop\r\nx-hop: 1\r\norigin: http://elsewhere\r\n\r\n{body}"
            ))
        };
        let told = ask("PUT /function/tells/a/b%20c?x=1&y=/", "abc");
        assert!(told.starts_with("HTTP/1.0 201"), "{told}");
        assert!(told.ends_with("\r\n\r\nPUT /a/b%20c?x=1&y=/ image/png 3"), "{told}");
        assert_eq!(header(&told, "content-type"), Some("text/x-told"));
        assert_eq!(header(&told, "elapse-status"), Some("completed"));
        assert!(header(&told, "content-security-policy").is_some_and(|policy| policy.starts_with("sandbox")));
        let cookies = told.lines().filter(|line| line.starts_with("set-cookie: ")).count();
        assert_eq!((header(&told, "x-knows"), cookies), (Some("x-mine"), 2), "{told}");
        let root = ask("GET /function/tells/", "");
        assert!(root.ends_with("\r\n\r\nGET / image/png 0"), "{root}");
        let strange = ask("GET /function/tells/caf%E9", "");
        assert!(strange.ends_with("\r\n\r\nGET /caf%E9 image/png 0"), "{strange}");
        let empty = ask("POST /function/tells/", "");
        assert!(empty.ends_with("\r\n\r\nPOST / image/png 0"), "{empty}");
        let head = ask("HEAD /function/tells/a", "");
        assert!(head.starts_with("HTTP/1.0 200") && head.ends_with("\r\n\r\n"), "{head}");
        let length = "HEAD /a image/png 0".len().to_string();
        assert_eq!(header(&head, "content-length"), Some(length.as_str()), "{head}");
        let moved = ask("GET /function/tells/moved", "");
        assert_eq!(header(&moved, "location"), Some("/function/tells/there/?again"), "{moved}");
        let plain = ask("POST /function/tells", "abcd");
        assert!(plain.contains("POST /invoke?") && plain.ends_with(" image/png 4"), "{plain}");
        let none = ask("GET /function/echo/a", "");
        assert!(none.starts_with("HTTP/1.0 404") && none.contains("is no HTTP server"), "{none}");
        let page = ask("GET /v1/functions", "");
        assert!(page.starts_with("HTTP/1.0 403") && page.contains("a web page may call functions"), "{page}");
    }
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn a_controller_serves_what_its_workers_serve() {
    let test = "a_controller_serves_what_its_workers_serve";
    if !can(test) {
        return;
    }
    let controller = controller(test, "balancer = \"round-robin\"");
    let none = invoke(&controller, "echo", "");
    assert!(none.starts_with("HTTP/1.0 503") && none.contains("no healthy worker"), "{none}");
    let workers = [worker(test, &controller), worker(test, &controller)];
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let answer = invoke(&controller, "echo", "x-request-id: mine\r\n");
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("abc"), "{answer}");
        assert_eq!(
            (header(&answer, "x-request-id"), header(&answer, "elapse-attempt")),
            (Some("mine"), Some("1"))
        );
        assert!(header(&answer, "elapse-exec-ms").is_some(), "the worker's facts come along: {answer}");
        seen.insert(header(&answer, "elapse-worker").expect("a worker").to_string());
    }
    assert_eq!(seen.len(), 2, "in turn");
    // A function is registered once, for all.
    let file = controller.folder.join("cat.toml");
    std::fs::write(&file, "name = \"cat\"\nmemory = \"64MiB\"\nbehaviour = \"exec\"\ncommand = [\"cat\"]\n")
        .expect("a file");
    let registered = controller.json(&["register", file.to_str().expect("a path")]);
    assert!(workers.iter().all(|w| registered["workers"][&w.name] == "registered"), "{registered}");
    for _ in 0..2 {
        assert!(invoke(&controller, "cat", "").ends_with("abc"));
    }
    // The answer of one that is not waited for is fetched by its id.
    let later = controller.raw(
        "POST /v1/functions/slow/invoke-async HTTP/1.0\r\nx-request-id: later\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(later.starts_with("HTTP/1.0 202"), "{later}");
    let fetched = || controller.raw("GET /v1/invocations/later HTTP/1.0\r\n\r\n");
    assert!(fetched().starts_with("HTTP/1.0 202"), "{}", fetched());
    controller.until("answered", || fetched().starts_with("HTTP/1.0 200"));
    let nobody =
        controller.raw("POST /v1/functions/nobody/invoke-async HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
    assert!(nobody.starts_with("HTTP/1.0 404"), "{nobody}");
    assert!(controller.raw("GET /v1/invocations/other HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"));
    // Whoever knows OpenFaaS's gateway finds its paths.
    let theirs = controller.raw("POST /function/cat HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc");
    assert!(theirs.starts_with("HTTP/1.0 200") && theirs.ends_with("abc"), "{theirs}");
    let listed = controller.raw("GET /system/functions HTTP/1.0\r\n\r\n");
    assert!(listed.contains("{\"name\":\"cat\",\"image\":\"\""), "{listed}");
    let later = controller.raw("POST /async-function/cat HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
    assert!(later.starts_with("HTTP/1.0 202"), "{later}");
    assert!(controller.raw("GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    // A worker's own details pass through.
    let own = controller.raw(&format!("GET /v1/workers/{}/status HTTP/1.0\r\n\r\n", workers[0].name));
    assert!(own.contains("\"loops\"") && own.contains("heartbeat"), "{own}");
    let unknown = controller.ask(&["invoke", "ecko"]);
    assert!(
        unknown.status.code() == Some(2) && said(&unknown).contains("did you mean 'echo'?"),
        "{}",
        said(&unknown)
    );
    let status = controller.json(&["status"]);
    assert_eq!(status["metrics"]["invocations"], 10);
    assert_eq!(status["loops"][0]["name"], "worker-health");
    let metrics = controller.raw("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(
        metrics.contains("elapse_controller_workers_healthy 2") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    // Deregistered, it is gone from all, and its containers with it.
    assert!(controller.ask(&["deregister", "cat"]).status.success());
    assert!(invoke(&controller, "cat", "").starts_with("HTTP/1.0 404"));
    for worker in &workers {
        assert!(!said(&worker.ask(&["list"])).contains("\"cat\""));
        worker.until("without it", || {
            worker.json(&["status"])["metrics"]["containers_cached"].as_f64() < Some(3.0)
        });
    }
    // A worker that leaves is told to the controller before it is gone.
    let [first, second] = workers;
    let gone = first.name.clone();
    first.ends_well();
    assert_eq!(health(&controller, &gone), "unknown");
    assert!((0..4).all(|_| invoke(&controller, "echo", "").starts_with("HTTP/1.0 200")));
    second.ends_well();
    controller.ends_well();
}

#[test]
fn registration_that_is_required_and_fails_ends_the_worker() {
    let test = "registration_that_is_required_and_fails_ends_the_worker";
    if !can(test) {
        return;
    }
    let folder = crate::common::scratch(test);
    let file = folder.join("worker.toml");
    let run = |registration: &str, table: &str| {
        let name = crate::common::containers::worker_name();
        let text = format!(
            "listen = \"unix:/tmp/{name}.sock\"\n{registration}\n[worker]\nmemory = \"1GiB\"\nbackends = [\"simulated\"]\n\
             [live]\nworker = \"{name}\"\n[controller]\n{table}\nbackoff = \"10ms\"\n"
        );
        std::fs::write(&file, text).expect("a configuration");
        let output = elapse(&["worker", file.to_str().expect("a path")]);
        assert!(!std::path::Path::new(&format!("/tmp/{name}.sock")).exists());
        (output.status.code(), said(&output))
    };
    let nobody = format!("address = \"{NOBODY}\"\nattempts = 3");
    let (code, text) = run(REQUIRED, &nobody);
    assert!(code == Some(5) && text.contains("in 3 attempt(s): nobody answers"), "{code:?} {text}");
    let (code, text) = run(REQUIRED, "");
    assert!(code == Some(2) && text.contains("there is no address"), "{code:?} {text}");
    // A controller that answers no is not asked again.
    let token = folder.join("token");
    crate::common::secret(&token, "0123456789abcdef0123456789abcdef");
    // Over a unix socket root is known without one.
    let strict = controller(test, &format!("token_file = {token:?}")).moved("", "127.0.0.1:");
    let (code, text) = run(REQUIRED, &format!("address = \"{}\"", strict.at));
    assert!(
        code == Some(5) && text.contains("in 1 attempt(s): a valid bearer token is needed"),
        "{code:?} {text}"
    );
    // Off, an address is not even looked at.
    let off = Daemon::worker(test, "registration = \"off\"", &format!("[controller]\n{nobody}"));
    assert!(!off.log().contains("regist"), "{}", off.log());
    off.ends_well();
    strict.ends_well();
}

/// The controller's token and that for its workers are two, also where they begin as one.
#[test]
fn a_token_for_workers_that_comes_later_is_no_token_for_clients() {
    let test = "a_token_for_workers_that_comes_later_is_no_token_for_clients";
    if !can(test) {
        return;
    }
    let folder = crate::common::scratch(test);
    let (mine, theirs) = (folder.join("mine"), folder.join("theirs"));
    crate::common::secret(&mine, "0123456789abcdef0123456789abcdef");
    crate::common::secret(&theirs, "fedcba9876543210fedcba9876543210");
    let line = format!("token_file = {mine:?}");
    let controller = controller(test, &line);
    controller.reconfigure(&line, &format!("{line}\nworker_token_file = {theirs:?}"));
    controller.reload();
    let with = |token: &std::path::Path| {
        controller.ask(&["status", "--token-file", token.to_str().expect("a path")]).status.code()
    };
    assert_eq!((with(&mine), with(&theirs)), (Some(0), Some(2)));
    controller.ends_well();
}

#[test]
fn a_worker_outlives_its_controller_and_registers_with_the_next() {
    let test = "a_worker_outlives_its_controller_and_registers_with_the_next";
    if !can(test) {
        return;
    }
    let mut controller = controller(test, "");
    let worker = worker(test, &controller);
    controller.kill();
    worker.until("told", || worker.log().contains("does not hear this worker"));
    assert!(worker.ask(&["invoke", "echo"]).status.success(), "it goes on");
    controller.start_again();
    controller.until("registered", || health(&controller, &worker.name) == "healthy");
    assert!(invoke(&controller, "echo", "").starts_with("HTTP/1.0 200"));
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn of_two_hosts_with_one_name_the_second_is_refused_and_an_older_life_too() {
    let test = "of_two_hosts_with_one_name_the_second_is_refused_and_an_older_life_too";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let worker = worker(test, &controller);
    let known = controller.json(&["workers"])["workers"][0].clone();
    let post = |path: &str, body: &Value| {
        let body = body.to_string();
        controller.raw(&format!("POST {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let life = known["incarnation"].as_u64().expect("a number");
    let same = |machine: &Value, incarnation: u64| serde_json::json!({"name": worker.name, "incarnation": incarnation, "machine_id": machine, "address": worker.at});
    let other = post("/v1/workers", &same(&"another".into(), life + 1));
    assert!(other.starts_with("HTTP/1.0 409") && other.contains("alive on another host"), "{other}");
    let older = post("/v1/workers", &same(&known["machine_id"], life - 1));
    assert!(older.starts_with("HTTP/1.0 409") && older.contains("this one is over"), "{older}");
    let beat = format!("/v1/workers/{}/heartbeat", worker.name);
    let fenced = post(&beat, &serde_json::json!({"incarnation": life - 1}));
    assert!(fenced.starts_with("HTTP/1.0 409"), "{fenced}");
    let none = post("/v1/workers", &serde_json::json!({"name": "x"}));
    assert!(none.starts_with("HTTP/1.0 422") && none.contains("missing field"), "{none}");
    let mut nowhere = same(&known["machine_id"], 1);
    nowhere["name"] = "nowhere".into();
    nowhere["address"] = NOBODY.into();
    let unreached = post("/v1/workers", &nowhere);
    assert!(
        unreached.starts_with("HTTP/1.0 502") && unreached.contains("does not answer at its address"),
        "{unreached}"
    );
    assert_eq!(health(&controller, &worker.name), "healthy");
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn wrong_configurations_of_a_controller_are_told_in_a_sentence() {
    let folder = crate::common::scratch("controller-wrong");
    let file = folder.join("controller.toml");
    for (text, code, why) in [
        ("balancer = \"local\"", 2, "did you mean 'locality'?"),
        ("lost_afer = \"5s\"", 2, "did you mean 'lost_after'?"),
        ("listen = \"0.0.0.0:1\"", 2, "set plaintext = true"),
        ("workers_from = [\"10.0.0.0/33\"]", 2, "workers_from: '10.0.0.0/33' is neither"),
        ("lost_after = \"0s\"", 2, "a few heartbeats"),
        ("on_loss = \"again\"", 2, "known: fail, retry"),
    ] {
        std::fs::write(&file, text).expect("a configuration");
        let refused = elapse(&["controller", file.to_str().expect("a path")]);
        assert!(
            refused.status.code() == Some(code) && said(&refused).contains(why),
            "{text}: {}",
            said(&refused)
        );
    }
}

/// A load from outside, open and closed, against a controller; what the answers tell is in the records.
#[test]
fn a_load_drives_a_running_system() {
    let test = "a_load_drives_a_running_system";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let workers = [worker(test, &controller), worker(test, &controller)];
    let scenario = controller.folder.join("load.toml");
    let text = "name = \"from outside\"\nduration = \"2s\"\n[worker]\nmemory = \"1GiB\"\n[[function]]\nname = \"nap\"\nmemory = \
                \"64MiB\"\nduration = \"20ms\"\nbehaviour = \"sleep\"\nfailure = 0.1\nload = { constant = \"40/s\" }\n";
    std::fs::write(&scenario, text).expect("a scenario");
    for (clients, name) in [(None, "open"), (Some("4"), "closed")] {
        let out = controller.folder.join(name);
        let (scenario, folder) = (scenario.to_str().expect("a path"), out.to_str().expect("a path"));
        let mut args = vec!["live", scenario, "--at", &controller.at, "--out", folder];
        args.extend(clients.into_iter().flat_map(|n| ["--clients", n]));
        let output = elapse(&args);
        assert!(output.status.success(), "{}", said(&output));
        let summary = std::fs::read(out.join("summary.json")).expect("a summary");
        let summary: Value = serde_json::from_slice(&summary).expect("JSON");
        let (n, failed) =
            (summary["invocations"].as_u64().expect("n"), summary["failed"].as_u64().expect("n"));
        assert!(
            (75..=85).contains(&n) && failed > 0 && summary["completed"].as_u64() == Some(n - failed),
            "{summary}"
        );
        assert!(
            summary["cold_starts"].as_u64() <= Some(12) && summary["warm_starts"].as_u64() > Some(50),
            "{summary}"
        );
        let exec = summary["exec_ms"]["p50"].as_f64().expect("a duration");
        assert!((20.0..40.0).contains(&exec), "the durations of the load were executed: {exec}");
        let records = std::fs::read_to_string(out.join("records.csv")).expect("records");
        assert_eq!(records.lines().count() as u64, n + 1);
        let methods = std::fs::read_to_string(out.join("methods.txt")).expect("a paragraph");
        let how = if clients.is_none() { "no omission is coordinated" } else { "closed loop of 4 clients" };
        assert!(methods.contains(how) && !methods.contains('?'), "{methods}");
        // What only the worker knows is not measured from here, and zero would say that it was.
        for unknown in ["evictions", "containers_created", "memory_reads", "loop_restarts"] {
            assert!(summary[unknown].is_null(), "{unknown}: {summary}");
        }
        assert!(summary["memory_mb"]["peak_used"].is_null() && summary["gb_seconds"]["cached"].is_null());
    }
    let sides = ["open", "closed"].map(|side| controller.folder.join(side).display().to_string());
    let mixed = elapse(&["compare", &sides[0], &sides[1]]);
    assert!(
        mixed.status.code() == Some(2) && said(&mixed).contains("cannot compare open with closed"),
        "{}",
        said(&mixed)
    );
    let away = elapse(&[
        "live",
        scenario.to_str().expect("a path"),
        "--at",
        "127.0.0.1:1",
        "--out",
        "/tmp/never-made",
    ]);
    assert!(away.status.code() == Some(3) && said(&away).contains("is --at its address?"), "{}", said(&away));
    assert!(!std::path::Path::new("/tmp/never-made").exists());
    workers.into_iter().for_each(Daemon::ends_well);
    controller.ends_well();
}

#[test]
fn controller_and_workers_meet_over_tls() {
    let test = "controller_and_workers_meet_over_tls";
    if !can(test) {
        return;
    }
    let (first, second) = (tls("first-ca.pem"), tls("second-ca.pem"));
    let controller = controller(test, &format!("worker_ca_file = {second:?}")).secured("first");
    let terms = format!("{}\nca_file = {first:?}", membership(&controller));
    // It is at a unix socket at first, and comes again as another life from where it is reached over TLS.
    let worker = Daemon::worker(test, REQUIRED, &terms).secured("second");
    let ca = first.to_str().expect("a path");
    let answer = controller.ask(&["invoke", "echo", "--body", "there and back", "--ca-file", ca]);
    assert_eq!(answer.stdout, b"there and back", "{}", said(&answer));
    let workers = controller.json(&["workers", "--ca-file", ca]);
    assert_eq!(workers["workers"][0]["address"], worker.at.replace("localhost", "127.0.0.1"));
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn what_was_registered_with_a_controller_outlives_it() {
    let test = "what_was_registered_with_a_controller_outlives_it";
    if !can(test) {
        return;
    }
    let mut controller = controller(test, "state = \"kept\"");
    let worker = worker(test, &controller);
    let register = |controller: &Daemon, name: &str| {
        let file = controller.folder.join("f.toml");
        let text = format!("name = \"{name}\"\nmemory = \"64MiB\"\nbehaviour = \"echo\"\n");
        std::fs::write(&file, text).expect("a file");
        assert!(controller.ask(&["register", file.to_str().expect("a path")]).status.success());
    };
    register(&controller, "kept");
    register(&controller, "gone");
    assert!(controller.ask(&["deregister", "gone"]).status.success());
    controller.kill();
    controller.start_again();
    let listed = said(&controller.ask(&["list"]));
    assert!(
        listed.contains("\"kept\"") && listed.contains("\"echo\"") && !listed.contains("\"gone\""),
        "{listed}"
    );
    // The worker comes back by itself and serves it.
    controller.until("served", || invoke(&controller, "kept", "").ends_with("abc"));
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn a_token_that_is_exchanged_is_used_by_both_sides() {
    let test = "a_token_that_is_exchanged_is_used_by_both_sides";
    if !can(test) {
        return;
    }
    let token = crate::common::scratch(test).join("token");
    let write = |text: &str| crate::common::secret(&token, &text.repeat(16));
    write("aa");
    let controller = controller(test, &format!("token_file = {token:?}"));
    let terms = format!("{}\ntoken_file = {token:?}", membership(&controller));
    let worker = Daemon::worker(test, &format!("{REQUIRED}\ntoken_file = {token:?}"), &terms);
    let with = ["invoke", "echo", "--body", "abc", "--token-file", token.to_str().expect("a path")];
    assert_eq!(controller.ask(&with).stdout, b"abc");
    write("bb");
    for daemon in [&controller, &worker] {
        daemon.reload();
    }
    let answer = controller.ask(&with);
    assert_eq!(answer.stdout, b"abc", "{}", said(&answer));
    // It is heard with the new one: lost_after is a second.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(controller.ask(&with).stdout, b"abc", "{}", worker.log());
    worker.ends_well();
    controller.ends_well();
}
