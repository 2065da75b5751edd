//! How workers come to a controller and go: registration, heartbeats, farewells.

use super::super::credentials::Token;
use super::super::request::Answer;
use super::super::roles::{Caller, Role};
use super::invocations::passed_on;
use super::service::{ControllerService, REGISTRATION, SOON};
use super::workers::{Description, Introduction, WorkerSession};
use bytes::Bytes;
use elapse::base::Duration;
use elapse::controller::protocol::{Beat, Farewell, Heard, Load, MOST, Objection};
use elapse::controller::{Health, key_of};
use elapse::rt;
use elapse_host::wire::Method;
use elapse_live::peer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// What a worker says now and then.
#[derive(Deserialize)]
struct HeartbeatBody {
    incarnation: u64,
    #[serde(default)]
    invocations: u64,
    #[serde(default)]
    draining: bool,
}

/// Workers come and go.
impl ControllerService {
    pub(super) async fn join(
        self: &Rc<ControllerService>,
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
        let name = told.name.clone();
        let session = match self.protocol.borrow_mut().register(told.newcomer(), rt::now()) {
            Ok(session) => session,
            Err(objection) => return objected(&told, objection),
        };
        // One that did not hear that it is registered says it again.
        let known = self.sessions.borrow().get(&session).cloned();
        let life = known.unwrap_or_else(|| {
            let life = Rc::new(WorkerSession::new(session, told, peer, token));
            self.sessions.borrow_mut().insert(session, Rc::clone(&life));
            self.lives.borrow_mut().insert(name.clone(), Rc::clone(&life));
            life
        });
        self.act(id);
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
    pub(super) async fn introduce(self: &Rc<ControllerService>, life: &Rc<WorkerSession>, id: &str) {
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
        let knows = outcome == Introduction::Done;
        self.protocol.borrow_mut().introduced(life.session, knows, rt::now());
        if knows {
            tracing::info!(target: "elapse", worker = life.told.name, at = life.told.address, life = life.told.incarnation, "registered");
        }
        life.introduction.replace(outcome);
        // One that could not be introduced is known no more: its next heartbeat is told to register again.
        self.act(id);
        life.decided.notify_waiters();
    }

    /// A function that a worker has to be told, or (without a description) that it has to forget. Further ones may be
    /// registered and deregistered while it is told; what it was told just now is not told again.
    fn unsaid(
        &self,
        life: &WorkerSession,
        told: &BTreeMap<String, Bytes>,
    ) -> Option<(String, Option<Bytes>)> {
        let (functions, knows) = (self.functions.borrow(), life.knows.borrow());
        let gone = knows.keys().find(|name| !functions.contains_key(*name));
        if let Some(name) = gone {
            return Some((name.clone(), None));
        }
        let new =
            functions.iter().find(|(name, f)| knows.get(*name) != Some(f) && told.get(*name) != Some(f));
        new.map(|(name, f)| (name.clone(), Some(f.clone())))
    }

    /// Tells a worker a function. What it cannot serve is remembered; an error is that it does not answer.
    pub(super) async fn tell(
        &self,
        life: &WorkerSession,
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
            self.serves(life, name, true);
            return Ok(None);
        }
        let why = answer.why();
        // A worker that is full, drains, or has no room on its disk may serve it later.
        if answer.status == 429 || answer.status >= 500 {
            return Err(why);
        }
        tracing::warn!(target: "elapse", worker = life.told.name, function = name, why, "a worker cannot serve a function");
        self.serves(life, name, false);
        Ok(Some(why))
    }

    /// A worker can serve a function, or cannot.
    fn serves(&self, life: &WorkerSession, name: &str, serves: bool) {
        let mut refused = life.refused.borrow_mut();
        match serves {
            true => drop(refused.remove(name)),
            false => drop(refused.insert(name.to_string())),
        }
        self.protocol.borrow_mut().serves(life.session, key_of(name), serves);
    }

    async fn post(
        &self,
        life: &WorkerSession,
        function: Bytes,
        id: &str,
    ) -> Result<elapse_host::wire::Answer, String> {
        let answer = life.ask(Method::POST, "/v1/functions", id, function, REGISTRATION).await;
        answer.map_err(|silence| silence.why().to_string())
    }

