//! The Azure 2019 loader: real data in full, and the pitfalls of the format one by one.

mod common;

use common::{figure, has, scratch, shared};
use elapse::load::{Counts, Format, Placement, TraceConfig, open};
use elapse::world::{Finished, Overrides, Run, Scenario, load_plan};
use std::path::Path;

fn replay(folder: &Path, keys: &[(&str, &str)]) -> Finished {
    let base =
        Scenario::replay("azure".into(), TraceConfig::new(Format::Azure2019, vec![folder.to_path_buf()]));
    let mut overrides = Overrides::default();
    keys.iter().for_each(|(key, value)| overrides.flag(key, key, value));
    Run::new(load_plan(None, Some(base), &overrides).unwrap()).simulate().unwrap()
}

#[test]
fn every_invocation_of_the_real_trace_is_accounted_for() {
    let folder = shared("traces/small/azure2019-d07-250fn");
    if !has("traces", "every_invocation_of_the_real_trace_is_accounted_for", folder.is_dir()) {
        return;
    }
    let run = replay(&folder, &[("worker.memory", "16GiB")]);
    assert_eq!(figure(&run, "invocations"), 567_403.0);
    assert_eq!(figure(&run, "completed"), 567_403.0);
    let off = figure(&run, "drawn_busy_seconds") / figure(&run, "trace_busy_seconds") - 1.0;
    assert!(off.abs() < 0.02, "drawn busy time is {:.2} % off", off * 100.0);
    assert!(figure(&run, "evictions") > 1000.0, "a memory at which policies have work to do");
    let hour = replay(&folder, &[("trace.from", "09:00"), ("trace.to", "10:00")]);
    assert!(figure(&hour, "invocations") > 10_000.0);
    let second = shared("traces/medium/azure2019-freyr-500fn-60min");
    let other = replay(&second, &[]);
    assert_eq!(figure(&other, "invocations"), figure(&other, "completed"));
}

const ID: &str = "HashOwner,HashApp,HashFunction";

/// Writes a small folder: rows of invocations, durations and memory.
fn folder(name: &str, invocations: &str, durations: &str, memory: &str) -> std::path::PathBuf {
    let dir = scratch(name);
    let p = "percentile_Average_";
    let durations =
        format!("{ID},Average,Count,Minimum,Maximum,{p}0,{p}1,{p}25,{p}50,{p}75,{p}99,{p}100\n{durations}");
    std::fs::write(dir.join("invocations.csv"), format!("{ID},Trigger,480,481,482\n{invocations}")).unwrap();
    std::fs::write(dir.join("durations.csv"), durations).unwrap();
    std::fs::write(
        dir.join("memory.csv"),
        format!("HashOwner,HashApp,SampleCount,AverageAllocatedMb\n{memory}"),
    )
    .unwrap();
    dir
}

#[test]
fn of_several_days_the_one_that_is_wanted_is_replayed() {
    let one = folder("days", "o,a,f,http,3,0,2\n", "o,a,f,10,5,1.0,30.0,1,2,5,8,12,25,30\n", "o,a,9,150\n");
    let official = |stem: &str, day: &str| one.join(format!("{stem}.anon.d{day}.csv"));
    let invocations = std::fs::read_to_string(one.join("invocations.csv")).unwrap();
    for (day, text) in [("01", invocations.clone()), ("02", invocations.replace("3,0,2", "7,0,0"))] {
        std::fs::write(official("invocations_per_function_md", day), text).unwrap();
        std::fs::copy(one.join("durations.csv"), official("function_durations_percentiles", day)).unwrap();
        std::fs::copy(one.join("memory.csv"), official("app_memory_percentiles", day)).unwrap();
    }
    let at = |day: Option<u32>| {
        let mut trace = TraceConfig::new(Format::Azure2019, vec![one.clone()]);
        trace.day = day;
        open(&trace, 1).map(drop).map_err(|fault| fault.to_string())
    };
    let day_alone = at(Some(1)).expect_err("the pair of names without a day goes first");
    assert!(day_alone.contains("it holds one day, invocations.csv"), "{day_alone}");
    std::fs::remove_file(one.join("invocations.csv")).unwrap();
    let count = |day: &[(&str, &str)]| {
        let base = Scenario::replay("azure".into(), TraceConfig::new(Format::Azure2019, vec![one.clone()]));
        let mut overrides = Overrides::default();
        for (key, value) in day {
            overrides.set(&format!("{key}={value}")).unwrap();
        }
        figure(&Run::new(load_plan(None, Some(base), &overrides).unwrap()).simulate().unwrap(), "invocations")
    };
    assert_eq!((count(&[]), count(&[("trace.day", "2")])), (5.0, 7.0));
    let absent = at(Some(3)).expect_err("there is no third");
    assert!(absent.contains("cannot replay day 3") && absent.contains("it holds 01, 02"), "{absent}");
}

