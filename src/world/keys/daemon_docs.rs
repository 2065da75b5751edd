//! What the keys of the daemons' configurations mean that no scenario has, or that mean something else there.

use super::docs::{Doc, key, open};

/// Those of a worker.
pub const WORKER: &[Doc] = &[
    key("listen", "where the API listens: HOST:PORT, or unix:PATH"),
    open(
        "token_file",
        "a file with the bearer token that every request but GET /v1/health must bring",
        "none, and only loopback and unix sockets are listened on",
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
    key(
        "concurrent",
        "invocations that may be on their way at once, the queue's included; further ones get 429",
    ),
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
pub const CONTROLLER: &[Doc] = &[
    key("listen", "where the API listens: HOST:PORT, or unix:PATH"),
    open(
        "token_file",
        "a file with the bearer token that clients and workers must bring",
        "none, and only loopback and unix sockets are listened on",
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
    key("concurrent", "invocations that may be on their way at once; further ones get 429"),
    key("seed", "seed of what is random"),
    key("balancer", "which worker an invocation goes to"),
    key("lost_after", "a worker that was not heard of for so long is lost"),
    key(
        "on_loss",
        "an invocation whose worker is lost: fail answers it as lost, retry sends it to another worker",
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
