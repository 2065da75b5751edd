//! Stands in for the live arm where it is not built (the feature `live`): there is none, and the compiler knows it.

use super::join::JoinError;
use crate::clock::Time;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::task::{Context, Poll};

pub(super) enum LiveCore {}

/// Waits for the output of a task on this arm.
pub(super) struct LiveJoin<T>(Infallible, PhantomData<fn() -> T>);

impl LiveCore {
    pub(super) fn now(&self) -> Time {
        match *self {}
    }

    pub(super) fn spawn<F: Future>(&self, _future: F) -> LiveJoin<F::Output> {
        match *self {}
    }

    pub(super) fn arm(&self, _at: Time) {
        match *self {}
    }
}

impl<T> LiveJoin<T> {
    pub(super) fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        match self.0 {}
    }
}
