//! The API of a daemon: HTTP and JSON, a worker's on a thread of its own.
//!
//! It checks who asks, how much and for what; only then a [`PendingRequest`] goes to the worker or controller, through a queue of
//! fixed length. Whatever floods the API, they see at most `concurrent` orders, and refusals cost a worker's thread nothing.
//!
//! Every error has one form: `{"error": "a sentence", "request_id": "..."}`.

mod bodies;
mod guard;
mod wants;

use super::credentials::Gate;
use super::phase::{Phase, Stage};
use super::request::{Answer, BYTES, Invoke, JSON, PendingRequest, Request, UNANSWERED};
use super::roles::{Caller, Role};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Json, Router};
pub(super) use bodies::BodyRoom;
use bodies::{Body, Note};
use elapse::base::{Status, Target};
use elapse_host::room::Room;
use elapse_host::threads::ThreadHeartbeat;
use elapse_host::wire::{HEADER_BYTES, MOST_HEADERS, carried, is_too_much};
use guard::{Lines, admit};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
pub(super) use wants::OtherEnd;
use wants::unqualified;

/// The API's description; a test holds it against the routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// What the API is told at its start.
pub(super) struct Terms {
    /// Who may come in.
    pub(super) gate: Gate,
    pub(super) phase: Phase,
    pub(super) body_limit: usize,
    /// What the bodies and answers of invocations may have together.
    pub(super) room: Room,
    pub(super) concurrent: usize,
    /// Whether a browser reaches the API under whatever name leads here.
    pub(super) any_name: bool,
    /// Before every request id, so that those of two lives differ.
    pub(super) life: String,
}

struct Shared {
    terms: Terms,
    orders: mpsc::Sender<PendingRequest>,
    places: Arc<Semaphore>,
    requests: AtomicU64,
    refusals: Lines,
    pulse: Option<ThreadHeartbeat>,
}

#[derive(Clone, Default)]
struct RequestId(String);

impl RequestId {
    fn of(extensions: &Extensions) -> RequestId {
        extensions.get::<RequestId>().cloned().unwrap_or_default()
    }
}

