//! The program's side: writes a scenario's files, runs it, reads its records.

use crate::generate::{Loads, Scenario, Source};
use elapse_model::plan::{Balancer, Call, Contention, Eviction, FOREVER, Ns, Plan, Queue};
use elapse_model::record::{ColdCause, Record, StartKind, Status};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Time zero on the calendar where a scenario says nothing: 2024-01-01T00:00:00Z.
const START: Ns = 1_704_067_200_000_000_000;

/// Where the program is: `ELAPSE_BIN`, or beside this test.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("ELAPSE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("a test knows where it is");
    let built = test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").join("elapse");
    assert!(
        built.exists(),
        "{} is not there; build it with `cargo build`, or set ELAPSE_BIN",
        built.display()
    );
    built
}

/// Runs a scenario; the calls that it made, and what became of each.
///
/// # Errors
/// What the program said, if it ended with an error.
pub fn run(scenario: &Scenario, folder: &Path) -> Result<(Vec<Call>, Vec<Record>), String> {
    write(scenario, folder);
    let out = folder.join("out");
    let command = Command::new(program())
        .args(["sim", "scenario.toml", "--out", "out", "--force", "--no-plots"])
        .current_dir(folder)
        .output()
        .expect("the program can be started");
    if !command.status.success() {
        return Err(String::from_utf8_lossy(&command.stderr).trim().to_string());
    }
    let text = fs::read_to_string(out.join("records.csv")).expect("records.csv");
    let (mut calls, records) = read(&scenario.plan, &text);
    if let Source::Loads(loads) = &scenario.source {
        calls.iter_mut().for_each(|call| call.memory = loads.functions[call.function].memory_used);
    }
    Ok((calls, records))
}

/// Writes `scenario.toml`, and the trace if there is one.
pub fn write(scenario: &Scenario, folder: &Path) {
    let file = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a temporary file");
    file("scenario.toml", &scenario_toml(scenario));
    if matches!(scenario.source, Source::Trace) {
        let ms = |ns: Ns| format!("{}.{:06}", ns / 1_000_000, ns % 1_000_000);
        let mut functions = "name,memory_mb,cold_ms,warm_ms\n".to_string();
        for f in &scenario.plan.functions {
            writeln!(functions, "{},{},{},1", f.name, f.memory >> 20, ms(f.cold_start)).expect("text");
        }
        let mut calls = "time_ms,function,duration_ms\n".to_string();
        for c in &scenario.plan.calls {
            let name = &scenario.plan.functions[c.function].name;
            writeln!(calls, "{},{name},{}", ms(c.arrival), ms(c.duration)).expect("text");
        }
        file("functions.csv", &functions);
        file("invocations.csv", &calls);
    }
}

fn span(ns: Ns) -> String {
    if ns == FOREVER { "\"forever\"".into() } else { format!("\"{ns}ns\"") }
}

/// The scenario file.
pub fn scenario_toml(scenario: &Scenario) -> String {
    let plan = &scenario.plan;
    let mut lines = vec!["name = \"random\"".to_string(), format!("seed = {}", scenario.seed)];
    if let Source::Loads(loads) = &scenario.source {
        lines.push("duration = \"60s\"".into());
        lines.push(format!("invocations = {}", loads.invocations));
    }
    lines.extend(worker_lines(plan));
    lines.push("[model]".into());
    let contention = match plan.model.contention {
        Contention::Permits => "permits",
        Contention::Shared => "shared",
        Contention::None => "none",
    };
    lines.push(format!("contention = \"{contention}\""));
    lines.push(format!("cold_cpu_fraction = {:?}", plan.model.cold_cpu_fraction));
    lines.push(format!("removal = {}", span(plan.model.removal)));
    match &scenario.source {
        Source::Trace => lines.extend(["[trace]".into(), "format = \"csv\"".into(), "path = \".\"".into()]),
        Source::Loads(loads) => lines.extend(function_lines(plan, loads)),
    }
    lines.join("\n") + "\n"
}

