//! One contract, every backend: what a worker relies on holds for the simulated one and for each way to run real
//! containers.

use crate::common::containers::{Bench, agent, bare, benches, common_of, worker_name};
use crate::common::{has, slower};
use elapse::backend::{CallFault, Create, Sandbox};
use elapse::base::{Behaviour, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem, Time};
use elapse::rt;
use elapse_host::engine::Engine;
use elapse_host::process::Processes;
use elapse_host::wire::Address;
use std::io::Write;
use std::rc::Rc;

const MIB: u64 = 1 << 20;

fn spec(name: &str, behaviour: Behaviour) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name, Mem(128 * MIB));
    spec.program.behaviour = Some(behaviour);
    spec.cold_start = Some(Dist::constant(Duration::from_millis(3)));
    spec
}

fn create(nth: u64) -> Create {
    Create {
        function: FunctionId(0),
        memory: Mem(128 * MIB),
        cpus: Cpus::from_cores(1),
        nth,
        gpu: None,
        at_once: false,
    }
}

fn call(number: u64, ms: u64) -> Invocation {
    Invocation {
        number,
        function: FunctionId(0),
        arrival: Time::ZERO,
        intended: Duration::from_millis(ms),
        fails: false,
        usage: None,
    }
}

/// Runs a test on every backend that this machine has.
fn on_all<F: Future<Output = ()> + 'static>(test: &str, run: impl Fn(Rc<Bench>) -> F + Copy + 'static) {
    for bench in benches(test) {
        println!("{test} on {}", bench.name());
        bench.run(run);
    }
}

async fn ready(bench: &Bench, nth: u64) -> Sandbox {
    bench.backend().create(&create(nth)).await.unwrap_or_else(|e| panic!("{}: {}", bench.name(), e.why))
}

#[test]
fn a_container_is_created_runs_invocations_and_is_removed() {
    on_all("a_container_is_created_runs_invocations_and_is_removed", |bench| async move {
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Sleep)).expect("admitted");
        let sandbox = ready(&bench, 0).await;
        for number in 0..3 {
            let begun = rt::now();
            bench.backend().invoke(sandbox, &call(number, 20)).await.expect("completed");
            assert!(rt::now().since(begun) >= Duration::from_millis(20), "{}: too early", bench.name());
        }
        if let Some(used) = bench.backend().memory(sandbox) {
            assert!(used > Mem(0) && used < Mem(128 * MIB), "{}: {used}", bench.name());
        }
        bench.backend().remove(sandbox).await;
    });
}

#[test]
fn an_error_of_the_function_leaves_the_container_as_good_as_before() {
    on_all("an_error_of_the_function_leaves_the_container_as_good_as_before", |bench| async move {
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Spin)).expect("admitted");
        let sandbox = ready(&bench, 0).await;
        let failing = Invocation { fails: true, ..call(0, 2) };
        let answer = bench.backend().invoke(sandbox, &failing).await;
        assert!(matches!(answer, Err(CallFault::Function(_))), "{}: {answer:?}", bench.name());
        bench.backend().invoke(sandbox, &call(1, 2)).await.expect("completed");
        bench.backend().remove(sandbox).await;
    });
}

#[test]
fn more_memory_than_the_limit_is_told_as_out_of_memory() {
    on_all("more_memory_than_the_limit_is_told_as_out_of_memory", |bench| async move {
        if !bench.limits_memory() {
            return;
        }
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Alloc)).expect("admitted");
        let sandbox = ready(&bench, 0).await;
        let within = Invocation { usage: Some(Mem(64 * MIB)), ..call(0, 5) };
        bench.backend().invoke(sandbox, &within).await.expect("within its limit");
        let beyond = Invocation { usage: Some(Mem(300 * MIB)), ..call(1, 5) };
        let answer = bench.backend().invoke(sandbox, &beyond).await;
        assert_eq!(answer, Err(CallFault::OutOfMemory), "{}", bench.name());
        bench.backend().remove(sandbox).await;
    });
}

