//! The command as people meet it: exit codes, one clear sentence for each wrong input, the same bytes for the same seed.

mod flags;
mod output;
mod policies;
mod readme;

use crate::common::{has, scratch};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn elapse(arguments: &[&str], folder: &Path) -> Output {
    Command::new(crate::common::elapse()).args(arguments).current_dir(folder).output().expect("elapse")
}

/// Runs it, expects this exit code, and returns its stderr.
#[track_caller]
fn fails(arguments: &[&str], folder: &Path, code: i32) -> String {
    let out = elapse(arguments, folder);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.starts_with("elapse: ") || said.starts_with("error: "), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let left: Vec<_> =
        std::fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name().into_string().unwrap()).collect();
    assert!(
        !left.iter().any(|n| n.starts_with(".partial") || n == "out"),
        "something half-written is left: {left:?}"
    );
    said
}

fn pair(folder: &Path, functions: &str, invocations: &str) {
    std::fs::write(folder.join("f.csv"), format!("name,memory_mb,cold_ms,warm_ms\n{functions}")).unwrap();
    std::fs::write(folder.join("i.csv"), format!("time_ms,function,duration_ms\n{invocations}")).unwrap();
}

const REPLAY: [&str; 7] = ["replay", "csv", "f.csv", "i.csv", "--out", "out", "--no-plots"];

#[test]
fn wrong_traces_are_told_by_file_line_and_reason() {
    let dir = scratch("wrong-traces");
    let cases: &[(&str, &str, &[&str])] = &[
        ("a,128,1,1\n", "1,a,5\n2,a,-3\n", &["i.csv: line 3", "duration_ms '-3' is negative", ">= 0"]),
        ("a,128,1,1\n", "1,a,inf\n", &["i.csv: line 2", "is not finite"]),
        ("a,128,1,1\n", "1,a,x\n", &["i.csv: line 2", "'x' is not a number"]),
        ("a,128,1,1\n", "5,a,1\n4,a,1\n", &["i.csv: line 3", "before", "sort"]),
        ("alpha,128,1,1\n", "1,alpa,1\n", &["i.csv: line 2", "'alpa' is not in f.csv", "'alpha'"]),
        ("a,128,1,1\n", "", &["i.csv", "no invocations"]),
        ("", "1,a,1\n", &["f.csv", "no functions"]),
        ("a,128,1,1\n", "1,a,1\n2,a", &["i.csv: line 3", "2 of 3 columns", "truncated"]),
        ("a,128,1,1\na,128,1,1\n", "1,a,1\n", &["f.csv: line 3", "'a' is there twice"]),
        ("a,128,-1,1\n", "1,a,1\n", &["f.csv: line 2", "cold_ms '-1' is negative"]),
    ];
    for (functions, invocations, parts) in cases {
        pair(&dir, functions, invocations);
        let said = fails(&REPLAY, &dir, 2);
        parts.iter().for_each(|part| assert!(said.contains(part), "'{part}' is not in: {said}"));
        assert_eq!(said.trim().lines().count(), 1, "one sentence: {said}");
    }
    pair(&dir, "a,512,1,1\n", "1,a,1\n");
    let said = fails(&[&REPLAY[..], &["--memory", "256MiB"]].concat(), &dir, 2);
    assert!(said.contains("'a'") && said.contains("512MiB") && said.contains("256MiB"), "{said}");
    let said = fails(&["replay", "csv", "nothing.csv", "i.csv", "--out", "out"], &dir, 2);
    assert!(said.contains("nothing.csv") && said.contains("no such file"), "{said}");
    std::fs::create_dir_all(dir.join("folder")).unwrap();
    let said = fails(&["replay", "csv", "folder", "i.csv", "--out", "out"], &dir, 2);
    assert!(said.contains("folder") && said.contains("is a directory"), "{said}");
    let said = fails(&["replay", "azure-2019", "f.csv", "--out", "out"], &dir, 2);
    assert!(said.contains("is a file"), "{said}");
    let said = fails(&["replay", "azure-2019", "folder", "--out", "out"], &dir, 2);
    assert!(said.contains("holds neither invocations.csv"), "{said}");
}

