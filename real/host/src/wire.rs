//! The wire into a sandbox: HTTP/1.1, keep-alive, over a unix socket or TCP, and to a daemon also over TLS. `real/WIRE.md`
//! describes it.

use crate::home::Shared;
use crate::room::{self, Gathering, Room};
use crate::tls::Trust;
use crate::unix;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
pub use hyper::Method;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Bytes that an answer may have.
pub const ANSWER_LIMIT: usize = 16 << 20;
/// What is kept of a body that nobody wants, or a piece more.
const BEGINNING: usize = 512;
/// Connections to one sandbox that are kept for later calls, and for how long: our own servers close theirs later.
const IDLE: usize = 64;
const KEPT: Duration = Duration::from_secs(20);

/// Where a sandbox answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket's path, at most 107 bytes.
    Unix(PathBuf),
    /// A socket that a sandbox makes.
    Shared(Rc<Shared>),
    /// A TCP port.
    Tcp(SocketAddr),
    /// A host and its port, over TLS.
    Tls(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Shared(socket) => write!(f, "{socket}"),
            Address::Tcp(at) => write!(f, "{at}"),
            Address::Tls(host, port) => write!(f, "https://{host}:{port}"),
        }
    }
}

/// A call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// What the agent is to do, as its query.
    pub query: String,
    /// `elapse-id`.
    pub id: u64,
    /// `elapse-deadline-ms`: what is left for the call.
    pub deadline_ms: Option<u64>,
    /// The body.
    pub body: Bytes,
    /// The body's media type.
    pub kind: Option<String>,
    /// What is asked in place of `POST /invoke` and the agent's own query.
    pub target: Option<Target>,
    /// Nobody wants the answer's body: its beginning is kept, for a fault's sentence.
    pub unread: bool,
}

/// A request of a caller's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// HTTP's.
    pub method: Method,
    /// With its query.
    pub path: String,
    /// Headers beside the media type: name, value.
    pub headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// The body's media type, where the peer told one.
    pub kind: Option<String>,
    /// Headers whose names begin with `elapse-`.
    pub facts: Vec<(String, String)>,
    /// All headers as they came.
    pub headers: HeaderMap,
}

impl Answer {
    /// The headers that go on to who asked by this method. The answer to a HEAD has no body: its length is only told.
    pub fn carried(&self, method: &Method) -> Vec<(String, String)> {
        let mut all = carried(&self.headers);
        if method == Method::HEAD
            && let Some(length) = self.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok())
        {
            all.push((CONTENT_LENGTH.to_string(), length.to_string()));
        }
        all
    }

    /// Whether the function reports success.
    pub fn is_ok(&self) -> bool {
        self.status < 400
    }

    /// The first line of the body, for a fault's sentence.
    pub fn first_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]).into_owned();
        let line = text.lines().next().unwrap_or("").trim().to_string();
        if line.is_empty() { format!("status {}", self.status) } else { line }
    }

    /// Why a daemon refuses: what its JSON body has under `error`, or else the first line.
    pub fn why(&self) -> String {
        let said = serde_json::from_slice::<serde_json::Value>(&self.body).ok();
        let why = said.as_ref().and_then(|v| v["error"].as_str());
        why.map_or_else(|| self.first_line(), str::to_string)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// Nobody listens, yet or any more.
    Refused(String),
    /// The connection broke, or what came over it is no HTTP.
    Broken(String),
    /// The answer is longer than [`ANSWER_LIMIT`].
    TooLong,
    /// The answer has more headers than may go on: [`is_too_much`].
    TooManyHeaders,
    /// There is no room for the answer.
    NoRoom,
}

impl fmt::Display for WireFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireFault::Refused(why) => write!(f, "nobody answers: {why}"),
            WireFault::Broken(why) => write!(f, "the connection broke: {why}"),
            WireFault::TooManyHeaders => {
                write!(
                    f,
                    "the answer has more than {MOST_HEADERS} headers or {} KiB of them",
                    HEADER_BYTES >> 10
                )
            }
            WireFault::NoRoom => f.write_str("the answers on their way are too long together (api.room)"),
            WireFault::TooLong => write!(f, "the answer is longer than {} MiB", ANSWER_LIMIT >> 20),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The client of one sandbox. Connections are kept; as many calls as there are run at once, each on its own.
