//! What a worker knows and has across its lives: registrations, containers, a damaged journal, neighbours left alone.
#![expect(clippy::disallowed_methods, reason = "it waits for another process")]

use crate::common::census::{Stranger, census};
use crate::common::containers::{agent, daemon};
use crate::common::daemon::{Daemon, elapse, moment, said};
use crate::common::{NOBODY, has, program};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn can(test: &str) -> bool {
    has("process", test, agent().exists() && program("kill")) && has("root", test, elapse_host::is_root())
}

fn state(test: &str) -> (PathBuf, String) {
    let folder = crate::common::scratch(&format!("{test}-state"));
    let top = format!("state = {folder:?}\non_boot = \"recover\"");
    (folder, top)
}

fn register(daemon: &Daemon, name: &str) -> bool {
    let file = daemon.folder.join("f.toml");
    std::fs::write(&file, format!("name = \"{name}\"\nmemory = \"64MiB\"\nbehaviour = \"echo\"\n"))
        .expect("a file");
    daemon.ask(&["register", file.to_str().expect("a path")]).status.success()
}

/// How an invocation started, or why it did not.
fn start_of(daemon: &Daemon, function: &str) -> String {
    let answer =
        daemon.raw(&format!("POST /v1/functions/{function}/invoke HTTP/1.0\r\ncontent-length: 0\r\n\r\n"));
    let start = answer.lines().find_map(|l| l.strip_prefix("elapse-start: "));
    start.map_or(answer.clone(), str::to_string)
}

#[test]
fn containers_of_a_killed_life_are_taken_over_warm() {
    let test = "containers_of_a_killed_life_are_taken_over_warm";
    if !can(test) {
        return;
    }
    let (_, top) = state(test);
    let mut daemon = Daemon::worker(test, &top, "");
    let neighbour = Daemon::worker(test, "", "");
    assert_eq!((start_of(&daemon, "echo"), start_of(&neighbour, "echo")), ("cold".into(), "cold".into()));
    assert!(register(&daemon, "later"));
    assert_eq!(start_of(&daemon, "later"), "cold");
    let before = daemon.containers();
    assert!(before.len() >= 2, "{before:?}");
    daemon.kill();
    assert_eq!(daemon.containers(), before, "they outlive the worker");
    daemon.start_again();
    assert!(daemon.log().contains("warm=2 of=2"), "{}", daemon.log());
    assert_eq!(daemon.containers(), before, "the same processes");
    assert_eq!((start_of(&daemon, "echo"), start_of(&daemon, "later")), ("warm".into(), "warm".into()));
    // One that died while nobody looked is not trusted, nor one of a function that is gone.
    assert!(daemon.ask(&["deregister", "later"]).status.success());
    daemon.until("without it", || daemon.containers().len() < before.len());
    daemon.kill();
    for pid in daemon.containers() {
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    }
    daemon.start_again();
    assert!(daemon.log().contains("not taken over") && daemon.containers().is_empty(), "{}", daemon.log());
    assert_eq!(start_of(&daemon, "echo"), "cold");
    assert!(start_of(&daemon, "later").starts_with("HTTP/1.0 404"));
    // With clean, what outlived is removed.
    daemon.kill();
    daemon.reconfigure("on_boot = \"recover\"", "on_boot = \"clean\"");
    daemon.start_again();
    assert!(daemon.containers().is_empty() && daemon.log().contains("had left"), "{}", daemon.log());
    assert_eq!(start_of(&daemon, "echo"), "cold");
    assert_eq!(start_of(&neighbour, "echo"), "warm", "a neighbour's container was not touched");
    daemon.ends_well();
    neighbour.ends_well();
}

#[test]
fn what_a_container_is_made_of_must_be_what_its_function_is_now() {
    let test = "what_a_container_is_made_of_must_be_what_its_function_is_now";
    if !can(test) {
        return;
    }
    let (_, top) = state(test);
    let mut daemon = Daemon::worker(test, &top, "");
    assert_eq!(start_of(&daemon, "echo"), "cold");
    assert_eq!(start_of(&daemon, "slow"), "cold");
    daemon.kill();
    daemon.reconfigure(
        "memory = \"64MiB\"\nduration = \"1s\"\nbehaviour = \"echo\"",
        "memory = \"65MiB\"\nduration = \"1s\"\nbehaviour = \"echo\"",
    );
    daemon.start_again();
    assert!(daemon.log().contains("warm=1 of=2"), "{}", daemon.log());
    assert!(daemon.log().contains("no function wants as it is"), "{}", daemon.log());
    assert_eq!((start_of(&daemon, "echo"), start_of(&daemon, "slow")), ("cold".into(), "warm".into()));
    daemon.ends_well();
}

