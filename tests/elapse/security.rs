//! What hostile code tries in a sandbox of every backend. Each attempt is made in the open first, as root beside this test, so that it
//! is known to be one; in a sandbox none may come through.

use crate::common::census::census;
use crate::common::containers::{agent, daemon as socket_of};
use crate::common::daemon::{Daemon, said};
use crate::common::{has, program, scratch, slower, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// As many attempts come through in the open.
const REAL: usize = 40;
/// What a function of these tests may have.
const MEMORY: usize = 64 << 20;
const PIDS: usize = 64;

/// Attempts that would change this host in the open.
const NOT_IN_THE_OPEN: [&str; 5] = ["reboot", "swap-socket", "write-port", "link-log", "flood-log"];
/// What who is root of an image may do in its container, as docker has it (docs/security.md): it is not the host's.
const OF_AN_IMAGES_ROOT: [&str; 2] = ["become-root", "chroot"];
/// Attempts at whose end there may be nobody left to tell.
const MAY_DIE: [&str; 2] = ["memory", "processes"];

fn attempts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/elapse-attempts")
}

fn can(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    has("process", test, agent().exists() && program("kill"))
        && has("attempts", test, attempts().exists())
        && has("root", test, root && program("unshare"))
}

/// What attempts are told, where they are told anything, and those who listen for them.
struct Targets {
    given: BTreeMap<&'static str, String>,
    tcp: std::net::TcpListener,
    name: UnixListener,
}

impl Targets {
    fn new() -> Targets {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        static TARGETS: AtomicU32 = AtomicU32::new(0);
        let nth = TARGETS.fetch_add(1, Ordering::Relaxed);
        let name = format!("elapse-attempt-{}-{nth}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("a socket");
        let given = [
            ("host-port", tcp.local_addr().expect("an address").to_string()),
            ("abstract-socket", name),
            ("processes", (PIDS + 16).to_string()),
            ("memory", (4 * MEMORY).to_string()),
            ("long-file", (2 * MEMORY).to_string()),
            ("write-port", "127.0.0.1:1".into()),
            ("link-log", "/etc/shadow".into()),
            // More than a log may take in ten seconds.
            ("flood-log", (1_usize << 30).to_string()),
        ];
        Targets { given: given.into(), tcp, name: listener }
    }

    fn order(&self, attempt: &str) -> String {
        format!("{attempt} {}", self.given.get(attempt).map_or("", String::as_str))
    }

    /// Takes whoever has come.
    fn empty(&self) {
        for _ in 0..2 {
            self.tcp.set_nonblocking(true).expect("a mode");
            self.name.set_nonblocking(true).expect("a mode");
            while self.tcp.accept().is_ok() || self.name.accept().is_ok() {}
        }
    }
}

fn all_attempts() -> Vec<String> {
    let listed = Command::new(attempts()).arg("list").output().expect("it is started");
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_string).collect()
}

/// The attempts that come through without a sandbox. Mounts, names and queues of this host are left out of it.
fn in_the_open(targets: &Targets) -> BTreeSet<String> {
    let mut through = BTreeSet::new();
    for attempt in all_attempts().iter().filter(|name| !NOT_IN_THE_OPEN.contains(&name.as_str())) {
        let output = Command::new("unshare")
            .args(["-m", "-u", "-i", "--propagation", "private"])
            .arg(attempts())
            .arg(targets.order(attempt))
            .output()
            .expect("unshare");
        if output.stdout.starts_with(b"through") {
            through.insert(attempt.clone());
        }
        targets.empty();
    }
    through
}

/// A worker whose one function makes the attempts that it is told.
fn worker(test: &str, backend: &str, socket: Option<&Path>) -> Daemon {
    let code = scratch(&format!("{test}-{backend}")).join("code");
    std::fs::create_dir_all(&code).expect("a folder");
    std::fs::copy(attempts(), code.join("elapse-attempts")).expect("a copy");
    let at = socket.map_or(String::new(), |at| format!("{backend} = {at:?}\n"));
    let tables = format!(
        "pids = {PIDS}\n{at}[[function]]\nname = \"attempt\"\nmemory = \"64MiB\"\nduration = \"1s\"\nbehaviour = \"exec\"\n\
         concurrency = 4\ncode = {code:?}\ncommand = [\"/code/elapse-attempts\"]\n"
    );
    let worker = Daemon::worker(test, "", &tables);
    if backend == "process" { worker } else { worker.on(backend) }
}

