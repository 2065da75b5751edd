//! Processor sharing: how fast runnable work goes on together, and which of it is done next.

use crate::plan::Ns;
use crate::timers::Event;

/// Something that runs: an execution or a creation.
#[derive(Clone, Debug)]
pub struct Work {
    /// What happens when it is done.
    pub done: Event,
    /// Its number among the timers, as if its end had been inserted when it began.
    pub number: u64,
    /// When it began.
    pub began: Ns,
    /// How long it takes with the processors to itself.
    pub length: Ns,
    /// Cores that it is given at most.
    pub cpus: f64,
    /// The part of its length that is processor time.
    pub fraction: f64,
    /// What is left of its length, ns.
    left: f64,
}

/// The processors of a worker and what runs on them.
#[derive(Clone, Debug)]
pub struct Processors {
    /// Cores; `None` if unlimited.
    cores: Option<f64>,
    works: Vec<Work>,
    /// Up to when the works have been carried on.
    now: Ns,
}

impl Processors {
    /// Idle ones; cores in thousandths.
    pub fn new(cores: Option<u64>) -> Processors {
        Processors { cores: cores.map(|c| c as f64 / 1000.0), works: Vec::new(), now: 0 }
    }

    /// Law (CPU): the largest share s <= 1 for which the sum over runnable work of cpus x f / ((1 - f) + f / s) is at most
    /// the cores. The sum grows with s, so the share is found by halving.
    fn share(&self) -> f64 {
        let Some(cores) = self.cores else { return 1.0 };
        let used = |s: f64| self.works.iter().map(|w| w.cpus * w.fraction * speed(w, s)).sum::<f64>();
        if used(1.0) <= cores {
            return 1.0;
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if used(middle) <= cores {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Carries all work on to this instant.
    pub fn carry_on_to(&mut self, now: Ns) {
        let share = self.share();
        let span = (now - self.now) as f64;
        for work in &mut self.works {
            work.left = (work.left - span * speed(work, share)).max(0.0);
        }
        self.now = now;
    }

    /// Begins a work now.
    pub fn begin(&mut self, now: Ns, number: u64, done: Event, length: Ns, cpus: u64, fraction: f64) {
        self.carry_on_to(now);
        let (cpus, left) = (cpus as f64 / 1000.0, length as f64);
        self.works.push(Work { done, number, began: now, length, cpus, fraction, left });
    }

    /// Ends a work now, done or not.
    pub fn end(&mut self, now: Ns, done: &Event) -> Option<Work> {
        self.carry_on_to(now);
        let place = self.works.iter().position(|w| w.done == *done)?;
        Some(self.works.remove(place))
    }

    /// The work that is done next, and when (to the nearest ns), if none begins or ends before.
    pub fn next_done(&self) -> Option<(Ns, &Work)> {
        let share = self.share();
        let end = |w: &Work| self.now + (w.left / speed(w, share)).round() as Ns;
        self.works.iter().map(|w| (end(w), w)).min_by_key(|(at, w)| (*at, w.number))
    }
}

/// How fast a work goes on at this share, 1 being alone: only its processor time is stretched.
fn speed(work: &Work, share: f64) -> f64 {
    1.0 / ((1.0 - work.fraction) + work.fraction / share)
}
