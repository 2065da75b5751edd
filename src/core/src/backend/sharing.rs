//! Processor sharing: runnable work shares the cores in proportion, an invocation never faster than its `cpus`.
//!
//! The egalitarian discipline of queueing theory (Kleinrock, 1967), generalised to work of which only a fraction f is
//! processor time: with a share s of what it asks for, it progresses at 1 / ((1 - f) + f / s), and has f / s of that time a
//! processor. The share is the largest at which all of it together has no more processors than there are. It is a fluid law:
//! that phases of few invocations collide by chance is left out. Work of equal f progresses alike, so each f has one virtual
//! clock and a heap of finishing times; nothing is touched per invocation and event.

use super::Shared;
use crate::base::{Cpus, Duration, Time};
use crate::rt::{self, sync};
use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

/// The progress of work of which a fraction is processor time, with this share of the processors that it asks for.
pub(super) fn rate(fraction: f64, share: f64) -> f64 {
    1.0 / ((1.0 - fraction) + fraction / share.min(1.0))
}

/// What sums of demands are off by, at most.
const ROUNDING: f64 = 1e-6;

/// The largest share, at most 1, of what it asks for that work can have of so many processors, given pairs of what some of it
/// asks for (in processors, while undisturbed) and the fraction of its time that is processor time.
pub(super) fn share_of(cores: f64, work: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let asked: f64 = work.clone().map(|(demand, _)| demand).sum();
    if asked <= cores + ROUNDING {
        return 1.0;
    }
    // What is used falls with the slowdown 1 / s and is convex in it: Newton's steps from below come near and never pass.
    // Where all is processor time the first guess is right.
    let mut share = cores / asked;
    for _ in 0..64 {
        let (mut used, mut slope) = (0.0, 0.0);
        for (demand, fraction) in work.clone() {
            let slowed = (1.0 - fraction) + fraction / share;
            used += demand / slowed;
            slope += demand * fraction / (slowed * slowed);
        }
        let step = (used - cores) / slope;
        if step * share < 1e-13 {
            break;
        }
        share = 1.0 / (1.0 / share + step);
    }
    share
}

/// How fast each of several things goes that stand in each other's way beside the processors: for 1, 2, 3 ... at once, as a
/// share of what one has alone.
#[derive(Debug)]
pub(super) struct Speeds(Vec<f64>);

impl Speeds {
    /// From how long one takes among so many: (number, mean span), of which the first is one alone. Between two numbers spans
    /// are interpolated; of more than the last as much is done together as of those.
    pub(super) fn new(spans: &[(u32, f64)]) -> Speeds {
        let (Some((_, alone)), Some((last, _))) = (spans.first(), spans.last()) else {
            return Speeds(Vec::new());
        };
        let span_of = |n: u32| {
            let above = spans.iter().find(|(number, _)| *number >= n)?;
            let below = spans.iter().rev().find(|(number, _)| *number <= n)?;
            let share =
                if above.0 > below.0 { f64::from(n - below.0) / f64::from(above.0 - below.0) } else { 0.0 };
            Some(below.1 + share * (above.1 - below.1))
        };
        Speeds((1..=*last).map(|n| span_of(n).map_or(1.0, |span| (alone / span).min(1.0))).collect())
    }

    fn of(&self, n: usize) -> f64 {
        match self.0.get(n.saturating_sub(1)) {
            Some(speed) => *speed,
            None => self.0.last().map_or(1.0, |speed| speed * self.0.len() as f64 / n as f64),
        }
    }
}

/// All work of one processor fraction, and of one kind where its kind stands in its own way.
struct Class {
    fraction: f64,
    speeds: Option<Rc<Speeds>>,
    /// Progress made since the class was last empty, in ns of undisturbed execution.
    progress: f64,
    /// Cores that its work asks for on average when it is undisturbed.
    demand: f64,
    work: BinaryHeap<Reverse<Job>>,
}

impl Class {
    /// Its own speed: what it has of the processors counts as much less.
    fn speed(&self) -> f64 {
        self.speeds.as_ref().map_or(1.0, |speeds| speeds.of(self.work.len()))
    }

    /// With nothing left it is as it was in the beginning: sums of rounded numbers do not stay.
    fn settle(&mut self) {
        if self.work.is_empty() {
            (self.progress, self.demand) = (0.0, 0.0);
        }
    }

    fn is_of(&self, fraction: f64, speeds: Option<&Rc<Speeds>>) -> bool {
        let same = match (&self.speeds, speeds) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Rc::ptr_eq(ours, theirs),
            _ => false,
        };
        same && self.fraction.total_cmp(&fraction).is_eq()
    }
}

struct Job {
    finish: f64,
    sequence: u64,
    /// Cores it asks for on average: cpus times fraction.
    demand: f64,
    /// What it has lost since it began, in ns, and has to make up for.
    lost: Rc<Cell<f64>>,
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
    cores: f64,
    classes: Vec<Class>,
    at: Time,
    sequence: u64,
    /// The share that work has now of the processors that it asks for.
    share: f64,
    /// Processors that it has now, and those that it asks for.
    used: f64,
    asked: f64,
    /// Core ns that it had in [from, until), and the most processors at one instant in it.
    core_ns: f64,
    peak: f64,
    from: Time,
    until: Time,
}

