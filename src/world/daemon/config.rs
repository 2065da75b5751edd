//! A worker daemon's configuration: one TOML file, `elapse worker CONFIG`.

use super::doors::DoorFiles;
use crate::backend::LiveConfig;
use crate::base::{Duration, Fault, Mem, Result};
use crate::load::FunctionConfig;
use crate::worker::{Config, Retry};
use crate::world::graphite::GraphiteConfig;
use elapse_real::tls::Trust;
use elapse_real::wire::{Address, Peer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    /// A PEM file with the certificate that the API shows, its chain below it: with it, clients come over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// A folder of the worker's own, for what outlives it: functions that were registered, and which containers there are.
    /// Without one, only the functions of this file come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// What becomes at the start of the containers that an earlier life left.
    pub on_boot: OnBoot,
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
    /// Whether the worker registers with a controller. Required: it ends (exit 5) when that is attempted and fails.
    pub registration: Registration,
    /// The controller that it registers with.
    pub controller: Membership,
    /// Where its metrics go, as `elapse.daemon.NAME.`; nowhere without `carbon`.
    pub graphite: GraphiteConfig,
    /// Functions that are registered at the start.
    #[serde(rename = "function", skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionConfig>,
}

/// What becomes at the start of the containers that an earlier life left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBoot {
    /// All are removed. Containers of the process backend die with the worker.
    #[default]
    Clean,
    /// Those that live and answer are taken over, warm; the rest is removed.
    Recover,
}

/// Whether a worker registers with a controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// It does not, and says nothing of it.
    #[default]
    Off,
    /// It does before it is ready, or ends.
    Required,
}

/// `[controller]` of a worker: where it registers and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Membership {
    /// The controller's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A file with the token that the controller asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the authorities that are believed where the controller is at https://; without one, the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Where the controller reaches the worker; the worker's own `listen` where nothing else is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Attempts to register before the worker ends.
    pub attempts: u32,
    /// Pause after the first attempt that failed; doubles with each, up to 30 s, and jitters by a half.
    pub backoff: Duration,
    /// Longest wait for an answer of the controller.
    pub patience: Duration,
    /// Between two heartbeats.
    pub heartbeat: Duration,
}

impl Default for Membership {
    fn default() -> Membership {
        Membership {
            address: None,
            token_file: None,
            ca_file: None,
            advertise: None,
            attempts: 5,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(10),
            heartbeat: Duration::from_secs(1),
        }
    }
}

impl Membership {
    fn check(&self, registration: Registration) -> Result<(), String> {
        if registration == Registration::Required && self.address.is_none() {
            return Err("registration is required and there is no address; name the controller's, or set registration \
                        = \"off\""
                .into());
        }
        for at in self.address.iter().chain(&self.advertise) {
            address(at).map_err(|fault| fault.to_string())?;
        }
        if self.attempts == 0 {
            return Err("attempts is 0; it is at least 1".into());
        }
        for (span, what) in [(self.heartbeat, "heartbeat"), (self.patience, "patience")] {
            if span == Duration::ZERO {
                return Err(format!("{what} is 0s; it is above 0"));
            }
        }
        Ok(())
    }
}

impl Default for DaemonConfig {
    fn default() -> DaemonConfig {
        DaemonConfig {
            listen: "127.0.0.1:8480".into(),
            token_file: None,
            tls_cert: None,
            tls_key: None,
            state: None,
            on_boot: OnBoot::Clean,
            body_limit: Mem(6 << 20),
            concurrent: 1000,
            seed: 1,
            worker: Config::default(),
            live: LiveConfig::default(),
            prewarm: Retry::default(),
            registration: Registration::Off,
            controller: Membership::default(),
            graphite: GraphiteConfig::default(),
            functions: Vec::new(),
        }
    }
}

impl DaemonConfig {
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
        if self.on_boot == OnBoot::Recover && self.state.is_none() {
            return wrong(
                "on_boot = \"recover\" needs to know what there was; name a folder (state), or write \"clean\"".into(),
            );
        }
        self.controller
            .check(self.registration)
            .map_err(|why| Fault::usage(format!("[controller]: {why}")))?;
        self.graphite.check_of_daemon().map_err(|why| Fault::usage(format!("[graphite]: {why}")))?;
        check_listen(&self.listen, self.token_file.is_some(), (&self.tls_cert, &self.tls_key))?;
        self.functions.iter().try_for_each(check_function)
    }

    /// Where others reach the API, as far as the worker knows.
    pub(super) fn own_address(&self) -> String {
        match &self.controller.advertise {
            Some(address) => address.clone(),
            // As an address, however it is written.
            None if self.tls_cert.is_some() => {
                address(&self.listen).map_or_else(|_| self.listen.clone(), |at| format!("https://{at}"))
            }
            None => self.listen.clone(),
        }
    }
}

/// Nothing listens beyond this host without a token.
pub(super) fn check_listen(
    listen: &str,
    token: bool,
    tls: (&Option<PathBuf>, &Option<PathBuf>),
) -> Result<()> {
    let at = address(listen)?;
    match tls {
        (Some(_), Some(_)) if matches!(at, Address::Unix(_)) => {
            return Err(Fault::usage(
                "tls_cert is given and listen is a unix socket, which nobody else can read; leave tls_cert and tls_key out",
            ));
        }
        (Some(_), None) => return Err(Fault::usage("tls_cert is given and tls_key is not; name both")),
        (None, Some(_)) => return Err(Fault::usage("tls_key is given and tls_cert is not; name both")),
        _ => {}
    }
    match at {
        Address::Tls(..) => Err(Fault::usage(format!(
            "listen = \"{listen}\": write HOST:PORT; TLS is switched on by tls_cert and tls_key"
        ))),
        Address::Tcp(at) if !at.ip().is_loopback() && !token => Err(Fault::usage(format!(
            "listen = \"{at}\" is open to other hosts and there is no token_file; name one, or listen on 127.0.0.1"
        ))),
        _ => Ok(()),
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

/// A client of the API at an address. Over TLS it believes the authorities in `ca_file`, or those of the public web.
///
/// # Errors
/// No address, or a file that cannot be read.
pub(in super::super) fn peer(at: &str, ca_file: Option<&Path>) -> Result<Peer> {
    let at = address(at)?;
    let peer = Peer::new(at.clone());
    Ok(match at {
        Address::Tls(..) => peer.trusting(Trust::of(ca_file).map_err(Fault::usage)?),
        Address::Unix(_) | Address::Tcp(_) => peer,
    })
}

/// An address of the API as it is written: `unix:PATH`, `HOST:PORT` with an IP address, or a URL of one; `https://` and the
/// host's name where it is reached over TLS.
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
    if let Some(rest) = text.strip_prefix("https://") {
        let rest = rest.trim_end_matches('/');
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "443"));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        return match port.parse() {
            Ok(port) if !host.is_empty() && !host.contains('/') => Ok(Address::Tls(host.to_string(), port)),
            _ => Err(Fault::usage(format!("'{text}' is no address; write for instance https://host:8480"))),
        };
    }
    let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let numeric = plain.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map(Address::Tcp).map_err(|_| {
        Fault::usage(format!(
            "'{text}' is no address; write for instance 127.0.0.1:8480, unix:/run/elapse/api.sock or https://host:8480"
        ))
    })
}
