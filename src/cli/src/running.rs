//! A plan that runs: what goes over it, where its results go, how far it is, and what it comes to.

use crate::progress::Progress;
use crate::run_args::{Common, Flag, Simulated};
use crate::{INTERRUPTED, fail_if, print, version};
use elapse::backend::Calibration;
use elapse::base::{Fault, Result};
use elapse::rt::wall;
use elapse::{Finished, Interrupt, Overrides, Run, Scenario};
use std::path::{Path, PathBuf};

/// Where a plan runs: what takes a run that is ready to its end.
pub type World<'a> = &'a dyn Fn(Run) -> Result<Finished>;

/// Under the virtual clock. A Graphite is told of it where the program has what that takes.
///
/// # Errors
/// Those of the run.
pub fn simulated(run: Run) -> Result<Finished> {
    #[cfg(feature = "live")]
    let run = run.publish_with(elapse_live::graphite::open);
    run.simulate()
}

/// Listens for the signals that ask for an end.
///
/// # Errors
/// If the kernel does not let it.
pub fn listen() -> Result<Interrupt> {
    Interrupt::listen().map_err(|e| Fault::host(format!("cannot listen for Ctrl-C: {e}")))
}

/// Puts flags over a plan.
pub fn add(over: &mut Overrides, flags: &[Flag<'_>]) {
    for (flag, key, value) in flags {
        // A policy with parameters is a table, as in a file.
        match value.trim_start().starts_with('{') {
            true => over.flag_of_any(flag, key, value),
            false => over.flag(flag, key, value),
        }
    }
}

/// Puts the flags of a simulation over a plan.
///
/// # Errors
/// A calibration that cannot be read.
pub fn add_simulated(over: &mut Overrides, flags: &Simulated) -> Result<()> {
    add(over, &flags.keys());
    if let Some(workers) = flags.workers {
        over.flag_of_any("--workers", "worker.count", &workers.to_string());
    }
    if let Some(file) = &flags.calibration {
        Calibration::read(Path::new(file)).map_err(|fault| fault.within(format!("--calibration {file}")))?;
    }
    Ok(())
}

/// Puts the flags of every run over a plan, the most general last.
///
/// # Errors
/// A flag without a value.
pub fn with_common(mut over: Overrides, common: &Common) -> Result<Overrides> {
    add(&mut over, &common.keys());
    if let Some(seed) = common.seed {
        over.flag_of_any("--seed", "seed", &seed.to_string());
    }
    for pair in &common.sets {
        over.set(pair)?;
    }
    Ok(over)
}

/// Runs a plan, or prints it.
///
/// # Errors
/// Those of the run, and checks that failed.
pub fn run(plan: Scenario, common: &Common, world: World<'_>) -> Result<u8> {
    if common.print_plan {
        return print::plan(&plan);
    }
    let target = common.out.clone().unwrap_or_else(|| default_target(&plan));
    run_into(plan, common, world, &target, listen()?)
}

fn run_into(
    plan: Scenario,
    common: &Common,
    world: World<'_>,
    target: &Path,
    interrupt: Interrupt,
) -> Result<u8> {
    let finished = run_to(plan, common, world, target, interrupt)?;
    print::finished(&finished);
    check(&finished, common)
}

/// What a run that is whole comes to: an exit code.
///
/// # Errors
/// A check that failed: nothing completed, nothing came from Graphite though it was wanted, or a condition of --fail-if held.
pub fn check(finished: &Finished, common: &Common) -> Result<u8> {
    if let Some(why) = &finished.gave_up {
        return Err(Fault::check(format!(
            "{why}; the run was ended early, which [measure] give_up = \"off\" prevents"
        )));
    }
    if let Some(why) = finished.graphite.as_ref().and_then(|g| g.fault.as_ref()) {
        let folder = finished.folder.as_ref().map_or("RUN".into(), |f| f.display().to_string());
        return Err(Fault::check(format!(
            "the run's results are whole, but nothing was fetched from Graphite: {why}; try elapse graphite pull {folder}"
        )));
    }
    if finished.interrupted {
        return Ok(INTERRUPTED);
    }
    match fail_if::held(&fail_if::read(&common.fail_if)?, &finished.summary.json()).as_slice() {
        [] => Ok(0),
        held => Err(Fault::check(format!("--fail-if: {}", held.join("; ")))),
    }
}

/// Runs a plan, and tells how far it is meanwhile.
///
/// # Errors
/// Those of the run.
pub fn run_to(
    plan: Scenario,
    common: &Common,
    world: World<'_>,
    target: &Path,
    interrupt: Interrupt,
) -> Result<Finished> {
    // What cannot be meant is told before anything runs.
    fail_if::read(&common.fail_if)?;
    let progress = Progress::new();
    tracing::info!(
        target: "elapse", name = plan.name, seed = plan.seed, functions = plan.functions.len(), results = %target.display(), "begins"
    );
    let mut run = Run::new(plan)
        .write_to(target, common.force)
        .plots(!common.no_plots)
        .checked(common.check)
        .command(std::env::args().collect())
        .built(version::commit(), version::features())
        .interrupt(interrupt);
    if let Some(tell) = progress.reporter() {
        run = run.progress(tell);
    }
    let finished = world(run);
    progress.clear();
    let finished = finished?;
    let counters = &finished.counters;
    tracing::info!(
        target: "elapse", polls = counters.polls, fires = counters.fires, cancels = counters.cancels, longest_queue =
        counters.longest_queue, wall_seconds = finished.wall_seconds, cpu_seconds = finished.cpu_seconds, "finished"
    );
    Ok(finished)
}

/// Where results go where nobody says.
pub fn default_target(plan: &Scenario) -> PathBuf {
    let now = jiff::Timestamp::from_second(wall::unix_now().as_secs() as i64).unwrap_or_default();
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let name: String = plan
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let base = Path::new("results").join(format!("{time}-{name}-{}", plan.seed));
    // Two runs within a second do not collide.
    (1..)
        .map(|n| if n == 1 { base.clone() } else { base.with_extension(n.to_string()) })
        .find(|p| !p.exists())
        .unwrap_or(base)
}