pub struct Peer {
    address: Address,
    trust: Option<Trust>,
    /// What answers take room of.
    room: Option<Room>,
    /// With when they were last used.
    idle: RefCell<Vec<(Sender, Instant)>>,
}

impl Peer {
    /// Where it answers.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A client that connects when it is first needed.
    pub fn new(address: Address) -> Peer {
        Peer { address, trust: None, room: None, idle: RefCell::default() }
    }

    /// Over TLS it believes these.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Peer {
        Peer { trust: Some(trust), ..self }
    }

    /// Answers take room of that.
    #[must_use]
    pub fn within(self, room: Option<Room>) -> Peer {
        Peer { room, ..self }
    }

    /// `GET /`: whether it is ready.
    ///
    /// # Errors
    /// Why not, or not yet.
    pub async fn ready(&self) -> Result<(), WireFault> {
        let request = request(Method::GET, "/".into(), None)?;
        let answer = self.send(request, true).await?;
        if answer.is_ok() { Ok(()) } else { Err(WireFault::Broken(answer.first_line())) }
    }

    /// `POST /invoke`, or what the call has in its place.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(&self, mut call: Call) -> Result<Answer, WireFault> {
        if let Some(target) = call.target.take() {
            let unread = call.unread;
            let request = request(target.method, target.path, Some((call, target.headers)))?;
            let answer = self.send(request, unread).await?;
            return match is_too_much(&carried(&answer.headers)) {
                true => Err(WireFault::TooManyHeaders),
                false => Ok(answer),
            };
        }
        let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
        let unread = call.unread;
        self.send(request(Method::POST, format!("/invoke{query}"), Some((call, Vec::new())))?, unread).await
    }

    /// Any other request, as the API of a daemon wants them.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, WireFault> {
        let host = match &self.address {
            Address::Tls(host, _) => host,
            Address::Unix(_) | Address::Shared(_) | Address::Tcp(_) => "elapse",
        };
        let mut builder = Request::builder().method(method).uri(path).header("host", host);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let whole = builder.body(Full::new(body)).map_err(|e| WireFault::Broken(e.to_string()))?;
        self.send(whole, false).await
    }

    async fn connect(&self) -> Result<Sender, WireFault> {
        let refused = |e: std::io::Error| WireFault::Refused(format!("{}: {e}", self.address));
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(refused)?;
                handshake(unix::Stream::try_from(stream).map_err(refused)?).await
            }
            Address::Shared(socket) => {
                let stream = socket.connect().await.map_err(refused)?;
                handshake(unix::Stream::try_from(stream).map_err(refused)?).await
            }
            Address::Tcp(at) => {
                let stream = TcpStream::connect(at).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                handshake(stream).await
            }
            Address::Tls(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                stream.set_nodelay(true).map_err(refused)?;
                let Some(trust) = &self.trust else {
                    return Err(WireFault::Refused(format!("{}: nobody is trusted", self.address)));
                };
                handshake(trust.secure(host, stream).await.map_err(refused)?).await
            }
        }
    }

    async fn send(&self, mut request: Request<Full<Bytes>>, unread: bool) -> Result<Answer, WireFault> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let (mut sender, fresh) = match kept {
                Some((sender, since)) if sender.is_closed() || since.elapsed() > KEPT => continue,
                Some((sender, _)) => (sender, false),
                None => (self.connect().await?, true),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let (status, headers) = (parts.status.as_u16(), parts.headers);
                    let facts = facts_of(&headers);
                    let kind = headers.get("content-type");
                    let kind = kind.and_then(|kind| kind.to_str().ok()).filter(|kind| !kind.is_empty());
                    let kind = kind.map(str::to_string);
                    let close = headers.get(CONNECTION).is_some_and(|v| v == "close");
                    let body = self.read(body, unread).await?;
                    if !close && self.idle.borrow().len() < IDLE {
                        self.idle.borrow_mut().push((sender, Instant::now()));
                    }
                    return Ok(Answer { status, body, kind, facts, headers });
                }
                Err(mut failed) => match failed.take_message() {
                    // It was never sent: the peer had closed a connection that was kept.
                    Some(unsent) if !fresh => request = unsent,
                    _ => return Err(WireFault::Broken(root_of(failed.error()))),
                },
            }
        }
    }
}

