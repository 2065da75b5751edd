//! A host as it was measured: how long there takes what is asked of a backend, and how many processors it keeps busy.
//!
//! What else goes on was part of some measurements and is part of others: a creation beside three others took longer because
//! they share processors, and because the kernel lets one at a time into some of its parts. The simulator shares processors by
//! itself. So a span is drawn as it was measured in a state of the processors like the present one; how several of a kind slow
//! each other down is a speed that follows their number as it changes, and counts for the processors as much less: what was
//! measured comes out again ([`inverse`](super::inverse)), and what is different counts.

use super::inverse::{cpu_among, undisturbed};
use super::sharing::Speeds;
use super::{Crowding, Measured};
use crate::base::{Behaviour, Cpus, Dist, Duration};
use crate::rt::chance::RngStream;
use rand::RngExt;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Something that takes `span` when nothing disturbs it, and keeps so many processors busy meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Effort {
    pub(super) span: Duration,
    pub(super) busy: f64,
    /// How several of its kind slow each other down.
    pub(super) speeds: Option<Rc<Speeds>>,
}

/// Counts what is under way for as long as it is.
pub(super) struct UnderWay {
    count: Rc<Cell<u64>>,
    by: u64,
    /// Where what executes is listed, so that it can lose time to others.
    listed: Option<Rc<Executing>>,
    lost: Rc<Cell<f64>>,
}

/// What executes: what each has lost.
type Executing = RefCell<Vec<Rc<Cell<f64>>>>;

impl UnderWay {
    fn new(count: &Rc<Cell<u64>>, by: u64) -> UnderWay {
        count.set(count.get() + by);
        UnderWay { count: Rc::clone(count), by, listed: None, lost: Rc::default() }
    }

    /// It executes as this work, which may lose time to what begins beside it.
    pub(super) fn executes(&mut self, executing: &Rc<Executing>, lost: Rc<Cell<f64>>) {
        executing.borrow_mut().push(Rc::clone(&lost));
        (self.listed, self.lost) = (Some(Rc::clone(executing)), lost);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.count.set(self.count.get() - self.by);
        if let Some(listed) = &self.listed {
            listed.borrow_mut().retain(|lost| !Rc::ptr_eq(lost, &self.lost));
        }
    }
}

/// See the module.
pub(super) struct Calibrated {
    measured: Measured,
    /// What functions that name no behaviour do.
    default: Behaviour,
    /// Processors of the host.
    processors: f64,
    creating: Rc<Speeds>,
    removing: Rc<Speeds>,
    /// Calls that are nothing but the wire.
    echoes: Rc<Cell<u64>>,
    /// What executions ask of processors, in 1/1000 core.
    running: Rc<Cell<u64>>,
    /// What executes.
    executing: Rc<Executing>,
    /// Images of which a container was started.
    started: RefCell<FxHashSet<Option<String>>>,
    /// How many of each kind are created ahead, and how many of those are there.
    pooled: u32,
    ready: RefCell<FxHashMap<Rc<str>, u32>>,
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
    /// A host of so many processors, on which so many containers of each kind are created ahead.
    pub(super) fn new(measured: Measured, default: Behaviour, processors: usize, pooled: u32) -> Calibrated {
        Calibrated {
            creating: Rc::new(speeds_of(&measured.cold_start)),
            removing: Rc::new(speeds_of(&measured.removal_at_once)),
            measured,
            default,
            processors: processors as f64,
            echoes: Rc::default(),
            running: Rc::default(),
            executing: Rc::default(),
            started: RefCell::default(),
            pooled,
            ready: RefCell::default(),
        }
    }

