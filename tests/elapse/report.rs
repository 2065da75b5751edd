//! What a run leaves for people: the paragraph for a paper, its citations, the page, the reasons of failures, the clock.

use crate::common::containers::worker_name;
use crate::common::{figure, plan, scratch, simulate};
use elapse::plot;
use elapse::report::Finished;
use elapse::{Overrides, Run, Scenario, load_plan};
use std::path::{Path, PathBuf};

/// A scenario on a trace of three rows.
fn traced(name: &str, last_ms: u32, more: &str) -> PathBuf {
    let dir = scratch(name);
    std::fs::write(dir.join("functions.csv"), "name,memory_mb,cold_ms,warm_ms\na,128,100,20\nb,256,200,40\n")
        .unwrap();
    let rows = format!("time_ms,function,duration_ms\n0,a,\n1500,b,\n{last_ms},a,\n");
    std::fs::write(dir.join("invocations.csv"), rows).unwrap();
    let text = format!(
        "name = \"three\"\n{more}\n[worker]\ncores = 4\nmemory = \"1GiB\"\n[trace]\nformat = \"csv\"\npath = \".\"\n"
    );
    std::fs::write(dir.join("s.toml"), text).unwrap();
    dir
}

fn with(file: &Path, sets: &[&str]) -> Scenario {
    let mut overrides = Overrides::default();
    sets.iter().for_each(|set| overrides.set(set).expect("a key and a value"));
    load_plan(Some(file), None, &overrides).unwrap_or_else(|e| panic!("{sets:?}: {e}"))
}

fn methods(file: &Path, sets: &[&str]) -> String {
    let ran = Run::new(with(file, sets)).simulate().unwrap_or_else(|e| panic!("{sets:?}: {e}"));
    ran.summary.methods()
}

#[test]
fn methods_name_every_setting_that_changes_a_figure() {
    let dir = traced("methods", 9000, "");
    let file = dir.join("s.toml");
    let usual = methods(&file, &[]);
    for words in [
        "csv trace 'methods-",
        "hash ",
        "whole",
        "at its rate",
        "fifo",
        "lru",
        "600s",
        "early",
        "permits",
        "lognormal",
    ] {
        assert!(usual.contains(words), "{words}: {usual}");
    }
    // What is set, and how the paragraph says it.
    for (set, words) in [
        ("seed=7", "seed 7"),
        ("trace.from=1s", "from 1s to its end"),
        ("trace.to=2s", "to 2s"),
        ("trace.rate_scale=10", "at 10 times its rate"),
        ("trace.cold_start=\"7s\"", "else 7s"),
        ("trace.unit=app", "unit app"),
        ("worker.unit=app", "unit app"),
        ("worker.cores=2", "2 cores"),
        ("worker.memory=\"2GiB\"", "2GiB"),
        ("worker.gpus=3", "3 GPUs"),
        ("worker.keep_alive=\"5s\"", "for 5s"),
        ("worker.eviction=greedy-dual", "greedy-dual"),
        ("worker.queue.policy=sjf", "sjf"),
        ("worker.queue.limit=9", "at most 9 in it"),
        ("worker.queue.timeout=\"8s\"", "at most 8s"),
        ("worker.timeout=\"77s\"", "77s at most"),
        ("worker.dispatch=late", "late"),
        ("worker.max_creating=5", "At most 5 containers"),
        ("worker.memory_check=\"2s\"", "worker.memory_check = 2s"),
        ("worker.status=\"5s\"", "worker.status = 5s"),
        ("worker.count=3", "3 workers"),
        ("model.cold_start={ exponential = { mean = \"9s\" } }", "exponential (mean 9s)"),
        ("model.removal=\"3s\"", "removal took 3s"),
        ("model.contention=shared", "collide by chance"),
        ("model.cpu_fraction=0.25", "model.cpu_fraction = 0.25"),
        ("model.creation_failure=0.5", "share of 0.5"),
        ("measure.warm_up=\"1s\"", "from 1s"),
        ("measure.until=\"4s\"", "to 4s"),
        ("records=sample:0.5", "sample:0.5"),
        ("prewarm.attempts=2", "prewarm.attempts = 2"),
        ("start=2024-03-04T00:00:00Z", "three"),
    ] {
        let said = methods(&file, &[set]);
        assert!(said != usual || set.starts_with("start"), "{set} goes unsaid: {said}");
        assert!(said.contains(words) || set.starts_with("start"), "{set} is not told as '{words}': {said}");
    }
    let fleet = methods(
        &file,
        &[
            "worker.count=2",
            "controller.balancer=power-of-two",
            "controller.delay=2ms",
            "controller.reports=5s",
        ],
    );
    for words in ["power-of-two", "2ms each way", "every 5s"] {
        assert!(fleet.contains(words), "{words}: {fleet}");
    }
    let shared = ["model.contention=shared", "model.cpu_fraction=0.25", "model.cold_cpu_fraction=0.75"];
    assert!(methods(&file, &shared).contains("CPU part 0.25 of an execution and 0.75 of a cold start"));
    // Another trace of the same name and size is another hash.
    std::fs::write(dir.join("invocations.csv"), "time_ms,function,duration_ms\n0,a,\n1500,a,\n9000,a,\n")
        .unwrap();
    let hash = |said: &str| said.split("hash ").nth(1).map(|rest| rest[..16].to_string());
    assert_ne!(hash(&methods(&file, &[])), hash(&usual));
}

