//! Elapse's daemons: a worker (`elapse worker CONFIG`), and a controller in front of several (`elapse controller CONFIG`).
//!
//! ```text
//! worker        the worker's life: it cleans up or takes over, registers, serves, drains
//! controller    a controller's life, its members, and what it asks of them
//! api           requests over HTTP: who may, how many at once, how long bodies are; OpenAPI's description
//! credentials   where the API is reached, and what keeps others out: listener, peers, handshakes, paced, worded, places
//! roles         who may do what, and the audit log of what was done
//! service       what requests come to: functions are registered, called, and told of
//! dispatcher    between the API's thread and the one that decides: orders and their answers
//! allowed       what who may only register may name; outside: what is read of a request that others wrote
//! membership    a worker that takes part in a fleet
//! ending        who wants a daemon's end, and how long that may take
//! reload        what a signal changes while a daemon runs; phase: what the service manager is told
//! state         what a daemon knows across its lives, in a journal; boot: what becomes of an earlier life's containers
//! config        the keys of both, and what they mean (keys)
//! client        commands that ask a daemon
//! ```

#![forbid(unsafe_code)]

mod allowed;
mod api;
mod boot;
mod client;
mod config;
mod controller;
mod credentials;
mod dispatcher;
mod ending;
mod handshakes;
pub mod journal;
mod keys;
mod listener;
mod membership;
mod outside;
mod paced;
mod peers;
mod phase;
mod places;
mod reload;
mod request;
mod roles;
mod service;
mod state;
mod worded;
mod worker;

pub use client::Client;
pub use config::DaemonConfig;
pub use controller::{ControllerConfig, run as controller};
pub use keys::{load_controller, load_daemon};
pub use worker::run as worker;
