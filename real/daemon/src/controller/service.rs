//! Where the orders of a controller's API meet its fleet.

use super::super::allowed::Allowed;
use super::super::credentials::Token;
use super::super::dispatcher::Service;
use super::super::request::{Answer, Request};
use super::super::service::{loop_status, refusal};
use super::super::state::{Registered, State, known_functions};
use super::config::ControllerConfig;
use super::sources::Sources;
use super::workers::{Introduction, WorkerSession};
use bytes::Bytes;
use elapse::base::{Duration, Fault, Result, Time, nearest};
use elapse::controller::protocol::{Action, Attempt, CallEnd, OnRefusal, Over, Protocol, Session, Terms};
use elapse::controller::{Fleet, Health, OnLoss, balancer};
use elapse::load::FunctionConfig;
use elapse::metrics::{CONTROLLER_PATHS, Columns, MEDIA_TYPE, Sink, openmetrics};
use elapse::rt;
use elapse::rt::chance::{RngKey, Seed};
use elapse::rt::supervise::{Heartbeat, Patience, Supervised, supervise};
use elapse::rt::sync::Notify;
use elapse_host::room::Room;
use elapse_live::threads;
use rustc_hash::{FxHashMap, FxHashSet};
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
pub(super) struct ControllerService {
    /// Decides who is a member and what becomes of each call.
    pub(super) protocol: RefCell<Protocol>,
    /// The workers that are known, by name.
    pub(super) lives: RefCell<BTreeMap<String, Rc<WorkerSession>>>,
    /// Their sessions, and those that have left and have still to answer something.
    pub(super) sessions: RefCell<FxHashMap<Session, Rc<WorkerSession>>>,
    /// Holds the next step of each call, by its number.
    pub(super) steps: RefCell<FxHashMap<u64, Step>>,
    /// Functions as they were registered, by name.
    pub(super) functions: RefCell<BTreeMap<String, Bytes>>,
    /// Holds the token that workers ask for.
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
    pub(super) attempt_timeout: Duration,
    rng: RngKey,
    /// Told when nothing is under way.
    pub(super) quiet: Notify,
    /// When the protocol is asked next what is due.
    watched: Cell<Time>,
    /// Told when that is sooner than was known.
    pub(super) changed: Notify,
    /// Functions that are being registered or deregistered.
    pub(super) changing: RefCell<FxHashSet<String>>,
    /// Its background loops.
    loops: RefCell<Vec<(&'static str, Heartbeat)>>,
    /// The functions that outlive the controller.
    pub(super) state: Option<State>,
}

/// The next step of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Send(Attempt),
    End(CallEnd),
}

impl ControllerService {
    pub(super) fn new(
        config: &ControllerConfig,
        token: Token,
        state: Option<State>,
        room: Room,
    ) -> Result<Rc<ControllerService>> {
        let rng = Seed::new(config.seed).named("balancer");
        let balancer = balancer::build(&config.balancer, rng).map_err(Fault::usage)?;
        let written = |f: &FunctionConfig| serde_json::to_vec(f).map_err(|e| Fault::bug(e.to_string()));
        let functions = known_functions(&config.functions, &config.register, &[], state.as_ref());
        let described = |f: Registered| {
            let text = written(&f.config)?;
            Ok((f.config.name, Bytes::from(text)))
        };
        let terms = Terms {
            lost_after: config.lost_after,
            attempts: if config.on_loss == OnLoss::Retry { config.attempts } else { 1 },
            attempt_timeout: config.attempt_timeout,
            on_refusal: OnRefusal::Next,
        };
        Ok(Rc::new(ControllerService {
            protocol: RefCell::new(Protocol::new(Fleet::new(balancer), terms)),
            lives: RefCell::default(),
            sessions: RefCell::default(),
            steps: RefCell::default(),
            functions: RefCell::new(functions.into_iter().map(described).collect::<Result<_>>()?),
            worker_ca: config.worker_ca_file.clone(),
            room,
            sources: config.sources()?,
            allowed: config.register.clone(),
            token,
            lost_after: config.lost_after,
            attempt_timeout: config.attempt_timeout,
            rng,
            quiet: Notify::new(),
            watched: Cell::new(Time::ZERO),
            changed: Notify::new(),
            changing: RefCell::default(),
            loops: RefCell::default(),
            state,
        }))
    }