#[test]
fn methods_say_what_a_format_by_minute_leaves_open() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sim-traces/azure-2019-day");
    let file = scratch("by-minute").join("s.toml");
    let text = format!(
        "name = \"m\"\n[worker]\nmemory = \"unlimited\"\n[trace]\nformat = \"azure-2019\"\npath = {path:?}\nfrom = \"08:00\"\nto = \"08:01\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let usual = methods(&file, &[]);
    for words in ["from 08:00 to 08:01", "placement auto", "through the percentiles", "invocations started"] {
        assert!(usual.contains(words), "{words}: {usual}");
    }
    for (set, words) in [
        ("trace.placement=poisson", "by poisson"),
        ("trace.durations=average", "its row's average"),
        ("trace.durations=lognormal", "lognormal with its row's"),
        ("trace.counts=end", "invocations ended"),
        ("trace.unit=function", "unit function"),
    ] {
        assert!(methods(&file, &[set]).contains(words), "{set}");
    }
}

const BUSY: &str = r#"
name = "busy"
duration = "2min"
[worker]
cores = 2
memory = "1GiB"
queue = { limit = 3 }
[controller]
delay = "1ms"
[model]
cold_start = "300ms"
creation_failure = 0.1
transient = false
[[function]]
name = "<script>"
memory = "256MiB"
duration = "200ms"
failure = 0.2
load = { poisson = "9/s" }
[[function]]
name = "b"
memory = "512MiB"
duration = "100ms"
load = { on_off = { rate = "6/s", on = "20s", off = "20s" } }
"#;

fn written(name: &str, text: &str) -> (PathBuf, elapse::Finished) {
    let folder = scratch(name).join("run");
    let command = ["elapse", "sim", "busy.toml", "--out", "run", "--seed", "1"].map(str::to_string).to_vec();
    let ran = Run::new(plan(text)).command(command).write_to(&folder, false).simulate().expect("a run");
    (folder, ran)
}

#[test]
fn a_failure_has_a_reason_in_summary_methods_and_page() {
    let (folder, ran) = written("reasons", BUSY);
    let json = ran.summary.json();
    let errors = json["errors"].as_array().expect("errors");
    let told: u64 = errors.iter().map(|e| e["count"].as_u64().unwrap()).sum();
    let ended = ["failed", "timed_out", "dropped", "lost"].map(|key| figure(&ran, key) as u64);
    assert_eq!(told + json["other_errors"].as_u64().unwrap(), ended.iter().sum::<u64>());
    assert!(errors.windows(2).all(|w| w[0]["count"].as_u64() >= w[1]["count"].as_u64()));
    let (named, others) = ran.summary.tally.errors.named();
    assert_eq!((named.len(), others), (errors.len(), 0));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    let methods = std::fs::read_to_string(folder.join("methods.txt")).unwrap();
    for text in ["queue full", "the function reported an error"] {
        assert!(named.iter().any(|(kind, _)| *kind == text), "{named:?}");
        assert!(
            methods.contains(&format!("'{text}' (")) && page.contains(&format!("<td>{text}</td>")),
            "{text}"
        );
    }
}

