//! One value, sent once.

use crate::rt::context::waits_for;
use crate::rt::tasks::Waits;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

enum State<T> {
    Empty,
    Waiting(Waker),
    Sent(T),
    Closed,
}

/// A channel for one value.
pub fn oneshot<T>() -> (OneSender<T>, OneReceiver<T>) {
    let shared = Rc::new(Cell::new(State::Empty));
    (OneSender(Rc::clone(&shared)), OneReceiver(shared))
}

/// Sends the value.
pub struct OneSender<T>(Rc<Cell<State<T>>>);

/// Waits for the value.
#[must_use = "a future does nothing unless it is awaited"]
pub struct OneReceiver<T>(Rc<Cell<State<T>>>);

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side of the channel is gone")
    }
}

impl std::error::Error for Closed {}

impl<T> OneSender<T> {
    /// Sends the value, or gives it back if nobody waits for it any more.
    ///
    /// # Errors
    /// The value, when the receiver was dropped.
    pub fn send(self, value: T) -> Result<(), T> {
        match self.0.replace(State::Closed) {
            State::Closed => Err(value),
            before => {
                self.0.set(State::Sent(value));
                if let State::Waiting(waker) = before {
                    waker.wake();
                }
                Ok(())
            }
        }
    }
}

impl<T> Drop for OneSender<T> {
    fn drop(&mut self) {
        match self.0.replace(State::Closed) {
            State::Waiting(waker) => waker.wake(),
            State::Sent(value) => self.0.set(State::Sent(value)),
            State::Empty | State::Closed => {}
        }
    }
}

impl<T> Future for OneReceiver<T> {
    type Output = Result<T, Closed>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.replace(State::Closed) {
            State::Sent(value) => Poll::Ready(Ok(value)),
            State::Closed => Poll::Ready(Err(Closed)),
            State::Waiting(waker) if waker.will_wake(cx.waker()) => {
                self.0.set(State::Waiting(waker));
                waits_for(Waits::Oneshot);
                Poll::Pending
            }
            State::Empty | State::Waiting(_) => {
                self.0.set(State::Waiting(cx.waker().clone()));
                waits_for(Waits::Oneshot);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for OneReceiver<T> {
    fn drop(&mut self) {
        drop(self.0.replace(State::Closed));
    }
}
