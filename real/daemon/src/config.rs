//! A worker daemon's configuration: one TOML file, `elapse worker CONFIG`.

use super::allowed::Allowed;
use super::credentials::AccessKeys;
use super::peers::ROOM_SHARE;
use elapse::GraphiteConfig;
use elapse::backend::LiveConfig;
use elapse::base::{Duration, Fault, Mem, Result};
use elapse::load::FunctionConfig;
use elapse::worker::{Config, Retry};
use elapse_host::room::Room;
use elapse_host::wire::Address;
use elapse_live::address;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DaemonConfig {
    /// Where the API listens: `127.0.0.1:8480`, or `unix:PATH`. Without it, on a socket in the folder of all daemons.
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
    /// A file with the keys, or the one token, that every request over TCP but `GET /v1/health` must bring. Without one, a
    /// token is made at the first start.
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
    /// What the API may take of memory.
    pub api: ApiConfig,
    /// What who has the role `register` may have registered.
    pub register: Allowed,
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

/// What a socket's mode is where nothing is said: its owner's alone.
pub(super) const SOCKET_MODE: &str = "0600";

/// `[api]` of a daemon: what the API may take of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Bytes that the bodies of requests, as far as they have come, and answers that are not written yet may have together.
    pub room: Mem,
}

impl Default for ApiConfig {
    fn default() -> ApiConfig {
        ApiConfig { room: Mem(64 << 20) }
    }
}

impl ApiConfig {
    /// The room.
    pub(super) fn room(self) -> Room {
        Room::new(usize::try_from(self.room.0).unwrap_or(usize::MAX))
    }

    /// What of it cannot be meant beside a limit for one body.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn check(self, body_limit: Mem) -> Result<()> {
        if body_limit.0 > self.room.0 / ROOM_SHARE as u64 {
            return Err(Fault::usage(format!(
                "[api]: room is {} and body_limit {body_limit}: one peer has half of the room, where not even one body would fit; make \
                 room larger",
                self.room
            )));
        }
        Ok(())
    }
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
            listen: None,
            socket_mode: SOCKET_MODE.into(),
            socket_group: None,
            allow_anonymous: false,
            plaintext: false,
            token_file: None,
            tls_cert: None,
            tls_key: None,
            state: None,
            on_boot: OnBoot::Clean,
            body_limit: Mem(6 << 20),
            concurrent: 1000,
            api: ApiConfig::default(),
            register: Allowed::default(),
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
            name: &self.live.worker,
        }
    }

    /// Files and folders of the worker's own, which no function sees.
    pub(super) fn own_folders(&self) -> Vec<PathBuf> {
        let named =
            [&self.state, &self.token_file, &self.tls_cert, &self.tls_key, &self.controller.token_file];
        let named = named
            .into_iter()
            .flatten()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        named.chain(elapse_host::engine::run_folder().ok()).collect()
    }

    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Fault::usage(why));
        self.worker.check().map_err(|why| Fault::usage(format!("[worker]: {why}")))?;
        elapse_live::backend::check(&self.live).map_err(|why| Fault::usage(format!("[live]: {why}")))?;
        if self.worker.memory.is_none() {
            return wrong("[worker]: memory is not given; write for instance memory = \"16GiB\"".into());
        }
        if self.worker.count != 1 {
            return wrong("[worker]: count is for simulations; a daemon is one worker".into());
        }
        check_concurrent(self.concurrent, self.body_limit)?;
        self.prewarm.check().map_err(|why| Fault::usage(format!("[prewarm]: {why}")))?;
        self.api.check(self.body_limit)?;
        self.register.check().map_err(|why| Fault::usage(format!("[register]: {why}")))?;
        if self.on_boot == OnBoot::Recover && self.state.is_none() {
            return wrong(
                "on_boot = \"recover\" needs to know what there was; name a folder (state), or write \"clean\"".into(),
            );
        }
        self.controller
            .check(self.registration)
            .map_err(|why| Fault::usage(format!("[controller]: {why}")))?;
        self.graphite.check_of_daemon().map_err(|why| Fault::usage(format!("[graphite]: {why}")))?;
        self.access_keys().check()?;
        self.functions.iter().try_for_each(check_function)
    }

    /// Where others reach the API that listens there, as far as the worker knows.
    pub(super) fn own_address(&self, place: &Address) -> String {
        match (&self.controller.advertise, place) {
            (Some(address), _) => address.clone(),
            (None, Address::Unix(path)) => format!("unix:{}", path.display()),
            // As an address, however it is written.
            (None, place) if self.tls_cert.is_some() => format!("https://{place}"),
            (None, place) => place.to_string(),
        }
    }
}

/// Invocations that may be on their way at once: more than any host has threads and descriptors for is not meant.
const MOST_CONCURRENT: usize = 1_000_000;

/// Refuses numbers with which no daemon could serve.
pub(super) fn check_concurrent(concurrent: usize, body_limit: Mem) -> Result<()> {
    if concurrent == 0 || body_limit == Mem(0) {
        return Err(Fault::usage("concurrent and body_limit are above 0"));
    }
    if concurrent > MOST_CONCURRENT {
        return Err(Fault::usage(format!("concurrent is {concurrent}; it is at most {MOST_CONCURRENT}")));
    }
    Ok(())
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
