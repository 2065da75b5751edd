//! Random scenarios through the program and through the model: every record is equal.
//!
//! `ELAPSE_SOAK=1` runs 10,000 instead of a few hundred, `ELAPSE_SEEDS=A..B` those that are named, and `ELAPSE_KEEP=FOLDER`
//! leaves the files of each that differs there, made as small as it still differs.

mod compare;
mod generate;
mod program;
mod rng;
mod shrink;

use compare::{Outcome, Rings, compare};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many of a hundred scenarios rounding may take away.
const LEFT_OUT_PERCENT: usize = 10;

/// What became of scenarios.
#[derive(Default)]
struct Count {
    equal: usize,
    left_out: usize,
    differ: Vec<u64>,
}

#[test]
fn every_record_of_random_scenarios_is_equal() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let counts: Vec<Count> = std::thread::scope(|scope| {
        let (next, seeds) = (&next, &seeds);
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || work(i, next, seeds.end))).collect();
        workers.into_iter().map(|w| w.join().expect("a thread that compares")).collect()
    });
    let equal: usize = counts.iter().map(|c| c.equal).sum();
    let left_out: usize = counts.iter().map(|c| c.left_out).sum();
    let mut differ: Vec<u64> = counts.into_iter().flat_map(|c| c.differ).collect();
    differ.sort_unstable();
    println!("{equal} scenarios equal, {left_out} left out, {} differ", differ.len());
    assert!(differ.is_empty(), "these seeds differ: {differ:?}");
    assert!(left_out * 100 <= (equal + left_out) * LEFT_OUT_PERCENT, "{left_out} of {seeds:?} were left out");
}

/// Takes one seed after the other.
fn work(thread: usize, next: &AtomicU64, end: u64) -> Count {
    let folder = std::env::temp_dir().join(format!("elapse-model-{}-{thread}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let (mut rings, mut count) = (Rings::new(), Count::default());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            break;
        }
        let scenario = generate::scenario(seed);
        match compare(&scenario, &mut rings, &folder) {
            Outcome::Equal => count.equal += 1,
            Outcome::LeftOut => count.left_out += 1,
            Outcome::Differs(how) => {
                count.differ.push(seed);
                tell(scenario, how, &mut rings, &folder);
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder");
    count
}

/// Says how a scenario differs, and how to repeat it.
fn tell(scenario: generate::Scenario, how: String, rings: &mut Rings, folder: &Path) {
    let seed = scenario.seed;
    println!("differs; repeat with ELAPSE_SEEDS={seed}..{} cargo test -p elapse-model: {how}", seed + 1);
    if let Some(keep) = std::env::var_os("ELAPSE_KEEP") {
        let (smallest, how) = shrink::shrink(scenario, how, rings, folder);
        let keep = PathBuf::from(keep).join(seed.to_string());
        std::fs::create_dir_all(&keep).expect("the folder of ELAPSE_KEEP");
        program::write(&smallest, &keep);
        std::fs::write(keep.join("how.txt"), how + "\n").expect("a file there");
    }
}

fn seeds() -> Range<u64> {
    if let Ok(text) = std::env::var("ELAPSE_SEEDS") {
        let number = |text: &str| text.parse::<u64>().ok();
        let both = text.split_once("..").and_then(|(from, to)| Some(number(from)?..number(to)?));
        return both.unwrap_or_else(|| panic!("ELAPSE_SEEDS is '{text}'; write A..B"));
    }
    if std::env::var_os("ELAPSE_SOAK").is_some() { 0..10_000 } else { 0..300 }
}
