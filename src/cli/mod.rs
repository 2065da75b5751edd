//! Words: flags, help, exit codes, printing.

/// A line of a result for people, on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::print::line(format_args!($($text)*)) };
}

mod after;
mod args;
mod daemon;
mod daemon_args;
mod deeds;
mod fail_if;
mod host_args;
mod print;
mod progress;
mod repeat;
mod run_args;
mod show;
mod summary;
mod words;

use args::{Cli, Command, Everywhere};
use clap::FromArgMatches;
use elapse::base::{Fault, FaultKind};
use host_args::{TraceCommand, TraceDeed};
use std::io::IsTerminal;
use std::process::ExitCode;

/// A run that was interrupted, as shells tell it.
const INTERRUPTED: u8 = 130;

pub fn main() -> ExitCode {
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
    log(&cli.everywhere, matches!(cli.command, Command::Worker(_) | Command::Controller(_)));
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
    let filter = tracing_subscriber::EnvFilter::try_from_env("ELAPSE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
}

fn run(command: Command) -> Result<u8, Fault> {
    match command {
        Command::Sim(sim) => deeds::sim(&sim),
        Command::Live(live) => deeds::live(*live),
        Command::Calibrate(calibrate) => deeds::calibrate(&calibrate),
        Command::Doctor(doctor) => deeds::doctor(&doctor),
        Command::Clean(clean) => deeds::clean(&clean),
        Command::Worker(worker) => daemon::worker(&worker),
        Command::Controller(controller) => daemon::controller(&controller),
        Command::Register(register) => daemon::register(&register),
        Command::Invoke(invoke) => daemon::invoke(&invoke),
        Command::Prewarm(named) => daemon::prewarm(&named),
        Command::List(at) => daemon::list(&at),
        Command::Result(result) => daemon::result(&result),
        Command::Status(at) => daemon::status(&at),
        Command::Health(at) => daemon::health(&at),
        Command::Metrics(at) => daemon::metrics(&at),
        Command::Drain(at) => daemon::drain(&at),
        Command::Deregister(named) => daemon::deregister(&named),
        Command::Workers(at) => daemon::workers(&at),
        Command::Replay(replay) => deeds::replay(&replay),
        Command::Plot(plot) => after::plot(&plot),
        Command::Compare(compare) => after::compare(&compare),
        Command::Align(align) => after::align(&align),
        Command::Graphite(args::GraphiteCommand { what }) => match what {
            args::GraphiteDeed::Pull(pull) => after::graphite_pull(&pull),
            args::GraphiteDeed::Check(check) => after::graphite_check(check),
        },
        Command::Trace(TraceCommand { what: TraceDeed::Generate(generate) }) => deeds::generate(&generate),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), "elapse", &mut script);
            print::put(&script);
            Ok(0)
        }
    }
}
