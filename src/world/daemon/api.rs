//! The API of a daemon: HTTP and JSON, on a thread of its own.
//!
//! The thread checks who asks, how much and for what; only then an [`Order`] goes to the worker's thread, through a queue
//! of fixed length. Whatever floods the API, the worker sees at most `concurrent` orders and refusals cost it nothing.
//!
//! Every error has one form: `{"error": "a sentence", "request_id": "..."}`.

use super::doors::Token;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// What is asked of a worker or a controller.
pub(super) enum Ask {
    /// Register the function that this JSON describes.
    Register(Bytes),
    /// Forget a function.
    Deregister(String),
    /// Tell the functions.
    Functions,
    /// Invoke a function, and wait for its answer.
    Invoke(Invoke),
    /// Invoke a function; its answer is fetched later.
    InvokeLater(Invoke),
    /// The answer of an invocation that was not waited for.
    Fetch(String),
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
    /// Of a controller: a worker joins, described by this JSON.
    Join(Bytes),
    /// Of a controller: a worker is alive, and how it is.
    Beat(String, Bytes),
    /// Of a controller: a worker's life ends.
    Leave(String, Bytes),
}

/// An invocation that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Invoke {
    pub(super) function: String,
    pub(super) body: Bytes,
    /// `elapse-duration-ns`: how long it executes, in place of what the function's own law draws.
    pub(super) duration_ns: Option<u64>,
    /// `elapse-fail`: it is to report an error.
    pub(super) fails: bool,
}

impl Invoke {
    fn new(function: String, body: Bytes, headers: &HeaderMap) -> Result<Invoke, String> {
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
        Ok(Invoke { function, body, duration_ns: duration.transpose()?, fails })
    }

    /// The headers that say the same to another.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let duration = self.duration_ns.map(|ns| ("elapse-duration-ns", ns.to_string()));
        duration.into_iter().chain(self.fails.then(|| ("elapse-fail", "1".to_string()))).collect()
    }
}

/// A question and where its answer goes.
pub(super) struct Order {
    pub(super) ask: Ask,
    /// The request's id.
    pub(super) id: String,
    pub(super) reply: oneshot::Sender<Answer>,
    /// The place among the invocations on their way, held until there is an answer, whoever waits for it.
    pub(super) seat: Option<OwnedSemaphorePermit>,
}

/// An answer of the worker or controller.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: Bytes,
    /// Further headers: name, value.
    pub(super) facts: Vec<(String, String)>,
}

const JSON: &str = "application/json";
/// The API's description; a test holds it against the routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

impl Answer {
    pub(super) fn json(status: u16, value: &Value) -> Answer {
        Answer { status, kind: JSON, body: Bytes::from(value.to_string()), facts: Vec::new() }
    }

    /// A refusal; the request's id is added on the way out.
    pub(super) fn error(status: u16, why: &str) -> Answer {
        Answer { status, kind: "", body: Bytes::from(why.to_string()), facts: Vec::new() }
    }
}

/// What the API is told at its start.
pub(super) struct Terms {
    pub(super) token: Token,
    pub(super) body_limit: usize,
    pub(super) concurrent: usize,
    /// Before every request id, so that those of two lives differ.
    pub(super) life: String,
}

struct Shared {
    terms: Terms,
    orders: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
    requests: AtomicU64,
}

#[derive(Clone)]
struct RequestId(String);

/// The routes; what is asked goes into `orders`.
pub(super) fn routes(terms: Terms, orders: mpsc::Sender<Order>) -> Router {
    let (limit, concurrent) = (terms.body_limit, terms.concurrent);
    let shared = Arc::new(Shared {
        terms,
        orders,
        room: Arc::new(Semaphore::new(concurrent)),
        requests: AtomicU64::new(1),
    });
    Router::new()
        .route("/v1/functions", get(functions).post(register))
        .route("/v1/functions/{name}", delete(deregister))
        .route("/v1/functions/{name}/invoke", post(invoke))
        .route("/v1/functions/{name}/invoke-async", post(invoke_later))
        .route("/v1/invocations/{id}", get(fetch))
        .route("/v1/functions/{name}/prewarm", post(prewarm))
        .route("/v1/status", get(status))
        .route("/v1/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/v1/drain", post(drain))
        .route("/v1/workers", get(workers).post(join))
        .route("/v1/workers/{name}", delete(leave))
        .route("/v1/workers/{name}/status", get(worker_status))
        .route("/v1/workers/{name}/heartbeat", post(beat))
        .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, JSON)], OPENAPI) }))
        .route("/metrics", get(metrics))
        .route("/function/{name}", get(invoke).post(invoke))
        .route("/async-function/{name}", post(invoke_later))
        .route("/system/functions", get(openfaas_functions))
        .route("/healthz", get(|| async { "OK" }))
        .fallback(|id| {
            refuse(id, StatusCode::NOT_FOUND, "there is nothing at this path; see /v1/functions, /v1/status")
        })
        .method_not_allowed_fallback(|id| {
            refuse(id, StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), admit))
        .with_state(shared)
}