/// The backends that are here.
fn backends(test: &str) -> Vec<(&'static str, Option<PathBuf>)> {
    let mut all = vec![("process", None)];
    for name in ["containerd", "docker"] {
        if let Some(socket) = socket_of(name, test)
            && has("containerd", test, name != "containerd" || cfg!(feature = "containerd"))
        {
            all.push((name, Some(socket)));
        }
    }
    all
}

fn attempt(worker: &Daemon, order: &str) -> String {
    said(&worker.ask(&["invoke", "attempt", "--body", order]))
}

#[test]
fn no_attempt_comes_through_on_any_backend() {
    let test = "no_attempt_comes_through_on_any_backend";
    if !can(test) {
        return;
    }
    let targets = Targets::new();
    let real = in_the_open(&targets);
    println!("{} of {} attempts are real here: {real:?}", real.len(), all_attempts().len());
    assert!(real.len() >= REAL, "{} attempts come through in the open: {real:?}", real.len());
    let mut through = Vec::new();
    for (backend, socket) in backends(test) {
        let worker = worker(test, backend, socket.as_deref());
        let excused = |name: &str| backend != "process" && OF_AN_IMAGES_ROOT.contains(&name);
        let listener = UnixListener::bind(format!("/tmp/{}.target", worker.name)).expect("a socket");
        for name in all_attempts().iter().filter(|name| !excused(name) && *name != "swap-socket") {
            let answer = attempt(&worker, &targets.order(name));
            if answer.contains("through:") {
                through.push(format!("{backend}: {name}: {answer}"));
            } else {
                assert!(
                    answer.starts_with("held:") || MAY_DIE.contains(&name.as_str()),
                    "{backend}: {name}: {answer}"
                );
            }
            let here = targets.tcp.set_nonblocking(true).is_ok() && targets.tcp.accept().is_ok();
            assert!(!here, "{backend}: {name} has reached a port of this host");
        }
        // What it says of itself.
        let status = attempt(&worker, "status");
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_string()
        };
        assert_eq!(
            (field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()),
            ("2", "1"),
            "{backend}: {status}"
        );
        let capabilities = u64::from_str_radix(&field("CapEff:"), 16).expect("a number");
        // Docker's default less NET_RAW, MKNOD, AUDIT_WRITE and SETFCAP.
        let most = if backend == "process" { 0 } else { 0x405fb };
        assert_eq!(capabilities & !most, 0, "{backend}: {capabilities:x}");
        // The socket of a sandbox leads elsewhere now; nobody goes there, and the worker serves on.
        let target = format!("/tmp/{}.target", worker.name);
        let swapped = attempt(&worker, &format!("swap-socket {target}"));
        assert!(swapped.starts_with("held:"), "{backend}: {swapped}");
        let several: Vec<_> =
            (0..4).map(|_| worker.client(&["invoke", "attempt", "--body", "status"])).collect();
        several.into_iter().for_each(|mut client| drop(client.wait()));
        listener.set_nonblocking(true).expect("a mode");
        assert!(listener.accept().is_err(), "{backend}: the worker has followed a link of a sandbox's");
        let _ = std::fs::remove_file(&target);
        assert!(worker.ask(&["health"]).status.success());
        let name = worker.name.clone();
        worker.ends_well();
        let left = census(&name, backend, socket.as_deref());
        assert!(left.values().all(|n| *n == 0), "{backend}: {left:?}");
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
}

