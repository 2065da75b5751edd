//! What a simulated run does next: the next timer, call or arrival.

use super::calls::Stream;
use super::options::Stop;
use super::sim::{NO_ARRIVAL, Sim, SimCore};
use super::tasks::{Blocked, Waits};
use super::timers::{Class, Sleeper, key};
use super::trail::Kind;
use super::waker::Word;
use crate::clock::Time;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run does next.
enum Next {
    /// Polls the task that slept on a timer of this class.
    Task(Word, Class),
    /// Makes a call.
    Call { handler: u32, token: u32 },
    /// Lets an arrival of the stream come.
    Arrival(u64),
    /// Wakes what is no task of this runtime.
    Wake(std::task::Waker, Class),
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
    #[inline]
    pub(super) fn fire(&self, limit: Time, once: bool) -> Result<bool, Stop> {
        let limit = key(limit, Class::Arrival);
        match self.next(limit) {
            Next::Task(word, class) => self.poll_fired(word, class),
            Next::Nothing => Ok(false),
            first => self.make_calls(first, limit, once),
        }
    }

    /// Takes the next timer, or the next arrival where that comes first, and moves the clock to it.
    #[inline]
    fn next(&self, limit: u64) -> Next {
        let core = self.core();
        let mut timers = self.context.timers.borrow_mut();
        let arrival = core.arrival.get();
        let Some(fired) = timers.pop(limit.min(arrival)) else {
            let comes = arrival <= limit && arrival != NO_ARRIVAL;
            return if comes { Next::Arrival(arrival) } else { Next::Nothing };
        };
        if let Some(word) = timers.glimpse(8) {
            core.tasks.borrow().prefetch(word);
        }
        if let Some(word) = timers.glimpse(4) {
            core.tasks.borrow().prefetch_future(word);
        }
        core.move_to(fired.at);
        match fired.sleeper {
            Sleeper::Task(word) => Next::Task(Word(word), fired.class),
            Sleeper::Call { handler, token } => Next::Call { handler, token },
            Sleeper::Foreign(number) => Next::Wake(timers.take_foreign(number), fired.class),
        }
    }

    #[inline]
    fn poll_fired(&self, word: Word, class: Class) -> Result<bool, Stop> {
        let core = self.core();
        if let Some(limit) = core.options.ticks_alone {
            self.count_ticks(class, limit)?;
        }
        if let Err(stop) = self.note(Kind::fired(class), word.index()) {
            // It is not lost: whoever goes on with the run finds it ready.
            core.tasks.borrow_mut().wake(word);
            return Err(stop);
        }
        let taken = core.tasks.borrow_mut().take_idle(word);
        self.poll(taken).map(|()| true)
    }

    /// Counts ticks in a row with nothing else set: when there are too many, whoever waits would wait for ever.
    fn count_ticks(&self, class: Class, limit: u64) -> Result<(), Stop> {
        let core = self.core();
        let alone = class == Class::Tick
            && core.arrival.get() == NO_ARRIVAL
            && self.context.timers.borrow().only_ticks();
        core.alone.set(if alone { core.alone.get() + 1 } else { 0 });
        if core.alone.get() > limit { Err(Stop::Deadlock(core.tasks.borrow().living())) } else { Ok(()) }
    }

    /// Makes this call, and those that follow it until a task is ready or a timer of a task has fired.
    fn make_calls(&self, first: Next, limit: u64, once: bool) -> Result<bool, Stop> {
        let core = self.core();
        let called = Cell::new("");
        let mut next = Some(first);
        // Caught once for all of them: each is a few hundred instructions.
        let made = catch_unwind(AssertUnwindSafe(|| {
            loop {
                match next.take().unwrap_or_else(|| self.next(limit)) {
                    Next::Call { handler, token } => {
                        called.set("a call at an instant");
                        core.alone.set(0);
                        let noted = self.note(Kind::Call, token).and_then(|()| self.dwell(called.get()));
                        self.context.call(handler, token);
                        noted?;
                    }
                    Next::Arrival(arrival) => {
                        called.set("the stream of arrivals");
                        self.arrive(arrival)?;
                    }
                    Next::Wake(waker, class) => {
                        called.set("a waker");
                        let noted =
                            self.note(Kind::fired(class), u32::MAX).and_then(|()| self.dwell(called.get()));
                        waker.wake();
                        noted?;
                    }
                    task_or_nothing => return Ok(task_or_nothing),
                }
                if once || core.tasks.borrow().any_ready() {
                    return Ok(Next::Nothing);
                }
            }
        }));
        match made {
            // Something was done, whatever comes next.
            Ok(Ok(Next::Task(word, class))) => self.poll_fired(word, class),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(stop)) => Err(stop),
            Err(payload) => self.call_panicked(called.get(), payload.as_ref()).map(|()| true),
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
            Class::Event | Class::Deadline => Kind::FireEvent,
            Class::Tick => Kind::FireTick,
            Class::Arrival => Kind::FireArrival,
        }
    }
}
