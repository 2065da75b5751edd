//! The worker: one behaviour a test, on scenarios small enough to work out by hand.

mod gives_back;

use crate::common::{figure, plan, simulate};
use elapse::Run;
use elapse::backend::{Backend, Model, Simulated};
use elapse::base::{
    Compute, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem, Record, StartKind, Status, Time,
};
use elapse::metrics::Meter;
use elapse::rt::{self, Options, Sim};
use elapse::worker::{Config, Dispatch, LOOPS, Parts, Retry, Worker};
use std::rc::Rc;

const SEC: Duration = Duration::from_secs(1);

fn config(memory_mb: u64) -> Config {
    Config { memory: Some(Mem::from_mib(memory_mb)), ..Config::default() }
}

fn function(name: &str, memory_mb: u64, cold: Duration) -> FunctionSpec {
    FunctionSpec {
        cold_start: Some(Dist::constant(cold)),
        ..FunctionSpec::new(name, Mem::from_mib(memory_mb))
    }
}

fn call(number: u64, function: u32, span: Duration) -> Invocation {
    let (arrival, function) = (rt::now(), FunctionId(function));
    Invocation { number, function, arrival, intended: span, fails: false, usage: None }
}

fn start(config: Config, model: Model, functions: Vec<FunctionSpec>) -> Worker {
    let backend: Rc<dyn Backend> = Rc::new(Simulated::new(model, Cpus::MAX, 1));
    let meter = Meter::new(config.status, 10_000);
    let window = (Time::ZERO, Time::MAX);
    let backends = vec![backend];
    let parts = Parts {
        number: 0,
        config,
        backends,
        eviction: None,
        queue: None,
        keep_alive: None,
        observers: Vec::new(),
        checked: true,
        meter,
        window,
        seed: 1,
        creations: Default::default(),
    };
    let worker = Worker::start(parts).expect("a worker");
    for spec in functions {
        worker.register(spec).expect("registered");
    }
    worker
}

/// Sends calls at their instants (seconds, function, duration) and returns their records by number.
async fn send(worker: &Worker, calls: &[(f64, u32, f64)]) -> Vec<Record> {
    let mut tasks = Vec::new();
    let start = rt::now();
    for (number, (at, function, span)) in (0u64..).zip(calls) {
        rt::sleep_until_as(rt::Class::Arrival, start + Duration::from_nanos_f64(at * 1e9)).await;
        let call = call(number, *function, Duration::from_nanos_f64(span * 1e9));
        tasks.push(rt::spawn(worker.clone().invoke(call)));
    }
    let mut records = Vec::new();
    for task in tasks {
        records.push(task.await.expect("no panic"));
    }
    records
}

fn in_sim<T: 'static>(test: impl AsyncFnOnce() -> T + 'static) -> T {
    Sim::new(Options::default()).block_on(async move { test().await }).unwrap()
}

fn at(seconds: f64) -> Time {
    Time((seconds * 1e9) as u64)
}

#[test]
fn a_container_is_cached_up_to_its_keep_alive_and_refused_at_it() {
    in_sim(async || {
        let w = start(config(1024), Model::default(), vec![function("f", 128, SEC)]);
        // Cold until 1 s, runs 1 s, idle from 2 s; warm just before 602 s; at its end plus 600 s it is gone.
        let r =
            send(&w, &[(0.0, 0, 1.0), (601.999, 0, 1.0), (1202.999, 0, 1.0), (1804.999 + 1.0, 0, 1.0)]).await;
        let starts: Vec<_> = r.iter().map(|r| r.start.unwrap()).collect();
        assert_eq!(starts, [StartKind::Cold, StartKind::Warm, StartKind::Cold, StartKind::Cold]);
        assert_eq!(r[2].cause.unwrap().word(), "expired");
        assert_eq!((r[0].exec_start, r[0].returned), (Some(at(1.0)), at(2.0)));
        assert_eq!(w.counts().expirations, 2);
    });
}

