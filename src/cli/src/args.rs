//! What can be typed.

use crate::daemon_args::{
    AtArgs, ControllerArgs, InvokeArgs, NamedArgs, RegisterArgs, ResultArgs, WorkerArgs,
};
use crate::host_args::{CalibrateArgs, CleanArgs, DoctorArgs, TraceCommand};
use crate::run_args::{Common, Flag, LiveArgs, SimArgs, Simulated, given};
use crate::version::version;
use crate::words::Words;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;

/// One serverless worker in two worlds: simulated under a virtual clock, and live on this host, the same worker code with
/// real containers.
#[derive(Parser)]
#[command(name = "elapse", version, max_term_width = 110, after_help = AFTER, disable_help_flag = true)]
pub struct Cli {
    #[command(flatten)]
    pub everywhere: Everywhere,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Everywhere {
    /// Tell results and faults only: no progress, no notes; of a run, only its folder
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell more of what happens; twice, everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Write results for programs: JSON, one value a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print help
    #[arg(short, long, global = true, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

const AFTER: &str = "\
Examples:
  elapse sim scenarios/quickstart.toml
  elapse live scenarios/live.toml
  elapse replay csv sim-traces/csv-20 --memory 6GiB --eviction greedy-dual
  elapse replay azure-2019 sim-traces/azure-2019-day --from 08:00 --to 09:00 --memory 16GiB

Exit codes:
  0    done; failed invocations are results too
  1    done, but a check failed (--fail-if, compare, health)
  2    what you typed or wrote is wrong
  3    this host lacks something: a file, space, a permission, a daemon
  4    a bug of ours
  5    a peer refused: a controller did not take a worker's registration
  130  interrupted (Ctrl-C, SIGTERM); what a run had until then is kept

Environment:
  ELAPSE_LOG=debug             tells more, as -v does
  ELAPSE__WORKER__MEMORY=8GiB  sets a key over the scenario file; flags go over both";

/// The commands, by what they are for.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["sim", "live", "replay"]),
    ("Look at runs", &["plot", "compare", "align", "graphite"]),
    ("Prepare", &["trace", "calibrate", "doctor", "clean"]),
    ("Serve", &["worker", "controller"]),
    (
        "Talk to what serves",
        &[
            "register",
            "deregister",
            "invoke",
            "result",
            "prewarm",
            "list",
            "workers",
            "status",
            "health",
            "metrics",
            "drain",
        ],
    ),
    ("Shell", &["completions", "schema", "help"]),
];

/// The command line, with its commands listed by group.
pub fn command() -> clap::Command {
    let command = Cli::command().version(version());
    let mut list = String::new();
    for (group, names) in GROUPS {
        list.push_str(&format!("\n{group}:\n"));
        for name in *names {
            let about = command.get_subcommands().find(|c| c.get_name() == *name).and_then(|c| c.get_about());
            let about = about.map_or("Print the help of a command".to_string(), ToString::to_string);
            list.push_str(&format!("  {name:<12} {about}\n"));
        }
    }
    command.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{list}\nEverywhere:\n{{options}}{{after-help}}"
    ))
}

