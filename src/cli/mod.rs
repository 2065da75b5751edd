//! Words: flags, help, exit codes, printing.

/// A line on standard output. Whoever reads it may stop when it has enough: that is no fault, and no panic as of `println!`.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod after;
mod args;
mod daemon;
mod daemon_args;
mod deeds;
mod print;
mod repeat;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use elapse::base::{Fault, FaultKind};
use std::io::IsTerminal;
use std::process::ExitCode;

/// A run that was interrupted, as shells tell it.
const INTERRUPTED: u8 = 130;

pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no faults.
            let code = if e.use_stderr() { FaultKind::Usage.exit_code() } else { 0 };
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    // A daemon tells what it does; everything else only what is wrong.
    let level = if matches!(cli.command, Command::Worker(_) | Command::Controller(_)) {
        "warn,elapse=info"
    } else {
        "warn"
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("ELAPSE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
    // A panic is our bug and exits as one, with what to do about it.
    let outcome = std::panic::catch_unwind(|| run(cli.command));
    let code = match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(fault)) => {
            print::fault(&fault);
            fault.kind().exit_code()
        }
        Err(_) => {
            print::fault(&Fault::bug(
                "this is a bug of Elapse; please report it with the command and the lines above",
            ));
            FaultKind::Bug.exit_code()
        }
    };
    ExitCode::from(code)
}

fn run(command: Command) -> Result<u8, Fault> {
    match command {
        Command::Sim(sim) => deeds::sim(sim),
        Command::Live(live) => deeds::live(live),
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
        Command::Replay(replay) => deeds::replay(replay),
        Command::Plot(plot) => after::plot(&plot),
        Command::Compare(compare) => after::compare(&compare),
        Command::Align(align) => after::align(&align),
        Command::Graphite(args::GraphiteCommand { what }) => match what {
            args::GraphiteDeed::Pull(pull) => after::graphite_pull(&pull),
            args::GraphiteDeed::Check(check) => after::graphite_check(check),
        },
        Command::Trace(args::TraceCommand { what: args::TraceDeed::Generate(generate) }) => {
            deeds::generate(&generate)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "elapse", &mut std::io::stdout());
            Ok(0)
        }
    }
}