#[test]
fn the_most_recently_used_container_is_taken_and_the_longest_idle_evicted() {
    in_sim(async || {
        let functions = vec![function("a", 100, SEC), function("b", 100, SEC), function("c", 100, SEC)];
        let w = start(config(300), Model::default(), functions);
        let r = send(
            &w,
            &[(0.0, 0, 1.0), (0.0, 0, 5.0), (10.0, 0, 1.0), (20.0, 1, 1.0), (30.0, 2, 1.0), (40.0, 0, 1.0)],
        )
        .await;
        assert_eq!(r[2].container, r[1].container, "the one used last");
        assert_eq!(r[4].start, Some(StartKind::Cold), "c evicts container 1, the longest idle");
        assert_eq!(r[5].container, r[1].container);
        assert_eq!(w.counts().evictions, 1);
    });
}

#[test]
fn a_gpu_is_held_by_a_container_and_shared_by_those_that_say_how_much_they_need() {
    let gpu = |name: &str, need: Option<u64>| {
        let mut spec = function(name, 100, SEC);
        (spec.program.compute, spec.program.gpu_memory) = (Compute::Gpu, need.map(Mem::from_mib));
        spec
    };
    in_sim(async move || {
        let config = Config { gpus: 1, ..config(10_000) };
        let worker =
            start(config, Model::default(), vec![gpu("a", None), gpu("b", None), function("c", 100, SEC)]);
        // The second waits until the first has finished, and evicts its container; one without a GPU stays.
        let records =
            send(&worker, &[(0.0, 2, 0.5), (2.0, 0, 1.0), (2.1, 1, 1.0), (6.0, 1, 1.0), (6.1, 2, 0.5)]).await;
        let starts: Vec<StartKind> = records.iter().map(|r| r.start.expect("a start")).collect();
        use StartKind::{Cold, Warm};
        assert_eq!(starts, [Cold, Cold, Cold, Warm, Warm]);
        assert_eq!(records[2].dispatch, Some(at(4.0)), "when the first has returned");
        let missing = worker.register(gpu("d", Some(1))).map(drop);
        missing.expect("it names less than one has");
    });
    in_sim(async move || {
        let config = Config { gpus: 2, gpu_memory: Some(Mem::from_mib(8)), ..config(10_000) };
        let worker =
            start(config, Model::default(), vec![gpu("a", Some(5)), gpu("b", Some(3)), gpu("c", None)]);
        let too_much = worker.register(gpu("d", Some(9))).expect_err("no GPU has so much").to_string();
        assert!(too_much.contains("each has 8") && too_much.contains("gpu_memory"), "{too_much}");
        // 5 and 3 share the first, 5 takes of the second, and one that needs all of one waits.
        let records = send(&worker, &[(0.0, 0, 1.0), (0.1, 1, 1.0), (0.2, 0, 3.0), (0.3, 2, 1.0)]).await;
        let dispatched: Vec<Time> = records.iter().map(|r| r.dispatch.expect("dispatched")).collect();
        assert_eq!(dispatched, [at(0.0), at(0.1), at(0.2), at(2.1)]);
    });
    in_sim(async move || {
        let worker = start(config(1_000), Model::default(), vec![function("c", 100, SEC)]);
        let none = worker.register(gpu("a", None)).expect_err("it has none").to_string();
        assert!(none.contains("needs a GPU") && none.contains("[worker] gpus"), "{none}");
    });
}

#[test]
fn strict_fifo_waits_behind_the_head_and_skip_passes_it() {
    let order = |queue: &str| {
        let queue = queue.to_string();
        in_sim(async move || {
            let mut c = config(300);
            c.queue.policy = queue.as_str().into();
            let w = start(c, Model::default(), vec![function("small", 100, SEC), function("big", 250, SEC)]);
            // small runs; big does not fit beside it; the next small has a warm container from 12 s on.
            let r = send(&w, &[(0.0, 0, 1.0), (0.0, 0, 20.0), (5.0, 1, 1.0), (6.0, 0, 1.0)]).await;
            (r[2].dispatch.unwrap(), r[3].dispatch.unwrap(), r[3].start)
        })
    };
    let (big, small, start) = order("fifo");
    assert_eq!((big, small, start), (at(21.0), at(23.0), Some(StartKind::Cold)));
    let (big, small, start) = order("fifo-skip");
    assert_eq!((big, small, start), (at(21.0), at(6.0), Some(StartKind::Warm)));
}

