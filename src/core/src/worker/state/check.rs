//! What must hold of a worker after every transition: pool, ledger, permits and counts agree with each other, and with what was told.
//!
//! The checks keep books of their own, from the [events](Event) alone, and compare them with the state. Where something does not hold
//! the worker panics with the sentence and the last events: a run ends then, as our bug, before it tells wrong numbers.

use super::ledger::Phase;
use super::lines::Ticket;
use super::{CPUS, IN_FLIGHT, QUEUED, State};
use crate::base::{Cpus, Mem, Time};
use crate::worker::config::Accounting;
use crate::worker::event::{Observer, WorkerEvent};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// How many events are told with what does not hold.
const REMEMBERED: usize = 12;

/// Books that are kept from events.
pub(super) struct Checks {
    /// After every transition; else as often as costs no more than a few looks at each container for each event.
    always: bool,
    /// Events until the next look, where not every transition is looked at.
    due: usize,
    containers: FxHashMap<u64, Book>,
    arrived: u64,
    refused: u64,
    waiting: u64,
    dispatched: u64,
    released: u64,
    left: u64,
    executing: u64,
    cpus: u64,
    last: VecDeque<(Time, WorkerEvent)>,
    /// An event that could not follow what was told before.
    wrong: Option<&'static str>,
}

/// What was told of a container.
struct Book {
    memory: Mem,
    charged: Mem,
    inside: u32,
    stage: Stage,
    /// When its keep-alive ends, while it is idle.
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Creating,
    Busy,
    Idle,
    Retired,
}

impl Checks {
    /// The checks, if they are wanted after every transition; in debug builds there are some always.
    pub(super) fn wanted(always: bool) -> Option<Box<Checks>> {
        (always || cfg!(debug_assertions)).then(|| {
            Box::new(Checks {
                always,
                due: 0,
                containers: FxHashMap::default(),
                arrived: 0,
                refused: 0,
                waiting: 0,
                dispatched: 0,
                released: 0,
                left: 0,
                executing: 0,
                cpus: 0,
                last: VecDeque::new(),
                wrong: None,
            })
        })
    }

    fn book(&mut self, container: u64, change: impl FnOnce(&mut Book) -> Option<&'static str>) {
        let wrong = match self.containers.get_mut(&container) {
            Some(book) => change(book),
            None => Some("it is about a container that is not there"),
        };
        self.wrong = self.wrong.or(wrong);
    }

    fn enter(&mut self, container: u64, creating: bool, at: Time) {
        self.book(container, |book| {
            book.inside += 1;
            if book.stage == Stage::Idle && at >= book.until {
                return Some("nobody enters a container whose keep-alive has ended");
            }
            if book.stage == Stage::Creating && creating {
                return None;
            }
            let wrong = (book.stage == Stage::Retired).then_some("nobody enters a container that is retired");
            (book.stage, book.charged) = (Stage::Busy, book.memory);
            wrong
        });
    }

    /// Takes one from a count.
    fn less(&mut self, count: fn(&mut Checks) -> &mut u64, why: &'static str) {
        match count(self).checked_sub(1) {
            Some(left) => *count(self) = left,
            None => self.wrong = self.wrong.or(Some(why)),
        }
    }
}

