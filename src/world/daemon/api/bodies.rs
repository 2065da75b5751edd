//! Bodies of requests: how long they may be, alone and together, and how long they may take.

use super::{RequestId, Shared, error};
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that the bodies of all invocations on their way may have together, if `body_limit` does not let one alone be longer.
const BODIES: usize = 256 << 20;
/// What of that is given out at a time.
const PIECE: usize = 1 << 10;

/// The room for bodies of invocations, in pieces.
pub(super) fn room(limit: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limit.max(BODIES).div_ceil(PIECE).min(Semaphore::MAX_PERMITS)))
}

/// The body of an invocation, whole, and its part of the room for those.
pub(super) struct Body(pub(super) Bytes, pub(super) Option<OwnedSemaphorePermit>);

impl FromRequest<Arc<Shared>> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Body, Response> {
        let id = RequestId::of(request.extensions());
        let longest = longest(&request, shared.terms.body_limit);
        let pieces = u32::try_from(longest.div_ceil(PIECE)).unwrap_or(u32::MAX);
        let bytes = match pieces {
            0 => None,
            _ => match Arc::clone(&shared.bodies).try_acquire_many_owned(pieces) {
                Ok(bytes) => Some(bytes),
                Err(_) => {
                    let why = "the bodies on their way are too long together; try again later";
                    return Err(error(StatusCode::TOO_MANY_REQUESTS, why, &id));
                }
            },
        };
        Ok(Body(whole(request, shared, &id).await?, bytes))
    }
}

/// What is said of functions and workers: short, and read however full the room for invocations is. A controller whose workers
/// could not be heard of would lose them.
pub(super) struct Note(pub(super) Bytes);

impl FromRequest<Arc<Shared>> for Note {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Note, Response> {
        const LONGEST: usize = 1 << 20;
        let id = RequestId::of(request.extensions());
        if longest(&request, 0) > LONGEST {
            return Err(error(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 1 MiB", &id));
        }
        Ok(Note(whole(request, shared, &id).await?))
    }
}

/// How long a body may turn out; `unsaid` where it does not say.
fn longest(request: &Request, unsaid: usize) -> usize {
    let said = request.body().size_hint().upper();
    said.map_or(unsaid, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Reads a body to its end.
#[expect(
    clippy::disallowed_methods,
    reason = "an API is only served live: tokio's timers are its event loop's"
)]
async fn whole(request: Request, shared: &Arc<Shared>, id: &RequestId) -> Result<Bytes, Response> {
    match tokio::time::timeout(PATIENCE, Bytes::from_request(request, shared)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(fault)) => {
            Err(error(fault.status(), "the body is longer than body_limit, or it broke off", id))
        }
        Err(_) => {
            let why = format!("the body did not come within {} s", PATIENCE.as_secs());
            Err(error(StatusCode::REQUEST_TIMEOUT, &why, id))
        }
    }
}