#[test]
fn shortest_job_and_earliest_deadline_first_go_by_what_was_seen() {
    let order = |queue: &str| {
        let queue = queue.to_string();
        in_sim(async move || {
            let mut c = config(100_000);
            (c.queue.policy, c.cores) = (queue.as_str().into(), Some(Cpus::from_cores(1)));
            let mut slow = function("slow", 100, Duration::ZERO);
            slow.deadline = Some(Duration::from_secs(2));
            let w = start(c, Model::default(), vec![slow, function("fast", 100, Duration::ZERO)]);
            let r =
                send(&w, &[(0.0, 0, 9.0), (10.0, 1, 3.0), (20.0, 0, 9.0), (21.0, 0, 9.0), (22.0, 1, 3.0)])
                    .await;
            (r[3].dispatch.unwrap(), r[4].dispatch.unwrap())
        })
    };
    let (slow, fast) = order("sjf");
    assert!(fast < slow, "3 s are shorter than 9 s");
    let (slow, fast) = order("edf");
    assert!(slow < fast, "due at 23 s against 22 + 3 s");
}

#[test]
fn late_dispatch_takes_what_frees_up_first() {
    let records = |dispatch| {
        in_sim(async move || {
            let c = Config { dispatch, ..config(1000) };
            let w = start(c, Model::default(), vec![function("f", 100, Duration::from_secs(10))]);
            let r = send(&w, &[(0.0, 0, 2.0), (11.0, 0, 1.0), (30.0, 0, 5.0)]).await;
            (r[1].clone(), w.counts().containers_created, w.containers_alive())
        })
    };
    let (early, _, _) = records(Dispatch::Early);
    assert_eq!((early.start, early.exec_start), (Some(StartKind::Cold), Some(at(21.0))));
    let (late, created, alive) = records(Dispatch::Late);
    assert_eq!((late.start, late.exec_start), (Some(StartKind::Late), Some(at(12.0))));
    assert_eq!((created, alive), (2, 2), "the one that was created for it is cached");
}

#[test]
fn limits_drop_and_time_out_and_failures_are_told_as_such() {
    in_sim(async || {
        let mut c = config(100);
        (c.queue.limit, c.queue.timeout, c.timeout) =
            (Some(1), Some(Duration::from_secs(5)), Some(Duration::from_secs(8)));
        let w = start(c, Model::default(), vec![function("f", 100, SEC)]);
        let r = send(&w, &[(0.0, 0, 99.0), (1.0, 0, 1.0), (2.0, 0, 1.0), (20.0, 0, 1.0)]).await;
        let told: Vec<_> = r.iter().map(|r| (r.status.word(), r.error.as_deref().unwrap_or(""))).collect();
        let want = [
            ("timed_out", "execution timeout"),
            ("dropped", "queue timeout"),
            ("dropped", "queue full"),
            ("completed", ""),
        ];
        assert_eq!(told, want);
        assert_eq!((r[0].returned, r[1].returned), (at(9.0), at(6.0)));
        assert_eq!(r[3].cause.unwrap().word(), "failure", "what timed out destroyed its container");

        let w = start(config(1000), Model::default(), vec![function("g", 100, SEC)]);
        let failing = Invocation { fails: true, ..call(0, 0, SEC) };
        let failed = w.clone().invoke(failing).await;
        assert_eq!(failed.status, Status::Failed);
        let oom = Invocation { usage: Some(Mem::from_mib(101)), ..call(1, 0, SEC) };
        let oom = w.clone().invoke(oom).await;
        assert_eq!(
            (oom.status, oom.error.as_deref(), oom.start),
            (Status::Failed, Some("oom"), Some(StartKind::Warm))
        );
        let next = w.clone().invoke(call(2, 0, SEC)).await;
        assert_eq!(next.start, Some(StartKind::Cold), "an out-of-memory kill takes the container");
    });
}