#[test]
fn dirty_rows_are_counted_by_kind_and_never_fatal() {
    let row = "10,5,1.0,30.0,1,2,5,8,12,25,30";
    let dir = folder(
        "dirty",
        "o,a,f,http,3,0,2\no,a,g,http,1,1,1\no,a,h,queue,0,4,0\no,b,i,http,1,0,0\np,a,f,http,0,0,1\n",
        &format!(
            "o,a,f,{row}\no,a,g,0,5,0.0,0.0,0,0,0,0,0,0,0\np,a,f,-125,1,0,0,-1,-1,-1,-1,-1,-1,-1\no,b,i,{row}\n"
        ),
        "o,a,5,100\no,a,5,999\np,a,5,64\n",
    );
    let run = replay(&dir, &[]);
    assert_eq!(figure(&run, "invocations"), 9.0, "f and g of o:a, and f of p:a");
    let notes = run.summary.json()["trace_notes"].clone();
    for (kind, n) in [
        ("functions without a duration row (left out)", 1),
        ("functions without a memory row (left out)", 1),
        ("invocations of functions left out", 5),
        ("zero averages (kept as 1 ms)", 1),
        ("negative averages (kept as 1 ms)", 1),
        ("duplicate memory rows (the first counts)", 1),
    ] {
        assert_eq!(notes[kind], n, "{kind}: {notes}");
    }
    // Two functions of one hash in different apps have names of their own; a container is shared by an app.
    let names: Vec<_> = run.summary.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["o:a:f", "g", "p:a:f"]);
    assert_eq!(
        run.summary.functions[0].memory,
        elapse::base::Mem::from_mib(100),
        "the first memory row counts"
    );
}

#[test]
fn an_apps_functions_share_containers_by_choice() {
    let row = "10,5,1.0,30.0,1,2,5,8,12,25,30";
    let dir = folder(
        "units",
        "o,a,f,http,1,0,0\no,a,g,http,0,0,1\n",
        &format!("o,a,f,{row}\no,a,g,{row}\n"),
        "o,a,5,300\n",
    );
    assert_eq!(figure(&replay(&dir, &[("worker.unit", "app")]), "cold_starts"), 1.0);
    assert_eq!(
        figure(&replay(&dir, &[("worker.unit", "function"), ("trace.unit", "function")]), "cold_starts"),
        2.0
    );
}

fn arrivals(dir: &Path, change: impl Fn(&mut TraceConfig)) -> Vec<u64> {
    let mut config = TraceConfig::new(Format::Azure2019, vec![dir.to_path_buf()]);
    change(&mut config);
    let mut source = open(&config, 1).unwrap().source;
    std::iter::from_fn(|| source.next().unwrap()).map(|call| call.arrival.0).collect()
}

#[test]
fn placement_inside_a_minute_is_seeded_and_as_chosen() {
    const MINUTE: u64 = 60_000_000_000;
    let row = "10,5,1.0,30.0,1,2,5,8,12,25,30";
    let dir = folder(
        "placement",
        "o,a,timer,timer,1,1,1\no,a,web,http,600,0,600\n",
        &format!("o,a,timer,{row}\no,a,web,{row}\n"),
        "o,a,5,300\n",
    );
    let auto = arrivals(&dir, |_| {});
    assert_eq!(auto.len(), 1203);
    assert!(auto.is_sorted());
    assert_eq!(auto, arrivals(&dir, |_| {}), "the same seed, the same instants");
    let lone: Vec<u64> = auto.iter().copied().filter(|t| t / MINUTE == 1).collect();
    assert_eq!(lone.len(), 1);
    assert!(
        auto.contains(&(lone[0] - MINUTE)) && auto.contains(&(lone[0] + MINUTE)),
        "a timer keeps its phase"
    );
    let equal = arrivals(&dir, |c| c.placement = Placement::Equidistant);
    assert!(equal.contains(&0) && equal.contains(&(MINUTE / 600)));
    let poisson = arrivals(&dir, |c| c.placement = Placement::Poisson);
    assert_ne!(poisson.len(), 1203);
    let scaled = arrivals(&dir, |c| c.rate_scale = Some(0.1));
    assert!((80..170).contains(&scaled.len()), "{}", scaled.len());
    let ends = arrivals(&dir, |c| c.counts = Counts::End);
    assert!(ends.is_sorted() && ends.len() == 1203);
    assert!(ends.iter().zip(&auto).filter(|(e, a)| e < a).count() > 1000, "starts lie before their ends");
}

#[test]
fn ilúvatars_pair_is_replayed() {
    let folder = shared("traces/small/iluvatar/paper-repro");
    if !has("traces", "ilúvatars_pair_is_replayed", folder.is_dir()) {
        return;
    }
    let base = Scenario::replay("iluvatar".into(), TraceConfig::new(Format::Iluvatar, vec![folder]));
    let run = Run::new(base).simulate().unwrap();
    assert_eq!(figure(&run, "completed"), 11_868.0);
    assert_eq!(figure(&run, "functions"), 21.0);
}
