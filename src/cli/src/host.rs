//! What is done on this host: live runs, calibration, what it can and what was left on it, and the Graphite beside runs.

use crate::after::span;
use crate::args::{CheckArgs, PullArgs};
use crate::host_args::{CalibrateArgs, CleanArgs, DoctorArgs};
use crate::repeat::{self, Repeats};
use crate::run_args::LiveArgs;
use crate::running::{default_target, listen, run, with_common};
use crate::told;
use elapse::backend::LiveConfig;
use elapse::base::{Fault, Result};
use elapse::{GraphiteConfig, Overrides, Run, Wire, load_plan, plot, report};
use elapse_live::graphite::{self, Client};
use elapse_live::{Calibrating, Target};
use std::path::Path;

pub fn live(args: &LiveArgs) -> Result<u8> {
    let common = &args.common;
    let over = with_common(Overrides::from_environment(), common)?;
    let plan = load_plan(Some(&args.scenario), None, &over)?;
    let world = |run: Run| match &args.at {
        Some(at) => {
            let (token_file, ca_file) = (args.token_file.as_deref(), args.ca_file.as_deref());
            elapse_live::live_at(run, Target::new(at, token_file, ca_file, args.clients)?)
        }
        None => elapse_live::live(run),
    };
    if args.repeat == 1 || common.print_plan {
        return run(plan, common, &world);
    }
    let wrong = |why| Fault::usage(format!("--cooldown {}: {why}", args.cooldown));
    let cooldown: elapse::base::Duration = args.cooldown.parse().map_err(wrong)?;
    let folder = common.out.clone().unwrap_or_else(|| default_target(&plan));
    let repeats =
        Repeats { plan: &plan, common, world: &world, times: args.repeat, cooldown: cooldown.into() };
    repeat::run(&repeats, &folder)
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
    let (findings, any) = elapse_live::doctor(&sockets(args))?;
    told::findings(&findings);
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
    let (calibration, off) = calibrating.run(told::measuring)?;
    let text = toml::to_string(&calibration).map_err(|e| Fault::bug(e.to_string()))?;
    report::replace(&args.out, text.as_bytes())?;
    told::calibrated(&calibration, &off, &args.out);
    Ok(0)
}

pub fn clean(args: &CleanArgs) -> Result<u8> {
    let config = LiveConfig { worker: args.worker.clone(), ..sockets(&args.sockets) };
    let removed = elapse_live::clean(&config)?;
    told::removed(&removed, &args.worker);
    Ok(0)
}

pub fn graphite_pull(args: &PullArgs) -> Result<u8> {
    let run = report::Finished::open(&args.run)?;
    let planned = &run.run["plan"]["graphite"];
    let url =
        args.url.as_deref().or(planned["url"].as_str()).ok_or_else(|| {
            Fault::usage("the run's scenario names no Graphite; give --url http://HOST:PORT")
        })?;
    let mut targets = args.targets.clone();
    if targets.is_empty() {
        let named = planned["targets"].as_array().into_iter().flatten();
        targets.extend(named.filter_map(|t| t.as_str().map(str::to_string)));
    }
    let client = Client::new(url, span("--timeout", &args.timeout)?.into(), args.attempts);
    let pulled = graphite::pull(&args.run, client, &targets)?;
    let plots = plot::redraw(&report::Finished::open(&args.run)?, &[])?;
    if args.run.join("report.html").exists() {
        plot::write_plots(&args.run, &plots, false)?;
    }
    told::pulled(&pulled, &args.run.join("graphite.csv"));
    Ok(u8::from(pulled.points == 0))
}

pub fn graphite_check(args: &CheckArgs) -> Result<u8> {
    let config = GraphiteConfig {
        carbon: Some(args.carbon.clone()),
        protocol: match args.protocol.to_lowercase().as_str() {
            "plaintext" => Wire::Plaintext,
            "pickle" => Wire::Pickle,
            other => {
                return Err(Fault::usage(format!("--protocol {other}: it is plaintext or pickle")));
            }
        },
        url: Some(args.url.clone()),
        wait: span("--wait", &args.wait)?,
        ..GraphiteConfig::default()
    };
    config.check().map_err(Fault::usage)?;
    let (says, good) = graphite::check(&config, args.creations)?;
    told::says(&says, good);
    Ok(u8::from(!good))
}