#[test]
fn memory_is_read_during_and_after_invocations_and_never_while_idle() {
    in_sim(async || {
        let w = start(config(1000), Model::default(), vec![function("f", 100, SEC)]);
        let mut expected = 0;
        for span_ms in [0u64, 1, 999, 1000, 1001, 2500, 60_000] {
            let r = w.clone().invoke(call(0, 0, Duration::from_millis(span_ms))).await;
            assert_eq!(r.status, Status::Completed);
            expected += 1 + span_ms / 1000;
            assert_eq!(w.counts().memory_reads, expected, "after {span_ms} ms");
        }
        rt::sleep(Duration::from_secs(3600)).await;
        assert_eq!(w.counts().memory_reads, expected, "an idle hour reads nothing");
    });
}

#[test]
fn a_day_with_three_invocations_takes_few_polls() {
    let finished = simulate(
        "name = 'idle'\nduration = '24h'\n[worker]\nmemory = '1GiB'\n[[function]]\nname = 'f'\nmemory = '128MiB'\n\
         duration = '1s'\nload = { constant = '3/d' }\n[model]\ncold_start = '500ms'\n[measure]\nuntil = '24h'\nat_end = 'cut'",
    );
    assert_eq!(figure(&finished, "completed"), 3.0);
    assert_eq!(figure(&finished, "virtual_seconds"), 86_400.0);
    assert!(finished.counters.polls < 100_000, "{:?}", finished.counters);
}

#[test]
fn every_loop_survives_a_panic_and_is_counted() {
    for name in LOOPS {
        in_sim(async move || {
            let mut c = config(200);
            c.queue.timeout = Some(Duration::from_secs(30));
            c.keep_alive = "10s".into();
            let w = start(c, Model::default(), vec![function("f", 100, SEC), function("g", 200, SEC)]);
            assert!(w.inject_panic(name), "there is a loop {name}");
            // Wakes every loop: a long run (memory), a wait (queue), an expiry (reaper), ticks (status).
            let calls = [(0.0, 0, 5.0), (0.5, 1, 1.0), (40.0, 0, 70.0), (41.0, 1, 1.0), (120.0, 0, 1.0)];
            let r = send(&w, &calls).await;
            rt::sleep(Duration::from_secs(30)).await;
            assert_eq!(r[0].status, Status::Completed);
            let told = w.loops();
            let hurt = told.iter().find(|l| l.name == *name).unwrap();
            assert_eq!(hurt.status.restarts, 1, "{name}: {told:?}");
            let panic = hurt.status.last_panic.as_deref().unwrap();
            assert!(panic.contains("injected by a test") && panic.contains("(at "), "{panic}");
            assert!(told.iter().all(|l| l.name == *name || l.status.restarts == 0), "only {name} was hurt");
            assert_eq!(w.snapshot().loop_restarts, 1.0);
            // It does its work again.
            assert_eq!(w.snapshot().containers_cached, 0.0, "the reaper goes on after {name}");
        });
    }
    assert_eq!(LOOPS.len(), 4, "a new loop is tested here as soon as it is named");
}

#[test]
fn prewarm_is_tried_again_while_the_fault_may_pass() {
    in_sim(async || {
        let model = Model { creation_failure: 0.7, ..Model::default() };
        let w = start(config(10_000), model.clone(), vec![function("f", 100, SEC)]);
        let retry = Retry { attempts: 40, ..Retry::default() };
        w.prewarm(FunctionId(0), retry).await.expect("one of 40 succeeds");
        let counts = w.counts();
        assert_eq!(counts.prewarm_failures, counts.prewarm_attempts - 1);
        let first = w.clone().invoke(call(0, 0, SEC)).await;
        let second = w.clone().invoke(call(1, 0, SEC)).await;
        assert_eq!((first.start, second.start), (Some(StartKind::Prewarmed), Some(StartKind::Warm)));

        let model = Model { creation_failure: 1.0, transient: false, ..model };
        let w = start(config(10_000), model, vec![function("f", 100, SEC)]);
        let fault = w.prewarm(FunctionId(0), retry).await.unwrap_err();
        assert_eq!(w.counts().prewarm_attempts, 1, "what will not pass is not tried again: {fault}");
        let r = w.clone().invoke(call(0, 0, SEC)).await;
        assert_eq!(
            (r.status, w.containers_alive()),
            (Status::Failed, 0),
            "a failed creation gives its memory back"
        );
    });
}

