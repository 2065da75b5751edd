//! The words of `sim` and `live`, and what they share with `replay`.

use crate::words::Words;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct SimArgs {
    /// The scenario, TOML or JSON
    pub scenario: PathBuf,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub simulated: Simulated,
}

#[derive(Args)]
pub struct LiveArgs {
    /// The scenario, TOML or JSON
    pub scenario: PathBuf,
    #[command(flatten)]
    pub common: Common,
    /// Run it so often, into repeat-1, repeat-2, ... of the folder: what they differ in is the noise floor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Repeats")]
    pub repeat: u32,
    /// Rest this long between two repeats
    #[arg(long, value_name = "SPAN", default_value = "10s", help_heading = "Repeats")]
    pub cooldown: String,
    /// Drive the worker or controller at this address instead of a worker of its own: 127.0.0.1:8480, unix:PATH,
    /// https://HOST:PORT
    #[arg(long, value_name = "ADDRESS", help_heading = "Against a daemon")]
    pub at: Option<String>,
    /// A file with its bearer token
    #[arg(long, value_name = "FILE", requires = "at", help_heading = "Against a daemon")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the authorities that are believed at https://; without it, those of the public web
    #[arg(long, value_name = "FILE", requires = "at", help_heading = "Against a daemon")]
    pub ca_file: Option<PathBuf>,
    /// This many clients, each sending its next invocation when its last was answered, instead of at its instant
    #[arg(long, value_name = "N", requires = "at", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Against a daemon")]
    pub clients: Option<u32>,
}

/// Flags of every run.
#[derive(Args)]
pub struct Common {
    /// Folder for the results [default: results/<UTC time>-<name>-<seed>]
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Replace the run that is in --out
    #[arg(long, help_heading = "Results")]
    pub force: bool,
    /// Leave out the plots and report.html
    #[arg(long, help_heading = "Results")]
    pub no_plots: bool,
    /// Which invocations records.csv has: full (all), none, or a share of them, for instance sample:0.01
    #[arg(long, value_name = "WHICH", value_parser = Words("records"), hide_possible_values = true, help_heading = "Results")]
    pub records: Option<String>,
    /// Exit with 1 if this holds of a figure of summary.json, for instance 'latency_ms.p99 > 2s' or 'dropped > 1%' (of all
    /// invocations); may be given several times
    #[arg(long, value_name = "CONDITION", help_heading = "Results")]
    pub fail_if: Vec<String>,
    /// Look after every step of a worker whether memory, processors, queue and counts agree; the run takes several times as
    /// long, and ends with exit code 4 where they do not
    #[arg(long, help_heading = "Plan")]
    pub check: bool,
    /// Seed of everything that is random [default: the scenario's, or 1]
    #[arg(long, value_name = "S", help_heading = "Plan")]
    pub seed: Option<u64>,
    /// Set any key of the scenario, for instance worker.queue.limit=100; --print-plan shows them all
    #[arg(long = "set", value_name = "KEY=VALUE", help_heading = "Plan")]
    pub sets: Vec<String>,
    /// Print the effective plan as a scenario file with every key, its default and what it means, and stop
    #[arg(long, help_heading = "Plan")]
    pub print_plan: bool,
    /// Cores of a worker, or unlimited
    #[arg(long, value_name = "N", help_heading = "Worker")]
    pub cores: Option<String>,
    /// Memory of a worker, for instance 128GiB, or unlimited; MB is MiB (2^20 bytes) everywhere
    #[arg(long, value_name = "SIZE", help_heading = "Worker")]
    pub memory: Option<String>,
    /// How long an idle container is kept, for instance 600s, or forever
    #[arg(long, value_name = "SPAN", help_heading = "Worker")]
    pub keep_alive: Option<String>,
    /// Which idle container goes when memory is short: the longest idle (lru), the first to expire (ttl), the least used
    /// (lfu), the largest (size), or by age, use, cost and size (greedy-dual)
    #[arg(long, value_name = "NAME", value_parser = Words("worker.eviction"), hide_possible_values = true, help_heading = "Worker")]
    pub eviction: Option<String>,
    /// Which waiting invocation goes first: in order (fifo), in order but past one that cannot start yet (fifo-skip), the
    /// shortest (sjf), the earliest deadline (edf)
    #[arg(long, value_name = "NAME", value_parser = Words("worker.queue.policy"), hide_possible_values = true, help_heading = "Worker")]
    pub queue: Option<String>,
}

/// Flags of simulations.
#[derive(Args)]
pub struct Simulated {
    /// Simulate this many equal workers behind a controller
    #[arg(long, value_name = "N", help_heading = "Simulation")]
    pub workers: Option<u16>,
    /// Which worker an invocation goes to
    #[arg(long, value_name = "NAME", value_parser = Words("controller.balancer"), help_heading = "Simulation")]
    pub balancer: Option<String>,
    /// Delays of a real host, as elapse calibrate measured them
    #[arg(long, value_name = "FILE", help_heading = "Simulation")]
    pub calibration: Option<String>,
    /// Where the run's points are laid on Graphite's calendar: at the scenario's start (none), or so that it ends now (now)
    #[arg(long, value_name = "HOW", value_parser = Words("graphite.shift"), hide_possible_values = true, help_heading = "Simulation")]
    pub graphite_shift: Option<String>,
}

/// A flag that sets a key of the plan: flag, key, value.
pub type Flag<'a> = (&'static str, &'static str, &'a str);

/// Those of these flags that were given.
pub fn given<'a>(all: &[(&'static str, &'static str, &'a Option<String>)]) -> Vec<Flag<'a>> {
    all.iter().filter_map(|(flag, key, value)| Some((*flag, *key, value.as_deref()?))).collect()
}

impl Common {
    /// The flags that set a key of the plan.
    pub fn keys(&self) -> Vec<Flag<'_>> {
        given(&[
            ("--cores", "worker.cores", &self.cores),
            ("--memory", "worker.memory", &self.memory),
            ("--keep-alive", "worker.keep_alive", &self.keep_alive),
            ("--eviction", "worker.eviction", &self.eviction),
            ("--queue", "worker.queue.policy", &self.queue),
            ("--records", "records", &self.records),
        ])
    }
}

impl Simulated {
    /// The flags that set a key of the plan as a text.
    pub fn keys(&self) -> Vec<Flag<'_>> {
        given(&[
            ("--balancer", "controller.balancer", &self.balancer),
            ("--calibration", "model.calibration", &self.calibration),
            ("--graphite-shift", "graphite.shift", &self.graphite_shift),
        ])
    }
}
