//! Policies from outside that hear events and are called at times of their own.

use crate::common::{figure, plan};
use elapse::Run;
use elapse::base::{Duration, FunctionId, Time};
use elapse::prelude::{Eviction, Observer, QueuePolicy, WorkerEvent};
use elapse::worker::event::Fate;
use elapse::worker::eviction::Idle;
use elapse::worker::queue::Joining;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The shortest first, but each second of waiting makes an invocation a second shorter.
#[derive(Clone)]
struct Aging {
    now: Time,
    /// How often it ranks anew.
    every: Option<Duration>,
}

impl QueuePolicy for Aging {
    fn name(&self) -> &str {
        "aging"
    }

    fn rank(&mut self, joining: &Joining) -> f64 {
        let expected = joining.expected.unwrap_or(Duration::ZERO).as_secs_f64();
        // Twice: what joins later is not as old.
        expected - 2.0 * self.now.max(joining.at).since(joining.at).as_secs_f64()
    }

    fn every(&self) -> Option<Duration> {
        self.every
    }

    fn tick(&mut self, at: Time) {
        self.now = at;
    }
}

/// One core with more to do than it can: short calls all the time, and now and then a long one.
const BUSY: &str = r#"
name = "busy"
duration = "60s"
[worker]
cores = 1
memory = "4GiB"
[[function]]
name = "long"
memory = "128MiB"
duration = "3s"
load = { constant = "0.1/s" }
[[function]]
name = "short"
memory = "128MiB"
duration = "200ms"
load = { constant = "4.5/s" }
"#;

#[test]
fn a_queue_ranks_anew_when_its_policy_wants_to() {
    let longest = |every: Option<Duration>| {
        let run = Run::new(plan(BUSY)).checked(true).queue(Aging { now: Time::ZERO, every });
        let finished = run.simulate().unwrap_or_else(|e| panic!("{e}"));
        figure(&finished, "queue_ms.max")
    };
    let (never, each_second) = (longest(None), longest(Some(Duration::from_secs(1))));
    // Without ageing a long one waits for as long as there are short ones.
    assert!(each_second < 0.7 * never, "{each_second} ms, {never} ms without ageing");
}

/// Evicts whom the fewest executions began of, over the whole run.
#[derive(Clone, Default)]
struct Rarest(Rc<RefCell<BTreeMap<u32, u64>>>);

impl Eviction for Rarest {
    fn name(&self) -> &str {
        "rarest"
    }

    fn priority(&mut self, idle: &Idle) -> f64 {
        self.0.borrow().get(&idle.function.0).copied().unwrap_or(0) as f64
    }

    fn hears(&self) -> bool {
        true
    }

    fn hear(&mut self, _at: Time, event: &WorkerEvent) {
        if let WorkerEvent::Started { function, .. } = event {
            *self.0.borrow_mut().entry(function.0).or_default() += 1;
        }
    }

    fn every(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
}

/// Which functions' containers made room.
#[derive(Clone, Default)]
struct Evicted {
    of: BTreeMap<u64, FunctionId>,
    all: Rc<RefCell<Vec<u32>>>,
}

impl Observer for Evicted {
    fn observe(&mut self, _at: Time, event: &WorkerEvent) {
        match *event {
            WorkerEvent::CreationBegan { container, function, .. } => {
                self.of.insert(container, function);
            }
            WorkerEvent::Retired { container, why: Fate::Evicted, .. } => {
                self.all.borrow_mut().push(self.of[&container].0);
            }
            _ => {}
        }
    }
}

/// Three of four functions have a container at a time. The one that is called most keeps its own, where the policy counts, unless it
/// alone is idle; by age it goes as often as others.
#[test]
fn an_eviction_policy_hears_what_it_counts() {
    let text = r#"
name = "rare"
duration = "200s"
[worker]
cores = "unlimited"
memory = "384MiB"
[model]
cold_start = "10ms"
[[function]]
name = "often"
memory = "128MiB"
duration = "10ms"
load = { poisson = "1/s" }
[[function]]
name = "rare"
count = 3
memory = "128MiB"
duration = "10ms"
load = { poisson = "1.8/s" }
"#;
    let evicted_by = |counts: bool| {
        let evicted = Evicted::default();
        let hears = evicted.clone();
        let run = Run::new(plan(text)).checked(true).observe(move |_| hears.clone());
        let run = if counts { run.eviction(Rarest::default()) } else { run };
        let finished = run.simulate().unwrap_or_else(|e| panic!("{e}"));
        let all = evicted.all.borrow();
        assert_eq!(all.len() as f64, figure(&finished, "evictions"));
        all.iter().filter(|function| **function == 0).count()
    };
    let (by_count, by_age) = (evicted_by(true), evicted_by(false));
    assert!(by_age > 20 && 2 * by_count < by_age, "{by_count} by count, {by_age} by age");
}
