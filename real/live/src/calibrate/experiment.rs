//! What is done with a backend to measure it: the same on a host's and on the simulated one that was given what was measured.
//!
//! Containers are created one, two and four at a time, and beside busy processors; each is called once for its first call
//! and then, with pauses as a real load has them, for sleeps and spins whose intended duration is known. What a call takes
//! beyond it is overhead: the wire, the host's scheduling, the timer's lateness. How many processors are busy while
//! containers are created and removed, and how many executions get when there are more of them than processors, lets the
//! simulator share them as the host does.

use super::quiet::Watch;
use crate::backend::Live;
use elapse::backend::{Backend, Create, Measured, Sandbox};
use elapse::base::{
    Behaviour, Cpus, Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time,
};
use elapse::rt;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is called, in the order of its function's number.
pub(super) const BEHAVIOURS: [Behaviour; 3] = [Behaviour::Sleep, Behaviour::Spin, Behaviour::Echo];
/// Creations at once.
const AT_ONCE: [u32; 3] = [1, 2, 4];
/// Warm calls at once.
pub(super) const AT_ONCE_WARM: [u32; 3] = [1, 4, 16];
const MEMORY: Mem = Mem(64 << 20);
/// The intended duration of a call, and the pause before it.
const CALL: Duration = Duration::from_millis(5);
/// See [`CALL`].
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// Before creations, and before removals. Right after something else they find caches warm and processors awake, and take a
/// quarter to a half of what they take in a real load.
pub(super) const REST: Duration = Duration::from_millis(200);
/// Points of a distribution that are kept.
const POINTS: usize = 101;

/// A backend that is measured.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) backend: Rc<dyn Backend>,
    /// The same, where it tells the parts of a creation.
    live: Option<Rc<Live>>,
    /// Processors.
    pub(super) cores: u32,
    /// Looks at what others have of the processors; a simulated backend has nobody beside it, and counts no processor time.
    pub(super) watch: Option<Rc<Watch>>,
    /// Creations and calls so far: each has luck of its own.
    counted: Rc<Cell<u64>>,
}

/// Lets a backend know what is called.
///
/// # Errors
/// Why it cannot run it.
pub(super) fn admit(backend: &dyn Backend) -> Result<()> {
    for (id, behaviour) in (0u32..).zip(BEHAVIOURS) {
        let mut spec = FunctionSpec::new(behaviour.word(), MEMORY);
        spec.program.behaviour = Some(behaviour);
        backend
            .admit(FunctionId(id), &spec)
            .map_err(|why| Fault::host(format!("backend {} cannot run our agent: {why}", backend.name())))?;
    }
    Ok(())
}

/// Measures it, with so many rounds of each kind.
///
/// # Errors
/// What of it failed.
pub(super) async fn measure(bench: &Bench, rounds: u32) -> Result<Measured> {
    let backend = &bench.backend;
    admit(&**backend)?;
    let mut steps: [Vec<Duration>; 2] = Default::default();
    let (mut by_number, mut overhead) = (BTreeMap::new(), BTreeMap::new());
    let (mut first_calls, mut removals_by_number) = (Vec::new(), BTreeMap::new());
    for at_once in AT_ONCE {
        let (mut cold_starts, mut removals) = (Vec::new(), Vec::new());
        for _ in 0..rounds.div_ceil(at_once) {
            bench.rest().await;
            let creations: Vec<_> = (0..at_once)
                .map(|_| {
                    let bench = bench.clone();
                    rt::spawn(async move {
                        let begun = rt::now();
                        let created = bench.create().await;
                        (created, rt::now().since(begun))
                    })
                })
                .collect();
            let mut sandboxes = Vec::new();
            for creation in creations {
                let (created, took) = creation.await.map_err(|e| Fault::bug(e.to_string()))?;
                sandboxes.push(created?);
                cold_starts.push(took);
            }
            if let Some(live) = bench.live.as_ref().filter(|_| at_once == 1) {
                steps.iter_mut().zip(live.last_steps()).for_each(|(all, step)| all.push(step));
            }
            for sandbox in &sandboxes {
                let first = bench.call(*sandbox, Behaviour::Echo, Duration::ZERO).await?;
                let second = bench.call(*sandbox, Behaviour::Echo, Duration::ZERO).await?;
                first_calls.push(Duration(first.0.saturating_sub(second.0)));
            }
            bench.rest().await;
            let removed: Vec<_> = sandboxes
                .into_iter()
                .map(|sandbox| {
                    let backend = Rc::clone(backend);
                    rt::spawn(async move {
                        let begun = rt::now();
                        backend.remove(sandbox).await;
                        rt::now().since(begun)
                    })
                })
                .collect();
            for took in removed {
                removals.push(took.await.map_err(|e| Fault::bug(e.to_string()))?);
            }
        }
        by_number.insert(at_once.to_string(), quantiles(cold_starts)?);
        removals_by_number.insert(at_once.to_string(), quantiles(removals)?);
    }
    let alone = AT_ONCE[0].to_string();
    let removal = removals_by_number.get(&alone).cloned().unwrap_or_else(|| Dist::constant(Duration::ZERO));
    let sandbox = bench.create().await?;
    for behaviour in BEHAVIOURS {
        let mut beyond = Vec::new();
        for _ in 0..rounds * 4 {
            rt::sleep(PAUSE).await;
            let intended = if behaviour == Behaviour::Echo { Duration::ZERO } else { CALL };
            let took = bench.call(sandbox, behaviour, intended).await?;
            beyond.push(Duration(took.0.saturating_sub(intended.0)));
        }
        overhead.insert(behaviour, quantiles(beyond)?);
    }
    let mut reads = Vec::new();
    for _ in 0..rounds * 4 {
        let begun = rt::now();
        if backend.memory(sandbox).is_some() {
            reads.push(rt::now().since(begun));
        }
    }
    backend.remove(sandbox).await;
    let [started, answered] = steps;
    Ok(Measured {
        cold_start: by_number,
        first_call: quantiles(first_calls)?,
        overhead,
        removal,
        removal_at_once: removals_by_number,
        pooled_start: None,
        pool_refill: None,
        steps: if started.is_empty() {
            BTreeMap::new()
        } else {
            BTreeMap::from([("sandbox".into(), quantiles(started)?), ("answer".into(), quantiles(answered)?)])
        },
        prepare: None,
        first_start: None,
        cold_start_awake: None,
        removal_awake: None,
        cold_start_busy: None,
        removal_busy: None,
        memory_read: (!reads.is_empty()).then(|| quantiles(reads)).transpose()?,
        concurrent: BTreeMap::new(),
        stretch: BTreeMap::new(),
        crowding: None,
        processor: None,
    })
}

