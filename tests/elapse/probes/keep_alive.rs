//! Keep-alive policies that are asked each time: against a loop over gaps, with containers created again, and with the books kept.

use crate::common::{figure, plan};
use elapse::Run;
use elapse::base::{Duration, FunctionId, Member, Time};
use elapse::rt::chance::{Purpose, RngStream, Seed};
use elapse::worker::keep_alive::{self, Keep, KeepAlive, Rested};
use rand::RngExt;
use std::cell::RefCell;
use std::rc::Rc;

fn random(seed: u64) -> RngStream {
    Seed::new(seed).named("probe").draw(Purpose::Jitter, 0)
}

/// A policy of a closure.
#[derive(Clone)]
struct Says(Rc<dyn Fn(&Rested) -> Keep>);

impl KeepAlive for Says {
    fn name(&self) -> &str {
        "says"
    }

    fn keep(&mut self, rested: &Rested) -> Keep {
        (self.0)(rested)
    }
}

fn says(what: impl Fn(&Rested) -> Keep + 'static) -> Says {
    Says(Rc::new(what))
}

/// One function whose calls arrive at these instants (ms), 1 ms long, created in 1 ms, on a worker without limits.
fn calls(name: &str, arrivals: &[u64]) -> Run {
    let folder = crate::common::scratch(name);
    let rows: String = arrivals.iter().map(|at| format!("{at},f,1\n")).collect();
    std::fs::write(folder.join("invocations.csv"), format!("time_ms,function,duration_ms\n{rows}"))
        .expect("a file");
    std::fs::write(folder.join("functions.csv"), "name,memory_mb,cold_ms,warm_ms\nf,128,1,1\n")
        .expect("a file");
    let trace = folder.display().to_string();
    Run::new(plan(&format!(
        "name = 'x'\n[worker]\nmemory = 'unlimited'\n[trace]\nformat = 'csv'\npath = '{trace}'\n"
    )))
}

/// A container is warm up to its span and not at it, whatever the span is each time.
#[test]
fn a_container_is_warm_for_as_long_as_the_policy_said_when_it_became_idle() {
    let mut rng = random(18);
    for round in 0..40 {
        let mut at = 0;
        let arrivals: Vec<u64> = (0..300)
            .map(|_| {
                at += rng.random_range(5..200);
                at
            })
            .collect();
        // The span is the rest of the instant at which it becomes idle: any, and often the gap itself.
        let span = |at_ms: u64| (at_ms * 7919 + round) % 150;
        let policy = says(move |rested| {
            Keep::only(Duration::from_millis((rested.at.0 / 1_000_000 * 7919 + round) % 150))
        });
        let run = calls("spans", &arrivals).keep_alive(policy).simulate().expect("a run");
        // By the definition: at its arrival the last call's container is there if the gap since it became idle is below the span.
        let (mut cold, mut idle) = (0, None);
        for at in &arrivals {
            let warm = idle.is_some_and(|(since, span)| *at < since + span);
            cold += u64::from(!warm);
            let ends = at + 1 + u64::from(!warm);
            idle = Some((ends, span(ends)));
        }
        assert_eq!(figure(&run, "cold_starts"), cold as f64, "round {round}");
        assert_eq!(figure(&run, "warm_starts"), (300 - cold) as f64);
    }
}

/// A container that goes soon and is created again shortly before the next call: every call but the first finds one, for a part of the
/// memory-time; a call that comes before that instant calls it off.
#[test]
fn a_container_is_created_again_ahead_of_the_next_call() {
    let every_ten: Vec<u64> = (0..50).map(|n| n * 10_000).collect();
    let policy = || {
        says(|rested| match rested.prewarmed {
            true => Keep::only(Duration::from_secs(2)),
            false => Keep { span: Duration::ZERO, again: Some(Duration::from_secs(9)) },
        })
    };
    let ahead = calls("ahead", &every_ten).keep_alive(policy()).simulate().expect("a run");
    assert_eq!((figure(&ahead, "cold_starts"), figure(&ahead, "prewarmed_starts")), (1.0, 49.0));
    assert!(ahead.summary.methods().contains("idle containers as says says"), "{}", ahead.summary.methods());
    let kept = calls("kept", &every_ten).simulate().expect("a run");
    assert_eq!(figure(&kept, "cold_starts"), 1.0);
    let held = |run| figure(run, "gb_seconds.cached");
    assert!(held(&ahead) < 0.15 * held(&kept), "{} of {}", held(&ahead), held(&kept));
    // Each call comes 5 s after the last: the instant at which one was wanted again never comes.
    let every_five: Vec<u64> = (0..50).map(|n| n * 5_000).collect();
    let called_off = calls("off", &every_five).keep_alive(policy()).simulate().expect("a run");
    assert_eq!((figure(&called_off, "cold_starts"), figure(&called_off, "prewarm_attempts")), (50.0, 0.0));
    // What nobody calls is not created for ever.
    let once = calls("once", &[0]).keep_alive(policy());
    let once = once.simulate().expect("a run");
    assert!(figure(&once, "prewarm_attempts") <= 1.0);
}

