//! Histories of a fleet with losses: how many whole runs of 200 invocations one CPU second simulates.
//!
//! `cargo bench -p elapse-tests --bench histories`. Each run has a seed of its own, messages that are delayed and lost, heartbeats, a worker
//! that is restarted and one that is parted; it is read from its text, simulated and summed up, and nothing is written.

use elapse::base::Result;
use elapse::{Overrides, Run, load_plan, usage};

fn scenario(workers: u32) -> String {
    format!(
        r#"
name = "history"
invocations = 200
duration = "60s"
[worker]
count = {workers}
cores = 2
memory = "1GiB"
[controller]
balancer = "least-loaded"
delay = {{ exponential = {{ mean = "2ms" }} }}
loss = 0.01
on_loss = "retry"
attempts = 3
attempt_timeout = "5s"
lost_after = "3s"
[[fault]]
at = "1s"
worker = 1
kind = "restart"
[[fault]]
at = "2s"
worker = 2
kind = "part"
for = "4s"
[model]
cold_start = "300ms"
[[function]]
name = "f"
count = 5
memory = "128MiB"
duration = {{ exponential = {{ mean = "200ms" }} }}
load = {{ poisson = "10/s" }}
"#
    )
}

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("elapse-histories-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for workers in [20, 3] {
        let file = folder.join(format!("{workers}.toml"));
        std::fs::write(&file, scenario(workers)).expect("a scenario");
        let plan = load_plan(Some(&file), None, &Overrides::default())?;
        let (mut runs, mut events, before) = (0u64, 0, usage().cpu_seconds);
        let mut lost = 0;
        while usage().cpu_seconds - before < 5.0 {
            let mut plan = plan.clone();
            plan.seed = runs;
            let finished = Run::new(plan).simulate()?;
            let json = finished.summary.json();
            assert_eq!(json["invocations"], 200);
            lost += json["lost"].as_u64().unwrap_or(0);
            events += finished.counters.events();
            runs += 1;
        }
        let seconds = usage().cpu_seconds - before;
        println!(
            "{workers} workers: {:.0} histories per CPU second ({:.0} events each; {lost} invocations of {} lost)",
            runs as f64 / seconds,
            events as f64 / runs as f64,
            runs * 200
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
    Ok(())
}
