//! What can be typed.

use super::daemon_args::{
    AtArgs, ControllerArgs, InvokeArgs, NamedArgs, RegisterArgs, ResultArgs, WorkerArgs,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// One serverless worker in two worlds: simulated under a virtual clock, a production day in seconds; and live on this
/// host, the same worker code with real containers.
#[derive(Parser)]
#[command(name = "elapse", version, max_term_width = 110, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Examples:
  elapse sim scenarios/quickstart.toml
  elapse live scenarios/live.toml
  elapse replay csv functions.csv invocations.csv --memory 16GiB --eviction greedy-dual
  elapse replay azure-2019 FOLDER --from 08:00 --to 09:00 --memory 64GiB

Exit codes: 0 done (failed invocations included), 1 a check failed, 2 what you typed or wrote is wrong, 3 this host lacks
something, 4 a bug of ours, 130 interrupted. ELAPSE_LOG=debug tells more; ELAPSE__WORKER__MEMORY=8GiB and its like go
over a scenario file, and flags over both.";

#[derive(Subcommand)]
pub enum Command {
    /// Simulate a scenario file
    Sim(SimArgs),
    /// Run a scenario file on this host, in real time, with real containers
    Live(LiveArgs),
    /// Simulate a trace
    Replay(ReplayArgs),
    /// Draw the plots of finished runs again
    Plot(PlotArgs),
    /// Compare two runs, or two sets of repeats: figures, distances, stages, functions, a verdict against tolerances
    Compare(CompareArgs),
    /// Lay records, metrics and Graphite's series of runs on one axis of time: a CSV of time,source,path,value
    Align(AlignArgs),
    /// Work with traces
    Trace(TraceCommand),
    /// Fetch a run's series from Graphite, or find out what a Graphite keeps
    Graphite(GraphiteCommand),
    /// Measure this host's backends, for the simulator's [model] calibration
    Calibrate(CalibrateArgs),
    /// Say what this host can run, and what would spoil a run
    Doctor(DoctorArgs),
    /// Remove what a worker left on this host
    Clean(CleanArgs),
    /// Serve functions on this host as a daemon, with an HTTP API
    Worker(WorkerArgs),
    /// Give invocations to the workers that register with this daemon, with the same API
    Controller(ControllerArgs),
    /// Register a function with a running worker or controller
    Register(RegisterArgs),
    /// Forget a function, and remove its containers
    Deregister(NamedArgs),
    /// Invoke a function of a running worker or controller, and print what it answers
    Invoke(InvokeArgs),
    /// Create a container of a function ahead of need
    Prewarm(NamedArgs),
    /// List the functions of a running worker or controller
    List(AtArgs),
    /// List the workers of a running controller, and how they are
    Workers(AtArgs),
    /// Fetch the answer of an invocation that was begun with --async
    Result(ResultArgs),
    /// Tell the metrics, background loops and threads of a running worker or controller
    Status(AtArgs),
    /// Tell whether a running worker or controller takes invocations; exits 1 where it does not
    Health(AtArgs),
    /// Print the metrics of a running worker or controller as Prometheus reads them
    Metrics(AtArgs),
    /// Let a running worker or controller finish what it has, and end
    Drain(AtArgs),
    /// Print a completion script for your shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Args)]
pub struct SimArgs {
    /// The scenario, TOML or JSON
    pub scenario: PathBuf,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Args)]
pub struct LiveArgs {
    #[command(flatten)]
    pub run: SimArgs,
    /// Run it so often, into repeat-1, repeat-2, ... of the folder: what they differ in is the noise floor
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Drive the worker or controller at this address instead of a worker of its own: 127.0.0.1:8480, unix:PATH,
    /// https://HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub at: Option<String>,
    /// A file with its bearer token
    #[arg(long, value_name = "FILE", requires = "at")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the authorities that are believed at https://; without it, those of the public web
    #[arg(long, value_name = "FILE", requires = "at")]
    pub ca_file: Option<PathBuf>,
    /// With --at: this many clients, each sending its next invocation when its last was answered, instead of at its instant
    #[arg(long, value_name = "N", requires = "at", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: Option<u32>,
    /// Rest this long between two repeats
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    pub cooldown: String,
}

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
The simulator draws from cold_start (by creations at once, alone, awake and busy), first_start, pooled_start, pool_refill, removal,
first_call, overhead and concurrent, and takes from processor how much of them is processor time and what executions get together.
timer_lateness, fsync, prepare, steps, memory_read and stretch are for who reads the file: what of them an invocation feels is in the
others already.";

#[derive(Args)]
#[command(after_help = CALIBRATE)]
pub struct CalibrateArgs {
    /// Which backends
    #[arg(long = "backend", value_name = "NAME", default_value = "process")]
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

/// Flags that `sim`, `live` and `replay` share.
#[derive(Args)]
pub struct Common {
    /// Seed of everything that is random [default: the scenario's, or 1]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Folder for the results [default: results/<UTC time>-<name>-<seed>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace the run that is in --out
    #[arg(long)]
    pub force: bool,
    /// Leave out the plots and report.html
    #[arg(long)]
    pub no_plots: bool,
    /// Simulate this many equal workers behind a controller
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,
    /// Which worker an invocation goes to: round-robin, least-loaded, power-of-two, locality
    #[arg(long, value_name = "NAME")]
    pub balancer: Option<String>,
    /// Cores of a worker, or unlimited
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// Memory of a worker, for instance 128GiB, or unlimited
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// How long an idle container is kept, for instance 600s, or forever
    #[arg(long, value_name = "SPAN")]
    pub keep_alive: Option<String>,
    /// Which idle container goes first: lru, ttl, lfu, size, greedy-dual
    #[arg(long, value_name = "NAME")]
    pub eviction: Option<String>,
    /// Which invocation goes first: fifo, fifo-skip, sjf, edf
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Which records are written: full, none, sample:0.01
    #[arg(long, value_name = "WHICH")]
    pub records: Option<String>,
    /// Where a simulated run's points are laid on Graphite's calendar: none (at the scenario's start) or now (its end)
    #[arg(long, value_name = "HOW")]
    pub graphite_shift: Option<String>,
    /// Set any key of the scenario, for instance worker.queue.limit=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print the effective plan as a scenario file, and stop
    #[arg(long)]
    pub print_plan: bool,
}

impl Common {
    /// The flags that set a key of the plan: flag, key, value.
    pub fn keys(&self) -> Vec<(&'static str, &'static str, &str)> {
        let given: [(&str, &str, &Option<String>); 8] = [
            ("--balancer", "controller.balancer", &self.balancer),
            ("--cores", "worker.cores", &self.cores),
            ("--memory", "worker.memory", &self.memory),
            ("--keep-alive", "worker.keep_alive", &self.keep_alive),
            ("--eviction", "worker.eviction", &self.eviction),
            ("--queue", "worker.queue.policy", &self.queue),
            ("--records", "records", &self.records),
            ("--graphite-shift", "graphite.shift", &self.graphite_shift),
        ];
        given.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.as_deref()?))).collect()
    }
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The trace's format
    #[arg(value_enum)]
    pub format: TraceFormat,
    /// csv: FUNCTIONS.csv INVOCATIONS.csv; azure-2019: a folder; iluvatar: the two files or their folder
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub common: Common,
    /// From this time of day (08:00), or this long after the trace's start (90min)
    #[arg(long, value_name = "WHEN")]
    pub from: Option<String>,
    /// Up to this time of day, or this long after the trace's start
    #[arg(long, value_name = "WHEN")]
    pub to: Option<String>,
    /// Which day of a folder of azure-2019 that holds several; the first that is complete without it
    #[arg(long, value_name = "N")]
    pub day: Option<u32>,
    /// Multiply the number of invocations
    #[arg(long, value_name = "X")]
    pub rate_scale: Option<String>,
    /// Where in its minute an invocation is placed: auto, uniform, poisson, equidistant
    #[arg(long, value_name = "HOW")]
    pub placement: Option<String>,
    /// How durations are drawn: percentiles, average, lognormal
    #[arg(long, value_name = "HOW")]
    pub durations: Option<String>,
    /// Whether a minute counts starts or ends: start, end
    #[arg(long, value_name = "WHICH")]
    pub counts: Option<String>,
    /// Who shares a container: function, app
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Cold start where the trace has none: 500ms, or a distribution as in scenarios
    #[arg(long, value_name = "DIST")]
    pub cold_start: Option<String>,
}