    /// Shows these loops with the controller's status, and counts their restarts.
    pub(super) fn watch(&self, loops: &[Supervised]) {
        self.loops.borrow_mut().extend(loops.iter().map(|each| (each.name, each.pulse.clone())));
    }

    /// Has done, under a supervisor, what is due: workers are lost that were not heard of, attempts that take too long.
    pub(super) fn health(self: &Rc<ControllerService>) -> Supervised {
        let service = Rc::clone(self);
        supervise("worker-health", Patience::default(), self.rng, move |pulse| {
            let service = Rc::clone(&service);
            async move {
                loop {
                    service.protocol.borrow_mut().handle_timeout(rt::now());
                    service.act("controller");
                    let next = service.protocol.borrow_mut().next_deadline();
                    service.watched.set(next.unwrap_or(Time::MAX));
                    let changed = service.changed.notified();
                    match next {
                        None => pulse.rest(changed).await,
                        Some(at) => drop(pulse.rest(rt::select(rt::sleep_until(at), changed)).await),
                    }
                }
            }
        })
    }

    /// Does what the protocol wants done; `by` is the request that led to it.
    pub(super) fn act(self: &Rc<ControllerService>, by: &str) {
        loop {
            let action = self.protocol.borrow_mut().poll();
            match action {
                Some(Action::Send(attempt)) => {
                    self.steps.borrow_mut().insert(attempt.call, Step::Send(attempt));
                }
                Some(Action::End { call, how }) => drop(self.steps.borrow_mut().insert(call, Step::End(how))),
                Some(Action::Introduce(session)) => self.begin_introduction(session, by),
                Some(Action::Over { session, why }) => self.is_over(session, why),
                None => break,
            }
        }
        let due = self.protocol.borrow_mut().next_deadline();
        if due.is_some_and(|due| due < self.watched.get()) {
            self.changed.notify_waiters();
        }
    }

    fn begin_introduction(self: &Rc<ControllerService>, session: Session, by: &str) {
        let Some(life) = self.sessions.borrow().get(&session).cloned() else { return };
        if life.introduction.replace(Introduction::UnderWay) == Introduction::Done {
            tracing::info!(target: "elapse", worker = life.told.name, "heard of again");
        }
        let (service, by) = (Rc::clone(self), by.to_string());
        rt::spawn_detached(async move { service.introduce(&life, &by).await });
    }

    /// Ends the waiting for what a worker has.
    fn is_over(&self, session: Session, why: Over) {
        let Some(life) = self.sessions.borrow().get(&session).cloned() else { return };
        life.over.notify_waiters();
        if why == Over::Silent {
            let after = self.lost_after;
            tracing::warn!(target: "elapse", worker = life.told.name, %after, "lost: it was not heard of");
            return;
        }
        self.sessions.borrow_mut().remove(&session);
        let mut lives = self.lives.borrow_mut();
        if lives.get(&life.told.name).is_some_and(|now| now.session == session) {
            lives.remove(&life.told.name);
        }
    }

    /// Sends, under a supervisor, the controller's metrics into `sink` each second.
    pub(super) fn measure(self: &Rc<ControllerService>, mut sink: Box<dyn Sink>) -> Supervised {
        sink.columns(&Columns::of_controller());
        let (service, sink) = (Rc::clone(self), Rc::new(RefCell::new(sink)));
        supervise("metrics", Patience::default(), self.rng, move |pulse| {
            let (service, sink) = (Rc::clone(&service), Rc::clone(&sink));
            async move {
                loop {
                    let due = Time((rt::now().0 / STEP.0 + 1) * STEP.0);
                    pulse.rest(rt::sleep_until(due)).await;
                    sink.borrow_mut().take(due, &service.row());
                }
            }
        })
    }

    /// Takes nothing more and waits for what is under way. True if nothing was left.
    pub(super) async fn drain(&self, limit: Duration) -> bool {
        self.protocol.borrow_mut().drain();
        let finished = async {
            while self.protocol.borrow().under_way() > 0 {
                self.quiet.notified().await;
            }
        };
        rt::timeout(limit, finished).await.is_ok()
    }