#[test]
fn memory_is_held_until_a_removal_is_confirmed() {
    in_sim(async || {
        let model = Model { removal: Dist::constant(Duration::from_secs(3)), ..Model::default() };
        let w = start(config(100), model, vec![function("a", 100, SEC), function("b", 100, SEC)]);
        let r = send(&w, &[(0.0, 0, 1.0), (10.0, 1, 1.0)]).await;
        assert_eq!(r[1].dispatch, Some(at(13.0)));
        assert_eq!(w.memory_use(rt::now()).peaks.used, Mem::from_mib(100));
    });
}

#[test]
fn a_container_takes_as_many_at_once_as_it_may() {
    in_sim(async || {
        let mut f = function("f", 100, SEC);
        f.concurrency = 2;
        let w = start(config(1000), Model::default(), vec![f]);
        let r = send(&w, &[(0.0, 0, 1.0), (5.0, 0, 10.0), (6.0, 0, 2.0), (7.0, 0, 1.0), (9.0, 0, 1.0)]).await;
        let containers: Vec<_> = r.iter().map(|r| r.container.unwrap()).collect();
        assert_eq!(containers[1..3], [1, 1]);
        assert_eq!(containers[3], 2, "the third at once needs another");
        assert_eq!(containers[4], 1, "and there is room again");
    });
}

#[test]
fn every_policy_keeps_the_books_whatever_the_load() {
    for eviction in elapse::worker::eviction::names() {
        for queue in elapse::worker::queue::names() {
            for seed in 1..=3 {
                let text = format!(
                    "name = 'books'\nseed = {seed}\ninvocations = 3000\nduration = '1h'\n[worker]\ncores = 6\nmemory = '2GiB'\n\
                     keep_alive = '40s'\neviction = '{eviction}'\nmax_creating = 3\nqueue = {{ policy = '{queue}', limit = 60, timeout = '20s' }}\n\
                     dispatch = '{}'\n[[function]]\nname = 'f'\nmemory = '200MiB'\ncount = 15\nfailure = 0.05\nprewarm = 1\nconcurrency = {}\n\
                     duration = {{ lognormal = {{ median = '900ms', sigma = 1.0 }} }}\nload = {{ poisson = '7/s', zipf = 1.0 }}\n\
                     [model]\ncold_start = {{ exponential = {{ mean = '2s' }} }}\nremoval = '50ms'\ncreation_failure = 0.1",
                    if seed == 2 { "late" } else { "early" },
                    if seed == 3 { 2 } else { 1 },
                );
                let f = simulate(&text);
                let sum: f64 = Status::ALL.iter().map(|s| figure(&f, s.word())).sum();
                assert_eq!((sum, figure(&f, "invocations")), (3000.0, 3000.0), "{eviction} {queue}");
                assert!(figure(&f, "memory_mb.peak_used") <= 2048.0);
                let made = figure(&f, "containers_created");
                assert!(
                    made >= figure(&f, "evictions")
                        + figure(&f, "expirations")
                        + figure(&f, "containers_left")
                );
                assert_eq!(figure(&f, "loop_restarts"), 0.0);
                let again = simulate(&text);
                assert_eq!(again.summary.json_text(), f.summary.json_text(), "same seed, same bytes");
                assert_eq!(again.event_hash, f.event_hash);
            }
        }
    }
}