fn worker_lines(plan: &Plan) -> Vec<String> {
    let w = &plan.worker;
    let mut lines = vec!["[worker]".to_string(), format!("count = {}", plan.workers)];
    lines.extend(w.cores.map(|c| format!("cores = {}", c / 1000)));
    let memory = w.memory.map_or("unlimited".to_string(), |bytes| format!("{}MiB", bytes >> 20));
    lines.push(format!("memory = \"{memory}\""));
    lines.extend((w.gpus > 0).then(|| format!("gpus = {}", w.gpus)));
    lines.push(format!("keep_alive = {}", span(w.keep_alive)));
    let eviction = match w.eviction {
        Eviction::Lru => "lru",
        Eviction::Ttl => "ttl",
        Eviction::Size => "size",
        Eviction::Lfu => "lfu",
        Eviction::GreedyDual => "greedy-dual",
    };
    lines.push(format!("eviction = \"{eviction}\""));
    lines.push(format!("timeout = {}", span(w.timeout)));
    lines.extend(w.measured.then(|| "accounting = \"measured\"".to_string()));
    lines.extend(w.by_app.then(|| "unit = \"app\"".to_string()));
    lines.extend(w.late.then(|| "dispatch = \"late\"".to_string()));
    lines.extend(w.max_creating.map(|most| format!("max_creating = {most}")));
    let policy = match w.queue {
        Queue::Fifo => "fifo",
        Queue::FifoSkip => "fifo-skip",
        Queue::Sjf => "sjf",
        Queue::Edf => "edf",
    };
    let mut queue = vec![format!("policy = \"{policy}\"")];
    queue.extend(w.queue_limit.map(|most| format!("limit = {most}")));
    queue.extend(w.queue_timeout.map(|most| format!("timeout = {}", span(most))));
    lines.push(format!("queue = {{ {} }}", queue.join(", ")));
    if plan.workers > 1 {
        let balancer = match plan.controller.balancer {
            Balancer::RoundRobin => "round-robin",
            Balancer::LeastLoaded => "least-loaded",
            Balancer::Locality { .. } => "locality",
        };
        lines.push("[controller]".into());
        lines.push(format!("balancer = \"{balancer}\""));
        lines.push(format!("delay = {}", span(plan.controller.delay)));
        lines.push(format!("reports = {}", span(plan.controller.reports.unwrap_or(0))));
        // A record tells of one worker: where another is tried, what the first one did is in none.
        lines.push("on_refusal = \"end\"".into());
    }
    lines
}

fn function_lines(plan: &Plan, loads: &Loads) -> Vec<String> {
    let fraction = plan.functions.iter().zip(&loads.functions).find(|(_, l)| l.behaviour.is_none());
    let mut lines: Vec<String> =
        fraction.map(|(f, _)| format!("cpu_fraction = {:?}", f.cpu_fraction)).into_iter().collect();
    for (f, load) in plan.functions.iter().zip(&loads.functions) {
        lines.push("[[function]]".into());
        lines.push(format!("name = \"{}\"", f.name));
        lines.push(format!("app = \"app{}\"", f.app));
        lines.push(format!("memory = \"{}MiB\"", f.memory >> 20));
        lines.push(format!("cpus = {:?}", f.cpus as f64 / 1000.0));
        lines.push(format!("concurrency = {}", f.concurrency));
        lines.push(format!("prewarm = {}", f.prewarm));
        lines.extend(f.keep_alive.map(|ns| format!("keep_alive = {}", span(ns))));
        lines.extend(f.timeout.map(|ns| format!("timeout = {}", span(ns))));
        lines.extend(f.deadline.map(|ns| format!("deadline = {}", span(ns))));
        lines.push(format!("cold_start = {}", span(f.cold_start)));
        lines.extend(f.gpu.then(|| "compute = \"gpu\"".to_string()));
        lines.push(format!("failure = {:?}", load.failure as f64 / 100.0));
        lines.extend(load.memory_used.map(|bytes| format!("memory_used = \"{}MiB\"", bytes >> 20)));
        lines.extend(load.behaviour.map(|b| format!("behaviour = \"{b}\"")));
        lines.push(format!("duration = {}", load.duration));
        lines.push(format!("load = {}", load.load));
    }
    lines
}

