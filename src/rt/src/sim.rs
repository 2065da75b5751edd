//! The virtual-time executor: it runs what is ready, then jumps to the next timer.
//!
//! Timers fire one at a time in order of (time, class, insertion), and all that one wakes runs before the next. A run
//! is one thread; its order depends on its seed and on nothing else, which a rolling hash over every poll and fire
//! proves. Design and anchors: madsim's loop, nexosim's questions, a radix queue of our own.

use super::calls::Stream;
use super::context::{self, Arm, Context};
use super::join::JoinError;
use super::options::{Counters, Options, Step, Stop};
use super::tasks::{Taken, Tasks, Waits};
use super::timers::{Class, Timers, key};
use super::waker::Word;
use super::{chance, trail};
use crate::clock::{Duration, Time};
use rand::RngExt;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::Poll;
use trail::{Kind, Trail};

/// Told now and then how far a run is; returns false to stop it.
pub type Observer = Box<dyn FnMut(Time, u64) -> bool>;

pub(super) struct SimCore {
    now: Cell<u64>,
    pub(super) tasks: RefCell<Tasks>,
    pub(super) waits: Cell<Waits>,
    polls: Cell<u64>,
    fires: Cell<u64>,
    pub(super) polls_here: Cell<u64>,
    /// Ticks in a row that fired with no other timer set.
    pub(super) alone: Cell<u64>,
    /// Events so far, the hash over them, and the event at which to look again.
    events: Cell<u64>,
    hash: Cell<u64>,
    attention: Cell<u64>,
    trail: RefCell<Trail>,
    observer: RefCell<Option<Observer>>,
    schedule: RefCell<chance::RngStream>,
    pub(super) options: Options,
    /// Where the virtual clock and the wall met, for a paced run.
    paced_from: Cell<Option<(u64, std::time::Instant)>>,
    /// The stream of arrivals, away while it is called, and the key of its next one: none is `NO_ARRIVAL`.
    pub(super) stream: Cell<Option<Stream>>,
    pub(super) arrival: Cell<u64>,
    /// It is being called, and was not ended meanwhile.
    pub(super) streaming: Cell<bool>,
}

pub(super) const NO_ARRIVAL: u64 = u64::MAX;

/// Events between two calls of the observer.
const OBSERVE: u64 = 1 << 14;

impl SimCore {
    #[inline]
    pub(super) fn now(&self) -> Time {
        Time(self.now.get())
    }

    #[inline]
    pub(super) fn move_to(&self, at: Time) {
        if at.0 > self.now.get() {
            if self.options.pace.is_some() {
                self.pace(at);
            }
            self.now.set(at.0);
            self.polls_here.set(0);
        }
        self.fires.set(self.fires.get() + 1);
    }

    #[cold]
    #[expect(clippy::disallowed_methods, reason = "a paced run follows the wall clock by definition")]
    fn pace(&self, to: Time) {
        let Some(pace) = self.options.pace.filter(|p| *p > 0.0) else { return };
        let (from, wall) = self.paced_from.get().unwrap_or_else(|| {
            let here = (self.now.get(), std::time::Instant::now());
            self.paced_from.set(Some(here));
            here
        });
        let due = std::time::Duration::from_secs_f64(Duration(to.0 - from).as_secs_f64() / pace);
        std::thread::sleep(due.saturating_sub(wall.elapsed()));
    }
}

/// A simulated run: a virtual clock, its timers and its tasks.
///
/// ```
/// use elapse_rt::{Duration, Options, Sim, Time, now, sleep};
///
/// let run = Sim::new(Options::default());
/// let day = run.block_on(async {
///     sleep(Duration::from_secs(86_400)).await;
///     now()
/// });
/// // No real time has passed.
/// assert_eq!(day.unwrap(), Time(86_400_000_000_000));
/// ```
pub struct Sim {
    pub(super) context: Rc<Context>,
}

