//! Holds what the program did against what the model says.

use crate::generate::{Scenario, Source};
use crate::program;
use elapse_model::plan::{Balancer, Contention, Plan};
use elapse_model::record::Record;
use std::collections::BTreeMap;
use std::path::Path;

/// Where processors are shared the two round differently.
const TOLERANCE_NS: u64 = 1_000;

/// What a comparison came to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Every record is equal.
    Equal,
    /// Rounding decides the order of two events.
    LeftOut,
    /// The first record that differs, with both sides.
    Differs(String),
}

/// The workers' order around each function, as the program hashes them, by function and number of workers.
pub type Rings = BTreeMap<(String, usize), Vec<usize>>;

/// Runs both. The folder is for the scenario's files.
pub fn compare(scenario: &Scenario, rings: &mut Rings, folder: &Path) -> Outcome {
    let (calls, records) = match program::run(scenario, folder) {
        Ok(ran) => ran,
        Err(said) => return Outcome::Differs(format!("the program said: {said}")),
    };
    let mut plan = scenario.plan.clone();
    hand_in_rings(&mut plan, rings, folder);
    match scenario.source {
        Source::Loads(_) => plan.calls = calls,
        Source::Trace if calls != plan.calls => {
            return Outcome::Differs("the program read other calls than were written".into());
        }
        Source::Trace => {}
    }
    let told = elapse_model::run(&plan);
    if told.near {
        return Outcome::LeftOut;
    }
    let first = (0..records.len())
        .filter(|i| !equal(&plan, &records[*i], &told.records[*i]))
        .min_by_key(|i| (told.records[*i].dispatch.or(told.records[*i].returned), *i));
    first.map_or(Outcome::Equal, |i| {
        let call = &plan.calls[i];
        Outcome::Differs(format!(
            "invocation {i} of f{}, at {} ns, for {} ns\n  program: {}\n  model:   {}",
            call.function,
            call.arrival,
            call.duration,
            text(&records[i]),
            text(&told.records[i])
        ))
    })
}

/// The scenario with the calls that the program drew for it, if it drew them.
pub fn equal(plan: &Plan, left: &Record, right: &Record) -> bool {
    let tolerance = if plan.model.contention == Contention::Shared { TOLERANCE_NS } else { 0 };
    let words = |r: &Record| (r.status, r.start, r.cause, r.worker, r.container, r.out_of_memory);
    let instants = |r: &Record| [r.enqueue, r.dispatch, r.exec_start, r.exec_end, r.returned];
    let near = |pair: (Option<u64>, Option<u64>)| match pair {
        (Some(a), Some(b)) => a.abs_diff(b) <= tolerance,
        (a, b) => a == b,
    };
    words(left) == words(right) && instants(left).into_iter().zip(instants(right)).all(near)
}

fn text(r: &Record) -> String {
    let at = |t: Option<u64>| t.map_or("-".to_string(), |t| t.to_string());
    format!(
        "{:?} start {:?} cause {:?} worker {} container {:?} enqueue {} dispatch {} exec {} to {} return {}{}",
        r.status,
        r.start,
        r.cause,
        r.worker,
        r.container,
        at(r.enqueue),
        at(r.dispatch),
        at(r.exec_start),
        at(r.exec_end),
        at(r.returned),
        if r.out_of_memory { " oom" } else { "" }
    )
}

/// Where a function lies among the workers is a matter of a hash, which the design leaves open.
fn hand_in_rings(plan: &mut Plan, known: &mut Rings, folder: &Path) {
    let workers = plan.workers;
    if let Balancer::Locality { rings, .. } = &mut plan.controller.balancer
        && workers > 1
    {
        *rings = plan
            .functions
            .iter()
            .map(|f| {
                let ask = || program::ring(&f.name, workers, folder);
                known.entry((f.name.clone(), workers)).or_insert_with(ask).clone()
            })
            .collect();
    }
}
