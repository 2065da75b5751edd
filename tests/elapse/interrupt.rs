//! Ctrl-C and SIGTERM: an interrupted run keeps what it has, under a name that nobody takes for a whole run's, and harms nothing
//! that it is starting.

#![expect(clippy::disallowed_methods, reason = "the tests wait for other processes")]

use crate::common::containers::{agent, bare, common_of, worker_name};
use crate::common::daemon::Daemon;
use crate::common::{has, plan, scratch, wait_until};
use elapse::Interrupt;
use elapse::Run;
use elapse::base::FaultKind;
use elapse::rt;
use elapse::rt::chance::{Purpose, Seed};
use elapse_host::doctor::leftovers_of;
use elapse_host::engine::Engine;
use elapse_host::process::Processes;
use rand::RngExt;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn elapse(arguments: &[&str], folder: &Path) -> Output {
    Command::new(crate::common::elapse()).args(arguments).current_dir(folder).output().expect("elapse")
}

/// The program under way, in a group of its own.
fn started(arguments: &[&str], folder: &Path) -> Child {
    let mut command = Command::new(crate::common::elapse());
    command.args(arguments).current_dir(folder).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("elapse")
}

fn sleep(span: Duration) {
    std::thread::sleep(span);
}

/// Whether a folder has an entry whose name begins and ends so.
fn holds(folder: &Path, from: &str, end: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(from) && name.ends_with(end)
    })
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .expect("JSON")
}

/// How often each status is in a run's records, and what the failed ones say.
fn records(folder: &Path) -> (usize, Vec<String>) {
    let text = std::fs::read_to_string(folder.join("records.csv")).expect("records");
    let failed = text.lines().filter(|l| l.contains(",failed,")).map(str::to_string).collect();
    (text.lines().count() - 1, failed)
}

const ENDLESS: &str = "name = 's'\nduration = '90000h'\n[worker]\nmemory = '2GiB'\n[model]\ncold_start = '200ms'\n[[function]]\n\
                       name = 'f'\nmemory = '128MiB'\nduration = '100ms'\nload = { poisson = '500/s' }\n";

#[test]
fn an_interrupted_simulation_keeps_what_it_has_under_another_name() {
    let dir = scratch("interrupt");
    std::fs::write(dir.join("s.toml"), ENDLESS).expect("a scenario");
    let whole = ["sim", "s.toml", "--set", "duration=10s", "--out", "run", "--no-plots"];
    assert!(elapse(&whole, &dir).status.success());
    let before = std::fs::read(dir.join("run/summary.json")).expect("a summary");
    // The second one replaces what the first has left, and neither touches the whole run.
    for (signal, more) in
        [(Signal::INT, &["--seed", "2"][..]), (Signal::TERM, &["--seed", "3", "--no-plots"])]
    {
        let arguments = ["sim", "s.toml", "--out", "run", "--force", "--records", "none"];
        let mut child = started(&[&arguments, more].concat(), &dir);
        // Its partial folder appears when it has begun to listen and to run.
        wait_until("a run", || holds(&dir, ".partial-run", ""));
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), Some(130));
        let summary = json(&dir.join("run.interrupted/summary.json"));
        assert_eq!(summary["interrupted"], true);
        let ended = ["completed", "failed", "timed_out", "dropped", "lost", "unfinished"];
        let sum: u64 = ended.iter().map(|status| summary[status].as_u64().expect("a count")).sum();
        assert_eq!(summary["invocations"].as_u64(), Some(sum), "nothing is lost");
        assert_eq!(summary["seed"].to_string(), more[1]);
        assert_eq!(dir.join("run.interrupted/report.html").exists(), more.len() == 2);
        assert_eq!(std::fs::read(dir.join("run/summary.json")).expect("a summary"), before);
        assert!(!holds(&dir, ".partial", ""));
    }
    // Whoever reads runs reads these; a name that only an interrupted run had is explained.
    for reads in [
        &["plot", "run.interrupted"][..],
        &["align", "run.interrupted"],
        &["compare", "run.interrupted", "run"],
    ] {
        let out = elapse(reads, &dir);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            matches!(out.status.code(), Some(0 | 1)) && !said.contains("cannot read"),
            "{reads:?}: {said}"
        );
    }
    std::fs::remove_dir_all(dir.join("run")).expect("the run");
    for reads in [&["plot", "run"][..], &["align", "run"], &["compare", "run", "run.interrupted"]] {
        let out = elapse(reads, &dir);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.code() == Some(2) && said.contains("what that has is in run.interrupted"),
            "{said}"
        );
    }
}

