//! Processor sharing: runnable work shares the cores in proportion, an invocation never faster than its `cpus`.
//!
//! The egalitarian discipline of queueing theory (Kleinrock, 1967), generalised to work of which only a fraction f is
//! processor time: with a share s of what it asks for, it progresses at 1 / ((1 - f) + f / s). Work of equal f progresses
//! alike, so each f has one virtual clock and a heap of finishing times; nothing is touched per invocation and event.

use crate::base::{Cpus, Duration, Time};
use crate::rt::{self, sync};
use std::cell::RefCell;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

/// The progress of work of which a fraction is processor time, with this share of the processors that it asks for.
pub(super) fn rate(fraction: f64, share: f64) -> f64 {
    1.0 / ((1.0 - fraction) + fraction / share.min(1.0))
}

/// What sums of demands are off by, at most.
const ROUNDING: f64 = 1e-6;

/// All work of one processor fraction.
struct Class {
    fraction: f64,
    /// Progress made since the class was last empty, in ns of undisturbed execution.
    progress: f64,
    work: BinaryHeap<Reverse<Job>>,
}

struct Job {
    finish: f64,
    sequence: u64,
    /// Cores it asks for on average: cpus times fraction.
    demand: f64,
    done: sync::OneSender<()>,
}

impl PartialEq for Job {
    fn eq(&self, other: &Job) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Job {}
impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Job) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Job {
    fn cmp(&self, other: &Job) -> Ordering {
        self.finish.total_cmp(&other.finish).then(self.sequence.cmp(&other.sequence))
    }
}

struct State {
    /// What work asks for at most when it is not slowed down, and what it has together when it asks for more.
    asked: f64,
    cores: f64,
    demand: f64,
    jobs: usize,
    classes: Vec<Class>,
    at: Time,
    sequence: u64,
}

impl State {
    fn rate(&self, fraction: f64) -> f64 {
        rate(fraction, if self.demand > self.asked + ROUNDING { self.cores / self.demand } else { 1.0 })
    }

    fn advance(&mut self, now: Time) {
        let elapsed = now.since(self.at).0 as f64;
        self.at = now;
        for i in 0..self.classes.len() {
            let step = elapsed * self.rate(self.classes[i].fraction);
            self.classes[i].progress += step;
        }
    }

    /// The next finish, to the nanosecond above it.
    fn next(&self) -> Option<Time> {
        self.classes
            .iter()
            .filter_map(|c| {
                let left = c.work.peek()?.0.finish - c.progress;
                Some((left / self.rate(c.fraction)).max(0.0))
            })
            .min_by(f64::total_cmp)
            .map(|wait| self.at + Duration(wait.ceil() as u64))
    }

    fn finished(&mut self) -> Vec<Job> {
        let mut finished = Vec::new();
        for class in &mut self.classes {
            // Half a nanosecond of progress is less than what rounding to whole nanoseconds has cost.
            while class.work.peek().is_some_and(|Reverse(job)| job.finish <= class.progress + 0.5) {
                finished.extend(class.work.pop().map(|Reverse(job)| job));
            }
            if class.work.is_empty() {
                class.progress = 0.0;
            }
        }
        self.jobs -= finished.len();
        self.demand -= finished.iter().map(|j| j.demand).sum::<f64>();
        if self.jobs == 0 {
            self.demand = 0.0;
        }
        finished.sort_by_key(|j| j.sequence);
        finished
    }
}

/// Cores that are shared.
#[derive(Clone)]
pub(super) struct Sharing {
    state: Rc<RefCell<State>>,
    changed: sync::Notify,
}

impl Sharing {
    /// Shares `cores`; starts the task that finishes work. Inside a runtime only.
    pub(super) fn new(cores: Cpus) -> Sharing {
        Sharing::with_loss(cores.as_f64(), cores)
    }

    /// The same of a host where work that asks for more than `asked` processors has no more than `cores` together: they
    /// change from one to the other, and that takes time.
    pub(super) fn with_loss(asked: f64, cores: Cpus) -> Sharing {
        let state = State {
            asked,
            cores: cores.as_f64(),
            demand: 0.0,
            jobs: 0,
            classes: Vec::new(),
            at: rt::now(),
            sequence: 0,
        };
        let sharing = Sharing { state: Rc::new(RefCell::new(state)), changed: sync::Notify::new() };
        let driven = sharing.clone();
        drop(rt::spawn_named("processor-sharing", async move { driven.drive().await }));
        sharing
    }

    async fn drive(&self) {
        loop {
            let next = self.state.borrow().next();
            match next {
                None => self.changed.notified().await,
                Some(at) => {
                    rt::select(rt::sleep_until(at), self.changed.notified()).await;
                }
            }
            let finished = {
                let mut state = self.state.borrow_mut();
                state.advance(rt::now());
                state.finished()
            };
            for job in finished {
                // Nobody waits for it when the invocation was given up.
                let _ = job.done.send(());
            }
        }
    }

    /// Adds work that takes `span` when undisturbed, of which `fraction` is processor time on `cpus`.
    pub(super) fn start(&self, span: Duration, fraction: f64, cpus: Cpus) -> Running {
        let (done, finished) = sync::oneshot();
        let mut state = self.state.borrow_mut();
        state.advance(rt::now());
        let fraction = fraction.clamp(0.0, 1.0);
        let demand = cpus.as_f64() * fraction;
        state.demand += demand;
        state.jobs += 1;
        state.sequence += 1;
        let sequence = state.sequence;
        let known = state.classes.iter().position(|c| c.fraction.total_cmp(&fraction).is_eq());
        let class = known.unwrap_or_else(|| {
            state.classes.push(Class { fraction, progress: 0.0, work: BinaryHeap::new() });
            state.classes.len() - 1
        });
        let class = &mut state.classes[class];
        class.work.push(Reverse(Job { finish: class.progress + span.0 as f64, sequence, demand, done }));
        drop(state);
        self.changed.notify_one();
        Running { sharing: self.clone(), sequence, finished }
    }

    fn has(&self, sequence: u64) -> bool {
        let state = self.state.borrow();
        state.classes.iter().any(|c| c.work.iter().any(|Reverse(job)| job.sequence == sequence))
    }

    /// Takes out work that was given up, so that it uses no cores any more.
    fn give_up(&self, sequence: u64) {
        let mut state = self.state.borrow_mut();
        state.advance(rt::now());
        let mut freed = 0.0;
        for class in &mut state.classes {
            class.work.retain(|Reverse(job)| {
                if job.sequence == sequence {
                    freed += job.demand;
                }
                job.sequence != sequence
            });
        }
        state.jobs -= 1;
        state.demand = if state.jobs == 0 { 0.0 } else { state.demand - freed };
        drop(state);
        self.changed.notify_one();
    }
}

/// Work under way. Dropped before its end, it is given up.
pub(super) struct Running {
    sharing: Sharing,
    sequence: u64,
    finished: sync::OneReceiver<()>,
}

impl Running {
    /// Waits for the end of the work.
    pub(super) async fn done(mut self) {
        let _ = (&mut self.finished).await;
        self.sequence = DONE;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A finished job left the books before it was told; one that is told but not asked yet is in them no more.
        if self.sequence != DONE && self.sharing.has(self.sequence) {
            self.sharing.give_up(self.sequence);
        }
    }
}

/// The sequence number of work that has ended; real ones begin at 1.
const DONE: u64 = 0;