impl ReplayArgs {
    /// The flags of the trace itself: flag, key, value.
    pub fn keys(&self) -> Vec<(&'static str, &'static str, &str)> {
        let given: [(&str, &str, &Option<String>); 5] = [
            ("--from", "trace.from", &self.from),
            ("--to", "trace.to", &self.to),
            ("--placement", "trace.placement", &self.placement),
            ("--durations", "trace.durations", &self.durations),
            ("--counts", "trace.counts", &self.counts),
        ];
        given.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value.as_deref()?))).collect()
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum TraceFormat {
    /// functions.csv and invocations.csv: name,memory_mb,cold_ms,warm_ms and time_ms,function,duration_ms
    Csv,
    /// Azure Functions 2019: the official files of a day, or invocations.csv, durations.csv, memory.csv
    #[value(name = "azure-2019")]
    Azure2019,
    /// Ilúvatar's invocations and metadata
    Iluvatar,
}

#[derive(Args)]
pub struct PlotArgs {
    /// Folders of finished runs
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// Fetched series that the timeline shows, by pattern [default: up to four that are not ours]
    #[arg(long = "series", value_name = "PATTERN")]
    pub series: Vec<String>,
    /// Write into this folder instead, with the latencies of all the runs in one picture
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = COMPARE)]
pub struct CompareArgs {
    /// A run's folder, or one of repeats
    pub a: PathBuf,
    /// Another
    pub b: PathBuf,
    /// How far a figure of summary.json may be off, in place of the usual
    #[arg(long = "tolerance", value_name = "FIGURE=SHARE%,UNITS")]
    pub tolerances: Vec<String>,
    /// Write compare.json, figures.csv, functions.csv and the latencies in one picture into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const COMPARE: &str = "\
Usual tolerances: invocations=0, completed=2%,1, cold_starts=2%,1, latency_ms.p50=5%, latency_ms.p99=15%, queue_ms.mean=15%,0.5,
cold_ms.p50=15%,0.5, exec_ms.p50=5%,0.1, exec_stretch.p50=5%, exec_stretch.p99=15%, overhead_ms.p50=1, functions_apart=0.1; FIGURE=off
leaves one out. exec_stretch is execution over intended duration, functions_apart the share of invocations that are of a function whose
latency p50 is more than 15 % and 1 ms off. Shares are of the live side where one is live, else of the first. Of repeats the median
counts, and half of the larger spread is allowed on top (exec_stretch is of all repeats together). Exits 1 where one does not hold.";

#[derive(Args)]
#[command(after_help = ALIGN)]
pub struct AlignArgs {
    /// Folders of finished runs; of several, times are seconds since each one's start
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How long a bucket is, for instance 10s [default: the longest step of the series]
    #[arg(long, value_name = "SPAN")]
    pub step: Option<String>,
    /// Add to the times of the series below a path or pattern; for a sender that stamps the end of its interval, minus that
    #[arg(long = "shift", value_name = "PATTERN=SPAN")]
    pub shifts: Vec<String>,
    /// Find the clock offset of the series below PATTERN by the run's marker, which SERIES shows
    #[arg(long = "marker", value_name = "PATTERN=SERIES")]
    pub markers: Vec<String>,
    /// Average the series below a path or pattern by time
    #[arg(long, value_name = "PATTERN")]
    pub mean: Vec<String>,
    /// Add them up
    #[arg(long, value_name = "PATTERN")]
    pub sum: Vec<String>,
    /// Take the largest
    #[arg(long, value_name = "PATTERN")]
    pub max: Vec<String>,
    /// Take the last
    #[arg(long, value_name = "PATTERN")]
    pub last: Vec<String>,
    /// Times are seconds since the run's start, not of the calendar
    #[arg(long)]
    pub relative: bool,
}

const ALIGN: &str = "\
A value at t covers [t, t + step of its series). Our gauges are averaged by time and of our totals the last value is taken;
of others .count and .sum are added up, of .max and .upper the largest is taken, and the rest is averaged. Where nothing covers
a bucket its value is empty. In pandas:
  pandas.read_csv('aligned.csv').pivot_table(index='time', columns=['source', 'path'], values='value')";

#[derive(Args)]
pub struct GraphiteCommand {
    #[command(subcommand)]
    pub what: GraphiteDeed,
}

#[derive(Subcommand)]
pub enum GraphiteDeed {
    /// Fetch series into a finished run's folder, as graphite.csv
    Pull(PullArgs),
    /// Send probe series, read them back, and say what this Graphite does with our points
    Check(CheckArgs),
}

#[derive(Args)]
pub struct PullArgs {
    /// The folder of a finished run
    pub run: PathBuf,
    /// Where graphite-web answers [default: where the run's scenario says]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A series, a pattern of series, or a function of them; several are fine [default: the scenario's]
    #[arg(long = "target", value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Give up a request after this long
    #[arg(long, value_name = "SPAN", default_value = "10s")]
    pub timeout: String,
    /// Try each request so often
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub attempts: u32,
}

#[derive(Args)]
pub struct CheckArgs {
    /// Where carbon takes points
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2003")]
    pub carbon: String,
    /// In which protocol: plaintext, pickle
    #[arg(long, value_name = "NAME", default_value = "plaintext")]
    pub protocol: String,
    /// Where graphite-web answers
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Also make as many new series as a worker has, to see whether carbon limits that; they stay in Graphite
    #[arg(long)]
    pub creations: bool,
    /// Wait at most this long for a point
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    pub wait: String,
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
    /// What is written
    #[arg(value_enum)]
    pub format: GenerateFormat,
    /// The folder to write into; it must be empty or absent
    pub folder: PathBuf,
    /// Seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Functions
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub functions: u32,
    /// csv: invocations
    #[arg(long, default_value_t = 10_000)]
    pub invocations: u64,
    /// csv: mean invocations per second
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// csv: exponent of the popularity
    #[arg(long, default_value_t = 1.0)]
    pub zipf: f64,
    /// azure-2019: minutes of the day
    #[arg(long, default_value_t = 1440, value_parser = clap::value_parser!(u64).range(1..=1440))]
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
