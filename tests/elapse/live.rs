//! Live runs: a user's own programs behind the socket, servers that misbehave, and what is left after every end.

use crate::common::containers::{agent, call, common_of, creation, daemon, ready, spec, worker_name};
use crate::common::{has, plan, program, scratch, wait_until};
use elapse::Interrupt;
use elapse::Run;
use elapse::backend::{Backend, CallFault, Create, LiveConfig};
use elapse::base::{Behaviour, Duration, FunctionId, Invocation};
use elapse::rt::{
    self,
    chance::{Purpose, Seed},
};
use elapse_host::doctor::leftovers_of;
use elapse_host::engine::{Common, Death, Engine, EngineFault, Local, Sandbox, Spec, agent_path};
use elapse_host::process::Processes;
use elapse_host::wire::Address;
use elapse_live::Calibrating;
use elapse_live::backend::Live;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

/// Runs a test with the process engine and this agent; nothing may be left afterwards.
fn on_processes<F: Future<Output = ()>>(agent: &Path, config: LiveConfig, test: impl FnOnce(Rc<Live>) -> F) {
    let worker = worker_name();
    let engine: Rc<dyn Engine> = Rc::new(
        Processes::new(Common { agent: agent_path(Some(agent)), ..common_of(&worker) }).expect("an engine"),
    );
    let runtime = rt::Live::new().expect("a runtime");
    let config = LiveConfig { worker: worker.clone(), ..config };
    runtime.block_on(async { test(Rc::new(Live::new(Rc::clone(&engine), config))).await });
    let left = runtime.block_on(engine.sweep()).expect("a sweep");
    assert!(left.is_empty(), "left on the host: {left:?}");
    assert_eq!(leftovers_of(&worker), Vec::<String>::new());
}

#[test]
fn a_command_for_each_invocation() {
    if !has("process", "a_command_for_each_invocation", agent().exists()) {
        return;
    }
    on_processes(&agent(), LiveConfig::default(), |backend| async move {
        let sandbox = ready(&backend, &spec(Behaviour::Exec, &["cat"], None)).await;
        backend.invoke(sandbox, &call(0)).await.expect("cat succeeds");
        backend.remove(sandbox).await;
        let sandbox = ready(&backend, &spec(Behaviour::Exec, &["false"], None)).await;
        let failed = backend.invoke(sandbox, &call(0)).await.expect_err("false fails");
        assert!(matches!(&failed, CallFault::Function(why) if why.contains("exit status: 1")), "{failed:?}");
        backend.remove(sandbox).await;
    });
}

#[test]
fn a_command_that_needs_too_much_memory_is_told_apart_from_one_that_fails() {
    let test = "a_command_that_needs_too_much_memory_is_told_apart_from_one_that_fails";
    let python = Path::new("/usr/bin/python3").exists();
    if !has("process", test, agent().exists())
        || !has("python3", test, python)
        || !has("root", test, elapse_host::is_root())
    {
        return;
    }
    on_processes(&agent(), LiveConfig::default(), |backend| async move {
        // Twice: the agent outlives its command, and each is told by itself.
        let eats = "b'x' * (600 << 20)";
        let sandbox = ready(&backend, &spec(Behaviour::Exec, &["/usr/bin/python3", "-c", eats], None)).await;
        for _ in 0..2 {
            let failed = backend.invoke(sandbox, &call(0)).await.expect_err("600 MiB do not fit into 256");
            assert_eq!(failed, CallFault::OutOfMemory);
        }
        backend.remove(sandbox).await;
    });
}