    /// On the same processors as `other`.
    pub(super) fn beside(self, other: &Calibrated) -> Calibrated {
        let (running, executing) = (Rc::clone(&other.running), Rc::clone(&other.executing));
        Calibrated { running, executing, ..self }
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

    /// What executes: whoever does is to be listed there.
    pub(super) fn executing(&self) -> &Rc<Executing> {
        &self.executing
    }

    /// Lets one of those that execute lose time to what begins now, if a processor is to spare: with none, they are shared.
    fn crowds(&self, what: impl Fn(&Crowding) -> &Dist, rng: &mut RngStream) {
        let Some(crowding) = self.measured.crowding.as_ref().filter(|_| self.load() == Load::Awake) else {
            return;
        };
        let executing = self.executing.borrow();
        if !executing.is_empty() {
            let one = &executing[rng.random_range(0..executing.len())];
            one.set(one.get() + what(crowding).sample(rng).0 as f64);
        }
    }

    /// The creation of a container of this image.
    pub(super) fn creation(&self, image: Option<&String>, rng: &mut RngStream) -> Option<Effort> {
        let m = &self.measured;
        let usual = m.cold_start(1)?;
        let first = self.started.borrow_mut().insert(image.cloned());
        let idle = if first { m.first_start.as_ref().unwrap_or(usual) } else { usual };
        let states = [Some(idle), m.cold_start_awake.as_ref(), m.cold_start_busy.as_ref()];
        let (span, busy) = self.drawn(states, self.cpu_of_creation(), rng);
        self.crowds(|crowding| &crowding.creation, rng);
        Some(Effort { span, busy, speeds: Some(Rc::clone(&self.creating)) })
    }

    /// Processors that executions get together: as many as the host has where that was not measured.
    fn effective(&self) -> f64 {
        self.measured.processor.as_ref().map_or(self.processors, |p| p.cores)
    }

    /// Processor time of a creation, in ns.
    fn cpu_of_creation(&self) -> f64 {
        let Some(p) = &self.measured.processor else { return 0.0 };
        let alone = self.measured.cold_start(1).map_or(0.0, mean);
        let cpu = p.creation.map_or(p.creating * alone, |time| time.0 as f64);
        self.credible(cpu, &self.measured.cold_start)
    }

    /// Processor time of a removal, in ns.
    fn cpu_of_removal(&self) -> f64 {
        let Some(p) = &self.measured.processor else { return 0.0 };
        let cpu = p.removal.map_or(p.removing * mean(&self.measured.removal), |time| time.0 as f64);
        self.credible(cpu, &self.measured.removal_at_once)
    }

    /// Takes of what was counted as processor time of each as much as so many of them can have had while they took so long.
    fn credible(&self, cpu: f64, at_once: &BTreeMap<String, Dist>) -> f64 {
        let cores = self.effective();
        at_once.iter().fold(cpu, |cpu, (number, dist)| cpu_among(number_of(number), mean(dist), cpu, cores))
    }

    /// A creation that only starts what was created ahead, if that was measured and there is one of its kind. Who takes it makes
    /// up for it: [`made_up`](Calibrated::made_up), after [`making_up`](Calibrated::making_up).
    pub(super) fn ahead(&self, kind: &Rc<str>, rng: &mut RngStream) -> Option<Effort> {
        let start = self.measured.pooled_start.as_ref().filter(|_| self.pooled > 0)?;
        let mut ready = self.ready.borrow_mut();
        let ready = ready.entry(Rc::clone(kind)).or_insert(self.pooled);
        *ready = ready.checked_sub(1)?;
        // What starts it is a small part of what creates it.
        let busy = (self.cpu_of_creation() / mean(self.measured.cold_start(1)?)).min(1.0);
        Some(Effort { span: start.sample(rng), busy, speeds: None })
    }

    /// What it takes to create another one ahead.
    pub(super) fn making_up(&self, rng: &mut RngStream) -> Effort {
        let Some(refill) = &self.measured.pool_refill else {
            return Effort { span: Duration::ZERO, busy: 0.0, speeds: None };
        };
        let busy = undisturbed(mean(refill), self.cpu_of_creation(), 0.0, self.effective()).busy;
        Effort { span: refill.sample(rng), busy, speeds: Some(Rc::clone(&self.creating)) }
    }

    /// Another one is there.
    pub(super) fn made_up(&self, kind: Rc<str>) {
        *self.ready.borrow_mut().entry(kind).or_default() += 1;
    }

    /// A removal.
    pub(super) fn removal(&self, rng: &mut RngStream) -> Effort {
        let m = &self.measured;
        let states = [Some(&m.removal), m.removal_awake.as_ref(), m.removal_busy.as_ref()];
        let (span, busy) = self.drawn(states, self.cpu_of_removal(), rng);
        Effort { span, busy, speeds: Some(Rc::clone(&self.removing)) }
    }

    /// How long something takes, undisturbed, that was measured with processors idle, awake and busy, and of which `cpu` ns are
    /// processor time; and how many processors that keeps busy.
    fn drawn(&self, states: [Option<&Dist>; 3], cpu: f64, rng: &mut RngStream) -> (Duration, f64) {
        let [idle, awake, busy] = states;
        // What executed beside it while it was measured: nothing, one execution, or one on each processor.
        let (alone, one, all) =
            (idle.map(|d| (d, 0.0)), awake.map(|d| (d, 1.0)), busy.map(|d| (d, self.processors)));
        let found = match self.load() {
            Load::Idle => alone,
            Load::Awake => one.or(alone),
            Load::Busy => all.or(one).or(alone),
        };
        let Some((dist, beside)) = found else { return (Duration::ZERO, 0.0) };
        let usual = mean(dist);
        let own = undisturbed(usual, cpu, beside, self.effective());
        let span = dist.sample(rng).0 as f64 * own.span / usual;
        (Duration::from_nanos_f64(span), own.busy)
    }

    /// A function's own code in a container that was just created: what begins meanwhile begins beside it. It loses nothing
    /// itself to what begins: a new program starts where the kernel finds most room, and runs for long. (With a third of the
    /// functions warm and two processors used to 90 %, the median latency is 6 % above that of live runs so, and 15 % where code
    /// loses like an execution.)
    pub(super) fn code(&self, cpus: Cpus, cpu: f64) -> UnderWay {
        UnderWay::new(&self.running, (f64::from(cpus.0) * cpu) as u64)
    }

    /// A call of what does this: how long it takes, `cpu` being the share of the intended duration that is processor time.
    pub(super) fn call(
        &self,
        does: Behaviour,
        intended: Duration,
        first: bool,
        (cpus, cpu): (Cpus, f64),
        rng: &mut RngStream,
    ) -> (Duration, f64, UnderWay) {
        let m = &self.measured;
        let (mut span, mut fraction) = (intended, cpu);
        if does != Behaviour::Echo && cpu > 0.0 && self.load() == Load::Awake {
            if let Some(crowding) = &m.crowding {
                span += crowding.beginning.sample(rng);
            }
            if !first {
                self.crowds(|crowding| &crowding.execution, rng);
            }
        }
        let under_way = if does == Behaviour::Echo {
            UnderWay::new(&self.echoes, 1)
        } else {
            UnderWay::new(&self.running, (f64::from(cpus.0) * cpu) as u64)
        };
        if does == Behaviour::Echo {
            // It sleeps as long as it is meant to; the wire is processor time. That several share it is in what was measured.
            let at_once = self.echoes.get().try_into().unwrap_or(u32::MAX);
            let among = m.concurrent(at_once).filter(|_| at_once > 1).or_else(|| m.overhead(does));
            span += among.map_or(Duration::ZERO, |dist| dist.sample(rng));
            // In steps: what shares processors is kept by its fraction, and those should be few. Together they have no more
            // than there are, as what was measured of several is what they took with that.
            const STEPS: f64 = 32.0;
            let wire = m.overhead(does).map_or(0.0, mean) / span.0.max(1) as f64;
            let most = (self.effective() / f64::from(at_once.max(1))).min(1.0);
            fraction =
                if wire < most { (wire * STEPS).ceil().min(most * STEPS) } else { most * STEPS } / STEPS;
        } else if let Some(overhead) = m.overhead(does) {
            span += overhead.sample(rng);
        }
        if first {
            span += m.first_call.sample(rng);
        }
        (span, fraction, under_way)
    }
}

/// How creations or removals slow each other down, from what was measured of so many at once.
fn speeds_of(by_number: &BTreeMap<String, Dist>) -> Speeds {
    let mut spans: Vec<(u32, f64)> =
        by_number.iter().map(|(key, dist)| (number_of(key), mean(dist))).collect();
    spans.sort_by_key(|(number, _)| *number);
    // Whatever was measured of several is seen beside one alone.
    if spans.first().is_some_and(|(number, _)| *number != 1) {
        spans.clear();
    }
    Speeds::new(&spans)
}

/// How many at once a key of a table says.
fn number_of(key: &str) -> u32 {
    key.parse().unwrap_or(1)
}

fn mean(dist: &Dist) -> f64 {
    dist.mean().max(1.0)
}

/// A share of processors as it was measured.
pub(super) fn cores_of(cores: f64) -> Cpus {
    Cpus(((cores * 1000.0).round() as u32).max(1))
}

#[cfg(test)]
mod tests {
    use super::super::inverse::Undisturbed;
    use super::super::inverse::tests::disturbed;
    use super::*;
    use crate::rt::chance::{Purpose, Seed};