#[derive(Subcommand)]
pub enum Command {
    /// Simulate a scenario file
    Sim(Box<SimArgs>),
    /// Simulate a trace
    Replay(Box<ReplayArgs>),
    /// Draw the plots of finished runs again
    Plot(PlotArgs),
    /// Compare two runs, or two sets of repeats, against tolerances
    Compare(CompareArgs),
    /// Lay records, metrics and Graphite's series on one axis of time, as CSV
    Align(AlignArgs),
    /// Work with traces
    Trace(TraceCommand),
    /// Print the JSON schema of a configuration, for editors that complete and check it
    Schema {
        /// Of a scenario, or of a daemon's configuration
        #[arg(value_enum, ignore_case = true, default_value = "scenario")]
        of: SchemaOf,
    },
    #[command(flatten)]
    OnHost(OnHost),
    #[command(flatten)]
    Serving(Serving),
    /// Print a completion script for your shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// What a schema is of.
#[derive(Clone, Copy, ValueEnum)]
pub enum SchemaOf {
    /// A scenario
    Scenario,
    /// A worker daemon's configuration
    Worker,
    /// A controller daemon's configuration
    Controller,
}

/// Commands of this host.
#[derive(Subcommand)]
pub enum OnHost {
    /// Run a scenario file on this host, in real time, with real containers
    Live(Box<LiveArgs>),
    /// Fetch a run's series from Graphite, or see what a Graphite keeps
    Graphite(GraphiteCommand),
    /// Measure this host's backends, for the simulator's --calibration
    Calibrate(CalibrateArgs),
    /// Say what this host can run, and what would spoil a run
    Doctor(DoctorArgs),
    /// Remove what a worker left on this host
    Clean(CleanArgs),
}

/// The daemons, and commands that talk to one.
#[derive(Subcommand)]
pub enum Serving {
    /// Serve functions on this host as a daemon, with an HTTP API
    Worker(WorkerArgs),
    /// Give invocations to the workers that register with this daemon
    Controller(ControllerArgs),
    /// Register a function with a running worker or controller
    Register(RegisterArgs),
    /// Forget a function, and remove its containers
    Deregister(NamedArgs),
    /// Invoke a function, and print what it answers
    Invoke(InvokeArgs),
    /// Create a container of a function ahead of need
    Prewarm(NamedArgs),
    /// List the functions of a running worker or controller
    List(AtArgs),
    /// List the workers of a running controller, and how they are
    Workers(AtArgs),
    /// Fetch the answer of an invocation that was begun with --async
    Result(ResultArgs),
    /// Tell the metrics, background loops and threads of a daemon
    Status(AtArgs),
    /// Tell whether a daemon takes invocations; exits 1 where it does not
    Health(AtArgs),
    /// Print the metrics of a daemon as Prometheus reads them
    Metrics(AtArgs),
    /// Let a running worker or controller finish what it has, and end
    Drain(AtArgs),
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The trace's format
    #[arg(value_enum, ignore_case = true)]
    pub format: TraceFormat,
    /// csv: FUNCTIONS.csv INVOCATIONS.csv, or their folder; azure-2019: a folder; iluvatar: the two files or their folder.
    /// Files may be compressed with gzip or zstd, and - is standard input
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub simulated: Simulated,
    /// From this time of day (08:00), or this long after the trace's start (90min)
    #[arg(long, value_name = "WHEN", help_heading = "Trace")]
    pub from: Option<String>,
    /// Up to this time of day, or this long after the trace's start
    #[arg(long, value_name = "WHEN", help_heading = "Trace")]
    pub to: Option<String>,
    /// Which day of a folder of azure-2019 that holds several; the first that is complete without it
    #[arg(long, value_name = "N", help_heading = "Trace")]
    pub day: Option<u32>,
    /// Multiply the number of invocations
    #[arg(long, value_name = "X", help_heading = "Trace")]
    pub rate_scale: Option<String>,
    /// Multiply the time between invocations: 0.5 is twice as fast; durations stay
    #[arg(long, value_name = "X", help_heading = "Trace")]
    pub time_scale: Option<String>,
    /// Replay so many functions for each of the trace, each with luck of its own
    #[arg(long, value_name = "N", help_heading = "Trace")]
    pub clones: Option<String>,
    /// Leave out wrong rows of a csv trace and count them, instead of ending at the first
    #[arg(long, help_heading = "Trace")]
    pub skip_bad: bool,
    /// Where in its minute an invocation is placed; auto: timers at one phase of every minute, the others uniform
    #[arg(long, value_name = "HOW", value_parser = Words("trace.placement"), help_heading = "Trace")]
    pub placement: Option<String>,
    /// How durations are drawn from the trace's percentiles
    #[arg(long, value_name = "HOW", value_parser = Words("trace.durations"), help_heading = "Trace")]
    pub durations: Option<String>,
    /// Whether a minute counts starts or ends
    #[arg(long, value_name = "WHICH", value_parser = Words("trace.counts"), help_heading = "Trace")]
    pub counts: Option<String>,
    /// Who shares a container: the invocations of a function, or of an app
    #[arg(long, value_name = "UNIT", value_parser = Words("trace.unit"), help_heading = "Trace")]
    pub unit: Option<String>,
    /// Cold start where the trace has none: 500ms, or a distribution as in scenarios
    #[arg(long, value_name = "DIST", help_heading = "Trace")]
    pub cold_start: Option<String>,
}

impl ReplayArgs {
    /// The flags of the trace itself whose values are texts.
    pub fn keys(&self) -> Vec<Flag<'_>> {
        given(&[
            ("--from", "trace.from", &self.from),
            ("--to", "trace.to", &self.to),
            ("--placement", "trace.placement", &self.placement),
            ("--durations", "trace.durations", &self.durations),
            ("--counts", "trace.counts", &self.counts),
            ("--unit", "trace.unit", &self.unit),
            ("--unit", "worker.unit", &self.unit),
        ])
    }

