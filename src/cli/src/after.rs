//! What is done with finished runs.

use crate::args::{AlignArgs, CompareArgs, PlotArgs};
use crate::print;
use elapse::base::{Duration, Fault, Result};
use elapse::plot;
use elapse::report::{self, Alignment, Finished, Rule, Side};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub fn plot(args: &PlotArgs) -> Result<u8> {
    let mut runs = Vec::new();
    for (name, folder) in names_of(&args.runs).into_iter().zip(&args.runs) {
        runs.push((name, Finished::open(folder)?));
    }
    let drawn = |plots| match &args.font {
        Some(font) => plot::outlined(plots, font),
        None => Ok(plots),
    };
    for (name, run) in &runs {
        let plots = drawn(plot::redraw(run, &args.series)?)?;
        let paths = match &args.out {
            Some(out) => plot::save(&out.join(name), &plots, true)?,
            None => plot::write_plots(&run.folder, &plots, true)?,
        };
        print::paths(&paths);
    }
    if let Some(out) = args.out.as_ref().filter(|_| runs.len() > 1) {
        print::paths(&plot::save(out, &drawn(vec![plot::together(&runs)?])?, true)?);
    }
    Ok(0)
}

/// Runs are called like their folders; where two are called the same, with what is above as well.
fn names_of(folders: &[PathBuf]) -> Vec<String> {
    let short: Vec<String> = folders.iter().map(|folder| name_of(folder)).collect();
    let mut names: Vec<String> = Vec::new();
    for (folder, name) in folders.iter().zip(&short) {
        let mut given = name.clone();
        if short.iter().filter(|other| *other == name).count() > 1 {
            let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            if let Some(above) = whole.parent().and_then(Path::file_name) {
                given = format!("{}-{name}", above.to_string_lossy());
            }
        }
        let same = names.iter().filter(|n| **n == given).count();
        names.push(if same == 0 { given } else { format!("{given}-{}", same + 1) });
    }
    names
}

fn name_of(folder: &Path) -> String {
    let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned())
}

/// A span of time that was typed behind a flag.
///
/// # Errors
/// That it is none.
pub fn span(flag: &str, text: &str) -> Result<Duration> {
    text.parse().map_err(|why| Fault::usage(format!("{flag} {text}: {why}")))
}

pub fn align(args: &AlignArgs) -> Result<u8> {
    let mut runs = Vec::new();
    for (name, folder) in names_of(&args.runs).into_iter().zip(&args.runs) {
        runs.push((name, Finished::open(folder)?));
    }
    let pair = |flag: &str, text: &str| -> Result<(String, String)> {
        let (left, right) = text.split_once('=').ok_or_else(|| {
            Fault::usage(format!("{flag} {text}: write {flag} PATTERN=..., for instance servers.db1=..."))
        })?;
        Ok((left.to_string(), right.to_string()))
    };
    let mut how = Alignment { relative: args.relative || runs.len() > 1, ..Alignment::default() };
    if let Some(step) = &args.step {
        let step = span("--step", step)?;
        if step < Duration::from_millis(1) {
            return Err(Fault::usage(format!("--step {step}: a bucket is at least 1ms long")));
        }
        how.step = Some(step.as_secs_f64());
    }
    for text in &args.shifts {
        let (pattern, seconds) = pair("--shift", text)?;
        let (sign, seconds) = seconds.strip_prefix('-').map_or((1.0, seconds.as_str()), |s| (-1.0, s));
        how.shifts.push((pattern, sign * span("--shift", seconds)?.as_secs_f64()));
    }
    for text in &args.markers {
        how.markers.push(pair("--marker", text)?);
    }
    let rules = [
        (&args.mean, Rule::Mean),
        (&args.sum, Rule::Sum),
        (&args.min, Rule::Min),
        (&args.max, Rule::Max),
        (&args.last, Rule::Last),
    ];
    for (patterns, rule) in rules {
        how.rules.extend(patterns.iter().map(|p| (p.clone(), rule)));
    }
    let remarks = match &args.out {
        Some(path) => report::replace_by(path, |mut file| report::align(&runs, &how, &mut file))?,
        None => {
            let mut out = BufWriter::new(print::Table::default());
            let remarks = report::align(&runs, &how, &mut out)?;
            out.flush().map_err(|e| Fault::host(format!("cannot write the table: {e}")))?;
            remarks
        }
    };
    print::remarks(&remarks);
    Ok(0)
}

pub fn compare(args: &CompareArgs) -> Result<u8> {
    let tolerances = report::tolerances(&args.tolerances)?;
    let (a, b) = (Side::open(&args.a)?, Side::open(&args.b)?);
    let found = report::compare(&a, &b, &tolerances)?;
    match print::is_json() {
        true => print::value(&found.json()),
        false => print::put(found.text().as_bytes()),
    }
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Fault::writing(out, &e))?;
        let json = serde_json::to_string_pretty(&found.json()).unwrap_or_default() + "\n";
        report::replace(&out.join("compare.json"), json.as_bytes())?;
        report::replace(&out.join("compare.txt"), found.text().as_bytes())?;
        report::replace(&out.join("figures.csv"), found.figures_csv().as_bytes())?;
        report::replace(&out.join("functions.csv"), found.functions_csv().as_bytes())?;
        let pictures = plot::save(out, &[plot::both(&found.names, &found.latency)?], true)?;
        if !print::is_json() {
            print::paths(&pictures);
        }
    }
    if found.holds() {
        return Ok(0);
    }
    let failed: Vec<&str> = found.checks.iter().filter(|c| !c.holds).map(|c| c.figure.as_str()).collect();
    Err(Fault::check(format!(
        "{} and {} are farther apart than allowed in {}",
        a.name,
        b.name,
        failed.join(", ")
    )))
}