    fn host(pooled: u32) -> Calibrated {
        Calibrated::new(toml::from_str(FILE).unwrap(), Behaviour::Sleep, 2, pooled)
    }

    const FILE: &str = "first_call = \"0s\"\nremoval = \"10ms\"\ncold_start_awake = \"25ms\"\ncold_start_busy = \"50ms\"\n\
                    pooled_start = \"3ms\"\npool_refill = \"30ms\"\n[cold_start]\n1 = \"20ms\"\n[overhead]\nsleep = \"0s\"\n\
                    echo = \"20us\"\n[concurrent]\n1 = \"20us\"\n16 = \"320us\"\n[processor]\ncores = 1.9\ncreating = 0.8\n\
                    removing = 1.2\n";

    /// Executions got 0.45 of two processors, as others kept these busy, and others' processor time was taken for that of creations:
    /// 14 ms came out as seconds.
    #[test]
    fn on_a_host_that_was_busy_nothing_has_more_processor_time_than_there_was() {
        let file = FILE
            .replace("cores = 1.9", "cores = 0.45\ncreation = \"1900ms\"\nremoval = \"700ms\"")
            .replace("\"20ms\"", "\"14ms\"");
        let host = Calibrated::new(toml::from_str(&file).unwrap(), Behaviour::Sleep, 2, 0);
        let creation = host.creation(None, &mut rng()).unwrap();
        assert_eq!((creation.span, creation.busy), (Duration::from_millis(14), 0.45));
        let removal = host.removal(&mut rng());
        assert_eq!((removal.span, removal.busy), (Duration::from_millis(10), 0.45));
        let again = |effort: &Effort, beside| {
            disturbed(Undisturbed { span: effort.span.0 as f64 / 1e6, busy: effort.busy }, beside, 0.45)
        };
        assert!((again(&creation, 0.0) - 14.0).abs() < 1e-6);
        let spin = || {
            host.call(Behaviour::Spin, Duration::from_secs(1), false, (Cpus::from_cores(1), 1.0), &mut rng())
                .2
        };
        let _first = spin();
        assert!((again(&host.creation(None, &mut rng()).unwrap(), 1.0) - 25.0).abs() < 1e-3);
        let _second = spin();
        assert!((again(&host.creation(None, &mut rng()).unwrap(), 2.0) - 50.0).abs() < 1e-3);
    }

