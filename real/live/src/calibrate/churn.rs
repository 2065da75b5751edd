//! A small load in which containers come and go: what things do to each other though a processor is to spare.
//!
//! Two clients call short functions, each in a warm container or in one that is created in the place of another, as under
//! evictions. What an execution takes beyond what it takes alone it has lost to what began beside it: the kernel puts what wakes on
//! a processor that is busy, beside one that idles, and parts the two when it balances next.

use super::experiment::{Bench, quantiles};
use elapse::backend::{Crowding, Measured, Sandbox};
use elapse::base::{Behaviour, Dist, Duration, Fault, Result, Time};
use elapse::rt;
use elapse::rt::chance::{Purpose, RngStream, Seed};
use rand::RngExt;
use std::cell::RefCell;
use std::rc::Rc;

/// Clients, and containers for them.
const CLIENTS: u64 = 2;
const CONTAINERS: usize = 6;
/// How long executions are meant to take, in ms.
const SPANS: std::ops::Range<f64> = 5.0..50.0;
/// The mean pause of a client between two calls.
const THINKS: Duration = Duration::from_millis(20);
/// Fewer than this say nothing of a distribution.
const ENOUGH: usize = 5;

/// A call of a client.
#[derive(Clone, Copy, Debug)]
struct Event {
    /// When it began: with the removal of another container, if it was cold.
    begun: Time,
    /// When its container's creation began, if it was cold.
    creation: Option<Time>,
    /// When it began to execute.
    executes: Time,
    ended: Time,
    intended: Duration,
}

impl Event {
    fn executes_at(&self, at: Time) -> bool {
        self.executes < at && at < self.ended
    }

    /// What it takes beyond its intended duration, in ns.
    fn beyond(&self) -> f64 {
        self.ended.since(self.executes).0 as f64 - self.intended.0 as f64
    }
}

/// What a load of this kind has shown.
pub(super) struct Churn {
    events: Vec<Event>,
    /// Processors that executions get together when there are more of them than processors.
    effective: f64,
}

/// Has two clients make four times so many calls each.
///
/// # Errors
/// What of it failed.
pub(super) async fn churn(bench: &Bench, rounds: u32, effective: f64) -> Result<Churn> {
    let mut sandboxes = Vec::new();
    for _ in 0..CONTAINERS {
        sandboxes.push(bench.create().await?);
    }
    let (idle, events) = (Rc::new(RefCell::new(sandboxes)), Rc::new(RefCell::new(Vec::new())));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (bench, idle, events) = (bench.clone(), Rc::clone(&idle), Rc::clone(&events));
            let rng = Seed::new(1).named("churn").draw(Purpose::Generate, client);
            rt::spawn(async move { run(&bench, &idle, &events, 4 * rounds, rng).await })
        })
        .collect();
    for client in clients {
        client.await.map_err(|e| Fault::bug(e.to_string()))??;
    }
    for sandbox in idle.take() {
        bench.backend.remove(sandbox).await;
    }
    Ok(Churn { events: events.take(), effective })
}

async fn run(
    bench: &Bench,
    idle: &RefCell<Vec<Sandbox>>,
    events: &RefCell<Vec<Event>>,
    calls: u32,
    mut rng: RngStream,
) -> Result<()> {
    for _ in 0..calls {
        let pause = -rng.random_range(f64::EPSILON..1.0).ln() * THINKS.0 as f64;
        rt::sleep(Duration::from_nanos_f64(pause)).await;
        let intended = Duration::from_nanos_f64(rng.random_range(SPANS) * 1e6);
        let taken = rng.random_range(0..idle.borrow().len());
        let mut sandbox = idle.borrow_mut().swap_remove(taken);
        let begun = rt::now();
        let mut creation = None;
        if rng.random_bool(0.5) {
            bench.backend.remove(sandbox).await;
            creation = Some(rt::now());
            sandbox = bench.create().await?;
        }
        let executes = rt::now();
        bench.call(sandbox, Behaviour::Spin, intended).await?;
        events.borrow_mut().push(Event { begun, creation, executes, ended: rt::now(), intended });
        idle.borrow_mut().push(sandbox);
    }
    Ok(())
}

impl Churn {
    /// Adds what it has shown to what was measured of a backend.
    ///
    /// # Errors
    /// If nothing was measured.
    pub(super) fn tell(&self, measured: &mut Measured) -> Result<()> {
        let (mut alone, mut beginning, mut execution, mut creation) = (vec![], vec![], vec![], vec![]);
        let (mut cold_starts, mut removals) = (vec![], vec![]);
        for event in &self.events {
            let beside = |at: Time| self.events.iter().any(|other| other.executes_at(at));
            if let Some(created) = event.creation {
                if beside(created) {
                    cold_starts.push(event.executes.since(created));
                }
                if beside(event.begun) {
                    removals.push(created.since(event.begun));
                }
            }
            // What began while it executed; the execution that follows a creation is part of that.
            let colds =
                self.events.iter().filter(|e| e.creation.is_some() && event.executes_at(e.begun)).count();
            let begins = self.events.iter().filter(|e| event.executes_at(e.executes)).count();
            let follow = self.events.iter().filter(|e| {
                e.creation.is_some() && event.executes_at(e.begun) && event.executes_at(e.executes)
            });
            let lost = event.beyond() - self.shared(event);
            match (beside(event.executes), colds, begins - follow.count()) {
                (false, 0, 0) => alone.push(lost),
                (true, 0, 0) => beginning.push(lost),
                (false, 0, 1) => execution.push(lost),
                (false, 1, 0) => creation.push(lost),
                _ => {}
            }
        }
        let usual = alone.iter().sum::<f64>() / alone.len().max(1) as f64;
        let dist = |lost: Vec<f64>| match lost.len() {
            0..ENOUGH => Ok(Dist::constant(Duration::ZERO)),
            _ => {
                quantiles(lost.into_iter().map(|x| Duration::from_nanos_f64((x - usual).max(0.0))).collect())
            }
        };
        measured.crowding = Some(Crowding {
            beginning: dist(beginning)?,
            execution: dist(execution)?,
            creation: dist(creation)?,
        });
        if cold_starts.len() >= ENOUGH && removals.len() >= ENOUGH {
            measured.cold_start_awake = Some(quantiles(cold_starts)?);
            measured.removal_awake = Some(quantiles(removals)?);
        }
        Ok(())
    }

    /// What it had less of the processors while another executed, as those have less together than there are: no loss to what
    /// began.
    fn shared(&self, event: &Event) -> f64 {
        let beside = self.events.iter().filter(|other| other.executes != event.executes);
        let both = beside.map(|other| {
            let from = event.executes.max(other.executes);
            event.ended.min(other.ended).since(from).0 as f64
        });
        both.sum::<f64>() * (1.0 - self.effective / 2.0).max(0.0)
    }
}
