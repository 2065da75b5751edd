//! Where the orders of a controller's API meet its fleet.

use super::super::allowed::Allowed;
use super::super::desk::{loop_status, refusal};
use super::super::doors::Token;
use super::super::order::{Answer, Ask};
use super::super::reception::Office;
use super::super::state::{Registered, State, known_functions};
use super::config::{ControllerConfig, OnLoss};
use super::sources::Sources;
use super::workers::Life;
use bytes::Bytes;
use elapse::base::{Duration, Fault, Result, Time, nearest};
use elapse::controller::{Fleet, Health, balancer};
use elapse::load::FunctionConfig;
use elapse::metrics::{CONTROLLER_PATHS, Columns, MEDIA_TYPE, Sink, openmetrics};
use elapse::rt;
use elapse::rt::chance::{Chance, Luck};
use elapse::rt::supervise::{Patience, Pulse, Supervised, supervise};
use elapse::rt::sync::Notify;
use elapse_host::room::Room;
use elapse_live::threads;
use rustc_hash::FxHashSet;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

/// Between two points of its metrics.
pub(super) const STEP: Duration = Duration(1_000_000_000);
/// How long a worker may take for anything but an invocation or a creation.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// How long it may take to register a function: its image may have to be pulled.
pub(super) const REGISTRATION: Duration = Duration::from_secs(900);

/// See the module.
pub(super) struct Desk {
    pub(super) fleet: RefCell<Fleet>,
    pub(super) lives: RefCell<BTreeMap<String, Rc<Life>>>,
    /// Functions as they were registered, by name.
    pub(super) functions: RefCell<BTreeMap<String, Bytes>>,
    /// What workers ask for.
    pub(super) token: Token,
    /// Who is believed of workers at https://.
    pub(super) worker_ca: Option<PathBuf>,
    /// What answers of workers take room of.
    pub(super) room: Room,
    /// Where workers are dialled.
    pub(super) sources: Sources,
    /// What who is bound by them may register.
    pub(super) allowed: Allowed,
    pub(super) lost_after: Duration,
    pub(super) attempts: u32,
    pub(super) attempt_timeout: Duration,
    luck: Luck,
    pub(super) draining: Cell<bool>,
    pub(super) under_way: Cell<u64>,
    /// Told when nothing is under way.
    pub(super) quiet: Notify,
    /// Told when a worker may be lost sooner than was known.
    pub(super) changed: Notify,
    pub(super) counts: Counts,
    /// Functions that are being registered or deregistered.
    pub(super) changing: RefCell<FxHashSet<String>>,
    /// Its background loops.
    watched: RefCell<Vec<(&'static str, Pulse)>>,
    /// The functions that outlive the controller.
    pub(super) state: Option<State>,
}

/// Totals since the start.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) invocations: Cell<u64>,
    pub(super) lost: Cell<u64>,
    pub(super) retries: Cell<u64>,
    pub(super) refused: Cell<u64>,
}

pub(super) fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

impl Desk {
    pub(super) fn new(
        config: &ControllerConfig,
        token: Token,
        state: Option<State>,
        room: Room,
    ) -> Result<Rc<Desk>> {
        let luck = Chance::new(config.seed).named("balancer");
        let balancer = balancer::build(&config.balancer, luck).map_err(Fault::usage)?;
        let written = |f: &FunctionConfig| serde_json::to_vec(f).map_err(|e| Fault::bug(e.to_string()));
        let functions = known_functions(&config.functions, &config.register, &[], state.as_ref());
        let described = |f: Registered| {
            let text = written(&f.config)?;
            Ok((f.config.name, Bytes::from(text)))
        };
        Ok(Rc::new(Desk {
            fleet: RefCell::new(Fleet::new(balancer)),
            lives: RefCell::default(),
            functions: RefCell::new(functions.into_iter().map(described).collect::<Result<_>>()?),
            worker_ca: config.worker_ca_file.clone(),
            room,
            sources: config.sources()?,
            allowed: config.register.clone(),
            token,
            lost_after: config.lost_after,
            attempts: if config.on_loss == OnLoss::Retry { config.attempts } else { 1 },
            attempt_timeout: config.attempt_timeout,
            luck,
            draining: Cell::new(false),
            under_way: Cell::new(0),
            quiet: Notify::new(),
            changed: Notify::new(),
            counts: Counts::default(),
            changing: RefCell::default(),
            watched: RefCell::default(),
            state,
        }))
    }

