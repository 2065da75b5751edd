//! Invocations on their way to a worker, or to the next one, and back.

use super::super::order::{Answer, BYTES, Invoke, STATUS};
use super::super::reception::Office;
use super::desk::{Desk, add};
use super::workers::{Life, Request, Silence};
use axum::body::Bytes;
use elapse::base::Status;
use elapse::controller::key_of;
use elapse_host::wire::Method;
use std::borrow::Cow;
use std::rc::Rc;

/// Whether a worker says of an answer that this became of the invocation. One that says nothing may have run it.
fn says(answer: &elapse_host::wire::Answer, became: Status) -> bool {
    answer.facts.iter().any(|(name, status)| name == STATUS && status == became.word())
}

/// Whether a worker says of an answer that it comes from the function.
fn has_run(answer: &elapse_host::wire::Answer) -> bool {
    answer.facts.iter().any(|(name, status)| name == STATUS && status != Status::Dropped.word())
}

pub(super) fn passed_on(answer: elapse_host::wire::Answer) -> Answer {
    let kind = answer.kind.map_or(BYTES.into(), Cow::Owned);
    Answer { status: answer.status, kind, body: answer.body, facts: answer.facts }
}

/// Invocations.
impl Desk {
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
        // Count nothing of an earlier life among the load of the present one.
        if self.lives.borrow().get(&life.told.name).is_some_and(|now| Rc::ptr_eq(now, life)) {
            self.fleet.borrow_mut().returned(life.place);
        }
    }

    pub(super) async fn invoke(&self, call: &Invoke, id: &str) -> Answer {
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
        let (method, path) = call.place();
        let (mut attempt, mut tried) = (1, Vec::new());
        // Why the last worker did not take it, and what is known of one that may have run it: that is never left unsaid.
        let (mut refused, mut lost) = (None, None);
        loop {
            let Some(life) = self.choose(name, &tried) else {
                add(&self.counts.refused);
                return lost.or(refused).unwrap_or_else(|| {
                    Answer::error(503, "no healthy worker can take it; try again later")
                        .with_status(Status::Dropped)
                });
            };
            let worker = life.told.name.clone();
            let request = Request {
                headers: &headers,
                body: call.sent.body.clone(),
                attempt,
                limit: self.attempt_timeout,
            };
            let asked = life.send(method.clone(), &path, id, request).await;
            self.is_back(&life);
            let facts = [("elapse-worker", worker.clone()), ("elapse-attempt", attempt.to_string())];
            let facts = facts.map(|(name, value)| (name.to_string(), value));
            tried.push(worker.clone());
            let asked = match asked {
                Ok(answer) if says(&answer, Status::Lost) => Err(Silence::Lost(answer.why())),
                other => other,
            };
            match asked {
                // Try another worker: this one did not admit it. Any other 503 is the function's answer.
                Ok(answer) if answer.status == 503 && says(&answer, Status::Dropped) => {
                    refused = Some(passed_on(answer));
                }
                // A refusal of another attempt does not undo that an earlier one may have run.
                Ok(answer) if lost.is_some() && !has_run(&answer) => refused = Some(passed_on(answer)),
                Ok(answer) => {
                    let carried = call.sent.target.as_ref().map(|_| answer.carried(&method));
                    let mut answer = passed_on(answer);
                    answer.facts.extend(facts.into_iter().chain(carried.unwrap_or_default()));
                    return answer;
                }
                Err(Silence::Unreached(why)) => {
                    tracing::warn!(target: "elapse", request = id, worker, why, "not reached");
                    let answer = Answer::error(503, &format!("worker '{worker}' was not reached: {why}"));
                    refused = Some(answer.with_status(Status::Dropped));
                }
                Err(Silence::Lost(why)) => {
                    add(&self.counts.lost);
                    tracing::warn!(target: "elapse", request = id, worker, attempt, why, "lost");
                    let mut answer = Answer::error(
                        502,
                        &format!("lost with worker '{worker}', where it may have run: {why}"),
                    )
                    .with_status(Status::Lost);
                    answer.facts.extend(facts);
                    if attempt >= self.attempts {
                        return answer;
                    }
                    attempt += 1;
                    add(&self.counts.retries);
                    lost = Some(answer);
                }
            }
        }
    }

    pub(super) async fn prewarm(&self, name: &str, id: &str) -> Answer {
        if !self.functions.borrow().contains_key(name) {
            return self.unknown(name);
        }
        let Some(life) = self.choose(name, &[]) else {
            return Answer::error(503, "no healthy worker can take it; try again later");
        };
        let path = format!("/v1/functions/{name}/prewarm");
        let asked = life.ask(Method::POST, &path, id, Bytes::new(), self.attempt_timeout).await;
        self.is_back(&life);
        match asked {
            Ok(answer) => passed_on(answer),
            Err(silence) => Answer::error(502, &format!("worker '{}': {}", life.told.name, silence.why())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_worker_says_it_did_not_begin_may_run_elsewhere_in_silence() {
        let answer = |status: Option<&str>| elapse_host::wire::Answer {
            status: 503,
            body: Bytes::new(),
            kind: None,
            facts: status.map(|s| (STATUS.to_string(), s.to_string())).into_iter().collect(),
            headers: axum::http::HeaderMap::new(),
        };
        assert!(says(&answer(Some("dropped")), Status::Dropped));
        assert!(
            has_run(&answer(Some("failed"))) && !has_run(&answer(Some("dropped"))) && !has_run(&answer(None))
        );
        for may_have_run in [Some("failed"), Some("lost"), None] {
            assert!(!says(&answer(may_have_run), Status::Dropped), "{may_have_run:?}");
        }
    }
}
