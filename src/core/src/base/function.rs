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

/// What an invocation does in our own agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Waits for the intended duration; uses no processor.
    #[default]
    Sleep,
    /// Uses a processor for the intended duration, counted in the thread's own time.
    Spin,
    /// Holds the invocation's memory for the intended duration.
    Alloc,
    /// Gives the body back, after the intended duration.
    Echo,
    /// Runs the function's command.
    Exec,
    /// Asks the function's own server, which its command starts.
    Serve,
}

impl Behaviour {
    /// The word in scenarios and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Behaviour::Sleep => "sleep",
            Behaviour::Spin => "spin",
            Behaviour::Alloc => "alloc",
            Behaviour::Echo => "echo",
            Behaviour::Exec => "exec",
            Behaviour::Serve => "serve",
        }
    }
}

/// How a worker talks to what runs in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Over a unix socket, with our agent in between.
    #[default]
    Unix,
    /// Over TCP on `$PORT`: an image that names no behaviour is a server by itself and has nothing of ours in it; otherwise
    /// our agent listens there.
    Tcp,
}

/// What a function's containers have of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A namespace with nothing but its own loopback.
    None,
    /// A namespace of its own with an address, joined to a bridge of the worker's.
    Bridge,
    /// The host's.
    Host,
}

/// What a function's invocations need beside memory and processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// Nothing.
    #[default]
    Cpu,
    /// A GPU for each container, or a part of one.
    Gpu,
}

/// What runs in a function's containers. The simulator reads `behaviour` alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Program {
    /// What an invocation does; the run's default where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<Behaviour>,
    /// How long our agent takes in a new container before it answers, as code that loads what it needs: processor time where
    /// it spins, else a wait. The run's default where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Duration>,
    /// The container image; our agent alone where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// For `exec` and `serve`: what is run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A folder that its containers see read-only at `/code`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<std::path::PathBuf>,
    /// A folder that `code` lies below and is not to lead out of: it is opened once, beneath this one and through no link.
    #[serde(skip)]
    pub code_root: Option<std::path::PathBuf>,
    /// How its containers are talked to.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// What its containers have of a network; see [`Program::network`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Whether it needs a GPU.
    #[serde(skip_serializing_if = "is_default")]
    pub compute: Compute,
    /// Memory of a GPU that a container needs; one alone where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<Mem>,
    /// Bytes of disk that a container may write; none: its root is read-only, and what it writes is memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writable: Option<Mem>,
}

impl Program {
    /// Whether our agent does in it what each invocation asks for, and not a command or an image.
    pub fn is_agent(&self) -> bool {
        !self.is_server() && self.behaviour != Some(Behaviour::Exec)
    }

    /// Whether it is an HTTP server of its own: an image that listens on its port, or a command that serves.
    pub fn is_server(&self) -> bool {
        match self.behaviour {
            Some(behaviour) => behaviour == Behaviour::Serve,
            None => self.protocol == Protocol::Tcp && self.image.is_some(),
        }
    }

    /// The network as it is given, else none, or one of its own where it is talked to over TCP.
    pub fn network(&self) -> Network {
        self.network.unwrap_or(match self.protocol {
            Protocol::Unix => Network::None,
            Protocol::Tcp => Network::Bridge,
        })
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
    /// What runs in its containers.
    pub program: Program,
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
            program: Program::default(),
        }
    }
}
