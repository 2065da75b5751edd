//! What a platform knows of a function before it has run.

use super::{Cpus, Dist, Duration, Mem};
use serde::{Deserialize, Serialize};

/// A function's place in the list of a run: 0, 1, 2 ... in order of registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

impl FunctionId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who shares a container: the invocations of one function, or those of all functions of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A container serves one function (OpenWhisk, Ilúvatar, Knative).
    #[default]
    Function,
    /// A container serves every function of its app (Azure Functions).
    App,
}

/// A function as it is registered with a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionSpec {
    /// Unique name.
    pub name: String,
    /// The app it belongs to; its own name where the source knows no apps.
    pub app: String,
    /// Memory reserved for a container.
    pub memory: Mem,
    /// Processor permits that an invocation holds.
    pub cpus: Cpus,
    /// Invocations that a container takes at once, at least 1.
    pub concurrency: u32,
    /// How long an idle container is kept; the worker's value where none is given.
    pub keep_alive: Option<Duration>,
    /// Longest execution; the worker's value where none is given.
    pub timeout: Option<Duration>,
    /// Time after arrival by which it should have returned, for deadline-aware queues.
    pub deadline: Option<Duration>,
    /// Time to create a container; the model's value where none is given. Simulation only.
    pub cold_start: Option<Dist>,
    /// Backends it may run on, in order of preference; empty means any.
    pub backends: Vec<String>,
}

impl FunctionSpec {
    /// A function with one cpu, one invocation per container and the worker's defaults for the rest.
    pub fn new(name: impl Into<String>, memory: Mem) -> FunctionSpec {
        let name = name.into();
        FunctionSpec {
            app: name.clone(),
            name,
            memory,
            cpus: Cpus::from_cores(1),
            concurrency: 1,
            keep_alive: None,
            timeout: None,
            deadline: None,
            cold_start: None,
            backends: Vec::new(),
        }
    }
}
