//! The runtime: time, tasks and chance, in two arms that answer to the same names.
//!
//! * [`Sim`] is an executor of our own with a virtual clock that jumps to the next wakeup.
//! * `Live` (the feature `live`) is tokio's `LocalRuntime` with a timer that is right to tens of microseconds.
//!
//! Which of them answers is entered once per thread, by `block_on`; everything else calls the free functions [`now`],
//! [`sleep`], [`timeout`], [`spawn`], [`interval`], [`arrivals`], [`Scheduler`] and the primitives in [`sync`]. Both arms keep one thread, so nothing
//! here is `Send`, and no lock is ever taken.

mod calls;
pub mod chance;
mod clock;
mod context;
mod fire;
mod join;
#[cfg(feature = "live")]
mod live;
#[cfg(not(feature = "live"))]
#[path = "without_live.rs"]
mod live;
pub mod number;
mod options;
mod queue;
mod sim;
pub mod supervise;
pub mod sync;
mod tasks;
pub mod text;
mod time;
mod timers;
mod trail;
mod waker;
pub mod wall;

pub use calls::{Arrivals, EventHandler, Scheduler, arrivals};
pub use clock::{Duration, Time};
pub use join::JoinError;
#[cfg(feature = "live")]
pub use live::Live;
pub use options::{Counters, Options, Step, Stop};
pub use sim::{Observer, Sim};
pub use tasks::{Blocked, Waits};
pub use time::{
    Either, Elapsed, Interval, Select, Sleep, Timeout, Yield, interval, now, select, sleep, sleep_until,
    sleep_until_as, timeout, yield_now,
};
pub use timers::Class;
pub use trail::{Divergence, Event, Kind, Mark, Trail, first_divergence};

use context::Arm;
use join::SimJoin;
use live::LiveJoin;
use std::backtrace::Backtrace;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Starts a task on the runtime that answers in this thread. It runs on when the handle is dropped.
///
/// ```
/// use elapse_rt::{Duration, Options, Sim, Time, now, sleep, spawn};
///
/// Sim::new(Options::default()).block_on(async {
///     let tasks: Vec<_> = (1..=3).map(|n| spawn(async move {
///         sleep(Duration::from_secs(n)).await;
///         n
///     })).collect();
///     let mut sum = 0;
///     for task in tasks {
///         sum += task.await.expect("no panic");
///     }
///     assert_eq!((sum, now()), (6, Time(3_000_000_000)));
/// }).unwrap();
/// ```
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let site = Location::caller();
    JoinHandle(context::with(|c| match &c.arm {
        Arm::Sim(core) => Joins::Sim(SimJoin::new(sim::spawn(core, future, site))),
        Arm::Live(core) => Joins::Live(core.spawn(future)),
    }))
}

/// Starts a task that nobody waits for: cheaper than [`spawn`] by the place of its output.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
#[inline(always)]
pub fn spawn_detached<F>(future: F)
where
    F: Future<Output = ()> + 'static,
{
    let site = Location::caller();
    // Put in its place before anything else: a future that is handed on by value is copied on the way.
    let cell = tasks::detached(future);
    context::with(|c| match &c.arm {
        Arm::Sim(core) => core.tasks.borrow_mut().spawn_detached(cell, site),
        Arm::Live(core) => drop(core.spawn(cell)),
    });
}

/// [`spawn`] with a name, which is told when the task panics or blocks for ever.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn spawn_named<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let handle = spawn(future);
    if let Joins::Sim(join) = &handle.0 {
        context::with(|c| c.sim().tasks.borrow_mut().set_name(join.word(), name));
    }
    handle
}

/// Waits for a task's output.
#[must_use = "a future does nothing unless it is awaited; drop it to let the task run on its own"]
pub struct JoinHandle<T>(Joins<T>);

enum Joins<T> {
    Sim(SimJoin<T>),
    Live(LiveJoin<T>),
}

impl<T: 'static> JoinHandle<T> {
    fn word(&self) -> waker::Word {
        match &self.0 {
            Joins::Sim(join) => join.word(),
            Joins::Live(_) => unreachable!("only the simulated executor asks for its own tasks"),
        }
    }

    fn poll_sim(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        Pin::new(self).poll(cx)
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Joins::Sim(join) => join.poll(cx),
            Joins::Live(join) => join.poll(cx),
        }
    }
}

/// Where a thread panicked.
struct Place {
    line: Option<String>,
    backtrace: Backtrace,
}

thread_local! {
    /// Where this thread last panicked.
    static PLACE: std::cell::RefCell<Option<Place>> = const { std::cell::RefCell::new(None) };
}

/// Remembers where panics happen, from the first runtime on; they are still printed as before.
fn remember_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let line = info.location().map(ToString::to_string);
            let _ = PLACE.try_with(|place| {
                *place.borrow_mut() = Some(Place { line, backtrace: Backtrace::force_capture() });
            });
            before(info);
        }));
    });
}

/// What a panic that was just caught said, and where.
pub fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    panic_story(payload).0
}

/// [`panic_message`], and how it came there.
pub fn panic_story(payload: &(dyn std::any::Any + Send)) -> (String, Option<Backtrace>) {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(a panic without a message)".to_string()
    };
    match PLACE.try_with(|place| place.borrow_mut().take()) {
        Ok(Some(Place { line: Some(line), backtrace })) => (format!("{text}, at {line}"), Some(backtrace)),
        Ok(Some(Place { line: None, backtrace })) => (text, Some(backtrace)),
        _ => (text, None),
    }
}