impl Bench {
    /// A host's, with whoever looks at what others have of that.
    pub(super) fn of_host(live: Rc<Live>, cores: u32, watch: Rc<Watch>) -> Bench {
        let backend = Rc::clone(&live) as Rc<dyn Backend>;
        Bench { live: Some(live), watch: Some(watch), ..Bench::new(backend, cores) }
    }

    /// A backend on a host of so many processors.
    pub(super) fn new(backend: Rc<dyn Backend>, cores: u32) -> Bench {
        Bench { backend, live: None, cores, watch: None, counted: Rc::default() }
    }

    fn next(&self) -> u64 {
        self.counted.replace(self.counted.get() + 1)
    }

    pub(super) async fn create(&self) -> Result<Sandbox> {
        create(&*self.backend, self.next()).await
    }

    pub(super) async fn call(
        &self,
        sandbox: Sandbox,
        does: Behaviour,
        intended: Duration,
    ) -> Result<Duration> {
        let function = BEHAVIOURS.iter().position(|b| *b == does).unwrap_or_default() as u32;
        let begun = rt::now();
        let order = Invocation {
            number: self.next(),
            function: FunctionId(function),
            arrival: Time::ZERO,
            intended,
            fails: false,
            usage: None,
        };
        let answer = self.backend.invoke(sandbox, &order).await;
        answer.map_err(|fault| Fault::host(format!("a call failed while it was measured: {fault:?}")))?;
        Ok(rt::now().since(begun))
    }

    /// Rests before something is measured; what runs meanwhile is others'.
    pub(super) async fn rest(&self) {
        match &self.watch {
            Some(watch) => watch.rest(REST).await,
            None => rt::sleep(REST).await,
        }
    }
}

/// Creates a container of the first of them.
///
/// # Errors
/// Why it came to nothing.
pub(super) async fn create(backend: &dyn Backend, nth: u64) -> Result<Sandbox> {
    let request = Create {
        function: FunctionId(0),
        memory: MEMORY,
        cpus: Cpus::from_cores(1),
        nth,
        gpu: None,
        at_once: false,
    };
    backend.create(&request).await.map_err(|fault| Fault::host(fault.why.to_string()))
}

/// Equally likely values that stand for all that were seen.
///
/// # Errors
/// If nothing was.
pub(super) fn quantiles(mut seen: Vec<Duration>) -> Result<Dist> {
    seen.sort_unstable();
    let n = seen.len();
    let points = n.min(POINTS);
    let kept = (0..points).map(|i| seen[(2 * i + 1) * n / (2 * points)]).collect();
    Dist::empirical(kept).ok_or_else(|| Fault::usage("nothing was measured; give it at least one round"))
}
