//! Measures this host's backends, so that the simulator can be given their delays.
//!
//! Containers are created one, two and four at a time, and beside busy processors; each is called once for its first call
//! and then, with pauses as a real load has them, for sleeps and spins whose intended duration is known. What a call takes
//! beyond it is overhead: the wire, the host's scheduling, the timer's lateness. How many processors are busy while
//! containers are created and removed, and how many executions get when there are more of them than processors, lets the
//! simulator share them as the host does. Nothing else should run meanwhile.

use super::live::{common, engine};
use crate::backend::{
    Backend, Calibration, Create, Fingerprint, Live, LiveConfig, Measured, Processor, Sandbox,
};
use crate::base::{
    Behaviour, Cpus, Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time,
};
use crate::rt;
use elapse_real::engine::Engine;
use elapse_real::lock::NameLock;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is called, in the order of its function's number.
const BEHAVIOURS: [Behaviour; 3] = [Behaviour::Sleep, Behaviour::Spin, Behaviour::Echo];
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
const REST: Duration = Duration::from_millis(200);
/// Points of a distribution that are kept.
const POINTS: usize = 101;

/// Measures these backends, with so many rounds of each kind.
///
/// # Errors
/// A backend that cannot run here, or a container that fails.
pub fn calibrate(
    config: &LiveConfig,
    backends: &[String],
    rounds: u32,
    mut tell: impl FnMut(&str),
) -> Result<Calibration> {
    config.check().map_err(Fault::usage)?;
    let _name = NameLock::take(&config.worker).map_err(Fault::host)?;
    let runtime = rt::Live::new()?;
    let mut measured = BTreeMap::new();
    for name in backends {
        tell(name);
        let Some(engine) = runtime.block_on(engine(name, config, common(config)?))? else {
            return Err(Fault::usage("the simulated backend is what a calibration is for; name a real one"));
        };
        let swept = |e: elapse_real::engine::EngineFault| Fault::host(e.why);
        runtime.block_on(engine.sweep()).map_err(swept)?;
        runtime.block_on(engine.prepare(None)).map_err(swept)?;
        let outcome = runtime.block_on(async {
            let fresh = fresh(&engine, config).await?;
            let backend = Rc::new(Live::new(Rc::clone(&engine), config.clone()));
            let mut measured = measure(&backend, rounds).await?;
            (measured.prepare, measured.first_start) = (Some(fresh.0), Some(fresh.1));
            beside_load(&backend, rounds, &mut measured).await?;
            Ok(measured)
        });
        runtime.block_on(engine.sweep()).map_err(swept)?;
        let outcome = outcome.and_then(|measured| {
            let ahead = runtime.block_on(created_ahead(name, config, rounds))?;
            Ok(Measured {
                pooled_start: ahead.as_ref().map(|(start, _)| start.clone()),
                pool_refill: ahead.map(|(_, refill)| refill),
                ..measured
            })
        });
        runtime.block_on(engine.sweep()).map_err(swept)?;
        measured.insert(name.clone(), outcome?);
    }
    let host = elapse_real::host();
    let date = rt::wall::unix_now().as_secs() as i64;
    let host = Fingerprint {
        kernel: host.kernel,
        cpu: host.cpu,
        cores: host.cores,
        memory_mb: host.memory >> 20,
        date: jiff::Timestamp::from_second(date).unwrap_or_default().to_string(),
    };
    let late = runtime.block_on(async {
        let mut late = Vec::new();
        for i in 0..rounds * 4 {
            let due = rt::now() + Duration::from_micros(1_000 + 137 * u64::from(i % 64));
            rt::sleep_until(due).await;
            late.push(rt::now().since(due));
        }
        late
    });
    let folder = std::env::current_dir().unwrap_or_else(|_| std::env::temp_dir());
    // A folder that cannot be written says nothing about the host.
    let synced = elapse_real::sync_times(&folder, rounds * 2).ok();
    let fsync = synced.map(|times| quantiles(times.into_iter().map(Duration::from).collect())).transpose()?;
    Ok(Calibration { host, timer_lateness: Some(quantiles(late)?), fsync, backend: measured })
}

/// How long an image takes that the engine has not seen, and the first cold start after it.
async fn fresh(engine: &Rc<dyn Engine>, config: &LiveConfig) -> Result<(Dist, Dist)> {
    const ROUNDS: usize = 3;
    let (mut prepared, mut first) = (Vec::new(), Vec::new());
    let swept = |e: elapse_real::engine::EngineFault| Fault::host(e.why);
    for _ in 0..ROUNDS {
        engine.sweep().await.map_err(swept)?;
        let begun = rt::now();
        engine.prepare(None).await.map_err(swept)?;
        prepared.push(rt::now().since(begun));
        let backend = Rc::new(Live::new(Rc::clone(engine), config.clone()));
        admit(&backend)?;
        let begun = rt::now();
        let sandbox = create(&backend, 0).await?;
        first.push(rt::now().since(begun));
        backend.remove(sandbox).await;
    }
    Ok((quantiles(prepared)?, quantiles(first)?))
}