#[test]
fn a_policy_from_outside_plugs_in() {
    #[derive(Clone)]
    struct Youngest;
    impl elapse::worker::eviction::Eviction for Youngest {
        fn name(&self) -> &str {
            "youngest"
        }
        fn priority(&mut self, idle: &elapse::worker::eviction::Idle) -> f64 {
            -(idle.since.0 as f64)
        }
    }
    let scenario = plan(
        "name = 'x'\ninvocations = 500\n[worker]\nmemory = '1GiB'\n[[function]]\nname = 'f'\nmemory = '200MiB'\ncount = 20\n\
         duration = '100ms'\nload = { poisson = '2/s' }\n[model]\ncold_start = '200ms'",
    );
    let theirs = Run::new(scenario.clone()).eviction(Youngest).simulate().unwrap();
    let ours = Run::new(scenario).simulate().unwrap();
    assert!(theirs.summary.methods().contains("by youngest"));
    assert_ne!(theirs.summary.result_hash, ours.summary.result_hash);
}

#[test]
fn a_creation_that_ends_lets_the_next_one_begin() {
    in_sim(async || {
        let c = Config { max_creating: 1, ..config(1000) };
        let w = start(c, Model::default(), vec![function("f", 100, SEC)]);
        let r = send(&w, &[(0.0, 0, 10.0), (0.0, 0, 10.0)]).await;
        assert_eq!((r[0].dispatch, r[1].dispatch), (Some(at(0.0)), Some(at(1.0))));
        let mut f = function("f", 100, SEC);
        f.concurrency = 2;
        let w = start(config(100), Model::default(), vec![f]);
        let r = send(&w, &[(0.0, 0, 10.0), (0.0, 0, 10.0)]).await;
        assert_eq!(r[1].dispatch, r[0].exec_start, "there is room in the new container");
    });
}

#[test]
fn a_run_goes_on_to_the_end_of_its_load_and_one_arrival_ends_with_its_return() {
    let base = "name = 'end'\n[worker]\nmemory = '1GiB'\n[model]\ncold_start = '1s'\n";
    let f =
        |load: &str| format!("[[function]]\nname = 'f'\nmemory = '128MiB'\nduration = '1s'\nload = {load}\n");
    let limited = simulate(&format!("invocations = 1\n{base}{}", f("{ constant = '1/h' }")));
    assert_eq!((figure(&limited, "virtual_seconds"), figure(&limited, "expirations")), (2.0, 0.0));
    let closed = simulate(&format!(
        "duration = '10min'\n{base}{}",
        f("{ closed = { clients = 1, think = '1h' } }").replace("'1h'", "'7min'")
    ));
    // The window is the load's ten minutes, whatever its clients do in them.
    assert_eq!((figure(&closed, "invocations"), figure(&closed, "virtual_seconds")), (1.0, 600.0));
}

#[test]
fn what_is_held_when_the_window_opens_counts_in_its_peaks() {
    let run = simulate(
        "name = 'peaks'\ninvocations = 1\n[worker]\nmemory = '1GiB'\nkeep_alive = 'forever'\n[model]\ncold_start = '1s'\n[measure]\n\
         warm_up = '10s'\nuntil = '20s'\nat_end = 'cut'\n[[function]]\nname = 'f'\nmemory = '128MiB'\nduration = '1s'\nload = { constant = '1/h' }",
    );
    assert_eq!(
        (figure(&run, "memory_mb.peak_cached"), figure(&run, "memory_mb.mean_cached")),
        (128.0, 128.0)
    );
}

#[test]
fn work_that_timed_out_uses_no_cores_any_more() {
    let run = simulate(
        "name = 'gone'\nduration = '101s'\n[worker]\ncores = 1\nmemory = '1GiB'\ntimeout = '10s'\n[model]\ncold_start = '0s'\ncontention = 'shared'\n\
         [measure]\nwarm_up = '50s'\n[[function]]\nname = 'long'\nmemory = '128MiB'\nduration = '1h'\nload = { constant = '1/h' }\n\
         [[function]]\nname = 'short'\nmemory = '128MiB'\nduration = '1s'\nload = { constant = '6/min' }",
    );
    assert_eq!(figure(&run, "exec_ms.max"), 1000.0, "alone on its core");
}
