//! How workers come to a controller and go: registration, heartbeats, farewells.

use super::super::doors::Token;
use super::super::order::Answer;
use super::super::roles::{Caller, Role};
use super::desk::{Desk, REGISTRATION, SOON};
use super::invocations::passed_on;
use super::workers::{Description, Introduction, Life};
use bytes::Bytes;
use elapse::base::{Cpus, Duration};
use elapse::controller::Health;
use elapse::rt;
use elapse_host::wire::Method;
use elapse_live::peer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// How long the last answers of a worker that has left may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a worker says now and then.
#[derive(Deserialize)]
struct Heartbeat {
    incarnation: u64,
    #[serde(default)]
    invocations: u64,
    #[serde(default)]
    draining: bool,
}

/// As many workers are known at once, lost ones included.
const MOST: usize = 4096;

/// Workers come and go.
impl Desk {
    pub(super) async fn join(
        self: &Rc<Desk>,
        json: &[u8],
        from: Option<IpAddr>,
        caller: &Caller,
        id: &str,
    ) -> Answer {
        let mut told: Description = match serde_json::from_slice(json) {
            Ok(told) => told,
            Err(e) => return Answer::error(422, &format!("this describes no worker: {e}")),
        };
        if let Err(why) = told.check() {
            return Answer::error(422, &format!("this describes no worker: {why}"));
        }
        // What workers ask for in common is sent to nobody who may only join: with it they could ask the others.
        let token = match told.token.take() {
            Some(token) => Token::told(&token),
            None if caller.may(Role::Operate, None) => self.token.clone(),
            None => Token::default(),
        };
        let peer = match peer(&told.address, self.worker_ca.as_deref()) {
            Ok(peer) => peer.within(Some(self.room.clone())),
            Err(fault) => return Answer::error(422, &format!("worker '{}': address: {fault}", told.name)),
        };
        if let Err(why) = self.sources.admit(peer.address(), from) {
            tracing::warn!(target: "elapse", worker = told.name, why, "not registered");
            return Answer::error(403, &format!("worker '{}': {why}", told.name));
        }
        if self.draining.get() {
            return Answer::error(503, "the controller drains");
        }
        if let Some(why) = self.objection(&told) {
            tracing::warn!(target: "elapse", worker = told.name, why, "not registered");
            return Answer::error(409, &why);
        }
        if self.lives.borrow().len() >= MOST && !self.lives.borrow().contains_key(&told.name) {
            return Answer::error(429, &format!("the controller knows {MOST} workers, and no more"));
        }
        let name = told.name.clone();
        let cores = told.cores.unwrap_or(Cpus::MAX);
        // It is known, and gets nothing until it knows the functions.
        let place = {
            let mut fleet = self.fleet.borrow_mut();
            let place = fleet.join(&name, cores);
            fleet.set_health(place, Health::Draining);
            place
        };
        let life = Rc::new(Life::new(place, told, peer, token));
        let before = self.lives.borrow_mut().insert(name.clone(), Rc::clone(&life));
        if let Some(before) = before {
            before.over.notify_waiters();
        }
        let (desk, introduced, by) = (Rc::clone(self), Rc::clone(&life), id.to_string());
        rt::spawn_detached(async move { desk.introduce(&introduced, &by).await });
        // A function whose image has to be pulled takes its time: the worker is not kept waiting, and gets nothing yet.
        let patience = Duration(self.lost_after.0 / 2).min(Duration::from_secs(5));
        match rt::timeout(patience, life.introduced()).await {
            Ok(Err(why)) => {
                Answer::error(502, &format!("worker '{name}' does not answer at its address: {why}"))
            }
            Ok(Ok(())) | Err(rt::Elapsed) => {
                Answer::json(201, &json!({"name": name, "status": "registered"}))
            }
        }
    }