#[test]
fn the_page_says_what_was_run_and_shows_itself_to_everyone() {
    let (folder, _) = written("page", &BUSY.replace("cores = 2", "cores = 2\ncount = 3"));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    for part in [
        "<code>elapse sim plan.json</code>",
        "<iframe src=\"run.json\"",
        "prefers-color-scheme:dark",
        "@media print",
        "role=\"img\"><title>busy: memory of the containers of 3 workers",
        "&quot;cold_start&quot;: &quot;300ms&quot;",
        "concurrency: all of its own were busy",
        "GB-seconds held",
        "Imbalance: of invocations the most of a worker is ",
        "<a href=\"records.csv\">",
        "<a href=\"run.json\">",
        "<a href=\"methods.bib\">",
        "<td>&lt;script&gt;</td>",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert!(!page.contains("<script>"), "a name is text, wherever it stands");
    assert!(!page.contains("graphite.csv"), "links lead somewhere");
    // Drawn again from its files, a fleet's pictures and its page are the same.
    let run = Finished::open(&folder).unwrap();
    let plots = plot::redraw(&run, &[]).unwrap();
    assert!(plots.len() == 6);
    for plot in &plots {
        let drawn = std::fs::read_to_string(folder.join(format!("plots/{}.svg", plot.name))).unwrap();
        assert!(drawn == plot.standalone(), "{}", plot.name);
    }
    plot::write_plots(&folder, &plots, false).unwrap();
    assert!(std::fs::read_to_string(folder.join("report.html")).unwrap() == page);
}

#[test]
fn citations_are_those_of_what_was_used() {
    let keys = |text: &str| {
        let (folder, _) = written("bib", text);
        let bib = std::fs::read_to_string(folder.join("methods.bib")).unwrap();
        assert_eq!(bib.matches('{').count(), bib.matches('}').count(), "{bib}");
        let key =
            |line: &str| Some(line.strip_prefix('@')?.split_once('{')?.1.trim_end_matches(',').to_string());
        bib.lines().filter_map(key).collect::<Vec<_>>()
    };
    assert_eq!(keys(BUSY), ["elapse"]);
    let policies = "cores = 2\ncount = 2\neviction = \"greedy-dual\"";
    assert_eq!(
        keys(&BUSY.replace("cores = 2", policies).replace("cold_start = \"300ms\"\n", "")),
        [
            "elapse",
            "fuerst2021faascache",
            "cherkasova1998gdsf",
            "mirrokni2018bounded",
            "joosen2025coldstarts"
        ]
    );
}

#[test]
fn times_count_from_the_traces_own_clock_unless_there_is_a_calendar() {
    let axis = |name: &str, more: &str, sets: &[&str]| {
        let dir = traced(name, 14_400_000, more);
        let folder = dir.join("out");
        Run::new(with(&dir.join("s.toml"), sets)).write_to(&folder, false).simulate().unwrap();
        let run = Finished::open(&folder).unwrap();
        let svg = std::fs::read_to_string(folder.join("plots/memory.svg")).unwrap();
        (svg, run.run["clock"].clone())
    };
    let (svg, clock) = axis("own-clock", "", &[]);
    assert!(svg.contains("hours since the trace") && !svg.contains("2024-01-01"));
    assert_eq!((&clock["calendar"], &clock["offset_seconds"]), (&false.into(), &0.0.into()));
    let (svg, clock) = axis("own-slice", "", &["trace.from=1h"]);
    assert!(svg.contains("minutes since the trace") || svg.contains("hours since the trace"));
    assert_eq!(clock["offset_seconds"], 3600.0);
    let (svg, clock) = axis("calendar", "start = 2024-03-04T00:00:00Z", &[]);
    assert!(svg.contains("hours since 2024-03-04T00:00:00Z"));
    assert_eq!(clock["calendar"], true);
    assert!(
        simulate(BUSY).summary.methods().contains("Times count from the start; they are on no calendar.")
    );
}

#[test]
fn a_live_run_in_which_nothing_completes_ends_early() {
    let live = |name: &str, failure: f64, more: &str| {
        let text = format!(
            "name = \"{name}\"\nduration = \"700ms\"\n[worker]\ncores = 4\nmemory = \"1GiB\"\nbackends = [\"simulated\"]\n\
             [live]\nworker = {:?}\n[model]\ncold_start = \"2ms\"\n[measure]\n{more}\n[[function]]\nname = \"f\"\nmemory = \"256MiB\"\n\
             duration = \"1ms\"\nfailure = {failure:?}\nload = {{ constant = \"100/s\" }}\n",
            worker_name()
        );
        let folder = scratch(name).join("run");
        let ran =
            elapse_live::live(Run::new(plan(&text)).plots(false).write_to(&folder, false)).expect("a run");
        assert!(folder.join("summary.json").exists(), "the folder keeps its name");
        ran
    };
    let lost = live("hopeless", 1.0, "");
    let why = lost.gave_up.clone().expect("it gave up");
    assert_eq!(why, "none of the first 20 invocations completed: 'the function reported an error' (20)");
    assert!(figure(&lost, "invocations") < 40.0 && !lost.summary.facts.interrupted);
    assert!(lost.summary.warnings().iter().any(|note| note.contains(&why)));
    assert!(live("patient", 1.0, "give_up = \"off\"").gave_up.is_none());
    assert!(live("sooner", 1.0, "give_up = 3").gave_up.is_some_and(|why| why.contains("first 3 ")));
    assert!(live("hopeful", 0.0, "give_up = 1").gave_up.is_none());
}
