//! What is done with a backend to measure it: the same on a host's and on the simulated one that was given what was measured.
//!
//! Containers are created one, two and four at a time, and beside busy processors; each is called once for its first call
//! and then, with pauses as a real load has them, for sleeps and spins whose intended duration is known. What a call takes
//! beyond it is overhead: the wire, the host's scheduling, the timer's lateness. How many processors are busy while
//! containers are created and removed, and how many executions get when there are more of them than processors, lets the
//! simulator share them as the host does.

use super::quiet::Watch;
use crate::backend::{Backend, Create, Live, Measured, Processor, Sandbox};
use crate::base::{
    Behaviour, Cpus, Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time,
};
use crate::rt;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is called, in the order of its function's number.
pub(super) const BEHAVIOURS: [Behaviour; 3] = [Behaviour::Sleep, Behaviour::Spin, Behaviour::Echo];
/// Creations at once.
const AT_ONCE: [u32; 3] = [1, 2, 4];
/// Warm calls at once.
const AT_ONCE_WARM: [u32; 3] = [1, 4, 16];
const MEMORY: Mem = Mem(64 << 20);
/// The intended duration of a call, and the pause before it.
const CALL: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(10);
/// An execution that shows what sharing does: long beside the scheduler's slices.
const LONG: Duration = Duration::from_millis(100);
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
    cores: u32,
    /// Looks at what others have of the processors; a simulated backend has nobody beside it, and counts no processor time.
    watch: Option<Rc<Watch>>,
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
        processor: None,
    })
}

/// Measures what processors that are busy with something else, or shared, do to all of it.
///
/// # Errors
/// What of it failed.
pub(super) async fn beside_load(bench: &Bench, rounds: u32, measured: &mut Measured) -> Result<()> {
    let (backend, cores) = (&bench.backend, bench.cores);
    // One right after the other: how many processors that keeps busy.
    let n = rounds.clamp(4, 40);
    let mut sandboxes = Vec::new();
    bench.rest().await;
    let before = Busy::now(bench);
    for _ in 0..n {
        sandboxes.push(bench.create().await?);
    }
    let (creating, creation) = (before.processors(), before.used_by_each(n));
    let before = Busy::now(bench);
    for sandbox in sandboxes {
        backend.remove(sandbox).await;
    }
    let (removing, removal) = (before.processors(), before.used_by_each(n));

    // Executions at once that are bound by their processors.
    let most = 4 * cores;
    let mut sandboxes = Vec::new();
    for _ in 0..most.max(AT_ONCE_WARM[2]) {
        sandboxes.push(bench.create().await?);
    }
    let mut effective = f64::from(cores);
    for at_once in [1, cores, 2 * cores, most] {
        let (mut stretched, mut together) = (Vec::new(), Vec::new());
        for _ in 0..(rounds / at_once).max(3) {
            rt::sleep(PAUSE).await;
            let calls: Vec<_> = sandboxes[..at_once as usize]
                .iter()
                .map(|sandbox| {
                    let (bench, sandbox) = (bench.clone(), *sandbox);
                    rt::spawn(async move { bench.call(sandbox, Behaviour::Spin, LONG).await })
                })
                .collect();
            let before = stretched.len();
            for call in calls {
                let took = call.await.map_err(|e| Fault::bug(e.to_string()))??;
                stretched.push(took.as_secs_f64() / LONG.as_secs_f64());
            }
            together.push(got_together(&stretched[before..], cores));
        }
        if at_once == 2 * cores {
            effective = together.iter().sum::<f64>() / together.len() as f64;
        }
        measured.stretch.insert(at_once.to_string(), shares(stretched));
    }
    measured.processor = Some(Processor { cores: effective, creating, removing, creation, removal });

    // Warm calls at once.
    for at_once in AT_ONCE_WARM {
        let mut took = Vec::new();
        for _ in 0..(rounds * 4 / at_once).max(4) {
            rt::sleep(PAUSE).await;
            let calls: Vec<_> = sandboxes[..at_once as usize]
                .iter()
                .map(|sandbox| {
                    let (bench, sandbox) = (bench.clone(), *sandbox);
                    rt::spawn(async move { bench.call(sandbox, Behaviour::Echo, Duration::ZERO).await })
                })
                .collect();
            for call in calls {
                took.push(call.await.map_err(|e| Fault::bug(e.to_string()))??);
            }
        }
        measured.concurrent.insert(at_once.to_string(), quantiles(took)?);
    }

    for sandbox in &sandboxes[cores as usize..] {
        backend.remove(*sandbox).await;
    }
    // With a processor to spare nothing is slowed down, but processors and caches are awake.
    if cores > 1 {
        let (cold_start, removal) = creations_beside(bench, &sandboxes[..1], rounds).await?;
        (measured.cold_start_awake, measured.removal_awake) = (Some(cold_start), Some(removal));
    }
    let (cold_start, removal) = creations_beside(bench, &sandboxes[..cores as usize], rounds).await?;
    (measured.cold_start_busy, measured.removal_busy) = (Some(cold_start), Some(removal));
    for sandbox in &sandboxes[..cores as usize] {
        backend.remove(*sandbox).await;
    }
    Ok(())
}

