//! The same scenarios simulated and live on processes: who started how, in which container, and how it ended.

use crate::common::containers::{agent, worker_name};
use crate::common::{has, plan, scratch};
use elapse::Run;
use std::fmt::Write;
use std::path::Path;

/// A scenario of single invocations: what the worker is told, functions (name, MB), and rows (ms, function, ms).
struct Case {
    name: &'static str,
    worker: &'static str,
    functions: &'static [(&'static str, u32)],
    rows: &'static [(u32, &'static str, u32)],
}

/// Far enough apart in time that neither a busy host nor a slow creation changes the order of anything.
const CASES: &[Case] = &[
    Case {
        name: "an idle container is used again",
        worker: "memory = '1GiB'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 20), (300, "a", 20), (600, "a", 20)],
    },
    Case {
        name: "a busy one is not",
        worker: "memory = '1GiB'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 500), (200, "a", 20), (900, "a", 20)],
    },
    Case {
        name: "keep-alive ends",
        worker: "memory = '1GiB'\nkeep_alive = '200ms'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 20), (600, "a", 20), (1200, "a", 20)],
    },
    Case {
        name: "keep-alive starts again with every use",
        worker: "memory = '1GiB'\nkeep_alive = '500ms'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 20), (300, "a", 20), (600, "a", 20), (900, "a", 20)],
    },
    Case {
        name: "the most recently used one is chosen",
        worker: "memory = '1GiB'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 400), (100, "a", 700), (1100, "a", 20), (1400, "a", 20)],
    },
    Case {
        name: "lru evicts the longest idle",
        worker: "memory = '128MiB'\neviction = 'lru'",
        functions: &[("a", 64), ("b", 64), ("c", 64)],
        rows: &[
            (0, "a", 20),
            (200, "b", 20),
            (400, "a", 20),
            (600, "c", 20),
            (800, "a", 20),
            (1000, "b", 20),
        ],
    },
    Case {
        name: "ttl evicts the first to expire",
        worker: "memory = '128MiB'\neviction = 'ttl'",
        functions: &[("a", 64), ("b", 64), ("c", 64)],
        rows: &[(0, "a", 20), (200, "b", 20), (400, "c", 20), (600, "b", 20)],
    },
    Case {
        name: "size evicts the largest",
        worker: "memory = '256MiB'\neviction = 'size'",
        functions: &[("small", 64), ("large", 128), ("c", 96)],
        rows: &[(0, "small", 20), (200, "large", 20), (400, "c", 20), (600, "small", 20)],
    },
    Case {
        name: "lfu evicts the least used",
        worker: "memory = '128MiB'\neviction = 'lfu'",
        functions: &[("a", 64), ("b", 64), ("c", 64)],
        rows: &[(0, "a", 20), (150, "a", 20), (300, "b", 20), (450, "c", 20), (600, "a", 20)],
    },
    Case {
        name: "greedy-dual weighs use, size and cost",
        worker: "memory = '192MiB'\neviction = 'greedy-dual'",
        functions: &[("a", 64), ("b", 128), ("c", 128)],
        rows: &[(0, "a", 20), (150, "a", 20), (300, "a", 20), (450, "b", 20), (600, "c", 20), (750, "a", 20)],
    },
    Case {
        name: "strict fifo lets nobody pass",
        worker: "memory = '128MiB'\nqueue = { policy = 'fifo' }",
        functions: &[("a", 64), ("big", 128), ("c", 64)],
        rows: &[(0, "a", 500), (100, "big", 20), (200, "c", 20)],
    },
    Case {
        name: "fifo-skip lets pass who can go",
        worker: "memory = '128MiB'\nqueue = { policy = 'fifo-skip' }",
        functions: &[("a", 64), ("big", 128), ("c", 64)],
        rows: &[(0, "a", 500), (100, "big", 20), (200, "c", 20)],
    },
    Case {
        name: "a full queue drops",
        worker: "memory = '1GiB'\ncores = 1\nqueue = { limit = 1 }",
        functions: &[("a", 64)],
        rows: &[(0, "a", 600), (100, "a", 20), (200, "a", 20), (300, "a", 20)],
    },
    Case {
        name: "who waits too long is dropped",
        worker: "memory = '1GiB'\ncores = 1\nqueue = { timeout = '200ms' }",
        functions: &[("a", 64)],
        rows: &[(0, "a", 700), (100, "a", 20), (900, "a", 20)],
    },
    Case {
        name: "who executes too long is stopped, and its container goes",
        worker: "memory = '1GiB'\ntimeout = '300ms'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 1000), (600, "a", 20), (900, "a", 20)],
    },
    Case {
        name: "one core runs one after the other",
        worker: "memory = '1GiB'\ncores = 1",
        functions: &[("a", 64), ("b", 64)],
        rows: &[(0, "a", 300), (50, "b", 100), (100, "a", 100), (900, "b", 20)],
    },
    Case {
        name: "late dispatch takes what frees up",
        worker: "memory = '1GiB'\ndispatch = 'late'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 300), (600, "a", 20), (900, "a", 20)],
    },
    Case {
        name: "late dispatch within memory for one container",
        worker: "memory = '64MiB'\ndispatch = 'late'",
        functions: &[("a", 64)],
        rows: &[(0, "a", 300), (100, "a", 200), (200, "a", 20)],
    },
    Case {
        name: "one creation at a time",
        worker: "memory = '1GiB'\nmax_creating = 1",
        functions: &[("a", 64), ("b", 64)],
        rows: &[(0, "a", 200), (0, "b", 200), (600, "a", 20), (800, "b", 20)],
    },
    Case {
        name: "earliest deadline first",
        worker: "memory = '1GiB'\ncores = 1\nqueue = { policy = 'edf' }",
        functions: &[("a", 64), ("b", 64)],
        rows: &[(0, "a", 400), (100, "b", 50), (200, "a", 50)],
    },
    Case {
        name: "shortest expected job first",
        worker: "memory = '1GiB'\ncores = 1\nqueue = { policy = 'sjf' }",
        functions: &[("long", 64), ("short", 64)],
        rows: &[(0, "short", 50), (300, "long", 400), (400, "long", 300), (500, "short", 50)],
    },
];

