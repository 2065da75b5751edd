//! Counts that anyone can check by hand, met exactly: seven configurations of one generated trace.

use crate::common::{figure, has, program, scratch, shared};
use elapse::load::{Format, TraceConfig};
use elapse::{Finished, Overrides, Run, Scenario, load_plan};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the trace that the table speaks of; `None` where its generator is missing.
fn trace(test: &str) -> Option<PathBuf> {
    let generator = shared("bench/gen_trace.py");
    if !has("bench", test, generator.exists() && program("python3")) {
        return None;
    }
    let folder = scratch(test);
    let made = Command::new("python3").arg(generator).arg(&folder).args(["-n", "100000"]).status();
    assert!(made.expect("python3").success());
    Some(folder)
}

/// Floors times, durations and cold starts to 100 ms (the last two at least 100 ms), so that instants coincide.
fn with_ties(folder: &Path) -> PathBuf {
    let ties = folder.join("ties");
    std::fs::create_dir_all(&ties).unwrap();
    let floor =
        |text: &str, least: u64| ((text.parse::<f64>().unwrap() / 100.0) as u64 * 100).max(least).to_string();
    for (file, columns) in [("functions.csv", [(2, 100), (3, 0)]), ("invocations.csv", [(0, 0), (2, 100)])] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let mut lines = text.lines();
        let mut out = format!("{}\n", lines.next().unwrap());
        for line in lines {
            let mut fields: Vec<String> = line.split(',').map(str::to_string).collect();
            for (column, least) in columns {
                if file == "functions.csv" && column == 3 {
                    continue;
                }
                fields[column] = floor(&fields[column], least);
            }
            out += &fields.join(",");
            out.push('\n');
        }
        std::fs::write(ties.join(file), out).unwrap();
    }
    ties
}

/// What a row of the table says: cold starts, evictions, expirations, mean start delay in ms, peak running and used MB.
type Row = (f64, f64, f64, f64, f64, f64);

fn check(folder: &Path, keys: &[(&str, &str)], want: Row) {
    let run = run(folder, keys);
    let got = (
        figure(&run, "cold_starts"),
        figure(&run, "evictions"),
        figure(&run, "expirations"),
        figure(&run, "start_delay_ms.mean"),
        figure(&run, "memory_mb.peak_running"),
        figure(&run, "memory_mb.peak_used"),
    );
    assert_eq!(got, want, "{keys:?}");
    assert_eq!(figure(&run, "completed"), 100_000.0);
}

/// A total of the whole run, which the last point of the metrics tells.
fn whole_run(folder: &Path, keys: &[(&str, &str)], path: &str) -> f64 {
    let run = run(folder, keys);
    let series = &run.summary.workers[0].series;
    let column = series.columns().names.iter().position(|name| name == path).unwrap();
    series.points().last().unwrap().1[column]
}

fn run(folder: &Path, keys: &[(&str, &str)]) -> Finished {
    let paths = vec![folder.join("functions.csv"), folder.join("invocations.csv")];
    let base = Scenario::replay("counts".into(), TraceConfig::new(Format::Csv, paths));
    let mut overrides = Overrides::default();
    keys.iter().for_each(|(key, value)| overrides.flag(key, key, value));
    Run::new(load_plan(None, Some(base), &overrides).unwrap()).simulate().unwrap()
}

#[test]
fn the_table_of_counts_is_met_exactly() {
    let Some(folder) = trace("the_table_of_counts_is_met_exactly") else { return };
    let memory = |size| ("worker.memory", size);
    check(&folder, &[], (1350.0, 0.0, 95.0, 7.729649, 21_248.0, 448_768.0));
    check(&folder, &[memory("128GiB")], (24_657.0, 24_293.0, 0.0, 140.635533, 23_680.0, 131_072.0));
    // The load leaves a queue behind: 93,015 of 97,248 evictions fall into the window, the others into the drain.
    check(&folder, &[memory("24000MB")], (97_321.0, 93_015.0, 0.0, 22_551.310894, 23_936.0, 23_936.0));
    let whole = whole_run(&folder, &[memory("24000MB")], "evictions");
    assert_eq!(whole, 97_248.0);
    check(&folder, &[("worker.cores", "16")], (1330.0, 0.0, 75.0, 67_240.899194, 10_880.0, 435_200.0));
    assert_eq!(whole_run(&folder, &[("worker.cores", "16")], "expirations"), 91.0);
    let greedy = [memory("128GiB"), ("worker.eviction", "greedy-dual")];
    check(&folder, &greedy, (19_689.0, 19_206.0, 5.0, 103.777049, 24_320.0, 131_072.0));
    let ties = with_ties(&folder);
    check(&ties, &[], (1325.0, 0.0, 93.0, 6.909, 19_328.0, 440_448.0));
    check(&ties, &[memory("128GiB")], (23_982.0, 23_616.0, 0.0, 125.196, 21_376.0, 131_072.0));
}
