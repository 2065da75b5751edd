//! Generated traces: a csv pair, or a folder shaped like Azure Functions 2019.
//!
//! Both follow from a seed alone. The Azure-like day takes its shapes from the published statistics: functions per app,
//! invocations per app over eight decades, triggers, lognormal executions (mu -0.38, sigma 2.36 of seconds) that are
//! shorter for popular functions, Burr XII memory (Shahrad et al., ATC 2020), a diurnal swing of 15 %. A small sample of
//! a population so skewed cannot have its totals; the share of timers, bursts and idle functions is what it is for.

use crate::base::{Fault, Result};
use crate::rt::chance::{Purpose, RngKey, Seed};
use rand::RngExt;
use rand_distr::{Distribution, Exp1, Gamma, Poisson, StandardNormal};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Functions.
    pub functions: u32,
    /// Invocations of a csv pair; minutes of an Azure-like folder.
    pub length: u64,
    /// Mean invocations per second of a csv pair.
    pub rate: f64,
    /// Exponent of the popularity of a csv pair.
    pub zipf: f64,
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Fault::writing(path, &e))
}

fn normal(draw: &mut impl rand::Rng) -> f64 {
    StandardNormal.sample(draw)
}

/// Writes functions.csv and invocations.csv.
///
/// # Errors
/// If they cannot be written.
pub fn csv(folder: &Path, plan: &Plan) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Fault::writing(folder, &e))?;
    let chance = Seed::new(plan.seed);
    let width = plan.functions.saturating_sub(1).to_string().len();
    let mut functions = String::from("name,memory_mb,cold_ms,warm_ms\n");
    let mut kinds = Vec::new();
    let mut total = 0.0;
    for i in 0..plan.functions {
        let name = format!("f{i:0width$}");
        let mut draw = chance.named(&name).draw(Purpose::Generate, 0);
        let memory = [128, 128, 256, 256, 256, 512, 512, 1024][draw.random_range(0..8usize)];
        let cold = 500.0 * (0.5 * normal(&mut draw)).exp();
        let warm = 100.0 * normal(&mut draw).exp();
        let _ = writeln!(functions, "{name},{memory},{cold:.3},{warm:.3}");
        total += f64::from(i + 1).powf(-plan.zipf);
        kinds.push((name, warm, total));
    }
    let mut draw = chance.named("arrivals").draw(Purpose::Generate, 0);
    let mut invocations = String::from("time_ms,function,duration_ms\n");
    let mut ms = 0.0;
    for _ in 0..plan.length {
        ms += Distribution::<f64>::sample(&Exp1, &mut draw) * 1000.0 / plan.rate;
        let pick = draw.random::<f64>() * total;
        let (name, warm, _) = &kinds[kinds.partition_point(|k| k.2 <= pick).min(kinds.len() - 1)];
        let duration = (warm * (0.5 * normal(&mut draw)).exp()).clamp(1.0, 60_000.0);
        let _ = writeln!(invocations, "{ms:.3},{name},{duration:.3}");
    }
    write(&folder.join("functions.csv"), &functions)?;
    write(&folder.join("invocations.csv"), &invocations)
}

const TRIGGERS: [(&str, f64); 6] = [
    ("http", 0.55),
    ("timer", 0.705),
    ("queue", 0.857),
    ("event", 0.879),
    ("storage", 0.907),
    ("others", 1.0),
];

struct Sketch {
    owner: String,
    app: String,
    name: String,
    trigger: &'static str,
    /// Fires each so many minutes, for a timer.
    period: u64,
    per_minute: f64,
    average_s: f64,
    spread: f64,
    rng: RngKey,
}

fn hash(rng: RngKey) -> String {
    let mut draw = rng.draw(Purpose::Generate, 99);
    (0..4).map(|_| format!("{:016x}", draw.random::<u64>())).collect()
}

fn sketch(chance: Seed, app: u32, owner: &str, function: u32) -> Sketch {
    let rng = chance.named(&format!("app {app} function {function}"));
    let mut draw = rng.draw(Purpose::Generate, 0);
    let u: f64 = draw.random();
    let trigger = TRIGGERS.iter().find(|(_, share)| u < *share).map_or("others", |(name, _)| name);
    let period = [1, 5, 5, 5, 10, 15, 30, 60][draw.random_range(0..8usize)];
    // Daily invocations over eight decades: median 74, ninth decile about 4,500.
    let popularity = normal(&mut draw);
    let per_day = if trigger == "timer" { 1440.0 / period as f64 } else { 74.0 * (3.2 * popularity).exp() };
    // Popular functions are short: Gaussian copula, rho = -0.25.
    let z = -0.25 * popularity + (1.0f64 - 0.0625).sqrt() * normal(&mut draw);
    let average_s = (-0.38 + 2.36 * z).exp().clamp(0.001, 1_600.0);
    let average_s = if per_day > 10_000.0 { average_s.min(1.0) } else { average_s };
    let spread = (0.5 * (0.85 * normal(&mut draw)).exp()).clamp(0.05, 2.0);
    Sketch {
        owner: owner.into(),
        app: hash(chance.named(&format!("app {app}"))),
        name: hash(rng),
        trigger,
        period,
        per_minute: per_day.min(20_000.0) / 1440.0,
        average_s,
        spread,
        rng,
    }
}

