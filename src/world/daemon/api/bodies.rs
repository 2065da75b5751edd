//! Bodies of requests: how long one may be, how much there may be of all together, and how slowly they may come.

use super::{RequestId, Shared, error};
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::Response;
use elapse_real::room::{Gathering, Room};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Each such span has to bring so much of a body, or the rest. What came before excuses no standing still.
const SPAN: Duration = Duration::from_secs(10);
const LEAST: usize = 10 * (4 << 10);

/// The body of an invocation, whole, which has its part of the room.
pub(super) struct Body(pub(super) Bytes);

impl FromRequest<Arc<Shared>> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Body, Response> {
        let limit = (shared.terms.body_limit, "body_limit");
        whole(request, limit, Some(&shared.terms.room)).await.map(Body)
    }
}

/// What is said of functions and workers: short, and read however full the room for invocations is. A controller whose workers
/// could not be heard of would lose them.
pub(super) struct Note(pub(super) Bytes);

impl FromRequest<Arc<Shared>> for Note {
    type Rejection = Response;

    async fn from_request(request: Request, _shared: &Arc<Shared>) -> Result<Note, Response> {
        whole(request, (1 << 20, "1 MiB"), None).await.map(Note)
    }
}

/// Reads a body to its end, if it is not longer than a limit, of this name, and there is room for it as it comes.
async fn whole(
    request: Request,
    (limit, named): (usize, &str),
    room: Option<&Room>,
) -> Result<Bytes, Response> {
    let id = RequestId::of(request.extensions());
    let refused = |status, why: &str| error(status, why, &id);
    let too_long = format!("the body is longer than {named}");
    let mut body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, &too_long));
    }
    // The end of a span, and what had come at its beginning.
    let (mut until, mut before) = (Instant::now() + SPAN, 0);
    let mut read = Gathering::within(room, body.size_hint().exact());
    loop {
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Ok(None) => return Ok(read.whole()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(refused(StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) if read.len() - before >= LEAST => {
                (until, before) = (Instant::now() + SPAN, read.len());
                continue;
            }
            Err(_) => {
                let why = format!(
                    "the body came too slowly: {} bytes in the last {} s; send {} KiB in that time, or the rest",
                    read.len() - before,
                    SPAN.as_secs(),
                    LEAST >> 10
                );
                return Err(refused(StatusCode::REQUEST_TIMEOUT, &why));
            }
        };
        let Ok(piece) = frame.into_data() else { continue };
        if read.len() + piece.len() > limit {
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, &too_long));
        }
        if read.add(piece).is_err() {
            let why = "the bodies and answers on their way are too long together (api.room); try again later";
            return Err(refused(StatusCode::TOO_MANY_REQUESTS, why));
        }
    }
}
