//! What was measured of a host's backends, for the simulator: `elapse calibrate` writes it, `[model] calibration` names it.
//!
//! The simulator does not draw from everything in it. How late timers are is in `overhead` already, `steps` are the parts of
//! `cold_start`, `processor.cores` says of `stretch` what a shared processor needs; `prepare` happens before a run, only a
//! daemon's registrations wait for `fsync`, and `memory_read` is too short to be seen. These are for who reads the file.

use crate::base::{Behaviour, Dist, Duration, Fault, Fnv, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A calibration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Where it was measured.
    pub host: Fingerprint,
    /// How late a sleep of the worker's returns there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_lateness: Option<Dist>,
    /// What it takes to write a block of 4 KiB so that it survives a loss of power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsync: Option<Dist>,
    /// By the backend's name.
    pub backend: BTreeMap<String, Measured>,
}

/// The host of a calibration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Kernel name and release.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Processors.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// When, UTC.
    pub date: String,
    /// How quiet it was meanwhile; not in files that were written before that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
}

/// How quiet a host was while it was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// Processors that others kept busy, on average, while nothing of the measuring ran.
    pub others: f64,
    /// Share of that time in which something waited for a processor, 0 to 1; none where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<f64>,
    /// Share of the processors' time that the hypervisor gave to other machines, 0 to 1.
    pub steal: f64,
    /// What of the host spoils the figures, in sentences: none of one that was quiet, else it was measured by force.
    pub spoilt: Vec<String>,
}

/// What was measured of one backend: distributions as quantiles of what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// From the decision to create a container until it answers, by the number of creations under way, it included.
    pub cold_start: BTreeMap<String, Dist>,
    /// What the first invocation in a container takes beyond later ones.
    pub first_call: Dist,
    /// What an invocation takes beyond its intended duration, by what it does.
    pub overhead: BTreeMap<Behaviour, Dist>,
    /// From the decision to remove a container until nothing of it is left.
    pub removal: Dist,
    /// The same by the number of removals under way, it included.
    #[serde(default)]
    pub removal_at_once: BTreeMap<String, Dist>,
    /// A cold start from a container that was created ahead, and how long it takes until another one is ready in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooled_start: Option<Dist>,
    /// See [`pooled_start`](Measured::pooled_start).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_refill: Option<Dist>,
    /// The parts of a cold start with nothing beside it: `sandbox` until the engine has started it, `answer` until what
    /// runs inside answers.
    #[serde(default)]
    pub steps: BTreeMap<String, Dist>,
    /// What it takes to make an image ready that the engine has not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Dist>,
    /// The first cold start after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_start: Option<Dist>,
    /// A cold start, and a removal, beside executions that leave a processor to spare: nothing slows it down, but processors
    /// and caches are awake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_awake: Option<Dist>,
    /// See [`cold_start_awake`](Measured::cold_start_awake).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_awake: Option<Dist>,
    /// A cold start, and a removal, while all processors are busy with invocations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_busy: Option<Dist>,
    /// See [`cold_start_busy`](Measured::cold_start_busy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_busy: Option<Dist>,
    /// A reading of a container's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_read: Option<Dist>,
    /// A warm echo with so many under way, it included.
    #[serde(default)]
    pub concurrent: BTreeMap<String, Dist>,
    /// How so many executions at once, each bound by its processor, are stretched: quantiles of equal shares.
    #[serde(default)]
    pub stretch: BTreeMap<String, Vec<f64>>,
    /// What executions lose to what begins beside them though a processor is to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowding: Option<Crowding>,
    /// What of it is processor time. With it, containers and executions share the host's processors in simulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<Processor>,
}

/// What executions lose to what begins beside them though a processor is to spare: the kernel puts two on one processor,
/// and parts them when it balances next, a tick or two later. Measured of two clients that have containers created in the
/// place of others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowding {
    /// What an execution loses that begins beside another.
    pub beginning: Dist,
    /// What the other loses to it.
    pub execution: Dist,
    /// What an execution loses to the creation of a container in the place of another, and to the execution that follows it.
    pub creation: Dist,
}

/// The use of processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Processors that executions get together when there are more of them than processors.
    pub cores: f64,
    /// Processors that are busy while a container is created.
    pub creating: f64,
    /// Processors that are busy while one is removed.
    pub removing: f64,
    /// Processor time of a creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<Duration>,
    /// Processor time of a removal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal: Option<Duration>,
}

impl Measured {
    /// What no host can have shown. Distributions are checked as they are read.
    fn check(&self) -> Result<(), String> {
        if self.cold_start.is_empty() {
            return Err("there is no cold_start".into());
        }
        for (table, keys) in [
            ("cold_start", &self.cold_start),
            ("removal_at_once", &self.removal_at_once),
            ("concurrent", &self.concurrent),
        ] {
            if let Some(key) = keys.keys().find(|key| key.parse::<u32>().is_err()) {
                return Err(format!("{table}: '{key}' is no number of things at once"));
            }
        }
        if let Some(share) = self.stretch.values().flatten().find(|x| !(x.is_finite() && **x >= 0.0)) {
            return Err(format!("stretch: {share} is no share; it is a finite number >= 0"));
        }
        let Some(p) = self.processor else { return Ok(()) };
        for (key, value, least) in [
            ("cores", p.cores, f64::MIN_POSITIVE),
            ("creating", p.creating, 0.0),
            ("removing", p.removing, 0.0),
        ] {
            if !(value.is_finite() && value >= least) {
                let bound = if least > 0.0 { "above" } else { "not below" };
                return Err(format!("processor.{key} is {value}; it is a finite number {bound} 0"));
            }
        }
        Ok(())
    }

