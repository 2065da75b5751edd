//! Makes a scenario that differs smaller, as long as it still differs.

use crate::compare::{Outcome, Rings, compare};
use crate::generate::{Load, Scenario, Source};
use elapse_model::plan::{Contention, FOREVER, FunctionPlan, Plan, Queue};
use std::path::Path;

/// The smallest found, and how it differs.
pub fn shrink(scenario: Scenario, how: String, rings: &mut Rings, folder: &Path) -> (Scenario, String) {
    let mut best = (scenario, how);
    let mut goes_on = true;
    while goes_on {
        goes_on = false;
        for smaller in simpler(&best.0).into_iter().chain(fewer(&best.0)).chain(shorter(&best.0)) {
            if let Outcome::Differs(how) = compare(&smaller, rings, folder)
                && !how.starts_with("the program said")
            {
                best = (smaller, how);
                goes_on = true;
                break;
            }
        }
    }
    best
}

/// With a limit or a policy less.
fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let changes: [fn(&mut Plan); 15] = [
        |p| p.workers = 1,
        |p| p.controller.reports = None,
        |p| p.controller.delay = 0,
        |p| p.model.removal = 0,
        |p| p.worker.memory = None,
        |p| p.worker.queue_timeout = None,
        |p| p.worker.queue_limit = None,
        |p| p.worker.max_creating = None,
        |p| p.worker.queue = Queue::Fifo,
        |p| p.worker.late = false,
        |p| p.worker.by_app = false,
        |p| p.worker.measured = false,
        |p| p.worker.timeout = 300_000_000_000,
        |p| p.worker.keep_alive = FOREVER,
        |p| {
            p.model.contention = Contention::None;
            p.worker.cores = None;
        },
    ];
    let mut all = Vec::new();
    for change in changes {
        let mut smaller = scenario.clone();
        change(&mut smaller.plan);
        if smaller.plan != scenario.plan {
            all.push(smaller);
        }
    }
    all
}

/// With a function less, or with one that is given less.
fn fewer(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let Source::Loads(_) = &scenario.source else { return all };
    for function in 0..scenario.plan.functions.len() {
        let mut smaller = scenario.clone();
        if let Source::Loads(loads) = &mut smaller.source
            && scenario.plan.functions.len() > 1
        {
            smaller.plan.functions.remove(function);
            loads.functions.remove(function);
            all.push(smaller);
        }
        let changes: [fn(&mut FunctionPlan, &mut Load); 8] = [
            |f, _| f.concurrency = 1,
            |f, _| f.prewarm = 0,
            |f, _| f.keep_alive = None,
            |f, _| f.timeout = None,
            |f, _| f.deadline = None,
            |f, _| f.gpu = false,
            |f, _| f.cpus = 1000,
            |_, load| (load.failure, load.memory_used) = (0, None),
        ];
        for change in changes {
            let mut smaller = scenario.clone();
            if let Source::Loads(loads) = &mut smaller.source {
                change(&mut smaller.plan.functions[function], &mut loads.functions[function]);
            }
            if smaller != *scenario {
                all.push(smaller);
            }
        }
    }
    all
}

/// With fewer calls: without each one of a trace, or with the first ones of a load.
fn shorter(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    match &scenario.source {
        Source::Trace => {
            let n = scenario.plan.calls.len();
            let mut size = n / 2;
            while size > 0 {
                for from in (0..n).step_by(size) {
                    let mut smaller = scenario.clone();
                    smaller.plan.calls.drain(from..(from + size).min(n));
                    smaller.plan.ticks_begin = smaller.plan.calls.first().map_or(0, |call| call.arrival);
                    if !smaller.plan.calls.is_empty() {
                        all.push(smaller);
                    }
                }
                size /= 2;
            }
        }
        Source::Loads(loads) => {
            for invocations in [loads.invocations / 2, loads.invocations * 3 / 4, loads.invocations - 1] {
                let mut smaller = scenario.clone();
                if let Source::Loads(loads) = &mut smaller.source
                    && invocations > 0
                {
                    loads.invocations = invocations;
                    all.push(smaller);
                }
            }
        }
    }
    all
}