/// Nothing that a container writes is disk without a limit: where an engine's storage bounds nothing, a function that asks for disk is
/// refused when it is registered.
#[test]
fn disk_is_refused_where_nothing_bounds_it() {
    on_all("disk_is_refused_where_nothing_bounds_it", |bench| async move {
        let mut wants = spec("f", Behaviour::Echo);
        wants.program.writable = Some(Mem(64 * MIB));
        let admitted = bench.backend().admit(FunctionId(0), &wants);
        match (bench.is_real(), &admitted) {
            (true, Err(why)) => assert!(why.contains("has no quotas"), "{}: {why}", bench.name()),
            // Of ours only docker has storage that may.
            (true, Ok(())) => assert_eq!(bench.name(), "docker"),
            (false, _) => assert_eq!(admitted, Ok(())),
        }
    });
}

#[test]
fn calls_in_one_container_run_at_once() {
    on_all("calls_in_one_container_run_at_once", |bench| async move {
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Sleep)).expect("admitted");
        let sandbox = ready(&bench, 0).await;
        let begun = rt::now();
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let bench = Rc::clone(&bench);
                rt::spawn(async move { bench.backend().invoke(sandbox, &call(n, 200)).await })
            })
            .collect();
        for call in calls {
            call.await.expect("no panic").expect("completed");
        }
        let took = rt::now().since(begun);
        assert!(took < Duration::from_millis(1500), "{}: {took} for 8 calls of 200 ms", bench.name());
        bench.backend().remove(sandbox).await;
    });
}

#[test]
fn many_containers_are_created_at_once_and_each_is_its_own() {
    on_all("many_containers_are_created_at_once_and_each_is_its_own", |bench| async move {
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Echo)).expect("admitted");
        let creations: Vec<_> = (0..6)
            .map(|n| {
                let bench = Rc::clone(&bench);
                rt::spawn(async move { ready(&bench, n).await })
            })
            .collect();
        let mut all = Vec::new();
        for creation in creations {
            all.push(creation.await.expect("no panic"));
        }
        let mut distinct = all.clone();
        distinct.sort_by_key(|s| s.0);
        distinct.dedup();
        assert_eq!(distinct.len(), all.len());
        for sandbox in all {
            bench.backend().invoke(sandbox, &call(0, 0)).await.expect("completed");
            bench.backend().remove(sandbox).await;
        }
    });
}

/// Where processors are short they are had in proportion to `cpus`, as the simulator shares them.
#[test]
fn containers_weigh_as_much_as_the_processors_that_they_may_use() {
    on_all("containers_weigh_as_much_as_the_processors_that_they_may_use", |bench| async move {
        if !bench.is_real() || !bench.limits_memory() {
            return;
        }
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Echo)).expect("admitted");
        let mut all = Vec::new();
        for cpus in [500, 1500] {
            let create = Create { cpus: Cpus(cpus), ..create(0) };
            let created = bench.backend().create(&create).await;
            all.push(created.unwrap_or_else(|e| panic!("{}: {}", bench.name(), e.why)));
        }
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let weight =
            |group: &std::path::PathBuf| read(group.join("cpu.shares")).or(read(group.join("cpu.weight")));
        let groups = bench.groups();
        let weights: Vec<u64> = groups.iter().filter_map(weight).collect();
        // What was created ahead, for whoever comes, is beside them.
        let all_of = |wanted: [u64; 2]| wanted.iter().all(|weight| weights.contains(weight));
        assert!(all_of([512, 1536]) || all_of([50, 150]), "{}: {weights:?} of {groups:?}", bench.name());
        for sandbox in all {
            bench.backend().remove(sandbox).await;
        }
    });
}