#[test]
fn standard_input_is_a_file_that_is_read_once() {
    let dir = scratch("standard-input");
    pair(&dir, "a,128,1,1\n", "1,a,5\n2,b,3\n3,a,1,5\n");
    let piped = |arguments: &[&str], file: &str| {
        Command::new(crate::common::elapse())
            .args(arguments)
            .args(["--out", "out", "--no-plots"])
            .current_dir(&dir)
            .stdin(std::fs::File::open(dir.join(file)).unwrap())
            .output()
            .expect("elapse")
    };
    let out = piped(&["replay", "csv", "f.csv", "-"], "i.csv");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("cannot read standard input: line 3: function 'b' is not in f.csv"), "{said}");
    let out = piped(&["replay", "csv", "-", "-"], "f.csv");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("standard input is read once only"), "{said}");
    let out = piped(&["replay", "azure-2019", "-"], "f.csv");
    assert!(String::from_utf8_lossy(&out.stderr).contains("an azure-2019 trace is one folder"));
    let skipped =
        ["replay", "csv", "f.csv", "-", "--skip-bad", "--clones", "2", "--time-scale", "0.5", "--seed", "3"];
    let out = piped(&skipped, "i.csv");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let summary = std::fs::read_to_string(dir.join("out/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["invocations"], &summary["functions"]), (&2.into(), &2.into()));
    assert_eq!(summary["trace_notes"]["rows of unknown functions (left out)"], 1);
}

const SCENARIO: &str = "name = 'x'\nduration = '10s'\n[worker]\nmemory = '1GiB'\n[[function]]\nname = 'f'\nmemory = '128MiB'\n\
duration = '10ms'\nload = { poisson = '5/s' }\n";

#[test]
fn wrong_scenarios_are_told_by_key_and_nearest_word() {
    let dir = scratch("wrong-scenarios");
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "memory = '1GiB'",
            "memry = '1GiB'",
            &["s.toml: line 4", "unknown key 'memry'", "did you mean 'memory'?"],
        ),
        ("memory = '1GiB'", "cores = 1", &["[worker]: memory is not given", "unlimited"]),
        ("memory = '1GiB'", "memory = 16", &["s.toml: line 4", "unit"]),
        ("memory = '1GiB'", "memory = '-1GiB'", &["s.toml: line 4", "is negative"]),
        ("memory = '1GiB'", "memory = '64MiB'", &["'f'", "needs 128MiB", "has 64MiB"]),
        (
            "memory = '1GiB'",
            "memory = '1GiB'\neviction = 'lruu'",
            &["unknown eviction policy 'lruu'", "did you mean 'lru'?"],
        ),
        ("'5/s'", "'5'", &["'5' is not a rate"]),
        ("poisson", "poison", &["unknown key 'poison'", "did you mean 'poisson'?"]),
        ("'10ms'", "'10'", &["has no unit"]),
        ("'10ms'", "'36526d'", &["s.toml: line 8", "'36526d' is above 100 years"]),
        ("'10ms'", "'forever'", &["s.toml: line 8", "'forever' is too much for a value that is drawn"]),
        ("'10s'", "'3155760001s'", &["s.toml: line 2", "above 100 years"]),
        ("poisson = '5/s'", "closed = { clients = 1, retry = '0s' }", &["'f'", "closed: retry is 0"]),
        ("duration = '10s'\n", "", &["the load has no end"]),
        ("name = 'f'", "name = 'f'\nfailure = 2.0", &["failure is 2", "0 to 1"]),
    ];
    for (from, to, parts) in cases {
        assert!(SCENARIO.contains(from));
        std::fs::write(dir.join("s.toml"), SCENARIO.replacen(from, to, 1)).unwrap();
        let said = fails(&["sim", "s.toml", "--out", "out"], &dir, 2);
        parts.iter().for_each(|part| assert!(said.contains(part), "'{part}' is not in: {said}"));
    }
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    let said = fails(&["sim", "s.toml", "--out", "out", "--set", "worker.evicton=lfu"], &dir, 2);
    assert!(said.contains("--set worker.evicton=lfu") && said.contains("did you mean 'eviction'?"), "{said}");
    let said = fails(&["sim", "s.toml", "--out", "out", "--keep-alive", "600"], &dir, 2);
    assert!(said.contains("--keep-alive") && said.contains("no unit"), "{said}");
    let said = fails(&["sim", "s.toml", "--out", "out", "--keep-alive", "101y"], &dir, 2);
    assert!(said.contains("--keep-alive") && said.contains("unknown unit 'y'"), "{said}");
    let said = fails(&["sim", "s.toml", "--out", "out", "--keep-alive", "36526d"], &dir, 2);
    assert!(said.contains("--keep-alive") && said.contains("above 100 years"), "{said}");
    fails(&["sim", "s.toml", "--evict", "lru"], &dir, 2);
    // A calibration that no host can have shown.
    let calibration = "[host]\nkernel = 'k'\ncpu = 'c'\ncores = 2\nmemory_mb = 1\ndate = 'd'\n[backend.process]\n\
                       first_call = '0ms'\nremoval = '1ms'\ncold_start = { 1 = '5ms' }\noverhead = {}\n";
    for (more, why) in [
        ("processor = { cores = nan, creating = 0.5, removing = 0.1 }", "processor.cores is NaN"),
        ("processor = { cores = 2.0, creating = -1.0, removing = 0.1 }", "processor.creating is -1"),
        ("stretch = { 2 = [1.0, inf] }", "stretch: inf is no share"),
        ("concurrent = { many = '1ms' }", "'many' is no number"),
        ("steps = { answer = '-1ms' }", "c.toml: line"),
    ] {
        std::fs::write(dir.join("c.toml"), format!("{calibration}{more}\n")).unwrap();
        let said = fails(&["sim", "s.toml", "--out", "out", "--set", "model.calibration=c.toml"], &dir, 2);
        assert!(said.contains("c.toml") && said.contains(why), "'{why}' is not in: {said}");
    }
}

