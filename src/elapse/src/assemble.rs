//! Puts a scenario's functions, loads and trace together into one workload.

use super::{Scenario, means};
use crate::base::{Dist, Fault, FunctionId, FunctionSpec, Invocation, Result, Time};
use crate::load::{self, ClosedLoop, Merge, Notes, Per, Source, Workload};
use crate::rt::chance::{Purpose, RngKey, Seed};
use std::cell::RefCell;
use std::rc::Rc;

/// The parts of a workload, put together.
pub struct Assembled {
    /// In the order of their numbers.
    pub functions: Vec<FunctionSpec>,
    /// Containers that are created ahead, of which functions.
    pub prewarm: Vec<(FunctionId, u32)>,
    /// Containers that stand before the first arrival, without a delay.
    pub(crate) standing: Vec<(FunctionId, u32)>,
    /// The first open arrival, which was read to know when it is, and those behind it.
    pub first: Option<Invocation>,
    /// The arrivals after it.
    pub source: Box<dyn Source>,
    /// Loads whose clients wait for their answers.
    pub closed: Vec<ClosedLoop>,
    /// Where the load begins.
    pub(crate) begin: Time,
    /// Where the trace ends, if that is known, and whether somebody cut it there.
    pub(crate) end: Option<Time>,
    pub(crate) cut_by_user: bool,
    /// What virtual time 0 is on the calendar, where the trace says it; ns since 1970.
    pub(crate) epoch: Option<u64>,
    /// The load's end, as far as it is known.
    pub horizon: Option<Time>,
    /// When closed loops end.
    pub until: Time,
    pub(crate) notes: Rc<RefCell<Notes>>,
    pub(crate) load: String,
}

/// Puts them together: the scenario's functions, and its trace or arrivals from outside.
///
/// # Errors
/// A trace that cannot be used, or one beside arrivals from outside.
pub(crate) fn assemble(scenario: &Scenario, outside: Option<Workload>) -> Result<Assembled> {
    let chance = Seed::new(scenario.seed);
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
            let rng = chance.named(&spec.name);
            if config.prewarm > 0 {
                prewarm.push((id, config.prewarm));
            }
            functions.push(spec);
            let Some(load) = &config.load else { continue };
            let profile = config.profile(rng);
            match (&load.closed, load.open(id, shares[i], profile.clone(), until)) {
                (Some(loop_), _) => {
                    let clients = clients_of(loop_.clients, &shares, i);
                    closed.push(ClosedLoop {
                        function: id,
                        clients,
                        think: loop_.think.clone(),
                        retry: loop_.retry,
                        profile,
                        rng,
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
    // Loads begin at time 0; a trace where it says, else with its first row.
    let mut begin = (open > 0 || !closed.is_empty()).then_some(Time::ZERO);
    let (mut end, mut epoch, mut standing) = (None, None, Vec::new());
    let (traced, per, told) = match (&scenario.trace, outside) {
        (Some(_), Some(_)) => {
            return Err(Fault::usage(
                "the run has arrivals of its program's own and a [trace]; leave out one of them",
            ));
        }
        (Some(trace), None) => {
            let format = serde_json::to_value(trace.format).unwrap_or_default();
            let told = format!("a trace ({})", format.as_str().unwrap_or("?"));
            (Some(load::open(trace, scenario.seed)?), trace.cold_start_per, told)
        }
        (None, workload) => (workload, Per::Creation, "arrivals of the program's own".to_string()),
    };
    if let Some(workload) = traced {
        let workload = workload.with_gpus(scenario.worker.gpus);
        let offset = functions.len() as u32;
        begin = begin.or(workload.begin);
        (end, epoch) = (workload.end, workload.epoch);
        standing = workload.prewarm.into_iter().map(|(f, n)| (FunctionId(f.0 + offset), n)).collect();
        functions.extend(workload.functions.into_iter().map(|mut spec| {
            let law = workload.cold_start.as_ref();
            spec.cold_start = spec.cold_start.take().or_else(|| {
                Some(match per {
                    Per::Function => around_a_median(law?, chance.named(&spec.name)),
                    Per::Creation => law?.clone(),
                })
            });
            spec
        }));
        loads.push(told);
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
    let first = source.next()?;
    let begin = begin.or(first.map(|call| call.arrival)).unwrap_or_default();
    let cut_by_user = scenario.trace.as_ref().is_some_and(|t| t.to.is_some());
    Ok(Assembled {
        functions,
        prewarm,
        standing,
        first,
        source,
        closed,
        begin,
        end,
        cut_by_user,
        epoch,
        horizon,
        until,
        notes,
        load,
    })
}

impl Default for Assembled {
    fn default() -> Assembled {
        Assembled {
            functions: Vec::new(),
            prewarm: Vec::new(),
            standing: Vec::new(),
            first: None,
            source: Box::new(Merge::default()),
            closed: Vec::new(),
            begin: Time::ZERO,
            end: None,
            cut_by_user: false,
            epoch: None,
            horizon: None,
            until: Time::MAX,
            notes: Rc::default(),
            load: String::new(),
        }
    }
}

/// A function's own cold starts where a trace has none: its median is drawn from the law for all, and its creations lie around
/// that. A law of one value stays as it is.
fn around_a_median(law: &Dist, rng: RngKey) -> Dist {
    const SIGMA: f64 = 0.2;
    if law.as_constant().is_some() {
        return law.clone();
    }
    Dist::lognormal(law.sample(&mut rng.draw(Purpose::ColdStart, u64::MAX)), SIGMA)
}

/// Whole clients for the i-th of these shares, so that they add up to `clients`.
fn clients_of(clients: u32, shares: &[f64], i: usize) -> u32 {
    let up_to = |n: usize| (f64::from(clients) * shares[..n].iter().sum::<f64>()).round() as u32;
    up_to(i + 1) - up_to(i)
}