    /// Shows these loops with the controller's status, and counts their restarts.
    pub(super) fn watch(&self, loops: &[Supervised]) {
        self.watched.borrow_mut().extend(loops.iter().map(|each| (each.name, each.pulse.clone())));
    }

    /// Watches, under a supervisor, that every worker is heard of.
    pub(super) fn health(self: &Rc<Desk>) -> Supervised {
        let desk = Rc::clone(self);
        supervise("worker-health", Patience::default(), self.luck, move |pulse| {
            let desk = Rc::clone(&desk);
            async move {
                loop {
                    let next = desk.lose_the_silent();
                    let changed = desk.changed.notified();
                    match next {
                        None => pulse.rest(changed).await,
                        Some(at) => drop(pulse.rest(rt::select(rt::sleep_until(at), changed)).await),
                    }
                }
            }
        })
    }

    /// Sends, under a supervisor, the controller's metrics into `sink` each second.
    pub(super) fn measure(self: &Rc<Desk>, mut sink: Box<dyn Sink>) -> Supervised {
        sink.columns(&Columns::of_controller());
        let (desk, sink) = (Rc::clone(self), Rc::new(RefCell::new(sink)));
        supervise("metrics", Patience::default(), self.luck, move |pulse| {
            let (desk, sink) = (Rc::clone(&desk), Rc::clone(&sink));
            async move {
                loop {
                    let due = Time((rt::now().0 / STEP.0 + 1) * STEP.0);
                    pulse.rest(rt::sleep_until(due)).await;
                    sink.borrow_mut().take(due, &desk.row());
                }
            }
        })
    }

    /// Marks the workers that were not heard of; when the next one will be, if it stays silent.
    fn lose_the_silent(&self) -> Option<Time> {
        let mut fleet = self.fleet.borrow_mut();
        let mut next: Option<Time> = None;
        for life in self.lives.borrow().values() {
            if fleet.health(life.place) == Health::Lost {
                continue;
            }
            let due = life.heard.get() + self.lost_after;
            if due > rt::now() {
                next = Some(next.map_or(due, |n| n.min(due)));
                continue;
            }
            fleet.set_health(life.place, Health::Lost);
            life.over.notify_waiters();
            tracing::warn!(target: "elapse", worker = life.told.name, after = %self.lost_after, "lost: it was not heard of");
        }
        next
    }

    /// Takes nothing more and waits for what is under way. True if nothing was left.
    pub(super) async fn drain(&self, limit: Duration) -> bool {
        self.draining.set(true);
        let finished = async {
            while self.under_way.get() > 0 {
                self.quiet.notified().await;
            }
        };
        rt::timeout(limit, finished).await.is_ok()
    }

    pub(super) fn able(&self) -> Vec<Rc<Life>> {
        let fleet = self.fleet.borrow();
        let able = |life: &&Rc<Life>| fleet.health(life.place) == Health::Healthy;
        self.lives.borrow().values().filter(able).cloned().collect()
    }

    pub(super) fn unknown(&self, name: &str) -> Answer {
        let functions = self.functions.borrow();
        let near = nearest(name, functions.keys().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
        Answer::error(404, &format!("there is no function '{name}'{hint}"))
    }
}

/// What is told of the controller itself.
impl Desk {
    fn workers(&self) -> Vec<Value> {
        self.lives.borrow().values().map(|life| self.describe(life)).collect()
    }

    fn status(&self) -> Answer {
        let loops: Vec<Value> =
            self.watched.borrow().iter().map(|(name, pulse)| loop_status(name, &pulse.status())).collect();
        let threads: Vec<Value> =
            threads::told().iter().map(|(name, status)| loop_status(name, status)).collect();
        let figures: serde_json::Map<_, _> = CONTROLLER_PATHS
            .iter()
            .zip(self.row())
            .map(|(p, v)| (p.name.to_string(), json!(v as u64)))
            .collect();
        Answer::json(
            200,
            &json!({
                "controller": self.fleet.borrow().balancer(), "version": env!("CARGO_PKG_VERSION"),
                "status": if self.draining.get() { "draining" } else { "serving" },
                "up_seconds": rt::now().as_secs_f64(), "functions": self.functions.borrow().len(),
                "workers": self.workers(), "metrics": figures, "loops": loops,
                "threads": threads,
            }),
        )
    }