/// Counts of a function in each minute.
fn counts(f: &Sketch, minutes: u64) -> Vec<u64> {
    let mut draw = f.rng.draw(Purpose::Generate, 1);
    let phase = draw.random_range(0..f.period);
    (0..minutes)
        .map(|minute| {
            if f.trigger == "timer" {
                return u64::from(minute % f.period == phase);
            }
            let hour = minute as f64 / 60.0;
            let diurnal = 1.0 + 0.15 * ((hour - 13.0) / 24.0 * std::f64::consts::TAU).cos();
            // Counts vary far more than a Poisson law: the minute's rate is itself Gamma distributed.
            let rate = f.per_minute * diurnal * Gamma::new(0.5, 2.0).map_or(1.0, |g| g.sample(&mut draw));
            if rate <= 0.0 { 0 } else { Poisson::new(rate).map_or(0, |p| p.sample(&mut draw) as u64) }
        })
        .collect()
}

/// Writes the three official files of a day 01.
///
/// # Errors
/// If they cannot be written.
pub fn azure_2019(folder: &Path, plan: &Plan) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Fault::writing(folder, &e))?;
    let chance = Seed::new(plan.seed);
    let minutes = plan.length.clamp(1, 1440);
    let mut invocations = String::from("HashOwner,HashApp,HashFunction,Trigger");
    (1..=minutes).for_each(|m| {
        let _ = write!(invocations, ",{m}");
    });
    let mut durations = String::from("\nHashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum");
    let ranks = [0.0, 1.0, 25.0, 50.0, 75.0, 99.0, 100.0];
    ranks.iter().for_each(|r| {
        let _ = write!(durations, ",percentile_Average_{r}");
    });
    durations.remove(0);
    let mut memory = String::from("HashOwner,HashApp,SampleCount,AverageAllocatedMb");
    for p in [1, 5, 25, 50, 75, 95, 99, 100] {
        let _ = write!(memory, ",AverageAllocatedMb_pct{p}");
    }
    invocations.push('\n');
    durations.push('\n');
    memory.push('\n');
    let (mut written, mut app) = (0, 0);
    while written < plan.functions {
        let mut draw = chance.named(&format!("app {app}")).draw(Purpose::Generate, 0);
        // Functions per app: 50 % have one, 72 % at most two, 90 % at most five.
        let u: f64 = draw.random();
        let members = match u {
            u if u < 0.503 => 1,
            u if u < 0.724 => 2,
            u if u < 0.819 => 3,
            u if u < 0.905 => draw.random_range(4..=5u32),
            u if u < 0.967 => draw.random_range(6..=10),
            _ => draw.random_range(11..=20),
        };
        let owner = hash(chance.named(&format!("owner {}", app / 2)));
        // Burr XII (c 11.652, k 0.221, lambda 107.083), the paper's fit of memory per app.
        let burr = 107.083 * ((1.0 - draw.random::<f64>()).powf(-1.0 / 0.221) - 1.0).powf(1.0 / 11.652);
        let mb = burr.clamp(16.0, 1_500.0).round();
        let mut app_hash = String::new();
        for member in 0..members.min(plan.functions - written) {
            let f = sketch(chance, app, &owner, member);
            write_function(&f, minutes, &mut invocations, &mut durations);
            app_hash.clone_from(&f.app);
            written += 1;
        }
        let _ = write!(memory, "{owner},{app_hash},{},{mb}", 60 * members);
        for share in [0.7, 0.8, 0.93, 1.0, 1.06, 1.12, 1.15, 1.19] {
            let _ = write!(memory, ",{}", (mb * share).round());
        }
        memory.push('\n');
        app += 1;
    }
    write(&folder.join("invocations_per_function_md.anon.d01.csv"), &invocations)?;
    write(&folder.join("function_durations_percentiles.anon.d01.csv"), &durations)?;
    write(&folder.join("app_memory_percentiles.anon.d01.csv"), &memory)
}

fn write_function(f: &Sketch, minutes: u64, invocations: &mut String, durations: &mut String) {
    let Sketch { owner, app, name, trigger, .. } = f;
    let counts = counts(f, minutes);
    let _ = write!(invocations, "{owner},{app},{name},{trigger}");
    counts.iter().for_each(|c| {
        let _ = write!(invocations, ",{c}");
    });
    invocations.push('\n');
    let total: u64 = counts.iter().sum();
    // Percentiles of the same lognormal law that has this average.
    let median = f.average_s * 1e3 * (-f.spread * f.spread / 2.0).exp();
    // Platforms end executions: no percentile of the real data is beyond half an hour.
    let at = |z: f64| (median * (f.spread * z).exp()).min(1_800_000.0).round();
    let values = [-3.0, -2.326, -0.674, 0.0, 0.674, 2.326, 3.2].map(at);
    let average = (f.average_s * 1e3).round();
    let _ = write!(durations, "{owner},{app},{name},{average},{total},{:.1},{:.1}", values[0], values[6]);
    values.iter().for_each(|v| {
        let _ = write!(durations, ",{v}");
    });
    durations.push('\n');
}
