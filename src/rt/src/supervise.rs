//! Supervised loops: a background loop that panics is logged, counted and started again after a pause; one that keeps
//! dying, or hangs, ends its owner.
//!
//! A loop says when it rests ([`Heartbeat::rest`]); outside a rest it is at work, and work that stays pending for longer
//! than a limit is a hang. Nothing is polled for this: the watch is one timer, set only while a loop is at work.

use super::chance::{Purpose, RngKey};
use super::{JoinHandle, Sleep, now, panic_story, sleep, spawn_named};
use crate::clock::{Duration, Time};
use futures_util::FutureExt;
use pin_project::pin_project;
use rand::RngExt;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// How patient a supervisor is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Pause before the first restart; it doubles with each further one, and jitters by a half.
    pub backoff: Duration,
    /// The longest pause.
    pub longest_backoff: Duration,
    /// Deaths within `window` after which the loop is given up.
    pub deaths: usize,
    /// See `deaths`.
    pub window: Duration,
    /// Work that stays pending for longer than this is a hang.
    pub hang: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(5),
            deaths: 8,
            window: Duration::from_secs(60),
            hang: Duration::from_secs(60),
        }
    }
}

/// Why a loop was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It died too often; its name and last panic.
    KeepsDying(&'static str, String),
    /// It was at work for too long; its name and since when.
    Hangs(&'static str, Time),
}

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GivenUp::KeepsDying(name, panic) => write!(f, "the loop '{name}' keeps dying; last: {panic}"),
            GivenUp::Hangs(name, since) => write!(f, "the loop '{name}' hangs since {since}"),
        }
    }
}

/// Instants of restarts that are kept.
const RESTARTS_KEPT: usize = 10_000;

/// What is known of a loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoopStatus {
    /// Times it was started again.
    pub restarts: u64,
    /// When, for the last ten thousand times.
    pub restarted_at: VecDeque<Time>,
    /// The last panic: message, place and time.
    pub last_panic: Option<String>,
    /// When it last began to work.
    pub last_run: Time,
}

/// A loop's side of its supervision.
#[derive(Clone, Default)]
pub struct Heartbeat {
    resting: Rc<Cell<bool>>,
    status: Rc<RefCell<LoopStatus>>,
    inject: Rc<Cell<bool>>,
}

impl Heartbeat {
    /// Waits for `future` as a rest: however long it takes, the loop does not hang.
    ///
    /// # Panics
    /// If a test asked for it by [`inject_panic`](Self::inject_panic).
    pub async fn rest<F: Future>(&self, future: F) -> F::Output {
        self.resting.set(true);
        let output = future.await;
        self.resting.set(false);
        self.status.borrow_mut().last_run = now();
        assert!(!self.inject.take(), "injected by a test");
        output
    }

    /// What is known of the loop.
    pub fn status(&self) -> LoopStatus {
        self.status.borrow().clone()
    }

    /// Times the loop was started again.
    pub fn restarts(&self) -> u64 {
        self.status.borrow().restarts
    }

    /// Those of them in [from, until).
    pub fn restarts_in(&self, from: Time, until: Time) -> u64 {
        self.status.borrow().restarted_at.iter().filter(|at| **at >= from && **at < until).count() as u64
    }

    /// Makes the loop panic when its present rest ends: for tests of what follows.
    pub fn inject_panic(&self) {
        self.inject.set(true);
    }
}

/// A loop that runs until its owner stops it.
pub struct Supervised {
    /// Its name.
    pub name: &'static str,
    /// Its status.
    pub pulse: Heartbeat,
    task: JoinHandle<GivenUp>,
}

impl Supervised {
    /// Waits until the loop is given up; a well loop never is.
    pub async fn given_up(self) -> GivenUp {
        let name = self.name;
        self.task.await.unwrap_or_else(|e| GivenUp::KeepsDying(name, e.to_string()))
    }
}

