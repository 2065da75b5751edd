//! What the keys of the daemons' configurations mean that no scenario has, or that mean something else there.

use super::config::DaemonConfig;
use super::controller::ControllerConfig;
use elapse::base::Result;
use elapse::keys::{Doc, Documented, key, open};
use elapse::{Overrides, Plan, USUAL_TIMEOUT, read_plan};
use std::path::Path;

/// Rows that both daemons have.
const SOCKET_MODE: Doc = key("socket_mode", "the mode of its unix socket, in octal");
const SOCKET_GROUP: Doc = open(
    "socket_group",
    "the group of its unix socket: members that the mode lets in may call functions",
    "that of the process",
    "\"elapse\"",
);
const ALLOW_ANONYMOUS: Doc = key(
    "allow_anonymous",
    "whether whoever reaches it over TCP on this host may do everything, without a token",
);
const PLAINTEXT: Doc = key(
    "plaintext",
    "whether it may be reached from other hosts without TLS, tokens being read by whoever listens in",
);

/// Those of a worker.
const WORKER: &[Doc] = &[
    open(
        "listen",
        "where the API listens: HOST:PORT, or unix:PATH",
        "a unix socket in the folder of all daemons: /run/elapse/NAME/api.sock, without root below $XDG_RUNTIME_DIR",
        "\"127.0.0.1:8480\"",
    ),
    SOCKET_MODE,
    SOCKET_GROUP,
    ALLOW_ANONYMOUS,
    PLAINTEXT,
    open(
        "token_file",
        "a file with the keys (ROLE SHA256HEX [NAME] [functions=GLOB] a line), or the token, that requests over TCP must bring",
        "over TCP a token is made at the first start, and its file told in the log",
        "\"/etc/elapse/token\"",
    ),
    open(
        "tls_cert",
        "a PEM file with the API's certificate: clients come over TLS",
        "no TLS",
        "\"cert.pem\"",
    ),
    open("tls_key", "a PEM file with its private key", "", "\"key.pem\""),
    open(
        "state",
        "a folder for what outlives it: registered functions, and which containers there are",
        "only this file's functions come back",
        "\"/var/lib/elapse/worker-0\"",
    ),
    key(
        "on_boot",
        "what becomes at its start of the containers that an earlier life left: clean removes them, recover takes them over",
    ),
    key("body_limit", "bytes that a request's body may have"),
    key("api", "what the API may take of memory"),
    key(
        "api.room",
        "bytes that bodies of requests, as far as they have come, and answers that are not written may have together",
    ),
    key(
        "concurrent",
        "invocations that may be on their way at once, the queue's included; further ones get 429",
    ),
    key(
        "register",
        "what who has the role `register` may have registered; the file's own functions and `operate` are not bound by it",
    ),
    key("register.registries", "registries whose images may run, by host (and :port)"),
    key(
        "register.code_roots",
        "folders below which a function's code may lie; it is not to lead out of them through a link",
    ),
    key("register.host_network", "whether a function may have the host's network"),
    key("register.devices", "whether a function may have a GPU"),
    key("seed", "seed of what is random: jitter, durations of functions without a program"),
    key(
        "registration",
        "off, or required: it registers with the controller before it is ready, or ends with exit code 5",
    ),
    key("controller", "the controller that it registers with"),
    open("controller.address", "its address", "none", "\"127.0.0.1:8470\""),
    open("controller.token_file", "a file with the token that it asks for", "none", "\"token\""),
    open(
        "controller.ca_file",
        "a PEM file with the authorities that are believed where it is at https://",
        "those of the public web",
        "\"ca.pem\"",
    ),
    open("controller.advertise", "where it reaches the worker", "`listen`", "\"10.0.0.7:8480\""),
    key("controller.attempts", "attempts to register before the worker ends"),
    key("controller.backoff", "pause after the first that failed; doubles with each, up to 30s"),
    key("controller.patience", "longest wait for an answer"),
    key("controller.heartbeat", "between two heartbeats"),
];

