//! What executions, creations and removals do to each other where processors are shared.

use super::churn::churn;
use super::experiment::{AT_ONCE_WARM, Bench, PAUSE, REST, quantiles};
use elapse::backend::{Measured, Processor, Sandbox};
use elapse::base::{Behaviour, Dist, Duration, Fault, Result, Time};
use elapse::rt;
use std::cell::Cell;
use std::rc::Rc;

/// An execution that shows what sharing does: long beside the scheduler's slices.
const LONG: Duration = Duration::from_millis(100);

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
    // With a processor to spare nothing is slowed down for long, but processors and caches are awake.
    if cores > 1 {
        churn(bench, rounds, effective).await?.tell(measured)?;
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

/// Quantiles of equal shares, to four decimals.
fn shares(mut seen: Vec<f64>) -> Vec<f64> {
    const SHARES: usize = 20;
    seen.sort_by(f64::total_cmp);
    let last = seen.len() - 1;
    (0..=SHARES).map(|i| (seen[i * last / SHARES] * 1e4).round() / 1e4).collect()
}

/// The processors' use from an instant on, less what others had of them before.
struct Busy<'a> {
    bench: &'a Bench,
    from: Time,
    used: f64,
}

impl Busy<'_> {
    fn now(bench: &Bench) -> Busy<'_> {
        let used = if bench.watch.is_some() { elapse_host::load().host_cpu_seconds } else { 0.0 };
        Busy { bench, from: rt::now(), used }
    }

    /// Processor time that was used since.
    fn used(&self) -> f64 {
        let Some(watch) = &self.bench.watch else { return 0.0 };
        let others = watch.others().processors() * rt::now().since(self.from).as_secs_f64();
        (elapse_host::load().host_cpu_seconds - self.used - others).max(0.0)
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