    /// Those whose values are numbers or distributions.
    pub fn keys_of_any(&self) -> Vec<Flag<'_>> {
        given(&[
            ("--rate-scale", "trace.rate_scale", &self.rate_scale),
            ("--time-scale", "trace.time_scale", &self.time_scale),
            ("--clones", "trace.clones", &self.clones),
            ("--cold-start", "trace.cold_start", &self.cold_start),
        ])
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
    /// A font for names whose letters the built-in one lacks
    #[arg(long, value_name = "FILE")]
    pub font: Option<PathBuf>,
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
    /// How far a figure of summary.json may be off, in place of the usual: a share, units, or both, for instance 5%,0.5
    #[arg(long = "tolerance", value_name = "FIGURE=LIMIT")]
    pub tolerances: Vec<String>,
    /// Write compare.json, figures.csv, functions.csv and the latencies in one picture into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

const COMPARE: &str = "\
Usual tolerances: invocations=0, completed=2%,1, cold_starts=2%,1, latency_ms.p50=5%, latency_ms.p99=15%, queue_ms.mean=15%,0.5, \
cold_ms.p50=15%,0.5, exec_ms.p50=5%,0.1, exec_stretch.p50=5%, exec_stretch.p99=15%, overhead_ms.p50=1, functions_apart=0.1; FIGURE=off \
leaves one out.

exec_stretch is execution over intended duration, functions_apart the share of invocations that are of a function whose latency p50 \
is more than 15 % and 1 ms off. Shares are of the live side where one is live, else of the first. Of repeats the median counts, and \
half of the larger spread is allowed on top (exec_stretch is of all repeats together). Exits 1 where one does not hold.";

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
    /// Take the least
    #[arg(long, value_name = "PATTERN")]
    pub min: Vec<String>,
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
A value at t covers [t, t + step of its series); where nothing covers a bucket its value is empty. Of our gauges \
the mean over time is taken, of our totals the last value. Others go by their names, as in carbon: of .min and .lower \
the least, of .max and .upper (.upper_90 too) the largest; .sum and stats_counts are added up; a .count that rises and \
never falls keeps its last value, any other is added up; the rest is averaged.

A PATTERN is Graphite's (*, ?, [a-z], {a,b}). A plain name means the series with tags or a number as well: cpu also \
cpu;host=a and cpu#2, the second series of that name.

In pandas:
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
    /// A series, also a tagged one (disk.used;host=a), a pattern of series, or a function of them; several are fine. Where two
    /// series have one name, the second is called name#2 [default: the scenario's]
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
    /// In which protocol
    #[arg(long, value_name = "NAME", default_value = "plaintext", value_parser = Words("graphite.protocol"))]
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