/// Hears of arrivals in order, each once, whoever serves them.
#[test]
fn a_policy_hears_of_every_arrival() {
    #[derive(Clone, Default)]
    struct Hears(Rc<RefCell<Vec<(u32, u64)>>>);
    impl KeepAlive for Hears {
        fn name(&self) -> &str {
            "hears"
        }

        fn arrived(&mut self, function: FunctionId, _sharers: u32, at: Time) {
            self.0.borrow_mut().push((function.0, at.0 / 1_000_000));
        }

        fn keep(&mut self, _rested: &Rested) -> Keep {
            Keep::only(Duration::MAX)
        }
    }
    let hears = Hears::default();
    let arrivals = [3, 3, 4, 70_000, 70_001];
    let run = calls("hears", &arrivals).keep_alive(hears.clone()).simulate().expect("a run");
    assert_eq!(*hears.0.borrow(), arrivals.map(|at| (0, at)));
    assert_eq!((figure(&run, "expirations"), figure(&run, "containers_left")), (0.0, 3.0));
}

/// Whatever a policy says, every invocation ends once, and every container that was created is accounted for.
#[test]
fn the_books_are_kept_whatever_a_policy_says() {
    for seed in 0..30u64 {
        let rng = RefCell::new(random(seed));
        let policy = says(move |_| {
            let mut rng = rng.borrow_mut();
            let span = match rng.random_range(0..4) {
                0 => Duration::ZERO,
                1 => Duration::MAX,
                _ => Duration::from_millis(rng.random_range(0..20_000)),
            };
            let again = rng.random_bool(0.4).then(|| Duration::from_millis(rng.random_range(0..15_000)));
            Keep { span, again }
        });
        let text = format!(
            "name = 'books'\nseed = {seed}\ninvocations = 2000\nduration = '1h'\n[worker]\ncores = 6\nmemory = '2GiB'\nmax_creating = 3\n\
             unit = '{}'\ndispatch = '{}'\nqueue = {{ policy = 'fifo-skip', limit = 60, timeout = '20s' }}\n[[function]]\nname = 'f'\n\
             memory = '200MiB'\ncount = 15\nfailure = 0.05\nconcurrency = {}\nduration = {{ lognormal = {{ median = '900ms', sigma = 1.0 }} }}\n\
             load = {{ poisson = '5/s', zipf = 1.0 }}\n[model]\ncold_start = {{ exponential = {{ mean = '2s' }} }}\nremoval = '50ms'\n\
             creation_failure = 0.1",
            if seed % 3 == 0 { "app" } else { "function" },
            if seed % 2 == 0 { "late" } else { "early" },
            1 + seed % 2,
        );
        let run = Run::new(plan(&text)).plots(false).keep_alive(policy).simulate().expect("a run");
        let sum = |names: &[&str]| names.iter().map(|name| figure(&run, name)).sum::<f64>();
        let ended = ["completed", "failed", "timed_out", "dropped", "lost", "unfinished"];
        assert_eq!(sum(&ended), 2000.0, "seed {seed}");
        let gone =
            ["evictions", "expirations", "containers_failed", "containers_condemned", "containers_left"];
        assert_eq!(sum(&["containers_at_begin", "containers_created"]), sum(&gone), "seed {seed}");
        assert!(figure(&run, "memory_mb.peak_used") <= 2048.0, "seed {seed}");
    }
}

#[test]
fn a_span_is_the_fixed_policy_and_others_are_named() {
    let text = |keep: &str| {
        format!(
            "name = 'x'\ninvocations = 500\nduration = '1h'\n[worker]\nmemory = '8GiB'\nkeep_alive = {keep}\n[[function]]\nname = 'f'\n\
             memory = '128MiB'\ncount = 5\nduration = '100ms'\nload = {{ poisson = '0.5/s' }}\n[model]\ncold_start = '1s'"
        )
    };
    let hash = |keep: &str| Run::new(plan(&text(keep))).simulate().expect("a run").summary.result_hash;
    assert_eq!(hash("'4s'"), hash("{ policy = 'fixed', ttl = '4s' }"));
    assert_eq!(hash("'600s'"), hash("{ policy = 'fixed' }"));
    assert_ne!(hash("'4s'"), hash("'forever'"));
    keep_alive::add(Member::plain("a-tenth", |_| {
        Ok(Box::new(says(|rested| Keep::only(Duration(rested.cold_start.0 / 10)))))
    }))
    .expect("there is none of the name");
    assert_ne!(hash("'a-tenth'"), hash("'4s'"));
    let folder = crate::common::scratch("keeps");
    let file = folder.join("s.toml");
    for (keep, why) in [
        ("600", "s.toml: line 6: '600' is not a duration with its unit in quotes"),
        ("'600'", "keep_alive is '600'; it has no unit"),
        ("'-5s'", "keep_alive is '-5s'; it is negative"),
        ("'fixt'", "unknown keep-alive policy 'fixt'; did you mean 'fixed'?"),
        (
            "{ policy = 'fixed', tll = '4s' }",
            "keep-alive policy 'fixed' has no parameter 'tll'; did you mean 'ttl'?",
        ),
        (
            "{ policy = 'fixed', ttl = 4 }",
            "keep-alive policy 'fixed': ttl: '4' is not a duration with its unit",
        ),
    ] {
        std::fs::write(&file, text(keep)).expect("a file");
        let fault = elapse::load_plan(Some(&file), None, &elapse::Overrides::default()).expect_err(keep);
        assert!(fault.to_string().contains(why), "{keep}: {fault}");
    }
}
