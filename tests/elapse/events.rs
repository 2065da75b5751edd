//! What workers tell of themselves: events add up to the figures of a run, in their order, and hearing them changes nothing.

use crate::common::{figure, plan};
use elapse::base::Time;
use elapse::prelude::{Observer, WorkerEvent};
use elapse::worker::event::{Fate, Lack};
use elapse::{Finished, Run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Keeps what it hears.
#[derive(Clone, Default)]
struct Heard(Rc<RefCell<Vec<(u16, Time, WorkerEvent)>>>);

struct Ear(u16, Heard);

impl Observer for Ear {
    fn observe(&mut self, at: Time, event: &WorkerEvent) {
        self.1.0.borrow_mut().push((self.0, at, *event));
    }
}

/// A run with everything in it: a fleet, little memory and few cores, late dispatch, limits, failures, prewarming.
const CROWDED: &str = r#"
name = "crowded"
duration = "120s"
[worker]
count = 2
cores = 3
memory = "1GiB"
keep_alive = "4s"
dispatch = "late"
max_creating = 2
queue = { policy = "fifo-skip", limit = 6, timeout = "2s" }
timeout = "3s"
[model]
cold_start = { uniform = { low = "100ms", high = "900ms" } }
creation_failure = 0.1
[[function]]
name = "small"
memory = "128MiB"
duration = { exponential = { mean = "600ms" } }
failure = 0.1
prewarm = 1
load = { poisson = "4/s" }
[[function]]
name = "large"
memory = "512MiB"
duration = { exponential = { mean = "900ms" } }
load = { poisson = "1/s" }
"#;

fn hear(text: &str) -> (Finished, Vec<(u16, Time, WorkerEvent)>) {
    let heard = Heard::default();
    let ear = heard.clone();
    let run = Run::new(plan(text)).checked(true).observe(move |worker| Ear(worker, ear.clone()));
    let finished = run.simulate().unwrap_or_else(|e| panic!("{e}"));
    (finished, heard.0.take())
}

#[test]
fn events_add_up_to_the_figures_of_the_run() {
    let (finished, heard) = hear(CROWDED);
    let count = |is: &dyn Fn(&WorkerEvent) -> bool| heard.iter().filter(|(_, _, e)| is(e)).count() as f64;
    let retired =
        |fate: Fate| move |e: &WorkerEvent| matches!(e, WorkerEvent::Retired { why, .. } if *why == fate);
    let created = count(&|e| matches!(e, WorkerEvent::CreationBegan { .. }));
    // The whole run is heard, its figures are of the window; here all but the end lies in it.
    let sums = [
        ("invocations", count(&|e| matches!(e, WorkerEvent::Arrived { .. }))),
        ("dropped", count(&|e| matches!(e, WorkerEvent::Refused { .. }))),
        ("containers_created", created),
        ("evictions", count(&retired(Fate::Evicted))),
        ("prewarm_attempts", count(&|e| matches!(e, WorkerEvent::PrewarmAttempted { .. }))),
    ];
    for (name, heard) in sums {
        assert!(
            (figure(&finished, name) - heard).abs() <= 2.0,
            "{name}: {heard} heard, {} told",
            figure(&finished, name)
        );
        assert!(heard > 0.0, "nothing is heard of {name}");
    }
    let lacks = |what: Lack| count(&move |e| matches!(e, WorkerEvent::Waits { lacks, .. } if *lacks == what));
    assert!(lacks(Lack::Cores) > 0.0 && lacks(Lack::Memory) > 0.0 && lacks(Lack::Creations) > 0.0);
    // Who makes room is somebody who came to that worker.
    for (worker, _, event) in &heard {
        if let WorkerEvent::Retired { why: Fate::Evicted, by, .. } = event {
            let by = by.expect("somebody needs the room");
            let came =
                |e: &WorkerEvent| matches!(e, WorkerEvent::Arrived { invocation, .. } if *invocation == by);
            assert!(heard.iter().any(|(w, _, e)| w == worker && came(e)), "{by} makes room and never came");
        }
    }
}

#[test]
fn each_invocation_is_told_once_and_in_order() {
    let (_, heard) = hear(CROWDED);
    assert!(heard.windows(2).all(|pair| pair[0].1 <= pair[1].1), "instants go back");
    // One that a worker refuses comes to the next one.
    let mut stages: BTreeMap<(u16, u64), Vec<&'static str>> = BTreeMap::new();
    for (worker, _, event) in &heard {
        let (invocation, stage) = match *event {
            WorkerEvent::Arrived { invocation, .. } => (invocation, "arrived"),
            WorkerEvent::Waits { invocation, joins: true, .. } => (invocation, "waits"),
            WorkerEvent::Refused { invocation, .. } => (invocation, "refused"),
            WorkerEvent::Dispatched { invocation, .. } => (invocation, "dispatched"),
            WorkerEvent::Started { invocation, .. } => (invocation, "started"),
            WorkerEvent::Ended { invocation, .. } => (invocation, "ended"),
            WorkerEvent::Released { invocation, .. } => (invocation, "released"),
            WorkerEvent::Returned { invocation, .. } => (invocation, "returned"),
            _ => continue,
        };
        stages.entry((*worker, invocation)).or_default().push(stage);
    }
    let order = ["arrived", "waits", "refused", "dispatched", "started", "ended", "released", "returned"];
    let place = |stage: &str| order.iter().position(|known| *known == stage);
    for (invocation, stages) in &stages {
        assert!(stages.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{invocation:?}: {stages:?}");
        assert_eq!(stages[0], "arrived");
        let served = stages.contains(&"dispatched");
        assert_ne!(served, stages.contains(&"refused"), "{invocation:?}: {stages:?}");
        assert_eq!(
            served,
            stages.contains(&"released") || stages.last() != Some(&"returned"),
            "{invocation:?}: {stages:?}"
        );
    }
}

#[test]
fn hearing_and_checking_change_nothing() {
    let plain = Run::new(plan(CROWDED)).simulate().expect("a run");
    let (heard, _) = hear(CROWDED);
    assert_eq!(plain.summary.result_hash, heard.summary.result_hash);
    assert_eq!(plain.event_hash, heard.event_hash);
    assert_eq!(plain.summary.json(), heard.summary.json());
}
