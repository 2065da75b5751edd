//! The words of what is done with this host, and of traces that are generated.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Args)]
pub struct DoctorArgs {
    /// containerd's socket
    #[arg(long, value_name = "PATH")]
    pub containerd: Option<PathBuf>,
    /// docker's socket
    #[arg(long, value_name = "PATH")]
    pub docker: Option<PathBuf>,
}

const CALIBRATE: &str = "\
The file goes to a simulation by --calibration FILE, or as [model] calibration of a scenario.

The simulator draws from cold_start (by creations at once, alone, awake and busy), first_start, pooled_start, pool_refill, removal, \
first_call, overhead and concurrent, and takes from processor how much of them is processor time and what executions get together. \
timer_lateness, fsync, prepare, steps, memory_read and stretch are for who reads the file: what of them an invocation feels is in the \
others already.";

#[derive(Args)]
#[command(after_help = CALIBRATE)]
pub struct CalibrateArgs {
    /// Which backends
    #[arg(long = "backend", value_name = "NAME", default_value = "process", value_parser = ["process", "containerd", "docker"], ignore_case = true)]
    pub backends: Vec<String>,
    /// The file to write; one that is there is refused without --force
    #[arg(long, value_name = "FILE", default_value = "host.toml")]
    pub out: PathBuf,
    /// Replace the file, and measure although the host is not quiet (what doctor finds, and others at work)
    #[arg(long)]
    pub force: bool,
    /// Containers created of each kind; four times as many calls are measured
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    #[command(flatten)]
    pub sockets: DoctorArgs,
}

#[derive(Args)]
pub struct CleanArgs {
    /// The worker's name, as in a scenario's live.worker
    #[arg(long, value_name = "NAME")]
    pub worker: String,
    #[command(flatten)]
    pub sockets: DoctorArgs,
}

#[derive(Args)]
pub struct TraceCommand {
    #[command(subcommand)]
    pub what: TraceDeed,
}

#[derive(Subcommand)]
pub enum TraceDeed {
    /// Generate a seeded trace
    Generate(GenerateArgs),
}

#[derive(Args)]
pub struct GenerateArgs {
    /// What is written: functions.csv and invocations.csv, or the three files of a day of Azure Functions 2019
    #[arg(value_enum, ignore_case = true)]
    pub format: GenerateFormat,
    /// The folder to write into; it must be empty or absent
    pub folder: PathBuf,
    /// Seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Functions
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub functions: u32,
    /// Invocations
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "csv")]
    pub invocations: u64,
    /// Mean invocations per second
    #[arg(long, value_name = "X", default_value_t = 10.0, help_heading = "csv")]
    pub rate: f64,
    /// Exponent of the popularity (Zipf); 0: all alike
    #[arg(long, value_name = "X", default_value_t = 1.0, help_heading = "csv")]
    pub zipf: f64,
    /// Minutes of the day
    #[arg(long, value_name = "N", default_value_t = 1440, value_parser = clap::value_parser!(u64).range(1..=1440), help_heading = "azure-2019")]
    pub minutes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum GenerateFormat {
    /// functions.csv and invocations.csv
    Csv,
    /// The three files of a day in the Azure Functions 2019 format
    #[value(name = "azure-2019")]
    Azure2019,
}
