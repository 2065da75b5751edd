//! What the semantics say, on small cases that were once answered otherwise: each with the value that anyone can check by hand.

use elapse::load::{Format, TraceConfig};
use elapse::{Finished, Overrides, Run, Scenario, load_plan};
use serde_json::Value;

fn plan(text: &str) -> Run {
    Run::new(toml::from_str::<Scenario>(text).unwrap())
}

fn run(text: &str) -> Finished {
    plan(text).simulate().unwrap()
}

/// Replays a csv pair with these keys set.
fn replay(name: &str, functions: &str, invocations: &str, keys: &[&str]) -> Finished {
    let folder = std::env::temp_dir().join(format!("elapse-law-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("functions.csv"), functions).unwrap();
    std::fs::write(folder.join("invocations.csv"), invocations).unwrap();
    let base = Scenario::replay("law".into(), TraceConfig::new(Format::Csv, vec![folder.clone()]));
    let mut overrides = Overrides::default();
    keys.iter().for_each(|key| overrides.set(key).unwrap());
    let finished = Run::new(load_plan(None, Some(base), &overrides).unwrap()).simulate();
    std::fs::remove_dir_all(&folder).unwrap();
    finished.unwrap()
}

fn value(run: &Finished, path: &str) -> Value {
    path.split('.').fold(run.summary.json(), |v, key| v[key].clone())
}

fn figure(run: &Finished, path: &str) -> f64 {
    value(run, path).as_f64().unwrap_or_else(|| panic!("{path}: {:?}", value(run, path)))
}

fn figures<const N: usize>(run: &Finished, paths: [&str; N]) -> [f64; N] {
    paths.map(|path| figure(run, path))
}

/// The records of a run, as rows by column.
fn records(text: &str, name: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let out = std::env::temp_dir().join(format!("elapse-law-{name}-{}", std::process::id()));
    plan(text).plots(false).write_to(&out, false).simulate().unwrap();
    let rows =
        csv::Reader::from_path(out.join("records.csv")).unwrap().deserialize().map(Result::unwrap).collect();
    std::fs::remove_dir_all(&out).unwrap();
    rows
}

fn ms(row: &std::collections::BTreeMap<String, String>, column: &str) -> f64 {
    let arrival: u64 = row["arrival_unix_ns"].parse().unwrap();
    let offset: u64 = row[column].parse().unwrap();
    (arrival - 1_704_067_200_000_000_000 + offset) as f64 / 1e6
}

#[test]
fn the_window_is_that_of_the_load_whatever_returns_when() {
    let one = "name = 'dur'\nduration = '600s'\n[worker]\nmemory = '1GiB'\nkeep_alive = '60s'\n[model]\ncold_start = '0ms'\n\
               [[function]]\nname = 'f'\nmemory = '128MiB'\nduration = '100ms'\nload = { constant = '1/h' }\n";
    let paths =
        ["virtual_seconds", "expirations", "containers_left", "gb_seconds.cached", "memory_mb.mean_cached"];
    assert_eq!(figures(&run(one), paths), [600.0, 1.0, 0.0, 7.5, 12.8]);
    assert_eq!(figure(&run(one), "offered_load"), 0.000167);
    // It goes on until what arrived inside has returned, and counts none of that time.
    let late = run(
        "name = 'late'\nduration = '10s'\n[worker]\nmemory = '1GiB'\n[model]\ncold_start = '0s'\n[[function]]\n\
                    name = 'f'\nmemory = '128MiB'\nduration = '8s'\nload = { constant = '30/min' }\n",
    );
    let paths = ["invocations", "window_seconds", "drain_seconds", "virtual_seconds", "gb_seconds.running"];
    // Five calls of 8 s from 0, 2, 4, 6 and 8 s on: 8 + 8 + 6 + 4 + 2 s of them inside.
    assert_eq!(figures(&late, paths), [5.0, 10.0, 6.0, 16.0, 28.0 / 8.0]);
}

#[test]
fn offered_load_is_what_arrives_over_the_length_of_the_load() {
    let qt = run(
        "name = 'qt'\nduration = '10s'\n[worker]\ncores = 1\nmemory = '4GiB'\nqueue = { timeout = '1s' }\n[[function]]\n\
                  name = 'f'\nmemory = '128MiB'\nduration = '1s'\nload = { constant = '2/s' }\n",
    );
    assert_eq!(figure(&qt, "offered_load"), 2.0);
    let f = "name,memory_mb,cold_ms,warm_ms\nf,128,0,1000\n";
    let two = replay("two", f, "time_ms,function,duration_ms\n0,f,1000\n1,f,1000\n", &["worker.cores=1"]);
    assert_eq!(figures(&two, ["offered_load", "window_seconds"]), [1000.0, 0.002]);
    // A load of one has no length.
    let one = replay("one", f, "time_ms,function,duration_ms\n500,f,1000\n", &["worker.cores=1"]);
    assert_eq!(value(&one, "offered_load"), Value::Null);
    assert_eq!(figures(&one, ["window_begin_seconds", "window_seconds", "memory_reads"]), [0.5, 1.0, 2.0]);
}

#[test]
fn what_is_counted_is_of_the_window_alone() {
    let ws = run(
        "name = 'ws'\nduration = '100s'\n[worker]\nmemory = '4GiB'\nkeep_alive = '5s'\n[model]\ncold_start = '1s'\n[measure]\n\
                  warm_up = '50s'\n[[function]]\nname = 'a'\nmemory = '128MiB'\nduration = '100ms'\nload = { constant = '6/min' }\n\
                  [[function]]\nname = 'b'\nmemory = '128MiB'\nduration = '100ms'\nload = { constant = '2/s' }\n",
    );
    let paths = [
        "invocations",
        "cold_starts",
        "containers_at_begin",
        "containers_created",
        "expirations",
        "containers_left",
    ];
    assert_eq!(figures(&ws, paths), [105.0, 5.0, 1.0, 5.0, 5.0, 1.0]);
    assert_eq!(ws.summary.workers[0].counts.invocations, 105);
    // A window in which nothing arrives is told, and is no fault.
    let empty = run(
        "name = 'w'\nduration = '10s'\n[worker]\nmemory = '1GiB'\n[measure]\nwarm_up = '20s'\n[[function]]\nname = 'f'\n\
                     memory = '128MiB'\nduration = '3s'\nload = { constant = '1/s' }\n",
    );
    assert_eq!(figure(&empty, "invocations"), 0.0);
    assert!(value(&empty, "remarks").to_string().contains("Nothing arrives in the window"));
}

#[test]
fn the_last_point_of_the_metrics_is_that_of_the_end() {
    let rows: String = (0..6).map(|day| format!("{},f,10\n", day * 86_400_000u64)).collect();
    let f = "name,memory_mb,cold_ms,warm_ms\nf,128,0,10\n";
    let days =
        replay("days", f, &format!("time_ms,function,duration_ms\n{rows}"), &["worker.keep_alive=600s"]);
    let series = &days.summary.workers[0].series;
    let column = series.columns().names.iter().position(|name| name == "invocations").unwrap();
    let (at, row) = series.points().last().unwrap();
    assert_eq!((row[column], at.as_secs_f64()), (6.0, 6.0 * 86_400.0));
}

#[test]
fn shared_processors_are_never_more_than_there_are() {
    for fraction in [0.1, 0.3, 0.5, 0.7, 0.9, 1.0] {
        let busy = run(&format!(
            "name = 'busy'\nduration = '1000s'\n[worker]\ncores = 1\nmemory = 'unlimited'\nkeep_alive = 'forever'\n[model]\n\
             cold_start = '0s'\ncontention = 'shared'\ncpu_fraction = {fraction}\n[[function]]\nname = 'f'\nmemory = '128MiB'\n\
             duration = '1s'\nload = {{ closed = {{ clients = 64 }} }}\n"
        ));
        let [cores, peak, throughput] = figures(&busy, ["busy_cores.mean", "busy_cores.peak", "throughput"]);
        assert!(peak <= 1.0 && cores > 0.99, "{fraction}: {cores} of 1, at most {peak}");
        assert!(
            throughput * fraction <= 1.0 && throughput * fraction > 0.93,
            "{fraction}: {throughput} a second"
        );
    }
    let storm = run(
        "name = 'storm'\nduration = '10s'\ninvocations = 100\n[worker]\ncores = 1\nmemory = 'unlimited'\n[model]\n\
                     cold_start = '1s'\ncontention = 'shared'\n[[function]]\nname = 'f'\ncount = 100\nmemory = '128MiB'\nduration = '0s'\n\
                     load = { constant = '100/s' }\n",
    );
    // A hundred creations at one instant, each half a second of one processor.
    assert_eq!(figure(&storm, "latency_ms.max"), 50_000.0);
}

#[test]
fn overload_is_told_under_sharing_as_under_permits() {
    let over = |contention: &str| {
        run(&format!(
            "name = 'over'\nduration = '300s'\n[worker]\ncores = 1\nmemory = 'unlimited'\nkeep_alive = 'forever'\ntimeout = 'forever'\n\
             [model]\ncold_start = '0s'\ncontention = '{contention}'\n[[function]]\nname = 'f'\nmemory = '128MiB'\n\
             duration = {{ exponential = {{ mean = '100ms' }} }}\nload = {{ poisson = '15/s' }}\n"
        ))
    };
    let [shared, permits] = ["shared", "permits"].map(over);
    assert_eq!(
        (value(&shared, "unstable"), value(&permits, "unstable")),
        (Value::from(true), Value::from(true))
    );
    assert_eq!(value(&shared, "offered_load"), value(&permits, "offered_load"));
}

#[test]
fn clients_that_are_refused_wait_a_moment_and_a_clock_that_stands_still_is_told() {
    let drop = run(
        "name = 'drop'\nduration = '2s'\n[worker]\nmemory = '1GiB'\ncores = 1\nqueue = { limit = 1 }\n[[function]]\n\
                    name = 'f'\nmemory = '128MiB'\nduration = '1s'\ncold_start = '0s'\nload = { closed = { clients = 3 } }\n",
    );
    // One executes, one waits, and the third asks a thousand times a second.
    assert_eq!(figure(&drop, "dropped"), 2000.0);
    let zero = plan(
        "name = 'zero'\nduration = '10s'\n[worker]\nmemory = '1GiB'\n[model]\ncold_start = '0ms'\n[[function]]\n\
                     name = 'f'\nmemory = '128MiB'\nduration = '0ms'\nload = { closed = { clients = 1 } }\n",
    );
    let why = zero.simulate().err().unwrap();
    assert_eq!(why.kind().exit_code(), 2);
    assert!(why.to_string().contains("function 'f'") && why.to_string().contains("think"), "{why}");
}

#[test]
fn fifo_skip_lets_one_pass_one_of_its_own_app() {
    let rows = records(
        "name = 'skip'\nseed = 128490\nduration = '30s'\ninvocations = 4\n[worker]\nmemory = 'unlimited'\nkeep_alive = 'forever'\n\
         unit = 'app'\ncores = 2.0\nqueue = { policy = 'fifo-skip' }\n[[function]]\nname = 'f0'\napp = 'a1'\nmemory = '128MiB'\n\
         duration = '100ms'\ncold_start = '100ms'\nload = { poisson = '0.5/s' }\n[[function]]\nname = 'f1'\napp = 'a1'\ncpus = 2\n\
         memory = '128MiB'\nduration = { exponential = { mean = '1000ms' } }\n\
         cold_start = { lognormal = { median = '1000ms', sigma = 0.8 } }\nload = { poisson = '0.5/s' }\n",
        "skip",
    );
    let third = rows.iter().find(|r| r["invocation"] == "3").unwrap();
    assert_eq!(ms(third, "dispatch_ns"), 2483.454413);
}

#[test]
fn late_waiters_take_every_place_that_frees_up_in_order() {
    let rows = records(
        "name = 'late'\nduration = '20s'\n[worker]\nmemory = 'unlimited'\ndispatch = 'late'\nunit = 'app'\n[model]\ncold_start = '60s'\n\
         [[function]]\nname = 'warm'\napp = 'a'\nmemory = '128MiB'\nconcurrency = 2\nprewarm = 1\ncold_start = '0s'\n\
         duration = '100s'\nload = { closed = { clients = 1, think = '0s' } }\n[[function]]\nname = 'short'\napp = 'a'\n\
         memory = '128MiB'\nconcurrency = 2\nduration = '2s'\nload = { constant = '12/min' }\n[[function]]\nname = 'third'\napp = 'a'\n\
         memory = '128MiB'\nconcurrency = 2\nduration = '100ms'\nload = { poisson = '0.7/s' }\n",
        "late",
    );
    let second = rows.iter().find(|r| r["invocation"] == "2").unwrap();
    assert_eq!((ms(second, "exec_start_ns"), second["start_kind"].as_str()), (2000.0, "late"));
}

#[test]
fn creations_that_fail_for_others_leave_nobody_waiting() {
    let hang = run(
        "name = 'hang'\ninvocations = 6\n[worker]\nmemory = 'unlimited'\ndispatch = 'late'\n[model]\ncold_start = '300ms'\n\
                    creation_failure = 0.9\n[prewarm]\nattempts = 4\n[[function]]\nname = 'f'\nmemory = '64MiB'\nduration = '10ms'\n\
                    prewarm = 4\nload = { poisson = '3/s' }\n",
    );
    assert_eq!(figure(&hang, "completed") + figure(&hang, "failed"), 6.0);
}

#[test]
fn an_apps_container_has_the_most_that_one_of_its_functions_needs() {
    let memory = run(
        "name = 'memory'\nduration = '60s'\n[worker]\nmemory = '1GiB'\nunit = 'app'\n[model]\ncold_start = '0s'\n\
                      [[function]]\nname = 'small'\napp = 'a'\nmemory = '64MiB'\nduration = '10ms'\nload = { constant = '1/s' }\n\
                      [[function]]\nname = 'large'\napp = 'a'\nmemory = '1GiB'\nmemory_used = '900MiB'\nduration = '500ms'\n\
                      load = { poisson = '1/s' }\n",
    );
    assert_eq!(
        figures(&memory, ["memory_mb.peak_used", "containers_created", "failed", "in_flight.peak"]),
        [1024.0, 1.0, 0.0, 1.0]
    );
    let gpu = run(
        "name = 'gpu'\nduration = '20s'\n[worker]\nmemory = 'unlimited'\ngpus = 1\nunit = 'app'\n[model]\ncold_start = '0s'\n\
                   [[function]]\nname = 'cpu'\napp = 'a'\nmemory = '128MiB'\nduration = '100ms'\nload = { constant = '1/s' }\n\
                   [[function]]\nname = 'gpu'\napp = 'a'\ncompute = 'gpu'\nmemory = '128MiB'\nduration = '10s'\nload = { poisson = '2/s' }\n",
    );
    assert_eq!(figures(&gpu, ["containers_created", "in_flight.peak"]), [1.0, 1.0]);
    let differ = plan(
        "name = 'differ'\nduration = '1s'\n[worker]\nmemory = '1GiB'\nunit = 'app'\n[[function]]\nname = 'f'\napp = 'a'\n\
                       memory = '64MiB'\nduration = '1ms'\nload = { constant = '1/s' }\n[[function]]\nname = 'g'\napp = 'a'\nimage = 'other'\n\
                       memory = '64MiB'\nduration = '1ms'\n",
    );
    let why = differ.simulate().err().unwrap().to_string();
    assert!(why.contains("its image differs from that of 'f'"), "{why}");
}

#[test]
fn a_deadline_on_the_instant_of_the_turn_has_passed() {
    let f = "name,memory_mb,cold_ms,warm_ms\nx,128,0,100\nb,128,0,10\nq,128,0,10\n";
    let one = "time_ms,function,duration_ms\n0,x,200\n50,x,200\n100,x,10\n";
    let keys = ["worker.cores=1", "worker.queue.timeout=300ms"];
    assert_eq!(figures(&replay("tie", f, one, &keys), ["completed", "dropped"]), [2.0, 1.0]);
    let two = "time_ms,function,duration_ms\n0,b,10\n500,x,10\n1000,x,200\n1100,b,10\n1150,q,200\n";
    let keys = ["worker.cores=1", "worker.queue.timeout=300ms", "worker.queue.policy=sjf"];
    assert_eq!(figures(&replay("tie-sjf", f, two, &keys), ["completed", "dropped"]), [4.0, 1.0]);
}

#[test]
fn slowdown_is_over_those_that_were_meant_to_take_time() {
    let run = run(
        "name = 'slowdown'\ninvocations = 1000\nduration = '1h'\n[worker]\nmemory = 'unlimited'\nkeep_alive = 'forever'\n\
                   [model]\ncold_start = '0s'\n[[function]]\nname = 'f'\nmemory = '64MiB'\nduration = { empirical = ['0ms', '100ms'] }\n\
                   load = { poisson = '1/s' }\n",
    );
    let paths = ["geometric_mean_slowdown", "geometric_mean_p99_slowdown", "jain_index", "slowdown.mean"];
    assert_eq!(figures(&run, paths), [1.0; 4]);
}

#[test]
fn a_fleets_peak_is_that_of_its_sum_and_no_worker_stays_idle_beside_a_queue() {
    let f = "name,memory_mb,cold_ms,warm_ms\na,1000,0,10\n";
    let rows = "time_ms,function,duration_ms\n0,a,1000\n100000,a,1000\n";
    let keys =
        ["worker.count=2", "controller.balancer=round-robin", "worker.keep_alive=1s", "worker.memory=4GiB"];
    let peak = replay("peak", f, rows, &keys);
    let paths = [
        "memory_mb.peak_used",
        "memory_mb.peak_running",
        "memory_mb.peak_cached",
        "busy_cores.peak",
        "in_flight.peak",
    ];
    assert_eq!(figures(&peak, paths), [1000.0, 1000.0, 1000.0, 1.0, 1.0]);
    let hot = run(
        "name = 'hot'\nduration = '600s'\n[worker]\ncount = 5\ncores = 1\nmemory = '4GiB'\n[controller]\nbalancer = 'locality'\n\
                   [model]\ncold_start = '100ms'\n[[function]]\nname = 'hot'\nmemory = '128MiB'\nduration = '500ms'\n\
                   load = { poisson = '9.5/s' }\n",
    );
    assert_eq!(value(&hot, "unstable"), Value::from(false));
    assert!(hot.summary.workers.iter().all(|w| w.counts.invocations > 500));
}

#[test]
fn a_report_makes_no_controller_know_less() {
    let queue = |reports: &str| {
        let run = run(&format!(
            "name = 'rp'\nduration = '100s'\n[worker]\ncount = 4\ncores = 8\nmemory = 'unlimited'\nkeep_alive = 'forever'\n[controller]\n\
             balancer = 'least-loaded'\ndelay = '50ms'\nreports = '{reports}'\n[model]\ncold_start = '0s'\n[[function]]\nname = 'f'\n\
             memory = '1MiB'\nduration = {{ exponential = {{ mean = '70ms' }} }}\nload = {{ poisson = '400/s' }}\n"
        ));
        figure(&run, "queue_ms.mean")
    };
    // Messages overtake nobody, so what reports tell is what returns have told already.
    let none = queue("0s");
    assert_eq!([queue("10ms"), queue("100ms")], [none, none]);
}

#[test]
fn containers_are_charged_what_was_measured_of_them_while_they_are_idle() {
    let run = |accounting: &str| {
        run(&format!(
            "name = 'measured'\nduration = '60s'\n[worker]\nmemory = '1GiB'\ncores = 1\naccounting = '{accounting}'\nkeep_alive = 'forever'\n\
             [model]\ncold_start = '1s'\n[[function]]\nname = 'f'\ncount = 8\nmemory = '512MiB'\nmemory_used = '64MiB'\nduration = '100ms'\n\
             load = {{ constant = '4/s' }}\n"
        ))
    };
    let (reserved, measured) = (run("reserved"), run("measured"));
    // Two reserved containers fit; eight measured ones, of which one runs: 512 + 7 x 64.
    let paths = ["cold_starts", "evictions", "memory_mb.peak_used", "memory_mb.peak_cached"];
    let [cold, evictions, used, cached] = figures(&measured, paths);
    assert_eq!([cold, evictions, cached], [8.0, 0.0, 512.0]);
    assert!((960.0..=1024.0).contains(&used), "{used}");
    assert!(figure(&reserved, "cold_starts") > 20.0 && figure(&reserved, "memory_mb.peak_used") == 1024.0);
}

#[test]
fn times_of_a_calendar_begin_with_their_first_arrival() {
    let f = "name,memory_mb,cold_ms,warm_ms\nf,128,0,100\n";
    let rows = "time_ms,function,duration_ms\n1700000000000,f,100\n1700000001000,f,100\n";
    let run = replay("epoch", f, rows, &[]);
    assert_eq!(run.summary.facts.start_unix_ns, 0);
    assert_eq!(figures(&run, ["window_begin_seconds", "window_seconds", "offered_load"]), [1.7e9, 2.0, 0.1]);
    assert!(run.summary.workers[0].series.len() <= 3, "ticks begin where the load does");
}