    /// The values of `CONTROLLER_PATHS`.
    pub(super) fn row(&self) -> [f64; CONTROLLER_PATHS.len()] {
        let with = |health| {
            let fleet = self.fleet.borrow();
            self.lives.borrow().values().filter(|l| fleet.health(l.place) == health).count() as u64
        };
        let watched = self.watched.borrow();
        [
            with(Health::Healthy),
            with(Health::Lost),
            self.under_way.get(),
            self.counts.invocations.get(),
            self.counts.lost.get(),
            self.counts.refused.get(),
            self.counts.retries.get(),
            watched.iter().map(|(_, pulse)| pulse.restarts()).sum(),
            elapse_host::threads::restarts(),
        ]
        .map(|n: u64| n as f64)
    }

    fn metrics(&self) -> Answer {
        let text = openmetrics("elapse_controller_", None, &Columns::of_controller(), &self.row());
        Answer { status: 200, kind: MEDIA_TYPE.into(), body: text.into(), facts: Vec::new() }
    }
}

impl Office for Desk {
    async fn answer(self: Rc<Desk>, ask: Ask, id: String) -> Answer {
        match ask {
            Ask::Register(json, caller) => {
                self.register(&json, &caller, &id).await.unwrap_or_else(|fault| refusal(&fault))
            }
            Ask::Deregister(name) => self.deregister(&name, &id).await,
            Ask::Functions => self.list(),
            Ask::Invoke(call) => self.invoke(&call, &id).await,
            Ask::Prewarm(name) => self.prewarm(&name, &id).await,
            Ask::Status => self.status(),
            Ask::Metrics => self.metrics(),
            Ask::Drain => {
                self.draining.set(true);
                Answer::json(202, &json!({"status": "draining"}))
            }
            Ask::Workers => Answer::json(200, &json!({ "workers": self.workers() })),
            Ask::WorkerStatus(name) => self.worker_status(&name, &id).await,
            Ask::Join(json, from, caller) => self.join(&json, from, &caller, &id).await,
            Ask::Beat(name, json) => self.beat(&name, &json, &id),
            Ask::Leave(name, json, caller) => self.leave(&name, &json, &caller),
            Ask::InvokeLater(..) | Ask::Fetch(..) | Ask::Health => {
                Answer::error(500, "the reception answers this")
            }
        }
    }

    fn refuses(&self, function: &str) -> Option<Answer> {
        if !self.functions.borrow().contains_key(function) {
            return Some(self.unknown(function));
        }
        self.draining.get().then(|| Answer::error(503, "not admitted: the controller drains"))
    }

    fn drains(&self) -> bool {
        self.draining.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Rc<Cell<u64>>);

    impl Sink for Count {
        fn columns(&mut self, _columns: &Columns) {}

        fn take(&mut self, _at: Time, values: &[f64]) {
            assert_eq!(values.len(), CONTROLLER_PATHS.len());
            add(&self.0);
        }
    }

    /// Each loop of the controller: it goes on, the restart is counted and shown.
    #[test]
    fn loops_that_panic_go_on_and_are_shown() {
        let run = rt::Sim::new(rt::Options::default()).block_on(async {
            let desk =
                Desk::new(&ControllerConfig::default(), Token::of(None).unwrap(), None, Room::new(1 << 20))
                    .unwrap();
            let points = Rc::new(Cell::new(0));
            let loops = [desk.health(), desk.measure(Box::new(Count(Rc::clone(&points))))];
            desk.watch(&loops);
            rt::sleep(STEP * 3).await;
            let before = points.get();
            loops.iter().for_each(|each| each.pulse.inject_panic());
            desk.changed.notify_waiters();
            rt::sleep(STEP * 5).await;
            assert!(before >= 2 && points.get() >= before + 3, "{before}, then {}", points.get());
            assert_eq!(desk.row()[CONTROLLER_PATHS.len() - 2], 2.0, "loop_restarts");
            let status: Value = serde_json::from_slice(&desk.status().body).unwrap();
            for told in status["loops"].as_array().unwrap() {
                assert_eq!(told["restarts"], 1, "{told}");
                assert!(told["last_panic"].as_str().unwrap().contains("injected"), "{told}");
            }
        });
        run.unwrap();
    }
}
