//! What `run.json` tells of a run: how it was started, on what, and what it cost.

use crate::backend::Calibration;
use crate::base::{Fault, Result};
use crate::host::{host, usage};
use crate::publisher::ClockMarker;
use crate::rt::wall::unix_now;
use crate::run::Finished;
use crate::scenario::Scenario;

impl Finished {
    /// What is known of the run itself; the only file that differs between equal runs.
    pub(crate) fn run_json(
        &self,
        command: &[String],
        scenario: &Scenario,
        marker: ClockMarker,
        at: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value> {
        let usage = usage();
        let host = host();
        let plan = serde_json::to_value(scenario)
            .map_err(|e| Fault::bug(format!("a plan cannot be written: {e}")))?;
        let invocations = self.summary.invocations();
        let date = jiff::Timestamp::from_second(unix_now().as_secs() as i64)
            .map(|t| t.to_string())
            .unwrap_or_default();
        let mut value = serde_json::json!({
            "command": command,
            "version": env!("CARGO_PKG_VERSION"),
            "finished_at": date,
            "start_unix_ns": self.summary.facts.start_unix_ns,
            "end_unix_ns": self.summary.facts.start_unix_ns + self.summary.facts.end.0,
            "marker_unix_seconds": marker.map(|(from, until)| [from, until]),
            "clock": self.summary.facts.setup.clock.json(),
            "plan": plan,
            "calibration": scenario.model.calibration.as_deref().map(Calibration::about),
            "at": at,
            "host": {
                "kernel": host.kernel, "machine": host.machine, "cpu": host.cpu,
                "cores": host.cores, "memory_mb": host.memory >> 20,
            },
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "invocations_per_cpu_second": if self.cpu_seconds > 0.0 { invocations as f64 / self.cpu_seconds } else { 0.0 },
            "peak_rss_mb": usage.peak_rss as f64 / (1 << 20) as f64,
            "interrupted": self.summary.facts.interrupted,
            "executor": {
                "polls": self.counters.polls, "fires": self.counters.fires, "cancels": self.counters.cancels,
                "sweeps": self.counters.sweeps, "longest_queue": self.counters.longest_queue,
            },
            "event_hash": self.event_hash.map(|h| format!("{h:016x}")),
            "result_hash": format!("{:016x}", self.summary.result_hash),
        });
        without_secrets(&mut value);
        Ok(value)
    }
}

/// Takes user and password out of every address: a run's folder is passed on.
fn without_secrets(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if let Some((scheme, rest)) = text.split_once("://")
                && let Some((user, host)) =
                    rest.split_once('@').filter(|(user, _)| !user.contains(['/', ' ']))
                && !user.is_empty()
            {
                *text = format!("{scheme}://{host}");
            }
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(without_secrets),
        serde_json::Value::Object(all) => all.values_mut().for_each(without_secrets),
        _ => {}
    }
}
