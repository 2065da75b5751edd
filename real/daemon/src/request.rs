//! What is asked of a daemon through its API, and what it answers.

use super::roles::Caller;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method};
use elapse::base::{Sent, Status, Target};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The header that says how an invocation ended. `dropped`: it was not begun. `lost`: it may have run.
pub(super) const STATUS: &str = "elapse-status";

/// What is told where a daemon ends before what it was asked.
pub(super) const UNANSWERED: &str = "it ended before it could answer, and what was asked may have been done";

/// What is asked of a worker or a controller.
pub(super) enum Request {
    /// Register the function that this JSON describes, for whoever asks.
    Register(Bytes, Caller),
    /// Forget a function.
    Deregister(String),
    /// Tell the functions.
    Functions,
    /// Invoke a function, and wait for its answer.
    Invoke(Invoke),
    /// Invoke a function; its answer is fetched later, by who asked.
    InvokeLater(Invoke, Caller),
    /// The answer of an invocation that was not waited for.
    Fetch(String, Caller),
    /// Nothing: whoever answers is alive.
    Health,
    /// Create a container of a function ahead of need.
    Prewarm(String),
    /// Tell everything.
    Status,
    /// Tell the metrics.
    Metrics,
    /// Stop admitting, finish, and leave.
    Drain,
    /// Of a controller: its workers.
    Workers,
    /// Of a controller: what a worker says of itself.
    WorkerStatus(String),
    /// Of a controller: a worker joins, described by this JSON, from an address or over a unix socket.
    Join(Bytes, Option<IpAddr>, Caller),
    /// Of a controller: a worker is alive, and how it is.
    Beat(String, Bytes),
    /// Of a controller: a worker's life ends.
    Leave(String, Bytes, Caller),
}

/// How many functions may be registered at once: each takes memory, and one with code a descriptor.
const MOST_FUNCTIONS: usize = 16_384;

/// Answers whoever registers one function more than there may be.
pub(super) fn too_many(registered: usize) -> Option<Answer> {
    let most = MOST_FUNCTIONS.min(elapse_host::descriptors() / 4);
    let why =
        format!("{registered} functions are registered, and {most} may be; deregister what nobody calls");
    (registered >= most).then(|| Answer::error(429, &why))
}

/// An invocation that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Invoke {
    pub(super) function: String,
    pub(super) sent: Sent,
    /// `elapse-duration-ns`: how long it executes, in place of what the function's own law draws.
    pub(super) duration_ns: Option<u64>,
    /// `elapse-fail`: it is to report an error.
    pub(super) fails: bool,
}

impl Invoke {
    /// `target`: a request for the HTTP server that the function is.
    pub(super) fn new(
        function: String,
        body: Bytes,
        target: Option<Target>,
        headers: &HeaderMap,
    ) -> Result<Invoke, String> {
        let kind = headers.get("content-type").and_then(|kind| Some(kind.to_str().ok()?.to_string()));
        if target.is_some() {
            let sent = Sent { body, kind, target };
            return Ok(Invoke { function, sent, duration_ns: None, fails: false });
        }
        let given = |name| headers.get(name).map(|v: &HeaderValue| String::from_utf8_lossy(v.as_bytes()));
        let duration = given("elapse-duration-ns").map(|ns| {
            ns.parse()
                .map_err(|_| format!("elapse-duration-ns is '{ns}'; it is a whole number of nanoseconds"))
        });
        let fails = match given("elapse-fail").as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(format!("elapse-fail is '{other}'; it is 1, or left out")),
        };
        let sent = Sent { body, kind, target: None };
        Ok(Invoke { function, sent, duration_ns: duration.transpose()?, fails })
    }

    /// The headers that say the same to another.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let duration = self.duration_ns.map(|ns| ("elapse-duration-ns".to_string(), ns.to_string()));
        let fails = self.fails.then(|| ("elapse-fail".to_string(), "1".to_string()));
        let kind = self.sent.kind.clone().map(|kind| ("content-type".to_string(), kind));
        let further = self.sent.target.iter().flat_map(|target| target.headers.clone());
        duration.into_iter().chain(fails).chain(kind).chain(further).collect()
    }

    /// Where another daemon is asked for the same.
    pub(super) fn place(&self) -> (Method, String) {
        let name = &self.function;
        match &self.sent.target {
            Some(Target { method, path, .. }) => {
                (method.parse().unwrap_or(Method::POST), format!("/function/{name}{path}"))
            }
            None => (Method::POST, format!("/v1/functions/{name}/invoke")),
        }
    }
}

/// A question and where its answer goes.
pub(super) struct PendingRequest {
    pub(super) ask: Request,
    /// The request's id.
    pub(super) id: String,
    pub(super) reply: oneshot::Sender<Answer>,
    /// Held until there is an answer, whoever waits for it.
    pub(super) permit: Permit,
}

/// A place among the invocations on their way.
pub(super) type Permit = Option<OwnedSemaphorePermit>;

/// An answer of the worker or controller.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The body's media type; empty where the body is the sentence of a refusal.
    pub(super) kind: Cow<'static, str>,
    pub(super) body: Bytes,
    /// Further headers: name, value.
    pub(super) facts: Vec<(String, String)>,
}

pub(super) const JSON: &str = "application/json";
/// What is not told to be anything else.
pub(super) const BYTES: &str = "application/octet-stream";

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Answer {
        Answer { status, kind: JSON.into(), body: Bytes::from(value.to_string()), facts: Vec::new() }
    }

    /// A refusal; the request's id is added on the way out.
    pub(super) fn error(status: u16, why: &str) -> Answer {
        Answer { status, kind: "".into(), body: Bytes::from(why.to_string()), facts: Vec::new() }
    }

    /// With what is known of the invocation, where the function itself did not tell.
    pub(super) fn with_status(mut self, status: Status) -> Answer {
        self.facts.push((STATUS.into(), status.word().into()));
        self
    }
}
