//! Comparisons: what is told apart, what is refused, and repeats with their noise floor.

use crate::common::containers::{agent, worker_name};
use crate::common::{has, scratch};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn elapse(args: &[&str]) -> Output {
    let mut command = Command::new(crate::common::elapse());
    command.args(args).output().expect("elapse was started")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

/// Simulates two functions for a minute, with changes.
fn run(folder: &Path, name: &str, sets: &[&str]) -> PathBuf {
    let file = folder.join("scenario.toml");
    let scenario = "name = \"c\"\nduration = \"60s\"\n[worker]\nmemory = \"1GiB\"\ncores = 2\nkeep_alive = \"2s\"\n[model]\n\
                    cold_start = \"200ms\"\n[[function]]\nname = \"often\"\nmemory = \"64MiB\"\nduration = \"30ms\"\n\
                    load = { poisson = \"10/s\" }\n[[function]]\nname = \"rare\"\nmemory = \"64MiB\"\nduration = \"50ms\"\n\
                    load = { constant = \"0.3/s\" }\n";
    std::fs::write(&file, scenario).expect("a scenario");
    let out = folder.join(name);
    let mut args = vec!["sim", text(&file), "--out", text(&out), "--no-plots"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    let ran = elapse(&args);
    assert!(ran.status.success(), "{}", said(&ran));
    out
}

#[test]
fn equal_runs_hold_and_a_wrong_cold_start_is_named() {
    let folder = scratch("compare");
    let a = run(&folder, "a", &[]);
    let same = elapse(&["compare", text(&a), text(&run(&folder, "b", &[]))]);
    assert!(same.status.success(), "{}", said(&same));
    assert!(said(&same).contains("The plans are the same."));
    let wrong = run(&folder, "wrong", &["model.cold_start=400ms"]);
    let out = folder.join("out");
    let told = elapse(&["compare", text(&a), text(&wrong), "--out", text(&out)]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    for says in [
        "model.cold_start: 200ms | 400ms",
        "FAILS  cold_ms.p50        200 | 400, 200 apart, 30 allowed: the stage of cold starts",
        "a and wrong are farther apart than allowed in",
        "often",
    ] {
        assert!(said(&told).contains(says), "'{says}' is not in: {}", said(&told));
    }
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("compare.json")).expect("a file"))
            .expect("JSON");
    assert_eq!(json["holds"], false);
    let cold = &json["distances"].as_array().expect("a list")[2];
    assert_eq!((cold["figure"].as_str(), cold["ks"].as_f64()), (Some("cold_ms"), Some(1.0)));
    for file in ["compare.txt", "figures.csv", "functions.csv", "latency-cdfs.svg", "latency-cdfs.png"] {
        assert!(out.join(file).exists(), "{file}");
    }
    // Whoever says how much is allowed is heard.
    let off = [
        "cold_ms.p50=100%",
        "latency_ms.p99=300%",
        "cold_starts=off",
        "latency_ms.p50=off",
        "queue_ms.mean=off",
    ];
    let mut args = vec!["compare", text(&a), text(&wrong)];
    off.iter().for_each(|t| args.extend(["--tolerance", t]));
    assert!(elapse(&args).status.success(), "{}", said(&elapse(&args)));
}

/// A calibration that is wrong in one thing is found out, and that thing named.
#[test]
fn a_calibration_with_cold_starts_twice_as_long_is_found_out() {
    let folder = scratch("compare-calibration");
    let calibrated = |name: &str, cold_start: &str| {
        let text = format!(
            "[host]\nkernel = \"k\"\ncpu = \"c\"\ncores = 2\nmemory_mb = 1024\ndate = \"d\"\n[backend.process]\n\
             first_call = \"0s\"\nremoval = \"5ms\"\n[backend.process.cold_start]\n1 = \"{cold_start}\"\n\
             [backend.process.overhead]\nsleep = \"80us\"\n"
        );
        std::fs::write(folder.join(format!("{name}.toml")), text).expect("a calibration");
        let calibration = format!("model.calibration={}", folder.join(format!("{name}.toml")).display());
        run(&folder, name, &["worker.backends=[\"process\"]", &calibration])
    };
    let (right, wrong) = (calibrated("right", "20ms"), calibrated("wrong", "40ms"));
    let told = elapse(&["compare", text(&right), text(&wrong)]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    for says in ["calibration.hash", "FAILS  cold_ms.p50", "are farther apart than allowed in"] {
        assert!(said(&told).contains(says), "'{says}' is not in: {}", said(&told));
    }
    let again = calibrated("again", "20ms");
    assert!(elapse(&["compare", text(&right), text(&again)]).status.success());
}

#[test]
fn an_interrupted_repeat_is_none_and_a_run_beside_repeats_is_refused() {
    let folder = scratch("compare-repeats");
    let a = run(&folder, "a", &[]);
    let set = folder.join("set");
    let repeat = |nth: u32, interrupted: bool| {
        let to = set.join(format!("repeat-{nth}"));
        std::fs::create_dir_all(&to).expect("a folder");
        for entry in std::fs::read_dir(&a).expect("a run").flatten().filter(|e| e.path().is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
        let file = to.join("run.json");
        let about = std::fs::read_to_string(&file).expect("a file");
        let about = about.replace("\"interrupted\": false", &format!("\"interrupted\": {interrupted}"));
        std::fs::write(file, about).expect("a file");
    };
    let compared = || elapse(&["compare", text(&a), text(&set)]);
    repeat(1, false);
    repeat(2, true);
    repeat(3, false);
    assert!(said(&compared()).contains("set (2 runs)"), "{}", said(&compared()));
    [1, 3].into_iter().for_each(|nth| repeat(nth, true));
    let none = compared();
    assert!(none.status.code() == Some(2) && said(&none).contains("was interrupted"), "{}", said(&none));
    let alone = elapse(&["compare", text(&a), text(&set.join("repeat-2"))]);
    assert!(said(&alone).contains("repeat-2 was interrupted before its load had ended."), "{}", said(&alone));
    repeat(1, false);
    std::fs::copy(a.join("run.json"), set.join("run.json")).expect("a copy");
    let both = compared();
    assert!(
        both.status.code() == Some(2) && said(&both).contains("holds a run and repeats of one"),
        "{}",
        said(&both)
    );
}

#[test]
fn a_run_whose_invocations_fail_is_not_like_one_whose_do_not() {
    let folder = scratch("compare-failed");
    let a = run(&folder, "a", &[]);
    let failed = run(&folder, "failed", &["function.0.failure=1", "function.1.failure=1"]);
    let told = elapse(&["compare", text(&a), text(&failed)]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    assert!(said(&told).contains("FAILS  completed"), "{}", said(&told));
    // What only one of them has is as different as can be.
    let warm = run(&folder, "none", &["model.creation_failure=1"]);
    let told = elapse(&["compare", text(&a), text(&warm), "--tolerance", "completed=off"]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    assert!(said(&told).contains("FAILS  latency_ms.p50"), "{}", said(&told));
}

#[test]
fn runs_of_one_name_are_told_apart_and_begin_together() {
    let folder = scratch("compare-names");
    let mut runs = Vec::new();
    for (above, start) in [("a", "2024-03-04T00:00:00Z"), ("b", "2024-03-04T00:00:07Z")] {
        std::fs::create_dir_all(folder.join(above)).expect("a folder");
        runs.push(run(&folder, &format!("{above}/run"), &[&format!("start={start}")]));
    }
    let aligned = elapse(&["align", text(&runs[0]), text(&runs[1]), "--step", "10s"]);
    let rows = said(&aligned);
    let of = |run: &str| {
        let found = rows.lines().find(|l| l.starts_with(&format!("0,{run}/records,invocations,")));
        found
            .and_then(|l| l.rsplit(',').next().map(str::to_string))
            .unwrap_or_else(|| panic!("{run}: {rows}"))
    };
    assert_eq!(of("a-run"), of("b-run"), "the same invocations in the first ten seconds");
}

#[test]
fn buckets_are_of_one_length_and_not_without_number() {
    let folder = scratch("align-buckets");
    // The longer run measures at longer steps.
    let short = run(&folder, "short", &["metrics.points=40"]);
    let long = run(&folder, "long", &["metrics.points=40", "duration=6000s"]);
    let both = elapse(&["align", text(&short), text(&long)]);
    assert!(both.status.success(), "{}", said(&both));
    let table = String::from_utf8_lossy(&both.stdout).into_owned();
    let times = |of: &str| -> Vec<f64> {
        let rows = table.lines().filter(|l| l.contains(&format!("{of}/records,invocations,")));
        rows.map(|l| l.split(',').next().unwrap_or_default().parse().expect("a time")).collect()
    };
    let (a, b) = (times("short"), times("long"));
    assert!(b.len() >= 20 && b[1] - b[0] > 60.0, "{b:?}");
    assert_eq!((a.len(), a[0], b[0]), (1, 0.0, 0.0), "a minute is in one bucket as long as the other run's");
    let counted: f64 =
        table.lines().filter_map(|l| l.split_once("long/records,invocations,")?.1.parse::<f64>().ok()).sum();
    let summary = std::fs::read_to_string(long.join("summary.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(Some(counted), summary["invocations"].as_f64());
    let many = elapse(&["align", text(&long), "--step", "1ms"]);
    assert_eq!(many.status.code(), Some(2), "{}", said(&many));
    assert!(said(&many).contains("take --step 2ms or longer"), "{}", said(&many));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = scratch("compare-refused");
    let open = run(&folder, "open", &[]);
    let closed = run(&folder, "closed", &["function.0.load={ closed = { clients = 2, think = '100ms' } }"]);
    let mixed = elapse(&["compare", text(&open), text(&closed)]);
    assert_eq!(mixed.status.code(), Some(2), "{}", said(&mixed));
    assert!(
        said(&mixed).contains("cannot compare open with closed: the first is an open loop"),
        "{}",
        said(&mixed)
    );
    let none = elapse(&["compare", text(&open), text(&folder.join("nowhere"))]);
    assert_eq!(none.status.code(), Some(2), "{}", said(&none));
    // Figures that no run can have.
    let spoilt = run(&folder, "spoilt", &[]);
    let file = spoilt.join("distributions.csv");
    let rows = std::fs::read_to_string(&file).expect("distributions");
    for wrong in ["latency_ms,NaN,1", "latency_ms,-5,1", "latency_ms,1,-1"] {
        let (head, rest) = rows.split_once('\n').expect("a header");
        std::fs::write(&file, format!("{head}\nlatency_ms,0,0\n{wrong}\n{rest}")).expect("distributions");
        let told = elapse(&["compare", text(&open), text(&spoilt)]);
        assert_eq!(told.status.code(), Some(2), "{wrong}: {}", said(&told));
        assert!(said(&told).contains("distributions.csv: line 3"), "{wrong}: {}", said(&told));
    }
    let unknown = elapse(&["compare", text(&open), text(&open), "--tolerance", "latency_ms.p98=1%"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    assert!(said(&unknown).contains("did you mean 'latency_ms.p9"), "{}", said(&unknown));
}

#[test]
fn live_repeats_are_the_noise_floor() {
    let test = "live_repeats_are_the_noise_floor";
    if !has("process", test, agent().exists()) {
        return;
    }
    let folder = scratch("compare-live");
    let file = folder.join("scenario.toml");
    let scenario = format!(
        "name = \"r\"\nduration = \"2s\"\n[worker]\nmemory = \"1GiB\"\ncores = 2\n[live]\nworker = \"{}\"\nagent = {:?}\n[model]\n\
         cold_start = \"5ms\"\n[[function]]\nname = \"f\"\nmemory = \"64MiB\"\nduration = \"20ms\"\nload = {{ constant = \"10/s\" }}\n",
        worker_name(),
        agent()
    );
    std::fs::write(&file, scenario).expect("a scenario");
    let (live, sim) = (folder.join("live"), folder.join("sim"));
    let ran = elapse(&["live", text(&file), "--out", text(&live), "--repeat", "2", "--cooldown", "100ms"]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(said(&ran).contains("noise floor of 2 repeats"), "{}", said(&ran));
    assert!(live.join("repeat-1/run.json").exists() && live.join("repeat-2/run.json").exists());
    assert!(elapse(&["sim", text(&file), "--out", text(&sim)]).status.success());
    let told = elapse(&["compare", text(&sim), text(&live), "--tolerance", "cold_ms.p50=off"]);
    // How far they are apart is this host's business; that it is told is ours.
    assert!(said(&told).contains("live (2 runs)") && said(&told).contains("KS floor"), "{}", said(&told));
    assert!(said(&told).contains("holds  invocations        20 | 20"), "{}", said(&told));
}
