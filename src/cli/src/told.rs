//! What is told of this host, of its calibration and of a Graphite.

use crate::print::{is_json, is_quiet, to_stderr, value};
use crate::show;
use elapse::Pulled;
use elapse::backend::Calibration;
use elapse::base::{Dist, nearest};
use elapse_host::doctor::{Finding, Level};
use elapse_live::Stage;
use serde_json::json;
use std::path::Path;

pub fn measuring(backend: &str) {
    if !is_quiet() {
        to_stderr(&format!("measuring {backend}; nothing else should run meanwhile"));
    }
}

/// What was measured, in means, what of it does not come out when it is simulated again, and where it is.
pub fn calibrated(calibration: &Calibration, off: &[Stage], path: &Path) {
    if is_json() {
        let measured = serde_json::to_value(calibration).unwrap_or_default();
        return value(&json!({"out": path, "calibration": measured}));
    }
    let ms = |dist: &Dist| show::millis(dist.mean() / 1e6);
    for (name, m) in calibration.backend.iter().filter(|_| !is_quiet()) {
        let cold: Vec<String> = m.cold_start.iter().map(|(n, d)| format!("{} at {n}", ms(d))).collect();
        say!("{name}: cold start {}; removal {}", cold.join(", "), ms(&m.removal));
        let over: Vec<String> = m.overhead.iter().map(|(b, d)| format!("{} {}", b.word(), ms(d))).collect();
        say!("  beyond the intended duration: {}; first call {}", over.join(", "), ms(&m.first_call));
        if let Some(read) = &m.memory_read {
            say!("  a reading of its memory: {}", ms(read));
        }
    }
    for stage in off {
        say!(
            "  note: {}: {}: {:.3} ms measured, {:.3} ms when it is simulated again ({:+.0} %)",
            stage.backend,
            stage.what,
            stage.measured,
            stage.simulated,
            stage.off() * 100.0
        );
    }
    calibration.remarks().iter().for_each(|remark| say!("  note: {remark}"));
    say!("{}", path.display());
}

/// What was seen of this host.
pub fn findings(all: &[Finding]) {
    for finding in all {
        let mark = match finding.level {
            Level::Good => "ok",
            Level::Spoils => "spoils",
            Level::Missing => "missing",
        };
        if is_json() {
            value(&json!({"level": mark, "what": finding.what, "says": finding.says}));
        } else {
            say!("{mark:<7}  {:<12} {}", finding.what, finding.says);
        }
    }
}

/// What was removed of a worker.
pub fn removed(removed: &[String], worker: &str) {
    if is_json() {
        return value(&json!({"worker": worker, "removed": removed}));
    }
    removed.iter().for_each(|what| say!("removed {what}"));
    if removed.is_empty() {
        let others = elapse_host::doctor::workers();
        let near = nearest(worker, others.iter().map(String::as_str));
        let hint = match (near, others.is_empty()) {
            (_, true) => String::new(),
            (Some(near), _) => format!("; did you mean '{near}'?"),
            (None, _) => format!("; it has something of {}", others.join(", ")),
        };
        say!("this host has nothing of a worker '{worker}'{hint}");
    }
}

/// What came from Graphite, and where it is.
pub fn pulled(pulled: &Pulled, path: &Path) {
    if is_json() {
        let remarks = &pulled.remarks;
        return value(
            &json!({"path": path, "series": pulled.series, "points": pulled.points, "remarks": remarks}),
        );
    }
    say!("{} series with {} points", show::count(pulled.series as u64), show::count(pulled.points));
    pulled.remarks.iter().for_each(|remark| say!("  note: {remark}"));
    say!("{}", path.display());
}

/// What a check found, and whether all is well.
pub fn says(lines: &[String], good: bool) {
    if is_json() {
        value(&json!({"good": good, "says": lines}));
    } else {
        lines.iter().for_each(|line| say!("{line}"));
    }
}

/// What repeats differ in.
pub fn noise_floor(text: &str, folder: &Path) {
    if is_json() {
        value(&json!({"folder": folder, "noise_floor": text.lines().collect::<Vec<_>>()}));
    } else if is_quiet() {
        say!("{}", folder.display());
    } else {
        say!("{text}");
    }
}
