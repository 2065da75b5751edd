//! A scenario's `[[function]]`: what it is, how it behaves, how it is called.

use super::arrivals::Load;
use crate::base::{
    Behaviour, Compute, Cpus, Dist, Duration, FunctionId, FunctionSpec, Invocation, Mem, Network, Program,
    Protocol, Time,
};
use crate::rt::chance::{Purpose, RngKey};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// Unique name.
    pub name: String,
    /// The app it belongs to; its own name if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Memory reserved for a container.
    pub memory: Mem,
    /// Cores an invocation holds.
    #[serde(default = "one_core")]
    pub cpus: Cpus,
    /// Invocations that a container takes at once.
    #[serde(default = "one")]
    pub concurrency: u32,
    /// Functions of this kind; more than one get a number behind their name.
    #[serde(default = "one")]
    pub count: u32,
    /// Containers created ahead of need, at the start.
    #[serde(default)]
    pub prewarm: u32,
    /// Overrides the worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Duration>,
    /// Overrides the worker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// For deadline-aware queues: time after arrival by which it should have returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// How long an invocation executes.
    pub duration: Dist,
    /// Overrides the model's. Simulation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<Dist>,
    /// Working set of an invocation; above `memory` it is killed. The reserved size if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<Dist<Mem>>,
    /// Share of invocations that report an error, 0 to 1.
    #[serde(default)]
    pub failure: f64,
    /// What the agent does live; the simulator reads `sleep` as using no processor and `spin` as using nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Behaviour>,
    /// What its own code takes in a new container before it is ready, on top of the time to create one: processor time where it
    /// spins. Not for `exec`, `serve` and images that are servers, which take what they take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Duration>,
    /// Its container image; our agent alone where none is given. Live only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What `exec` and `serve` run. Live only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A folder that its containers see read-only at `/code`; relative to the scenario. Live only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<PathBuf>,
    /// How its containers are talked to: unix, or tcp on `$PORT`, as an image that is an HTTP server needs it. Live only.
    #[serde(default)]
    pub protocol: Protocol,
    /// Their network: none, bridge (one of their own, joined to the worker's), host. None if not given, and bridge with tcp.
    /// Live only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Whether its containers need a GPU.
    #[serde(default)]
    pub compute: Compute,
    /// Memory of a GPU that each of its containers needs; a GPU alone where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Mem>,
    /// Bytes of disk that each of its containers may write beside its memory, where an engine's storage has quotas; none without
    /// it: what it writes is memory. Live only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<Mem>,
    /// Backends it may run on, in order of preference. Live only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<String>,
    /// How it is called; not at all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
}

fn one() -> u32 {
    1
}

fn one_core() -> Cpus {
    Cpus::from_cores(1)
}

impl FunctionConfig {
    /// A function as a daemon registers it, from what is known of one of a run.
    pub fn of(spec: &crate::base::FunctionSpec) -> FunctionConfig {
        let program = spec.program.clone();
        FunctionConfig {
            name: spec.name.clone(),
            app: Some(spec.app.clone()).filter(|app| *app != spec.name),
            memory: spec.memory,
            cpus: spec.cpus,
            concurrency: spec.concurrency,
            count: 1,
            prewarm: 0,
            keep_alive: spec.keep_alive,
            timeout: spec.timeout.filter(|t| *t != Duration::MAX),
            deadline: spec.deadline,
            duration: Dist::constant(Duration::ZERO),
            cold_start: None,
            memory_used: None,
            failure: 0.0,
            behaviour: program.behaviour,
            init: program.init,
            image: program.image,
            command: program.command,
            code: program.code,
            protocol: program.protocol,
            network: program.network,
            compute: program.compute,
            gpu_memory: program.gpu_memory,
            writable: program.writable,
            backends: spec.backends.clone(),
            load: None,
        }
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.contains([',', '"', '\n']) {
            return Err(format!(
                "the function name '{}' is empty or has a comma, quote or line break",
                self.name
            ));
        }
        if self.memory == Mem(0) || self.memory == Mem::MAX {
            return Err(format!(
                "function '{}': memory is {}; a container needs some",
                self.name, self.memory
            ));
        }
        if self.concurrency == 0 || self.count == 0 {
            return Err(format!("function '{}': concurrency and count are at least 1", self.name));
        }
        if u64::from(self.prewarm) * u64::from(self.count) > 1_000_000 {
            return Err(format!(
                "function '{}': prewarm is {}; at most 1000000 containers are created ahead",
                self.name, self.prewarm
            ));
        }
        if self.count > 1_000_000 {
            return Err(format!("function '{}': count is {}; it is at most 1000000", self.name, self.count));
        }
        if matches!(self.behaviour, Some(Behaviour::Exec | Behaviour::Serve)) && self.command.is_empty() {
            return Err(format!(
                "function '{}': it is to run a command and has none; write for instance command = [\"python3\", \"app.py\"]",
                self.name
            ));
        }
        let server = self.protocol == Protocol::Tcp && self.image.is_some() && self.behaviour.is_none();
        if self.init.is_some()
            && (server || matches!(self.behaviour, Some(Behaviour::Exec | Behaviour::Serve)))
        {
            return Err(format!(
                "function '{}': init is what our agent does before it is ready; a command or an image of its own takes what it \
                 takes: leave init out",
                self.name
            ));
        }
        if !(0.0..=1.0).contains(&self.failure) {
            return Err(format!("function '{}': failure is {}; a share is 0 to 1", self.name, self.failure));
        }
        Ok(())
    }

    /// The functions it stands for.
    pub fn specs(&self) -> Vec<FunctionSpec> {
        let width = (self.count - 1).to_string().len();
        (0..self.count)
            .map(|i| {
                let name = match self.count {
                    1 => self.name.clone(),
                    _ => format!("{}-{i:0width$}", self.name),
                };
                FunctionSpec {
                    app: self.app.clone().unwrap_or_else(|| name.clone()),
                    name,
                    memory: self.memory,
                    cpus: self.cpus,
                    concurrency: self.concurrency,
                    keep_alive: self.keep_alive,
                    timeout: self.timeout,
                    deadline: self.deadline,
                    cold_start: self.cold_start.clone(),
                    backends: self.backends.clone(),
                    program: Program {
                        behaviour: self.behaviour,
                        init: self.init,
                        image: self.image.clone(),
                        command: self.command.clone(),
                        code: self.code.clone(),
                        code_root: None,
                        protocol: self.protocol,
                        network: self.network,
                        compute: self.compute,
                        gpu_memory: self.gpu_memory,
                        writable: self.writable,
                    },
                }
            })
            .collect()
    }

    /// How its invocations turn out.
    pub fn profile(&self, rng: RngKey) -> Profile {
        Profile {
            rng,
            duration: self.duration.clone(),
            failure: self.failure,
            memory_used: self.memory_used.clone(),
        }
    }
}

/// How a function's invocations turn out: the k-th one meets the same luck in every run of one seed.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) rng: RngKey,
    duration: Dist,
    failure: f64,
    memory_used: Option<Dist<Mem>>,
}

impl Profile {
    /// The k-th invocation of the function.
    pub fn invocation(&self, function: FunctionId, k: u64, arrival: Time) -> Invocation {
        let intended = self.duration.sample(&mut self.rng.draw(Purpose::Duration, k));
        let fails =
            self.failure > 0.0 && self.rng.draw(Purpose::Failure, k).random_bool(self.failure.min(1.0));
        let usage = self.memory_used.as_ref().map(|d| d.sample(&mut self.rng.draw(Purpose::Memory, k)));
        Invocation { number: 0, function, arrival, intended, fails, usage }
    }
}
