//! A controller and its workers, for tests of fleets.
#![allow(clippy::disallowed_methods, reason = "it waits for other processes")]

use super::containers::agent;
use super::daemon::Daemon;
use super::{has, program};
use serde_json::Value;
use std::process::{Child, Command, Stdio};

pub fn can(test: &str) -> bool {
    has("process", test, agent().exists() && program("kill"))
}

pub const REQUIRED: &str = "registration = \"required\"";

pub fn membership(controller: &Daemon) -> String {
    format!(
        "[controller]\naddress = \"{}\"\nheartbeat = \"100ms\"\nattempts = 2\nbackoff = \"50ms\"",
        controller.at
    )
}

pub fn worker(test: &str, controller: &Daemon) -> Daemon {
    Daemon::worker(test, REQUIRED, &membership(controller))
}

/// Quick to lose a worker, so that tests are short; functions that both workers have.
pub fn controller(test: &str, top: &str) -> Daemon {
    let functions = ["echo", "slow"].map(|name| {
        let behaviour = if name == "slow" { "sleep" } else { "echo" };
        format!("[[function]]\nname = \"{name}\"\nmemory = \"64MiB\"\nduration = \"1s\"\nbehaviour = \"{behaviour}\"\n")
    });
    Daemon::controller(test, &format!("lost_after = \"1s\"\n{top}\n{}", functions.concat()))
}

pub fn health(controller: &Daemon, worker: &str) -> String {
    let workers = controller.json(&["workers"]);
    let of = |w: &&Value| w["name"] == worker;
    let found = workers["workers"].as_array().into_iter().flatten().find(of);
    found.and_then(|w| w["status"].as_str()).unwrap_or("unknown").to_string()
}

pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub fn invoke(controller: &Daemon, function: &str, more: &str) -> String {
    controller
        .raw(&format!("POST /v1/functions/{function}/invoke HTTP/1.0\r\n{more}content-length: 3\r\n\r\nabc"))
}

pub fn started(controller: &Daemon, function: &str) -> Child {
    let mut command = Command::new(crate::common::elapse());
    command.args(["invoke", function, "--at", &controller.at]).stderr(Stdio::piped()).stdout(Stdio::null());
    command.spawn().expect("a client")
}

pub fn has_one(controller: &Daemon, worker: &str) -> bool {
    let workers = controller.json(&["workers"]);
    let mut all = workers["workers"].as_array().into_iter().flatten();
    all.any(|w| w["name"] == worker && w["invocations"] == 1)
}
