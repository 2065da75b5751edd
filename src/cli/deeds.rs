//! What the words mean.

use super::args::{ReplayArgs, TraceFormat};
use super::host_args::{CalibrateArgs, CleanArgs, DoctorArgs, GenerateArgs, GenerateFormat};
use super::progress::Progress;
use super::repeat::{self, Repeats};
use super::run_args::{Common, Flag, LiveArgs, SimArgs, Simulated};
use super::{INTERRUPTED, fail_if, print};
use elapse::backend::{Calibration, LiveConfig};
use elapse::base::{Fault, Result};
use elapse::load::{Format, TraceConfig, generate as generator};
use elapse::report::{self, Folder};
use elapse::rt::wall;
use elapse::world::{self, Calibrating, Finished, Overrides, Run, Scenario, Target, load_plan};
use elapse_real::Interrupt;
use std::path::{Path, PathBuf};

pub fn sim(args: &SimArgs) -> Result<u8> {
    let mut over = Overrides::from_environment();
    add_simulated(&mut over, &args.simulated)?;
    let plan = load_plan(Some(&args.scenario), None, &with_common(over, &args.common)?)?;
    run(plan, &args.common, &World::Simulated)
}

pub fn live(args: LiveArgs) -> Result<u8> {
    let common = args.common;
    let over = with_common(Overrides::from_environment(), &common)?;
    let plan = load_plan(Some(&args.scenario), None, &over)?;
    let world = match args.at {
        Some(at) => {
            let (token_file, ca_file) = (args.token_file, args.ca_file);
            World::At { at, token_file, ca_file, clients: args.clients }
        }
        None => World::Live,
    };
    if args.repeat == 1 || common.print_plan {
        return run(plan, &common, &world);
    }
    let wrong = |why| Fault::usage(format!("--cooldown {}: {why}", args.cooldown));
    let cooldown: elapse::base::Duration = args.cooldown.parse().map_err(wrong)?;
    let folder = common.out.clone().unwrap_or_else(|| default_target(&plan));
    let repeats = Repeats {
        plan: &plan,
        common: &common,
        world: &world,
        times: args.repeat,
        cooldown: cooldown.into(),
    };
    repeat::run(&repeats, &folder)
}

pub fn listen() -> Result<Interrupt> {
    Interrupt::listen().map_err(|e| Fault::host(format!("cannot listen for Ctrl-C: {e}")))
}

fn sockets(given: &DoctorArgs) -> LiveConfig {
    let mut config = LiveConfig::default();
    if let Some(socket) = &given.containerd {
        config.containerd.clone_from(socket);
    }
    if let Some(socket) = &given.docker {
        config.docker.clone_from(socket);
    }
    config
}

pub fn doctor(args: &DoctorArgs) -> Result<u8> {
    let (findings, any) = world::doctor(&sockets(args))?;
    print::findings(&findings);
    if any {
        return Ok(0);
    }
    Err(Fault::host("no backend can run live here; simulation needs none of this"))
}

pub fn calibrate(args: &CalibrateArgs) -> Result<u8> {
    if args.out.exists() && !args.force {
        return Err(Fault::usage(format!(
            "{} is there already; replace it with --force",
            args.out.display()
        )));
    }
    // Minutes of measuring are not to end in a folder that is not there.
    let above = args.out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !above.is_dir() {
        return Err(Fault::usage(format!("--out {}: {} is no folder", args.out.display(), above.display())));
    }
    let config = LiveConfig { worker: "calibrate".into(), ..sockets(&args.sockets) };
    let backends: Vec<String> = args.backends.iter().map(|name| name.to_lowercase()).collect();
    let calibrating = Calibrating {
        config: &config,
        backends: &backends,
        rounds: args.rounds,
        force: args.force,
        interrupt: &listen()?,
    };
    let (calibration, off) = calibrating.run(print::measuring)?;
    let text = toml::to_string(&calibration).map_err(|e| Fault::bug(e.to_string()))?;
    report::replace(&args.out, text.as_bytes())?;
    print::calibrated(&calibration, &off, &args.out);
    Ok(0)
}

pub fn clean(args: &CleanArgs) -> Result<u8> {
    let config = LiveConfig { worker: args.worker.clone(), ..sockets(&args.sockets) };
    let removed = world::clean(&config)?;
    print::removed(&removed, &args.worker);
    Ok(0)
}

