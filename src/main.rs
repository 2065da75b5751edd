//! The `elapse` command: what was typed, then what it means. Exit codes are those of [`elapse::base::FaultKind`], and
//! 130 for a run that was interrupted.

mod cli;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