#[test]
fn without_force_nothing_that_was_kept_is_replaced() {
    let dir = scratch("interrupt-kept");
    let run = |name: &str| {
        let interrupt = Interrupt::default();
        interrupt.ask();
        // All of them arrive at one instant, and no clock moves: what is asked for is heard all the same.
        let text = ENDLESS
            .replace("name = 'f'", "name = 'f'\ncount = 20000")
            .replace("poisson = '500/s'", "constant = '20000/s'");
        let run = Run::new(plan(&text)).plots(false).interrupt(interrupt).write_to(&dir.join(name), false);
        run.simulate().expect("what it has")
    };
    let (first, second) = (run("x"), run("x"));
    assert!(first.interrupted && first.summary.facts.interrupted);
    assert_eq!(first.folder.as_deref(), Some(&*dir.join("x.interrupted")));
    assert_eq!(second.folder.as_deref(), Some(&*dir.join("x-2.interrupted")));
    assert!(!dir.join("x").exists() && !holds(&dir, ".partial", ""));
}

#[test]
fn a_load_that_is_read_for_long_hears_the_wish() {
    let dir = scratch("interrupt-reading");
    std::fs::write(dir.join("functions.csv"), "name,memory_mb,cold_ms,warm_ms\na,128,1,1\n")
        .expect("a trace");
    std::fs::write(dir.join("invocations.csv"), "time_ms,function,duration_ms\n1,a,5\n").expect("a trace");
    let traces = [
        format!("format = 'csv'\npath = '{}'", dir.display()),
        format!(
            "format = 'azure-2019'\npath = '{}'",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-traces/azure-2019-day").display()
        ),
    ];
    for trace in traces {
        let interrupt = Interrupt::default();
        interrupt.ask();
        let text = format!("name = 't'\n[worker]\nmemory = '1GiB'\n[trace]\n{trace}\n");
        let run = Run::new(plan(&text)).interrupt(interrupt).write_to(&dir.join("x"), false);
        let fault = run.simulate().err().expect("nothing was read");
        assert_eq!((fault.kind(), fault.kind().exit_code()), (FaultKind::Interrupted, 130), "{fault}");
        assert!(!holds(&dir, "x", "") && !holds(&dir, ".partial", ""));
    }
}

#[test]
fn the_wish_is_heard_while_plots_are_drawn() {
    let dir = scratch("interrupt-plots");
    let text = ENDLESS.replace("'90000h'", "'60s'");
    // It comes between the last figure and the last plot, which is a matter of luck on a busy host.
    for attempt in 0..50 {
        let interrupt = Interrupt::default();
        let (asks, folder) = (interrupt.clone(), dir.clone());
        let partial = dir.join(format!(".partial-x-{}/methods.txt", std::process::id()));
        let waits = std::thread::spawn(move || {
            wait_until("the last file before the plots", || partial.exists() || holds(&folder, "x", ""));
            asks.ask();
        });
        let run = Run::new(plan(&text)).interrupt(interrupt).write_to(&dir.join("x"), true);
        let finished = run.simulate().expect("a run");
        waits.join().expect("it asked");
        let folder = finished.folder.expect("a folder");
        if !finished.interrupted {
            assert!(folder == dir.join("x") && folder.join("report.html").exists(), "attempt {attempt}");
            std::fs::remove_dir_all(folder).expect("the run");
            continue;
        }
        // Its figures are whole.
        assert!(!finished.summary.facts.interrupted && folder == dir.join("x.interrupted"));
        assert_eq!(json(&folder.join("run.json"))["interrupted"], false);
        assert!(folder.join("metrics.csv").exists() && !dir.join("x").exists());
        return;
    }
    panic!("the plots were always faster");
}

#[test]
fn a_second_signal_ends_at_once_and_one_that_comes_with_the_first_does_not() {
    let test = "a_second_signal_ends_at_once_and_one_that_comes_with_the_first_does_not";
    let dir = scratch("interrupt-twice");
    std::fs::write(dir.join("f.csv"), "name,memory_mb,cold_ms,warm_ms\na,128,1,1\n").expect("a trace");
    let made = Command::new("mkfifo").arg(dir.join("i.csv")).status();
    if !has("mkfifo", test, made.is_ok_and(|s| s.success())) {
        return;
    }
    // Nobody writes into it: the program waits where it hears nothing.
    let mut child = started(&["replay", "csv", "f.csv", "i.csv", "--out", "x"], &dir);
    let pid = Pid::from_child(&child);
    // It can be opened for writing once somebody reads.
    let mut silent = None;
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
    wait_until("a program that reads", || {
        silent = rustix::fs::open(dir.join("i.csv"), flags, rustix::fs::Mode::empty()).ok();
        silent.is_some()
    });
    sleep(Duration::from_millis(100));
    // timeout(1) tells the process, and then its group.
    kill_process(pid, Signal::TERM).expect("a signal");
    kill_process_group(pid, Signal::TERM).expect("a signal");
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("a state").is_none(), "one wish that was told twice");
    kill_process(pid, Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(!holds(&dir, "x", ""));
}