impl Sim {
    /// A run at virtual time zero.
    pub fn new(options: Options) -> Sim {
        let context = context::register(|id| Context {
            id,
            timers: RefCell::new(Timers::new()),
            handlers: RefCell::default(),
            arm: Arm::Sim(SimCore {
                now: Cell::new(0),
                tasks: RefCell::new(Tasks::new(id)),
                waits: Cell::new(Waits::Other),
                polls: Cell::new(0),
                fires: Cell::new(0),
                polls_here: Cell::new(0),
                alone: Cell::new(0),
                events: Cell::new(0),
                hash: Cell::new(0),
                attention: Cell::new(1),
                trail: RefCell::new(Trail::new(options.watch.clone())),
                observer: RefCell::new(None),
                schedule: RefCell::new(
                    chance::Seed::new(options.seed).named("schedule").draw(chance::Purpose::Schedule, 0),
                ),
                options,
                paced_from: Cell::new(None),
                stream: Cell::default(),
                streaming: Cell::new(false),
                arrival: Cell::new(NO_ARRIVAL),
            }),
        });
        Sim { context }
    }

    /// Calls `observer` every few thousand events with the time and the number of events so far.
    pub fn observe(&self, observer: Observer) {
        *self.core().observer.borrow_mut() = Some(observer);
    }

    pub(super) fn core(&self) -> &SimCore {
        self.context.sim()
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.core().now()
    }

    /// When the next timer fires.
    pub fn next_deadline(&self) -> Option<Time> {
        let mut timers = self.context.timers.borrow_mut();
        let arrival = Some(self.core().arrival.get()).filter(|a| *a != NO_ARRIVAL).map(|a| Time(a >> 2));
        timers.next_deadline().into_iter().chain(arrival).min().map(|at| at.max(self.now()))
    }

    /// What the run did so far.
    pub fn counters(&self) -> Counters {
        let core = self.core();
        let timers = self.context.timers.borrow().counts;
        Counters {
            polls: core.polls.get(),
            fires: core.fires.get(),
            cancels: timers.cancels,
            sweeps: timers.sweeps,
            longest_queue: timers.longest,
        }
    }

    /// The rolling hash over (time, task, kind) of every poll and fire so far.
    ///
    /// ```
    /// use elapse_rt::{Duration, Options, Sim, sleep};
    ///
    /// let hash_of = |seconds| {
    ///     let run = Sim::new(Options::default());
    ///     run.block_on(async move { sleep(Duration::from_secs(seconds)).await }).unwrap();
    ///     run.event_hash()
    /// };
    /// // Equal runs have equal hashes.
    /// assert_eq!(hash_of(5), hash_of(5));
    /// assert_ne!(hash_of(5), hash_of(6));
    /// ```
    pub fn event_hash(&self) -> u64 {
        self.core().hash.get()
    }

    /// Hashes along the way and the events that were watched.
    pub fn trail(&self) -> Trail {
        let core = self.core();
        let mut trail = core.trail.borrow().clone();
        trail.settle(core.events.get(), core.hash.get());
        trail
    }

    /// Tasks that have not ended.
    pub fn tasks_alive(&self) -> usize {
        self.core().tasks.borrow().alive()
    }

