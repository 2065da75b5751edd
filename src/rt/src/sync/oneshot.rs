//! One value, sent once.

use crate::context::waits_for;
use crate::tasks::Waits;
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
///
/// ```
/// use elapse_rt::{Options, Sim, sync::oneshot};
///
/// Sim::new(Options::default()).block_on(async {
///     let (send, receive) = oneshot();
///     send.send("answer").unwrap();
///     assert_eq!(receive.await, Ok("answer"));
/// }).unwrap();
/// ```
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

impl<T> OneSender<T> {
    /// Whether nobody waits for the value any more.
    pub fn is_closed(&self) -> bool {
        let state = self.0.replace(State::Closed);
        let closed = matches!(state, State::Closed);
        self.0.set(state);
        closed
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
        let mut waker = None;
        loop {
            match self.0.replace(State::Closed) {
                State::Sent(value) => return Poll::Ready(Ok(value)),
                State::Closed => return Poll::Ready(Err(Closed)),
                State::Waiting(known) if known.will_wake(cx.waker()) => self.0.set(State::Waiting(known)),
                // The channel is whole again before foreign code runs, as a waker's clone and drop may be.
                before => {
                    self.0.set(State::Empty);
                    drop(before);
                    match waker.take() {
                        Some(waker) => self.0.set(State::Waiting(waker)),
                        None => {
                            waker = Some(cx.waker().clone());
                            continue;
                        }
                    }
                }
            }
            waits_for(Waits::Oneshot);
            return Poll::Pending;
        }
    }
}

impl<T> Drop for OneReceiver<T> {
    fn drop(&mut self) {
        drop(self.0.replace(State::Closed));
    }
}