/// Cold starts from what was created ahead, and how long it takes until another one is there; nothing of an engine that
/// creates none ahead.
async fn created_ahead(name: &str, config: &LiveConfig, rounds: u32) -> Result<Option<(Dist, Dist)>> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let config = LiveConfig { pooled: 1, ..config.clone() };
    let Some(engine) = engine(name, &config, common(&config)?).await? else { return Ok(None) };
    if engine.ready_ahead().is_none() {
        return Ok(None);
    }
    engine.prepare(None).await.map_err(|e| Fault::host(e.why))?;
    let backend = Live::new(Rc::clone(&engine), config);
    admit(&backend)?;
    let (mut starts, mut refills) = (Vec::new(), Vec::new());
    for nth in 0..(rounds / 2).max(3) {
        if rt::timeout(PATIENCE, one_ahead(&*engine)).await.is_err() {
            break;
        }
        rt::sleep(REST).await;
        let begun = rt::now();
        let sandbox = create(&backend, nth).await?;
        starts.push(rt::now().since(begun));
        if rt::timeout(PATIENCE, one_ahead(&*engine)).await.is_ok() {
            refills.push(rt::now().since(begun));
        }
        backend.remove(sandbox).await;
    }
    engine.sweep().await.map_err(|e| Fault::host(e.why))?;
    if starts.is_empty() || refills.is_empty() {
        return Ok(None);
    }
    Ok(Some((quantiles(starts)?, quantiles(refills)?)))
}

/// Waits until a container that was created ahead is there.
async fn one_ahead(engine: &dyn Engine) {
    const LOOK: Duration = Duration(500_000);
    while engine.ready_ahead() == Some(0) {
        rt::sleep(LOOK).await;
    }
}

fn admit(backend: &Live) -> Result<()> {
    for (id, behaviour) in (0u32..).zip(BEHAVIOURS) {
        let mut spec = FunctionSpec::new(behaviour.word(), MEMORY);
        spec.program.behaviour = Some(behaviour);
        backend
            .admit(FunctionId(id), &spec)
            .map_err(|why| Fault::host(format!("backend {} cannot run our agent: {why}", backend.name())))?;
    }
    Ok(())
}