    fn rng() -> RngStream {
        Seed::new(1).named("test").draw(Purpose::ColdStart, 0)
    }

    #[test]
    fn spans_are_those_of_a_like_state_and_processor_time_is_the_same_in_all() {
        let host = host(0);
        let one = Cpus::from_cores(1);
        let spin = || host.call(Behaviour::Spin, Duration::from_secs(1), false, (one, 1.0), &mut rng()).2;
        let creation = || host.creation(None, &mut rng()).unwrap();
        let ms = |effort: &Effort| effort.span.0 as f64 / 1e6;
        let idle = creation();
        assert_eq!((ms(&idle), idle.busy), (20.0, 0.8));
        let first = spin();
        let awake = creation();
        assert_eq!((ms(&awake), awake.busy), (25.0, 0.64));
        let second = spin();
        let busy = creation();
        // Beside two executions it is slowed down to what was measured there.
        let own = Undisturbed { span: ms(&busy), busy: busy.busy };
        let slowed = disturbed(own, 2.0, 1.9);
        assert!((slowed - 50.0).abs() < 1e-3 && ms(&busy) < 50.0, "{slowed} of {}", ms(&busy));
        assert!((ms(&busy) * busy.busy - 16.0).abs() < 1e-3);
        drop((first, second));
        assert_eq!(ms(&creation()), 20.0);
        // A removal keeps more than one processor busy.
        assert_eq!(host.removal(&mut rng()).busy, 1.2);
    }

