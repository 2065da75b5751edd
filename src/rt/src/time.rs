//! Waiting: `sleep`, `timeout`, `interval`, `yield_now` and `select`.

use super::context::{self, Arm};
use super::tasks::Waits;
use super::timers::{Class, TimerId};
use super::waker::Word;
use crate::clock::{Duration, Time};
use pin_project::{pin_project, pinned_drop};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The time of the runtime that answers in this thread: virtual in simulation, monotonic live.
///
/// # Panics
/// Outside a runtime.
#[inline]
pub fn now() -> Time {
    context::with(super::context::Context::now)
}

/// Waits for `span`.
#[inline]
pub fn sleep(span: Duration) -> Sleep {
    sleep_until(now() + span)
}

/// Waits until `deadline`; a past one completes without moving the clock, behind what is due already.
#[inline]
pub fn sleep_until(deadline: Time) -> Sleep {
    sleep_until_as(Class::Event, deadline)
}

/// Waits until `deadline`, in its class among the timers of that instant.
#[inline]
pub fn sleep_until_as(class: Class, deadline: Time) -> Sleep {
    Sleep { deadline, class, state: State::New }
}

/// A wait for an instant. Dropping it takes its timer back.
#[must_use = "a future does nothing unless it is awaited"]
#[pin_project(PinnedDrop)]
#[derive(Debug)]
pub struct Sleep {
    deadline: Time,
    class: Class,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    New,
    Set { timer: TimerId, runtime: u16 },
    Done,
}

impl Sleep {
    /// When it completes.
    pub fn deadline(&self) -> Time {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Foreign wakers run code of their own when they are cloned or dropped: never while the timers are borrowed.
        context::with(|runtime| {
            let (timers, word) = (&runtime.timers, Word::of(cx.waker()));
            match *this.state {
                State::New => {
                    let timer = match word {
                        Some(word) => timers.borrow_mut().insert(*this.deadline, *this.class, word.0),
                        None => {
                            let waker = cx.waker().clone();
                            timers.borrow_mut().insert_foreign(*this.deadline, *this.class, waker)
                        }
                    };
                    *this.state = State::Set { timer, runtime: runtime.id };
                    match &runtime.arm {
                        Arm::Sim(core) => core.waits.set(Waits::Timer),
                        Arm::Live(core) => core.arm(*this.deadline),
                    }
                    Poll::Pending
                }
                State::Set { timer, .. } if timers.borrow().is_pending(timer) => {
                    let before = match word {
                        Some(word) => timers.borrow_mut().set_task(timer, word.0),
                        None if timers.borrow().wakes(timer, cx.waker()) => None,
                        None => {
                            let waker = cx.waker().clone();
                            timers.borrow_mut().set_foreign(timer, waker)
                        }
                    };
                    drop(before);
                    if let Arm::Sim(core) = &runtime.arm {
                        core.waits.set(Waits::Timer);
                    }
                    Poll::Pending
                }
                State::Set { .. } | State::Done => {
                    *this.state = State::Done;
                    Poll::Ready(())
                }
            }
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Sleep {
    #[inline]
    fn drop(self: Pin<&mut Self>) {
        if let State::Set { timer, runtime } = self.state {
            let waker = context::of_runtime(runtime, |c| c.timers.borrow_mut().cancel(timer, self.class));
            drop(waker);
        }
    }
}

/// The time given to a future ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time given to it ran out")
    }
}

impl std::error::Error for Elapsed {}

/// Gives `future` at most `span`. If both are ready at one instant, the future wins.
///
/// ```
/// use elapse_rt::{Duration, Elapsed, Options, Sim, sleep, timeout};
///
/// Sim::new(Options::default()).block_on(async {
///     let second = Duration::from_secs(1);
///     assert_eq!(timeout(second, sleep(second)).await, Ok(()));
///     assert_eq!(timeout(second, sleep(second * 2)).await, Err(Elapsed));
/// }).unwrap();
/// ```
pub fn timeout<F: Future>(span: Duration, future: F) -> Timeout<F> {
    Timeout { future, limit: sleep(span) }
}

/// See [`timeout`].
#[must_use = "a future does nothing unless it is awaited"]
#[pin_project]
#[derive(Debug)]
pub struct Timeout<F> {
    #[pin]
    future: F,
    #[pin]
    limit: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.limit.poll(cx).map(|()| Err(Elapsed))
    }
}

/// Ticks at `period`, `2 period`, ... from now. A tick that is missed is skipped, never made up for.
///
/// ```
/// use elapse_rt::{Duration, Options, Sim, Time, interval, sleep};
///
/// Sim::new(Options::default()).block_on(async {
///     let mut ticks = interval(Duration::from_secs(10));
///     assert_eq!(ticks.tick().await, Time(10_000_000_000));
///     sleep(Duration::from_secs(25)).await;
///     // That of 20 s is told late, and that of 30 s is skipped.
///     assert_eq!(ticks.tick().await, Time(20_000_000_000));
///     assert_eq!(ticks.tick().await, Time(40_000_000_000));
/// }).unwrap();
/// ```
pub fn interval(period: Duration) -> Interval {
    Interval { next: now() + period, period: Duration(period.0.max(1)), class: Class::Tick }
}

/// See [`interval`].
#[derive(Debug)]
pub struct Interval {
    next: Time,
    period: Duration,
    class: Class,
}

impl Interval {
    /// Waits for the next tick, and returns the instant it was meant for.
    pub async fn tick(&mut self) -> Time {
        let due = self.next;
        sleep_until_as(self.class, due).await;
        let late = now().since(due).0 / self.period.0;
        self.next = due + self.period * (late + 1);
        due
    }
}

/// Lets everything else that is ready run first.
///
/// ```
/// use elapse_rt::{Options, Sim, Time, now, spawn, yield_now};
///
/// Sim::new(Options::default()).block_on(async {
///     let other = spawn(async { now() });
///     yield_now().await;
///     assert_eq!(other.await.unwrap(), Time(0));
/// }).unwrap();
/// ```
pub fn yield_now() -> Yield {
    Yield(false)
}

/// See [`yield_now`].
#[must_use = "a future does nothing unless it is awaited"]
#[derive(Debug)]
pub struct Yield(bool);

impl Future for Yield {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// One of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// Waits for the first of two futures and drops the other. If both are ready, `a` wins: the order is part of the run.
///
/// ```
/// use elapse_rt::{Duration, Either, Options, Sim, select, sleep};
///
/// Sim::new(Options::default()).block_on(async {
///     let (slow, fast) = (sleep(Duration::from_secs(2)), sleep(Duration::from_secs(1)));
///     assert_eq!(select(slow, fast).await, Either::Right(()));
/// }).unwrap();
/// ```
pub fn select<A: Future, B: Future>(a: A, b: B) -> Select<A, B> {
    Select { a, b }
}

/// See [`select`].
#[must_use = "a future does nothing unless it is awaited"]
#[pin_project]
#[derive(Debug)]
pub struct Select<A, B> {
    #[pin]
    a: A,
    #[pin]
    b: B,
}

impl<A: Future, B: Future> Future for Select<A, B> {
    type Output = Either<A::Output, B::Output>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.a.poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        this.b.poll(cx).map(Either::Right)
    }
}