/// Of 200 sandboxes that live at once no two have the same user, so nothing that the kernel counts by user is shared.
#[test]
fn no_two_sandboxes_have_one_user() {
    let test = "no_two_sandboxes_have_one_user";
    if !can(test) {
        return;
    }
    // An emulated machine would take a quarter of an hour for so many.
    let many = if slower() > 1.0 { 40 } else { 200 };
    let worker = Daemon::worker(
        test,
        "",
        &format!(
            "[[function]]\nname = \"many\"\nmemory = \"4MiB\"\nduration = \"1s\"\nbehaviour = \"echo\"\nprewarm = {many}\n"
        ),
    );
    worker.until("all there", || worker.containers().len() >= many);
    let users: BTreeSet<u32> = worker
        .containers()
        .iter()
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())
        })
        .collect();
    assert!(users.len() == worker.containers().len() && !users.contains(&0), "{} users", users.len());
    worker.ends_well();
}

/// A process that outlives no test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As another user, a worker has no cgroups; what is left holds all the same.
#[test]
fn without_root_a_sandbox_has_a_user_namespace_and_seccomp() {
    use std::os::unix::process::CommandExt;
    let test = "without_root_a_sandbox_has_a_user_namespace_and_seccomp";
    const NOBODY: u32 = 65_534;
    /// Nothing counts these without a cgroup.
    const OF_CGROUPS: [&str; 2] = ["memory", "processes"];
    let as_nobody = |program: &Path| {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
        command
    };
    let unshares =
        || as_nobody(Path::new("unshare")).args(["-U", "true"]).status().is_ok_and(|s| s.success());
    if !can(test) || !has("user namespaces of any user", test, unshares()) {
        return;
    }
    // Where nobody may read and write.
    let folder = std::env::temp_dir().join(format!("elapse-nobody-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("code")).expect("a folder");
    let beside = |from: &Path, to: &str| std::fs::copy(from, folder.join(to)).expect("a copy");
    beside(crate::common::elapse(), "elapse");
    beside(&agent(), "elapse-agent");
    beside(&attempts(), "code/elapse-attempts");
    let at = format!("unix:{}/api.sock", folder.display());
    let config = format!(
        "listen = {at:?}\n[worker]\nmemory = \"1GiB\"\ncores = 2\n[live]\nworker = \"nobody-{}\"\n[[function]]\nname = \"attempt\"\n\
         memory = \"64MiB\"\nduration = \"1s\"\nbehaviour = \"exec\"\nconcurrency = 4\ncode = {:?}\n\
         command = [\"/code/elapse-attempts\"]\n",
        std::process::id() % 100_000,
        folder.join("code"),
    );
    std::fs::write(folder.join("worker.toml"), config).expect("a configuration");
    std::fs::create_dir(folder.join("run")).expect("a folder");
    for place in [folder.clone(), folder.join("code"), folder.join("run")] {
        std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let log = std::fs::File::create(folder.join("log")).expect("a file");
    let mut worker = Killed(
        as_nobody(&folder.join("elapse"))
            .args(["worker", "worker.toml"])
            .current_dir(&folder)
            .env("XDG_RUNTIME_DIR", folder.join("run"))
            .stderr(log)
            .spawn()
            .expect("elapse"),
    );
    wait_until("a socket", || folder.join("api.sock").exists());
    let ask = |order: &str| {
        let answer = Command::new(crate::common::elapse())
            .args(["invoke", "attempt", "--at", &at, "--body", order])
            .output();
        said(&answer.expect("elapse"))
    };
    let targets = Targets::new();
    let mut through = Vec::new();
    for name in all_attempts() {
        if [&OF_CGROUPS[..], &["swap-socket"]].concat().contains(&name.as_str()) {
            continue;
        }
        let answer = ask(&targets.order(&name));
        if !answer.starts_with("held:") {
            through.push(format!("{name}: {answer}"));
        }
    }
    let status = ask("status");
    rustix::process::kill_process(rustix::process::Pid::from_child(&worker.0), rustix::process::Signal::TERM)
        .expect("it runs");
    let ended = worker.0.wait().expect("an end");
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(through.is_empty(), "{}\n{log}", through.join("\n"));
    for says in ["Seccomp:\t2\n", "NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n"] {
        assert!(status.contains(says), "{status}");
    }
    assert!(ended.success(), "{log}");
    std::fs::remove_dir_all(&folder).expect("it is root's test");
}
