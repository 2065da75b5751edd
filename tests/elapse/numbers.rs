//! Numbers that do not depend on the machine's mood: instructions for each invocation, memory, with 10 % slack.

use crate::common::{has, program, scratch, shared};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Instructions for each invocation of the whole process, measured on 2026-11-27 with callgrind. They were 3,060 before counts went
/// by the window, what is held was integrated, and functions had a distribution of their slowdowns.
const INSTRUCTIONS: f64 = 3_663.0;
/// Peak resident memory in MiB that a replay without records may reach, whatever its length.
const MEMORY_MIB: f64 = 64.0;

fn generated(test: &str, rows: u32) -> Option<PathBuf> {
    let generator = shared("bench/gen_trace.py");
    if !has("bench", test, generator.exists() && program("python3")) {
        return None;
    }
    let folder = scratch(&format!("{test}-{rows}"));
    let made = Command::new("python3").arg(generator).arg(&folder).args(["-n", &rows.to_string()]).status();
    assert!(made.expect("python3").success());
    Some(folder)
}

fn arguments(folder: &Path) -> Vec<String> {
    let out = folder.join("out");
    let _ = std::fs::remove_dir_all(&out);
    let file = |name: &str| folder.join(name).display().to_string();
    let flags = "--cores unlimited --memory unlimited --keep-alive 600s --records none --no-plots --out";
    let mut all = vec!["replay".into(), "csv".into(), file("functions.csv"), file("invocations.csv")];
    all.extend(flags.split(' ').map(str::to_string));
    all.push(out.display().to_string());
    all
}

fn release() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/elapse")
}

#[test]
fn instructions_for_each_invocation() {
    let test = "instructions_for_each_invocation";
    if !has("valgrind", test, program("valgrind")) || !has("release", test, release().exists()) {
        return;
    }
    let count = |rows: u32| -> Option<f64> {
        let folder = generated(test, rows)?;
        let out = Command::new("valgrind")
            .args([
                "--tool=callgrind",
                &format!("--callgrind-out-file={}", folder.join("callgrind").display()),
            ])
            .arg(release())
            .args(arguments(&folder))
            .output()
            .expect("valgrind");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find(|l| l.contains("refs:")).unwrap_or_else(|| panic!("{said}"));
        Some(line.rsplit(' ').next()?.replace(',', "").parse().expect("a count"))
    };
    let Some((small, large)) = count(100_000).zip(count(200_000)) else { return };
    let each = (large - small) / 100_000.0;
    println!("{each:.0} instructions for each invocation");
    assert!(
        each <= INSTRUCTIONS * 1.1,
        "{each:.0} instructions for each invocation, {INSTRUCTIONS} were measured before"
    );
}

#[test]
fn memory_does_not_grow_with_the_number_of_invocations() {
    let test = "memory_does_not_grow_with_the_number_of_invocations";
    if !has("release", test, release().exists()) {
        return;
    }
    let mut peaks = Vec::new();
    for rows in [100_000, 1_000_000] {
        let Some(folder) = generated(test, rows) else { return };
        let ran = Command::new(release()).args(arguments(&folder)).output().expect("elapse");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let run: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("out/run.json")).expect("run.json"))
                .expect("JSON");
        peaks.push(run["peak_rss_mb"].as_f64().expect("a number"));
    }
    println!("peak memory: {peaks:?} MiB");
    assert!(peaks.iter().all(|p| *p <= MEMORY_MIB * 1.1), "{peaks:?} MiB");
}
