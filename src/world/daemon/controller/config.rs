//! A controller daemon's configuration: one TOML file, `elapse controller CONFIG`.

use super::super::config::{check_function, check_listen};
use super::super::doors::DoorFiles;
use crate::base::{Duration, Fault, Mem, Result};
use crate::controller::balancer;
use crate::load::FunctionConfig;
use crate::world::graphite::GraphiteConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// Where the API listens: `127.0.0.1:8470`, or `unix:/run/elapse/controller.sock`.
    pub listen: String,
    /// A file with the bearer token that clients and workers must bring.
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
    /// Bytes that a request's body may have.
    pub body_limit: Mem,
    /// Invocations that may be on their way at once; further ones get 429.
    pub concurrent: usize,
    /// The seed of what is random.
    pub seed: u64,
    /// Which worker an invocation goes to: round-robin, least-loaded, power-of-two, locality.
    pub balancer: String,
    /// A worker that was not heard of for this long is lost.
    pub lost_after: Duration,
    /// What becomes of an invocation whose worker is lost.
    pub on_loss: OnLoss,
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

/// What becomes of an invocation whose worker is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// It is answered as lost: it may have run, and does not run again.
    #[default]
    Fail,
    /// It is sent to another worker under its request id, as its next attempt: it may run twice, and says so.
    Retry,
}

impl Default for ControllerConfig {
    fn default() -> ControllerConfig {
        ControllerConfig {
            listen: "127.0.0.1:8470".into(),
            token_file: None,
            tls_cert: None,
            tls_key: None,
            worker_ca_file: None,
            worker_token_file: None,
            body_limit: Mem(6 << 20),
            concurrent: 1000,
            seed: 1,
            balancer: crate::controller::Config::default().balancer,
            lost_after: Duration::from_secs(5),
            on_loss: OnLoss::Fail,
            attempts: 2,
            drain: Duration::from_secs(30),
            state: None,
            graphite: GraphiteConfig::default(),
            functions: Vec::new(),
        }
    }
}

impl ControllerConfig {
    /// The files that guard the API.
    pub(super) fn door_files(&self) -> DoorFiles<'_> {
        DoorFiles { token: &self.token_file, certificate: &self.tls_cert, key: &self.tls_key }
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        balancer::check(&self.balancer).map_err(Fault::usage)?;
        if self.concurrent == 0 || self.body_limit == Mem(0) || self.attempts == 0 {
            return wrong("concurrent, body_limit and attempts are above 0".into());
        }
        if self.lost_after == Duration::ZERO {
            return wrong("lost_after is 0s; it is a few heartbeats, for instance 5s".into());
        }
        self.graphite.check_of_daemon().map_err(|why| Fault::usage(format!("[graphite]: {why}")))?;
        check_listen(&self.listen, self.token_file.is_some(), (&self.tls_cert, &self.tls_key))?;
        self.functions.iter().try_for_each(check_function)
    }
}