#[test]
fn results_replace_nothing_but_results() {
    let dir = scratch("replace");
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    let run = |more: &[&str]| elapse(&[&["sim", "s.toml", "--no-plots"], more].concat(), &dir);
    assert_eq!(run(&["--out", "a"]).status.code(), Some(0));
    let before = std::fs::read(dir.join("a/run.json")).unwrap();
    let said = fails(&["sim", "s.toml", "--out", "a"], &dir, 2);
    assert!(said.contains("not empty") && said.contains("--force"), "{said}");
    assert_eq!(std::fs::read(dir.join("a/run.json")).unwrap(), before, "nothing of it was touched");
    assert_eq!(run(&["--out", "a", "--force", "--seed", "9"]).status.code(), Some(0));
    assert_ne!(std::fs::read(dir.join("a/run.json")).unwrap(), before);
    std::fs::create_dir_all(dir.join("mine")).unwrap();
    std::fs::write(dir.join("mine/thesis.txt"), "years").unwrap();
    let said = fails(&["sim", "s.toml", "--out", "mine", "--force"], &dir, 2);
    assert!(said.contains("does not hold an Elapse run"), "{said}");
    let said = fails(&["sim", "s.toml", "--out", ".", "--force"], &dir, 2);
    assert!(said.contains("the folder you stand in"), "{said}");
    assert_eq!(std::fs::read_to_string(dir.join("mine/thesis.txt")).unwrap(), "years");
}

