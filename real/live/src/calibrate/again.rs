//! Does the experiment again in simulation, with what it has shown, and tells what does not come out as it was measured.

use super::beside::beside_load;
use super::experiment::{Bench, admit, create, measure};
use elapse::backend::{Backend, Contention, Crowding, LiveConfig, Measured, Model, Simulated};
use elapse::base::{Cpus, Dist, Fault, Result};
use elapse::rt::{Options, Sim};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What may be off without being told.
const TOLERANCE: f64 = 0.10;
/// A difference that nobody feels, in ms.
const NOTHING: f64 = 0.01;
/// Virtual time is cheap: so many rounds for each that was measured, so that chance is none of the difference.
const MORE: u32 = 8;

/// A stage of the experiment, as it was measured and as it came out again.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The backend.
    pub backend: String,
    /// What was measured, in words.
    pub what: String,
    /// Its mean on the host, in ms.
    pub measured: f64,
    /// Its mean in simulation, in ms.
    pub simulated: f64,
}

impl Stage {
    /// By which share the simulated one is longer; below 0 it is shorter.
    pub fn off(&self) -> f64 {
        self.simulated / self.measured.max(1e-9) - 1.0
    }

    fn is_off(&self) -> bool {
        (self.simulated - self.measured).abs() > NOTHING && self.off().abs() > TOLERANCE
    }
}

/// The stages that do not come out within 10 % when the experiment is done again with what it has shown.
///
/// # Errors
/// Our bug, if it cannot be done.
pub(super) fn again(backend: &str, measured: &Measured, cores: usize, rounds: u32) -> Result<Vec<Stage>> {
    let simulated = simulate(backend, measured, cores, rounds.saturating_mul(MORE))?;
    let mut stages = stages(backend, measured, &simulated);
    stages.retain(Stage::is_off);
    Ok(stages)
}

fn simulate(name: &str, measured: &Measured, cores: usize, rounds: u32) -> Result<Measured> {
    let (name, measured) = (name.to_string(), measured.clone());
    let sim = Sim::new(Options::default());
    let done = sim.block_on(async move {
        let model = Model { contention: Contention::Shared, ..Model::default() };
        let all = Cpus::from_cores(cores as u32);
        let host = Simulated::new(model, all, 1).measured(&name, measured, &LiveConfig::default(), cores);
        let backend: Rc<dyn Backend> = Rc::new(host);
        let bench = Bench::new(backend, cores as u32);
        // The first container of an image has a law of its own, and was there before.
        admit(&*bench.backend)?;
        let first = create(&*bench.backend, 0).await?;
        bench.backend.remove(first).await;
        let mut again = measure(&bench, rounds).await?;
        beside_load(&bench, rounds, &mut again).await?;
        Ok(again)
    });
    done.map_err(|stop| Fault::bug(format!("the experiment did not come to its end in simulation: {stop}")))?
}

fn stages(backend: &str, measured: &Measured, simulated: &Measured) -> Vec<Stage> {
    let mut all = Vec::new();
    let mut add = |what: String, measured: Option<f64>, simulated: Option<f64>| {
        if let (Some(measured), Some(simulated)) = (measured, simulated) {
            all.push(Stage { backend: backend.to_string(), what, measured, simulated });
        }
    };
    let ms = |dist: Option<&Dist>| dist.map(|dist| dist.mean() / 1e6);
    let mut by_number =
        |what: &str, measured: &BTreeMap<String, Dist>, simulated: &BTreeMap<String, Dist>| {
            for (number, dist) in measured {
                add(format!("{what}, {number} at once"), ms(Some(dist)), ms(simulated.get(number)));
            }
        };
    by_number("cold start", &measured.cold_start, &simulated.cold_start);
    by_number("removal", &measured.removal_at_once, &simulated.removal_at_once);
    by_number("warm echo", &measured.concurrent, &simulated.concurrent);
    for (what, measured, simulated) in [
        ("cold start, processors awake", &measured.cold_start_awake, &simulated.cold_start_awake),
        ("cold start, processors busy", &measured.cold_start_busy, &simulated.cold_start_busy),
        ("removal, processors awake", &measured.removal_awake, &simulated.removal_awake),
        ("removal, processors busy", &measured.removal_busy, &simulated.removal_busy),
    ] {
        add(what.to_string(), ms(measured.as_ref()), ms(simulated.as_ref()));
    }
    let lost = |part: fn(&Crowding) -> &Dist| {
        [measured, simulated].map(|of| of.crowding.as_ref().map(|crowding| part(crowding).mean() / 1e6))
    };
    for (what, [measured, simulated]) in [
        ("lost by an execution that begins beside one", lost(|c| &c.beginning)),
        ("lost to an execution that begins", lost(|c| &c.execution)),
        ("lost to a creation beside it", lost(|c| &c.creation)),
    ] {
        add(what.into(), measured, simulated);
    }
    add("first call".into(), ms(Some(&measured.first_call)), ms(Some(&simulated.first_call)));
    for (behaviour, dist) in &measured.overhead {
        let what = format!("{} beyond its duration", behaviour.word());
        add(what, ms(Some(dist)), ms(simulated.overhead.get(behaviour)));
    }
    // Shares of 100 ms.
    let stretched = |shares: &Vec<f64>| 100.0 * shares.iter().sum::<f64>() / shares.len().max(1) as f64;
    for (number, shares) in &measured.stretch {
        let what = format!("execution of 100 ms, {number} at once");
        add(what, Some(stretched(shares)), simulated.stretch.get(number).map(stretched));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of two processors, which executions have together but for a twentieth.
    const HOST: &str = "first_call = \"1ms\"\nremoval = \"10ms\"\ncold_start_awake = \"20ms\"\n[cold_start]\n1 = \"20ms\"\n\
                        2 = \"28ms\"\n4 = \"80ms\"\n[removal_at_once]\n1 = \"10ms\"\n[overhead]\nsleep = \"100us\"\n\
                        spin = \"100us\"\necho = \"20us\"\n[concurrent]\n1 = \"20us\"\n\
                        [stretch]\n1 = [1.001]\n2 = [1.05]\n4 = [2.1]\n[processor]\ncores = 1.95\ncreating = 0.8\nremoving = 0.5\n";

    fn told(file: &str) -> Vec<String> {
        let measured: Measured = toml::from_str(file).expect("a backend");
        again("process", &measured, 2, 4).expect("it is done").into_iter().map(|stage| stage.what).collect()
    }

    #[test]
    fn what_was_measured_comes_out_and_what_cannot_is_told() {
        assert_eq!(told(HOST), Vec::<String>::new());
        // Four executions have two processors and should have taken twice as long.
        assert_eq!(told(&HOST.replace("4 = [2.1]", "4 = [3.0]")), ["execution of 100 ms, 4 at once"]);
    }
}