    /// Tells a worker the functions that it does not know, and takes back those that are no more; then it takes part.
    async fn introduce(&self, life: &Rc<Life>, id: &str) {
        let mut told = BTreeMap::new();
        let outcome = loop {
            let answered = match self.unsaid(life, &told) {
                None => break Introduction::Done,
                Some((name, None)) => self.untell(life, &name, id).await,
                Some((name, Some(description))) => {
                    told.insert(name.clone(), description.clone());
                    self.tell(life, &name, description, id).await.map(drop)
                }
            };
            if let Err(why) = answered {
                break Introduction::Failed(why);
            }
        };
        let name = &life.told.name;
        let is_present = self.lives.borrow().get(name).is_some_and(|now| Rc::ptr_eq(now, life));
        if is_present && outcome == Introduction::Done {
            life.heard.set(rt::now());
            let health = if life.drains.get() { Health::Draining } else { Health::Healthy };
            self.fleet.borrow_mut().set_health(life.place, health);
            tracing::info!(target: "elapse", worker = name, at = life.told.address, life = life.told.incarnation, "registered");
        } else if is_present {
            // Its next heartbeat is told to register again.
            self.fleet.borrow_mut().set_health(life.place, Health::Lost);
            self.lives.borrow_mut().remove(name);
        }
        *life.introduction.borrow_mut() = outcome;
        life.decided.notify_waiters();
        self.changed.notify_waiters();
    }

    /// A function that a worker has to be told, or (without a description) that it has to forget. Further ones may be
    /// registered and deregistered while it is told; what it was told just now is not told again.
    fn unsaid(&self, life: &Life, told: &BTreeMap<String, Bytes>) -> Option<(String, Option<Bytes>)> {
        let (functions, knows) = (self.functions.borrow(), life.knows.borrow());
        let gone = knows.keys().find(|name| !functions.contains_key(*name));
        if let Some(name) = gone {
            return Some((name.clone(), None));
        }
        let new =
            functions.iter().find(|(name, f)| knows.get(*name) != Some(f) && told.get(*name) != Some(f));
        new.map(|(name, f)| (name.clone(), Some(f.clone())))
    }

    /// Why a worker cannot be the one of its name, if it cannot.
    fn objection(&self, told: &Description) -> Option<String> {
        let lives = self.lives.borrow();
        let known = lives.get(&told.name)?;
        let alive = self.fleet.borrow().health(known.place) != Health::Lost;
        if known.told.machine_id != told.machine_id {
            return alive.then(|| {
                format!(
                    "a worker named '{}' is alive on another host; take another name (live.worker)",
                    told.name
                )
            });
        }
        // One that is lost does not come back from a later life; the host's clock was set back.
        (alive && told.incarnation < known.told.incarnation)
            .then(|| format!("worker '{}' has begun a later life; this one is over", told.name))
    }

    /// Tells a worker a function. What it cannot serve is remembered; an error is that it does not answer.
    pub(super) async fn tell(
        &self,
        life: &Life,
        name: &str,
        function: Bytes,
        id: &str,
    ) -> Result<Option<String>, String> {
        let other = life.knows.borrow().get(name).is_some_and(|known| *known != function);
        if other {
            self.untell(life, name, id).await?;
        }
        let mut answer = self.post(life, function.clone(), id).await?;
        if answer.status == 409 {
            // Of the time before this controller knew it: what the controller has goes before.
            self.untell(life, name, id).await?;
            answer = self.post(life, function.clone(), id).await?;
        }
        if answer.is_ok() {
            life.knows.borrow_mut().insert(name.to_string(), function);
            life.refused.borrow_mut().remove(name);
            return Ok(None);
        }
        let why = answer.why();
        // A worker that is full, drains, or has no room on its disk may serve it later.
        if answer.status == 429 || answer.status >= 500 {
            return Err(why);
        }
        tracing::warn!(target: "elapse", worker = life.told.name, function = name, why, "a worker cannot serve a function");
        life.refused.borrow_mut().insert(name.to_string());
        Ok(Some(why))
    }

    async fn post(
        &self,
        life: &Life,
        function: Bytes,
        id: &str,
    ) -> Result<elapse_host::wire::Answer, String> {
        let answer = life.ask(Method::POST, "/v1/functions", id, function, REGISTRATION).await;
        answer.map_err(|silence| silence.why().to_string())
    }

    /// Lets a worker forget a function. An error is that it does not answer.
    pub(super) async fn untell(&self, life: &Life, name: &str, id: &str) -> Result<(), String> {
        let path = format!("/v1/functions/{name}");
        let answer = life.ask(Method::DELETE, &path, id, Bytes::new(), SOON).await;
        let answer = answer.map_err(|silence| silence.why().to_string())?;
        if answer.is_ok() || answer.status == 404 {
            life.knows.borrow_mut().remove(name);
            return Ok(());
        }
        Err(answer.why())
    }

