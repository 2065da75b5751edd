//! What a caller sends to a function and what the function answers, beside the invocation that carries them.

use bytes::Bytes;
use std::cell::RefCell;

/// What a caller sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The function's input.
    pub body: Bytes,
    /// The media type of the body, where the caller told one.
    pub kind: Option<String>,
    /// For a function that is an HTTP server: the request that it is to get.
    pub target: Option<Target>,
}

/// A request for a function that is an HTTP server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// HTTP's.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Headers beside the media type: name, value.
    pub headers: Vec<(String, String)>,
}

/// What a function answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// The media type of the body, where the function told one.
    pub kind: Option<String>,
    /// The function's output.
    pub body: Bytes,
    /// Headers beside the media type, of what a [`Target`] was asked for: name, value.
    pub headers: Vec<(String, String)>,
}

/// What goes to and fro in an invocation that somebody waits for; invocations of a load have none.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What the caller sent.
    pub sent: Sent,
    reply: RefCell<Option<Reply>>,
}

impl Exchange {
    /// An exchange that has no answer yet.
    pub fn new(sent: Sent) -> Exchange {
        Exchange { sent, reply: RefCell::default() }
    }

    /// The function answered.
    pub fn answer(&self, reply: Reply) {
        *self.reply.borrow_mut() = Some(reply);
    }

    /// Takes what the function answered; `None` if it never did.
    pub fn take(&self) -> Option<Reply> {
        self.reply.borrow_mut().take()
    }
}