#[test]
fn a_container_that_dies_while_nobody_calls_it_is_replaced() {
    let test = "a_container_that_dies_while_nobody_calls_it_is_replaced";
    if !can(test) {
        return;
    }
    let daemon = Daemon::worker(test, "", "");
    assert_eq!((start_of(&daemon, "echo"), start_of(&daemon, "echo")), ("cold".into(), "warm".into()));
    let [pid] = daemon.containers()[..] else { panic!("{:?}", daemon.containers()) };
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill").success());
    daemon.until("removed", || daemon.json(&["status"])["metrics"]["containers_cached"] == 0.0);
    assert!(daemon.log().contains("a container has ended by itself"), "{}", daemon.log());
    assert_eq!(start_of(&daemon, "echo"), "cold", "and nobody was sent into it");
    daemon.ends_well();
}

/// A registration that fails ends the worker, and what it had taken over waits for its next life.
#[test]
fn a_controller_that_is_away_costs_no_container_that_was_taken_over() {
    let test = "a_controller_that_is_away_costs_no_container_that_was_taken_over";
    if !can(test) {
        return;
    }
    let (_, top) = state(test);
    let mut daemon = Daemon::worker(test, &top, "");
    assert_eq!(start_of(&daemon, "echo"), "cold");
    let before = daemon.containers();
    daemon.kill();
    let wanted = "registration = \"required\"\non_boot = \"recover\"";
    daemon.reconfigure("on_boot = \"recover\"", wanted);
    let table = format!("[controller]\naddress = \"{NOBODY}\"\nattempts = 1\n[[function]]");
    let config = daemon.folder.join("config.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text.replacen("[[function]]", &table, 1)).expect("a configuration");
    let refused = elapse(&["worker", config.to_str().expect("a path")]);
    assert!(refused.status.code() == Some(5), "{}", said(&refused));
    assert_eq!(daemon.containers(), before, "they are there for whoever comes next: {}", said(&refused));
    daemon.reconfigure(wanted, "on_boot = \"recover\"");
    daemon.start_again();
    assert_eq!(start_of(&daemon, "echo"), "warm", "{}", daemon.log());
    daemon.ends_well();
}

#[test]
fn containers_of_a_daemon_of_their_own_are_taken_over_too() {
    let test = "containers_of_a_daemon_of_their_own_are_taken_over_too";
    for name in ["docker", "containerd"] {
        let Some(socket) = daemon(name, test).filter(|_| can(test)) else { continue };
        if name == "containerd" && !cfg!(feature = "containerd") {
            continue;
        }
        let (_, top) = state(&format!("{test}-{name}"));
        let mut daemon = worker_on(test, name, &top, &format!("{name} = {socket:?}\npooled = 1"));
        assert_eq!((start_of(&daemon, "echo"), start_of(&daemon, "echo")), ("cold".into(), "warm".into()));
        daemon.kill();
        if name == "containerd" {
            // As by a life that was killed before it wrote what the snapshot is for.
            let ctr = |args: &[&str]| {
                let space = format!("elapse-{}", daemon.name);
                let at = ["-a", socket.to_str().expect("a path"), "-n", &space];
                assert!(Command::new("ctr").args(at).args(args).status().expect("ctr").success());
            };
            ctr(&["snapshots", "prepare", "stray"]);
            ctr(&["snapshots", "label", "stray", "containerd.io/gc.root=elapse"]);
        }
        daemon.start_again();
        assert!(name != "containerd" || daemon.log().contains("/stray"), "{}", daemon.log());
        assert!(daemon.log().contains("warm=1 of=1"), "{name}: {}", daemon.log());
        assert_eq!(start_of(&daemon, "echo"), "warm", "{name}");
        // With clean it is removed, as is what was created ahead.
        daemon.kill();
        daemon.reconfigure("on_boot = \"recover\"", "on_boot = \"clean\"");
        daemon.start_again();
        assert!(
            daemon.log().contains("had left") && !daemon.log().contains("taken over"),
            "{}",
            daemon.log()
        );
        assert_eq!(start_of(&daemon, "echo"), "cold", "{name}");
        daemon.ends_well();
    }
}

/// Killed at random moments under load: what was acknowledged is there, on the host is what the worker has, and a neighbour is
/// left alone.
#[test]
fn acknowledged_registrations_survive_every_death() {
    let test = "acknowledged_registrations_survive_every_death";
    if !can(test) {
        return;
    }
    let soak = std::env::var("ELAPSE_SOAK").is_ok();
    dies_again_and_again(test, "process", None, if soak { 200 } else { 12 });
    for name in ["containerd", "docker"] {
        let there = daemon(name, test).filter(|_| name == "docker" || cfg!(feature = "containerd"));
        if let Some(socket) = there {
            dies_again_and_again(test, name, Some(&socket), if soak { 40 } else { 4 });
        }
    }
}

/// A worker that has one backend.
fn worker_on(test: &str, backend: &str, top: &str, tables: &str) -> Daemon {
    let mut daemon = Daemon::worker(test, top, tables);
    daemon.kill();
    daemon.reconfigure("cores = 4", &format!("cores = 4\nbackends = [\"{backend}\"]"));
    daemon.start_again();
    daemon
}

fn dies_again_and_again(test: &str, backend: &str, socket: Option<&Path>, lives: usize) {
    let (_, top) = state(&format!("{test}-{backend}"));
    let tables = socket.map(|socket| format!("{backend} = {socket:?}")).unwrap_or_default();
    let neighbour = worker_on(test, backend, "", &tables);
    assert_eq!(start_of(&neighbour, "echo"), "cold");
    let theirs = census(&neighbour.name, backend, socket);
    let stranger = Stranger::on(backend, socket, &neighbour.folder);
    let mut daemon = worker_on(test, backend, &top, &tables);
    let file = daemon.folder.join("f.toml");
    let path = file.to_str().expect("a path").to_string();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut clean = false;
    for life in 0..lives {
        let calls: Vec<_> = (0..3).map(|_| daemon.client(&["invoke", "echo"])).collect();
        let name = format!("f{life}");
        std::fs::write(&file, format!("name = \"{name}\"\nmemory = \"64MiB\"\nbehaviour = \"echo\"\n"))
            .expect("a file");
        // Its death may come before the registration, in the midst of it, or after.
        let mut registering = daemon.client(&["register", &path]);
        std::thread::sleep(moment(life as u64, Duration::from_millis(120)));
        daemon.kill();
        if registering.wait().expect("a client").success() {
            acknowledged.push(name);
        }
        for mut call in calls {
            let _ = call.wait();
        }
        if life % 4 == 3 {
            clean = !clean;
            daemon.boots(clean);
        }
        daemon.start_again();
        let listed = said(&daemon.ask(&["list"]));
        for name in &acknowledged {
            assert!(listed.contains(&format!("\"{name}\"")), "life {life}: {name} is lost; {listed}");
        }
        // Of each kind the host has what the worker has, with clean nothing.
        let has = || daemon.json(&["status"])["metrics"]["containers_cached"].as_f64().unwrap_or(f64::NAN);
        let counted = || census(&daemon.name, backend, socket);
        // One kind of cgroups, or one for each controller.
        let sees = |kind: &str, all: &BTreeMap<String, usize>| all.keys().any(|k| k.starts_with(kind));
        daemon.until("what the worker has", || {
            let (has, counted) = (has(), counted());
            counted.values().all(|n| *n as f64 == has)
                && (has == 0.0 || sees("directories", &counted) && sees("cgroups", &counted))
        });
        assert!(
            !clean || counted().values().all(|n| *n == 0),
            "life {life}: left with clean: {:?}",
            counted()
        );
    }
    assert!(
        lives < 12 || acknowledged.len() > lives / 4,
        "only {} of {lives} were acknowledged",
        acknowledged.len()
    );
    daemon.ends_well();
    assert_eq!(census(&neighbour.name, backend, socket), theirs, "a neighbour's things were touched");
    assert_eq!(start_of(&neighbour, "echo"), "warm", "a neighbour's container was touched");
    assert!(stranger.is_none_or(|stranger| stranger.is_there()), "a stranger's container was touched");
    neighbour.ends_well();
}

/// One whose code is gone cannot be registered again, and must not stay for ever.
#[test]
fn a_function_that_could_not_be_registered_again_can_be_deregistered() {
    let test = "a_function_that_could_not_be_registered_again_can_be_deregistered";
    if !can(test) {
        return;
    }
    let (_, top) = state(test);
    let mut daemon = Daemon::worker(test, &top, "");
    let code = crate::common::scratch(&format!("{test}-code"));
    let file = daemon.folder.join("cat.toml");
    let text = format!(
        "name = \"cat\"\nmemory = \"64MiB\"\nbehaviour = \"exec\"\ncommand = [\"cat\"]\ncode = {code:?}\n"
    );
    std::fs::write(&file, text).expect("a file");
    assert!(daemon.ask(&["register", file.to_str().expect("a path")]).status.success());
    daemon.kill();
    std::fs::remove_dir_all(&code).expect("it is gone");
    daemon.start_again();
    assert!(daemon.log().contains("not registered again"), "{}", daemon.log());
    assert!(daemon.ask(&["deregister", "cat"]).status.success());
    let again = daemon.ask(&["deregister", "cat"]);
    assert!(again.status.code() == Some(2) && said(&again).contains("no function 'cat'"), "{}", said(&again));
    daemon.ends_well();
}

#[test]
fn a_damaged_journal_keeps_what_is_whole_and_a_newer_one_is_refused() {
    let test = "a_damaged_journal_keeps_what_is_whole_and_a_newer_one_is_refused";
    if !can(test) {
        return;
    }
    let (folder, top) = state(test);
    let mut daemon = Daemon::worker(test, &top, "");
    assert!((0..5).all(|i| register(&daemon, &format!("f{i}"))));
    daemon.kill();
    let journal = folder.join("journal");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let at = bytes.windows(4).position(|w| w == b"\"f2\"").expect("the third");
    bytes[at + 1] ^= 1;
    std::fs::write(&journal, &bytes).expect("it is damaged");
    daemon.start_again();
    assert!(daemon.log().contains("the journal was damaged"), "{}", daemon.log());
    let listed = said(&daemon.ask(&["list"]));
    for (i, there) in [true, true, false, true, true].iter().enumerate() {
        assert_eq!(listed.contains(&format!("\"f{i}\"")), *there, "f{i}: {listed}");
    }
    daemon.kill();
    let heading = "elapse journal 2";
    let sum = crc32fast::hash(heading.as_bytes());
    std::fs::write(&journal, format!("{heading} {sum:08x}\n")).expect("a newer one");
    let config = daemon.folder.join("config.toml");
    let refused = elapse(&["worker", config.to_str().expect("a path")]);
    assert!(
        refused.status.code() == Some(2) && said(&refused).contains("newer Elapse"),
        "{}",
        said(&refused)
    );
    std::fs::remove_file(&journal).expect("it is moved away");
    let _ = std::fs::remove_file(&daemon.at["unix:".len()..]);
    daemon.start_again();
    daemon.ends_well();
}

#[test]
fn a_state_folder_that_cannot_be_is_told_in_a_sentence() {
    let folder = crate::common::scratch("state-wrong");
    let file = folder.join("worker.toml");
    let name = crate::common::containers::worker_name();
    let run = |top: &str| {
        let text = format!(
            "listen = \"unix:/tmp/{name}.sock\"\n{top}\n[worker]\nmemory = \"1GiB\"\nbackends = [\"simulated\"]\n[live]\nworker \
             = \"{name}\"\n"
        );
        std::fs::write(&file, text).expect("a configuration");
        let output = elapse(&["worker", file.to_str().expect("a path")]);
        let _ = std::fs::remove_file(format!("/tmp/{name}.sock"));
        (output.status.code(), said(&output))
    };
    let (code, text) = run("on_boot = \"recover\"");
    assert!(code == Some(2) && text.contains("name a folder (state)"), "{code:?} {text}");
    let (code, text) = run("state = \"/proc/nowhere\"");
    assert!(code == Some(3) && text.contains("cannot write /proc/nowhere"), "{code:?} {text}");
    let (code, text) = run("on_boot = \"recovr\"");
    assert!(code == Some(2) && text.contains("did you mean 'recover'?"), "{code:?} {text}");
}
