//! One contract, every backend: what a worker relies on holds for the simulated one and for each way to run real
//! containers.

mod common;

use common::containers::{Bench, benches};
use elapse::backend::{CallFault, Create, Sandbox};
use elapse::base::{Behaviour, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem, Time};
use elapse::rt;
use std::rc::Rc;

const MIB: u64 = 1 << 20;

fn spec(name: &str, behaviour: Behaviour) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name, Mem(128 * MIB));
    spec.program.behaviour = Some(behaviour);
    spec.cold_start = Some(Dist::constant(Duration::from_millis(3)));
    spec
}

fn create(nth: u64) -> Create {
    Create { function: FunctionId(0), memory: Mem(128 * MIB), cpus: Cpus::from_cores(1), nth, gpu: None }
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
        rt::sleep(Duration::from_millis(if bench.is_real() { 1500 } else { 1 })).await;
    });
}
