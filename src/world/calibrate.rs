//! Measures this host's backends, so that the simulator can be given their delays.
//!
//! Containers are created one, two and four at a time; each is called once for its first call and then, with pauses as a
//! real load has them, for sleeps and spins whose intended duration is known. What a call takes beyond it is overhead:
//! the wire, the host's scheduling, the timer's lateness. Nothing else should run meanwhile.

use super::live::engine;
use crate::backend::{Backend, Calibration, Create, Fingerprint, Live, LiveConfig, Measured, Sandbox};
use crate::base::{
    Behaviour, Cpus, Dist, Duration, Fault, FunctionId, FunctionSpec, Invocation, Mem, Result, Time,
};
use crate::rt;
use elapse_real::lock::NameLock;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is called, in the order of its function's number.
const BEHAVIOURS: [Behaviour; 3] = [Behaviour::Sleep, Behaviour::Spin, Behaviour::Echo];
/// Creations at once.
const AT_ONCE: [u32; 3] = [1, 2, 4];
const MEMORY: Mem = Mem(64 << 20);
/// The intended duration of a call, and the pause before it.
const CALL: Duration = Duration::from_millis(5);
const PAUSE: Duration = Duration::from_millis(10);
/// Between two rounds of creations. One right after the other finds caches warm and processors awake, and takes a quarter
/// of what a creation in a real load takes.
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
        let Some(engine) = runtime.block_on(engine(name, config))? else {
            return Err(Fault::usage("the simulated backend is what a calibration is for; name a real one"));
        };
        let swept = |e: elapse_real::engine::EngineFault| Fault::host(e.why);
        runtime.block_on(engine.sweep()).map_err(swept)?;
        runtime.block_on(engine.prepare(None)).map_err(swept)?;
        let backend = Rc::new(Live::new(Rc::clone(&engine), config.clone()));
        let outcome = runtime.block_on(measure(backend, rounds));
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
    Ok(Calibration { host, backend: measured })
}

async fn measure(backend: Rc<Live>, rounds: u32) -> Result<Measured> {
    for (id, behaviour) in (0u32..).zip(BEHAVIOURS) {
        let mut spec = FunctionSpec::new(behaviour.word(), MEMORY);
        spec.program.behaviour = Some(behaviour);
        backend
            .admit(FunctionId(id), &spec)
            .map_err(|why| Fault::host(format!("backend {} cannot run our agent: {why}", backend.name())))?;
    }
    let (mut by_number, mut overhead) = (BTreeMap::new(), BTreeMap::new());
    let (mut first_calls, mut removals) = (Vec::new(), Vec::new());
    for at_once in AT_ONCE {
        let mut cold_starts = Vec::new();
        for _ in 0..rounds.div_ceil(at_once) {
            rt::sleep(REST).await;
            let creations: Vec<_> = (0..at_once)
                .map(|nth| {
                    let backend = Rc::clone(&backend);
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
            for sandbox in sandboxes {
                let first = call(&backend, sandbox, Behaviour::Echo, Duration::ZERO).await?;
                let second = call(&backend, sandbox, Behaviour::Echo, Duration::ZERO).await?;
                first_calls.push(Duration(first.0.saturating_sub(second.0)));
                let begun = rt::now();
                backend.remove(sandbox).await;
                removals.push(rt::now().since(begun));
            }
        }
        by_number.insert(at_once.to_string(), quantiles(cold_starts)?);
    }
    let sandbox = create(&backend, 0).await?;
    for behaviour in BEHAVIOURS {
        let mut beyond = Vec::new();
        for _ in 0..rounds * 4 {
            rt::sleep(PAUSE).await;
            let intended = if behaviour == Behaviour::Echo { Duration::ZERO } else { CALL };
            let took = call(&backend, sandbox, behaviour, intended).await?;
            beyond.push(Duration(took.0.saturating_sub(intended.0)));
        }
        overhead.insert(behaviour, quantiles(beyond)?);
    }
    backend.remove(sandbox).await;
    Ok(Measured {
        cold_start: by_number,
        first_call: quantiles(first_calls)?,
        overhead,
        removal: quantiles(removals)?,
    })
}

async fn create(backend: &Live, nth: u32) -> Result<Sandbox> {
    let request =
        Create { function: FunctionId(0), memory: MEMORY, cpus: Cpus::from_cores(1), nth: u64::from(nth) };
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
