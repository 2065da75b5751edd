//! Join handles of the virtual-time executor: waiting for a task's output, and why there may be none.

use super::context::{self, Context};
use super::tasks::Waits;
use super::waker::Word;
use std::fmt;
use std::task::{self, Poll};

/// Why a task did not return a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// It panicked: task, virtual time, seed and message.
    Panicked(String),
    /// The runtime ended first.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(what) => f.write_str(what),
            JoinError::Cancelled => f.write_str("the runtime ended before the task did"),
        }
    }
}

impl std::error::Error for JoinError {}

/// Waits for a task's output. Dropping it leaves the task running.
#[derive(Debug)]
pub(super) struct SimJoin<T> {
    word: Word,
    output: std::marker::PhantomData<fn() -> T>,
}

impl<T: 'static> SimJoin<T> {
    pub(super) fn new(word: Word) -> SimJoin<T> {
        SimJoin { word, output: std::marker::PhantomData }
    }

    pub(super) fn word(&self) -> Word {
        self.word
    }

    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<T, JoinError>> {
        let word = self.word;
        let polled =
            context::of_runtime(word.runtime(), |c: &Context| c.sim().tasks.borrow_mut().poll_join(word));
        if let Some(Poll::Pending) = polled {
            let waker = cx.waker().clone();
            let before = context::of_runtime(word.runtime(), |c: &Context| {
                c.sim().tasks.borrow_mut().set_joiner(word, waker)
            });
            drop(before);
        }
        context::waits_for(Waits::Join);
        polled.unwrap_or(Poll::Ready(Err(JoinError::Cancelled)))
    }
}

impl<T> Drop for SimJoin<T> {
    fn drop(&mut self) {
        let left = context::of_runtime(self.word.runtime(), |c| c.sim().tasks.borrow_mut().detach(self.word));
        drop(left);
    }
}
