//! Where the orders of a controller's API meet its fleet.

use super::super::api::{Answer, Ask, Invoke};
use super::super::config::check_function;
use super::super::desk::{loop_status, refusal};
use super::super::doors::Token;
use super::super::known_functions;
use super::super::reception::Office;
use super::super::state::State;
use super::config::{ControllerConfig, OnLoss};
use super::workers::{Life, Request, Silence};
use crate::base::{Duration, Fault, Result, Status, Time, nearest};
use crate::controller::{Fleet, Health, balancer, key_of};
use crate::metrics::{CONTROLLER_PATHS, Columns, MEDIA_TYPE, Sink, openmetrics};
use crate::rt;
use crate::rt::chance::{Chance, Luck};
use crate::rt::supervise::{Patience, Pulse, Supervised, supervise};
use crate::rt::sync::Notify;
use crate::world::plan::function_of;
use bytes::Bytes;
use elapse_real::wire::Method;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

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
    pub(super) lost_after: Duration,
    attempts: u32,
    luck: Luck,
    pub(super) draining: Cell<bool>,
    under_way: Cell<u64>,
    /// Told when nothing is under way.
    quiet: Notify,
    /// Told when a worker may be lost sooner than was known.
    pub(super) changed: Notify,
    counts: Counts,
    /// Its background loops.
    watched: RefCell<Vec<(&'static str, Pulse)>>,
    /// The functions that outlive the controller.
    state: Option<State>,
}

/// Totals since the start.
#[derive(Default)]
struct Counts {
    invocations: Cell<u64>,
    lost: Cell<u64>,
    retries: Cell<u64>,
    refused: Cell<u64>,
}

