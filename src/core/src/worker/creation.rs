//! Creations: the task that waits for one, and the container that is being created for nobody yet.

use super::Inner;
use super::around::Around;
use super::state::{Key, Place};
use crate::backend::CreateFault;
use crate::base::StartKind;
use crate::rt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Waker};

/// A container that is being created and belongs to nobody. Dropped before its creation has ended, it is destroyed.
pub(super) struct Creating {
    inner: Rc<Inner>,
    key: Option<Key>,
}

impl Creating {
    pub(super) fn new(inner: &Rc<Inner>, key: Key) -> Creating {
        Creating { inner: Rc::clone(inner), key: Some(key) }
    }

    /// It was created, and is somebody else's to keep.
    pub(super) fn done(mut self) -> Key {
        self.key.take().expect("a creation ends once")
    }

    /// It could not be created.
    pub(super) fn failed(mut self, why: &Rc<str>) {
        self.end(why);
    }

    fn end(&mut self, why: &Rc<str>) {
        let Some(key) = self.key.take() else { return };
        let inner = &self.inner;
        inner.state.borrow_mut().creation_failed(key, why, rt::now(), &mut Around(inner));
        inner.pump();
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.end(&Rc::from("the creation of a container was given up"));
    }
}

impl Inner {
    /// Creates the sandbox of a container that is entered as creating; `at_once` where it is to have stood already.
    pub(super) async fn create(self: &Rc<Inner>, key: Key, at_once: bool) -> Result<(), CreateFault> {
        let begun = rt::now();
        let work = {
            let (backend, request) = self.state.borrow_mut().creation_of(key, at_once);
            self.backends[usize::from(backend)].create(&request)
        };
        let made = work.await;
        let (now, mut state) = (rt::now(), self.state.borrow_mut());
        state.created(key, made, (!at_once).then(|| now.since(begun)), now)
    }

    /// Creates a container for an invocation that waits for any place of its group meanwhile. The creation begins before this
    /// returns, so that what is dispatched later at this instant ends later.
    pub(super) fn create_late(self: &Rc<Inner>, key: Key) {
        let inner = Rc::clone(self);
        let mut creation = Box::pin(async move {
            let creating = Creating::new(&inner, key);
            match inner.create(key, false).await {
                Ok(()) => inner.offer(creating.done(), StartKind::Cold),
                Err(fault) => creating.failed(&fault.why),
            }
        });
        if creation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            rt::spawn_detached(creation);
        }
    }

    /// Waits for a place in a container of its group: its own that is being created, or one that frees up sooner.
    pub(super) async fn next_place(&self, waiter: usize) -> Place {
        poll_fn(|cx| self.state.borrow_mut().poll_place(waiter, cx)).await
    }

    /// Hands out the places of a container that is ready.
    pub(super) fn offer(self: &Rc<Inner>, key: Key, start: StartKind) {
        self.state.borrow_mut().offer(key, start, rt::now(), &mut Around(self));
        self.pump();
    }

    /// The removal of a container is confirmed.
    pub(super) fn removed(self: &Rc<Inner>, key: Key) {
        self.state.borrow_mut().removed(key, rt::now());
        self.pump();
    }
}
