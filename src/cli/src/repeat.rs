//! Repeats of a live run, kept in one folder.
//!
//! They are written beside its name, and it gets its name when the last one is whole: a set that was interrupted or failed
//! bears another one, so that nothing takes it for what was asked for, and what `--force` would have replaced stays.

use crate::run_args::Common;
use crate::running::{World, check, listen, run_to};
use crate::{INTERRUPTED, print};
use elapse::Scenario;
use elapse::base::{Fault, FaultKind, Result};
use elapse::report::{self, Side};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is repeated, and how.
pub struct Repeats<'a> {
    pub plan: &'a Scenario,
    pub common: &'a Common,
    pub world: World<'a>,
    /// How often.
    pub times: u32,
    /// How long is rested between two.
    pub cooldown: Duration,
}

/// How a set of repeats came to its end.
enum Ended {
    /// All are there; those with which something was wrong.
    Whole(Vec<u32>),
    Interrupted,
    Failed(Fault),
}

/// Runs them into `repeat-1`, `repeat-2`, ... of a folder.
///
/// # Errors
/// A folder that cannot be had, or what ended the repeats.
pub fn run(repeats: &Repeats<'_>, target: &Path) -> Result<u8> {
    let force = repeats.common.force;
    // A name is put beside it, which `.` and the like do not have.
    let named = target.file_name().is_some();
    let whole = if named { target.to_path_buf() } else { std::fs::canonicalize(target).unwrap_or_default() };
    let target = whole.as_path();
    check_room(target, force)?;
    let name = target.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
    let set = target.with_file_name(format!(".partial-{name}-{}", std::process::id()));
    let ended = run_all(repeats, &set);
    let kept = match ended {
        Ended::Whole(_) => place(&set, target, force)?,
        _ if !set.exists() => None,
        _ => place(&set, &report::interrupted(target), force)?,
    };
    let wrong = match ended {
        Ended::Whole(wrong) => wrong,
        Ended::Interrupted => {
            if let Some(kept) = kept {
                say!("results in {}", kept.display());
            }
            return Ok(INTERRUPTED);
        }
        Ended::Failed(fault) => {
            if let Some(kept) = kept {
                say!("the repeats before it are in {}", kept.display());
            }
            return Err(fault);
        }
    };
    let folder = kept.unwrap_or_else(|| target.to_path_buf());
    crate::told::noise_floor(report::noise_floor(&Side::open(&folder)?)?.trim_end(), &folder);
    if wrong.is_empty() {
        return Ok(0);
    }
    let wrong: Vec<String> = wrong.iter().map(u32::to_string).collect();
    Err(Fault::check(format!(
        "the results of all {} repeats are whole, in {}; what was wrong with repeat {} is told above",
        repeats.times,
        folder.display(),
        wrong.join(", ")
    )))
}

fn run_all(repeats: &Repeats<'_>, set: &Path) -> Ended {
    let interrupt = match listen() {
        Ok(interrupt) => interrupt,
        Err(fault) => return Ended::Failed(fault),
    };
    let mut wrong = Vec::new();
    for nth in 1..=repeats.times {
        if nth > 1 && !interrupt.rest(repeats.cooldown) {
            return Ended::Interrupted;
        }
        if !print::is_quiet() && !print::is_json() {
            say!("repeat {nth} of {}", repeats.times);
        }
        let folder = set.join(format!("repeat-{nth}"));
        let ran = run_to(repeats.plan.clone(), repeats.common, repeats.world, &folder, interrupt.clone());
        let mut finished = match ran {
            Ok(finished) => finished,
            Err(fault) if fault.kind() == FaultKind::Interrupted => return Ended::Interrupted,
            Err(fault) => return Ended::Failed(fault.within(format!("repeat {nth}"))),
        };
        // It is not where it will be.
        finished.folder = None;
        print::finished(&finished);
        // Its own results are whole, and the repeats that follow are as good.
        if let Err(fault) = check(&finished, repeats.common) {
            print::fault(&fault.within(format!("repeat {nth}")));
            wrong.push(nth);
        }
        if finished.interrupted {
            return Ended::Interrupted;
        }
    }
    Ended::Whole(wrong)
}

/// The repeats that a folder holds, also interrupted ones.
fn repeats_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_one = |name: &str| {
        let number = name.strip_prefix("repeat-").unwrap_or_default();
        let number = number.strip_suffix(".interrupted").unwrap_or(number);
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    };
    let mut found: Vec<PathBuf> =
        entries.filter(|e| is_one(&e.file_name().to_string_lossy())).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Sees that a folder may hold these repeats, and nothing that would be taken for one of them.
fn check_room(folder: &Path, force: bool) -> Result<()> {
    if folder.join("run.json").exists() {
        return Err(Fault::usage(format!(
            "will not write repeats into {}: it is a run itself; name another folder with --out",
            folder.display()
        )));
    }
    repeats_in(folder).iter().try_for_each(|old| report::check_target(old, force))
}

/// Moves a set of repeats to where it belongs, in the place of the repeats that are there; where it is then, or none if the
/// set is empty. What else is in that folder stays.
fn place(set: &Path, target: &Path, force: bool) -> Result<Option<PathBuf>> {
    let fault = |e: std::io::Error| {
        Fault::host(format!(
            "cannot move the repeats to {}: {e}; what is not there is in {}",
            target.display(),
            set.display()
        ))
    };
    let new = repeats_in(set);
    if new.is_empty() {
        let _ = std::fs::remove_dir(set);
        return Ok(None);
    }
    let mut target = target.to_path_buf();
    if check_room(&target, force).is_err() {
        target = report::free_name(&target);
    }
    if !target.exists() {
        std::fs::rename(set, &target).map_err(fault)?;
        return Ok(Some(target));
    }
    repeats_in(&target).iter().try_for_each(std::fs::remove_dir_all).map_err(fault)?;
    for one in new {
        std::fs::rename(&one, target.join(one.file_name().unwrap_or_default())).map_err(fault)?;
    }
    let _ = std::fs::remove_dir(set);
    Ok(Some(target))
}
