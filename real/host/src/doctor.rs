//! What of this host would spoil a live run.

use std::fs;
use std::path::Path;

/// The folders of a worker that are an engine's.
const ENGINES: [&str; 3] = ["process", "containerd", "docker"];

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at.
    pub what: String,
    /// What was seen, and what to do about it.
    pub says: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Good,
    /// It works, but figures will suffer.
    Spoils,
    /// Something cannot run.
    Missing,
}

impl Finding {
    /// A finding.
    pub fn new(level: Level, what: &str, says: impl Into<String>) -> Finding {
        Finding { level, what: what.into(), says: says.into() }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn kib(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
    line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

/// Looks at memory, load, clocks, limits and what earlier runs have left.
pub fn examine() -> Vec<Finding> {
    let mut all = Vec::new();
    let mut add = |bad: bool, what: &str, good: String, says: String| {
        let (level, text) = if bad { (Level::Spoils, says) } else { (Level::Good, good) };
        all.push(Finding::new(level, what, text));
    };
    let meminfo = read("/proc/meminfo");
    let swapped = kib(&meminfo, "SwapTotal").saturating_sub(kib(&meminfo, "SwapFree")) >> 10;
    add(
        swapped > 0,
        "swap",
        "none is in use".into(),
        format!("{swapped} MB are swapped out; latencies will show it: swapoff -a && swapon -a"),
    );
    let free = kib(&meminfo, "MemAvailable") >> 10;
    add(
        free < 1024,
        "memory",
        format!("{free} MB available"),
        format!("only {free} MB are available; end what you do not need"),
    );
    let load: f64 =
        read("/proc/loadavg").split_whitespace().next().and_then(|l| l.parse().ok()).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    add(
        load > 0.3 * cores,
        "load",
        format!("{load:.1} on {cores} cores"),
        format!("the host is busy already: {load:.1} runnable on {cores} cores; wait, or end what runs"),
    );
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_string();
    add(
        !governor.is_empty() && governor != "performance",
        "CPU governor",
        if governor.is_empty() {
            "the host does not tell; a virtual machine seldom does".into()
        } else {
            governor.clone()
        },
        format!("it is '{governor}', clocks change during a run: cpupower frequency-set -g performance"),
    );
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource").trim().to_string();
    add(
        source == "hpet" || source == "acpi_pm",
        "clock",
        source.clone(),
        format!("reading '{source}' costs a microsecond; let the kernel use tsc or kvm-clock"),
    );
    let files = read("/proc/self/limits")
        .lines()
        .find_map(|l| l.strip_prefix("Max open files").map(str::to_string))
        .and_then(|l| l.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()))
        .unwrap_or(u64::MAX);
    add(
        files < 4096,
        "open files",
        format!("up to {files}"),
        format!("only {files} may be open, and a container takes some six: ulimit -n 65536"),
    );
    let left = leftovers();
    add(
        !left.is_empty(),
        "leftovers",
        "none".into(),
        format!("workers that run, or were killed, hold {}: elapse clean --worker NAME", left.join(", ")),
    );
    all
}

/// What bears this worker's name on this host.
pub fn leftovers_of(worker: &str) -> Vec<String> {
    found().into_iter().filter(|(_, of)| of == worker).map(|(what, _)| what).collect()
}

/// The workers of which this host has something.
pub fn workers() -> Vec<String> {
    let mut all: Vec<String> = found().into_iter().map(|(_, of)| of).collect();
    all.sort();
    all.dedup();
    all
}

/// What bears any worker's name on this host.
pub fn leftovers() -> Vec<String> {
    found().into_iter().map(|(what, _)| what).collect()
}

/// Everything of ours, and of which worker it is.
fn found() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut look = |dir: &str, worker_of: &dyn Fn(&Path, &str) -> Option<String>| {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(worker) = worker_of(&entry.path(), &name) {
                all.push((entry.path().display().to_string(), worker));
            }
        }
    };
    // Which users sandboxes have is a file there, of all workers.
    look("/run/elapse", &|path, name| path.is_dir().then(|| name.to_string()));
    // Systemd keeps its own files and groups in it; a worker's is a folder of engines.
    let cgroup = |path: &Path, name: &str| {
        ENGINES.iter().any(|engine| path.join(engine).is_dir()).then(|| name.to_string())
    };
    look("/sys/fs/cgroup/memory/elapse.slice", &cgroup);
    look("/sys/fs/cgroup/elapse.slice", &cgroup);
    look("/run/containerd/runc", &|_, name| name.strip_prefix("elapse-").map(str::to_string));
    look("/run/netns", &|_, name| {
        let (worker, slot) = name.strip_prefix("elapse-")?.rsplit_once('-')?;
        slot.bytes().all(|b| b.is_ascii_digit()).then(|| worker.to_string())
    });
    look("/sys/class/net", &|link, _| {
        let alias = fs::read_to_string(link.join("ifalias")).ok()?;
        alias.trim().strip_prefix("elapse:").map(str::to_string)
    });
    all
}