    #[test]
    fn what_was_created_ahead_is_taken_first_and_made_up_for_by_kind() {
        let host = host(1);
        let (kind, other): (Rc<str>, Rc<str>) = ("one".into(), "other".into());
        assert_eq!(host.ahead(&kind, &mut rng()).unwrap().span, Duration::from_millis(3));
        assert!(host.ahead(&kind, &mut rng()).is_none() && host.ahead(&other, &mut rng()).is_some());
        assert_eq!(host.making_up(&mut rng()).span, Duration::from_millis(30));
        host.made_up(kind.clone());
        assert!(host.ahead(&kind, &mut rng()).is_some());
        assert!(self::host(0).ahead(&kind, &mut rng()).is_none(), "none are created ahead");
    }

    #[test]
    fn what_executes_loses_to_what_begins_beside_it_while_a_processor_is_to_spare() {
        let file =
            format!("{FILE}[crowding]\nbeginning = \"1ms\"\nexecution = \"2ms\"\ncreation = \"4ms\"\n");
        let host = Calibrated::new(toml::from_str(&file).unwrap(), Behaviour::Sleep, 2, 0);
        let (one, usual) = (Cpus::from_cores(1), Duration::from_secs(1));
        let spin = |first| host.call(Behaviour::Spin, usual, first, (one, 1.0), &mut rng());
        let (span, _, mut alone) = spin(false);
        assert_eq!(span, usual);
        let lost = Rc::new(Cell::new(0.0));
        alone.executes(host.executing(), Rc::clone(&lost));
        host.creation(None, &mut rng()).unwrap();
        assert_eq!(lost.take(), 4e6);
        // In a container that was just created its begin is part of what the creation has cost.
        let (span, _, _beside) = spin(true);
        assert_eq!((span, lost.take()), (usual + Duration::from_millis(1), 0.0));
        drop(_beside);
        let (span, _, _beside) = spin(false);
        assert_eq!((span, lost.take()), (usual + Duration::from_millis(1), 2e6));
        // None is to spare: the processors are shared, and nothing is lost beside that.
        host.creation(None, &mut rng()).unwrap();
        assert_eq!((spin(false).0, lost.take()), (usual, 0.0));
        drop((alone, _beside));
        assert!(host.executing().borrow().is_empty());
        // A function's own code in a new container is something to begin beside, and loses nothing.
        let _code = host.code(one, 1.0);
        assert_eq!(spin(false).0, usual + Duration::from_millis(1));
        assert!(host.executing().borrow().is_empty());
    }

    #[test]
    fn an_echo_sleeps_as_long_as_it_is_meant_to_and_the_wire_is_shared_as_it_was_measured() {
        let host = host(0);
        let echo =
            |intended| host.call(Behaviour::Echo, intended, false, (Cpus::from_cores(1), 1.0), &mut rng());
        let (span, fraction, _alone) = echo(Duration::ZERO);
        assert_eq!((span, fraction), (Duration(20_000), 1.0));
        let (_, fraction, _long) = echo(Duration::from_secs(1));
        assert!(fraction < 0.05, "{fraction}");
        let others: Vec<_> = (0..14).map(|_| echo(Duration::ZERO)).collect();
        let (span, fraction, _last) = echo(Duration::ZERO);
        assert_eq!((span, fraction, others.len()), (Duration(320_000), 0.0625, 14));
    }
}