#[test]
fn a_full_disk_leaves_nothing_and_exits_with_3() {
    let test = "a_full_disk_leaves_nothing_and_exits_with_3";
    let dir = scratch("full-disk");
    std::fs::write(dir.join("s.toml"), SCENARIO.replace("'5/s'", "'5000/s'")).unwrap();
    let small = dir.join("small");
    std::fs::create_dir_all(&small).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&small).output();
    if !has("root", test, mounted.is_ok_and(|m| m.status.success())) {
        return;
    }
    // Nothing may panic before the end of the mount.
    let out = Command::new(crate::common::elapse())
        .args(["sim", "s.toml", "--out", "small/run"])
        .current_dir(&dir)
        .output();
    let left = std::fs::read_dir(&small).map(Iterator::count);
    let unmounted = Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|s| s.success()));
    let (left, out) = (left.unwrap(), out.unwrap());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), left), (Some(3), 0), "{said}");
    assert!(said.contains("no space is left"), "{said}");
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if entry.file_name() != "run.json" {
            found.push((path.strip_prefix(folder).unwrap().to_path_buf(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_debug_and_release() {
    let test = "the_same_seed_gives_the_same_bytes_in_debug_and_release";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = scratch("bytes");
    let release = root.join("target/release/elapse");
    for scenario in ["quickstart", "loads", "azure-day"] {
        let file = root.join(format!("scenarios/{scenario}.toml"));
        let run = |binary: &Path, out: &str| {
            let out = dir.join(format!("{scenario}-{out}"));
            let ran =
                Command::new(binary).arg("sim").arg(&file).arg("--out").arg(&out).output().expect("elapse");
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            files(&out)
        };
        let here = crate::common::elapse();
        let first = run(here, "first");
        assert!(first.len() >= 9, "{:?}", first.iter().map(|f| &f.0).collect::<Vec<_>>());
        assert!(first == run(here, "second"), "{scenario}: two runs of one binary differ");
        if has("release", test, release.exists()) {
            assert!(first == run(&release, "release"), "{scenario}: debug and release differ");
        }
    }
}

#[test]
fn the_plan_that_is_printed_is_a_scenario_with_the_same_results() {
    let dir = scratch("plan");
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    let flags = ["sim", "s.toml", "--memory", "512MiB", "--set", "worker.queue.limit=7", "--seed", "5"];
    let printed = elapse(&[&flags[..], &["--print-plan"]].concat(), &dir);
    assert!(printed.status.success());
    std::fs::write(dir.join("p.toml"), &printed.stdout).unwrap();
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(
        text.contains("memory = \"512MiB\"") && text.contains("limit = 7") && text.contains("seed = 5"),
        "{text}"
    );
    assert!(elapse(&[&flags[..], &["--out", "a"]].concat(), &dir).status.success());
    let again = elapse(&["sim", "p.toml", "--out", "b"], &dir);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(files(&dir.join("a")) == files(&dir.join("b")));
    let environment = Command::new(crate::common::elapse())
        .args(["sim", "s.toml", "--print-plan"])
        .env("ELAPSE__WORKER__MEMORY", "3GiB")
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&environment.stdout).contains("memory = \"3GiB\""));
}

#[test]
fn a_run_leaves_every_file_and_key_that_is_promised() {
    let dir = scratch("folder");
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    assert!(elapse(&["sim", "s.toml", "--out", "r"], &dir).status.success());
    for name in [
        "run.json",
        "summary.json",
        "functions.csv",
        "workers.csv",
        "records.csv",
        "metrics.csv",
        "distributions.csv",
        "heat.csv",
        "methods.txt",
        "methods.bib",
        "report.html",
    ] {
        assert!(dir.join("r").join(name).metadata().is_ok_and(|m| m.len() > 50), "{name}");
    }
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join("r").join(name)).unwrap()).unwrap()
    };
    let summary = json("summary.json");
    for key in "invocations completed failed timed_out dropped lost unfinished cold_starts warm_starts prewarmed_starts cold_causes \
        evictions expirations containers_created containers_left prewarm_attempts prewarm_failures memory_reads loop_restarts \
        virtual_seconds offered_load events seed result_hash latency_ms queue_ms start_delay_ms cold_ms exec_ms overhead_ms slowdown \
        memory_mb gb_seconds"
        .split_whitespace()
    {
        assert!(!summary[key].is_null(), "summary.json has no {key}");
    }
    for key in ["n", "mean", "p50", "p90", "p95", "p99", "p999", "max"] {
        assert!(!summary["latency_ms"][key].is_null(), "latency_ms has no {key}");
    }
    let run = json("run.json");
    for key in [
        "command",
        "plan",
        "version",
        "host",
        "wall_seconds",
        "cpu_seconds",
        "invocations_per_cpu_second",
        "peak_rss_mb",
        "event_hash",
        "result_hash",
    ] {
        assert!(!run[key].is_null(), "run.json has no {key}");
    }
    let records = std::fs::read_to_string(dir.join("r/records.csv")).unwrap();
    assert!(records.starts_with(
        "invocation,function,worker,backend,container,start_kind,cold_cause,status,arrival_unix_ns,enqueue_ns,dispatch_ns,\
         exec_start_ns,exec_end_ns,return_ns,intended_ns,memory_mb,attempt,weight,error\n"
    ));
    assert_eq!(records.lines().count() as u64, summary["invocations"].as_u64().unwrap() + 1);
    let mut drawn = Vec::new();
    for plot in ["timeline", "latency-cdf", "cold-starts", "queue", "memory", "heat-map"] {
        let path = dir.join(format!("r/plots/{plot}.svg"));
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("<svg") && svg.contains("font-face"));
        std::fs::remove_file(&path).unwrap();
        drawn.push((path, svg));
    }
    assert!(elapse(&["plot", "r"], &dir).status.success());
    for (path, svg) in drawn {
        let again = std::fs::read_to_string(&path).unwrap();
        assert!(again == svg, "{} is the same when it is drawn again from its files", path.display());
        let png = std::fs::read(path.with_extension("png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 5_000);
    }
    assert!(elapse(&["--help"], &dir).status.success());
    assert!(elapse(&["completions", "bash"], &dir).stdout.len() > 1000);
}

#[test]
fn the_shipped_traces_are_what_the_generator_makes() {
    let dir = scratch("generated");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-traces");
    let make = |arguments: &[&str]| {
        assert!(elapse(&[&["trace", "generate"], arguments].concat(), &dir).status.success())
    };
    make(&["csv", "c", "--functions", "20", "--invocations", "20000", "--rate", "10", "--seed", "7"]);
    make(&["azure-2019", "a", "--functions", "150", "--seed", "11"]);
    assert!(files(&dir.join("c")) == files(&shipped.join("csv-20")));
    assert!(files(&dir.join("a")) == files(&shipped.join("azure-2019-day")));
}

#[test]
fn a_reader_that_stops_early_is_no_fault() {
    let folder = scratch("closed-pipe");
    let line = format!(
        "set -o pipefail; {} sim {}/scenarios/quickstart.toml --set duration=10s --out {} --no-plots | true",
        crate::common::elapse().display(),
        env!("CARGO_MANIFEST_DIR"),
        folder.join("run").display()
    );
    let output = Command::new("bash").args(["-c", &line]).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