    pub(super) fn able(&self) -> Vec<Rc<WorkerSession>> {
        let protocol = self.protocol.borrow();
        let able = |life: &&Rc<WorkerSession>| protocol.health(life.session) == Some(Health::Healthy);
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
impl ControllerService {
    fn workers(&self) -> Vec<Value> {
        self.lives.borrow().values().map(|life| self.describe(life)).collect()
    }

    fn status(&self) -> Answer {
        let loops: Vec<Value> =
            self.loops.borrow().iter().map(|(name, pulse)| loop_status(name, &pulse.status())).collect();
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
                "controller": self.protocol.borrow().fleet().balancer(), "version": env!("CARGO_PKG_VERSION"),
                "status": if self.drains() { "draining" } else { "serving" },
                "up_seconds": rt::now().as_secs_f64(), "functions": self.functions.borrow().len(),
                "workers": self.workers(), "metrics": figures, "loops": loops,
                "threads": threads,
            }),
        )
    }

    /// The values of `CONTROLLER_PATHS`.
    pub(super) fn row(&self) -> [f64; CONTROLLER_PATHS.len()] {
        let protocol = self.protocol.borrow();
        let totals = protocol.totals();
        let loops = self.loops.borrow();
        [
            protocol.workers(Health::Healthy),
            protocol.workers(Health::Lost),
            protocol.under_way(),
            totals.invocations,
            totals.lost,
            totals.refused,
            totals.retries,
            loops.iter().map(|(_, pulse)| pulse.restarts()).sum(),
            elapse_host::threads::restarts(),
        ]
        .map(|n: u64| n as f64)
    }

    fn metrics(&self) -> Answer {
        let text = openmetrics("elapse_controller_", None, &Columns::of_controller(), &self.row());
        Answer { status: 200, kind: MEDIA_TYPE.into(), body: text.into(), facts: Vec::new() }
    }
}

impl Service for ControllerService {
    async fn answer(self: Rc<ControllerService>, ask: Request, id: String) -> Answer {
        match ask {
            Request::Register(json, caller) => {
                self.register(&json, &caller, &id).await.unwrap_or_else(|fault| refusal(&fault))
            }
            Request::Deregister(name) => self.deregister(&name, &id).await,
            Request::Functions => self.list(),
            Request::Invoke(call) => self.invoke(&call, &id).await,
            Request::Prewarm(name) => self.prewarm(&name, &id).await,
            Request::Status => self.status(),
            Request::Metrics => self.metrics(),
            Request::Drain => {
                self.protocol.borrow_mut().drain();
                Answer::json(202, &json!({"status": "draining"}))
            }
            Request::Workers => Answer::json(200, &json!({ "workers": self.workers() })),
            Request::WorkerStatus(name) => self.worker_status(&name, &id).await,
            Request::Join(json, from, caller) => self.join(&json, from, &caller, &id).await,
            Request::Beat(name, json) => self.beat(&name, &json, &id),
            Request::Leave(name, json, caller) => self.leave(&name, &json, &caller),
            Request::InvokeLater(..) | Request::Fetch(..) | Request::Health => {
                Answer::error(500, "the reception answers this")
            }
        }
    }

    fn refuses(&self, function: &str) -> Option<Answer> {
        if !self.functions.borrow().contains_key(function) {
            return Some(self.unknown(function));
        }
        self.drains().then(|| Answer::error(503, "not admitted: the controller drains"))
    }

    fn drains(&self) -> bool {
        self.protocol.borrow().is_draining()
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
            self.0.set(self.0.get() + 1);
        }
    }

    /// Each loop of the controller: it goes on, the restart is counted and shown.
    #[test]
    fn loops_that_panic_go_on_and_are_shown() {
        let run = rt::Sim::new(rt::Options::default()).block_on(async {
            let service = ControllerService::new(
                &ControllerConfig::default(),
                Token::of(None).unwrap(),
                None,
                Room::new(1 << 20),
            )
            .unwrap();
            let points = Rc::new(Cell::new(0));
            let loops = [service.health(), service.measure(Box::new(Count(Rc::clone(&points))))];
            service.watch(&loops);
            rt::sleep(STEP * 3).await;
            let before = points.get();
            loops.iter().for_each(|each| each.pulse.inject_panic());
            service.changed.notify_waiters();
            rt::sleep(STEP * 5).await;
            assert!(before >= 2 && points.get() >= before + 3, "{before}, then {}", points.get());
            assert_eq!(service.row()[CONTROLLER_PATHS.len() - 2], 2.0, "loop_restarts");
            let status: Value = serde_json::from_slice(&service.status().body).unwrap();
            for told in status["loops"].as_array().unwrap() {
                assert_eq!(told["restarts"], 1, "{told}");
                assert!(told["last_panic"].as_str().unwrap().contains("injected"), "{told}");
            }
        });
        run.unwrap();
    }
}