fn add(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

impl Desk {
    pub(super) fn new(config: &ControllerConfig, token: Token, state: Option<State>) -> Result<Rc<Desk>> {
        let luck = Chance::new(config.seed).named("balancer");
        let balancer = balancer::build(&config.balancer, luck)
            .ok_or_else(|| Fault::bug("a balancer that was checked could not be built"))?;
        let written = |f| serde_json::to_vec(f).map_err(|e| Fault::bug(e.to_string()));
        let functions = known_functions(&config.functions, state.as_ref());
        let functions = functions.iter().map(|f| Ok((f.name.clone(), Bytes::from(written(f)?))));
        Ok(Rc::new(Desk {
            fleet: RefCell::new(Fleet::new(balancer)),
            lives: RefCell::default(),
            functions: RefCell::new(functions.collect::<Result<_>>()?),
            worker_ca: config.worker_ca_file.clone(),
            token,
            lost_after: config.lost_after,
            attempts: if config.on_loss == OnLoss::Retry { config.attempts } else { 1 },
            luck,
            draining: Cell::new(false),
            under_way: Cell::new(0),
            quiet: Notify::new(),
            changed: Notify::new(),
            counts: Counts::default(),
            watched: RefCell::default(),
            state,
        }))
    }

    /// Watches, under a supervisor, that every worker is heard of.
    pub(super) fn watch(self: &Rc<Desk>) -> Supervised {
        let desk = Rc::clone(self);
        let supervised = supervise("worker-health", Patience::default(), self.luck, move |pulse| {
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
        });
        self.watched.borrow_mut().push((supervised.name, supervised.pulse.clone()));
        supervised
    }

    /// Sends, under a supervisor, the controller's metrics into `sink` each second.
    pub(super) fn measure(self: &Rc<Desk>, mut sink: Box<dyn Sink>) -> Supervised {
        const STEP: Duration = Duration::from_secs(1);
        sink.columns(&Columns::of_controller());
        let (desk, sink) = (Rc::clone(self), Rc::new(RefCell::new(sink)));
        let supervised = supervise("metrics", Patience::default(), self.luck, move |pulse| {
            let (desk, sink) = (Rc::clone(&desk), Rc::clone(&sink));
            async move {
                loop {
                    let due = Time((rt::now().0 / STEP.0 + 1) * STEP.0);
                    pulse.rest(rt::sleep_until(due)).await;
                    sink.borrow_mut().take(due, &desk.row());
                }
            }
        });
        self.watched.borrow_mut().push((supervised.name, supervised.pulse.clone()));
        supervised
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

    fn able(&self) -> Vec<Rc<Life>> {
        let fleet = self.fleet.borrow();
        let able = |life: &&Rc<Life>| fleet.health(life.place) == Health::Healthy;
        self.lives.borrow().values().filter(able).cloned().collect()
    }

    fn unknown(&self, name: &str) -> Answer {
        let functions = self.functions.borrow();
        let near = nearest(name, functions.keys().map(String::as_str));
        let hint = near.map_or_else(String::new, |n| format!("; did you mean '{n}'?"));
        Answer::error(404, &format!("there is no function '{name}'{hint}"))
    }
}

/// Whether a worker says of an answer that the function gave it.
fn has_run(answer: &elapse_real::wire::Answer) -> bool {
    answer.facts.iter().any(|(name, status)| name == "elapse-status" && status != Status::Dropped.word())
}

pub(super) fn passed_on(answer: elapse_real::wire::Answer) -> Answer {
    let kind = if answer.body.starts_with(b"{") { "application/json" } else { "application/octet-stream" };
    Answer { status: answer.status, kind, body: answer.body, facts: answer.facts }
}

/// Functions and their invocations.
impl Desk {
    async fn register(&self, json: &[u8], id: &str) -> Result<Answer> {
        let config = function_of(json)?;
        check_function(&config)?;
        let written: Bytes = serde_json::to_vec(&config).map_err(|e| Fault::bug(e.to_string()))?.into();
        let name = config.name.clone();
        if self.functions.borrow().get(&name).is_some_and(|known| *known != written) {
            return Err(Fault::usage(format!(
                "there is a function '{name}' already and it differs; take another name"
            )));
        }
        let mut told = serde_json::Map::new();
        let mut served = 0;
        let asked = self.able();
        for life in &asked {
            let life = Rc::clone(life);
            let says = match self.tell(&life, &name, written.clone(), id).await {
                Ok(None) => {
                    served += 1;
                    "registered".to_string()
                }
                Ok(Some(why)) | Err(why) => why,
            };
            told.insert(life.told.name.clone(), json!(says));
        }
        if served == 0 && !told.is_empty() {
            let why = told.iter().map(|(w, says)| format!("{w}: {}", says.as_str().unwrap_or("?")));
            return Err(Fault::usage(format!(
                "no worker can serve '{name}': {}",
                why.collect::<Vec<_>>().join("; ")
            )));
        }
        if let Some(state) = &self.state {
            state.registered(&config).await?;
        }
        self.functions.borrow_mut().insert(name.clone(), written.clone());
        // Who came meanwhile was told all functions but this one.
        for life in self.able().iter().filter(|life| !asked.iter().any(|a| Rc::ptr_eq(a, life))) {
            let says = self.tell(life, &name, written.clone(), id).await;
            let says = says.map_or_else(|why| why, |refused| refused.unwrap_or_else(|| "registered".into()));
            told.insert(life.told.name.clone(), json!(says));
        }
        Ok(Answer::json(201, &json!({"name": name, "workers": told})))
    }

    async fn deregister(&self, name: &str, id: &str) -> Answer {
        if self.functions.borrow_mut().remove(name).is_none() {
            return self.unknown(name);
        }
        for life in self.able() {
            let path = format!("/v1/functions/{name}");
            // Who does not answer now is told no such function when it registers again.
            let _ = life.ask(Method::DELETE, &path, id, Bytes::new(), SOON).await;
        }
        if let Some(state) = &self.state
            && let Err(fault) = state.deregistered(name).await
        {
            return refusal(&fault);
        }
        Answer::json(200, &json!({"name": name, "status": "deregistered"}))
    }

    /// A worker for a function, if possible none of `tried`; the invocation is counted as sent to it.
    fn choose(&self, function: &str, tried: &[String]) -> Option<Rc<Life>> {
        let lives = self.lives.borrow();
        let fits = |place, but: &[String]| {
            let mut at = lives.values().filter(|life| life.place == place);
            at.any(|l| !l.refused.borrow().contains(function) && !but.contains(&l.told.name))
        };
        let mut fleet = self.fleet.borrow_mut();
        let place = fleet.choose_among(key_of(function), |place| fits(place, tried))?;
        let life = lives.values().find(|life| life.place == place).cloned()?;
        life.has.set(life.has.get() + 1);
        Some(life)
    }

    fn is_back(&self, life: &Rc<Life>) {
        life.has.set(life.has.get() - 1);
        // What an earlier life had is no load of the present one.
        if self.lives.borrow().get(&life.told.name).is_some_and(|now| Rc::ptr_eq(now, life)) {
            self.fleet.borrow_mut().returned(life.place);
        }
    }

    async fn invoke(&self, call: &Invoke, id: &str) -> Answer {
        if let Some(refusal) = self.refuses(&call.function) {
            return refusal;
        }
        add(&self.counts.invocations);
        self.under_way.set(self.under_way.get() + 1);
        let answer = self.send(call, id).await;
        self.under_way.set(self.under_way.get() - 1);
        if self.under_way.get() == 0 {
            self.quiet.notify_waiters();
        }
        answer
    }

    async fn send(&self, call: &Invoke, id: &str) -> Answer {
        let name = call.function.as_str();
        let headers = call.headers();
        let path = format!("/v1/functions/{name}/invoke");
        let (mut attempt, mut tried) = (1, Vec::new());
        let mut last = None;
        loop {
            let Some(life) = self.choose(name, &tried) else {
                add(&self.counts.refused);
                return last
                    .unwrap_or_else(|| Answer::error(503, "no healthy worker can take it; try again later"));
            };
            let worker = life.told.name.clone();
            let request =
                Request { headers: &headers, body: call.body.clone(), attempt, limit: Duration::MAX };
            let asked = life.send(Method::POST, &path, id, request).await;
            self.is_back(&life);
            let facts = [("elapse-worker", worker.clone()), ("elapse-attempt", attempt.to_string())];
            let facts = facts.map(|(name, value)| (name.to_string(), value));
            tried.push(worker.clone());
            match asked {
                // It was not admitted there, and may be elsewhere. A function's own 503 is its answer.
                Ok(answer) if answer.status == 503 && !has_run(&answer) => {
                    last = Some(passed_on(answer));
                }
                Ok(answer) => {
                    let mut answer = passed_on(answer);
                    answer.facts.extend(facts);
                    return answer;
                }
                Err(Silence::Unreached(why)) => {
                    tracing::warn!(target: "elapse", request = id, worker, why, "not reached");
                    last = Some(Answer::error(503, &format!("worker '{worker}' was not reached: {why}")));
                }
                Err(Silence::Lost(why)) => {
                    add(&self.counts.lost);
                    tracing::warn!(target: "elapse", request = id, worker, attempt, why, "lost");
                    let mut answer = Answer::error(
                        502,
                        &format!("lost with worker '{worker}', where it may have run: {why}"),
                    );
                    answer.facts.push(("elapse-status".into(), "lost".into()));
                    answer.facts.extend(facts);
                    if attempt >= self.attempts {
                        return answer;
                    }
                    attempt += 1;
                    add(&self.counts.retries);
                    last = Some(answer);
                }
            }
        }
    }

    async fn prewarm(&self, name: &str, id: &str) -> Answer {
        if !self.functions.borrow().contains_key(name) {
            return self.unknown(name);
        }
        let Some(life) = self.choose(name, &[]) else {
            return Answer::error(503, "no healthy worker can take it; try again later");
        };
        let path = format!("/v1/functions/{name}/prewarm");
        let asked = life.ask(Method::POST, &path, id, Bytes::new(), Duration::MAX).await;
        self.is_back(&life);
        match asked {
            Ok(answer) => passed_on(answer),
            Err(silence) => Answer::error(502, &format!("worker '{}': {}", life.told.name, silence.why())),
        }
    }
}

/// What is told of the controller itself.
impl Desk {
    fn list(&self) -> Answer {
        let functions: Vec<Value> =
            self.functions.borrow().values().filter_map(|f| serde_json::from_slice(f).ok()).collect();
        Answer::json(200, &json!({ "functions": functions }))
    }

    fn workers(&self) -> Vec<Value> {
        self.lives.borrow().values().map(|life| self.describe(life)).collect()
    }

    fn status(&self) -> Answer {
        let loops: Vec<Value> =
            self.watched.borrow().iter().map(|(name, pulse)| loop_status(name, &pulse.status())).collect();
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
            }),
        )
    }

    /// The values of `CONTROLLER_PATHS`.
    pub(super) fn row(&self) -> Vec<f64> {
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
        ]
        .map(|n: u64| n as f64)
        .to_vec()
    }

    fn metrics(&self) -> Answer {
        let text = openmetrics("elapse_controller_", None, &Columns::of_controller(), &self.row());
        Answer { status: 200, kind: MEDIA_TYPE, body: text.into(), facts: Vec::new() }
    }
}

impl Office for Desk {
    async fn answer(self: Rc<Desk>, ask: Ask, id: String) -> Answer {
        match ask {
            Ask::Register(json) => self.register(&json, &id).await.unwrap_or_else(|fault| refusal(&fault)),
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
            Ask::Join(json) => self.join(&json, &id).await,
            Ask::Beat(name, json) => self.beat(&name, &json),
            Ask::Leave(name, json) => self.leave(&name, &json),
            Ask::InvokeLater(..) | Ask::Fetch(_) => Answer::error(500, "the reception answers this"),
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

    #[test]
    fn a_functions_own_503_is_its_answer() {
        let answer = |status: Option<&str>| elapse_real::wire::Answer {
            status: 503,
            body: Bytes::new(),
            facts: status.map(|s| ("elapse-status".to_string(), s.to_string())).into_iter().collect(),
        };
        assert!(has_run(&answer(Some("failed"))));
        assert!(!has_run(&answer(Some("dropped"))) && !has_run(&answer(None)));
    }
}
