//! Several workers behind a controller, simulated: everything is accounted for, and each balancer does what it is for.

use elapse::base::Duration;
use elapse::{Finished, Overrides, Run, load_plan};
use std::path::Path;

fn run(sets: &[&str]) -> Finished {
    let mut overrides = Overrides::default();
    let all = ["worker.count=1", "controller.delay=0s", "controller.reports=0s", "duration=5min"];
    for pair in all.iter().chain(sets) {
        overrides.set(pair).expect("a pair");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/fleet.toml");
    Run::new(load_plan(Some(&file), None, &overrides).expect("a plan")).simulate().expect("a run")
}

fn figure(run: &Finished, path: &[&str]) -> f64 {
    path.iter().fold(&run.summary.json(), |v, key| &v[*key]).as_f64().unwrap_or_else(|| panic!("{path:?}"))
}

#[test]
fn every_invocation_is_accounted_for_on_one_of_the_workers() {
    for balancer in elapse::controller::balancer::names() {
        for more in [
            ["controller.delay=0s", "controller.reports=0s"],
            ["controller.delay=3ms", "controller.reports=2s"],
        ] {
            let set = format!("controller.balancer={balancer}");
            let run = run(&["worker.count=5", &set, more[0], more[1]]);
            let summary = &run.summary;
            assert_eq!(summary.workers.len(), 5, "{balancer}");
            let taken: Vec<u64> = summary.workers.iter().map(|w| w.counts.invocations).collect();
            assert_eq!(taken.iter().sum::<u64>(), summary.invocations(), "{balancer}");
            assert!(taken.iter().all(|n| *n > 0), "{balancer}: {taken:?}");
            assert_eq!(figure(&run, &["completed"]) as u64, summary.invocations(), "{balancer}");
        }
    }
}

#[test]
fn one_worker_behind_a_controller_is_that_worker() {
    let alone = run(&[]);
    for balancer in elapse::controller::balancer::names() {
        let set = format!("controller.balancer={balancer}");
        assert_eq!(run(&[&set]).summary.result_hash, alone.summary.result_hash);
    }
}

#[test]
fn equal_runs_are_equal_and_the_arrivals_do_not_depend_on_the_number_of_workers() {
    let (a, b) = (run(&["worker.count=3"]), run(&["worker.count=3"]));
    assert_eq!((a.summary.result_hash, a.event_hash), (b.summary.result_hash, b.event_hash));
    let many = run(&["worker.count=8"]);
    // The last function's clients wait for their answers; the others' arrivals are what they are.
    let open = |run: &Finished| {
        let functions = run.summary.by_function.iter().take(31);
        functions.map(|f| (f.ended.iter().sum::<u64>(), f.exec_sum)).collect::<Vec<_>>()
    };
    assert_eq!(open(&many), open(&a), "the same arrivals and durations were drawn");
}

/// A function at home on one worker is found warm there; spread over all of them it needs a container on each.
#[test]
fn locality_has_fewer_cold_starts_than_round_robin() {
    let of = |b: &str| run(&["worker.count=6", &format!("controller.balancer={b}")]);
    let (local, turns) = (of("locality"), of("round-robin"));
    let cold = |run: &Finished| figure(run, &["cold_starts"]);
    assert!(1.5 * cold(&local) < cold(&turns), "{} against {}", cold(&local), cold(&turns));
}

#[test]
fn the_network_adds_its_delay_twice() {
    let near = run(&["worker.count=2", "worker.cores=unlimited", "worker.memory=unlimited"]);
    let far = run(&[
        "worker.count=2",
        "worker.cores=unlimited",
        "worker.memory=unlimited",
        "controller.delay=10ms",
        "controller.balancer=round-robin",
    ]);
    let queue = figure(&far, &["queue_ms", "mean"]) - figure(&near, &["queue_ms", "mean"]);
    let overhead = figure(&far, &["overhead_ms", "mean"]) - figure(&near, &["overhead_ms", "mean"]);
    assert!((queue - 10.0).abs() < 1e-6 && (overhead - 10.0).abs() < 1e-6, "{queue} {overhead}");
}

/// Mitzenmacher, 2000: with old reports, who looks idle is overrun; what was sent since must be counted.
#[test]
fn old_reports_make_no_herd() {
    let busy = |reports: &str| {
        let set = format!("controller.reports={reports}");
        let balancer = "controller.balancer=least-loaded";
        let run = run(&["worker.count=4", "worker.cores=2", "worker.memory=unlimited", &set, balancer]);
        let taken: Vec<f64> = run.summary.workers.iter().map(|w| w.counts.invocations as f64).collect();
        let mean = taken.iter().sum::<f64>() / 4.0;
        taken.iter().map(|n| (n / mean - 1.0).abs()).fold(0.0, f64::max)
    };
    let (fresh, old) = (busy("0s"), busy("10s"));
    assert!(fresh < 0.2 && old < 0.3, "{fresh} {old}");
}

#[test]
fn a_cut_run_tells_what_was_on_its_way() {
    let run = run(&["worker.count=3", "controller.delay=50ms", "measure.until=2min", "measure.at_end=cut"]);
    let sum: u64 = run.summary.tally.ended.iter().sum();
    assert_eq!(sum, run.summary.invocations());
    assert!(figure(&run, &["unfinished"]) > 0.0);
    assert_eq!(run.summary.facts.end.0, Duration::from_secs(120).0);
}

#[test]
fn what_cannot_be_meant_is_refused_in_a_sentence() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/fleet.toml");
    let refused = |pair: &str| {
        let mut overrides = Overrides::default();
        overrides.set(pair).expect("a pair");
        let plan = load_plan(Some(&file), None, &overrides).and_then(|plan| Run::new(plan).simulate());
        plan.err().map(|fault| fault.to_string()).unwrap_or_default()
    };
    assert!(refused("controller.balancer=local").contains("did you mean 'locality'?"));
    assert!(refused("worker.count=0").contains("count is 0; it is at least 1"));
    assert!(refused("controller.delays=1s").contains("did you mean 'delay'?"));
}