    /// Runs until `future` is done, and returns what it returned.
    ///
    /// # Errors
    /// When the run cannot go on: see [`Stop`]. A panic of `future` itself is resumed.
    #[track_caller]
    pub fn block_on<F>(&self, future: F) -> Result<F::Output, Stop>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let _entered = context::enter(&self.context);
        let mut main = super::spawn_named("main", future);
        let noop = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(noop);
        let limit = self.core().options.time_limit.unwrap_or(Time::MAX);
        let outcome = self.run(limit, &|core| core.tasks.borrow().is_finished(main.word()));
        match main.poll_sim(&mut cx) {
            Poll::Ready(Ok(output)) => return Ok(output),
            Poll::Ready(Err(failure)) => match outcome {
                Err(stop) => return Err(stop),
                Ok(()) => resume_unwind(Box::new(failure.to_string())),
            },
            Poll::Pending => outcome?,
        }
        if self.next_deadline().is_some() {
            return Err(Stop::TimeLimit(limit));
        }
        Err(Stop::Deadlock(self.core().tasks.borrow().living()))
    }

    /// Runs everything up to and including `until`, then sets the clock to it.
    ///
    /// ```
    /// use elapse_rt::{Duration, Options, Sim, Time, sleep};
    ///
    /// let run = Sim::new(Options::default());
    /// run.spawn_detached(async { sleep(Duration::from_secs(10)).await });
    /// run.run_until(Time(4_000_000_000)).unwrap();
    /// assert_eq!((run.now(), run.tasks_alive()), (Time(4_000_000_000), 1));
    /// assert_eq!(run.next_deadline(), Some(Time(10_000_000_000)));
    /// ```
    ///
    /// # Errors
    /// Livelock, a panic that is not contained, an observer that stops the run.
    pub fn run_until(&self, until: Time) -> Result<(), Stop> {
        let _entered = context::enter(&self.context);
        let limit = self.core().options.time_limit.unwrap_or(Time::MAX).min(until);
        self.run(limit, &|_| false)?;
        if limit < until {
            return Err(Stop::TimeLimit(limit));
        }
        if self.now() < until {
            self.core().now.set(until.0);
            self.context.timers.borrow_mut().move_to(key(until, Class::Event));
        }
        Ok(())
    }

    /// Polls one ready task, or fires one timer if none is ready.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until).
    pub fn step(&self) -> Result<Step, Stop> {
        let _entered = context::enter(&self.context);
        let core = self.core();
        if let Some(index) = self.next_ready() {
            let taken = core.tasks.borrow_mut().take(index);
            self.poll(taken)?;
            return Ok(Step::Polled);
        }
        Ok(if self.fire(core.options.time_limit.unwrap_or(Time::MAX), true)? {
            Step::Fired
        } else {
            Step::Idle
        })
    }

    /// Does something for which this runtime answers; no time passes.
    pub fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = context::enter(&self.context);
        f()
    }

    /// Spawns a task from outside.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> super::JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let _entered = context::enter(&self.context);
        super::spawn(future)
    }

    /// Spawns a task that nobody waits for from outside.
    #[track_caller]
    pub fn spawn_detached(&self, future: impl Future<Output = ()> + 'static) {
        let _entered = context::enter(&self.context);
        super::spawn_detached(future);
    }

    #[inline]
    fn next_ready(&self) -> Option<u32> {
        let core = self.core();
        let fuzz = core.options.fuzz_schedule;
        core.tasks
            .borrow_mut()
            .next_ready(|n| if fuzz { core.schedule.borrow_mut().random_range(0..n) } else { 0 })
    }

    fn run(&self, limit: Time, done: &dyn Fn(&SimCore) -> bool) -> Result<(), Stop> {
        let core = self.core();
        loop {
            while let Some(index) = self.next_ready() {
                let taken = core.tasks.borrow_mut().take(index);
                self.poll(taken)?;
            }
            if done(core) || !self.fire(limit, false)? {
                return Ok(());
            }
        }
    }

    #[inline]
    pub(super) fn poll(&self, taken: Option<Taken>) -> Result<(), Stop> {
        let Some(taken) = taken else { return Ok(()) };
        let core = self.core();
        core.polls.set(core.polls.get() + 1);
        core.polls_here.set(core.polls_here.get() + 1);
        if core.polls_here.get() > core.options.polls_per_instant {
            let task = core.tasks.borrow().describe(taken.word);
            core.tasks.borrow_mut().put_back(taken, Waits::Other);
            return Err(Stop::Livelock(core.now(), task));
        }
        if let Err(stop) = self.note(Kind::Poll, taken.word.index()) {
            // It is not lost: whoever goes on with the run finds it ready.
            core.tasks.borrow_mut().put_off(taken);
            return Err(stop);
        }
        core.waits.set(Waits::Other);
        let waker = taken.word.waker();
        let mut cx = std::task::Context::from_waker(&waker);
        let word = taken.word;
        let mut polled = Some(taken);
        // The end of a task is caught with its polls: its destructor, and whom it wakes, may panic as well.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let ended = polled.as_mut().is_some_and(|taken| taken.poll(&mut cx).is_ready());
            if ended && let Some(taken) = polled.take() {
                let ended = core.tasks.borrow_mut().finish(taken, None);
                ended.tell();
            }
        }));
        match (outcome, polled) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(taken)) => {
                core.tasks.borrow_mut().put_back(taken, core.waits.get());
                Ok(())
            }
            (Err(payload), taken) => self.panicked(word, taken, payload.as_ref()),
        }
    }

    /// Ends a task that panicked in its poll, or tells of one that did so when it had ended.
    #[cold]
    fn panicked(
        &self,
        word: Word,
        taken: Option<Taken>,
        payload: &(dyn std::any::Any + Send),
    ) -> Result<(), Stop> {
        let core = self.core();
        let task = core.tasks.borrow().describe(word);
        let what = format!(
            "task '{}' spawned at {} panicked at virtual time {} (seed {}): {}",
            task.name,
            task.site,
            core.now(),
            core.options.seed,
            super::panic_message(payload)
        );
        if let Some(taken) = taken {
            let failure = JoinError::Panicked(what.clone());
            let ended = core.tasks.borrow_mut().finish(taken, Some(failure));
            // What is left of it is dropped here, and may panic once more.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| ended.tell())) {
                let again = super::panic_message(payload.as_ref());
                tracing::error!(target: "elapse", %again, "what is left of a task that panicked panicked too");
            }
        }
        if core.options.contain_panics { Ok(()) } else { Err(Stop::Panicked(what)) }
    }

    /// Adds an event to the rolling hash, and lets the observer look now and then.
    #[inline]
    pub(super) fn note(&self, kind: Kind, task: u32) -> Result<(), Stop> {
        let core = self.core();
        let hash = trail::rolled(core.hash.get(), core.now.get(), task, kind);
        let number = core.events.get() + 1;
        core.hash.set(hash);
        core.events.set(number);
        if number >= core.attention.get() { self.attend(kind, task) } else { Ok(()) }
    }

    /// Keeps a mark of the trail, and lets the observer look.
    #[cold]
    fn attend(&self, kind: Kind, task: u32) -> Result<(), Stop> {
        let core = self.core();
        let number = core.events.get();
        let event = trail::Event { number, at_ns: core.now.get(), task, kind };
        let next = core.trail.borrow_mut().keep(event, core.hash.get());
        core.attention.set(next.min((number / OBSERVE + 1) * OBSERVE));
        if number.is_multiple_of(OBSERVE)
            && let Some(observer) = core.observer.borrow_mut().as_mut()
            && !observer(core.now(), number)
        {
            return Err(Stop::Interrupted);
        }
        Ok(())
    }
}