    /// The cold start with so many creations under way: of the nearest number that was measured.
    pub fn cold_start(&self, under_way: u32) -> Option<&Dist> {
        nearest(&self.cold_start, under_way)
    }

    /// A warm echo with so many under way: of the nearest number that was measured.
    pub fn concurrent(&self, under_way: u32) -> Option<&Dist> {
        nearest(&self.concurrent, under_way)
    }

    /// The overhead of a behaviour; that of a sleep where it was not measured.
    pub fn overhead(&self, behaviour: Behaviour) -> Option<&Dist> {
        self.overhead.get(&behaviour).or_else(|| self.overhead.get(&Behaviour::Sleep))
    }
}

/// Of what was measured with so many at once, that with the nearest number.
fn nearest(by_number: &BTreeMap<String, Dist>, at_once: u32) -> Option<&Dist> {
    let number = |key: &str| key.parse::<u32>().unwrap_or(1);
    by_number.iter().min_by_key(|(key, _)| number(key).abs_diff(at_once)).map(|(_, dist)| dist)
}

impl Calibration {
    /// What somebody who simulates with it should know of the host on which it was measured, in sentences.
    pub fn remarks(&self) -> Vec<String> {
        let mut all = Vec::new();
        let spoilt = self.host.quiet.iter().flat_map(|quiet| &quiet.spoilt).cloned().collect::<Vec<_>>();
        if !spoilt.is_empty() {
            all.push(format!(
                "The calibration was measured by force on a host that was not quiet ({}).",
                spoilt.join("; ")
            ));
        }
        for (name, measured) in &self.backend {
            let had = measured.processor.map_or(f64::INFINITY, |p| p.cores);
            // So much is lost on a quiet host at the very most.
            if had < 0.75 * self.host.cores as f64 {
                all.push(format!(
                    "The calibration of {name} was measured while executions had {had:.2} of {} processors: others had the rest, or it \
                     is limited there.",
                    self.host.cores
                ));
            }
        }
        all
    }

    /// Which one a run was given: the hash of the file, and the host that was measured. Nothing of a file that cannot be
    /// read any more.
    pub fn about(path: &Path) -> serde_json::Value {
        let Ok(text) = std::fs::read_to_string(path) else { return serde_json::Value::Null };
        let host = toml::from_str::<Calibration>(&text).map(|calibration| calibration.host).ok();
        let mut hash = Fnv::default();
        hash.add(text.as_bytes());
        serde_json::json!({ "hash": format!("{:016x}", hash.0), "host": host })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What of it cannot be meant, and where.
    pub fn read(path: &Path) -> Result<Calibration> {
        let text = std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
        let calibration: Calibration = toml::from_str(&text).map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].lines().count() as u64);
            Fault::at(path, line.max(1), e.message().trim().replace('\n', "; "))
        })?;
        for (name, measured) in &calibration.backend {
            let why =
                |why| Fault::usage(format!("{}: backend {name}: {why}; measure it again", path.display()));
            measured.check().map_err(why)?;
        }
        Ok(calibration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_was_not_quiet_is_told() {
        let file = |quiet: &str, cores: &str| -> Calibration {
            let text = format!(
                "[host]\nkernel = \"k\"\ncpu = \"c\"\ncores = 2\nmemory_mb = 1\ndate = \"d\"\n{quiet}[backend.process]\nfirst_call = \"0s\"\n\
                 removal = \"1ms\"\n[backend.process.cold_start]\n1 = \"14ms\"\n[backend.process.overhead]\n[backend.process.processor]\n\
                 cores = {cores}\ncreating = 1.0\nremoving = 1.0\n"
            );
            toml::from_str(&text).expect("a calibration")
        };
        assert_eq!(file("", "1.9").remarks(), Vec::<String>::new());
        let quiet = "[host.quiet]\nothers = 0.01\nsteal = 0.0\nspoilt = []\n";
        assert_eq!(file(quiet, "1.6").remarks(), Vec::<String>::new());
        let forced = file(&quiet.replace("[]", "[\"load: 7.0\"]"), "0.45").remarks();
        assert!(forced[0].contains("by force") && forced[0].contains("(load: 7.0)"), "{forced:?}");
        assert!(forced[1].contains("0.45 of 2 processors"), "{forced:?}");
        let again = toml::to_string(&file(quiet, "1.9")).expect("TOML");
        assert_eq!(toml::from_str::<Calibration>(&again).expect("the same"), file(quiet, "1.9"));
    }
}