/// Processors' worth of work that executions of length 1 got done together while there was one for each of this many
/// processors, by how long each took from their common begin. The kernel does not let all of them end at once: while fewer are
/// left than there are processors, each keeps only one of them busy.
fn got_together(took: &[f64], cores: u32) -> f64 {
    let mut ends = took.to_vec();
    ends.sort_unstable_by(f64::total_cmp);
    let (mut busy, mut from) = (0.0, 0.0);
    for (ended, end) in ends.iter().enumerate() {
        busy += (end - from) * ((ends.len() - ended) as f64).min(f64::from(cores));
        from = *end;
    }
    f64::from(cores) * (took.len() as f64 / busy).min(1.0)
}

/// Cold starts and removals while these containers execute, each bound by its processor.
async fn creations_beside(bench: &Bench, busy: &[Sandbox], rounds: u32) -> Result<(Dist, Dist)> {
    let stop = Rc::new(Cell::new(false));
    let load: Vec<_> = busy
        .iter()
        .map(|sandbox| {
            let (bench, sandbox, stop) = (bench.clone(), *sandbox, Rc::clone(&stop));
            rt::spawn(async move {
                while !stop.get() && bench.call(sandbox, Behaviour::Spin, LONG).await.is_ok() {}
            })
        })
        .collect();
    let (mut cold_starts, mut removals) = (Vec::new(), Vec::new());
    let measured = async {
        for _ in 0..(rounds / 2).max(3) {
            rt::sleep(REST).await;
            let begun = rt::now();
            let sandbox = bench.create().await?;
            cold_starts.push(rt::now().since(begun));
            rt::sleep(REST).await;
            let begun = rt::now();
            bench.backend.remove(sandbox).await;
            removals.push(rt::now().since(begun));
        }
        Ok(())
    };
    let outcome: Result<()> = measured.await;
    stop.set(true);
    futures::future::join_all(load).await;
    outcome?;
    Ok((quantiles(cold_starts)?, quantiles(removals)?))
}

/// The processors' use from an instant on, less what others had of them before.
struct Busy<'a> {
    bench: &'a Bench,
    from: Time,
    used: f64,
}

impl Busy<'_> {
    fn now(bench: &Bench) -> Busy<'_> {
        let used = if bench.watch.is_some() { elapse_real::load().host_cpu_seconds } else { 0.0 };
        Busy { bench, from: rt::now(), used }
    }

    /// Processor time that was used since.
    fn used(&self) -> f64 {
        let Some(watch) = &self.bench.watch else { return 0.0 };
        let others = watch.others().processors() * rt::now().since(self.from).as_secs_f64();
        (elapse_real::load().host_cpu_seconds - self.used - others).max(0.0)
    }

    /// How many were busy since, on average.
    fn processors(&self) -> f64 {
        self.used() / rt::now().since(self.from).as_secs_f64().max(1e-9)
    }

    /// What each of so many things has used since.
    fn used_by_each(&self, n: u32) -> Option<Duration> {
        Some(Duration::from_nanos_f64(self.used() / f64::from(n.max(1)) * 1e9))
    }
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

    async fn create(&self) -> Result<Sandbox> {
        create(&*self.backend, self.next()).await
    }

    async fn call(&self, sandbox: Sandbox, does: Behaviour, intended: Duration) -> Result<Duration> {
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
    async fn rest(&self) {
        match &self.watch {
            Some(watch) => watch.rest(REST).await,
            None => rt::sleep(REST).await,
        }
    }
}

/// Quantiles of equal shares, to four decimals.
fn shares(mut seen: Vec<f64>) -> Vec<f64> {
    const SHARES: usize = 20;
    seen.sort_by(f64::total_cmp);
    let last = seen.len() - 1;
    (0..=SHARES).map(|i| (seen[i * last / SHARES] * 1e4).round() / 1e4).collect()
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

#[cfg(test)]
mod tests {
    use super::got_together;

    #[test]
    fn what_executions_get_together_does_not_depend_on_who_ends_first() {
        for (took, cores, together) in [
            (&[2.0, 2.0, 2.0, 2.0][..], 2, 2.0),
            (&[1.0, 2.0, 1.0, 2.0], 2, 2.0),
            // The last one has a processor for itself from 2.0 on.
            (&[1.5, 2.0, 2.0, 2.5], 2, 8.0 / 4.5),
            (&[2.5, 2.5, 2.5, 2.5], 2, 1.6),
            (&[1.25], 4, 3.2),
            (&[0.9, 0.9], 2, 2.0),
        ] {
            assert!((got_together(took, cores) - together).abs() < 1e-9, "{took:?}");
        }
    }
}
