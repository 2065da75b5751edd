//! What a simulated run does next: the next timer, call or arrival.

use super::calls::Stream;
use super::options::Stop;
use super::sim::{NO_ARRIVAL, Sim, SimCore};
use super::tasks::{Blocked, Waits};
use super::timers::{Class, Sleeper, key};
use super::trail::Kind;
use super::waker::Word;
use crate::base::Time;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run does next, when calls have been made.
enum Next {
    /// Polls the task that slept on a timer of this class.
    Task(Word, Class),
    /// Polls whatever is ready.
    Ready,
    /// Nothing is due.
    Nothing,
}

impl SimCore {
    /// Begins a stream of arrivals.
    pub(super) fn stream_from(&self, first: Time, stream: Stream) {
        let free = self.arrival.get() == NO_ARRIVAL && !self.streaming.get();
        assert!(free, "there is a stream of arrivals already; merge the two");
        self.stream.set(Some(stream));
        self.arrival.set(key(first.max(self.now()), Class::Arrival));
    }

    /// Ends the stream of arrivals; what is left of it is to be dropped when nothing is borrowed.
    pub(super) fn end_stream(&self) -> Option<Stream> {
        self.arrival.set(NO_ARRIVAL);
        self.streaming.set(false);
        self.stream.take()
    }
}

impl Sim {
    /// Fires the next timer and polls the task that slept on it. Arrivals and calls that come before it are made, until
    /// one of them leaves a task ready, or only the first of them. False if nothing is due by `limit`.
    pub(super) fn fire(&self, limit: Time, once: bool) -> Result<bool, Stop> {
        // Caught once for all of them: each is a few hundred instructions.
        let called = Cell::new("the stream of arrivals");
        match catch_unwind(AssertUnwindSafe(|| self.make_calls(limit, once, &called))) {
            Ok(Ok(Next::Task(word, class))) => {
                let core = self.core();
                if let Err(stop) = self.note(Kind::fired(class), word.index()) {
                    // It is not lost: whoever goes on with the run finds it ready.
                    core.tasks.borrow_mut().wake(word);
                    return Err(stop);
                }
                let taken = core.tasks.borrow_mut().take_idle(word);
                self.poll(taken).map(|()| true)
            }
            Ok(Ok(Next::Ready)) => Ok(true),
            Ok(Ok(Next::Nothing)) => Ok(false),
            Ok(Err(stop)) => Err(stop),
            Err(payload) => self.call_panicked(called.get(), payload.as_ref()).map(|()| true),
        }
    }

    /// Makes calls and lets arrivals come until a task is to be polled.
    #[inline]
    fn make_calls(&self, limit: Time, once: bool, called: &Cell<&'static str>) -> Result<Next, Stop> {
        let core = self.core();
        let limit = key(limit, Class::Arrival);
        loop {
            let mut timers = self.context.timers.borrow_mut();
            let arrival = core.arrival.get();
            let Some(fired) = timers.pop(limit.min(arrival)) else {
                drop(timers);
                if arrival > limit {
                    return Ok(Next::Nothing);
                }
                called.set("the stream of arrivals");
                self.arrive(arrival)?;
                if once || core.tasks.borrow().any_ready() {
                    return Ok(Next::Ready);
                }
                continue;
            };
            match fired.sleeper {
                Sleeper::Call { handler, token } => {
                    drop(timers);
                    core.move_to(fired.at);
                    let noted = self.note(Kind::Call, token).and_then(|()| self.dwell("calls at an instant"));
                    called.set("a call at an instant");
                    self.context.call(handler, token);
                    noted?;
                    if once || core.tasks.borrow().any_ready() {
                        return Ok(Next::Ready);
                    }
                }
                Sleeper::Task(word) => {
                    if let Some(word) = timers.glimpse(8) {
                        core.tasks.borrow().prefetch(word);
                    }
                    if let Some(word) = timers.glimpse(4) {
                        core.tasks.borrow().prefetch_future(word);
                    }
                    core.move_to(fired.at);
                    return Ok(Next::Task(Word(word), fired.class));
                }
                Sleeper::Foreign(number) => {
                    let waker = timers.take_foreign(number);
                    drop(timers);
                    core.move_to(fired.at);
                    let noted = self.note(Kind::fired(fired.class), u32::MAX);
                    waker.wake();
                    return noted.map(|()| Next::Ready);
                }
            }
        }
    }

    /// Lets the next arrival of the stream come.
    #[inline]
    fn arrive(&self, arrival: u64) -> Result<(), Stop> {
        let core = self.core();
        core.move_to(Time(arrival >> 2));
        self.context.timers.borrow_mut().move_to(arrival);
        let noted =
            self.note(Kind::FireArrival, u32::MAX).and_then(|()| self.dwell("the stream of arrivals"));
        // Away from its place while it is called, so that it may end itself; what panics stays away.
        let Some(mut stream) = core.stream.take() else {
            core.arrival.set(NO_ARRIVAL);
            return noted;
        };
        core.arrival.set(NO_ARRIVAL);
        core.streaming.set(true);
        let next = stream();
        // Unless it was ended meanwhile.
        if let Some(next) = next
            && core.streaming.replace(false)
        {
            core.arrival.set(key(next, Class::Arrival).max(arrival));
            core.stream.set(Some(stream));
        }
        noted
    }

    /// Counts what happens at one instant without a poll, so that a livelock of such things is found too.
    #[inline]
    fn dwell(&self, who: &'static str) -> Result<(), Stop> {
        let core = self.core();
        core.polls_here.set(core.polls_here.get() + 1);
        if core.polls_here.get() <= core.options.polls_per_instant {
            return Ok(());
        }
        let what = Blocked { name: who.into(), site: "rt".into(), waits: Waits::Timer };
        Err(Stop::Livelock(core.now(), what))
    }

    #[cold]
    fn call_panicked(&self, who: &str, payload: &(dyn std::any::Any + Send)) -> Result<(), Stop> {
        let core = self.core();
        core.streaming.set(false);
        let what = format!(
            "{who} panicked at virtual time {} (seed {}): {}",
            core.now(),
            core.options.seed,
            super::panic_message(payload)
        );
        if !core.options.contain_panics {
            return Err(Stop::Panicked(what));
        }
        tracing::error!(target: "elapse", %what);
        Ok(())
    }
}

impl Kind {
    fn fired(class: Class) -> Kind {
        match class {
            Class::Event => Kind::FireEvent,
            Class::Tick => Kind::FireTick,
            Class::Arrival => Kind::FireArrival,
        }
    }
}
