//! The `elapse` command: what was typed, then what it means. Exit codes are those of [`elapse::base::FaultKind`], and
//! 130 for a run that was interrupted.
//!
//! What is not built in (live runs, daemons, Graphite) is told where a command needs it: see `absent`.

#![forbid(unsafe_code)]

/// A line of a result for people, on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::print::line(format_args!($($text)*)) };
}

mod after;
mod args;
mod commands;
#[cfg(feature = "daemon")]
mod daemon;
mod daemon_args;
mod fail_if;
#[cfg(feature = "live")]
mod host;
mod host_args;
mod print;
mod progress;
#[cfg(feature = "live")]
mod repeat;
mod run_args;
mod running;
mod show;
mod summary;
#[cfg(feature = "live")]
mod told;
mod version;
mod words;

use args::{Cli, Command, Everywhere, OnHost, SchemaOf, Serving};
use clap::FromArgMatches;
use elapse::base::{Fault, FaultKind};
use host_args::{TraceCommand, TraceDeed};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// A run that was interrupted, as shells tell it.
const INTERRUPTED: u8 = 130;

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let parsed = args::command().try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let code = match parsed {
        Ok(cli) => spoken(cli),
        // Help and version are no faults.
        Err(e) if !e.use_stderr() => {
            print::put(e.render().to_string().as_bytes());
            0
        }
        Err(e) => {
            let _ = e.print();
            FaultKind::Usage.exit_code()
        }
    };
    // What nobody can read was not done.
    if let Some(fault) = print::broken() {
        print::fault(&fault);
        return ExitCode::from(if code == 0 { fault.kind().exit_code() } else { code });
    }
    ExitCode::from(code)
}

fn spoken(cli: Cli) -> u8 {
    print::set(print::Mode { quiet: cli.everywhere.quiet, json: cli.everywhere.json });
    log(
        &cli.everywhere,
        matches!(cli.command, Command::Serving(Serving::Worker(_) | Serving::Controller(_))),
    );
    // A panic is our bug and exits as one, with what to do about it.
    let fault = match std::panic::catch_unwind(|| run(cli.command)) {
        Ok(Ok(code)) => return code,
        Ok(Err(fault)) => fault,
        Err(_) => {
            Fault::bug("this is a bug of Elapse; please report it with the command and the lines above")
        }
    };
    print::fault(&fault);
    fault.kind().exit_code()
}

/// A daemon tells what it does; everything else only what is wrong.
fn log(everywhere: &Everywhere, is_daemon: bool) {
    let level = match (everywhere.quiet, everywhere.verbose) {
        (true, _) => "error",
        (false, 0) if is_daemon => "warn,elapse=info",
        (false, 0) => "warn",
        (false, 1) => "info,elapse=debug",
        (false, _) => "trace",
    };
    let asked = std::env::var("ELAPSE_LOG").unwrap_or_default();
    let filter = match asked.parse::<Targets>() {
        Ok(targets) if !asked.is_empty() => targets,
        _ => level.parse().unwrap_or_default(),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(cfg!(feature = "terminal") && std::io::stderr().is_terminal())
        .without_time();
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

/// What a command needs that was not built in.
#[cfg(not(all(feature = "live", feature = "daemon")))]
fn absent(feature: &str) -> Fault {
    Fault::host(format!(
        "this program was built to simulate, without {feature}; build it whole (make build), or with --features {feature}"
    ))
}

fn run(command: Command) -> Result<u8, Fault> {
    match command {
        Command::Sim(sim) => commands::sim(&sim),
        Command::Replay(replay) => commands::replay(&replay),
        Command::Plot(plot) => after::plot(&plot),
        Command::Compare(compare) => after::compare(&compare),
        Command::Align(align) => after::align(&align),
        Command::Trace(TraceCommand { what: TraceDeed::Generate(generate) }) => commands::generate(&generate),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), "elapse", &mut script);
            print::put(&script);
            Ok(0)
        }
        Command::Schema { of } => schema(of),
        Command::OnHost(command) => on_host(command),
        Command::Serving(command) => serve(command),
    }
}

/// Prints a schema, laid out.
fn schema(of: SchemaOf) -> Result<u8, Fault> {
    let schema = match of {
        SchemaOf::Scenario => elapse::keys::schema::<elapse::Scenario>(),
        #[cfg(feature = "daemon")]
        SchemaOf::Worker => elapse::keys::schema::<elapse_daemon::DaemonConfig>(),
        #[cfg(feature = "daemon")]
        SchemaOf::Controller => elapse::keys::schema::<elapse_daemon::ControllerConfig>(),
        #[cfg(not(feature = "daemon"))]
        _ => return Err(absent("daemon")),
    };
    print::put(format!("{schema:#}\n").as_bytes());
    Ok(0)
}

/// Commands of this host.
#[cfg(feature = "live")]
fn on_host(command: OnHost) -> Result<u8, Fault> {
    match command {
        OnHost::Live(live) => host::live(&live),
        OnHost::Calibrate(calibrate) => host::calibrate(&calibrate),
        OnHost::Doctor(doctor) => host::doctor(&doctor),
        OnHost::Clean(clean) => host::clean(&clean),
        OnHost::Graphite(args::GraphiteCommand { what: args::GraphiteDeed::Pull(pull) }) => {
            host::graphite_pull(&pull)
        }
        OnHost::Graphite(args::GraphiteCommand { what: args::GraphiteDeed::Check(check) }) => {
            host::graphite_check(&check)
        }
    }
}

#[cfg(not(feature = "live"))]
fn on_host(_command: OnHost) -> Result<u8, Fault> {
    Err(absent("live"))
}

/// The daemons, and commands that talk to one.
#[cfg(feature = "daemon")]
fn serve(command: Serving) -> Result<u8, Fault> {
    match command {
        Serving::Worker(worker) => daemon::worker(&worker),
        Serving::Controller(controller) => daemon::controller(&controller),
        Serving::Register(register) => daemon::register(&register),
        Serving::Invoke(invoke) => daemon::invoke(&invoke),
        Serving::Prewarm(named) => daemon::prewarm(&named),
        Serving::List(at) => daemon::list(&at),
        Serving::Result(result) => daemon::result(&result),
        Serving::Status(at) => daemon::status(&at),
        Serving::Health(at) => daemon::health(&at),
        Serving::Metrics(at) => daemon::metrics(&at),
        Serving::Drain(at) => daemon::drain(&at),
        Serving::Deregister(named) => daemon::deregister(&named),
        Serving::Workers(at) => daemon::workers(&at),
    }
}

#[cfg(not(feature = "daemon"))]
fn serve(_command: Serving) -> Result<u8, Fault> {
    Err(absent("daemon"))
}