/// Those of a controller.
const CONTROLLER: &[Doc] = &[
    open(
        "listen",
        "where the API listens: HOST:PORT, or unix:PATH",
        "a unix socket in the folder of all daemons: /run/elapse/NAME/api.sock, without root below $XDG_RUNTIME_DIR",
        "\"127.0.0.1:8470\"",
    ),
    SOCKET_MODE,
    SOCKET_GROUP,
    ALLOW_ANONYMOUS,
    PLAINTEXT,
    open(
        "workers_from",
        "where workers may be beside the addresses that they come from: networks, names of hosts, folders of sockets",
        "this host's daemons, and the addresses that workers come from",
        "[\"10.0.0.0/8\"]",
    ),
    open(
        "token_file",
        "a file with the keys (ROLE SHA256HEX [NAME] [functions=GLOB] a line), or the token, that clients and workers must bring over TCP",
        "over TCP a token is made at the first start, and its file told in the log",
        "\"/etc/elapse/token\"",
    ),
    open(
        "tls_cert",
        "a PEM file with the API's certificate: clients and workers come over TLS",
        "no TLS",
        "\"cert.pem\"",
    ),
    open("tls_key", "a PEM file with its private key", "", "\"key.pem\""),
    open(
        "worker_ca_file",
        "a PEM file with the authorities that are believed where workers are at https://",
        "those of the public web",
        "\"ca.pem\"",
    ),
    open(
        "worker_token_file",
        "a file with the token that workers ask for",
        "the controller's own",
        "\"token\"",
    ),
    key("body_limit", "bytes that a request's body may have"),
    key("api", "what the API may take of memory"),
    key(
        "api.room",
        "bytes that bodies of requests, as far as they have come, and answers that are not written may have together",
    ),
    key("concurrent", "invocations that may be on their way at once; further ones get 429"),
    key(
        "register",
        "what who has the role `register` may have registered; the file's own functions and `operate` are not bound by it",
    ),
    key("register.registries", "registries whose images may run, by host (and :port)"),
    key(
        "register.code_roots",
        "folders below which a function's code may lie; it is not to lead out of them through a link",
    ),
    key("register.host_network", "whether a function may have the host's network"),
    key("register.devices", "whether a function may have a GPU"),
    key("seed", "seed of what is random"),
    key("balancer", "which worker an invocation goes to"),
    key("lost_after", "a worker that was not heard of for so long is lost"),
    key(
        "on_loss",
        "an invocation whose worker is lost: fail answers it as lost, retry sends it to another worker",
    ),
    key(
        "attempt_timeout",
        "longest wait for a worker's answer to an invocation, its queue included; then it is lost, though the worker is heard of",
    ),
    key("attempts", "attempts at an invocation, the first included, where on_loss is retry"),
    key("drain", "longest wait, when it ends, for what is under way"),
    open(
        "state",
        "a folder for the functions that were registered with it",
        "only this file's functions come back",
        "\"/var/lib/elapse-controller/main\"",
    ),
];

impl Documented for DaemonConfig {
    const OWN: &'static [Doc] = WORKER;
    const LEAST: &'static str = "[[function]]\nname = ''\nmemory = '1MiB'\nduration = '0s'\n";
    const EXAMPLE: &'static str = "[worker]\nmemory = '1GiB'\n";
    const WHAT: &'static str = "a worker's configuration";
}

impl Documented for ControllerConfig {
    const OWN: &'static [Doc] = CONTROLLER;
    const LEAST: &'static str = "[[function]]\nname = ''\nmemory = '1MiB'\nduration = '0s'\n";
    const EXAMPLE: &'static str = "";
    const WHAT: &'static str = "a controller's configuration";
}

impl Plan for DaemonConfig {
    fn check(&self) -> Result<()> {
        DaemonConfig::check(self)
    }
}

impl Plan for ControllerConfig {
    fn check(&self) -> Result<()> {
        ControllerConfig::check(self)
    }
}

/// The effective configuration of a worker.
///
/// # Errors
/// Says which key cannot be meant, and where it stands.
pub fn load_daemon(file: &Path, overrides: &Overrides) -> Result<DaemonConfig> {
    let mut config: DaemonConfig = read_plan(file, overrides)?;
    config.worker.timeout.get_or_insert(USUAL_TIMEOUT);
    Ok(config)
}

/// The effective configuration of a controller.
///
/// # Errors
/// Says which key cannot be meant, and where it stands.
pub fn load_controller(file: &Path, overrides: &Overrides) -> Result<ControllerConfig> {
    read_plan(file, overrides)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elapse::keys::faults_of;

    #[test]
    fn every_key_has_its_row_and_every_row_its_key() {
        assert_eq!(faults_of::<DaemonConfig>(), Vec::<String>::new());
        assert_eq!(faults_of::<ControllerConfig>(), Vec::<String>::new());
    }
}
