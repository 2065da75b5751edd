//! What is simulated and generated.

use crate::args::{ReplayArgs, TraceFormat};
use crate::host_args::{GenerateArgs, GenerateFormat};
use crate::print;
use crate::run_args::SimArgs;
use crate::running::{add, add_simulated, run, simulated, with_common};
use elapse::base::{Fault, Result};
use elapse::load::{Format, TraceConfig, generate as generator};
use elapse::report::Folder;
use elapse::{Overrides, Scenario, load_plan};
use std::path::{Path, PathBuf};

pub fn sim(args: &SimArgs) -> Result<u8> {
    let mut over = Overrides::from_environment();
    add_simulated(&mut over, &args.simulated)?;
    let plan = load_plan(Some(&args.scenario), None, &with_common(over, &args.common)?)?;
    run(plan, &args.common, &simulated)
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
    run(plan, &args.common, &simulated)
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
