//! A controller daemon's configuration: one TOML file, `elapse controller CONFIG`.

use super::super::allowed::Allowed;
use super::super::config::{ApiConfig, SOCKET_MODE, check_concurrent, check_function};
use super::super::credentials::{AccessKeys, CONTROLLER};
use super::sources::Sources;
use elapse::GraphiteConfig;
use elapse::base::{Duration, Fault, Mem, PolicyConfig, Result};
use elapse::controller::{OnLoss, balancer};
use elapse::load::FunctionConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// Where the API listens: `127.0.0.1:8470`, or `unix:PATH`. Without it, on a socket in the folder of all daemons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// The mode of the API's unix socket, in octal.
    pub socket_mode: String,
    /// The group of the API's unix socket, whose members may call functions; that of the process without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_group: Option<String>,
    /// Whether over TCP nobody has to bring a token.
    pub allow_anonymous: bool,
    /// Whether tokens may go to other hosts without TLS.
    pub plaintext: bool,
    /// A file with the keys, or the one token, that clients and workers must bring over TCP. Without one, a token is made at the
    /// first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the certificate that the API shows, its chain below it: with it, clients and workers come over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// A PEM file with the authorities that are believed where workers are at https://; without one, the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_ca_file: Option<PathBuf>,
    /// A file with the token that workers ask for; the controller's own where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_token_file: Option<PathBuf>,
    /// Where workers may be reached beside the address that they come from and the sockets of this host's own daemons: networks
    /// (`10.0.0.0/8`), names of hosts, folders of sockets (`unix:/run/fleet`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workers_from: Vec<String>,
    /// Bytes that a request's body may have.
    pub body_limit: Mem,
    /// Invocations that may be on their way at once; further ones get 429.
    pub concurrent: usize,
    /// What the API may take of memory.
    pub api: ApiConfig,
    /// What who has the role `register` may have registered.
    pub register: Allowed,
    /// The seed of what is random.
    pub seed: u64,
    /// Which worker an invocation goes to: round-robin, least-loaded, power-of-two, locality.
    pub balancer: PolicyConfig,
    /// A worker that was not heard of for this long is lost.
    pub lost_after: Duration,
    /// What becomes of an invocation whose worker is lost.
    pub on_loss: OnLoss,
    /// How long a worker may take to answer an invocation, its queue included; then the invocation is lost with it, though the
    /// worker is heard of.
    pub attempt_timeout: Duration,
    /// Attempts at an invocation, the first included, where `on_loss` is `retry`.
    pub attempts: u32,
    /// How long the controller waits, when it ends, for what is under way.
    pub drain: Duration,
    /// A folder of the controller's own, for the functions that were registered with it. Without one, only those of this
    /// file come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Where its metrics go, as `elapse.daemon.controller.`; nowhere without `carbon`.
    pub graphite: GraphiteConfig,
    /// Functions that every worker is told.
    #[serde(rename = "function", skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionConfig>,
}

impl Default for ControllerConfig {
    fn default() -> ControllerConfig {
        ControllerConfig {
            listen: None,
            socket_mode: SOCKET_MODE.into(),
            socket_group: None,
            allow_anonymous: false,
            plaintext: false,
            workers_from: Vec::new(),
            token_file: None,
            tls_cert: None,
            tls_key: None,
            worker_ca_file: None,
            worker_token_file: None,
            body_limit: Mem(6 << 20),
            concurrent: 1000,
            api: ApiConfig::default(),
            register: Allowed::default(),
            seed: 1,
            balancer: elapse::controller::Config::default().balancer,
            lost_after: Duration::from_secs(5),
            on_loss: OnLoss::Fail,
            attempt_timeout: Duration::from_secs(15 * 60),
            attempts: 2,
            drain: Duration::from_secs(30),
            state: None,
            graphite: GraphiteConfig::default(),
            functions: Vec::new(),
        }
    }
}

impl ControllerConfig {
    /// What guards the API.
    pub(super) fn access_keys(&self) -> AccessKeys<'_> {
        AccessKeys {
            listen: self.listen.as_deref(),
            socket_mode: &self.socket_mode,
            socket_group: self.socket_group.as_deref(),
            token: self.token_file.as_deref(),
            allow_anonymous: self.allow_anonymous,
            plaintext: self.plaintext,
            certificate: self.tls_cert.as_deref(),
            key: self.tls_key.as_deref(),
            state: self.state.as_deref(),
            name: CONTROLLER,
        }
    }

    /// Where workers are dialled, beside their peers' own addresses.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn sources(&self) -> Result<Sources> {
        Sources::of(&self.workers_from).map_err(|why| Fault::usage(format!("workers_from: {why}")))
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        balancer::check(&self.balancer).map_err(Fault::usage)?;
        check_concurrent(self.concurrent, self.body_limit)?;
        if self.attempts == 0 {
            return wrong("attempts is 0; it is at least 1".into());
        }
        self.api.check(self.body_limit)?;
        self.register.check().map_err(|why| Fault::usage(format!("[register]: {why}")))?;
        if self.lost_after == Duration::ZERO {
            return wrong("lost_after is 0s; it is a few heartbeats, for instance 5s".into());
        }
        self.graphite.check_of_daemon().map_err(|why| Fault::usage(format!("[graphite]: {why}")))?;
        self.access_keys().check()?;
        self.sources()?;
        self.functions.iter().try_for_each(check_function)
    }
}
