//! methods.txt: one paragraph for the set-up section of a paper, that names whatever changes a figure.
//!
//! What has a sentence of its own is told whether or not it is usual; every other key of the plan that is not usual follows
//! by its name, so that a new key is never left out.

use super::setup::{Clock, Setup};
use super::{RunFacts, Summary};
use crate::base::{Duration, Mem, Time};
use elapse_core::worker::PolicyNames;

/// The keys of a plan, and which of them were told.
struct Plan<'a> {
    setup: &'a Setup,
    told: Vec<&'static str>,
}

impl<'a> Plan<'a> {
    /// The value of a key, which is told with it.
    fn tell(&mut self, key: &'static str) -> Option<&'a str> {
        self.told.push(key);
        self.setup.get(key)
    }

    /// The same of a key with a value that is worth no words.
    fn unless(&mut self, key: &'static str, plain: &str) -> Option<&'a str> {
        self.tell(key).filter(|value| *value != plain)
    }

    /// What is not usual and was not told.
    fn rest(&self) -> Option<String> {
        let keys = self.setup.keys.iter().filter(|k| !k.usual && !self.told.contains(&k.name.as_str()));
        let words: Vec<String> = keys.map(|k| format!("{} = {}", k.name, k.value)).collect();
        (!words.is_empty()).then(|| format!("Further settings: {}.", words.join("; ")))
    }
}

impl Summary {
    /// One paragraph for the set-up section of a paper.
    pub fn methods(&self) -> String {
        methods(self)
    }
}

fn methods(summary: &Summary) -> String {
    let facts = &summary.facts;
    let mut plan = Plan { setup: &facts.setup, told: Vec::new() };
    let live = facts.setup.host.is_some();
    let mut all = vec![format!(
        "We ran Elapse {} ({}) with seed {} on {}: {} invocations of {} over {:.0} s of {} time.",
        env!("CARGO_PKG_VERSION"),
        facts.backend,
        facts.seed,
        load(&mut plan, facts),
        summary.invocations(),
        match summary.functions.len() {
            1 => "one function".to_string(),
            n => format!("{n} functions"),
        },
        facts.end.as_secs_f64(),
        if live { "real" } else { "virtual" },
    )];
    let whose = if summary.workers.is_empty() { "The load's host" } else { "The host" };
    all.extend(facts.setup.host.as_ref().map(|host| format!("{whose} was {host}.")));
    all.extend(calendar(facts));
    all.extend(functions(&facts.setup));
    all.extend(drawn(&mut plan));
    if !live || facts.backend.contains("simulated") {
        all.extend(delays(&mut plan));
    }
    if summary.workers.is_empty() {
        all.push("What was driven is a process of its own, with resources and policies of its own.".into());
    } else {
        all.extend(worker(&mut plan, summary));
    }
    all.extend(fleet(&mut plan, summary));
    all.push(window(&mut plan, facts));
    all.push("Quantiles are within 1 %; counts, means and maxima are exact.".into());
    if let Some(records) = plan.tell("records").filter(|records| *records != "full") {
        all.push(format!("Of the records, {records} were written."));
    }
    all.extend(plan.rest());
    all.extend(summary.tally.errors.words().map(|words| format!("Errors: {words}.")));
    all.push(format!("Result hash {:016x}.", summary.result_hash));
    let ended = |remark: &String| format!("{}.", remark.trim_end_matches('.'));
    all.extend(facts.remarks.iter().map(ended));
    all.join(" ") + "\n"
}

/// Where the load came from.
fn load(plan: &mut Plan<'_>, facts: &RunFacts) -> String {
    let mut until = plan.tell("duration").map_or(String::new(), |span| format!(", for {span}"));
    if let Some(most) = plan.tell("invocations") {
        until += &format!(", {most} invocations at most");
    }
    let Some(trace) = &facts.setup.trace else { return format!("{}{until}", facts.load) };
    let format = plan.tell("trace.format").unwrap_or("?");
    let mut words = format!("the {format} trace '{}'", trace.name);
    if let Some(hash) = trace.hash {
        let each = if trace.files == 1 {
            "its file".to_string()
        } else {
            format!("each of its {} files", trace.files)
        };
        words += &format!(" (hash {hash:016x} over the size and the first and last 64 KiB of {each})");
    }
    if let Some(day) = plan.tell("trace.day") {
        words += &format!(", day {day}");
    }
    match (plan.tell("trace.from"), plan.tell("trace.to")) {
        (None, None) => words += ", whole",
        (from, to) => {
            words += &format!(", from {} to {}", from.unwrap_or("its start"), to.unwrap_or("its end"));
        }
    }
    words += &match plan.tell("trace.rate_scale").unwrap_or("1") {
        "1" => ", at its rate".to_string(),
        scale => format!(", at {scale} times its rate"),
    };
    if facts.setup.functions.is_empty() {
        words
    } else {
        format!("{words}, and on loads of the plan's own{until}")
    }
}

/// What times count from, where that is no calendar.
fn calendar(facts: &RunFacts) -> Option<String> {
    match &facts.setup.clock {
        Clock::Calendar => None,
        Clock::Own { since, .. } => Some(format!("Times count from {since}; they are on no calendar.")),
    }
}

fn functions(setup: &Setup) -> Option<String> {
    const MOST: usize = 12;
    if setup.functions.is_empty() {
        return None;
    }
    let named = setup.functions.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
    let more = setup.functions.len().saturating_sub(MOST);
    let rest = if more > 0 { format!("; and {more} more groups, in run.json") } else { String::new() };
    Some(format!("Functions: {named}{rest}."))
}

/// What of a trace is drawn, because its format leaves it open, and who shares a container.
fn drawn(plan: &mut Plan<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let by_minute = plan.setup.get("trace.format").is_some_and(|f| f.starts_with("azure-2019"));
    for key in ["trace.placement", "trace.durations", "trace.counts"] {
        plan.told.push(key);
    }
    if by_minute {
        let get = |key| plan.setup.get(key).unwrap_or("?");
        let durations = match get("trace.durations") {
            "percentiles" => {
                "drawn through the percentiles of its row, with the row's average as their mean".to_string()
            }
            "average" => "its row's average".to_string(),
            "lognormal" => "lognormal with its row's median and average".to_string(),
            other => other.to_string(),
        };
        let placement = match get("trace.placement") {
            "auto" => "timers came at one phase of every minute, others uniformly in it (placement auto)"
                .to_string(),
            other => format!("invocations were placed in their minute by {other}"),
        };
        all.push(format!(
            "Counts say in which minute invocations {}; {placement}; each duration was {durations}.",
            if get("trace.counts") == "end" { "ended" } else { "started" },
        ));
    }
    let unit = plan.tell("trace.unit").or(plan.setup.get("worker.unit"));
    plan.told.push("worker.unit");
    all.push(match unit {
        Some("app") => "The functions of an app shared containers (unit app).".to_string(),
        Some("function") => "Each function had containers of its own (unit function).".to_string(),
        Some(unit) => format!("Containers were shared by {unit}."),
        None if by_minute => {
            "Containers were shared by whom the trace's memory file speaks of (apps or functions)."
                .to_string()
        }
        None => "Each function had containers of its own.".to_string(),
    });
    all
}

/// A simulated host's delays.
fn delays(plan: &mut Plan<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let law = plan.tell("trace.cold_start");
    let model = plan.tell("model.cold_start").unwrap_or("?");
    let removal = plan.unless("model.removal", "0s");
    if let Some(calibration) = &plan.setup.calibration {
        all.push(format!("Delays were those measured on a host ({calibration})."));
    } else {
        let law = law.unwrap_or(model);
        let own = if plan.setup.trace.is_some() {
            "the trace's or the function's own"
        } else {
            "the function's own"
        };
        all.push(format!("A cold start took {own} where it has one, else {law}."));
        all.extend(removal.map(|removal| format!("A removal took {removal}.")));
    }
    match plan.tell("model.contention") {
        Some("shared") => {
            let parts =
                ["model.cpu_fraction", "model.cold_cpu_fraction"].map(|key| plan.tell(key).unwrap_or("?"));
            all.push(format!(
                "Nothing queued for cores: runnable work shared them in proportion to its processors (contention shared, CPU \
                 part {} of an execution and {} of a cold start). It is a fluid law, which leaves out that phases of few \
                 invocations collide by chance: up to 25 % for two with a CPU part of a half on one core.",
                parts[0], parts[1]
            ));
        }
        Some("none") => all.push("There were always enough cores (contention none).".into()),
        Some(other) => {
            all.push(format!("An invocation held its cores from dispatch to return (contention {other})."))
        }
        None => {}
    }
    if let Some(share) = plan.unless("model.creation_failure", "0") {
        all.push(format!("Of the creations a share of {share} failed."));
    }
    all
}

/// The worker and its policies.
fn worker(plan: &mut Plan<'_>, summary: &Summary) -> Vec<String> {
    let Some(worker) = summary.workers.first() else { return Vec::new() };
    for key in ["worker.cores", "worker.memory", "worker.count", "worker.eviction", "worker.queue.policy"] {
        plan.told.push(key);
    }
    let who = match summary.workers.len() {
        1 => "The worker had".to_string(),
        n => format!("Each of {n} workers had"),
    };
    let (cores, memory) = (worker.cores, worker.capacity.unwrap_or(Mem::MAX));
    let PolicyNames { eviction, queue, keep_alive } = &worker.policies;
    let mut all = vec![format!("{who} {cores} cores and {memory} memory{}.", gpus(plan))];
    plan.told.push("worker.keep_alive");
    let keep = match keep_alive.parse::<Duration>() {
        Ok(span) => format!("for {span}"),
        Err(_) => format!("as {keep_alive} says"),
    };
    all.push(format!(
        "It kept idle containers {keep} and evicted them by {eviction} where memory was needed."
    ));
    let limit = plan.tell("worker.queue.limit").map(|n| format!(", with at most {n} in it"));
    let wait = plan.tell("worker.queue.timeout").map(|t| format!(", each for at most {t}"));
    let dispatch = plan.tell("worker.dispatch").unwrap_or("?");
    all.push(format!(
        "Its queue was {queue}{}{}; dispatch was {dispatch}; an execution could take {}.",
        limit.unwrap_or_default(),
        wait.unwrap_or_default(),
        match plan.tell("worker.timeout") {
            None | Some("forever") => "any time".to_string(),
            Some(timeout) => format!("{timeout} at most"),
        }
    ));
    if let Some(most) = plan.unless("worker.max_creating", "0") {
        all.push(format!("At most {most} containers were being created at once."));
    }
    all
}

fn gpus(plan: &mut Plan<'_>) -> String {
    let memory = plan.tell("worker.gpu_memory").map(|memory| format!(" of {memory} each"));
    match plan.unless("worker.gpus", "0") {
        Some(n) => format!(", and {n} GPUs{}", memory.unwrap_or_default()),
        None => String::new(),
    }
}

/// The controller in front of several workers.
fn fleet(plan: &mut Plan<'_>, summary: &Summary) -> Option<String> {
    let keys = ["controller.balancer", "controller.delay", "controller.reports"];
    let [balancer, delay, reports] = keys.map(|key| plan.tell(key).unwrap_or("?"));
    if summary.workers.len() < 2 {
        return None;
    }
    let knows = match reports {
        "0s" => "which knew their load from what it had sent and heard".to_string(),
        every => format!("to which they reported their load every {every}"),
    };
    Some(format!(
        "A controller gave each invocation to a worker by {balancer}, {knows}; a message took {delay} each way."
    ))
}

/// The time that figures cover.
fn window(plan: &mut Plan<'_>, facts: &RunFacts) -> String {
    for key in ["measure.warm_up", "measure.until"] {
        plan.told.push(key);
    }
    let (from, until) = facts.window;
    let cut = plan.unless("measure.at_end", "finish").map_or(String::new(), |how| {
        format!(" What was still under way at the end was not followed to its own (at_end {how}).")
    });
    if from == Time::ZERO && until == Time::MAX {
        return format!("Figures cover the run from its first instant to its last return.{cut}");
    }
    format!("Figures cover invocations that arrived from {from} to {}.{cut}", until.min(facts.end))
}