#[test]
fn a_users_server_is_joined_to_the_socket() {
    let test = "a_users_server_is_joined_to_the_socket";
    let python = Path::new("/usr/bin/python3").exists();
    if !has("process", test, agent().exists()) || !has("python3", test, python) {
        return;
    }
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("real/python");
    on_processes(&agent(), LiveConfig::default(), |backend| async move {
        let inside = if elapse_host::is_root() { "/code".into() } else { code.display().to_string() };
        let server = format!("{inside}/elapse_server.py");
        let spec = spec(Behaviour::Serve, &["/usr/bin/python3", &server], Some(code));
        let sandbox = ready(&backend, &spec).await;
        let begun = rt::now();
        backend.invoke(sandbox, &call(30)).await.expect("the Python server answers");
        assert!(rt::now().since(begun) >= Duration::from_millis(30));
        let failed = backend.invoke(sandbox, &Invocation { fails: true, ..call(0) }).await;
        assert!(
            matches!(&failed, Err(CallFault::Function(why)) if why.contains("asked to fail")),
            "{failed:?}"
        );
        backend.invoke(sandbox, &call(0)).await.expect("it lives on");
        backend.remove(sandbox).await;
    });
}

/// A scenario as `elapse live` runs it, on a docker that gives out one GPU.
#[test]
fn a_gpu_belongs_to_one_container_at_a_time() {
    let test = "a_gpu_belongs_to_one_container_at_a_time";
    let Some(socket) = daemon("docker", test) else { return };
    let folder = scratch(test);
    let function = |name: &str, start: &str| {
        format!(
            "[[function]]\nname = \"{name}\"\nmemory = \"64MiB\"\nduration = \"100ms\"\nbehaviour = \"echo\"\n\
             compute = \"gpu\"\nload = {{ constant = \"{start}\" }}\n"
        )
    };
    let text = format!(
        "name = \"gpu\"\nduration = \"3s\"\n[worker]\nmemory = \"1GiB\"\ncores = 4\ngpus = 1\nbackends = [\"docker\"]\n[live]\n\
         worker = \"{}\"\nagent = {:?}\ndocker = {socket:?}\n{}{}",
        worker_name(),
        agent(),
        function("first", "1/s"),
        function("second", "1/s")
    );
    let finished =
        elapse_live::live(Run::new(plan(&text)).plots(false).write_to(&folder, true)).expect("a run");
    let summary = finished.summary.json();
    let of = |key: &str| summary[key].as_u64().unwrap_or_default();
    let mut records = csv::Reader::from_path(folder.join("records.csv")).expect("records");
    let columns = records.headers().expect("names").clone();
    let at = |name: &str| columns.iter().position(|c| c == name).expect("a column");
    let rows: Vec<_> = records.records().map(|row| row.expect("a row")).collect();
    assert_eq!((of("invocations"), of("completed"), of("cold_starts")), (6, 6, 6), "{summary}\n{rows:?}");
    // Each needs the only GPU, so each waits for the other and evicts its container. What is admitted late on a slow host
    // is evicted after the end of what is counted.
    let containers: BTreeSet<_> = rows.iter().map(|row| &row[at("container")]).collect();
    assert_eq!(containers.len(), 6, "{rows:?}");
    let number = |row: &csv::StringRecord, name: &str| row[at(name)].parse::<u64>().expect("an instant");
    let since = |row, name| number(row, "arrival_unix_ns") + number(row, name);
    let mut held: Vec<_> = rows.iter().map(|r| (since(r, "dispatch_ns"), since(r, "exec_end_ns"))).collect();
    held.sort_unstable();
    assert!(held.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two at a time: {rows:?}");
    assert!(of("containers_created") - of("evictions") <= 1, "{summary}");
    drop(folder);
}

/// An agent that is a Python script: it gets the listening socket as descriptor 3.
fn bad_agent(name: &str, body: &str) -> PathBuf {
    let path = scratch(&format!("agent-{name}")).join("agent");
    let text = format!(
        "#!/usr/bin/python3\nimport socket, sys, time, os\nready = b'HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n'\n\
         def answer(*answers):\n    s = socket.socket(fileno=3)\n    c, _ = s.accept()\n    for a in answers:\n        c.recv(65536)\n        \
         c.sendall(a)\n    c.close()\n{body}\n"
    );
    std::fs::write(&path, text).expect("an agent");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("an agent");
    path
}

#[test]
fn servers_that_misbehave_are_faults_and_nothing_more() {
    let test = "servers_that_misbehave_are_faults_and_nothing_more";
    if !has("python3", test, Path::new("/usr/bin/python3").exists()) {
        return;
    }
    let config = LiveConfig { create_timeout: Duration::from_millis(1500), ..LiveConfig::default() };
    // (agent, what the creation says; none if it succeeds and the call breaks)
    let cases: [(&str, &str, Option<&str>); 6] = [
        ("silent", "time.sleep(60)", Some("within 1.5s")),
        ("garbage", "answer(b'\\x00\\x01garbage\\r\\n\\r\\n')\ntime.sleep(60)", Some("the connection broke")),
        ("exits", "print('no such option'); sys.exit(3)", Some("it said: no such option")),
        (
            "half",
            "answer(ready, b'HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\nhalf')\ntime.sleep(60)",
            None,
        ),
        ("nonsense", "answer(ready, b'HTTP/1.1 two hundred\\r\\n\\r\\n')\ntime.sleep(60)", None),
        ("dies", "answer(ready, b'')\nos._exit(9)", None),
    ];
    for (name, body, refusal) in cases {
        on_processes(&bad_agent(name, body), config.clone(), |backend| async move {
            backend.admit(FunctionId(0), &spec(Behaviour::Echo, &[], None)).expect("admitted");
            match (backend.create(&creation()).await, refusal) {
                (Err(fault), Some(says)) => assert!(fault.why.contains(says), "{name}: {}", fault.why),
                (Ok(sandbox), None) => {
                    let broken = backend.invoke(sandbox, &call(0)).await;
                    assert!(matches!(broken, Err(CallFault::Broken(_))), "{name}: {broken:?}");
                    backend.remove(sandbox).await;
                }
                (outcome, _) => panic!("{name}: {outcome:?}"),
            }
        });
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason() {
    if !has("process", "what_cannot_be_served_is_refused_with_a_reason", agent().exists()) {
        return;
    }
    let head = "name = 'x'\nduration = '1s'\n[worker]\nmemory = '1GiB'\n";
    let function =
        "[[function]]\nname = 'f'\nmemory = '64MiB'\nduration = '1ms'\nload = { constant = '1/s' }\n";
    let cases = [
        (format!("{head}backends = ['proces']\n{function}"), "did you mean 'process'?"),
        (
            format!("{head}{function}backends = ['docker']\n"),
            "it asks for docker, and the worker has process",
        ),
        (format!("{head}{function}image = 'x/y:1'\n"), "it runs no images"),
        (format!("{head}{function}compute = 'gpu'\n"), "the worker has none; say how many it has"),
        (format!("{head}gpus = 1\n{function}compute = 'gpu'\n"), "it gives out no GPUs"),
        (format!("{head}{function}code = '/no/such/folder'\n"), "is no folder"),
        (
            format!("{head}backends = ['docker']\n{function}[live]\ndocker = '/no/such.sock'\n"),
            "docker does not answer at /no/such.sock",
        ),
    ];
    for (text, says) in cases {
        let mut plan = plan(&text);
        plan.live.worker = worker_name();
        plan.live.agent = Some(agent());
        let fault = elapse_live::live(Run::new(plan)).err().unwrap_or_else(|| panic!("{text} ran"));
        assert!(fault.to_string().contains(says), "{fault}");
    }
}

#[test]
fn a_function_runs_on_the_first_backend_of_its_own_choice() {
    if !has("process", "a_function_runs_on_the_first_backend_of_its_own_choice", agent().exists()) {
        return;
    }
    let folder = scratch("choice");
    let function = |name: &str, rest: &str| {
        format!(
            "[[function]]\nname = '{name}'\nmemory = '64MiB'\nduration = '5ms'\nload = {{ constant = '20/s' }}\n{rest}\n"
        )
    };
    let mut plan = plan(&format!(
        "name = 'x'\nduration = '500ms'\n[worker]\nmemory = '1GiB'\nbackends = ['process', 'simulated']\n[model]\n\
         cold_start = '5ms'\n{}{}{}",
        function("any", ""),
        function("second", "backends = ['simulated', 'process']"),
        function("next", "backends = ['simulated']\nimage = 'x/y:1'"),
    ));
    plan.live.worker = worker_name();
    plan.live.agent = Some(agent());
    let finished =
        elapse_live::live(Run::new(plan).plots(false).write_to(&folder.join("out"), false)).expect("a run");
    assert_eq!(finished.summary.facts.backend, "process and simulated");
    let records = std::fs::read_to_string(folder.join("out/records.csv")).expect("records");
    let ran = |row: &str| records.lines().any(|l| l.contains(row));
    assert!(ran(",any,0,process,") && ran(",second,0,simulated,") && ran(",next,0,simulated,"), "{records}");
    assert!(!ran(",any,0,simulated,") && !ran(",second,0,process,"));
}

/// `elapse live` on a load without an end, under way.
fn started(folder: &Path, worker: &str) -> Child {
    let text = format!(
        "name = 'x'\nduration = '600s'\n[worker]\nmemory = '1GiB'\n[live]\nworker = '{worker}'\nagent = '{}'\n[[function]]\n\
         name = 'f'\nmemory = '64MiB'\nduration = '30ms'\nload = {{ poisson = '40/s' }}\n",
        agent().display()
    );
    std::fs::write(folder.join("s.toml"), text).expect("a scenario");
    let child = Command::new(crate::common::elapse())
        .args(["live", "s.toml", "--out", "out"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("elapse");
    wait_until("a container", || !leftovers_of(worker).is_empty());
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.expect("kill").success());
}

#[test]
fn what_a_killed_worker_leaves_is_cleaned() {
    let test = "what_a_killed_worker_leaves_is_cleaned";
    if !has("process", test, agent().exists() && program("kill"))
        || !has("root", test, elapse_host::is_root())
    {
        return;
    }
    let (folder, worker) = (scratch("killed"), worker_name());
    let mut child = started(&folder, &worker);
    signal(&child, "KILL");
    child.wait().expect("an end");
    assert!(!leftovers_of(&worker).is_empty(), "a killed worker cannot have cleaned up");
    let cleaned = Command::new(crate::common::elapse())
        .args(["clean", "--worker", &worker, "--docker", "/no/such.sock", "--containerd", "/no/such.sock"])
        .output()
        .expect("elapse");
    assert!(cleaned.status.success(), "{}", String::from_utf8_lossy(&cleaned.stderr));
    assert_eq!(leftovers_of(&worker), Vec::<String>::new());
    // What stays is of all workers, and nobody's.
    assert!(Path::new("/run/elapse/uids").exists() && leftovers_of("uids").is_empty());
}

#[test]
fn what_was_measured_is_what_the_simulator_uses() {
    let test = "what_was_measured_is_what_the_simulator_uses";
    if !has("process", test, agent().exists()) {
        return;
    }
    let folder = scratch("calibrate");
    let config = LiveConfig { worker: worker_name(), agent: Some(agent()), ..LiveConfig::default() };
    // Tests share the host with each other: what that spoils is told, and kept.
    let calibrating = Calibrating {
        config: &config,
        backends: &["process".into()],
        rounds: 6,
        force: true,
        interrupt: &Interrupt::default(),
    };
    let (measured, off) = calibrating.run(|_| {}).expect("a calibration");
    let quiet = measured.host.quiet.as_ref().expect("how quiet it was");
    eprintln!("doctor and the rest said {quiet:?}; what does not come out again: {off:?}");
    assert!(quiet.others >= 0.0 && (0.0..=1.0).contains(&quiet.steal), "{quiet:?}");
    std::fs::write(folder.join("host.toml"), toml::to_string(&measured).expect("TOML")).expect("a file");
    let process = &measured.backend["process"];
    assert_eq!(process.cold_start.keys().collect::<Vec<_>>(), ["1", "2", "4"]);
    assert_eq!(process.concurrent.keys().collect::<Vec<_>>(), ["1", "16", "4"]);
    let host = process.processor.expect("what of it is processor time");
    assert!(host.cores > 0.2 && host.creating >= 0.0 && host.removing >= 0.0, "{host:?}");
    // Four executions on two processors take about twice as long; how exactly is this host's business.
    assert!(process.stretch.values().all(|shares| shares.len() == 21 && shares[20] >= shares[0]));
    assert!(
        process.cold_start_busy.is_some() && measured.timer_lateness.is_some() && measured.fsync.is_some()
    );
    // What was measured is read back as it was.
    let path = folder.join("host.toml");
    assert_eq!(elapse::backend::Calibration::read(&path).expect("it is read"), measured);
    let text = format!(
        "name = 'x'\ninvocations = 50\nduration = '60s'\n[worker]\nmemory = '1GiB'\nbackends = ['process']\n[model]\n\
         calibration = '{}'\n[[function]]\nname = 'f'\nmemory = '64MiB'\nduration = '10ms'\nload = {{ constant = '5/s' }}\n",
        folder.join("host.toml").display()
    );
    let finished = crate::common::simulate(&text);
    let cold = crate::common::figure(&finished, "cold_ms.mean");
    let seen = |dist: &elapse::base::Dist| dist.mean() / 1e6;
    // The one cold start is the first, which has a distribution of its own: it is one that was measured, also on a busy host.
    let first = process.first_start.as_ref().unwrap_or(&process.cold_start["1"]);
    let rng = Seed::new(1).named("test");
    let draws = (0..1000).map(|k| first.sample(&mut rng.draw(Purpose::ColdStart, k)).0 as f64 / 1e6);
    let (least, most) = draws.fold((f64::MAX, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
    assert!(cold > 0.99 * least && cold < 1.01 * most, "{cold} of {least} to {most}");
    let beyond = crate::common::figure(&finished, "exec_ms.mean") - 10.0;
    assert!(beyond > 0.0 && beyond < 10.0 * seen(&process.overhead[&Behaviour::Sleep]), "{beyond}");
    // Ten sleeps at once take no processor from each other, though nobody says that they are sleeps.
    let crowd = text.replace("'10ms'", "'100ms'").replace("'5/s'", "'100/s'").replace("= 50", "= 500");
    let stretched = crate::common::figure(&crate::common::simulate(&crowd), "exec_ms.mean") - 100.0;
    assert!(stretched > 0.0 && stretched < 10.0 * seen(&process.overhead[&Behaviour::Sleep]), "{stretched}");
    let other =
        Run::new(plan(&text.replace("['process']", "['docker']"))).simulate().err().expect("not measured");
    assert!(other.to_string().contains("run elapse calibrate --backend docker"), "{other}");
}

/// The test itself is who is at work beside.
#[test]
fn a_host_that_is_busy_is_not_measured() {
    let config = LiveConfig { worker: worker_name(), agent: Some(agent()), ..LiveConfig::default() };
    let calibrating = Calibrating {
        config: &config,
        backends: &["process".into()],
        rounds: 1,
        force: false,
        interrupt: &Interrupt::default(),
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let refused = calibrating.run(|name| panic!("{name} is measured")).err();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        refused.expect("it is busy")
    });
    assert_eq!(refused.kind().exit_code(), 3, "{refused}");
    for part in ["nothing was measured", "processors busy while nothing was measured", "--force"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
}

/// An engine whose containers die at once, and which counts its creations and how many removals it is asked for at a time.
#[derive(Clone, Default)]
struct Counts {
    begun: Rc<Cell<usize>>,
    asked: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    done: Rc<Cell<usize>>,
}

impl Engine for Counts {
    fn name(&self) -> &str {
        "counts"
    }

    fn check(&self, _: &Spec) -> Result<(), EngineFault> {
        Ok(())
    }

    fn prepare<'a>(&'a self, _: Option<&'a str>) -> Local<'a, Result<(), EngineFault>> {
        Box::pin(async { Ok(()) })
    }

    fn create(&self, _: Spec) -> Local<'_, Result<Rc<dyn Sandbox>, EngineFault>> {
        Box::pin(async {
            self.begun.set(self.begun.get() + 1);
            rt::sleep(Duration::from_millis(2)).await;
            Ok(Rc::new(self.clone()) as Rc<dyn Sandbox>)
        })
    }

    fn sweep_but<'a>(&'a self, _: &'a [String]) -> Local<'a, Result<Vec<String>, EngineFault>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl Sandbox for Counts {
    fn address(&self) -> Address {
        Address::Unix("/nobody/listens".into())
    }

    fn memory(&self) -> Option<u64> {
        None
    }

    fn kills(&self) -> u64 {
        0
    }

    fn death(&self) -> Option<Death> {
        Some(Death::Ended("at once".to_string()))
    }

    fn dies(&self) -> Local<'_, Death> {
        Box::pin(async { Death::Ended("at once".to_string()) })
    }

    fn last_words(&self) -> Local<'_, String> {
        Box::pin(async { String::new() })
    }

    fn destroy(&self) -> Local<'_, Result<(), EngineFault>> {
        Box::pin(async {
            self.asked.set(self.asked.get() + 1);
            self.most.set(self.most.get().max(self.asked.get()));
            rt::sleep(Duration::from_millis(2)).await;
            self.asked.set(self.asked.get() - 1);
            self.done.set(self.done.get() + 1);
            Ok(())
        })
    }
}

/// A daemon that was asked for 200 removals at once answered the last of them after a minute, too late.
#[test]
fn an_engine_is_asked_for_few_removals_at_once() {
    let engine = Counts::default();
    let seen = engine.clone();
    rt::Live::new().expect("a runtime").block_on(async move {
        let backend = Live::new(Rc::new(engine), LiveConfig::default());
        backend.admit(FunctionId(0), &spec(Behaviour::Echo, &[], None)).expect("admitted");
        let all = (0..50).map(|nth| backend.create(&Create { nth, ..creation() }));
        for created in futures::future::join_all(all).await {
            assert!(created.expect_err("it dies").why.contains("at once"));
        }
    });
    assert_eq!((seen.done.get(), seen.most.get()), (50, 8));
}

/// A container that was begun behind the sweep at a worker's end left its directory on the host.
#[test]
fn once_closed_a_backend_begins_nothing_and_what_it_had_begun_is_over() {
    let engine = Counts::default();
    let seen = engine.clone();
    rt::Live::new().expect("a runtime").block_on(async move {
        let backend = Live::new(Rc::new(engine.clone()), LiveConfig::default());
        backend.admit(FunctionId(0), &spec(Behaviour::Echo, &[], None)).expect("admitted");
        let asked_before = backend.create(&creation());
        // Nobody waits for this one to the end.
        let given_up = rt::timeout(Duration::from_millis(1), backend.create(&creation())).await;
        assert!(given_up.is_err() && engine.begun.get() == 1 && engine.done.get() == 0);
        backend.close().await;
        assert_eq!(engine.done.get(), 1);
        for late in [asked_before, backend.create(&creation())] {
            let refused = late.await.expect_err("it is closed");
            assert!(!refused.transient && refused.why.contains("the worker ends"), "{}", refused.why);
        }
    });
    assert_eq!((seen.begun.get(), seen.done.get()), (1, 1));
}
