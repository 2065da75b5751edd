//! Every figure of random runs, with windows, fleets and cuts, is recomputed from their records by `recompute.py`.

#[allow(dead_code, reason = "it is shared with another test")]
#[path = "equal/generate.rs"]
mod generate;
#[allow(dead_code, reason = "it is shared with another test")]
#[path = "equal/program.rs"]
mod program;
#[path = "equal/rng.rs"]
mod rng;

use rng::Rng;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many runs, and with `ELAPSE_SOAK`.
const RUNS: (u64, u64) = (150, 1_000);

#[test]
fn every_figure_follows_from_the_records() {
    let folder = std::env::temp_dir().join(format!("elapse-figures-{}", std::process::id()));
    let runs = if std::env::var_os("ELAPSE_SOAK").is_some() { RUNS.1 } else { RUNS.0 };
    let made: Vec<PathBuf> = (0..runs).map(|seed| run(seed, &folder.join(seed.to_string()))).collect();
    let told = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("recompute.py"))
        .args(&made)
        .output()
        .expect("python3 can be started");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let differs: Vec<&str> = text.lines().filter(|line| line.contains("printed")).collect();
    assert!(told.status.success(), "{}\n{}", differs.join("\n"), String::from_utf8_lossy(&told.stderr));
    fs::remove_dir_all(&folder).expect("the temporary folder");
}

/// Makes a run with a window of its own; its folder.
fn run(seed: u64, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("a temporary folder");
    program::write(&generate::scenario(seed), folder);
    let file = folder.join("scenario.toml");
    let text = fs::read_to_string(&file).expect("the scenario");
    fs::write(&file, text + &window(seed)).expect("the scenario");
    let command = Command::new(program::program())
        .args(["sim", "scenario.toml", "--out", "run", "--force"])
        .args((!seed.is_multiple_of(8)).then_some("--no-plots"))
        .current_dir(folder)
        .output()
        .expect("the program can be started");
    assert!(command.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&command.stderr));
    folder.join("run")
}

/// A `[measure]` that leaves something out at either end, or at none.
fn window(seed: u64) -> String {
    let mut rng = Rng::new(seed ^ 0x77);
    let mut lines = vec!["[measure]".to_string()];
    if rng.percent(50) {
        lines.push(format!("warm_up = \"{}s\"", rng.within(1, 3)));
    }
    if rng.percent(50) {
        lines.push(format!("until = \"{}s\"", rng.within(4, 20)));
        lines.extend(rng.percent(50).then(|| "at_end = \"cut\"".to_string()));
    }
    lines.join("\n") + "\n"
}