impl Observer for Checks {
    fn observe(&mut self, at: Time, event: &WorkerEvent) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back((at, *event));
        self.due = self.due.saturating_sub(1);
        match *event {
            WorkerEvent::Arrived { .. } => self.arrived += 1,
            // It joins the queue when it is first told that it waits; afterwards it only waits for something else.
            WorkerEvent::Waits { joins, .. } => self.waiting += u64::from(joins),
            WorkerEvent::Refused { waited, .. } => {
                self.refused += 1;
                if waited {
                    self.less(|c| &mut c.waiting, "it did not wait");
                }
            }
            WorkerEvent::Left { .. } => {
                self.left += 1;
                self.less(|c| &mut c.waiting, "it did not wait");
            }
            WorkerEvent::Dispatched { container, cpus, placed, cause, from_queue, .. } => {
                self.dispatched += 1;
                self.cpus += u64::from(cpus.0);
                if from_queue {
                    self.less(|c| &mut c.waiting, "it did not wait");
                }
                if placed {
                    self.enter(container, cause.is_some(), at);
                }
            }
            WorkerEvent::Entered { container, .. } => self.enter(container, false, at),
            WorkerEvent::CreationBegan { container, memory, .. } => {
                let stage = Stage::Creating;
                let book = Book { memory, charged: memory, inside: 0, stage, until: Time::MAX };
                if self.containers.insert(container, book).is_some() {
                    self.wrong = Some("a container is created twice");
                }
            }
            WorkerEvent::CreationEnded { container, usable, .. } => self.book(container, |book| {
                if usable && book.inside > 0 {
                    book.stage = Stage::Busy;
                }
                None
            }),
            WorkerEvent::Idle { container, charged, until } => self.book(container, |book| {
                let wrong = (book.inside > 0 || book.stage == Stage::Retired).then_some("it is not idle");
                (book.stage, book.charged, book.until) = (Stage::Idle, charged, until);
                wrong
            }),
            WorkerEvent::Retired { container, .. } => self.book(container, |book| {
                let wrong = (book.stage == Stage::Retired).then_some("it is retired already");
                book.stage = Stage::Retired;
                wrong
            }),
            WorkerEvent::Gone { container } => match self.containers.remove(&container) {
                Some(Book { inside: 0, stage: Stage::Retired, .. }) => {}
                _ => self.wrong = self.wrong.or(Some("a container goes that is not retired and empty")),
            },
            WorkerEvent::Started { .. } => self.executing += 1,
            WorkerEvent::Ended { .. } => self.less(|c| &mut c.executing, "it did not execute"),
            WorkerEvent::Released { container, cpus, .. } => {
                self.released += 1;
                match self.cpus.checked_sub(u64::from(cpus.0)) {
                    Some(left) => self.cpus = left,
                    None => self.wrong = Some("more processors come back than were taken"),
                }
                if let Some(container) = container {
                    self.book(container, |book| match book.inside.checked_sub(1) {
                        Some(left) => {
                            book.inside = left;
                            None
                        }
                        None => Some("it is not in that container"),
                    });
                }
            }
            WorkerEvent::Returned { .. }
            | WorkerEvent::Read { .. }
            | WorkerEvent::PrewarmAttempted { .. }
            | WorkerEvent::PrewarmFailed { .. }
            | WorkerEvent::Registered { .. }
            | WorkerEvent::Crashed
            | WorkerEvent::Deregistered { .. } => {}
        }
    }
}

impl State {
    /// Looks at all that must hold.
    ///
    /// # Panics
    /// If it does not.
    #[cold]
    #[inline(never)]
    pub(super) fn check(&mut self) {
        let Some(mut checks) = self.checks.take() else { return };
        if checks.always || checks.due == 0 || checks.wrong.is_some() {
            // So many events later each container has been looked at a few times for each of them, whatever their number.
            checks.due = self.pool.all().count() / 4;
            if let Some(why) = self.broken(&checks) {
                let last: Vec<String> = checks.last.iter().map(|(at, e)| format!("  {at:?} {e:?}")).collect();
                panic!("the worker's state does not hold: {why}; the last events were\n{}", last.join("\n"));
            }
        }
        self.checks = Some(checks);
    }

    fn broken(&self, told: &Checks) -> Option<String> {
        told.wrong
            .map(str::to_string)
            .or_else(|| self.broken_ledger())
            .or_else(|| self.pool.broken())
            .or_else(|| self.broken_gpus())
            .or_else(|| self.broken_queue(told))
            .or_else(|| self.broken_books(told))
    }

    /// The ledger says what the pool's containers are charged, and no more is used than there is.
    fn broken_ledger(&self) -> Option<String> {
        let mut held = [(0u64, 0u32); Phase::ALL.len()];
        for (_, c) in self.pool.all() {
            let of = &mut held[c.phase as usize];
            *of = (of.0 + c.charged.0, of.1 + 1);
        }
        for phase in Phase::ALL {
            let (said, is) = ((self.ledger.held(phase).0, self.ledger.count(phase)), held[phase as usize]);
            if said != is {
                return Some(format!(
                    "the ledger has {said:?} (bytes, containers) {phase:?}, the pool {is:?}"
                ));
            }
        }
        let used: u64 = held.iter().map(|(bytes, _)| bytes).sum();
        (used > self.ledger.capacity().0)
            .then(|| format!("{used} bytes are used of {}", self.ledger.capacity().0))
    }

    /// What of each GPU is free and what containers have of it are the whole of it.
    fn broken_gpus(&self) -> Option<String> {
        (0..self.gpus.count() as u32).find_map(|gpu| {
            let taken =
                Phase::ALL.iter().fold(0u64, |sum, p| sum.saturating_add(self.pool.on_gpu(gpu, *p).0));
            let free = self.gpus.free(gpu).0;
            (free.saturating_add(taken) != self.gpus.each().0)
                .then(|| format!("GPU {gpu} has {free} free and {taken} taken of {}", self.gpus.each().0))
        })
    }