/// Starts a loop under supervision. `start` is called again after each death, with a `Heartbeat` of the same loop.
///
/// ```
/// use elapse_rt::chance::Seed;
/// use elapse_rt::supervise::{Patience, supervise};
/// use elapse_rt::{Duration, Options, Sim, sleep};
///
/// Sim::new(Options::default()).block_on(async {
///     let luck = Seed::new(1).named("reaper");
///     let reaper = supervise("reaper", Patience::default(), luck, |pulse| async move {
///         loop {
///             pulse.rest(sleep(Duration::from_secs(1))).await;
///         }
///     });
///     sleep(Duration::from_secs(10)).await;
///     reaper.pulse.inject_panic();
///     sleep(Duration::from_secs(10)).await;
///     assert_eq!(reaper.pulse.restarts(), 1);
/// }).unwrap();
/// ```
pub fn supervise<F>(
    name: &'static str,
    patience: Patience,
    rng: RngKey,
    start: impl Fn(Heartbeat) -> F + 'static,
) -> Supervised
where
    F: Future<Output = ()> + 'static,
{
    let pulse = Heartbeat::default();
    let task = spawn_named(name, keep_alive(name, patience, rng, pulse.clone(), start));
    Supervised { name, pulse, task }
}

async fn keep_alive<F: Future<Output = ()>>(
    name: &'static str,
    patience: Patience,
    rng: RngKey,
    pulse: Heartbeat,
    start: impl Fn(Heartbeat) -> F,
) -> GivenUp {
    let mut deaths: Vec<Time> = Vec::new();
    loop {
        pulse.resting.set(false);
        pulse.status.borrow_mut().last_run = now();
        let started = Guarded {
            work: AssertUnwindSafe(start(pulse.clone())).catch_unwind(),
            watch: None,
            resting: Rc::clone(&pulse.resting),
            hang: patience.hang,
        };
        let (panic, backtrace) = match started.await {
            Lived::Returned => ("it returned".to_string(), None),
            Lived::Panicked(message, backtrace) => (message, backtrace),
            Lived::Hung(since) => {
                tracing::error!(target: "elapse", name, %since, "a background loop hangs");
                return GivenUp::Hangs(name, since);
            }
        };
        let at = now();
        deaths.retain(|death| at.since(*death) < patience.window);
        deaths.push(at);
        tracing::error!(target: "elapse", name, %at, deaths = deaths.len(), %panic, "a background loop died");
        if let Some(backtrace) = backtrace {
            tracing::error!(target: "elapse", name, "its backtrace:\n{backtrace}");
        }
        pulse.status.borrow_mut().last_panic = Some(format!("{panic} (at {at})"));
        if deaths.len() >= patience.deaths {
            return GivenUp::KeepsDying(name, panic);
        }
        let pause = patience.backoff * (1 << (deaths.len() - 1).min(20));
        let jitter = rng.draw(Purpose::Jitter, at.0).random_range(0.5..1.5);
        sleep(Duration::from_nanos_f64(pause.min(patience.longest_backoff).0 as f64 * jitter)).await;
        let mut status = pulse.status.borrow_mut();
        status.restarts += 1;
        if status.restarted_at.len() == RESTARTS_KEPT {
            status.restarted_at.pop_front();
        }
        status.restarted_at.push_back(now());
    }
}

enum Lived {
    Returned,
    Panicked(String, Option<Backtrace>),
    Hung(Time),
}

/// A loop's work with its watch.
#[pin_project]
struct Guarded<F> {
    #[pin]
    work: F,
    #[pin]
    watch: Option<Sleep>,
    resting: Rc<Cell<bool>>,
    hang: Duration,
}

impl<F> Future for Guarded<F>
where
    F: Future<Output = Result<(), Box<dyn std::any::Any + Send>>>,
{
    type Output = Lived;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Lived> {
        let mut this = self.project();
        match this.work.poll(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Lived::Returned),
            Poll::Ready(Err(payload)) => {
                let (message, backtrace) = panic_story(payload.as_ref());
                return Poll::Ready(Lived::Panicked(message, backtrace));
            }
            Poll::Pending => {}
        }
        if this.resting.get() {
            this.watch.set(None);
            return Poll::Pending;
        }
        if this.watch.is_none() {
            this.watch.set(Some(sleep(*this.hang)));
        }
        match this.watch.as_mut().as_pin_mut().map(|watch| (watch.deadline(), watch.poll(cx))) {
            Some((deadline, Poll::Ready(()))) => {
                Poll::Ready(Lived::Hung(Time(deadline.0.saturating_sub(this.hang.0))))
            }
            _ => Poll::Pending,
        }
    }
}