impl State {
    /// Shares the processors anew, after work came or went.
    fn share_anew(&mut self) {
        let work = self.classes.iter().filter(|c| c.demand > 0.0).map(|c| (c.demand * c.speed(), c.fraction));
        self.asked = work.clone().map(|(demand, _)| demand).sum();
        self.share = share_of(self.cores, work.clone());
        let share = self.share;
        self.used = work.map(|(demand, fraction)| demand * rate(fraction, share)).sum();
        if self.at >= self.from && self.at < self.until {
            self.peak = self.peak.max(self.used);
        }
    }

    /// Core ns of the window, up to `now`.
    fn core_ns(&self, now: Time) -> f64 {
        let span = now.min(self.until).since(self.at.max(self.from)).0;
        self.core_ns + self.used * span as f64
    }

    fn advance(&mut self, now: Time) {
        self.core_ns = self.core_ns(now);
        if self.at < self.from && now >= self.from {
            // What it has when the window opens counts in it.
            self.peak = self.used;
        }
        let elapsed = now.since(self.at).0 as f64;
        self.at = now;
        let share = self.share;
        for class in &mut self.classes {
            class.progress += elapsed * class.speed() * rate(class.fraction, share);
        }
    }

    /// The next finish, to the nanosecond above it.
    fn next(&self) -> Option<Time> {
        let share = self.share;
        self.classes
            .iter()
            .filter_map(|c| {
                let left = c.work.peek()?.0.finish - c.progress;
                Some((left / (c.speed() * rate(c.fraction, share))).max(0.0))
            })
            .min_by(f64::total_cmp)
            .map(|wait| self.at + Duration(wait.ceil() as u64))
    }