/// Whether live runs can be interrupted here.
fn can_be_live(test: &str) -> bool {
    has("process", test, agent().exists()) && has("root", test, elapse_host::is_root())
}

/// A live scenario of one function.
fn live(worker: &str, duration: &str, function: &str) -> String {
    format!(
        "name = 'x'\nduration = '{duration}'\n[worker]\ncores = 2\nmemory = '2GiB'\nkeep_alive = '1ms'\n[live]\nworker = '{worker}'\n\
         agent = '{}'\n[[function]]\nname = 'f'\nmemory = '32MiB'\n{function}\n",
        agent().display()
    )
}

#[test]
fn a_signal_keeps_the_results_of_a_live_run_and_leaves_nothing() {
    let test = "a_signal_keeps_the_results_of_a_live_run_and_leaves_nothing";
    if !can_be_live(test) {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let (dir, worker) = (scratch(&format!("interrupt-live-{}", signal.as_raw())), worker_name());
        let text = live(&worker, "600s", "duration = '30ms'\nload = { poisson = '40/s' }");
        std::fs::write(dir.join("s.toml"), text.replace("'1ms'", "'10s'")).expect("a scenario");
        let mut child = started(&["live", "s.toml", "--out", "out"], &dir);
        wait_until("a container", || {
            leftovers_of(&worker).iter().any(|left| left.contains("process") || left.contains("cgroup"))
        });
        let second = elapse(&["live", "s.toml", "--out", "second"], &dir);
        assert_eq!(second.status.code(), Some(3), "two workers of one name");
        assert!(String::from_utf8_lossy(&second.stderr).contains("runs on this host already"));
        sleep(Duration::from_millis(800));
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), Some(130));
        assert_eq!(leftovers_of(&worker), Vec::<String>::new());
        assert!(!dir.join("out").exists());
        let summary = json(&dir.join("out.interrupted/summary.json"));
        assert!(summary["completed"].as_u64() > Some(0), "{summary}");
    }
}

/// The function is busy for a minute, and far more are called than fit: nobody waits for what is under way, nothing of it is said to have
/// failed, and nothing arrives any more.
#[test]
fn what_is_under_way_when_a_live_run_is_interrupted_is_unfinished() {
    let test = "what_is_under_way_when_a_live_run_is_interrupted_is_unfinished";
    if !can_be_live(test) {
        return;
    }
    let (dir, worker) = (scratch("interrupt-busy"), worker_name());
    let text = live(&worker, "600s", "duration = '60s'\nbehaviour = 'sleep'\nload = { constant = '20/s' }");
    std::fs::write(dir.join("s.toml"), text).expect("a scenario");
    let mut child = started(&["live", "s.toml", "--out", "out", "--no-plots"], &dir);
    wait_until("a container", || !leftovers_of(&worker).is_empty());
    sleep(Duration::from_millis(1000));
    let asked = Instant::now();
    kill_process_group(Pid::from_child(&child), Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(20), "it waited for what is under way");
    assert_eq!(leftovers_of(&worker), Vec::<String>::new());
    let summary = json(&dir.join("out.interrupted/summary.json"));
    assert_eq!(summary["invocations"], summary["unfinished"], "{summary}");
    let (rows, failed) = records(&dir.join("out.interrupted"));
    assert!(rows > 5 && failed.is_empty(), "{rows}: {failed:?}");
}

#[test]
fn a_load_that_is_sent_elsewhere_is_interrupted_likewise() {
    let test = "a_load_that_is_sent_elsewhere_is_interrupted_likewise";
    if !has("process", test, agent().exists()) {
        return;
    }
    let worker = Daemon::worker(test, "", "");
    let dir = scratch("interrupt-at");
    let text = ENDLESS.replace("128MiB", "64MiB").replace("poisson = '500/s'", "constant = '50/s'");
    std::fs::write(dir.join("s.toml"), text).expect("a scenario");
    let mut child = started(&["live", "s.toml", "--at", &worker.at, "--out", "out", "--no-plots"], &dir);
    wait_until("a call", || worker.json(&["status"])["metrics"]["invocations"].as_f64() > Some(5.0));
    kill_process_group(Pid::from_child(&child), Signal::TERM).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let (rows, failed) = records(&dir.join("out.interrupted"));
    assert!(rows > 5 && failed.is_empty() && !dir.join("out").exists(), "{rows}: {failed:?}");
    worker.ends_well();
}

