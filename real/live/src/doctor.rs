//! What this host can run, and what would spoil a run.

use crate::agent;
use crate::here::{common, engine};
use elapse::backend::{LiveConfig, NAMES};
use elapse::base::{Fault, Result};
use elapse_host::cgroup::{Cgroups, Hierarchy};
use elapse_host::doctor::{Finding, Level, examine};
use elapse_host::process::lacking;

/// Examines this host; the second is whether any real backend can run.
///
/// # Errors
/// A configuration that cannot be meant.
pub fn doctor(config: &LiveConfig) -> Result<(Vec<Finding>, bool)> {
    crate::backend::check(config).map_err(Fault::usage)?;
    let runtime = crate::backend::runtime()?;
    let mut all = Vec::new();
    let agent = agent::place(config.agent.as_deref());
    let no_agent = agent.is_err();
    all.push(match agent {
        Ok(path) => Finding::new(Level::Good, "agent", path.display().to_string()),
        Err(why) => Finding::new(Level::Missing, "agent", why.to_string()),
    });
    let mut any = false;
    for name in NAMES.into_iter().filter(|name| *name != "simulated") {
        match runtime.block_on(engine(name, config, common(config)?)) {
            Ok(_) if no_agent => {
                all.push(Finding::new(Level::Missing, name, "it is there, and lacks the agent"));
            }
            Ok(Some(engine)) if name == "process" => {
                any = true;
                all.push(isolation(config, engine.plain()));
                all.extend(lacking().into_iter().map(|(name, without)| {
                    Finding::new(Level::Spoils, name, format!("this kernel lacks it: {without}"))
                }));
            }
            Ok(_) => {
                any = true;
                all.push(Finding::new(Level::Good, name, "it answers"));
            }
            Err(why) => all.push(Finding::new(Level::Missing, name, why.to_string())),
        }
    }
    all.extend(examine());
    Ok((all, any))
}

fn isolation(config: &LiveConfig, plain: Option<&str>) -> Finding {
    let root = elapse_host::is_root();
    match (root, Cgroups::of(&config.worker, "process").hierarchy()) {
        (false, _) => {
            let says = match plain {
                None => "a user namespace and seccomp, and no limits; run it as root for those".to_string(),
                Some(why) => {
                    format!("plain processes that nothing holds ({why}); run it as root for sandboxes")
                }
            };
            Finding::new(Level::Spoils, "process", says)
        }
        (true, Hierarchy::None) => Finding::new(
            Level::Spoils,
            "process",
            "namespaces, but no cgroup that can be written to: nothing limits memory or processors",
        ),
        (true, Hierarchy::V1(controllers)) => Finding::new(
            Level::Good,
            "process",
            format!("namespaces, and cgroup v1 with {}", controllers.join(", ")),
        ),
        (true, Hierarchy::V2) => Finding::new(Level::Good, "process", "namespaces, and cgroup v2"),
    }
}
