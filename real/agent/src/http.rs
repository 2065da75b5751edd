//! HTTP/1.1 on one connection: requests with a length, answered in order, kept alive.
//!
//! What is malformed is answered with what is wrong about it, and the connection is closed, because nobody can tell
//! where the next request would begin.

use crate::{Mode, behaviour};
use std::io::{self, Read, Write};

/// Bytes that the head of a request may have.
const HEAD_LIMIT: usize = 16 << 10;
/// Bytes that a body may have.
const BODY_LIMIT: usize = 16 << 20;
const HEADERS: usize = 64;

/// An answer.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer with a text.
    pub fn text(status: u16, text: impl Into<String>) -> Answer {
        Answer { status, body: text.into().into_bytes() }
    }
}

struct Head {
    method: String,
    path: String,
    length: usize,
    /// Bytes of the head itself.
    size: usize,
    close: bool,
    expects: bool,
    /// Milliseconds that are left for this call.
    deadline_ms: Option<u64>,
}

/// Answers what comes on a connection until the peer closes it.
pub fn talk<S: Read + Write>(mut stream: S, mode: &Mode) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(512);
    loop {
        let head = loop {
            match parse(&buffer) {
                Ok(Some(head)) => break head,
                Ok(None) if buffer.len() > HEAD_LIMIT => {
                    return refuse(&mut stream, 431, "the head of the request is longer than 16 KiB");
                }
                Ok(None) => {
                    if !more(&mut stream, &mut buffer, 4096)? {
                        return Ok(());
                    }
                }
                Err((status, why)) => return refuse(&mut stream, status, &why),
            }
        };
        if head.length > BODY_LIMIT {
            return refuse(&mut stream, 413, "the body is longer than 16 MiB");
        }
        if head.expects && buffer.len() < head.size + head.length {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while buffer.len() < head.size + head.length {
            let missing = head.size + head.length - buffer.len();
            if !more(&mut stream, &mut buffer, missing)? {
                return Ok(());
            }
        }
        let body = &buffer[head.size..head.size + head.length];
        let answer = answer(&head, body, mode);
        write(&mut out, &answer, head.close, head.method == "HEAD");
        stream.write_all(&out)?;
        if head.close {
            return Ok(());
        }
        buffer.drain(..head.size + head.length);
    }
}

fn more(stream: &mut impl Read, buffer: &mut Vec<u8>, want: usize) -> io::Result<bool> {
    let have = buffer.len();
    buffer.resize(have + want.min(64 << 10), 0);
    let n = loop {
        match stream.read(&mut buffer[have..]) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    buffer.truncate(have + *n.as_ref().unwrap_or(&0));
    Ok(n? > 0)
}

fn parse(buffer: &[u8]) -> Result<Option<Head>, (u16, String)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let size = match request.parse(buffer) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err((400, format!("this is no HTTP/1.1 request: {e}"))),
    };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_string(),
        path: request.path.unwrap_or_default().to_string(),
        length: 0,
        size,
        close: request.version == Some(0),
        expects: false,
        deadline_ms: None,
    };
    for header in request.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            head.length =
                value.parse().map_err(|_| (400, format!("content-length '{value}' is no number")))?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err((411, "send a content-length; chunked bodies are not taken".into()));
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.close |= value.eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects = value.eq_ignore_ascii_case("100-continue");
        } else if header.name.eq_ignore_ascii_case("elapse-deadline-ms") {
            head.deadline_ms = value.parse().ok();
        }
    }
    Ok(Some(head))
}

fn answer(head: &Head, body: &[u8], mode: &Mode) -> Answer {
    let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
    match (head.method.as_str(), path) {
        ("GET" | "HEAD", "/") => Answer::text(200, "ready\n"),
        ("POST", "/invoke") => match mode {
            Mode::Exec(command) => behaviour::exec(command, body, head.deadline_ms),
            Mode::Behave | Mode::Serve(_) => match behaviour::Order::parse(query) {
                Ok(order) => order.run(body),
                Err(why) => Answer::text(400, why),
            },
        },
        (_, "/" | "/invoke") => Answer::text(405, "GET / says that it is ready, POST /invoke invokes\n"),
        _ => Answer::text(404, "there are GET / and POST /invoke\n"),
    }
}

fn write(out: &mut Vec<u8>, answer: &Answer, close: bool, head_only: bool) {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    };
    out.clear();
    let connection = if close { "connection: close\r\n" } else { "" };
    // Writing into a vector cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {} {reason}\r\ncontent-length: {}\r\n{connection}\r\n",
        answer.status,
        answer.body.len()
    );
    if !head_only {
        out.extend_from_slice(&answer.body);
    }
}

fn refuse(stream: &mut impl Write, status: u16, why: &str) -> io::Result<()> {
    let mut out = Vec::new();
    write(&mut out, &Answer::text(status, format!("{why}\n")), true, false);
    stream.write_all(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends all at once and then closes.
    struct Peer(io::Cursor<Vec<u8>>, Vec<u8>);
    impl Read for Peer {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(request: &[u8]) -> String {
        let mut peer = Peer(io::Cursor::new(request.to_vec()), Vec::new());
        let mut both = Both(&mut peer);
        talk(&mut both, &Mode::Behave).unwrap();
        String::from_utf8(peer.1).unwrap()
    }
    struct Both<'a>(&'a mut Peer);
    impl Read for &mut Both<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for &mut Both<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn two_requests_on_one_connection_are_answered_in_order() {
        let said = said(
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\nPOST /invoke?behaviour=echo HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
        );
        assert!(said.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n"), "{said}");
        assert!(said.ends_with("content-length: 2\r\n\r\nhi"), "{said}");
    }

    #[test]
    fn what_is_malformed_is_answered() {
        assert!(said(b"\x00\x01nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(said(b"POST /invoke HTTP/1.1\r\ncontent-length: x\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(
            said(b"POST /invoke HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n")
                .starts_with("HTTP/1.1 413 ")
        );
        assert!(
            said(b"POST /invoke HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").starts_with("HTTP/1.1 411 ")
        );
        assert!(said(b"POST /invoke?behaviour=dance HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(said(b"DELETE / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(said(b"GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        let long = [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 20 << 10]].concat();
        assert!(said(&long).starts_with("HTTP/1.1 431 "));
        assert_eq!(said(b"GET / HT"), "");
    }
}
