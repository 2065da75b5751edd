//! Who may do what: the sockets of daemons, their keys and roles, and what they let be registered.

use crate::common::containers::{agent, worker_name};
use crate::common::daemon::{Daemon, said};
use crate::common::{has, program, scratch, secret};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// Some user of this host's, and one who is nobody's fellow.
const USER: u32 = 65_534;
const GROUP: u32 = 54_321;

fn can(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    // Whoever has another user starts the program again, and has to be let to it.
    let alike = root
        && Command::new(crate::common::elapse())
            .arg("--version")
            .uid(USER)
            .gid(USER)
            .output()
            .is_ok_and(|output| output.status.success());
    has("process", test, agent().exists() && program("kill")) && has("root", test, alike)
}

/// The program as another user of this host.
fn as_user(user: u32, group: u32, args: &[&str], at: &str) -> Output {
    let mut command = Command::new(crate::common::elapse());
    command.args(args).args(["--at", at]).uid(user).gid(group);
    command.output().expect("elapse was started")
}

/// A socket is its owner's, and who is only let in by its mode calls functions.
#[test]
fn a_socket_is_roots_and_who_it_lets_in_calls_functions() {
    let test = "a_socket_is_roots_and_who_it_lets_in_calls_functions";
    if !can(test) {
        return;
    }
    let own = Daemon::worker(test, "", "");
    let path = own.at["unix:".len()..].to_string();
    assert_eq!(std::fs::metadata(&path).expect("a socket").mode() & 0o777, 0o600);
    let stranger = as_user(USER, USER, &["invoke", "echo"], &own.at);
    assert!(
        stranger.status.code() == Some(3) && said(&stranger).contains("ermission denied"),
        "{}",
        said(&stranger)
    );
    own.ends_well();

    let shared = Daemon::worker(test, &format!("socket_mode = \"0660\"\nsocket_group = \"{GROUP}\""), "");
    let path = shared.at["unix:".len()..].to_string();
    let meta = std::fs::metadata(&path).expect("a socket");
    assert_eq!((meta.mode() & 0o777, meta.uid(), meta.gid()), (0o660, 0, GROUP));
    let member = as_user(USER, GROUP, &["invoke", "echo", "--body", "abc"], &shared.at);
    assert_eq!(member.stdout, b"abc", "{}", said(&member));
    let file = shared.folder.join("f.toml");
    std::fs::write(&file, "name = \"mine\"\nmemory = \"64MiB\"\nduration = \"1ms\"\n").expect("a function");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("a mode");
    for args in [&["status"][..], &["list"], &["prewarm", "echo"], &["deregister", "echo"], &["metrics"]] {
        let refused = as_user(USER, GROUP, args, &shared.at);
        assert!(
            said(&refused).contains("(HTTP 403)") && said(&refused).contains("the role"),
            "{args:?}: {}",
            said(&refused)
        );
    }
    let outside = as_user(USER, USER, &["invoke", "echo"], &shared.at);
    assert!(said(&outside).contains("ermission denied"), "{}", said(&outside));
    let log = shared.log();
    assert!(log.contains("elapse::audit") && log.contains(&format!("user {USER}")), "{log}");
    shared.ends_well();
}