/// While an answer holds more room than a little, each such span has to bring so much more of it.
const SPAN: Duration = Duration::from_secs(30);
const LEAST: usize = 30 * (16 << 10);
const LITTLE: usize = 64 << 10;

impl Peer {
    /// Reads an answer's body to its end; of one that nobody wants the beginning is kept.
    async fn read(&self, mut body: Incoming, unread: bool) -> Result<Bytes, WireFault> {
        let told = (!unread).then(|| body.size_hint().exact()).flatten();
        let (mut read, mut length) = (Gathering::within(self.room.as_ref(), told), 0);
        // The end of a span, and what had come at its beginning.
        let (mut until, mut before) = (Instant::now() + SPAN, 0);
        loop {
            let frame = match tokio::time::timeout_at(until.into(), body.frame()).await {
                Ok(None) => break,
                Ok(Some(frame)) => frame.map_err(|e| WireFault::Broken(root_of(&e)))?,
                Err(_) => {
                    // Who holds little may take its time.
                    if self.room.is_some() && read.len() > LITTLE && length - before < LEAST {
                        let came = length - before;
                        let why = format!("the answer stopped: {came} bytes of it in {} s", SPAN.as_secs());
                        return Err(WireFault::Broken(why));
                    }
                    (until, before) = (Instant::now() + SPAN, length);
                    continue;
                }
            };
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len();
            if length > ANSWER_LIMIT {
                return Err(WireFault::TooLong);
            }
            if !unread || read.len() < BEGINNING {
                read.add(piece).map_err(|room::Full| WireFault::NoRoom)?;
            }
        }
        Ok(read.whole())
    }
}

/// Headers that may go on with a request or an answer that is passed on, and bytes of them. Each hop adds a dozen, and takes 100.
pub const MOST_HEADERS: usize = 64;
/// See [`MOST_HEADERS`].
pub const HEADER_BYTES: usize = 32 << 10;

/// Whether these are more headers than may go on.
pub fn is_too_much(headers: &[(String, String)]) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    headers.len() > MOST_HEADERS || bytes > HEADER_BYTES
}

/// What of these headers goes on with a request or an answer that is passed on: not what is of the connection (RFC 9110,
/// 7.6.1), of the body as it is written here, of the right to ask, or ours.
pub fn carried(headers: &HeaderMap) -> Vec<(String, String)> {
    const STAY: [&str; 15] = [
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    ];
    let named = headers.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
    let of_connection: HashSet<String> =
        named.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect();
    let goes =
        |name: &str| !STAY.contains(&name) && !name.starts_with("elapse-") && !of_connection.contains(name);
    let going = headers.iter().filter(|(name, _)| goes(name.as_str()));
    let text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).ok().map(str::to_string);
    going.filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect()
}

fn facts_of(headers: &HeaderMap) -> Vec<(String, String)> {
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("elapse-"));
    ours.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_string()))).collect()
}

fn request(
    method: Method,
    path: String,
    call: Option<(Call, Vec<(String, String)>)>,
) -> Result<Request<Full<Bytes>>, WireFault> {
    let has_body = ![Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS].contains(&method);
    let mut builder = Request::builder().method(method).uri(path).header("host", "elapse");
    let mut body = Bytes::new();
    if let Some((call, headers)) = call {
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        builder = builder.header("elapse-id", call.id);
        if let Some(ms) = call.deadline_ms {
            builder = builder.header("elapse-deadline-ms", ms);
        }
        if let Some(kind) = call.kind {
            builder = builder.header("content-type", kind);
        }
        body = call.body;
        // Of an empty body too: many servers read as much as it says.
        if has_body || !body.is_empty() {
            builder = builder.header(CONTENT_LENGTH, body.len());
        }
    }
    builder.body(Full::new(body)).map_err(|e| WireFault::Broken(e.to_string()))
}

async fn handshake(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Sender, WireFault> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|e| WireFault::Broken(root_of(&e)))?;
    // It ends when the sender is dropped or the peer closes; its fault is told by the call.
    drop(tokio::task::spawn_local(connection));
    Ok(sender)
}

/// The innermost cause: what a user can do something with.
fn root_of(e: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = vec![e.to_string()];
    let mut at = e.source();
    while let Some(cause) = at {
        causes.push(cause.to_string());
        at = cause.source();
    }
    causes.dedup();
    causes.join(": ")
}