    /// Who waits stands in a line once.
    fn broken_queue(&self, told: &Checks) -> Option<String> {
        let waiting = self.tickets.iter().filter(|(_, ticket)| ticket.outcome.is_none()).count();
        let counted = self.held.value(QUEUED);
        let (lines, told) = (self.lines.len(), told.waiting);
        if self.lines.standing() != lines || waiting != lines || counted != lines as u64 || told != counted {
            return Some(format!(
                "{waiting} wait, {lines} stand in lines, {counted} are counted, and {told} were told"
            ));
        }
        let (without, in_line) = self.late.waiting();
        (without != in_line)
            .then(|| format!("{without} wait for a place, and {in_line} stand in line for one"))
    }

    /// What was told adds up to what there is.
    fn broken_books(&self, told: &Checks) -> Option<String> {
        let in_flight = told.dispatched.checked_sub(told.released);
        let (counted, cpus) = (self.held.value(IN_FLIGHT), self.held.value(CPUS));
        if in_flight != Some(counted) || told.executing > counted {
            return Some(format!(
                "{counted} invocations are in flight, and {} were dispatched, {} released, {} execute",
                told.dispatched, told.released, told.executing
            ));
        }
        if told.arrived != told.refused + told.left + told.waiting + told.dispatched {
            return Some(format!(
                "{} arrived, and {} were refused, {} left, {} wait, {} were dispatched",
                told.arrived, told.refused, told.left, told.waiting, told.dispatched
            ));
        }
        if told.cpus != cpus || (self.cores != Cpus::MAX && cpus > u64::from(self.cores.0)) {
            return Some(format!(
                "{cpus}/1000 processors are held of {}, {} by what was told",
                self.cores.0, told.cpus
            ));
        }
        let counts = &self.counts.whole;
        if counts.containers_created.checked_sub(counts.containers_gone()) != Some(self.pool.living()) {
            return Some(format!(
                "{} containers were created and {} are gone, and {} live",
                counts.containers_created,
                counts.containers_gone(),
                self.pool.living()
            ));
        }
        let limit = self.config.max_creating;
        if limit > 0 && self.ledger.count(Phase::Creating) > limit {
            return Some(format!("more creations are under way than the {limit} that may be"));
        }
        if self.pool.all().count() != told.containers.len() {
            return Some("containers are there that nothing was told of, or the other way round".into());
        }
        self.pool.all().find_map(|(_, c)| {
            let Some(book) = told.containers.get(&c.number) else {
                return Some(format!("nothing was told of container {}", c.number));
            };
            let stage = match c.phase {
                _ if c.retired => Stage::Retired,
                Phase::Creating => Stage::Creating,
                Phase::Running => Stage::Busy,
                Phase::Cached => Stage::Idle,
                Phase::Removing => Stage::Retired,
            };
            let charged = c.retired || book.charged == c.charged;
            // Between the end of a creation and what begins then, the container is still in the phase before.
            let opens = stage == Stage::Creating && book.stage == Stage::Busy;
            let agrees = (stage == book.stage || opens) && book.inside == c.in_flight && charged;
            (!agrees || book.memory != c.memory).then(|| {
                format!(
                    "container {} is {stage:?} with {} inside and {} charged; told was {:?}, {}, {}",
                    c.number, c.in_flight, c.charged, book.stage, book.inside, book.charged
                )
            })
        })
    }

    /// Looks, before an invocation arrives, whether the head of the queue waits although it could be dispatched.
    ///
    /// # Panics
    /// If it does.
    #[cold]
    #[inline(never)]
    pub(super) fn check_progress(&self, now: Time) {
        // What is being removed, or was charged less while it was idle, may be what it waits for.
        let unsure = self.config.accounting == Accounting::Measured || self.ledger.count(Phase::Removing) > 0;
        if unsure || self.checks.is_none() {
            return;
        }
        let Some((_, ticket)) = self.lines.head_from((0, 0)) else { return };
        let Ticket { invocation, function, deadline, .. } = &self.tickets[ticket];
        let could = *deadline != Some(now) && self.could_dispatch(*function, now);
        assert!(!could, "invocation {invocation} waits at {now:?} although it could be dispatched");
    }
}
