//! What only a live run needs to know: names, sockets and limits of this host.

use crate::base::{Behaviour, Duration, Mem};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A scenario's `[live]`: what only a live run needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveConfig {
    /// The worker's name on this host: in paths, cgroups, namespaces and labels.
    pub worker: String,
    /// What invocations of functions do that name no behaviour of their own, for instance those of a trace.
    pub behaviour: Behaviour,
    /// What the code of those functions takes in a new container before it is ready, for those that do not say it themselves.
    pub init: Duration,
    /// Our agent, for containers that need it; beside the program if none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<PathBuf>,
    /// Longest time until a new container answers.
    pub create_timeout: Duration,
    /// Processes and threads that a container may have; 0 for any number.
    pub pids: u32,
    /// containerd's socket.
    pub containerd: PathBuf,
    /// What containerd starts containers with.
    pub runtime: OciRuntime,
    /// docker's socket.
    pub docker: PathBuf,
    /// Of each kind of container that functions have on containerd, how many are created ahead and only started on demand.
    pub pooled: u32,
    /// Users of this host, `FIRST-LAST`, of which each sandbox of the process backend has one of its own, as root.
    pub uids: String,
    /// Bytes that an image may have, packed and unpacked.
    pub image_size: Mem,
    /// What the sandboxes of the process backend are to be, where functions come through an API.
    pub sandbox: Sandboxing,
    /// Measures that a kernel may lack and sandboxes of the process backend then do without.
    pub weaker: Vec<String>,
    /// Whether containers with a network of their own may begin connections to this host.
    pub reach_host: bool,
    /// IPv4 addresses that the worker's bridges take theirs from.
    pub subnet: String,
    /// Namespaces that are kept ready, once a function has a network of its own.
    pub networks: u32,
}

/// What the sandboxes of the process backend are to be, where functions come through an API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandboxing {
    /// Isolated from the host: where that cannot be, nothing is registered.
    #[default]
    Isolated,
    /// Plain processes of the worker's own user, where nothing better can be.
    None,
}

/// What a daemon starts containers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OciRuntime {
    /// The reference.
    #[default]
    Runc,
    /// The one in C, which starts faster.
    Crun,
}

impl OciRuntime {
    /// Its program.
    pub fn word(self) -> &'static str {
        match self {
            OciRuntime::Runc => "runc",
            OciRuntime::Crun => "crun",
        }
    }
}

impl Default for LiveConfig {
    fn default() -> LiveConfig {
        LiveConfig {
            worker: "live".into(),
            behaviour: Behaviour::Sleep,
            init: Duration::ZERO,
            agent: None,
            create_timeout: Duration::from_secs(30),
            pids: 512,
            containerd: "/run/containerd/containerd.sock".into(),
            runtime: OciRuntime::Runc,
            docker: "/var/run/docker.sock".into(),
            pooled: 0,
            uids: "200000-265535".into(),
            image_size: Mem::from_mib(16 << 10),
            sandbox: Sandboxing::Isolated,
            weaker: Vec::new(),
            reach_host: false,
            subnet: "10.231.0.0/16".into(),
            networks: 4,
        }
    }
}

impl LiveConfig {
    /// What cannot be meant on any host.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        // It becomes part of socket paths and interface names, which are short.
        const LONGEST: usize = 20;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.worker.is_empty() || self.worker.len() > LONGEST || !self.worker.chars().all(plain) {
            return Err(format!(
                "worker is '{}'; it is 1 to {LONGEST} lower-case letters, digits and hyphens",
                self.worker
            ));
        }
        if matches!(self.behaviour, Behaviour::Exec | Behaviour::Serve) {
            return Err(format!(
                "behaviour is {}, which needs a command; give it to the functions that have one",
                self.behaviour.word()
            ));
        }
        Ok(())
    }
}
