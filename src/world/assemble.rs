//! Puts a scenario's functions, loads and trace together into one workload.

use super::{Scenario, means};
use crate::base::{FunctionId, FunctionSpec, Result, Time};
use crate::load::{self, ClosedLoop, Merge, Notes, Source};
use crate::rt::chance::Chance;
use std::cell::RefCell;
use std::rc::Rc;

/// The parts of a workload, put together.
pub(super) struct Assembled {
    pub(super) functions: Vec<FunctionSpec>,
    pub(super) prewarm: Vec<(FunctionId, u32)>,
    pub(super) source: Box<dyn Source>,
    pub(super) closed: Vec<ClosedLoop>,
    pub(super) horizon: Option<Time>,
    pub(super) until: Time,
    pub(super) notes: Rc<RefCell<Notes>>,
    pub(super) load: String,
}

/// Puts them together.
///
/// # Errors
/// A trace that cannot be used.
pub(super) fn assemble(scenario: &Scenario) -> Result<Assembled> {
    let chance = Chance::new(scenario.seed);
    let until = scenario.duration.map_or(Time::MAX, |d| Time(d.0));
    let mut functions = Vec::new();
    let mut prewarm = Vec::new();
    let mut closed = Vec::new();
    let mut merge = Merge::default();
    let mut loads = Vec::new();
    let mut open = 0;
    for config in &scenario.functions {
        let shares = config.load.as_ref().map_or(Vec::new(), |load| load.shares(config.count));
        for (i, spec) in config.specs().into_iter().enumerate() {
            let id = FunctionId(functions.len() as u32);
            let luck = chance.named(&spec.name);
            if config.prewarm > 0 {
                prewarm.push((id, config.prewarm));
            }
            functions.push(spec);
            let Some(load) = &config.load else { continue };
            let profile = config.profile(luck);
            match (&load.closed, load.open(id, shares[i], profile.clone(), until)) {
                (Some(loop_), _) => {
                    let clients = clients_of(loop_.clients, &shares, i);
                    closed.push(ClosedLoop {
                        function: id,
                        clients,
                        think: loop_.think.clone(),
                        retry: loop_.retry,
                        profile,
                        luck,
                    });
                }
                (None, Some(source)) => {
                    open += 1;
                    merge.add(Box::new(source), 0);
                }
                (None, None) => {}
            }
        }
    }
    if open > 0 {
        loads.push(format!("{open} open-loop functions"));
    }
    if !closed.is_empty() {
        loads.push(format!("{} closed-loop clients", closed.iter().map(|c| c.clients).sum::<u32>()));
    }
    let mut horizon = (open > 0 || !closed.is_empty()).then_some(until).filter(|t| *t != Time::MAX);
    let mut notes: Rc<RefCell<Notes>> = Rc::default();
    let mut source: Box<dyn Source> = Box::new(merge);
    if let Some(trace) = &scenario.trace {
        let workload = load::open(trace, scenario.seed)?.with_gpus(scenario.worker.gpus);
        let offset = functions.len() as u32;
        functions.extend(workload.functions.into_iter().map(|mut spec| {
            spec.cold_start = spec.cold_start.or_else(|| workload.cold_start.clone());
            spec
        }));
        loads.push(format!(
            "a trace ({})",
            serde_json::to_value(trace.format).unwrap_or_default().as_str().unwrap_or("?")
        ));
        horizon = workload.horizon.max(horizon);
        notes = workload.notes;
        source = if open > 0 {
            let mut both = Merge::default();
            both.add(source, 0);
            both.add(workload.source, offset);
            Box::new(both)
        } else if offset > 0 {
            let mut shifted = Merge::default();
            shifted.add(workload.source, offset);
            Box::new(shifted)
        } else {
            workload.source
        };
    }
    notes.borrow_mut().remarks.extend(means::cut(scenario));
    let load = loads.join(" and ");
    Ok(Assembled { functions, prewarm, source, closed, horizon, until, notes, load })
}

impl Default for Assembled {
    fn default() -> Assembled {
        Assembled {
            functions: Vec::new(),
            prewarm: Vec::new(),
            source: Box::new(Merge::default()),
            closed: Vec::new(),
            horizon: None,
            until: Time::MAX,
            notes: Rc::default(),
            load: String::new(),
        }
    }
}

/// Whole clients for the i-th of these shares, so that they add up to `clients`.
fn clients_of(clients: u32, shares: &[f64], i: usize) -> u32 {
    let up_to = |n: usize| (f64::from(clients) * shares[..n].iter().sum::<f64>()).round() as u32;
    up_to(i + 1) - up_to(i)
}