async fn refuse(Extension(id): Extension<RequestId>, status: StatusCode, why: &'static str) -> Response {
    error(status, why, &id)
}

fn error(status: StatusCode, why: &str, id: &RequestId) -> Response {
    (status, Json(json!({"error": why, "request_id": id.0}))).into_response()
}

/// Gives the request its id and lets in who may ask.
async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|v| v.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= 128;
    let id = RequestId(given.filter(fits).map_or_else(
        || format!("{}-{}", shared.terms.life, shared.requests.fetch_add(1, Ordering::Relaxed)),
        str::to_string,
    ));
    let open = ["/v1/health", "/healthz"].contains(&request.uri().path());
    let mut response = match shared.terms.token.bearer() {
        Some(bearer) if !open && !brings(request.headers(), &bearer) => {
            tracing::warn!(target: "elapse", request = id.0, path = request.uri().path(), "no valid token");
            error(StatusCode::UNAUTHORIZED, "a valid bearer token is needed", &id)
        }
        // Refused before any of it is read.
        _ if length_of(request.headers()).is_some_and(|n| n > shared.terms.body_limit) => {
            error(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than body_limit", &id)
        }
        _ => {
            request.extensions_mut().insert(id.clone());
            next.run(request).await
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

fn length_of(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a request has this token. Every byte is looked at, so that the time taken tells nothing of the token.
fn brings(headers: &HeaderMap, bearer: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let differs = given.iter().zip(bearer.as_bytes()).fold(0, |d, (a, b)| d | (a ^ b));
    given.len() == bearer.len() && differs == 0
}

/// Hands an order to the worker and waits for its answer.
async fn order(shared: &Shared, id: &RequestId, ask: Ask) -> Response {
    match answered(shared, id, ask).await {
        Ok(answer) => told_as(answer, id),
        Err(refused) => refused,
    }
}

async fn answered(shared: &Shared, id: &RequestId, ask: Ask) -> Result<Answer, Response> {
    // Questions pass even where invocations fill the room: an overloaded worker can still be looked at.
    let invocation = matches!(ask, Ask::Invoke(..) | Ask::InvokeLater(..) | Ask::Prewarm(..));
    let seat = || Arc::clone(&shared.room).try_acquire_owned().ok().map(Some);
    let Some(seat) = (if invocation { seat() } else { Some(None) }) else {
        return Err(error(
            StatusCode::TOO_MANY_REQUESTS,
            "too many invocations are on their way; try again later",
            id,
        ));
    };
    let (reply, answer) = oneshot::channel();
    if shared.orders.send(Order { ask, id: id.0.clone(), reply, seat }).await.is_err() {
        return Err(error(StatusCode::SERVICE_UNAVAILABLE, "the worker has ended", id));
    }
    let ended = |_| error(StatusCode::SERVICE_UNAVAILABLE, "the worker ended before it could answer", id);
    answer.await.map_err(ended)
}

fn told_as(answer: Answer, id: &RequestId) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = if answer.kind.is_empty() {
        error(status, &String::from_utf8_lossy(&answer.body), id)
    } else {
        (status, [(header::CONTENT_TYPE, answer.kind)], answer.body).into_response()
    };
    for (name, value) in answer.facts {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

type From = State<Arc<Shared>>;
type Id = Extension<RequestId>;
type Body = Result<Bytes, BytesRejection>;

fn unread(fault: &BytesRejection, id: &RequestId) -> Response {
    error(fault.status(), "the body is longer than body_limit, or it broke off", id)
}

/// Asks with a body.
async fn told(shared: &Shared, id: &RequestId, body: Body, ask: impl FnOnce(Bytes) -> Ask) -> Response {
    match body {
        Ok(body) => order(shared, id, ask(body)).await,
        Err(fault) => unread(&fault, id),
    }
}

/// Asks for an invocation.
async fn called(
    shared: &Shared,
    id: &RequestId,
    function: String,
    headers: &HeaderMap,
    body: Body,
    ask: impl FnOnce(Invoke) -> Ask,
) -> Response {
    match body.map(|body| Invoke::new(function, body, headers)) {
        Ok(Ok(call)) => order(shared, id, ask(call)).await,
        Ok(Err(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, &why, id),
        Err(fault) => unread(&fault, id),
    }
}

async fn register(State(shared): From, Extension(id): Id, body: Body) -> Response {
    told(&shared, &id, body, Ask::Register).await
}

async fn deregister(State(shared): From, Extension(id): Id, Path(name): Path<String>) -> Response {
    order(&shared, &id, Ask::Deregister(name)).await
}

async fn invoke(
    State(shared): From,
    Extension(id): Id,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    called(&shared, &id, name, &headers, body, Ask::Invoke).await
}

async fn invoke_later(
    State(shared): From,
    Extension(id): Id,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    called(&shared, &id, name, &headers, body, Ask::InvokeLater).await
}

async fn fetch(State(shared): From, Extension(id): Id, Path(of): Path<String>) -> Response {
    order(&shared, &id, Ask::Fetch(of)).await
}

async fn prewarm(State(shared): From, Extension(id): Id, Path(name): Path<String>) -> Response {
    order(&shared, &id, Ask::Prewarm(name)).await
}

async fn functions(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Ask::Functions).await
}

/// The functions as OpenFaaS's gateway lists them.
async fn openfaas_functions(State(shared): From, Extension(id): Id) -> Response {
    let answer = match answered(&shared, &id, Ask::Functions).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return told_as(answer, &id),
        Err(refused) => return refused,
    };
    let listed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let functions = listed["functions"].as_array().into_iter().flatten();
    let theirs: Vec<Value> = functions
        .map(|f| {
            let mut theirs =
                json!({"name": f["name"], "image": f["image"].as_str().unwrap_or_default(), "namespace": ""});
            // A controller does not count by function.
            if let Some(n) = f["invocations"].as_u64() {
                theirs["invocationCount"] = n.into();
            }
            theirs
        })
        .collect();
    Json(theirs).into_response()
}

async fn status(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Ask::Status).await
}

async fn drain(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Ask::Drain).await
}

async fn metrics(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Ask::Metrics).await
}

async fn workers(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Ask::Workers).await
}

