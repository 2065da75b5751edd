//! Invocations on their way to a worker, or to the next one, and back.

use super::super::dispatcher::Service;
use super::super::request::{Answer, BYTES, Invoke, STATUS};
use super::service::{ControllerService, Step};
use super::workers::{CallError, CallRequest};
use axum::body::Bytes;
use elapse::base::Status;
use elapse::controller::key_of;
use elapse::controller::protocol::{CallEnd, Verdict};
use elapse::rt;
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

/// A call that is not answered yet. Dropped before, it is given up.
struct UnderWay<'a> {
    service: &'a Rc<ControllerService>,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut protocol = self.service.protocol.borrow_mut();
        protocol.give_up(self.number);
        self.service.steps.borrow_mut().remove(&self.number);
        if protocol.under_way() == 0 {
            self.service.quiet.notify_waiters();
        }
    }
}

/// Invocations.
impl ControllerService {
    pub(super) async fn invoke(self: &Rc<ControllerService>, call: &Invoke, id: &str) -> Answer {
        if let Some(refusal) = self.refuses(&call.function) {
            return refusal;
        }
        let number = self.protocol.borrow_mut().invoke(key_of(&call.function), rt::now());
        // Whoever asked may go away meanwhile.
        let under_way = UnderWay { service: self, number };
        self.act(id);
        let answer = self.send(number, call, id).await;
        drop(under_way);
        answer
    }

    async fn send(self: &Rc<ControllerService>, number: u64, call: &Invoke, id: &str) -> Answer {
        let headers = call.headers();
        let (method, path) = call.place();
        // Why the last worker did not take it, and what is known of one that may have run it: that is never left unsaid.
        let (mut answered, mut refused, mut lost) = (None, None, None);
        loop {
            let step = self.steps.borrow_mut().remove(&number);
            let attempt = match step {
                Some(Step::Send(attempt)) => attempt,
                Some(Step::End(how)) => {
                    return match how {
                        CallEnd::Answered => answered,
                        // A refusal would hide that it may have run.
                        CallEnd::Lost => Some(lost.unwrap_or_else(|| {
                            Answer::error(502, "lost with its worker, where it may have run")
                                .with_status(Status::Lost)
                        })),
                        CallEnd::Refused => refused,
                        CallEnd::NoWorker => None,
                    }
                    .unwrap_or_else(|| {
                        Answer::error(503, "no healthy worker can take it; try again later")
                            .with_status(Status::Dropped)
                    });
                }
                None => {
                    return Answer::error(
                        500,
                        "the controller does not know what becomes of this invocation",
                    );
                }
            };
            let life = self.sessions.borrow().get(&attempt.to).cloned();
            let worker = life.as_ref().map_or(String::new(), |life| life.told.name.clone());
            let request = CallRequest {
                headers: &headers,
                body: call.sent.body.clone(),
                attempt: attempt.attempt,
                limit: self.attempt_timeout,
            };
            let asked = match &life {
                Some(life) => life.send(method.clone(), &path, id, request).await,
                None => Err(CallError::Unreached("it has left".into())),
            };
            let facts = [("elapse-worker", worker.clone()), ("elapse-attempt", attempt.attempt.to_string())];
            let facts = facts.map(|(name, value)| (name.to_string(), value));
            let asked = match asked {
                Ok(answer) if says(&answer, Status::Lost) => Err(CallError::Lost(answer.why())),
                other => other,
            };
            let verdict = match asked {
                // This one did not admit it. Any other 503 is the function's answer.
                Ok(answer) if answer.status == 503 && says(&answer, Status::Dropped) => {
                    refused = Some(passed_on(answer));
                    Verdict::NotTaken
                }
                Ok(answer) => {
                    let ran = has_run(&answer);
                    let carried = call.sent.target.as_ref().map(|_| answer.carried(&method));
                    let mut answer = passed_on(answer);
                    // A refusal of another attempt does not undo that an earlier one may have run.
                    if lost.is_some() && !ran {
                        refused = Some(answer);
                    } else {
                        answer.facts.extend(facts.into_iter().chain(carried.unwrap_or_default()));
                        answered = Some(answer);
                    }
                    Verdict::Answered { ran }
                }
                Err(CallError::Unreached(why)) => {
                    tracing::warn!(target: "elapse", request = id, worker, why, "not reached");
                    let answer = Answer::error(503, &format!("worker '{worker}' was not reached: {why}"));
                    refused = Some(answer.with_status(Status::Dropped));
                    Verdict::Unreached
                }
                Err(CallError::Lost(why)) => {
                    tracing::warn!(target: "elapse", request = id, worker, attempt = attempt.attempt, why, "lost");
                    let mut answer = Answer::error(
                        502,
                        &format!("lost with worker '{worker}', where it may have run: {why}"),
                    )
                    .with_status(Status::Lost);
                    answer.facts.extend(facts);
                    lost = Some(answer);
                    Verdict::Lost
                }
            };
            self.protocol.borrow_mut().answered(attempt, verdict, rt::now());
            self.act(id);
            // An answer counts, also of a worker that was taken for lost meanwhile.
            if verdict == (Verdict::Answered { ran: true })
                && let Some(answer) = answered.take()
            {
                return answer;
            }
        }
    }

    pub(super) async fn prewarm(&self, name: &str, id: &str) -> Answer {
        if !self.functions.borrow().contains_key(name) {
            return self.unknown(name);
        }
        let chosen = self.protocol.borrow_mut().pick(key_of(name));
        let Some(life) = chosen.and_then(|session| self.sessions.borrow().get(&session).cloned()) else {
            return Answer::error(503, "no healthy worker can take it; try again later");
        };
        let path = format!("/v1/functions/{name}/prewarm");
        let asked = life.ask(Method::POST, &path, id, Bytes::new(), self.attempt_timeout).await;
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