async fn measure(backend: &Rc<Live>, rounds: u32) -> Result<Measured> {
    admit(backend)?;
    let mut steps: [Vec<Duration>; 2] = Default::default();
    let (mut by_number, mut overhead) = (BTreeMap::new(), BTreeMap::new());
    let (mut first_calls, mut removals_by_number) = (Vec::new(), BTreeMap::new());
    for at_once in AT_ONCE {
        let (mut cold_starts, mut removals) = (Vec::new(), Vec::new());
        for _ in 0..rounds.div_ceil(at_once) {
            rt::sleep(REST).await;
            let creations: Vec<_> = (0..at_once)
                .map(|nth| {
                    let backend = Rc::clone(backend);
                    rt::spawn(async move {
                        let begun = rt::now();
                        let created = create(&backend, nth).await;
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
            if at_once == 1 {
                steps.iter_mut().zip(backend.last_steps()).for_each(|(all, step)| all.push(step));
            }
            for sandbox in &sandboxes {
                let first = call(backend, *sandbox, Behaviour::Echo, Duration::ZERO).await?;
                let second = call(backend, *sandbox, Behaviour::Echo, Duration::ZERO).await?;
                first_calls.push(Duration(first.0.saturating_sub(second.0)));
            }
            rt::sleep(REST).await;
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
    let sandbox = create(backend, 0).await?;
    for behaviour in BEHAVIOURS {
        let mut beyond = Vec::new();
        for _ in 0..rounds * 4 {
            rt::sleep(PAUSE).await;
            let intended = if behaviour == Behaviour::Echo { Duration::ZERO } else { CALL };
            let took = call(backend, sandbox, behaviour, intended).await?;
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
        steps: BTreeMap::from([
            ("sandbox".into(), quantiles(started)?),
            ("answer".into(), quantiles(answered)?),
        ]),
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

/// What processors that are busy with something else, or shared, do to all of it.
async fn beside_load(backend: &Rc<Live>, rounds: u32, measured: &mut Measured) -> Result<()> {
    let cores = elapse_real::host().cores.max(1) as u32;
    // One right after the other: how many processors that keeps busy.
    let n = rounds.clamp(4, 40);
    let mut sandboxes = Vec::new();
    rt::sleep(REST).await;
    let before = Busy::now();
    for nth in 0..n {
        sandboxes.push(create(backend, nth).await?);
    }
    let creating = before.processors();
    let creation = before.used_by_each(n);
    let before = Busy::now();
    for sandbox in sandboxes {
        backend.remove(sandbox).await;
    }
    let removing = before.processors();
    let removal = before.used_by_each(n);

    // Executions at once that are bound by their processors.
    let most = 4 * cores;
    let mut sandboxes = Vec::new();
    for nth in 0..most.max(AT_ONCE_WARM[2]) {
        sandboxes.push(create(backend, nth).await?);
    }
    let mut effective = f64::from(cores);
    for at_once in [1, cores, 2 * cores, most] {
        let (mut stretched, mut together) = (Vec::new(), Vec::new());
        for _ in 0..(rounds / at_once).max(3) {
            rt::sleep(PAUSE).await;
            let calls: Vec<_> = sandboxes[..at_once as usize]
                .iter()
                .map(|sandbox| {
                    let (backend, sandbox) = (Rc::clone(backend), *sandbox);
                    rt::spawn(async move { call(&backend, sandbox, Behaviour::Spin, LONG).await })
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
                    let (backend, sandbox) = (Rc::clone(backend), *sandbox);
                    rt::spawn(async move { call(&backend, sandbox, Behaviour::Echo, Duration::ZERO).await })
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
        let (cold_start, removal) = creations_beside(backend, &sandboxes[..1], rounds).await?;
        (measured.cold_start_awake, measured.removal_awake) = (Some(cold_start), Some(removal));
    }
    let (cold_start, removal) = creations_beside(backend, &sandboxes[..cores as usize], rounds).await?;
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
async fn creations_beside(backend: &Rc<Live>, busy: &[Sandbox], rounds: u32) -> Result<(Dist, Dist)> {
    let stop = Rc::new(Cell::new(false));
    let load: Vec<_> = busy
        .iter()
        .map(|sandbox| {
            let (backend, sandbox, stop) = (Rc::clone(backend), *sandbox, Rc::clone(&stop));
            rt::spawn(async move {
                while !stop.get() && call(&backend, sandbox, Behaviour::Spin, LONG).await.is_ok() {}
            })
        })
        .collect();
    let (mut cold_starts, mut removals) = (Vec::new(), Vec::new());
    let measured = async {
        for nth in 0..(rounds / 2).max(3) {
            rt::sleep(REST).await;
            let begun = rt::now();
            let sandbox = create(backend, nth).await?;
            cold_starts.push(rt::now().since(begun));
            rt::sleep(REST).await;
            let begun = rt::now();
            backend.remove(sandbox).await;
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

/// The processors' use from an instant on.
struct Busy(Time, f64);

impl Busy {
    fn now() -> Busy {
        Busy(rt::now(), elapse_real::load().host_cpu_seconds)
    }

    /// Processor time that was used since.
    fn used(&self) -> f64 {
        (elapse_real::load().host_cpu_seconds - self.1).max(0.0)
    }

    /// How many were busy since, on average.
    fn processors(&self) -> f64 {
        self.used() / rt::now().since(self.0).as_secs_f64().max(1e-9)
    }

    /// What each of so many things has used since.
    fn used_by_each(&self, n: u32) -> Option<Duration> {
        Some(Duration::from_nanos_f64(self.used() / f64::from(n.max(1)) * 1e9))
    }
}

/// Quantiles of equal shares, to four decimals.
fn shares(mut seen: Vec<f64>) -> Vec<f64> {
    const SHARES: usize = 20;
    seen.sort_by(f64::total_cmp);
    let last = seen.len() - 1;
    (0..=SHARES).map(|i| (seen[i * last / SHARES] * 1e4).round() / 1e4).collect()
}

async fn create(backend: &Live, nth: u32) -> Result<Sandbox> {
    let request = Create {
        function: FunctionId(0),
        memory: MEMORY,
        cpus: Cpus::from_cores(1),
        nth: u64::from(nth),
        gpu: None,
        at_once: false,
    };
    backend.create(&request).await.map_err(|fault| Fault::host(fault.why.to_string()))
}

async fn call(backend: &Live, sandbox: Sandbox, does: Behaviour, intended: Duration) -> Result<Duration> {
    let function = BEHAVIOURS.iter().position(|b| *b == does).unwrap_or_default() as u32;
    let begun = rt::now();
    let order = Invocation {
        number: 0,
        function: FunctionId(function),
        arrival: Time::ZERO,
        intended,
        fails: false,
        usage: None,
    };
    let answer = backend.invoke(sandbox, &order).await;
    answer.map_err(|fault| Fault::host(format!("a call failed while it was measured: {fault:?}")))?;
    Ok(rt::now().since(begun))
}

/// Equally likely values that stand for all that were seen.
fn quantiles(mut seen: Vec<Duration>) -> Result<Dist> {
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
