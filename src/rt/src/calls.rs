//! Calls: what happens at an instant without a task.
//!
//! A task is the right thing for whatever waits for several things, or may be given up. Under simulation most events of
//! a run are neither: a warm invocation is its arrival and its completion, both known beforehand. [`Scheduler`] makes a call
//! at an instant; [`arrivals`] makes one at each instant of a stream. Both are ordered among timers like any other.
//! Measured with callgrind on replays of 100,000 and 200,000 rows: without the tasks an invocation took 3,330 instructions
//! in place of 4,970.

use super::context::{self, Arm, Context};
use super::timers::Class;
use super::{sleep_until_as, spawn_named};
use crate::clock::Time;
use std::rc::Rc;

/// Who is called at an instant.
pub trait EventHandler {
    /// The instant has come that was asked for with this token.
    fn on_time(&self, token: u32);
}

/// A handler that the runtime which answers in this thread knows. The runtime keeps the handler to its own end, and
/// drops it, with the runtime still present, after the tasks.
#[derive(Clone, Copy, Debug)]
pub struct Scheduler(u32);

impl Scheduler {
    /// Makes a handler known.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn of(handler: Rc<dyn EventHandler>) -> Scheduler {
        context::with(|c| {
            let mut handlers = c.handlers.borrow_mut();
            handlers.push(handler);
            Scheduler(u32::try_from(handlers.len() - 1).expect("fewer than 2^31 handlers"))
        })
    }

    /// Calls the handler at `at`; as the next thing if that is not in the future. It is not taken back.
    #[inline]
    pub fn at(self, at: Time, token: u32) {
        context::with(|c| {
            c.timers.borrow_mut().insert_call(at, Class::Event, self.0, token);
            if let Arm::Live(core) = &c.arm {
                core.arm(at);
            }
        });
    }
}

impl Context {
    /// Makes a call whose time has come.
    #[inline]
    pub(super) fn call(&self, handler: u32, token: u32) {
        let handler = self.handlers.borrow().get(handler as usize).map(Rc::clone);
        if let Some(handler) = handler {
            handler.on_time(token);
        }
    }

    /// Drops the handlers; what they do meanwhile may add others.
    pub(super) fn drop_handlers(&self) {
        for _ in 0..1000 {
            let handlers = std::mem::take(&mut *self.handlers.borrow_mut());
            if handlers.is_empty() {
                return;
            }
            drop(handlers);
        }
    }
}

/// What comes at an instant of a stream, and when the next one is.
pub(super) type Stream = Box<dyn FnMut() -> Option<Time>>;

/// A stream of arrivals. Dropping it ends it.
#[must_use = "dropping a stream ends it"]
pub struct Arrivals(Kept);

enum Kept {
    Sim(u16),
    Live { _kept: Rc<()> },
}

/// Calls `arrive` at `first` and then at each instant that it names, which are never earlier than the one before, until
/// it names none. At one instant arrivals come after every timer, and each is settled before the next.
///
/// ```
/// use elapse_rt::{Duration, Options, Sim, Time, arrivals, now, sleep};
/// use std::{cell::RefCell, rc::Rc};
///
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let noted = Rc::clone(&seen);
/// Sim::new(Options::default()).block_on(async move {
///     let mut left = 3;
///     let stream = arrivals(Time(5), move || {
///         noted.borrow_mut().push(now());
///         left -= 1;
///         (left > 0).then(|| now() + Duration(10))
///     });
///     sleep(Duration(100)).await;
///     drop(stream);
/// }).unwrap();
/// assert_eq!(*seen.borrow(), [Time(5), Time(15), Time(25)]);
/// ```
///
/// # Panics
/// Outside a runtime, and if there is a stream already: merge them.
pub fn arrivals(first: Time, mut arrive: impl FnMut() -> Option<Time> + 'static) -> Arrivals {
    context::with(|c| match &c.arm {
        Arm::Sim(core) => {
            core.stream_from(first, Box::new(arrive));
            Arrivals(Kept::Sim(c.id))
        }
        Arm::Live(_) => {
            let kept = Rc::new(());
            let alive = Rc::downgrade(&kept);
            drop(spawn_named("arrivals", async move {
                let mut next = Some(first);
                while let Some(at) = next {
                    sleep_until_as(Class::Arrival, at).await;
                    if alive.strong_count() == 0 {
                        return;
                    }
                    next = arrive();
                }
            }));
            Arrivals(Kept::Live { _kept: kept })
        }
    })
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Kept::Sim(runtime) = self.0 {
            let ended = context::of_runtime(runtime, |c| c.sim().end_stream());
            drop(ended);
        }
    }
}