/// The routes; what is asked goes into `orders`. Each request shows in the pulse of the thread that is theirs.
pub(super) fn routes(
    terms: Terms,
    orders: mpsc::Sender<PendingRequest>,
    pulse: Option<ThreadHeartbeat>,
) -> Router {
    let (limit, concurrent) = (terms.body_limit, terms.concurrent);
    let shared = Arc::new(Shared {
        terms,
        orders,
        places: Arc::new(Semaphore::new(concurrent)),
        requests: AtomicU64::new(1),
        refusals: Lines::default(),
        pulse,
    });
    Router::new()
        .route("/v1/functions", get(functions).post(register))
        .route("/v1/functions/{name}", delete(deregister))
        .route("/v1/functions/{name}/invoke", post(invoke))
        .route("/v1/functions/{name}/invoke-async", post(invoke_later))
        .route("/v1/invocations/{id}", get(fetch))
        .route("/v1/functions/{name}/prewarm", post(prewarm))
        .route("/v1/status", get(status))
        .route("/v1/health", get(health))
        .route("/v1/drain", post(drain))
        .route("/v1/workers", get(workers).post(join))
        .route("/v1/workers/{name}", delete(leave))
        .route("/v1/workers/{name}/status", get(worker_status))
        .route("/v1/workers/{name}/heartbeat", post(beat))
        .route("/v1/openapi.json", get(|| async { ([(header::CONTENT_TYPE, JSON)], OPENAPI) }))
        .route("/metrics", get(metrics))
        .route("/function/{name}", get(invoke).post(invoke))
        .route("/function/{name}/", passing())
        .route("/function/{name}/{*path}", passing())
        .route("/async-function/{name}", post(invoke_later))
        .route("/system/functions", get(openfaas_functions))
        .route("/healthz", get(healthz))
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

/// What the server of a function is asked by: any of the methods that have a meaning of their own.
fn passing() -> MethodRouter<Arc<Shared>> {
    get(pass).head(pass).post(pass).put(pass).patch(pass).delete(pass).options(pass)
}

async fn refuse(Extension(id): Extension<RequestId>, status: StatusCode, why: &'static str) -> Response {
    error(status, why, &id)
}

fn error(status: StatusCode, why: &str, id: &RequestId) -> Response {
    (status, Json(json!({"error": why, "request_id": id.0}))).into_response()
}

/// Hands an order to the worker and waits for its answer.
async fn order(shared: &Shared, id: &RequestId, ask: Request) -> Response {
    told_as(answered(shared, id, ask).await, id)
}

async fn answered(shared: &Shared, id: &RequestId, ask: Request) -> Answer {
    // Questions pass even where invocations fill the room: an overloaded worker can still be looked at.
    let invocation = matches!(ask, Request::Invoke(..) | Request::InvokeLater(..) | Request::Prewarm(..));
    let place = || Arc::clone(&shared.places).try_acquire_owned().ok().map(Some);
    let Some(permit) = (if invocation { place() } else { Some(None) }) else {
        return Answer::error(429, "too many invocations are on their way; try again later");
    };
    let (reply, answer) = oneshot::channel();
    if shared.orders.send(PendingRequest { ask, id: id.0.clone(), reply, permit }).await.is_err() {
        return Answer::error(503, "the worker has ended").with_status(Status::Dropped);
    }
    let ended = |_| Answer::error(502, UNANSWERED).with_status(Status::Lost);
    answer.await.unwrap_or_else(ended)
}

fn told_as(answer: Answer, id: &RequestId) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_informational() {
        let why = format!(
            "the function answered with {}, which is no answer: connections are not switched here",
            answer.status
        );
        return error(StatusCode::BAD_GATEWAY, &why, id);
    }
    let mut response = if answer.kind.is_empty() {
        error(status, &String::from_utf8_lossy(&answer.body), id)
    } else {
        let kind = HeaderValue::from_str(&answer.kind).unwrap_or(HeaderValue::from_static(BYTES));
        // What a function answers may be a page: it is not to have the API's origin, whose requests `admit` lets in.
        let alone = HeaderValue::from_static("sandbox allow-scripts allow-forms");
        let as_told = HeaderValue::from_static("nosniff");
        let headers = [(header::CONTENT_SECURITY_POLICY, alone), (header::X_CONTENT_TYPE_OPTIONS, as_told)];
        let mut response = (status, headers, answer.body).into_response();
        // What has no body has no type either; a cache would take it for that of the body it keeps.
        if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
            response.headers_mut().remove(header::CONTENT_TYPE);
        } else {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    };
    for (name, value) in answer.facts {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(&value))
            && response.headers().get_all(&name).iter().all(|there| *there != value)
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

type From = State<Arc<Shared>>;
type Id = Extension<RequestId>;
type By = Extension<Caller>;

/// The name in a path.
struct Name(String);

impl FromRequestParts<Arc<Shared>> for Name {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Name, Response> {
        let Ok(Path(name)) = Path::<String>::from_request_parts(parts, shared).await else {
            return Err(no_name(&RequestId::of(&parts.extensions)));
        };
        Ok(Name(unqualified(&name).to_string()))
    }
}

fn no_name(id: &RequestId) -> Response {
    error(StatusCode::BAD_REQUEST, "the name in the path is no UTF-8", id)
}

/// Asks with a body.
async fn told(shared: &Shared, id: &RequestId, body: Note, ask: impl FnOnce(Bytes) -> Request) -> Response {
    told_as(answered(shared, id, ask(body.0)).await, id)
}

/// Asks for an invocation.
async fn called(
    shared: &Shared,
    id: &RequestId,
    call: Result<Invoke, String>,
    ask: impl FnOnce(Invoke) -> Request,
) -> Response {
    match call {
        Ok(call) => told_as(answered(shared, id, ask(call)).await, id),
        Err(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why, id),
    }
}

/// How long the thread that does the work may take to say that it is alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Whether invocations are taken, and the thread that takes them answers.
#[expect(
    clippy::disallowed_methods,
    reason = "an API is only served live: tokio's timers are its event loop's"
)]
async fn health(State(shared): From, Extension(id): Id) -> Response {
    let unwell = |why: &str| error(StatusCode::SERVICE_UNAVAILABLE, why, &id);
    match shared.terms.phase.stage() {
        Stage::Serving => {}
        stage => return unwell(&format!("it is {}", stage.word())),
    }
    match tokio::time::timeout(ALIVE, answered(&shared, &id, Request::Health)).await {
        Ok(answer) => told_as(answer, &id),
        Err(_) => unwell(&format!("its thread has not answered for {} s", ALIVE.as_secs())),
    }
}

/// The same as OpenFaaS's gateway says it.
async fn healthz(shared: From, id: Id) -> Response {
    let response = health(shared, id).await;
    if response.status().is_success() { "OK".into_response() } else { response }
}

async fn register(State(shared): From, Extension(id): Id, Extension(caller): By, body: Note) -> Response {
    // Whose key is for some functions registers no other; what is no description is told by whoever reads it.
    let named =
        serde_json::from_slice::<Value>(&body.0).ok().and_then(|f| f["name"].as_str().map(str::to_string));
    if let Some(name) = named.filter(|name| !caller.may(Role::Register, Some(name))) {
        let why =
            format!("the role 'register' for function '{name}' is needed for this, and the key has another");
        return error(StatusCode::FORBIDDEN, &why, &id);
    }
    told(&shared, &id, body, |json| Request::Register(json, caller)).await
}