#[test]
fn what_was_not_admitted_is_not_created_and_what_is_gone_is_broken() {
    on_all("what_was_not_admitted_is_not_created_and_what_is_gone_is_broken", |bench| async move {
        let refused = bench.backend().create(&create(0)).await.expect_err("it was never admitted");
        assert!(!refused.transient, "{}: {}", bench.name(), refused.why);
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Echo)).expect("admitted");
        let sandbox = ready(&bench, 0).await;
        bench.backend().remove(sandbox).await;
        if bench.is_real() {
            let answer = bench.backend().invoke(sandbox, &call(0, 1)).await;
            assert!(matches!(answer, Err(CallFault::Broken(_))), "{}: {answer:?}", bench.name());
        }
    });
}

#[test]
fn a_creation_that_nobody_waits_for_leaves_nothing() {
    on_all("a_creation_that_nobody_waits_for_leaves_nothing", |bench| async move {
        bench.backend().admit(FunctionId(0), &spec("f", Behaviour::Echo)).expect("admitted");
        for n in 0..4 {
            // It is asked for, begun, and dropped at some moment of it.
            let limit = Duration::from_micros(300 + 900 * n);
            if let Ok(Ok(in_time)) = rt::timeout(limit, bench.backend().create(&create(n))).await {
                bench.backend().remove(in_time).await;
            }
        }
        // An engine that is busy with others takes seconds to remove what nobody waits for.
        let wait = if bench.is_real() { 6000.0 * slower() } else { 1.0 };
        rt::sleep(Duration::from_millis(wait as u64)).await;
    });
}

/// Processor seconds that a process has used.
fn used(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}

/// One may use a core and the other half of one: together more than there is, so they have two thirds and one third of it, however much
/// of the core others leave them.
#[test]
#[expect(clippy::disallowed_methods, reason = "this thread waits for other processes")]
fn containers_share_a_core_in_proportion_to_their_processors() {
    let test = "containers_share_a_core_in_proportion_to_their_processors";
    if !has("process", test, agent().exists()) || !has("root", test, elapse_host::is_root()) {
        return;
    }
    // All that this thread starts stays on the core.
    let ours = rustix::thread::sched_getaffinity(None).expect("the cores that are ours");
    let mut core = rustix::thread::CpuSet::new();
    core.set((0..rustix::thread::CpuSet::MAX_CPU).find(|core| ours.is_set(*core)).expect("a core"));
    rustix::thread::sched_setaffinity(None, &core).expect("it is one of ours");
    let worker = worker_name();
    let engine = Processes::new(common_of(&worker)).expect("an engine");
    rt::Live::new().expect("a runtime").block_on(async move {
        let mut all = Vec::new();
        for (id, cpus) in [("whole", 1000), ("half", 500)] {
            let sandbox = engine.create(bare(id, cpus)).await.expect("a sandbox");
            let Address::Unix(path) = sandbox.address() else { panic!("it answers on a socket") };
            let mut stream = std::os::unix::net::UnixStream::connect(path).expect("it listens");
            let call = "POST /invoke?behaviour=spin&duration_ns=60000000000 HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(call.as_bytes()).expect("it is called");
            all.push((sandbox.trace().expect("a process").pid, sandbox, stream));
        }
        let spent = || all.iter().map(|(pid, ..)| used(*pid)).collect::<Vec<_>>();
        let begun = std::time::Instant::now();
        while spent().iter().any(|seconds| *seconds < 0.05) {
            assert!(begun.elapsed().as_secs() < 60, "they do not run");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let before = spent();
        while spent().iter().sum::<f64>() - before.iter().sum::<f64>() < 0.9 {
            assert!(begun.elapsed().as_secs() < 60, "they do not run");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let [whole, half] = [0, 1].map(|i| spent()[i] - before[i]);
        assert!((1.6..2.5).contains(&(whole / half)), "{whole} s and {half} s");
        for (_, sandbox, _) in all {
            sandbox.destroy().await.expect("it goes");
        }
        engine.sweep().await.expect("nothing is left");
    });
    // The thread may be one of other tests as well.
    rustix::thread::sched_setaffinity(None, &ours).expect("they are ours");
}
