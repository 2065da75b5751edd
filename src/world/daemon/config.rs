//! A worker daemon's configuration: one TOML file, `elapse worker CONFIG`.

use crate::backend::LiveConfig;
use crate::base::{Fault, Mem, Result};
use crate::load::FunctionConfig;
use crate::worker::{Config, Retry};
use elapse_real::wire::Address;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonConfig {
    /// Where the API listens: `127.0.0.1:8480`, or `unix:/run/elapse/api.sock`.
    pub listen: String,
    /// A file with the bearer token that every request but `GET /v1/health` must bring. Without one, only loopback and
    /// unix sockets are listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Bytes that a request's body may have.
    pub body_limit: Mem,
    /// Invocations that may be on their way at once, the queue's included; further ones get 429.
    pub concurrent: usize,
    /// The seed of what is random: jitter, and durations of functions that have no program of their own.
    pub seed: u64,
    /// The worker.
    pub worker: Config,
    /// Its name on this host, its agent, its daemons' sockets.
    pub live: LiveConfig,
    /// Attempts at creations ahead of need.
    pub prewarm: Retry,
    /// Functions that are registered at the start.
    #[serde(rename = "function", skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionConfig>,
}

impl Default for DaemonConfig {
    fn default() -> DaemonConfig {
        DaemonConfig {
            listen: "127.0.0.1:8480".into(),
            token_file: None,
            body_limit: Mem(6 << 20),
            concurrent: 1000,
            seed: 1,
            worker: Config::default(),
            live: LiveConfig::default(),
            prewarm: Retry::default(),
            functions: Vec::new(),
        }
    }
}

impl DaemonConfig {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        self.worker.check().map_err(|why| Fault::usage(format!("[worker]: {why}")))?;
        self.live.check().map_err(|why| Fault::usage(format!("[live]: {why}")))?;
        if self.worker.memory.is_none() {
            return wrong("[worker]: memory is not given; write for instance memory = \"16GiB\"".into());
        }
        if self.worker.count != 1 {
            return wrong("[worker]: count is for simulations; a daemon is one worker".into());
        }
        if self.concurrent == 0 || self.body_limit == Mem(0) {
            return wrong("concurrent and body_limit are above 0".into());
        }
        if let Address::Tcp(at) = address(&self.listen)?
            && !at.ip().is_loopback()
            && self.token_file.is_none()
        {
            return wrong(format!(
                "listen = \"{at}\" is open to other hosts and there is no token_file; name one, or listen on 127.0.0.1"
            ));
        }
        self.functions.iter().try_for_each(check_function)
    }
}

/// What of a function cannot be meant where it is called from outside.
pub(super) fn check_function(function: &FunctionConfig) -> Result<()> {
    function.check().map_err(Fault::usage)?;
    let name = &function.name;
    if function.load.is_some() || function.count != 1 {
        return Err(Fault::usage(format!(
            "function '{name}': load and count belong into a scenario; a daemon's functions are called from outside"
        )));
    }
    if name.contains(['/', '?', '#', '%']) || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Fault::usage(format!(
            "function '{name}': its name is part of a path; leave out spaces and /, ?, #, %"
        )));
    }
    Ok(())
}

/// An address of the API as it is written: `unix:PATH`, `HOST:PORT` with an IP address, or a URL of one.
///
/// # Errors
/// If it is neither.
pub fn address(text: &str) -> Result<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() || path.len() > 107 {
            return Err(Fault::usage(format!("'{text}': a unix socket's path has 1 to 107 bytes")));
        }
        return Ok(Address::Unix(path.into()));
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let numeric = plain.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map(Address::Tcp).map_err(|_| {
        Fault::usage(format!(
            "'{text}' is no address; write for instance 127.0.0.1:8480 or unix:/run/elapse/api.sock"
        ))
    })
}
