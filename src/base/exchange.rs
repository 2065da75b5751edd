//! What a caller sends to a function and what the function answers, beside the invocation that carries them.

use bytes::Bytes;
use std::cell::RefCell;

/// The bodies of an invocation that somebody waits for; invocations of a load have none.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What the caller sent.
    pub body: Bytes,
    answer: RefCell<Option<(u16, Bytes)>>,
}

impl Exchange {
    /// An exchange that has no answer yet.
    pub fn new(body: Bytes) -> Exchange {
        Exchange { body, answer: RefCell::default() }
    }

    /// The function answered: HTTP's status and the body.
    pub fn answer(&self, status: u16, body: Bytes) {
        *self.answer.borrow_mut() = Some((status, body));
    }

    /// Takes what the function answered; `None` if it never did.
    pub fn take(&self) -> Option<(u16, Bytes)> {
        self.answer.borrow_mut().take()
    }
}
