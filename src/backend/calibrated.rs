//! A host as it was measured: how long there takes what is asked of a backend, and how many processors it keeps busy.
//!
//! What else goes on was part of some measurements and is part of others: a creation beside three others took longer because
//! they share processors, and because the kernel lets one at a time into some of its parts. The simulator shares processors
//! by itself. So a span is drawn as it was measured in a state like the present one, and with it comes the share of a
//! processor that makes the simulated sharing of that very state add nothing: what was measured comes out again, and what
//! has changed since then counts.

use super::Measured;
use super::sharing::rate;
use crate::base::{Behaviour, Cpus, Dist, Duration};
use crate::rt::chance::Draw;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Something that takes `span` when nothing disturbs it, and keeps so many processors busy meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Effort {
    pub(super) span: Duration,
    pub(super) busy: f64,
}

/// Counts what is under way for as long as it is.
pub(super) struct UnderWay {
    count: Rc<Cell<u64>>,
    by: u64,
}

impl UnderWay {
    fn new(count: &Rc<Cell<u64>>, by: u64) -> UnderWay {
        count.set(count.get() + by);
        UnderWay { count: Rc::clone(count), by }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.count.set(self.count.get() - self.by);
    }
}

/// See the module.
pub(super) struct Calibrated {
    measured: Measured,
    /// What functions that name no behaviour do.
    default: Behaviour,
    /// Processors of the host.
    processors: f64,
    creating: Rc<Cell<u64>>,
    removing: Rc<Cell<u64>>,
    /// Calls that are nothing but the wire.
    echoes: Rc<Cell<u64>>,
    /// What executions ask of processors, in 1/1000 core.
    running: Rc<Cell<u64>>,
    /// Images of which a container was started.
    started: RefCell<FxHashSet<Option<String>>>,
    /// How many of each image are created ahead, and how many of those are there.
    pooled: u32,
    ready: RefCell<FxHashMap<Option<String>, u32>>,
}

/// How busy the processors are with executions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// They sleep, and take a while to wake.
    Idle,
    /// They are awake, and there is one to spare.
    Awake,
    /// All have something to do.
    Busy,
}

impl Calibrated {
    /// A host of so many processors, on which so many containers of each image are created ahead.
    pub(super) fn new(measured: Measured, default: Behaviour, processors: usize, pooled: u32) -> Calibrated {
        Calibrated {
            measured,
            default,
            processors: processors as f64,
            creating: Rc::default(),
            removing: Rc::default(),
            echoes: Rc::default(),
            running: Rc::default(),
            started: RefCell::default(),
            pooled,
            ready: RefCell::default(),
        }
    }

    /// Processors that executions get together, if what there is of them was measured.
    pub(super) fn cores(&self) -> Option<Cpus> {
        self.measured.processor.as_ref().map(|p| cores_of(p.cores))
    }

    /// What a function does.
    pub(super) fn does(&self, behaviour: Option<Behaviour>) -> Behaviour {
        behaviour.unwrap_or(self.default)
    }

    fn load(&self) -> Load {
        match self.running.get() as f64 / 1000.0 {
            asked if asked < 0.5 => Load::Idle,
            asked if asked < self.processors => Load::Awake,
            _ => Load::Busy,
        }
    }

    /// One more creation, of a container of this image.
    pub(super) fn creation(&self, image: Option<&String>, luck: &mut Draw) -> Option<(Effort, UnderWay)> {
        let m = &self.measured;
        let under_way = UnderWay::new(&self.creating, 1);
        let at_once = self.creating.get();
        let alone = m.cold_start(1)?;
        let among = m.cold_start(at_once.try_into().unwrap_or(u32::MAX))?;
        let first = !self.started.borrow().contains(&image.cloned());
        let idle = if first && at_once == 1 { m.first_start.as_ref().unwrap_or(among) } else { among };
        self.started.borrow_mut().insert(image.cloned());
        let busy = m.processor.as_ref().map_or(0.0, |p| p.creating);
        let states = States { idle, awake: m.cold_start_awake.as_ref(), busy: m.cold_start_busy.as_ref() };
        Some((self.effort(&states, (alone, among), busy, luck), under_way))
    }

