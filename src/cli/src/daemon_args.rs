//! The words of daemons and of the commands that talk to them.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = WORKER)]
pub struct WorkerArgs {
    /// Its configuration, TOML or JSON
    pub config: PathBuf,
    /// Set any key of the configuration, for instance worker.keep_alive=1min
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print the effective configuration with every key, its default and what it means, and stop
    #[arg(long)]
    pub print_plan: bool,
}

#[derive(Args)]
#[command(after_help = CONTROLLER)]
pub struct ControllerArgs {
    /// Its configuration, TOML or JSON
    pub config: PathBuf,
    /// Set any key of the configuration, for instance balancer=least-loaded
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print the effective configuration with every key, its default and what it means, and stop
    #[arg(long)]
    pub print_plan: bool,
}

const CONTROLLER: &str = "\
A configuration:
  listen = \"127.0.0.1:8470\"          # without it, a unix socket in /run/elapse/controller
  balancer = \"locality\"              # round-robin, least-loaded, power-of-two
  lost_after = \"5s\"                  # a worker that was not heard of for so long
  on_loss = \"fail\"                   # or retry: elsewhere, as the next attempt, at most `attempts`
A worker registers with it by, in its own configuration:
  registration = \"required\"          # or off; required and refused, the worker ends with 5
  [controller]
  address = \"127.0.0.1:8470\"";

const WORKER: &str = "\
A configuration:
  listen = \"127.0.0.1:8480\"          # without it, a unix socket in /run/elapse/NAME
  [worker]                             # as in a scenario
  memory = \"16GiB\"
  backends = [\"process\"]
  [live]
  worker = \"worker-0\"
  [[function]]                         # as in a scenario, without a load; or by elapse register
  name = \"hello\"
  memory = \"64MiB\"
  duration = \"5ms\"

SIGTERM drains it: what was admitted is finished, its containers are removed, it exits with 0. Under systemd it tells when it is \
ready. Metrics for Prometheus are at /metrics. Who may register a function runs code on this host: by default root alone may ask for \
anything, and README (Operated) and docs/security.md say how others are let in and what holds their code.";

/// Which running daemon is meant.
#[derive(Args)]
pub struct AtArgs {
    /// Where it listens: HOST:PORT, unix:PATH, or https://HOST:PORT; without it, the only daemon that has a socket in the folder
    /// of all daemons (/run/elapse)
    #[arg(long, value_name = "ADDRESS")]
    pub at: Option<String>,
    /// The file with its bearer token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the authorities that are believed at https://; without it, those of the public web
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Give up when it has not answered for this long; by default 30s, and for what takes as long as it takes (register,
    /// prewarm, invoke) 15min
    #[arg(long, value_name = "SPAN")]
    pub timeout: Option<String>,
}

#[derive(Args)]
pub struct ResultArgs {
    /// The id that the invocation was given when it was begun
    pub id: String,
    #[command(flatten)]
    pub at: AtArgs,
}

#[derive(Args)]
pub struct RegisterArgs {
    /// A file with the function as in a scenario's [[function]]: TOML, or JSON
    pub file: PathBuf,
    #[command(flatten)]
    pub at: AtArgs,
}

#[derive(Args)]
pub struct NamedArgs {
    /// The function
    pub function: String,
    #[command(flatten)]
    pub at: AtArgs,
}

#[derive(Args)]
pub struct InvokeArgs {
    #[command(flatten)]
    pub named: NamedArgs,
    /// What it is given
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    pub body: Option<String>,
    /// A file with what it is given
    #[arg(long, value_name = "FILE")]
    pub body_file: Option<PathBuf>,
    /// Do not wait: print the id with which `elapse result` fetches the answer
    #[arg(long = "async")]
    pub later: bool,
}
