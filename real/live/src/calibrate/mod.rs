//! Measures this host's backends, so that the simulator can be given their delays.
//!
//! Nothing else should run meanwhile: a host that is not quiet is refused, and how quiet it was is kept beside what was measured.
//! Afterwards the same is done again in simulation, with what was measured: what does not come out is told.

mod again;
mod beside;
mod churn;
mod engines;
mod experiment;
mod quiet;

pub use again::Stage;

use crate::backend::Live;
use crate::here::{common, engine};
use beside::beside_load;
use elapse::Interrupt;
use elapse::backend::{Calibration, Fingerprint, LiveConfig, Measured};
use elapse::base::{Duration, Fault, Result};
use elapse::rt;
use elapse::world::before_load;
use elapse_host::lock::NameLock;
use experiment::{Bench, measure, quantiles};
use quiet::Watch;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Calibrating<'a> {
    /// Where daemons are, and the name that everything bears meanwhile.
    pub config: &'a LiveConfig,
    /// The backends.
    pub backends: &'a [String],
    /// Rounds of each kind.
    pub rounds: u32,
    /// Whether it is measured although the host is not quiet.
    pub force: bool,
    /// Ends it early, with nothing.
    pub interrupt: &'a Interrupt,
}

impl Calibrating<'_> {
    /// Measures them; also the stages that do not come out within 10 % when the same is done in simulation.
    ///
    /// # Errors
    /// A host that is not quiet, a backend that cannot run here, or a container that fails.
    pub fn run(&self, mut tell: impl FnMut(&str)) -> Result<(Calibration, Vec<Stage>)> {
        crate::backend::check(self.config).map_err(Fault::usage)?;
        let _name = NameLock::take(&self.config.worker).map_err(Fault::host)?;
        let runtime = crate::backend::runtime()?;
        let host = elapse::host();
        let cores = host.cores.max(1);
        let findings = elapse_host::doctor::examine();
        let begun = before_load(async { Ok(Watch::begin(cores, &findings).await) }, self.interrupt);
        let watch = Rc::new(runtime.block_on(begun)?);
        if !self.force {
            watch.check("nothing was measured")?;
        }
        let mut measured = BTreeMap::new();
        for name in self.backends {
            tell(name);
            measured.insert(name.clone(), self.backend(&runtime, name, cores, &watch)?);
        }
        let timer_lateness = Some(runtime.block_on(self.lateness())?);
        let folder = std::env::current_dir().unwrap_or_else(|_| std::env::temp_dir());
        // A folder that cannot be written says nothing about the host.
        let synced = elapse_host::sync_times(&folder, self.rounds * 2).ok();
        let fsync =
            synced.map(|times| quantiles(times.into_iter().map(Duration::from).collect())).transpose()?;
        if !self.force {
            watch.check("what was measured is not kept")?;
        }
        let mut stages = Vec::new();
        for (name, measured) in &measured {
            stages.extend(again::again(name, measured, cores, self.rounds)?);
        }
        let date = rt::wall::unix_now().as_secs() as i64;
        let host = Fingerprint {
            kernel: host.kernel,
            cpu: host.cpu,
            cores: host.cores,
            memory_mb: host.memory >> 20,
            date: jiff::Timestamp::from_second(date).unwrap_or_default().to_string(),
            quiet: Some(watch.quiet()),
        };
        Ok((Calibration { host, timer_lateness, fsync, backend: measured }, stages))
    }

    fn backend(&self, runtime: &rt::Live, name: &str, cores: usize, watch: &Rc<Watch>) -> Result<Measured> {
        let config = self.config;
        let Some(engine) = runtime.block_on(engine(name, config, common(config)?))? else {
            return Err(Fault::usage("the simulated backend is what a calibration is for; name a real one"));
        };
        let swept = |e: elapse_host::engine::EngineFault| Fault::host(e.why);
        runtime.block_on(engine.sweep()).map_err(swept)?;
        let done = async {
            engine.prepare(None).await.map_err(swept)?;
            let fresh = engines::fresh(&engine, config).await?;
            let live = Rc::new(Live::new(Rc::clone(&engine), config.clone()));
            let bench = Bench::of_host(live, cores as u32, Rc::clone(watch));
            let mut measured = measure(&bench, self.rounds).await?;
            (measured.prepare, measured.first_start) = (Some(fresh.0), Some(fresh.1));
            beside_load(&bench, self.rounds, &mut measured).await?;
            Ok(measured)
        };
        let outcome = runtime.block_on(before_load(done, self.interrupt));
        runtime.block_on(engine.sweep()).map_err(swept)?;
        let measured = outcome?;
        let ahead = engines::created_ahead(name, config, self.rounds);
        let ahead = runtime.block_on(before_load(ahead, self.interrupt));
        runtime.block_on(engine.sweep()).map_err(swept)?;
        let ahead = ahead?;
        Ok(Measured {
            pooled_start: ahead.as_ref().map(|(start, _)| start.clone()),
            pool_refill: ahead.map(|(_, refill)| refill),
            ..measured
        })
    }

    /// How late a sleep returns.
    async fn lateness(&self) -> Result<elapse::base::Dist> {
        let mut late = Vec::new();
        for i in 0..self.rounds * 4 {
            let due = rt::now() + Duration::from_micros(1_000 + 137 * u64::from(i % 64));
            rt::sleep_until(due).await;
            late.push(rt::now().since(due));
        }
        quantiles(late)
    }
}