/// (invocation, function, start, status, container), in order of return.
fn sequence(folder: &Path) -> Vec<String> {
    let mut reader = csv::Reader::from_path(folder.join("records.csv")).expect("records");
    let header = reader.headers().expect("a header").clone();
    let place = |name: &str| header.iter().position(|h| h == name).expect("a column");
    let columns = ["invocation", "function", "start_kind", "cold_cause", "status", "container"].map(place);
    let row = |r: csv::StringRecord| columns.iter().map(|c| r[*c].to_string()).collect::<Vec<_>>().join(" ");
    reader.records().map(|r| row(r.expect("a row"))).collect()
}

/// Runs a scenario in both worlds and compares what became of every invocation.
fn compare(name: &str, text: &str) {
    let folder = scratch(&format!("both-{}", worker_name()));
    let mut plan = plan(text);
    plan.live.worker = worker_name();
    plan.live.agent = Some(agent());
    let (simulated, live) = (folder.join("sim"), folder.join("live"));
    let run = || Run::new(plan.clone()).plots(false);
    run().write_to(&simulated, false).simulate().unwrap_or_else(|e| panic!("{name}: {e}"));
    elapse_live::live(run().write_to(&live, false)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (simulated, live) = (sequence(&simulated), sequence(&live));
    assert_eq!(simulated, live, "{name}: simulated against live");
}

fn case(case: &Case) {
    let folder = scratch(&format!("case-{}", worker_name()));
    let mut functions = "name,memory_mb,cold_ms,warm_ms\n".to_string();
    for (name, memory) in case.functions {
        writeln!(functions, "{name},{memory},10,20").expect("a string");
    }
    let mut rows = "time_ms,function,duration_ms\n".to_string();
    for (at, function, duration) in case.rows {
        writeln!(rows, "{at},{function},{duration}").expect("a string");
    }
    std::fs::write(folder.join("functions.csv"), functions).expect("a file");
    std::fs::write(folder.join("invocations.csv"), rows).expect("a file");
    let text = format!(
        "name = 'case'\n[worker]\nbackends = ['process']\n{}\n[trace]\nformat = 'csv'\npath = '{}'\n",
        case.worker,
        folder.display()
    );
    compare(case.name, &text);
}

#[test]
fn every_invocation_meets_the_same_end_in_both_worlds() {
    if !has("process", "every_invocation_meets_the_same_end_in_both_worlds", agent().exists()) {
        return;
    }
    // A few at a time: each is mostly asleep.
    std::thread::scope(|scope| {
        for part in CASES.chunks(CASES.len().div_ceil(4)) {
            scope.spawn(move || part.iter().for_each(case));
        }
    });
}

const HEAD: &str = "name = 'case'\nduration = '1200ms'\n[worker]\nbackends = ['process']\nmemory = '1GiB'\n[model]\n\
                    cold_start = '10ms'\n[[function]]\nname = 'f'\nmemory = '64MiB'\n";

#[test]
fn failures_prewarming_and_concurrency_are_the_same_in_both_worlds() {
    let test = "failures_prewarming_and_concurrency_are_the_same_in_both_worlds";
    if !has("process", test, agent().exists()) || !has("root", test, rustix::process::geteuid().is_root()) {
        return;
    }
    let cases = [
        ("functions that fail", "duration = '20ms'\nfailure = 1.0\nload = { constant = '4/s' }"),
        (
            "containers that use too much memory",
            "duration = '20ms'\nmemory_used = '200MiB'\nbehaviour = 'alloc'\nload = { constant = '3/s' }",
        ),
        ("prewarmed containers", "duration = '20ms'\nprewarm = 2\nload = { constant = '4/s' }"),
        ("two calls in one container", "duration = '350ms'\nconcurrency = 2\nload = { constant = '4/s' }"),
    ];
    for (name, rest) in cases {
        compare(name, &format!("{HEAD}{rest}\n"));
    }
}