    pub(super) fn beat(self: &Rc<Desk>, name: &str, json: &[u8], id: &str) -> Answer {
        let Ok(beat) = serde_json::from_slice::<Heartbeat>(json) else {
            return Answer::error(422, "this is no heartbeat; it has an incarnation and invocations");
        };
        let Some(life) = self.lives.borrow().get(name).cloned() else {
            return Answer::error(404, &format!("there is no worker '{name}' here; register again"));
        };
        if beat.incarnation != life.told.incarnation {
            let status = if beat.incarnation < life.told.incarnation { 409 } else { 404 };
            return Answer::error(status, &format!("worker '{name}' is registered with another life"));
        }
        life.drains.set(beat.draining);
        if *life.introduction.borrow() == Introduction::UnderWay {
            life.heard.set(rt::now());
            return Answer::json(200, &json!({"name": name, "status": "registering"}));
        }
        let before = self.fleet.borrow().health(life.place);
        let now = if beat.draining { Health::Draining } else { Health::Healthy };
        let mut fleet = self.fleet.borrow_mut();
        life.heard.set(rt::now());
        if (before, now) == (Health::Lost, Health::Healthy) {
            // Functions came and went while nobody could tell it: it takes part when it knows them.
            fleet.set_health(life.place, Health::Draining);
            *life.introduction.borrow_mut() = Introduction::UnderWay;
            tracing::info!(target: "elapse", worker = name, "heard of again");
            let (desk, life, by) = (Rc::clone(self), Rc::clone(&life), id.to_string());
            rt::spawn_detached(async move { desk.introduce(&life, &by).await });
            return Answer::json(200, &json!({"name": name, "status": "registering"}));
        }
        fleet.report(life.place, beat.invocations);
        if before != now {
            fleet.set_health(life.place, now);
            self.changed.notify_waiters();
            tracing::info!(target: "elapse", worker = name, was = before.word(), is = now.word());
        }
        Answer::json(200, &json!({"name": name, "status": now.word()}))
    }

    pub(super) fn leave(&self, name: &str, json: &[u8], caller: &Caller) -> Answer {
        let incarnation = serde_json::from_slice::<Heartbeat>(json).map(|b| b.incarnation).ok();
        let Some(life) = self.lives.borrow().get(name).cloned() else {
            return Answer::error(404, &format!("there is no worker '{name}' here"));
        };
        // Who may only join speaks for a life that it knows; an operator for any.
        let speaks = match incarnation {
            Some(incarnation) => incarnation == life.told.incarnation,
            None => caller.may(Role::Operate, None),
        };
        if !speaks {
            return Answer::error(409, &format!("worker '{name}' is registered with another life"));
        }
        self.fleet.borrow_mut().set_health(life.place, Health::Lost);
        self.lives.borrow_mut().remove(name);
        // It has answered what it had admitted. What of that is still on its way overtakes no farewell on another connection.
        rt::spawn_detached(async move {
            rt::sleep(FAREWELL).await;
            life.over.notify_waiters();
        });
        tracing::info!(target: "elapse", worker = name, "left");
        Answer::json(200, &json!({"name": name, "status": "left"}))
    }

    pub(super) fn describe(&self, life: &Life) -> Value {
        let fleet = self.fleet.borrow();
        json!({
            "name": life.told.name, "status": fleet.health(life.place).word(), "address": life.told.address,
            "incarnation": life.told.incarnation, "machine_id": life.told.machine_id,
            "cores": life.told.cores.map(|c| c.to_string()), "memory": life.told.memory,
            "backends": life.told.backends, "version": life.told.version,
            "load": fleet.load(life.place), "invocations": life.has.get(),
            "heard_seconds_ago": rt::now().since(life.heard.get()).as_secs_f64(),
            "cannot_serve": life.refused.borrow().iter().collect::<Vec<_>>(),
        })
    }

    pub(super) async fn worker_status(&self, name: &str, id: &str) -> Answer {
        let Some(life) = self.lives.borrow().get(name).cloned() else {
            return Answer::error(404, &format!("there is no worker '{name}' here"));
        };
        match life.ask(Method::GET, "/v1/status", id, Bytes::new(), SOON).await {
            Ok(answer) => passed_on(answer),
            Err(silence) => Answer::error(502, &format!("worker '{name}': {}", silence.why())),
        }
    }
}
