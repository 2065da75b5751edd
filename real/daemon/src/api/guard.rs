//! Who is let in: by the key or the user, for what a request wants, and not for another's page.

use super::wants::{OtherEnd, Wants};
use super::{RequestId, Shared, error};
use crate::roles::Role;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// How many lines a second are written of what anybody can cause.
const LINES: u32 = 20;

/// Counts lines of a second.
#[derive(Default)]
pub(super) struct Lines(Mutex<Option<(Instant, u32)>>);

impl Lines {
    /// Whether another line is written.
    fn allows(&self) -> bool {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, lines) =
            second.filter(|(since, _)| since.elapsed().as_secs() == 0).unwrap_or((Instant::now(), 0));
        *second = Some((since, lines + 1));
        lines < LINES
    }
}

/// Whether this path only calls a function.
fn is_of_function(path: &str) -> bool {
    ["/function/", "/async-function/"].iter().any(|of| path.starts_with(of))
}

/// Gives the request its id and lets in who may ask.
pub(super) async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    if let Some(pulse) = &shared.pulse {
        pulse.works();
    }
    let given = request.headers().get("x-request-id").and_then(|v| v.to_str().ok());
    let fits = |id: &&str| !id.is_empty() && id.len() <= 128;
    let id = RequestId(given.filter(fits).map_or_else(
        || format!("{}-{}", shared.terms.life, shared.requests.fetch_add(1, Ordering::Relaxed)),
        str::to_string,
    ));
    let wants = Wants::of(request.method(), request.uri().path());
    let open = wants == Wants::NOTHING;
    let end = OtherEnd::of(request.extensions());
    let caller = shared.terms.gate.caller(token_of(request.headers()), end.user);
    let mut response = match &caller {
        None if !open => {
            refused(&shared, &id, &request, "nobody known", "no valid token");
            error(StatusCode::UNAUTHORIZED, "a valid bearer token is needed", &id)
        }
        Some(caller) if !wants.allows(caller) => {
            let why = wants.why_not();
            refused(&shared, &id, &request, &caller.name, &why);
            error(StatusCode::FORBIDDEN, &why, &id)
        }
        // A browser says for whose page it asks; and where no token is asked for, any page could.
        _ if request.headers().contains_key(header::ORIGIN) && !is_of_function(request.uri().path()) => {
            error(
                StatusCode::FORBIDDEN,
                "a web page may call functions (/function/NAME) and nothing else here",
                &id,
            )
        }
        // A page's own name may lead here (DNS rebinding); then its browser takes this API for the page's own server.
        _ if shared.terms.any_name
            && shared.terms.gate.is_open()
            && !(open || is_of_function(request.uri().path()))
            && is_of_another(request.headers()) =>
        {
            let why = "without a token this answers at an address or at localhost, not at another name; set token_file for that";
            error(StatusCode::FORBIDDEN, why, &id)
        }
        _ if !has_one_host(&request) => {
            error(StatusCode::BAD_REQUEST, "a request names its host once (Host), no more and no less", &id)
        }
        _ if request.headers().contains_key("x-callback-url") => error(
            StatusCode::NOT_IMPLEMENTED,
            "nobody is called back here (X-Callback-Url); fetch the answer at /v1/invocations/ID, or leave the header out",
            &id,
        ),
        // Refused before any of it is read.
        _ if length_of(request.headers()).is_some_and(|n| n > shared.terms.body_limit) => {
            error(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than body_limit", &id)
        }
        _ => {
            request.extensions_mut().insert(id.clone());
            if let Some(caller) = caller {
                if let Some(role @ (Role::Register | Role::Operate | Role::Join)) = wants.role
                    && !request.uri().path().ends_with("/heartbeat")
                {
                    let (method, path) = (request.method(), request.uri().path());
                    tracing::info!(target: "elapse::audit", request = id.0, who = %caller.name, role = role.word(), %method, path, "let in");
                }
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Whether a request names its host once, as HTTP/1.1 has it (RFC 9112, 3.2); HTTP/1.0 knows none.
fn has_one_host(request: &Request) -> bool {
    let named = request.headers().get_all(header::HOST).iter().count();
    named == 1 || (named == 0 && request.version() < Version::HTTP_11)
}

/// Whether this host is asked under a name that anybody on the internet can have: one of several parts.
fn is_of_another(headers: &HeaderMap) -> bool {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    named.is_some_and(|named| {
        let host = named.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        host.contains('.') && host.parse::<IpAddr>().is_err() && !host.ends_with(".localhost")
    })
}

fn length_of(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The token that a request brings.
fn token_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Tells the audit log who was refused what.
fn refused(shared: &Shared, id: &RequestId, request: &Request, who: &str, why: &str) {
    let (method, path) = (request.method(), request.uri().path());
    // As many as anybody can make: each a line, as long as there is not a flood of them.
    if shared.refusals.allows() {
        tracing::warn!(target: "elapse::audit", request = id.0, %who, %method, path, why, "refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_several_parts_may_be_anybodys() {
        let is_of_another = |host: &str| {
            let host = HeaderValue::from_str(host).expect("a value");
            is_of_another(&HeaderMap::from_iter([(header::HOST, host)]))
        };
        for ours in
            ["127.0.0.1:8480", "[::1]:8480", "localhost", "LOCALHOST:1", "a.localhost:80", "elapse", "?"]
        {
            assert!(!is_of_another(ours), "{ours}");
        }
        for another in
            ["a.example", "a.example:8480", "127.0.0.1.a.example", "localhost.a.example.", "A.Example"]
        {
            assert!(is_of_another(another), "{another}");
        }
        assert!(!super::is_of_another(&HeaderMap::new()));
    }
}