pub fn replay(args: &ReplayArgs) -> Result<u8> {
    let format = match args.format {
        TraceFormat::Csv => Format::Csv,
        TraceFormat::Azure2019 => Format::Azure2019,
        TraceFormat::Iluvatar => Format::Iluvatar,
    };
    let trace = TraceConfig::new(format, args.paths.clone());
    let mut over = Overrides::from_environment();
    add_simulated(&mut over, &args.simulated)?;
    add(&mut over, &args.keys());
    for (flag, key, value) in args.keys_of_any() {
        over.flag_of_any(flag, key, value);
    }
    if let Some(day) = args.day {
        over.flag_of_any("--day", "trace.day", &day.to_string());
    }
    if args.skip_bad {
        over.flag_of_any("--skip-bad", "trace.skip_bad", "true");
    }
    let base = Scenario::replay(name_of(&args.paths), trace);
    let plan = load_plan(None, Some(base), &with_common(over, &args.common)?)?;
    run(plan, &args.common, &World::Simulated)
}

/// A trace is called like its folder.
fn name_of(paths: &[PathBuf]) -> String {
    let place = match paths {
        [one] => Some(one.as_path()),
        [first, ..] => first.parent().filter(|p| !p.as_os_str().is_empty()),
        [] => None,
    };
    let name = place.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    name.filter(|n| n != ".." && n != ".").unwrap_or_else(|| "replay".into())
}

fn add(over: &mut Overrides, flags: &[Flag<'_>]) {
    for (flag, key, value) in flags {
        over.flag(flag, key, value);
    }
}

fn add_simulated(over: &mut Overrides, flags: &Simulated) -> Result<()> {
    add(over, &flags.keys());
    if let Some(workers) = flags.workers {
        over.flag_of_any("--workers", "worker.count", &workers.to_string());
    }
    if let Some(file) = &flags.calibration {
        Calibration::read(Path::new(file)).map_err(|fault| fault.within(format!("--calibration {file}")))?;
    }
    Ok(())
}

/// With the flags of every run, the most general last.
fn with_common(mut over: Overrides, common: &Common) -> Result<Overrides> {
    add(&mut over, &common.keys());
    if let Some(seed) = common.seed {
        over.flag_of_any("--seed", "seed", &seed.to_string());
    }
    for pair in &common.sets {
        over.set(pair)?;
    }
    Ok(over)
}

/// Where a plan runs.
pub enum World {
    Simulated,
    Live,
    /// What runs at an address, live.
    At {
        at: String,
        token_file: Option<PathBuf>,
        ca_file: Option<PathBuf>,
        clients: Option<u32>,
    },
}

fn run(plan: Scenario, common: &Common, world: &World) -> Result<u8> {
    if common.print_plan {
        return print::plan(&plan);
    }
    let target = common.out.clone().unwrap_or_else(|| default_target(&plan));
    run_into(plan, common, world, &target, listen()?)
}

fn run_into(
    plan: Scenario,
    common: &Common,
    world: &World,
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
    world: &World,
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
        .command(std::env::args().collect())
        .interrupt(interrupt);
    if let Some(tell) = progress.teller() {
        run = run.progress(tell);
    }
    let finished = match world {
        World::Simulated => run.simulate(),
        World::Live => run.live(),
        World::At { at, token_file, ca_file, clients } => {
            run.against(Target::new(at, token_file.as_deref(), ca_file.as_deref(), *clients)?).live()
        }
    };
    progress.clear();
    let finished = finished?;
    let counters = &finished.counters;
    tracing::info!(
        target: "elapse", polls = counters.polls, fires = counters.fires, cancels = counters.cancels, longest_queue =
        counters.longest_queue, wall_seconds = finished.wall_seconds, cpu_seconds = finished.cpu_seconds, "finished"
    );
    Ok(finished)
}

fn default_target(plan: &Scenario) -> PathBuf {
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

pub fn generate(args: &GenerateArgs) -> Result<u8> {
    if !(args.rate.is_finite() && args.rate > 0.0) {
        return Err(Fault::usage(format!("--rate {} is no rate; it is a finite number above 0", args.rate)));
    }
    if !(args.zipf.is_finite() && args.zipf >= 0.0) {
        return Err(Fault::usage(format!("--zipf {} is no exponent; it is a finite number >= 0", args.zipf)));
    }
    let folder = Folder::create(&args.folder, false)?;
    let length = match args.format {
        GenerateFormat::Csv => args.invocations,
        GenerateFormat::Azure2019 => args.minutes,
    };
    let plan = generator::Plan {
        seed: args.seed,
        functions: args.functions,
        length,
        rate: args.rate,
        zipf: args.zipf,
    };
    match args.format {
        GenerateFormat::Csv => generator::csv(folder.path(), &plan)?,
        GenerateFormat::Azure2019 => generator::azure_2019(folder.path(), &plan)?,
    }
    print::paths(std::slice::from_ref(&folder.commit(false)?));
    Ok(0)
}
