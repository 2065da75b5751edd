//! Permits, given out first come, first served.

use crate::context::waits_for;
use crate::tasks::Waits;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

struct Waiter {
    need: u64,
    granted: Cell<bool>,
    gone: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

struct Shared {
    free: Cell<u64>,
    queue: RefCell<VecDeque<Rc<Waiter>>>,
}

/// A number of permits. Who asks for many is not passed by who asks for few.
///
/// ```
/// use elapse_rt::{Options, Sim, sync::Semaphore};
///
/// Sim::new(Options::default()).block_on(async {
///     let cores = Semaphore::new(4);
///     let three = cores.acquire(3).await;
///     assert!(cores.try_acquire(2).is_none());
///     drop(three);
///     assert_eq!(cores.available(), 4);
/// }).unwrap();
/// ```
#[derive(Clone)]
pub struct Semaphore(Rc<Shared>);

/// Permits that are held; dropping gives them back.
pub struct Permit {
    shared: Rc<Shared>,
    held: u64,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub fn new(permits: u64) -> Semaphore {
        Semaphore(Rc::new(Shared { free: Cell::new(permits), queue: RefCell::default() }))
    }

    /// Permits that nobody holds.
    pub fn available(&self) -> u64 {
        self.0.free.get()
    }

    /// Waits for `need` permits.
    pub fn acquire(&self, need: u64) -> Acquire {
        Acquire { shared: Rc::clone(&self.0), need, waiter: None }
    }

    /// Takes `need` permits if they are free and nobody waits.
    pub fn try_acquire(&self, need: u64) -> Option<Permit> {
        self.0.queue.borrow().is_empty().then(|| self.0.take(need)).flatten()
    }
}

impl Shared {
    fn take(self: &Rc<Shared>, need: u64) -> Option<Permit> {
        let rest = self.free.get().checked_sub(need)?;
        self.free.set(rest);
        Some(Permit { shared: Rc::clone(self), held: need })
    }

    fn give(&self, permits: u64) {
        self.free.set(self.free.get() + permits);
        loop {
            let next = self.queue.borrow().front().cloned();
            let Some(waiter) = next else { return };
            if !waiter.gone.get() {
                let Some(rest) = self.free.get().checked_sub(waiter.need) else { return };
                self.free.set(rest);
                waiter.granted.set(true);
            }
            self.queue.borrow_mut().pop_front();
            if let Some(waker) = waiter.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.give(self.held);
    }
}

/// See [`Semaphore::acquire`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Acquire {
    shared: Rc<Shared>,
    need: u64,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Acquire {
    type Output = Permit;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let this = &mut *self;
        match &this.waiter {
            Some(waiter) if waiter.granted.get() => {
                this.waiter = None;
                return Poll::Ready(Permit { shared: Rc::clone(&this.shared), held: this.need });
            }
            Some(waiter) => waiter.waker.set(Some(cx.waker().clone())),
            None => {
                if this.shared.queue.borrow().is_empty()
                    && let Some(permit) = this.shared.take(this.need)
                {
                    return Poll::Ready(permit);
                }
                let waker = Cell::new(Some(cx.waker().clone()));
                let (granted, gone) = (Cell::new(false), Cell::new(false));
                let waiter = Rc::new(Waiter { need: this.need, granted, gone, waker });
                this.shared.queue.borrow_mut().push_back(Rc::clone(&waiter));
                this.waiter = Some(waiter);
            }
        }
        waits_for(Waits::Semaphore);
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        waiter.gone.set(true);
        if waiter.granted.get() {
            self.shared.give(self.need);
        } else {
            // Whoever waits behind may fit into what this one could not.
            self.shared.give(0);
        }
    }
}
