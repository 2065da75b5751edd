//! What a worker is told at its start, in a scenario's `[worker]` table or by flags.

use super::{eviction, keep_alive, queue};
use crate::base::{Cpus, Duration, Mem, PolicyConfig};
use crate::rt::supervise::Patience;
use serde::{Deserialize, Serialize};

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Workers like this one, in simulation, behind a controller.
    pub count: u16,
    /// Cores whose permits invocations hold; `"unlimited"` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<Cpus>,
    /// Memory that containers may reserve together; `"unlimited"` for all there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Mem>,
    /// GPUs, of which a container of a function with `compute = "gpu"` takes one, or a part of one.
    pub gpus: u32,
    /// Memory of each GPU, which containers that name how much they need share; each has one alone where this is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Mem>,
    /// Backends, in order of preference. Live only; the simulator models them.
    pub backends: Vec<String>,
    /// How long an idle container is kept: a span, `"forever"`, or a policy.
    #[serde(deserialize_with = "PolicyConfig::span_or_policy")]
    pub keep_alive: PolicyConfig,
    /// Which idle container goes when memory is needed.
    pub eviction: PolicyConfig,
    /// Which invocation is dispatched next.
    pub queue: QueueConfig,
    /// Longest execution; `"forever"` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// What idle containers are charged: what is reserved for them, or what was last measured of them.
    pub accounting: Accounting,
    /// Whether a container may be shared by an app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<crate::base::Unit>,
    /// Whether an invocation waits for the container that is created for it, or takes one that frees up sooner.
    pub dispatch: Dispatch,
    /// Creations that may be under way at once; 0 for any number.
    pub max_creating: u32,
    /// Between two readings of the memory of a container that runs.
    pub memory_check: Duration,
    /// Between two metric snapshots; doubles in a long run.
    pub status: Duration,
    /// Longest wait for running invocations when the worker drains.
    pub drain: Duration,
}

/// The names of a worker's policies, with the parameters that its configuration gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyNames {
    /// Which idle container goes when memory is needed.
    pub eviction: String,
    /// Which invocation is dispatched next.
    pub queue: String,
    /// How long an idle container is kept: a policy, or a span.
    pub keep_alive: String,
}

/// A worker's queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Its policy.
    pub policy: PolicyConfig,
    /// Invocations that may wait; further ones are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Longest wait; after it an invocation is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// When an invocation is bound to a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dispatch {
    /// To the one that is created for it, at dispatch.
    #[default]
    Early,
    /// To the first that is ready, its own or one that frees up.
    Late,
}

/// What the memory of an idle container counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accounting {
    /// What is reserved for it, whatever it does.
    #[default]
    Reserved,
    /// The last reading of its working set while it is idle, at most what is reserved. To run again it needs the difference.
    Measured,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            count: 1,
            cores: None,
            memory: None,
            gpus: 0,
            gpu_memory: None,
            backends: vec!["process".into()],
            keep_alive: "600s".into(),
            eviction: "lru".into(),
            queue: QueueConfig::default(),
            timeout: None,
            accounting: Accounting::Reserved,
            unit: None,
            dispatch: Dispatch::Early,
            max_creating: 0,
            memory_check: Duration::from_secs(1),
            status: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig { policy: "fifo".into(), limit: None, timeout: None }
    }
}

impl Config {
    /// Its backends by name; processes where none is named.
    pub fn backend_names(&self) -> Vec<String> {
        if self.backends.is_empty() { vec!["process".into()] } else { self.backends.clone() }
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.count == 0 {
            return Err("count is 0; it is at least 1".into());
        }
        if self.backends.is_empty() {
            return Err("backends names none; write for instance backends = [\"process\"]".into());
        }
        if let Some(twice) =
            self.backends.iter().enumerate().find_map(|(i, b)| self.backends[..i].contains(b).then_some(b))
        {
            return Err(format!("backends names '{twice}' twice; once is enough"));
        }
        keep_alive::build(&self.keep_alive)?;
        eviction::build(&self.eviction)?;
        queue::build(&self.queue.policy)?;
        let positive = |what: &str, zero: bool| {
            if zero { Err(format!("{what} is 0; it must be above 0")) } else { Ok(()) }
        };
        positive("cores", self.cores == Some(Cpus(0)))?;
        positive("memory", self.memory == Some(Mem(0)))?;
        positive("gpu_memory", self.gpu_memory == Some(Mem(0)))?;
        if self.memory_check < Duration::from_millis(1) {
            return Err(format!("memory_check is {}; it is at least 1ms", self.memory_check));
        }
        positive("status", self.status.0 == 0)?;
        if !self.status.0.is_multiple_of(1_000_000_000) {
            return Err(format!(
                "status is {}; Graphite and metrics.csv know whole seconds only, so it is one of them or more",
                self.status
            ));
        }
        positive("timeout", self.timeout == Some(Duration::ZERO))
    }

    /// How patient the supervisor of the background loops is.
    pub(super) fn patience(&self) -> Patience {
        Patience::default()
    }
}