/// Each role does what it is for, and nothing else; `operate` does everything.
#[test]
fn a_key_opens_what_its_role_is_for() {
    let test = "a_key_opens_what_its_role_is_for";
    if !can(test) {
        return;
    }
    let folder = scratch(test);
    let roles = ["invoke", "register", "read", "join", "operate"];
    let token = |role: &str| format!("{role}-0123456789");
    let mut keys = String::from("# one for each role, and one for some functions\n");
    for role in roles {
        writeln!(keys, "{role} {} {role}", hex(&token(role))).expect("text");
    }
    writeln!(
        keys,
        "invoke {} some functions=e*\nregister {} own functions=own-*",
        hex("some-0123456789"),
        hex("own-0123456789")
    )
    .expect("text");
    let file = folder.join("keys");
    secret(&file, &keys);
    let daemon = Daemon::worker(test, &format!("token_file = {file:?}"), "").moved("", "127.0.0.1:");
    let ask = |token: &str, method: &str, path: &str, body: &str| -> u16 {
        let answer = daemon.raw(&format!(
            "{method} {path} HTTP/1.0\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    };
    let function =
        |name: &str| format!("{{\"name\": \"{name}\", \"memory\": \"64MiB\", \"duration\": \"1ms\"}}");
    for role in roles {
        let told = |method: &str, path: &str, body: &str| ask(&token(role), method, path, body);
        for (needed, method, path, body) in [
            ("invoke", "POST", "/v1/functions/echo/invoke", String::new()),
            ("invoke", "POST", "/function/echo", String::new()),
            ("invoke", "POST", "/function/echo.openfaas-fn", String::new()),
            ("invoke", "POST", "/async-function/echo", String::new()),
            ("invoke", "GET", "/v1/invocations/none", String::new()),
            ("register", "POST", "/v1/functions", function("new")),
            ("register", "POST", "/v1/functions/echo/prewarm", String::new()),
            ("register", "DELETE", "/v1/functions/none", String::new()),
            ("read", "GET", "/v1/functions", String::new()),
            ("read", "GET", "/v1/status", String::new()),
            ("read", "GET", "/metrics", String::new()),
            ("read", "GET", "/system/functions", String::new()),
            ("join", "POST", "/v1/workers", "{}".into()),
            ("join", "POST", "/v1/workers/x/heartbeat", "{}".into()),
            ("join", "DELETE", "/v1/workers/x", "{}".into()),
        ] {
            let may = role == needed || role == "operate";
            assert_eq!(told(method, path, &body) != 403, may, "{role}: {method} {path}");
        }
        assert_eq!(told("GET", "/v1/health", ""), 200, "{role}");
    }
    assert_eq!(ask("some-0123456789", "POST", "/v1/functions/echo/invoke", ""), 200);
    assert_eq!(ask("some-0123456789", "POST", "/v1/functions/slow/invoke", ""), 403);
    assert_eq!(ask("own-0123456789", "POST", "/v1/functions", &function("own-one")), 201);
    assert_eq!(ask("own-0123456789", "POST", "/v1/functions", &function("other")), 403);
    assert_eq!(ask("unknown-0123456789", "GET", "/v1/status", ""), 401);
    // What one has asked for later is nobody else's.
    let later = |token: &str, method: &str, path: &str, id: &str| {
        daemon.raw(&format!(
            "{method} {path} HTTP/1.0\r\nauthorization: Bearer {token}\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    assert!(later(&token("invoke"), "POST", "/async-function/echo", "mine-1").contains(" 202 "));
    daemon.until("answered", || {
        later(&token("invoke"), "GET", "/v1/invocations/mine-1", "a").contains(" 200 ")
    });
    assert!(later("some-0123456789", "GET", "/v1/invocations/mine-1", "b").contains(" 404 "));
    assert!(later(&token("operate"), "GET", "/v1/invocations/mine-1", "c").contains(" 200 "));
    let log = daemon.log();
    for part in ["who=own", "role=\"register\"", "let in", "refused"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("0123456789"), "no token is told: {log}");
    daemon.ends_well();
}

/// What workers ask for in common opens all of them: it goes to a worker that an operator lets join, and not to whoever may join. A
/// worker that says what it wants to be asked with gets that.
#[test]
#[expect(clippy::disallowed_methods, reason = "a worker that is none waits to be asked")]
fn who_may_only_join_is_not_told_what_opens_other_workers() {
    let test = "who_may_only_join_is_not_told_what_opens_other_workers";
    if !can(test) {
        return;
    }
    let folder = scratch(test);
    let (keys, common) = (folder.join("keys"), folder.join("common"));
    let (join, operate) = ("join-0123456789ab", "operate-0123456789");
    secret(&keys, &format!("join {}\noperate {}\n", hex(join), hex(operate)));
    secret(&common, "of-all-workers-0123456789");
    let controller =
        Daemon::controller(test, &format!("token_file = {keys:?}\nworker_token_file = {common:?}"));
    let post = |token: &str, method: &str, path: &str, body: &str| {
        controller.raw(&format!(
            "{method} {path} HTTP/1.0\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let function = "{\"name\": \"f\", \"memory\": \"64MiB\", \"duration\": \"1ms\", \"behaviour\": \"echo\"}";
    let registered = post(operate, "POST", "/v1/functions", function);
    assert!(
        registered.contains(" 201 ") || registered.contains(" 200 ") || registered.contains(" 202 "),
        "{registered}"
    );
    let own = "of-this-life-0123456789";
    for (nth, (token, more, expected)) in [
        (join, String::new(), None),
        (join, format!(", \"token\": \"{own}\""), Some(own)),
        (operate, String::new(), Some("of-all-workers-0123456789")),
    ]
    .into_iter()
    .enumerate()
    {
        let at = format!("/tmp/{}-{nth}.sock", worker_name());
        let listener = UnixListener::bind(&at).expect("a socket");
        // Whatever it is asked, it says yes, and keeps how it was asked.
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut head = vec![0; 64 << 10];
            let n = stream.read(&mut head).expect("a request");
            let _ =
                stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
            String::from_utf8_lossy(&head[..n]).into_owned()
        });
        let body = format!(
            "{{\"name\": \"fake-{nth}\", \"incarnation\": 7, \"machine_id\": \"m{nth}\", \"address\": \"unix:{at}\"{more}}}"
        );
        let answer = post(token, "POST", "/v1/workers", &body);
        let head = asked.join().expect("it was asked").to_lowercase();
        let brought =
            head.lines().find_map(|line| line.strip_prefix("authorization: bearer ")).map(str::trim);
        assert_eq!(brought, expected, "{answer}\n{head}");
        // Who may only join takes nobody else away.
        let path = format!("/v1/workers/fake-{nth}");
        assert!(post(join, "DELETE", &path, "{}").contains(" 409 "));
        assert!(post(join, "DELETE", &path, "{\"incarnation\": 6}").contains(" 409 "));
        assert!(post(operate, "DELETE", &path, "{}").contains(" 200 "));
        std::fs::remove_file(at).expect("it was made");
    }
    let long = format!(
        "{{\"name\": \"{}\", \"incarnation\": 7, \"machine_id\": \"m\", \"address\": \"unix:/tmp/x\"}}",
        "x".repeat(300)
    );
    assert!(post(operate, "POST", "/v1/workers", &long).contains(" 422 "));
    assert!(!controller.log().contains("0123456789"), "no token is told: {}", controller.log());
    controller.ends_well();
}

/// The HTTP server refuses by itself what it cannot read, also after another answer.
#[test]
fn errors_of_the_server_itself_have_the_one_form() {
    let test = "errors_of_the_server_itself_have_the_one_form";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "");
    let long = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(70 << 10));
    let second = "GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\nno request\r\n\r\n".to_string();
    for (request, code) in [("no request\r\n\r\n".to_string(), "400"), (long, "431"), (second, "400")] {
        let answer = daemon.raw(&request);
        let (head, body) = answer.rsplit_once("\r\n\r\n").expect("a head");
        let told =
            serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
        assert!(head.contains(&format!("HTTP/1.1 {code} ")) && told["error"].is_string(), "{answer}");
    }
    daemon.ends_well();
}

fn hex(token: &str) -> String {
    elapse_host::sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Over TCP a token is made where none is named; who wants none says so, and is told each time.
#[test]
fn over_tcp_a_token_is_made_at_the_first_start() {
    let test = "over_tcp_a_token_is_made_at_the_first_start";
    if !can(test) {
        return;
    }
    let state = scratch(test).join("state");
    let mut daemon = Daemon::worker(test, &format!("state = {state:?}"), "").moved("", "127.0.0.1:");
    let token = state.join("token");
    let made = std::fs::read_to_string(&token).expect("a token");
    assert_eq!((made.trim().len(), std::fs::metadata(&token).expect("a file").mode() & 0o777), (64, 0o600));
    assert!(daemon.log().contains(&token.display().to_string()) && !daemon.log().contains(made.trim()));
    assert!(said(&daemon.ask(&["status"])).contains("(HTTP 401)"));
    let with = ["status", "--token-file", token.to_str().expect("a path")];
    assert!(daemon.ask(&with).status.success());
    daemon.kill();
    daemon.start_again();
    assert!(daemon.ask(&with).status.success(), "it is the same one");
    daemon.ends_well();
    let open = Daemon::worker(test, "", "").moved("allow_anonymous = true", "127.0.0.1:");
    assert!(open.ask(&["status"]).status.success());
    assert!(open.log().contains("allow_anonymous: whoever reaches this address"), "{}", open.log());
    open.ends_well();
}

/// Without `listen` a daemon has a socket in the folder of all daemons, and commands find the only one.
#[test]
fn the_only_daemon_is_found_without_an_address() {
    let test = "the_only_daemon_is_found_without_an_address";
    let alone = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "x", "/mnt"]).output();
    if !can(test) || !has("namespaces", test, alone.is_ok_and(|o| o.status.success())) {
        return;
    }
    let (folder, name) = (scratch(test), worker_name());
    std::fs::write(
        folder.join("one.toml"),
        format!("[worker]\nmemory = \"1GiB\"\nbackends = [\"simulated\"]\n[live]\nworker = \"{name}\"\n"),
    )
    .expect("a configuration");
    std::fs::write(folder.join("two.toml"), "").expect("a configuration");
    let script = format!(
        "set -e\nmkdir -p /run/elapse\nmount -t tmpfs -o mode=755 elapse /run/elapse\n\
         elapse status 2>&1 | grep -q 'no daemon has a socket'\n\
         elapse worker one.toml 2>one.log & one=$!\ntrap 'kill $one $two; wait' EXIT\n\
         for i in $(seq 100); do elapse health >/dev/null 2>&1 && break; sleep 0.05; done\n\
         elapse status | grep -q '\"worker\": \"{name}\"'\n\
         test \"$(stat -c %a /run/elapse/{name}/api.sock)\" = 600\n\
         elapse controller two.toml 2>two.log & two=$!\n\
         for i in $(seq 100); do elapse health --at unix:/run/elapse/controller/api.sock >/dev/null 2>&1 && break; sleep 0.05; done\n\
         elapse status 2>&1 | grep -q 'there are several daemons'\n\
         kill $one $two; wait $one; wait $two\ntrap - EXIT\n\
         test -z \"$(ls /run/elapse)\" || {{ ls -R /run/elapse; exit 1; }}\n"
    );
    std::fs::write(folder.join("script.sh"), script).expect("a script");
    let bin = crate::common::elapse().parent().expect("a folder").display().to_string();
    let output = Command::new("unshare")
        .args(["-m", "bash", "script.sh"])
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap_or_default()))
        .current_dir(&folder)
        .output()
        .expect("unshare");
    let logs =
        ["one.log", "two.log"].map(|log| std::fs::read_to_string(folder.join(log)).unwrap_or_default());
    assert!(output.status.success(), "{}{}", said(&output), logs.concat());
}

/// Who may only register has no folder, no network and no device of the host but those that the operator allows.
#[test]
fn what_who_may_register_reaches_is_what_the_operator_allows() {
    let test = "what_who_may_register_reaches_is_what_the_operator_allows";
    if !can(test) {
        return;
    }
    let folder = scratch(test);
    let (code, keys, state) = (folder.join("code"), folder.join("keys"), folder.join("state"));
    std::fs::create_dir_all(code.join("app")).expect("folders");
    std::fs::write(code.join("app/hello"), "hello\n").expect("a file");
    symlink("/etc", code.join("out")).expect("a link");
    secret(
        &keys,
        &format!("register {} ci\ninvoke {} ci\n", hex("ci-0123456789abc"), hex("ci-0123456789abc")),
    );
    let top = format!("token_file = {keys:?}\nstate = {state:?}");
    let tables = format!("[register]\ncode_roots = [{code:?}]\n");
    let mut daemon = Daemon::worker(test, &top, &tables);
    let post = |daemon: &Daemon, path: &str, body: &str| {
        daemon.raw(&format!(
            "POST {path} HTTP/1.0\r\nauthorization: Bearer ci-0123456789abc\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let register = |daemon: &Daemon, name: &str, more: &str| {
        let text = format!(
            "{{\"name\": \"{name}\", \"memory\": \"64MiB\", \"behaviour\": \"exec\", \"command\": [\"cat\", \"/code/hello\"], {more}}}"
        );
        post(daemon, "/v1/functions", &text)
    };
    let app = format!("\"code\": {:?}", code.join("app"));
    for (more, why) in [
        ("\"code\": \"/etc\"".to_string(), "below none of register.code_roots"),
        (format!("\"code\": {:?}", code.join("../keys")), "below none of register.code_roots"),
        ("\"image\": \"evil.example/x\"".into(), "images of evil.example may not be registered"),
        ("\"image\": \"/root/x.tar\"".into(), "a file of the host"),
        ("\"network\": \"host\"".into(), "register.host_network"),
        ("\"compute\": \"gpu\"".into(), "register.devices"),
    ] {
        let refused = register(&daemon, "refused", &more);
        assert!(refused.starts_with("HTTP/1.0 403") && refused.contains(why), "{more}: {refused}");
    }
    let link = register(&daemon, "link", &format!("\"code\": {:?}", code.join("out")));
    assert!(link.starts_with("HTTP/1.0 422") && link.contains("a symbolic link"), "{link}");
    let registered = register(&daemon, "app", &app);
    assert!(registered.starts_with("HTTP/1.0 201"), "{registered}");
    let said_hello = |daemon: &Daemon| {
        let answer = post(daemon, "/v1/functions/app/invoke", "");
        assert!(answer.ends_with("hello\n"), "{answer}");
    };
    said_hello(&daemon);
    // What is put in its place later is not what was allowed, neither now nor at the next start.
    std::fs::rename(code.join("app"), code.join("old")).expect("a rename");
    std::fs::create_dir(folder.join("elsewhere")).expect("a folder");
    std::fs::write(folder.join("elsewhere/hello"), "a secret\n").expect("a file");
    symlink(folder.join("elsewhere"), code.join("app")).expect("a link");
    assert!(post(&daemon, "/v1/functions/app/prewarm", "").contains(" 200 "));
    said_hello(&daemon);
    daemon.kill();
    daemon.start_again();
    assert!(daemon.log().contains("not registered again"), "{}", daemon.log());
    assert!(post(&daemon, "/v1/functions/app/invoke", "").contains(" 404 "));
    daemon.ends_well();
}
