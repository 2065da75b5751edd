//! An eviction policy of one's own: a crate outside of Elapse that plugs it into a run.
//!
//! `cargo run --release` compares it with `lru` on a scenario. The policy: let go of what gives back the most memory for
//! the least time of starting it again.

use elapse::worker::eviction::{Eviction, Idle};
use elapse::{Overrides, Run, Scenario, load_plan};
use std::path::Path;

#[derive(Clone)]
struct MemoryPerColdStart;

impl Eviction for MemoryPerColdStart {
    fn name(&self) -> &str {
        "memory-per-cold-start"
    }

    /// The lowest goes first: long cold starts and small containers stay.
    fn priority(&mut self, idle: &Idle) -> f64 {
        idle.cold_start.as_secs_f64() / idle.memory.as_mib_f64()
    }
}

fn scenario() -> elapse::base::Result<Scenario> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/quickstart.toml");
    load_plan(Some(&file), None, &Overrides::default())
}

fn main() -> elapse::base::Result<()> {
    let theirs = Run::new(scenario()?).simulate()?;
    let ours = Run::new(scenario()?).eviction(MemoryPerColdStart).simulate()?;
    for run in [theirs, ours] {
        let figures = run.summary.json();
        println!(
            "{:<24} cold starts {:>6}  start delay {:>9} ms",
            run.summary.workers[0].policies.eviction, figures["cold_starts"], figures["start_delay_ms"]["mean"]
        );
    }
    Ok(())
}

#[test]
fn it_plugs_in_and_decides() {
    let ours = Run::new(scenario().unwrap()).eviction(MemoryPerColdStart).simulate().unwrap();
    let theirs = Run::new(scenario().unwrap()).simulate().unwrap();
    assert_eq!(ours.summary.workers[0].policies.eviction, "memory-per-cold-start");
    assert_ne!(ours.summary.result_hash, theirs.summary.result_hash);
}
