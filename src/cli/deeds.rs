//! What the words mean.

use super::args::{
    CalibrateArgs, CleanArgs, Common, DoctorArgs, GenerateArgs, GenerateFormat, LiveArgs, ReplayArgs,
    SimArgs, TraceFormat,
};
use super::repeat::{self, Repeats};
use super::{INTERRUPTED, print};
use elapse::backend::LiveConfig;
use elapse::base::{Fault, Result};
use elapse::load::{Format, TraceConfig, generate as generator};
use elapse::report::{self, Folder};
use elapse::rt::wall;
use elapse::world::{self, Calibrating, Finished, Overrides, Run, Scenario, Target, load_plan};
use elapse_real::Interrupt;
use std::path::{Path, PathBuf};

pub fn sim(args: SimArgs) -> Result<u8> {
    let plan = load_plan(Some(&args.scenario), None, &overrides(&args.common, &[])?)?;
    run(plan, &args.common, &World::Simulated)
}

pub fn live(args: LiveArgs) -> Result<u8> {
    let SimArgs { scenario, common } = args.run;
    let plan = load_plan(Some(&scenario), None, &overrides(&common, &[])?)?;
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
    let calibrating = Calibrating {
        config: &config,
        backends: &args.backends,
        rounds: args.rounds,
        force: args.force,
        interrupt: &listen()?,
    };
    let (calibration, off) = calibrating.run(print::measuring)?;
    let text = toml::to_string(&calibration).map_err(|e| Fault::bug(e.to_string()))?;
    report::replace(&args.out, text.as_bytes())?;
    print::calibrated(&calibration, &off);
    say!("{}", args.out.display());
    Ok(0)
}

pub fn clean(args: &CleanArgs) -> Result<u8> {
    let config = LiveConfig { worker: args.worker.clone(), ..sockets(&args.sockets) };
    for removed in world::clean(&config)? {
        say!("removed {removed}");
    }
    Ok(0)
}

pub fn replay(args: ReplayArgs) -> Result<u8> {
    let format = match args.format {
        TraceFormat::Csv => Format::Csv,
        TraceFormat::Azure2019 => Format::Azure2019,
        TraceFormat::Iluvatar => Format::Iluvatar,
    };
    let mut trace = TraceConfig::new(format, args.paths.clone());
    if let Some(scale) = &args.rate_scale {
        let wrong =
            || Fault::usage(format!("--rate-scale {scale}: it is a number above 0, for instance 0.1"));
        trace.rate_scale = Some(scale.parse().map_err(|_| wrong())?);
    }
    trace.day = args.day;
    let mut overrides = overrides(&args.common, &args.keys())?;
    if let Some(unit) = &args.unit {
        overrides.flag("--unit", "trace.unit", unit);
        overrides.flag("--unit", "worker.unit", unit);
    }
    if let Some(dist) = &args.cold_start {
        let pair = format!(
            "trace.cold_start={}",
            if dist.contains('{') { dist.clone() } else { format!("\"{dist}\"") }
        );
        overrides.set(&pair)?;
    }
    let plan = load_plan(None, Some(Scenario::replay(name_of(&args.paths), trace)), &overrides)?;
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

fn overrides(common: &Common, more: &[(&'static str, &'static str, &str)]) -> Result<Overrides> {
    let mut overrides = Overrides::from_environment();
    for (flag, key, value) in common.keys().into_iter().chain(more.iter().copied()) {
        overrides.flag(flag, key, value);
    }
    if let Some(seed) = common.seed {
        overrides.set(&format!("seed={seed}"))?;
    }
    if let Some(workers) = common.workers {
        overrides.set(&format!("worker.count={workers}"))?;
    }
    for pair in &common.sets {
        overrides.set(pair)?;
    }
    Ok(overrides)
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
        print!("{}", plan.to_toml()?);
        return Ok(0);
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
    if let Some(why) = missed(&finished) {
        let folder = finished.folder.as_ref().map_or("RUN".into(), |f| f.display().to_string());
        return Err(Fault::check(format!(
            "the run's results are whole, but nothing was fetched from Graphite: {why}; try elapse graphite pull {folder}"
        )));
    }
    Ok(if finished.interrupted { INTERRUPTED } else { 0 })
}

/// Why nothing came from Graphite, if it was wanted.
pub fn missed(finished: &Finished) -> Option<&str> {
    finished.graphite.as_ref()?.fault.as_deref()
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
    let progress = print::Progress::new();
    let mut run = Run::new(plan)
        .write_to(target, common.force)
        .plots(!common.no_plots)
        .command(std::env::args().collect())
        .interrupt(interrupt);
    if let Some(bar) = &progress {
        run = run.progress(bar.teller());
    }
    let finished = match world {
        World::Simulated => run.simulate(),
        World::Live => run.live(),
        World::At { at, token_file, ca_file, clients } => {
            run.against(Target::new(at, token_file.as_deref(), ca_file.as_deref(), *clients)?).live()
        }
    };
    if let Some(bar) = progress {
        bar.clear();
    }
    finished
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
    say!("{}", folder.commit(false)?.display());
    Ok(0)
}