    /// Lets a worker forget a function. An error is that it does not answer.
    pub(super) async fn untell(&self, life: &WorkerSession, name: &str, id: &str) -> Result<(), String> {
        let path = format!("/v1/functions/{name}");
        let answer = life.ask(Method::DELETE, &path, id, Bytes::new(), SOON).await;
        let answer = answer.map_err(|silence| silence.why().to_string())?;
        if answer.is_ok() || answer.status == 404 {
            life.knows.borrow_mut().remove(name);
            return Ok(());
        }
        Err(answer.why())
    }

    pub(super) fn beat(self: &Rc<ControllerService>, name: &str, json: &[u8], id: &str) -> Answer {
        let Ok(beat) = serde_json::from_slice::<HeartbeatBody>(json) else {
            return Answer::error(422, "this is no heartbeat; it has an incarnation and invocations");
        };
        let HeartbeatBody { incarnation, invocations, draining } = beat;
        let told = Beat { incarnation, draining, load: Load::Left(invocations) };
        let (before, heard) = {
            let mut protocol = self.protocol.borrow_mut();
            let before = protocol.session_of(name).and_then(|session| protocol.health(session));
            (before, protocol.beat(name, told, rt::now()))
        };
        self.act(id);
        match heard {
            Heard::Is(health) => {
                if let Some(before) = before.filter(|before| *before != health) {
                    tracing::info!(target: "elapse", worker = name, was = before.word(), is = health.word());
                }
                Answer::json(200, &json!({"name": name, "status": health.word()}))
            }
            Heard::Registering => Answer::json(200, &json!({"name": name, "status": "registering"})),
            Heard::Unknown => {
                Answer::error(404, &format!("there is no worker '{name}' here; register again"))
            }
            Heard::OtherLife { later } => Answer::error(
                if later { 409 } else { 404 },
                &format!("worker '{name}' is registered with another life"),
            ),
        }
    }

    pub(super) fn leave(self: &Rc<ControllerService>, name: &str, json: &[u8], caller: &Caller) -> Answer {
        let incarnation = serde_json::from_slice::<HeartbeatBody>(json).map(|b| b.incarnation).ok();
        // Who may only join speaks for a life that it knows; an operator for any.
        let farewell = match incarnation.is_some() || caller.may(Role::Operate, None) {
            true => self.protocol.borrow_mut().leave(name, incarnation, rt::now()),
            false if self.lives.borrow().contains_key(name) => Farewell::OtherLife,
            false => Farewell::Unknown,
        };
        match farewell {
            Farewell::Unknown => Answer::error(404, &format!("there is no worker '{name}' here")),
            Farewell::OtherLife => {
                Answer::error(409, &format!("worker '{name}' is registered with another life"))
            }
            Farewell::Left => {
                self.lives.borrow_mut().remove(name);
                self.act("farewell");
                tracing::info!(target: "elapse", worker = name, "left");
                Answer::json(200, &json!({"name": name, "status": "left"}))
            }
        }
    }

    pub(super) fn describe(&self, life: &WorkerSession) -> Value {
        let protocol = self.protocol.borrow();
        let (session, told) = (life.session, &life.told);
        let health = protocol.health(session).unwrap_or(Health::Lost);
        let load = protocol.fleet().find(&told.name).map_or(0.0, |place| protocol.fleet().load(place));
        let silent = protocol.heard_at(session).map_or(Duration::ZERO, |heard| rt::now().since(heard));
        json!({
            "name": told.name, "status": health.word(), "address": told.address,
            "incarnation": told.incarnation, "machine_id": told.machine_id,
            "cores": told.cores.map(|c| c.to_string()), "memory": told.memory,
            "backends": told.backends, "version": told.version,
            "load": load, "invocations": protocol.calls_of(session),
            "heard_seconds_ago": silent.as_secs_f64(),
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

/// Why a worker is not registered.
fn objected(told: &Description, objection: Objection) -> Answer {
    let name = &told.name;
    let (status, why) = match objection {
        Objection::Draining => return Answer::error(503, "the controller drains"),
        Objection::OtherHost => (
            409,
            format!("a worker named '{name}' is alive on another host; take another name (live.worker)"),
        ),
        Objection::LaterLife => (409, format!("worker '{name}' has begun a later life; this one is over")),
        Objection::Full => (429, format!("the controller knows {MOST} workers, and no more")),
    };
    tracing::warn!(target: "elapse", worker = name, why, "not registered");
    Answer::error(status, &why)
}
