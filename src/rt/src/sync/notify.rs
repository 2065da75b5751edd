//! Wakes whoever waits. A notification that nobody waits for is kept for the next one who does.

use crate::context::waits_for;
use crate::tasks::Waits;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Waiter {
    woken: Cell<Option<Woken>>,
    waker: Cell<Option<Waker>>,
}

/// How a waiter was woken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// As the one whom a notification went to: it passes it on if it leaves before it noticed.
    Alone,
    /// With all that waited: nothing is kept of it.
    WithAll,
}

#[derive(Default)]
struct Shared {
    kept: Cell<bool>,
    queue: RefCell<VecDeque<Rc<Waiter>>>,
}

/// A place to wait for something to happen.
///
/// ```
/// use elapse_rt::{Options, Sim, spawn, sync::Notify};
///
/// Sim::new(Options::default()).block_on(async {
///     let ready = Notify::new();
///     let told = ready.clone();
///     let waits = spawn(async move { told.notified().await });
///     ready.notify_one();
///     waits.await.unwrap();
/// }).unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Notify(Rc<Shared>);

impl Notify {
    /// One with nobody waiting.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes the one who waits longest, or keeps one notification.
    pub fn notify_one(&self) {
        let next = self.0.queue.borrow_mut().pop_front();
        match next {
            Some(waiter) => {
                waiter.woken.set(Some(Woken::Alone));
                if let Some(waker) = waiter.waker.take() {
                    waker.wake();
                }
            }
            None => self.0.kept.set(true),
        }
    }

    /// Wakes everyone who waits now; keeps nothing.
    pub fn notify_waiters(&self) {
        let all = self.0.queue.take();
        for waiter in all {
            waiter.woken.set(Some(Woken::WithAll));
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits for a notification.
    pub fn notified(&self) -> Notified {
        Notified { shared: Rc::clone(&self.0), waiter: None }
    }
}

/// See [`Notify::notified`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Notified {
    shared: Rc<Shared>,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Notified {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &self.waiter {
            Some(waiter) if waiter.woken.get().is_some() => {
                self.waiter = None;
                return Poll::Ready(());
            }
            Some(waiter) => waiter.waker.set(Some(cx.waker().clone())),
            None => {
                if self.shared.kept.take() {
                    return Poll::Ready(());
                }
                let waiter =
                    Rc::new(Waiter { woken: Cell::new(None), waker: Cell::new(Some(cx.waker().clone())) });
                self.shared.queue.borrow_mut().push_back(Rc::clone(&waiter));
                self.waiter = Some(waiter);
            }
        }
        waits_for(Waits::Notify);
        Poll::Pending
    }
}

impl Drop for Notified {
    /// Passes on a notification that was meant for this one alone and not noticed yet.
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        match waiter.woken.get() {
            Some(Woken::Alone) => Notify(Rc::clone(&self.shared)).notify_one(),
            Some(Woken::WithAll) => {}
            None => self.shared.queue.borrow_mut().retain(|w| !Rc::ptr_eq(w, &waiter)),
        }
    }
}
