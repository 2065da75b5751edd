//! The live arm: tokio's `LocalRuntime` for tasks and I/O, and a timerfd for time.
//!
//! Tokio's own timers are a wheel of 1 ms and fire about 1.1 ms late; the worker's timers sit in the same queue as in
//! simulation and one timerfd wakes whoever is due, in the same order, to within tens of microseconds.

use super::context::{self, Arm, Context};
use super::join::JoinError;
use super::timers::{Class, Sleeper, Timers, key};
use crate::clock::Time;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::LocalRuntime;

pub(super) struct LiveCore {
    /// CLOCK_MONOTONIC at time zero of the run.
    anchor: Cell<u64>,
    timer: AsyncFd<OwnedFd>,
    /// The deadline the timerfd is set to; `u64::MAX` for none.
    armed: Cell<u64>,
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl LiveCore {
    #[inline]
    pub(super) fn now(&self) -> Time {
        Time(monotonic() - self.anchor.get())
    }

    /// Starts a task.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reaches tokio's tasks")]
    pub(super) fn spawn<F>(&self, future: F) -> LiveJoin<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        LiveJoin(tokio::task::spawn_local(future))
    }

    /// Sees to it that the timerfd fires no later than `at`.
    pub(super) fn arm(&self, at: Time) {
        if at.0 >= self.armed.get() {
            return;
        }
        self.armed.set(at.0);
        // A value of zero would disarm the timer; the anchor is never zero on a machine that has booted.
        let absolute = (self.anchor.get() + at.0).max(1);
        let value =
            Timespec { tv_sec: (absolute / 1_000_000_000) as i64, tv_nsec: (absolute % 1_000_000_000) as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let set = timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once);
        debug_assert!(set.is_ok(), "the kernel takes any absolute time: {set:?}");
    }
}

/// Waits for the output of a task on this arm.
pub(super) struct LiveJoin<T>(tokio::task::JoinHandle<T>);

impl<T> LiveJoin<T> {
    pub(super) fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<T, JoinError>> {
        Pin::new(&mut self.0).poll(cx).map_err(|e| match e.try_into_panic() {
            Ok(payload) => JoinError::Panicked(super::panic_message(payload.as_ref())),
            Err(_) => JoinError::Cancelled,
        })
    }
}

/// A live run: real time, real I/O, the same tasks.
pub struct Live {
    context: Rc<Context>,
    /// There until the end, where tasks that are left are dropped with the runtime still present.
    runtime: Option<LocalRuntime>,
}

impl Live {
    /// A runtime whose time zero is now.
    ///
    /// # Errors
    /// If the kernel gives no epoll instance or timerfd.
    pub fn new() -> io::Result<Live> {
        let lacking = |what: &str, why: &dyn std::fmt::Display| {
            io::Error::other(format!(
                "cannot start the live runtime: no {what}: {why}; check the limit of open files"
            ))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            // Not for our own sleeps: clients of daemons time their requests by it.
            .enable_time()
            .build_local(tokio::runtime::LocalOptions::default())
            .map_err(|e| lacking("event loop", &e))?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(|e| lacking("timerfd", &e))?;
        let timer = {
            let _inside = runtime.enter();
            // SAFETY: the descriptor is owned by the AsyncFd and never replaced, so it stays open while registered.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
                .map_err(|e| lacking("timerfd", &e))?
        };
        let context = context::register(|id| Context {
            id,
            timers: RefCell::new(Timers::new()),
            handlers: RefCell::default(),
            arm: Arm::Live(LiveCore { anchor: Cell::new(monotonic()), timer, armed: Cell::new(u64::MAX) }),
        });
        Ok(Live { context, runtime: Some(runtime) })
    }

    /// Makes this instant time zero: a run begins when all that it needs has been prepared. Nothing may sleep yet.
    pub fn restart_clock(&self) {
        debug_assert!(
            self.context.timers.borrow_mut().next_deadline().is_none(),
            "a sleep spans the restart"
        );
        if let Arm::Live(core) = &self.context.arm {
            core.anchor.set(monotonic());
        }
    }

    /// Runs until `future` is done. Tasks that are left go on in the next call, or end with the runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = context::enter(&self.context);
        let driven = super::select(future, drive(Rc::clone(&self.context)));
        let Some(runtime) = &self.runtime else { unreachable!("it is taken only when this is dropped") };
        match runtime.block_on(driven) {
            super::Either::Left(output) => output,
            super::Either::Right(never) => match never {},
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let entered = context::enter_to_end(&self.context);
        if let Some(runtime) = self.runtime.take() {
            // Tasks are dropped; work on other threads that does not end by itself holds nobody up.
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        }
        self.context.drop_handlers();
        drop(entered);
    }
}

/// Fires timers as they come due, for ever.
async fn drive(context: Rc<Context>) -> std::convert::Infallible {
    let Arm::Live(core) = &context.arm else { unreachable!("a live runtime drives itself") };
    let mut expirations = [0u8; 8];
    loop {
        while let Some(sleeper) = due(&context, core) {
            match sleeper {
                Due::Wake(waker) => waker.wake(),
                Due::Call { handler, token } => {
                    let called = AssertUnwindSafe(|| context.call(handler, token));
                    if let Err(payload) = catch_unwind(called) {
                        let what = super::panic_message(payload.as_ref());
                        tracing::error!(target: "elapse", %what, "what was to be done at an instant panicked");
                    }
                }
            }
        }
        core.armed.set(u64::MAX);
        let next = context.timers.borrow_mut().next_deadline();
        if let Some(at) = next {
            core.arm(at);
        }
        if let Ok(mut ready) = core.timer.readable().await {
            // The count of expirations says nothing: what is due is read from the queue.
            let _ = rustix::io::read(core.timer.get_ref(), &mut expirations);
            ready.clear_ready();
        }
    }
}

/// What is to be done about a timer that is due.
enum Due {
    Wake(std::task::Waker),
    Call { handler: u32, token: u32 },
}

fn due(context: &Context, core: &LiveCore) -> Option<Due> {
    let mut timers = context.timers.borrow_mut();
    Some(match timers.pop(key(core.now(), Class::Arrival))?.sleeper {
        Sleeper::Foreign(number) => Due::Wake(timers.take_foreign(number)),
        Sleeper::Task(word) => Due::Wake(super::waker::Word(word).waker()),
        Sleeper::Call { handler, token } => Due::Call { handler, token },
    })
}