    /// A creation that only starts what was created ahead, if that was measured and there is one. Who takes it makes up for it:
    /// [`made_up`](Calibrated::made_up), after [`making_up`](Calibrated::making_up).
    pub(super) fn ahead(&self, image: Option<&String>, luck: &mut Draw) -> Option<Effort> {
        let start = self.measured.pooled_start.as_ref().filter(|_| self.pooled > 0)?;
        let mut ready = self.ready.borrow_mut();
        let ready = ready.entry(image.cloned()).or_insert(self.pooled);
        *ready = ready.checked_sub(1)?;
        let busy = self.measured.processor.as_ref().map_or(0.0, |p| p.creating);
        Some(Effort { span: start.sample(luck), busy })
    }

    /// What it takes to create another one ahead.
    pub(super) fn making_up(&self, luck: &mut Draw) -> Effort {
        let span = self.measured.pool_refill.as_ref().map_or(Duration::ZERO, |dist| dist.sample(luck));
        Effort { span, busy: self.measured.processor.as_ref().map_or(0.0, |p| p.creating) }
    }

    /// Another one is there.
    pub(super) fn made_up(&self, image: Option<String>) {
        *self.ready.borrow_mut().entry(image).or_default() += 1;
    }

    /// One more removal.
    pub(super) fn removal(&self, luck: &mut Draw) -> (Effort, UnderWay) {
        let m = &self.measured;
        let under_way = UnderWay::new(&self.removing, 1);
        let among = m.removal_among(self.removing.get().try_into().unwrap_or(u32::MAX));
        let busy = m.processor.as_ref().map_or(0.0, |p| p.removing);
        let states = States { idle: among, awake: m.removal_awake.as_ref(), busy: m.removal_busy.as_ref() };
        (self.effort(&states, (&m.removal, among), busy, luck), under_way)
    }

    /// How long something takes that was measured `alone` and `among` as many as are under way now, and in three states of
    /// the processors; alone it keeps `busy` processors busy.
    fn effort(
        &self,
        states: &States<'_>,
        (alone, among): (&Dist, &Dist),
        busy: f64,
        luck: &mut Draw,
    ) -> Effort {
        // The processor time of one is the same among others: over a longer span it is a smaller share.
        let longer = (mean(among) / mean(alone)).max(1.0);
        let busy = busy / longer;
        let scaled = |span: Duration, by: f64| Duration::from_nanos_f64(span.0 as f64 * by);
        let drawn = match (self.load(), states.awake, states.busy) {
            (Load::Busy, _, Some(dist)) => {
                // It was slowed down by as many executions as there are processors, and is again: what is left is its own.
                let cores = self.measured.processor.as_ref().map_or(self.processors, |p| p.cores);
                let undisturbed = rate(busy.min(1.0), cores / (self.processors + busy));
                scaled(dist.sample(luck), undisturbed * longer)
            }
            (Load::Awake | Load::Busy, Some(dist), _) => scaled(dist.sample(luck), longer),
            _ => states.idle.sample(luck),
        };
        Effort { span: drawn, busy }
    }

    /// A call of what does this: how long it takes, `cpu` being the share of the intended duration that is processor time.
    pub(super) fn call(
        &self,
        does: Behaviour,
        intended: Duration,
        first: bool,
        (cpus, cpu): (Cpus, f64),
        luck: &mut Draw,
    ) -> (Duration, f64, UnderWay) {
        let m = &self.measured;
        let (mut span, mut fraction) = (intended, cpu);
        let under_way = if does == Behaviour::Echo {
            UnderWay::new(&self.echoes, 1)
        } else {
            UnderWay::new(&self.running, (f64::from(cpus.0) * cpu) as u64)
        };
        let at_once = self.echoes.get().try_into().unwrap_or(u32::MAX);
        let among = m.concurrent(at_once).filter(|_| does == Behaviour::Echo && at_once > 1);
        if let Some(among) = among {
            span += among.sample(luck);
            // As with creations: that they share processors is in what was measured.
            let alone = m.concurrent(1).map_or(1.0, mean);
            fraction = cpu * (alone / mean(among)).min(1.0);
        } else if let Some(overhead) = m.overhead(does) {
            span += overhead.sample(luck);
        }
        if first {
            span += m.first_call.sample(luck);
        }
        (span, fraction, under_way)
    }
}

/// What was measured in each state of the processors.
struct States<'a> {
    idle: &'a Dist,
    awake: Option<&'a Dist>,
    busy: Option<&'a Dist>,
}

fn mean(dist: &Dist) -> f64 {
    dist.mean().max(1.0)
}

/// A share of processors as it was measured.
pub(super) fn cores_of(cores: f64) -> Cpus {
    Cpus(((cores * 1000.0).round() as u32).max(1))
}
