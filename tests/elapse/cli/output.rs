//! What is printed: for people, for programs, to nobody; and the exit codes that go with it.

use super::{SCENARIO, elapse, fails, scratch};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

fn run(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output = elapse(&[&["sim", "s.toml", "--force"], more].concat(), dir);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn with_scenario(name: &str) -> std::path::PathBuf {
    let dir = scratch(name);
    std::fs::write(dir.join("s.toml"), SCENARIO.replace("'5/s'", "'500/s'")).unwrap();
    dir
}

#[test]
fn people_get_shares_tails_and_units_that_scale() {
    let dir = with_scenario("people");
    let (code, out, _) = run(&dir, &["--out", "r"]);
    assert_eq!(code, Some(0));
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("r/summary.json")).unwrap()).unwrap();
    let all = summary["invocations"].as_u64().unwrap();
    assert!((4_000..6_000).contains(&all));
    let apart = format!("{},{:03} invocations of 1 function, all completed", all / 1000, all % 1000);
    assert!(out.contains(&apart), "{out}");
    for part in
        ["p95", "p99.9", " %)", " ms", "first 1 (", "never called before", "offered load", "MB is MiB"]
    {
        assert!(out.contains(part), "'{part}' is not in: {out}");
    }
    for nothing in ["prewarmed", "late ", "evicted", "expired", "NaN", " - "] {
        assert!(!out.contains(nothing), "'{nothing}' is in: {out}");
    }
    // A queue in which nobody waited is no line of zeros.
    assert!(!out.lines().any(|line| line.split_whitespace().skip(1).all(|cell| cell == "0")), "{out}");
    assert!(out.contains("results in r; open r/report.html"), "{out}");
    let (_, out, _) = run(&dir, &["--out", "without", "--no-plots"]);
    assert!(out.contains("results in without\n") && !out.contains("report.html"), "{out}");
}

#[test]
fn what_is_assumed_of_cold_starts_is_told() {
    let dir = with_scenario("assumed");
    let told = |more: &[&str]| run(&dir, &[&["--out", "r", "--no-plots"], more].concat()).1;
    let out = told(&[]);
    assert!(out.contains("Assumed cold starts") && out.contains("mean 3.24 s"), "{out}");
    for given in ["model.cold_start=500ms", "function.0.cold_start=500ms"] {
        assert!(!told(&["--set", given]).contains("Assumed"), "{given}");
    }
    let methods = std::fs::read_to_string(dir.join("r/methods.txt")).unwrap();
    assert!(!methods.contains("Assumed"), "{methods}");
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-traces");
    let replay = |format: &str, folder: &str| {
        let place = traces.join(folder).display().to_string();
        let output =
            elapse(&["replay", format, &place, "--out", "t", "--force", "--no-plots", "--to", "2min"], &dir);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(replay("azure-2019", "azure-2019-day").contains("mean 3.24 s"));
    assert!(!replay("csv", "csv-20").contains("3.24"), "that one has cold starts of its own");
}

#[test]
fn programs_get_json_and_scripts_get_the_folder() {
    let dir = with_scenario("programs");
    let (code, out, err) = run(&dir, &["--out", "r", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out.trim().lines().count(), 1);
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("r/summary.json")).unwrap()).unwrap();
    assert_eq!(found["folder"], "r");
    for (key, value) in written.as_object().unwrap() {
        assert_eq!(found[key], *value, "{key}");
    }
    let (code, out, err) = run(&dir, &["--out", "r", "-q"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "r\n", ""));
    // Every other command that has a result of its own.
    assert!(elapse(&["sim", "s.toml", "--out", "other", "--seed", "2", "-q"], &dir).status.success());
    let lines = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output = elapse(&[arguments, &["--json"]].concat(), &dir);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    };
    assert_eq!(lines(&["sim", "s.toml", "--print-plan"])[0]["worker"]["memory"], "1GiB");
    assert!(
        lines(&["plot", "r"]).iter().all(|line| line["path"].as_str().is_some_and(|p| p.starts_with("r/")))
    );
    assert!(lines(&["compare", "r", "other"])[0].is_object());
    let rows = lines(&["align", "r"]);
    assert!(rows.len() > 10 && rows.iter().all(|row| row["time"].is_number() && row["path"].is_string()));
    assert!(lines(&["doctor"]).iter().all(|line| line["what"].is_string() && line["says"].is_string()));
    assert_eq!(lines(&["trace", "generate", "csv", "made"])[0]["path"], "made");
    assert_eq!(lines(&["clean", "--worker", "nobody-here"])[0]["removed"], serde_json::json!([]));
}

