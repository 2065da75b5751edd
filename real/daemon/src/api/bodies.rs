//! Bodies of requests: how long one may be, how much there may be of all together, and how slowly they may come.

use super::{RequestId, Shared, error};
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::Response;
use elapse_host::room::{Gathering, Room};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Each such span has to bring so much of a body, or the rest. What came before excuses no standing still.
const SPAN: Duration = Duration::from_secs(10);
const LEAST: usize = 10 * (4 << 10);

/// Holds the room that a peer's bodies share; among a request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct BodyRoom(pub(crate) Option<Room>);

/// The body of an invocation, whole, which has its part of the room.
pub(super) struct Body(pub(super) Bytes);

impl FromRequest<Arc<Shared>> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Body, Response> {
        let limit = (shared.terms.body_limit, "body_limit");
        let room = request.extensions().get::<BodyRoom>().and_then(|BodyRoom(room)| room.clone());
        whole(request, limit, Some(room.as_ref().unwrap_or(&shared.terms.room))).await.map(Body)
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

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of these tests is tokio's, which stands still while nobody waits"
)]
mod tests {
    use super::*;

    /// A body of so many bytes a second, which ends after so many seconds or stands still then.
    async fn read(
        first: usize,
        a_second: usize,
        seconds: u64,
        ends: bool,
    ) -> (Result<usize, StatusCode>, u64) {
        let begun = Instant::now();
        let pieces = futures::stream::unfold(0, move |nth| async move {
            if nth > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            if nth > seconds {
                if ends {
                    return None;
                }
                std::future::pending::<()>().await;
            }
            let piece = Bytes::from(vec![0; if nth == 0 { first } else { a_second }]);
            Some((Ok::<_, std::convert::Infallible>(piece), nth + 1))
        });
        let request = Request::new(axum::body::Body::from_stream(pieces));
        let read = whole(request, (8 << 20, "8 MiB"), None).await;
        (read.map(|body| body.len()).map_err(|answer| answer.status()), begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_on_however_much_of_it_came_before() {
        // What comes at once pays for nothing later.
        for first in [1, 100 << 10, 6 << 20] {
            let (read, took) = read(first, 0, 0, false).await;
            assert_eq!(read, Err(StatusCode::REQUEST_TIMEOUT));
            assert!((10..=21).contains(&took), "{first}: {took} s");
        }
        assert_eq!(read(1, 5 << 10, 100, true).await.0, Ok(1 + 100 * (5 << 10)));
        assert_eq!(read(1, 1 << 10, 100, true).await.0, Err(StatusCode::REQUEST_TIMEOUT));
        // A short one has its ten seconds.
        assert_eq!(read(1, 1, 8, true).await.0, Ok(9));
    }
}