impl Sim {
    /// Drops the tasks in order of spawning, then whom calls go to, under the clock of this runtime wherever it is done.
    ///
    /// # Panics
    /// If one of them panicked as it was dropped, once all are, and panics are not contained.
    pub fn shut_down(&self) {
        let _entered = context::enter_to_end(&self.context);
        let mut panicked = None;
        let mut dropped = |drops: &mut dyn FnMut()| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(drops)) {
                panicked.get_or_insert(super::panic_message(payload.as_ref()));
            }
        };
        for _ in 0..1000 {
            let order = self.core().tasks.borrow().shutdown_order();
            if order.is_empty() {
                break;
            }
            for index in order {
                let mut rest = self.core().tasks.borrow_mut().remove(index);
                dropped(&mut || drop(rest.take()));
            }
        }
        let mut stream = self.core().end_stream();
        dropped(&mut || drop(stream.take()));
        dropped(&mut || self.context.drop_handlers());
        let Some(what) = panicked else { return };
        if self.core().options.contain_panics || std::thread::panicking() {
            tracing::error!(target: "elapse", %what, "something panicked as the runtime ended");
        } else {
            resume_unwind(Box::new(what));
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Spawns on the simulated arm.
pub(super) fn spawn<F>(core: &SimCore, future: F, site: &'static Location<'static>) -> Word
where
    F: Future + 'static,
    F::Output: 'static,
{
    core.tasks.borrow_mut().spawn(future, site)
}