async fn deregister(State(shared): From, Extension(id): Id, Name(name): Name) -> Response {
    order(&shared, &id, Request::Deregister(name)).await
}

async fn invoke(
    State(shared): From,
    Extension(id): Id,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Response {
    called(&shared, &id, Invoke::new(name, body.0, None, &headers), Request::Invoke).await
}

/// A request for the HTTP server that the function is: everything behind its name is the server's.
async fn pass(
    State(shared): From,
    Extension(id): Id,
    (method, uri): (Method, Uri),
    headers: HeaderMap,
    body: Body,
) -> Response {
    // As it is written: what the rest means is the server's business.
    let mut parts = uri.path_and_query().map_or("", PathAndQuery::as_str).splitn(4, '/').skip(2);
    let (name, behind) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(name) = percent_decode_str(name).decode_utf8() else { return no_name(&id) };
    let (of_head, further) = (method == Method::HEAD, carried(&headers));
    if is_too_much(&further) {
        let why = format!("more than {MOST_HEADERS} headers or {} KiB are not passed on", HEADER_BYTES >> 10);
        return error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &why, &id);
    }
    let target = Target { method: method.to_string(), path: format!("/{behind}"), headers: further };
    let call = Invoke::new(unqualified(&name).to_string(), body.0, Some(target), &headers);
    let mut response = called(&shared, &id, call, Request::Invoke).await;
    if of_head && !response.headers().contains_key(header::CONTENT_LENGTH) {
        // Of an empty body the length would be told to be 0; the server has not told it.
        let unknown = futures::stream::empty::<Result<Bytes, std::convert::Infallible>>();
        *response.body_mut() = axum::body::Body::from_stream(unknown);
    }
    response
}

async fn invoke_later(
    State(shared): From,
    Extension(id): Id,
    Extension(caller): By,
    Name(name): Name,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let call = Invoke::new(name, body.0, None, &headers);
    called(&shared, &id, call, |call| Request::InvokeLater(call, caller)).await
}

async fn fetch(State(shared): From, Extension(id): Id, Extension(caller): By, Name(of): Name) -> Response {
    order(&shared, &id, Request::Fetch(of, caller)).await
}

async fn prewarm(State(shared): From, Extension(id): Id, Name(name): Name) -> Response {
    order(&shared, &id, Request::Prewarm(name)).await
}

async fn functions(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Request::Functions).await
}

/// The functions as OpenFaaS's gateway lists them.
async fn openfaas_functions(State(shared): From, Extension(id): Id) -> Response {
    let answer = answered(&shared, &id, Request::Functions).await;
    if answer.status != 200 {
        return told_as(answer, &id);
    }
    let listed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let functions = listed["functions"].as_array().into_iter().flatten();
    let theirs: Vec<Value> = functions
        .map(|f| {
            let mut theirs =
                json!({"name": f["name"], "image": f["image"].as_str().unwrap_or_default(), "namespace": "",
                    "replicas": 1, "availableReplicas": 1});
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
    order(&shared, &id, Request::Status).await
}

async fn drain(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Request::Drain).await
}

async fn metrics(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Request::Metrics).await
}

async fn workers(State(shared): From, Extension(id): Id) -> Response {
    order(&shared, &id, Request::Workers).await
}

async fn worker_status(State(shared): From, Extension(id): Id, Name(name): Name) -> Response {
    order(&shared, &id, Request::WorkerStatus(name)).await
}

async fn join(
    State(shared): From,
    Extension(id): Id,
    Extension(end): Extension<OtherEnd>,
    Extension(caller): By,
    body: Note,
) -> Response {
    told(&shared, &id, body, |json| Request::Join(json, end.address, caller)).await
}

async fn beat(State(shared): From, Extension(id): Id, Name(name): Name, body: Note) -> Response {
    told(&shared, &id, body, |body| Request::Beat(name, body)).await
}

async fn leave(
    State(shared): From,
    Extension(id): Id,
    Extension(caller): By,
    Name(name): Name,
    body: Note,
) -> Response {
    told(&shared, &id, body, |body| Request::Leave(name, body, caller)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A route that is not described, or described and not there.
    #[test]
    fn the_description_has_every_route_and_no_other() {
        let text = include_str!("mod.rs");
        let mut served = BTreeSet::new();
        for line in text.lines().filter_map(|l| l.trim().strip_prefix(".route(\"")) {
            let (path, does) = line.split_once("\", ").expect("a path and what it does");
            for method in ["get", "head", "post", "put", "patch", "delete", "options"] {
                if does.contains(&format!("{method}(")) || does.contains("passing(") {
                    served.insert(format!("{method} {}", path.replace("{*", "{")));
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