#[test]
fn a_condition_that_holds_exits_with_1_and_keeps_the_results() {
    let dir = with_scenario("fail-if");
    let (code, out, err) = run(&dir, &["--out", "r", "--fail-if", "latency_ms.p99 > 1ms"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.starts_with("elapse: --fail-if: latency_ms.p99 is ") && err.contains("(latency_ms.p99 > 1ms)"),
        "{err}"
    );
    assert!(out.contains("results in r") && dir.join("r/summary.json").exists());
    let none =
        ["--fail-if", "latency_ms.p99 > 10min", "--fail-if", "dropped > 0", "--fail-if", "cold_starts > 50%"];
    assert_eq!(run(&dir, &[&["--out", "r"], &none[..]].concat()).0, Some(0));
    let (code, _, err) = run(&dir, &[&["--out", "r"], &none[..], &["--fail-if", "completed >= 1"]].concat());
    assert!(code == Some(1) && err.contains("completed is") && !err.contains("dropped"), "{err}");
    // What cannot be meant is told before the run.
    let said = fails(&["sim", "s.toml", "--out", "out", "--fail-if", "latency_ms.p9 > 2s"], &dir, 2);
    assert!(said.contains("there is no figure 'latency_ms.p9'; did you mean 'latency_ms.p9"), "{said}");
}

/// Runs a line of bash in a folder, where `elapse` is the program.
fn bash(dir: &Path, line: &str) -> Output {
    let bin = crate::common::elapse().parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -o pipefail; {line}")]).env("PATH", path).current_dir(dir);
    command.output().expect("bash")
}

#[test]
fn a_full_stdout_is_a_fault_and_a_closed_one_is_not() {
    let dir = scratch("stdout");
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    for out in ["r", "again"] {
        assert!(elapse(&["sim", "s.toml", "--no-plots", "--out", out], &dir).status.success());
    }
    let commands = [
        "--help",
        "sim --help",
        "--version",
        "completions bash",
        "sim s.toml --print-plan",
        "sim s.toml --no-plots --out r --force",
        "sim s.toml --no-plots --out r --force -q",
        "sim s.toml --no-plots --out r --force --json",
        "plot r",
        "compare r again",
        "align r",
        "doctor",
        "clean --worker nobody-here",
        "trace generate csv made-$RANDOM-$RANDOM",
    ];
    for arguments in commands {
        let full = bash(&dir, &format!("elapse {arguments} > /dev/full"));
        let said = String::from_utf8_lossy(&full.stderr).into_owned();
        assert_eq!(full.status.code(), Some(3), "{arguments}: {said}");
        assert!(said.contains("cannot write to standard output: no space is left"), "{arguments}: {said}");
        assert!(!said.contains("panicked"), "{arguments}: {said}");
        let closed = bash(&dir, &format!("elapse {arguments} | true"));
        let said = String::from_utf8_lossy(&closed.stderr).into_owned();
        // Doctor's own code tells of the host.
        assert!(closed.status.success() || arguments == "doctor", "{arguments}: {said}");
        assert!(
            said.is_empty() || arguments == "doctor" || said.starts_with("note: "),
            "{arguments}: {said}"
        );
    }
    let said = bash(&dir, "elapse sim s.toml --no-plots --out kept > /dev/full").stderr;
    assert!(String::from_utf8_lossy(&said).contains("the results are whole, in kept"));
    // Nobody reads what is wrong either.
    let out = Command::new(crate::common::elapse())
        .args(["sim", "nothing.toml"])
        .stderr(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn cleaning_up_after_nobody_says_so() {
    let dir = scratch("clean");
    let output = elapse(&["clean", "--worker", "nobody-here"], &dir);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("this host has nothing of a worker 'nobody-here'"),
        "{said}"
    );
}

/// A live run knows its end, so that its bar moves; on the simulated backend, which needs nothing of the host.
#[test]
fn a_live_run_tells_how_far_it_is() {
    use elapse::{Overrides, Run, load_plan};
    use std::cell::RefCell;
    use std::rc::Rc;
    let dir = scratch("live-progress");
    std::fs::write(dir.join("s.toml"), SCENARIO.replace("'10s'", "'600ms'")).unwrap();
    let mut overrides = Overrides::default();
    for pair in ["worker.backends=[\"simulated\"]", "model.cold_start=1ms", "live.worker=clibar"] {
        overrides.set(pair).unwrap();
    }
    let plan = load_plan(Some(&dir.join("s.toml")), None, &overrides).unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    let tell = Rc::clone(&told);
    let run = Run::new(plan).progress(move |far| tell.borrow_mut().push((far.now, far.horizon)));
    elapse_live::live(run).unwrap();
    let told = told.borrow();
    assert!(told.len() >= 3, "{told:?}");
    assert!(told.iter().all(|(_, end)| end.is_some_and(|end| end.as_nanos() == 600_000_000)), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
}
