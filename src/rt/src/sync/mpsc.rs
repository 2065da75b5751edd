//! Many senders, one receiver, an unbounded queue between them.

use super::Closed;
use crate::context::waits_for;
use crate::tasks::Waits;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

struct Shared<T> {
    queue: RefCell<VecDeque<T>>,
    waiting: Cell<Option<Waker>>,
    senders: Cell<usize>,
    open: Cell<bool>,
}

/// An unbounded channel. Whoever needs a bound holds a permit of a [`Semaphore`](super::Semaphore) with each message.
///
/// ```
/// use elapse_rt::sync::{Closed, channel};
/// use elapse_rt::{Options, Sim};
///
/// Sim::new(Options::default()).block_on(async {
///     let (send, mut receive) = channel();
///     send.send(1).unwrap();
///     drop(send);
///     assert_eq!((receive.recv().await, receive.recv().await), (Ok(1), Err(Closed)));
/// }).unwrap();
/// ```
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared {
        queue: RefCell::new(VecDeque::new()),
        waiting: Cell::new(None),
        senders: Cell::new(1),
        open: Cell::new(true),
    });
    (Sender(Rc::clone(&shared)), Receiver(shared))
}

/// Sends messages; can be cloned.
pub struct Sender<T>(Rc<Shared<T>>);

/// Receives messages in the order they were sent.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends a message.
    ///
    /// # Errors
    /// The message, when the receiver was dropped.
    pub fn send(&self, message: T) -> Result<(), T> {
        if !self.0.open.get() {
            return Err(message);
        }
        self.0.queue.borrow_mut().push_back(message);
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(Rc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if self.0.senders.get() == 0
            && let Some(waker) = self.0.waiting.take()
        {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// The next message; `Closed` when all senders are gone and the queue is empty.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn recv(&mut self) -> Result<T, Closed> {
        poll_fn(|cx| {
            if let Some(message) = self.0.queue.borrow_mut().pop_front() {
                return Poll::Ready(Ok(message));
            }
            if self.0.senders.get() == 0 {
                return Poll::Ready(Err(Closed));
            }
            self.0.waiting.set(Some(cx.waker().clone()));
            waits_for(Waits::Channel);
            Poll::Pending
        })
        .await
    }

    /// A message that is there already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.queue.borrow_mut().pop_front()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.open.set(false);
        let rest = self.0.queue.take();
        drop(rest);
    }
}