    fn finished(&mut self) -> Vec<Job> {
        let mut finished = Vec::new();
        for class in &mut self.classes {
            // Half a nanosecond of progress is less than what rounding to whole nanoseconds has cost.
            while class.work.peek().is_some_and(|Reverse(job)| job.finish <= class.progress + 0.5) {
                let Some(Reverse(mut job)) = class.work.pop() else { continue };
                let lost = job.lost.take();
                if lost > 0.0 {
                    job.finish += lost;
                    class.work.push(Reverse(job));
                    continue;
                }
                class.demand -= job.demand;
                finished.push(job);
            }
            class.settle();
        }
        if !finished.is_empty() {
            self.share_anew();
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
        let state = State {
            cores: cores.as_f64(),
            classes: Vec::new(),
            at: rt::now(),
            sequence: 0,
            share: 1.0,
            used: 0.0,
            asked: 0.0,
            core_ns: 0.0,
            peak: 0.0,
            from: Time::ZERO,
            until: Time::MAX,
        };
        let sharing = Sharing { state: Rc::new(RefCell::new(state)), changed: sync::Notify::new() };
        let driven = sharing.clone();
        drop(rt::spawn_named("processor-sharing", async move { driven.drive().await }));
        sharing
    }

    /// Integrates what work has over [from, until).
    pub(super) fn measure_in(&self, from: Time, until: Time) {
        let mut state = self.state.borrow_mut();
        (state.from, state.until) = (from, until);
    }

    /// How the processors are shared now, and what work had of them in the window so far.
    pub(super) fn shared(&self) -> Shared {
        let state = self.state.borrow();
        Shared {
            wanted: (state.asked - state.cores).max(0.0),
            core_seconds: state.core_ns(rt::now()) / 1e9,
            peak: state.peak,
        }
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
        self.start_among(span, fraction, cpus, None)
    }

    /// The same of a kind of work that also stands in its own way.
    pub(super) fn start_among(
        &self,
        span: Duration,
        fraction: f64,
        cpus: Cpus,
        speeds: Option<&Rc<Speeds>>,
    ) -> Running {
        let (done, finished) = sync::oneshot();
        let mut state = self.state.borrow_mut();
        state.advance(rt::now());
        let fraction = fraction.clamp(0.0, 1.0);
        let demand = cpus.as_f64() * fraction;
        state.sequence += 1;
        let sequence = state.sequence;
        let known = state.classes.iter().position(|c| c.is_of(fraction, speeds));
        let class = known.unwrap_or_else(|| {
            let (speeds, work) = (speeds.cloned(), BinaryHeap::new());
            state.classes.push(Class { fraction, speeds, progress: 0.0, demand: 0.0, work });
            state.classes.len() - 1
        });
        let class = &mut state.classes[class];
        class.demand += demand;
        let lost = Rc::new(Cell::new(0.0));
        let finish = class.progress + span.0 as f64;
        class.work.push(Reverse(Job { finish, sequence, demand, lost: Rc::clone(&lost), done }));
        state.share_anew();
        drop(state);
        self.changed.notify_one();
        Running { sharing: self.clone(), sequence, lost, finished }
    }

    fn has(&self, sequence: u64) -> bool {
        let state = self.state.borrow();
        state.classes.iter().any(|c| c.work.iter().any(|Reverse(job)| job.sequence == sequence))
    }

    /// Takes out work that was given up, so that it uses no cores any more.
    fn give_up(&self, sequence: u64) {
        let mut state = self.state.borrow_mut();
        state.advance(rt::now());
        for class in &mut state.classes {
            let mut freed = 0.0;
            class.work.retain(|Reverse(job)| {
                if job.sequence == sequence {
                    freed += job.demand;
                }
                job.sequence != sequence
            });
            class.demand -= freed;
            class.settle();
        }
        state.share_anew();
        drop(state);
        self.changed.notify_one();
    }
}

/// Work under way. Dropped before its end, it is given up.
pub(super) struct Running {
    sharing: Sharing,
    sequence: u64,
    lost: Rc<Cell<f64>>,
    finished: sync::OneReceiver<()>,
}

impl Running {
    /// What it has lost: whoever adds to this, in ns, makes it end as much later.
    pub(super) fn lost(&self) -> Rc<Cell<f64>> {
        Rc::clone(&self.lost)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::{Options, Sim};
    use rand::RngExt;

    /// How many ms it takes until so many things of 20 ms each are done that are 80 % processor time, beside so many
    /// executions, on a host of two processors that are had to 1.95 when more is asked for.
    fn until_done(n: usize, executions: usize) -> f64 {
        let run = async move {
            let sharing = Sharing::new(Cpus(1950));
            let speeds = Rc::new(Speeds::new(&[(1, 20.0), (2, 28.0), (4, 80.0)]));
            let one = Cpus::from_cores(1);
            let beside: Vec<_> =
                (0..executions).map(|_| sharing.start(Duration::from_secs(1), 1.0, one)).collect();
            let span = Duration::from_millis(20);
            let all: Vec<_> = (0..n).map(|_| sharing.start_among(span, 0.8, one, Some(&speeds))).collect();
            for each in all {
                each.done().await;
            }
            let took = rt::now().as_secs_f64() * 1e3;
            drop(beside);
            took
        };
        Sim::new(Options::default()).block_on(run).unwrap()
    }

    #[test]
    fn what_was_measured_of_several_at_once_comes_out_again_and_executions_slow_it_down() {
        let near = |x: f64, y: f64| assert!((x - y).abs() < 0.01, "{x} instead of {y}");
        near(until_done(1, 0), 20.0);
        near(until_done(2, 0), 28.0);
        near(until_done(3, 0), 54.0);
        near(until_done(4, 0), 80.0);
        // As much is done of eight at once as of four.
        near(until_done(8, 0), 160.0);
        // With a processor to spare nothing is slower; with none the processors are shared.
        near(until_done(1, 1), 20.0);
        let share = share_of(1.95, [(2.0, 1.0), (0.8, 0.8)].into_iter());
        near(2.0 * share + 0.8 / (0.2 + 0.8 / share), 1.95);
        near(until_done(1, 2), 20.0 * (0.2 + 0.8 / share));
    }

    #[test]
    fn what_is_lost_is_made_up_for_and_nothing_else_waits_for_it() {
        let run = async move {
            let sharing = Sharing::new(Cpus::from_cores(2));
            let start = || sharing.start(Duration::from_millis(20), 1.0, Cpus::from_cores(1));
            let (loses, other) = (start(), start());
            let lost = loses.lost();
            rt::sleep(Duration::from_millis(5)).await;
            lost.set(lost.get() + 3e6);
            rt::sleep(Duration::from_millis(5)).await;
            lost.set(lost.get() + 4e6);
            other.done().await;
            let at = rt::now();
            loses.done().await;
            (at, rt::now())
        };
        let ends = Sim::new(Options::default()).block_on(run).unwrap();
        assert_eq!(ends, (Time::ZERO + Duration::from_millis(20), Time::ZERO + Duration::from_millis(27)));
    }

    #[test]
    fn the_share_is_the_largest_at_which_no_more_is_used_than_there_is() {
        let mut draw =
            crate::rt::chance::Seed::new(5).named("share").draw(crate::rt::chance::Purpose::Generate, 0);
        for _ in 0..2000 {
            let n = draw.random_range(1..6);
            let work: Vec<(f64, f64)> = (0..n)
                .map(|_| (draw.random_range(0.0..40.0), [0.001, 0.1, 0.5, 0.9, 1.0][draw.random_range(0..5)]))
                .collect();
            let cores = draw.random_range(0.1..20.0);
            let used = |s: f64| work.iter().map(|(d, f)| d / ((1.0 - f) + f / s)).sum::<f64>();
            let share = share_of(cores, work.iter().copied());
            if used(1.0) <= cores + ROUNDING {
                assert_eq!(share, 1.0);
            } else {
                assert!((used(share) / cores - 1.0).abs() < 1e-9, "{share}: {} of {cores}", used(share));
            }
        }
    }
}