/// Reads `records.csv`: the calls with what was drawn for them, and what became of them, in order of arrival.
fn read(plan: &Plan, text: &str) -> (Vec<Call>, Vec<Record>) {
    let mut rows: Vec<(u64, Call, Record)> = text.lines().skip(1).map(|line| row(plan, line)).collect();
    rows.sort_by_key(|(number, ..)| *number);
    rows.into_iter().map(|(_, call, record)| (call, record)).unzip()
}

fn row(plan: &Plan, line: &str) -> (u64, Call, Record) {
    let field: Vec<&str> = line.split(',').collect();
    let number = |i: usize| field[i].parse::<u64>().ok();
    let known = |i: usize| number(i).unwrap_or_else(|| panic!("no number in column {i} of {line}"));
    let arrival = known(8) - START;
    let at = |i: usize| number(i).map(|offset| arrival + offset);
    let record = Record {
        status: match field[7] {
            "completed" => Status::Completed,
            "failed" => Status::Failed,
            "timed_out" => Status::TimedOut,
            "dropped" => Status::Dropped,
            "unfinished" => Status::Unfinished,
            other => panic!("status {other}"),
        },
        start: match field[5] {
            "" => None,
            "cold" => Some(StartKind::Cold),
            "warm" => Some(StartKind::Warm),
            "prewarmed" => Some(StartKind::Prewarmed),
            "late" => Some(StartKind::Late),
            other => panic!("start kind {other}"),
        },
        cause: match field[6] {
            "" => None,
            "first" => Some(ColdCause::First),
            "expired" => Some(ColdCause::Expired),
            "evicted" => Some(ColdCause::Evicted),
            "concurrency" => Some(ColdCause::Concurrency),
            "failure" => Some(ColdCause::Failure),
            other => panic!("cold cause {other}"),
        },
        worker: known(2) as usize,
        container: number(4).map(|n| n as usize),
        enqueue: at(9),
        dispatch: at(10),
        exec_start: at(11),
        exec_end: at(12),
        returned: at(13),
        out_of_memory: field[18] == "oom",
    };
    let call = Call {
        function: plan.functions.iter().position(|f| f.name == field[1]).expect("a function of the plan"),
        arrival,
        duration: known(14),
        fails: record.status == Status::Failed && !record.out_of_memory,
        memory: None,
    };
    (known(0), call, record)
}

/// The workers in the order in which they lie clockwise from a function, as the program hashes them: calls that never end
/// go to each in turn.
pub fn ring(function: &str, workers: usize, folder: &Path) -> Vec<usize> {
    let file = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a temporary file");
    file("functions.csv", &format!("name,memory_mb,cold_ms,warm_ms\n{function},1,0,1\n"));
    let calls: String = (0..workers).map(|i| format!("{i},{function},1000000\n")).collect();
    file("invocations.csv", &format!("time_ms,function,duration_ms\n{calls}"));
    let (workers, pair) = (workers.to_string(), ["functions.csv", "invocations.csv"]);
    let command = Command::new(program())
        .args(["replay", "csv", pair[0], pair[1], "--workers", &workers, "--balancer", "locality"])
        .args(["--out", "out", "--force", "--no-plots"])
        .current_dir(folder)
        .output()
        .expect("the program can be started");
    assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    let text = fs::read_to_string(folder.join("out/records.csv")).expect("records.csv");
    let mut rows: Vec<(u64, usize)> = text
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|field| (field[0].parse().expect("a number"), field[2].parse().expect("a worker")))
        .collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, worker)| worker).collect()
}
