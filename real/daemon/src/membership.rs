//! A worker's membership: it registers with a controller, says that it is alive, and takes its leave.
//!
//! Registration is wanted or not. Wanted, it is attempted so many times, and a worker that could not register ends. Once
//! registered it never ends for the controller's sake: it goes on serving, and registers again with a controller that is
//! back and does not know it.

use super::config::{Membership, Registration};
use super::credentials::Token;
use elapse::base::{Duration, Fault, Result};
use elapse::rt;
use elapse::rt::chance::{Purpose, RngKey, Seed};
use elapse::rt::supervise::{Patience, Supervised, supervise};
use elapse_host::wire::{Answer, Method, Peer, WireFault};
use elapse_live::peer;
use rand::RngExt;
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;

/// See the module.
pub(super) struct Member {
    peer: Peer,
    /// What the controller asks for.
    token: Token,
    name: String,
    terms: Membership,
    rng: RngKey,
    /// What the controller is told of the worker, its life's number included.
    description: Value,
    leaving: Cell<bool>,
}

/// How long the controller may take to hear that this worker ends.
const FAREWELL: Duration = Duration(3_000_000_000);

/// Why a controller could not be asked, or what it answered instead of yes.
enum Refusal {
    /// Asking again may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Member {
    /// The membership that the configuration wants, if it wants one. `description` is what the controller is told.
    pub(super) fn new(
        name: &str,
        registration: Registration,
        terms: &Membership,
        seed: u64,
        description: Value,
    ) -> Result<Option<Rc<Member>>> {
        let Some(at) = terms.address.as_deref().filter(|_| registration == Registration::Required) else {
            return Ok(None);
        };
        Ok(Some(Rc::new(Member {
            peer: peer(at, terms.ca_file.as_deref())?,
            token: Token::of(terms.token_file.as_deref())?,
            name: name.to_string(),
            terms: terms.clone(),
            rng: Seed::new(seed).named("registration"),
            description,
            leaving: Cell::new(false),
        })))
    }

    /// The controller asks for this token from now on.
    pub(super) fn exchange_token(&self, next: &Token) {
        self.token.become_like(next);
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Answer, Refusal> {
        self.ask_within(self.terms.patience, method, path, body).await
    }

    async fn ask_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Refusal> {
        let bearer = self.token.bearer();
        let headers: Vec<_> = bearer.iter().map(|b| ("authorization", &**b)).collect();
        let asked = self.peer.ask(method, path, &headers, body.to_string().into());
        match rt::timeout(limit, asked).await {
            Err(rt::Elapsed) => Err(Refusal::Passing(format!("no answer within {limit}"))),
            Ok(Err(WireFault::TooLong)) => Err(Refusal::Final("what answers is no controller".into())),
            Ok(Err(fault)) => Err(Refusal::Passing(fault.to_string())),
            Ok(Ok(answer)) if answer.is_ok() => Ok(answer),
            Ok(Ok(answer)) => {
                let why = answer.why();
                Err(match answer.status {
                    429 | 500.. => Refusal::Passing(why),
                    _ => Refusal::Final(why),
                })
            }
        }
    }

    /// Registers, with as many attempts as are wanted.
    ///
    /// # Errors
    /// Why the controller did not take it: the worker must end.
    pub(super) async fn register(&self) -> Result<()> {
        let at = self.terms.address.as_deref().unwrap_or_default();
        let mut pause = self.terms.backoff;
        for attempt in 1.. {
            let (why, last) = match self.join().await {
                Ok(()) => {
                    tracing::info!(target: "elapse", controller = at, attempt, "registered");
                    return Ok(());
                }
                Err(Refusal::Final(why)) => (why, true),
                Err(Refusal::Passing(why)) => (why, attempt >= self.terms.attempts),
            };
            if last {
                return Err(Fault::refused(format!(
                    "could not register with the controller at {at} in {attempt} attempt(s): {why}; see that the controller \
                     runs there and knows this worker's token, or set registration = \"off\""
                )));
            }
            tracing::warn!(target: "elapse", controller = at, attempt, why, "not registered yet");
            let jitter = self.rng.draw(Purpose::Jitter, u64::from(attempt)).random_range(0.5..1.5);
            rt::sleep(Duration::from_nanos_f64(pause.0 as f64 * jitter)).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
        Ok(())
    }

    async fn join(&self) -> Result<(), Refusal> {
        self.ask(Method::POST, "/v1/workers", &self.description).await.map(drop)
    }

    /// Says at every heartbeat that the worker is alive and how many invocations it has, for ever and under a supervisor.
    pub(super) fn beat(self: &Rc<Member>, invocations: impl Fn() -> u64 + Clone + 'static) -> Supervised {
        let member = Rc::clone(self);
        supervise("heartbeat", Patience::default(), self.rng, move |pulse| {
            let (member, invocations) = (Rc::clone(&member), invocations.clone());
            async move {
                let path = format!("/v1/workers/{}/heartbeat", member.name);
                // One that is not answered says less than the next one: the controller must not miss several for it.
                let limit = member.terms.patience.min(member.terms.heartbeat * 2);
                let mut heard = true;
                let mut next = rt::now() + member.terms.heartbeat;
                loop {
                    pulse.rest(rt::sleep_until(next)).await;
                    next = rt::now() + member.terms.heartbeat;
                    let body = json!({
                        "incarnation": member.description["incarnation"], "invocations": invocations(),
                        "draining": member.leaving.get(),
                    });
                    // Waiting for an answer is no work that could hang: it has a limit of its own.
                    let asked = member.ask_within(limit, Method::POST, &path, &body);
                    let answered = match pulse.rest(asked).await {
                        // It was started again and knows nobody.
                        Err(Refusal::Final(_)) if !member.leaving.get() => pulse.rest(member.join()).await,
                        other => other.map(drop),
                    };
                    match (heard, &answered) {
                        (true, Err(Refusal::Passing(why) | Refusal::Final(why))) => {
                            tracing::warn!(target: "elapse", why, "the controller does not hear this worker; it goes on");
                        }
                        (false, Ok(())) => {
                            tracing::info!(target: "elapse", "the controller hears this worker again")
                        }
                        _ => {}
                    }
                    heard = answered.is_ok();
                }
            }
        })
    }

    /// The worker takes nothing more: the controller is told at once.
    pub(super) async fn drains(&self) {
        self.leaving.set(true);
        let body = json!({
            "incarnation": self.description["incarnation"], "invocations": 0, "draining": true,
        });
        let path = format!("/v1/workers/{}/heartbeat", self.name);
        let _ = self.ask_within(self.terms.patience.min(FAREWELL), Method::POST, &path, &body).await;
    }

    /// The worker's life ends; a controller that is away is not waited for.
    pub(super) async fn leave(&self) {
        let body = json!({ "incarnation": self.description["incarnation"] });
        let path = format!("/v1/workers/{}", self.name);
        let _ = self.ask_within(self.terms.patience.min(FAREWELL), Method::DELETE, &path, &body).await;
    }
}