#[test]
fn interrupted_repeats_are_kept_together_under_another_name() {
    let test = "interrupted_repeats_are_kept_together_under_another_name";
    if !can_be_live(test) {
        return;
    }
    let (dir, worker) = (scratch("interrupt-repeats"), worker_name());
    let text = live(&worker, "600ms", "duration = '5ms'\nload = { constant = '10/s' }");
    std::fs::write(dir.join("s.toml"), &text).expect("a scenario");
    let repeats = |more: &[&'static str]| {
        [&["live", "s.toml", "--out", "set", "--cooldown", "10ms", "--no-plots", "--repeat"], more].concat()
    };
    let whole = elapse(&repeats(&["2"]), &dir);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let before = std::fs::read(dir.join("set/repeat-2/records.csv")).expect("records");
    for _ in 0..2 {
        let mut child = started(&repeats(&["100", "--force"]), &dir);
        let set = dir.join(format!(".partial-set-{}", child.id()));
        wait_until("a second repeat", || holds(&set, ".partial-repeat-2", ""));
        kill_process_group(Pid::from_child(&child), Signal::INT).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), Some(130));
        let kept = dir.join("set.interrupted");
        assert!(kept.join("repeat-1/run.json").exists() && !holds(&kept, "repeat-3", ""));
        assert!(!holds(&dir, ".partial", "") && !holds(&kept, ".partial", ""));
        assert_eq!(std::fs::read(dir.join("set/repeat-2/records.csv")).expect("records"), before);
    }
    let compared = elapse(&["compare", "set.interrupted", "set"], &dir);
    let said = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(said.contains("set (2 runs)"), "{said}{}", String::from_utf8_lossy(&compared.stderr));
}

/// A sandbox is in nobody's session but its own and hears every signal, whatever the thread that started it holds back.
#[test]
fn a_sandbox_has_a_session_and_signals_of_its_own() {
    let test = "a_sandbox_has_a_session_and_signals_of_its_own";
    if !has("process", test, agent().exists()) {
        return;
    }
    let worker = worker_name();
    let engine = Processes::new(common_of(&worker)).expect("an engine");
    rt::Live::new().expect("a runtime").block_on(async move {
        let sandbox = engine.create(bare("one", 1000)).await.expect("a sandbox");
        let pid = sandbox.trace().expect("a process").pid;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // State, parent, group, session.
        assert_eq!((fields[2], fields[3]), (pid.to_string().as_str(), pid.to_string().as_str()));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let mask = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).map(|m| m.trim().to_string());
        assert_eq!(mask("SigBlk:").as_deref(), Some("0000000000000000"));
        sandbox.destroy().await.expect("it goes");
        engine.sweep().await.expect("nothing is left");
    });
}

/// One Ctrl-C, which the terminal sends to the whole group, while 150 containers a second are created. `ELAPSE_SOAK=1` does it 200 times,
/// each after 1 to 5 seconds.
#[test]
fn ctrl_c_while_containers_are_created_costs_no_result_and_fails_no_record() {
    let test = "ctrl_c_while_containers_are_created_costs_no_result_and_fails_no_record";
    if !can_be_live(test) {
        return;
    }
    let (runs, latest) = if std::env::var_os("ELAPSE_SOAK").is_some() { (200, 5.0) } else { (5, 2.5) };
    let (dir, worker) = (scratch("interrupt-soak"), worker_name());
    let text = live(
        &worker,
        "30s",
        "cpus = 0.1\nduration = '1ms'\nbehaviour = 'sleep'\nload = { constant = '150/s' }",
    );
    std::fs::write(dir.join("s.toml"), text).expect("a scenario");
    let mut rng = Seed::new(u64::from(std::process::id())).named("ctrl-c").draw(Purpose::Arrival, 0);
    let kept = dir.join("out.interrupted");
    for run in 1..=runs {
        let after = Duration::from_secs_f64(rng.random_range(1.0..latest));
        let mut child = started(&["live", "s.toml", "--out", "out", "--force", "--no-plots"], &dir);
        sleep(after);
        kill_process_group(Pid::from_child(&child), Signal::INT).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), Some(130), "run {run} after {after:?}");
        assert!(kept.join("summary.json").exists() && !dir.join("out").exists(), "run {run} after {after:?}");
        let (rows, failed) = records(&kept);
        assert!(rows > 0 && failed.is_empty(), "run {run} after {after:?}: {rows} rows, {failed:?}");
        assert_eq!(leftovers_of(&worker), Vec::<String>::new(), "run {run} after {after:?}");
        std::fs::remove_dir_all(&kept).expect("it is removed");
    }
}