async fn worker_status(State(shared): From, Extension(id): Id, Path(name): Path<String>) -> Response {
    order(&shared, &id, Ask::WorkerStatus(name)).await
}

async fn join(State(shared): From, Extension(id): Id, body: Body) -> Response {
    told(&shared, &id, body, Ask::Join).await
}

async fn beat(State(shared): From, Extension(id): Id, Path(name): Path<String>, body: Body) -> Response {
    told(&shared, &id, body, |body| Ask::Beat(name, body)).await
}

async fn leave(State(shared): From, Extension(id): Id, Path(name): Path<String>, body: Body) -> Response {
    told(&shared, &id, body, |body| Ask::Leave(name, body)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A route that is not described, or described and not there.
    #[test]
    fn the_description_has_every_route_and_no_other() {
        let text = include_str!("api.rs");
        let mut served = BTreeSet::new();
        for line in text.lines().filter_map(|l| l.trim().strip_prefix(".route(\"")) {
            let (path, does) = line.split_once("\", ").expect("a path and what it does");
            for method in ["get", "post", "delete"] {
                if does.contains(&format!("{method}(")) {
                    served.insert(format!("{method} {path}"));
                }
            }
        }
        let description: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let paths = description["paths"].as_object().expect("paths");
        let described: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, does)| {
                does.as_object().into_iter().flatten().map(move |(m, _)| format!("{m} {path}"))
            })
            .collect();
        assert_eq!(served, described);
        assert!(served.len() >= 16, "{served:?}");
    }
}
