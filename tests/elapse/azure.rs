//! The Azure 2019 loader: real data in full, and the pitfalls of the format one by one.

use crate::common::{figure, has, scratch, shared};
use elapse::Finished;
use elapse::base::{FunctionSpec, Unit};
use elapse::load::{Counts, Durations, Format, Notes, Placement, TraceConfig, open};
use std::path::{Path, PathBuf};

fn replay(folder: &Path, keys: &[(&str, &str)]) -> Finished {
    crate::common::replay(TraceConfig::new(Format::Azure2019, vec![folder.to_path_buf()]), keys)
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
fn folder(name: &str, invocations: &str, durations: &str, memory: &str) -> PathBuf {
    let memory = format!("HashOwner,HashApp,SampleCount,AverageAllocatedMb\n{memory}");
    files(name, &format!("{ID},Trigger,480,481,482\n{invocations}"), durations, &memory)
}

/// The same with the invocations' and the memory's own headers.
fn files(name: &str, invocations: &str, durations: &str, memory: &str) -> PathBuf {
    let dir = scratch(name);
    let p = "percentile_Average_";
    let durations =
        format!("{ID},Average,Count,Minimum,Maximum,{p}0,{p}1,{p}25,{p}50,{p}75,{p}99,{p}100\n{durations}");
    std::fs::write(dir.join("invocations.csv"), invocations).unwrap();
    std::fs::write(dir.join("durations.csv"), durations).unwrap();
    std::fs::write(dir.join("memory.csv"), memory).unwrap();
    dir
}

/// A duration row's cells behind its key: always so many ms, seen `count` times.
fn constant(ms: &str, count: &str) -> String {
    format!("{ms},{count},{ms},{ms},{}\n", [ms; 7].join(","))
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
    let count = |day: &[(&str, &str)]| figure(&replay(&one, day), "invocations");
    assert_eq!((count(&[]), count(&[("trace.day", "2")])), (5.0, 7.0));
    let absent = at(Some(3)).expect_err("there is no third");
    assert!(absent.contains("cannot replay day 3") && absent.contains("it holds 01, 02"), "{absent}");
}

#[test]
fn dirty_rows_are_counted_by_kind_and_never_fatal() {
    let row = "10,5,1.0,30.0,1,2,5,8,12,25,30";
    let dir = folder(
        "dirty",
        "o,a,f,http,3,0,2\no,a,g,http,1,1,1\no,a,h,queue,0,4,0\no,b,i,http,1,0,0\np,a,f,http,0,0,1\np,a,n,http,0,2,0\n",
        &format!(
            "o,a,f,{row}\no,a,g,0,5,0.0,0.0,0,0,0,0,0,0,0\np,a,f,{row}\np,a,n,-125,1,0,0,-1,-1,-1,-1,-1,-1,-1\no,b,i,{row}\n"
        ),
        "o,a,5,100\no,a,5,999\np,a,5,64\n",
    );
    let run = replay(&dir, &[]);
    assert_eq!(figure(&run, "invocations"), 9.0, "f and g of o:a, and f of p:a");
    let notes = run.summary.json()["trace_notes"].clone();
    for (kind, n) in [
        ("functions without a duration row (left out)", 2),
        ("functions without a memory row (left out)", 1),
        ("invocations of functions left out", 7),
        ("zero averages (kept as 1 ms)", 1),
        ("duration rows with a negative cell (left out)", 1),
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

/// What a folder holds, by the loader: its functions, its calls (whose, in ns: when and how long), and what was found.
struct Loaded {
    functions: Vec<FunctionSpec>,
    calls: Vec<(String, u64, u64)>,
    notes: Notes,
}

impl Loaded {
    /// A function's invocations and their mean duration in ms.
    fn of(&self, name: &str) -> (u64, f64) {
        let spans: Vec<u64> = self.calls.iter().filter(|c| c.0 == name).map(|c| c.2).collect();
        (spans.len() as u64, spans.iter().sum::<u64>() as f64 / spans.len() as f64 / 1e6)
    }

    fn times(&self, name: &str) -> Vec<u64> {
        self.calls.iter().filter(|c| c.0 == name).map(|c| c.1).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.functions.iter().map(|f| f.name.as_str()).collect()
    }

    fn memory_mb(&self) -> Vec<u64> {
        self.functions.iter().map(|f| f.memory.0 >> 20).collect()
    }

    fn counted(&self, kind: &str) -> u64 {
        self.notes.dirty.iter().find(|(k, _)| k == kind).map_or(0, |(_, n)| *n)
    }

    fn remarks(&self) -> String {
        self.notes.remarks.join(" ")
    }
}

fn load(dir: &Path, change: impl Fn(&mut TraceConfig)) -> Loaded {
    let mut config = TraceConfig::new(Format::Azure2019, vec![dir.to_path_buf()]);
    change(&mut config);
    let mut workload = open(&config, 1).unwrap_or_else(|fault| panic!("{fault}"));
    let mut calls = Vec::new();
    while let Some(call) = workload.source.next().unwrap() {
        let name = workload.functions[call.function.index()].name.clone();
        calls.push((name, call.arrival.0, call.intended.0));
    }
    let notes = workload.notes.borrow().clone();
    Loaded { functions: workload.functions, calls, notes }
}

#[test]
fn rows_that_are_there_twice_count_once_and_unequal_ones_together() {
    let durations = format!(
        "o,a,f,{}o,a,g,{}o,a,f,{}o,a,g,{}",
        constant("100", "3"),
        constant("200", "3"),
        constant("900", "1"),
        constant("200", "3")
    );
    let dir = folder(
        "twice",
        "o,a,f,http,3000,0,2000\no,a,g,timer,1,1,1\no,a,f,http,5000,0,0\no,a,f,http,3000,0,2000\no,a,g,timer,1,1,1\n",
        &durations,
        "o,a,5,100\no,a,5,100\no,a,5,200\n",
    );
    let run = load(&dir, |_| {});
    assert_eq!(run.names(), ["f", "g"]);
    let (calls, mean) = run.of("f");
    assert_eq!(calls, 10_000);
    assert!((mean / 300.0 - 1.0).abs() < 0.03, "a quarter of the calls take 900 ms: {mean}");
    assert_eq!(run.of("g"), (3, 200.0));
    assert_eq!(run.memory_mb(), [100, 100]);
    for (kind, n) in [
        ("identical rows of invocations (counted once)", 2),
        ("further rows of one function (counts added)", 1),
        ("identical duration rows (counted once)", 1),
        ("further duration rows of one function (each call draws its row by Count)", 1),
        ("identical memory rows (counted once)", 1),
        ("duplicate memory rows (the first counts)", 1),
    ] {
        assert_eq!(run.counted(kind), n, "{kind}");
    }
}

#[test]
fn bad_cells_are_nothing_in_counts_and_leave_out_their_row_elsewhere() {
    let good = constant("100", "3");
    let bad = |cells: &str| format!("{cells}\n");
    let durations = format!(
        "o,a,f,{good}o,a,empty,{}o,a,negative,{}o,a,none,{}o,a,unused,{}o,b,small,{good}o,c,large,{good}",
        bad("100,3,,,100,100,,100,100,100,100"),
        bad("100,3,1,1,100,100,100,-1,100,100,100"),
        bad("100,3,1,1,100,100,100,NaN,100,100,100"),
        bad("100,many,,x,100,100,100,100,100,100,100"),
    );
    let dir = folder(
        "cells",
        "o,a,f,http,1,,-2\no,a,empty,http,1,1,1\no,a,negative,http,1,1,1\no,a,none,http,1,1,1\no,a,unused,http,x,3.0,1e3\n\
         o,a,f\n,,,http,1,1,1\no,b,small,http,1,1,1,\no,c,large,http,1,1,1e30\n",
        &durations,
        "o,a,,100\no,b,5,-5\no,b,5,x\no,b,5,70\no,c,5,1e40\n",
    );
    let run = load(&dir, |_| {});
    assert_eq!(run.names(), ["f", "unused", "small"]);
    assert_eq!((run.of("f").0, run.of("unused").0), (1, 1003));
    for (kind, n) in [
        ("empty counts (taken as 0)", 1),
        ("negative counts (taken as 0)", 1),
        ("counts that are no number (taken as 0)", 1),
        ("counts above 100 million a minute (taken as 0)", 1),
        ("rows with more or fewer fields than the header (left out)", 1),
        ("rows of invocations without a function (left out)", 1),
        ("duration rows with an empty cell (left out)", 1),
        ("duration rows with a negative cell (left out)", 1),
        ("duration rows with a cell that is no number (left out)", 1),
        ("memory rows with a negative cell (left out)", 1),
        ("memory rows with a cell that is no number (left out)", 1),
        ("memory rows above a petabyte (left out)", 1),
        ("functions without a duration row (left out)", 3),
        ("functions without a memory row (left out)", 1),
        ("bad counts of these duration rows (taken as 0)", 0),
    ] {
        assert_eq!(run.counted(kind), n, "{kind}");
    }
    // What the chosen law does not need may be anything.
    let average = load(&dir, |c| c.durations = Durations::Average);
    assert_eq!(average.names(), ["f", "empty", "negative", "none", "unused", "small"]);
    let columns = "Columns that are not used: Minimum, Maximum, percentile_Average_{0,1,25,50,75,99,100} of durations.csv;";
    assert!(average.remarks().contains(columns), "{}", average.remarks());
    let far =
        folder("century", "o,a,f,http,1,0,0\n", &format!("o,a,f,{}", constant("1e15", "1")), "o,a,5,9\n");
    let said = open(&TraceConfig::new(Format::Azure2019, vec![far]), 1).err().unwrap().to_string();
    assert!(said.contains("durations.csv: line 2: Average '1e15' is above 100 years"), "{said}");
}

#[test]
fn fractional_counts_are_drawn_with_their_mean() {
    let names: Vec<String> = (0..500).map(|i| format!("f{i}")).collect();
    let rows = |cells: &str| names.iter().map(|n| format!("o,a,{n},{cells}")).collect::<String>();
    let dir = folder("fractions", &rows("http,0.4,2.25,1e-7\n"), &rows(&constant("5", "1")), "o,a,5,100\n");
    let run = load(&dir, |_| {});
    let calls = run.calls.len();
    assert!((calls as f64 / (500.0 * 2.65) - 1.0).abs() < 0.05, "{calls}");
    assert_eq!(run.counted("fractional counts (drawn with that mean)"), 1000);
    let equal = load(&dir, |c| c.placement = Placement::Equidistant);
    assert_eq!(equal.calls.len(), calls, "wherever they are placed");
}

#[test]
fn a_slice_is_cut_at_its_instant() {
    let dir = folder(
        "seconds",
        "o,a,f,http,60,0,120\no,a,g,timer,1,1,1\n",
        &format!("o,a,f,{}o,a,g,{}", constant("100", "1"), constant("100", "1")),
        "o,a,5,100\n",
    );
    const SECOND: u64 = 1_000_000_000;
    let whole = arrivals(&dir, |_| {});
    for (from, to) in [(0, 119), (0, 90), (30, 180), (30, 50), (61, 62), (119, 121)] {
        let slice = |clock: bool| {
            arrivals(&dir, |c| {
                let text = |s: u64| match clock {
                    true => format!("08:{:02}:{:02}", s / 60, s % 60),
                    false => format!("{s}s"),
                };
                (c.from, c.to) = (Some(text(from)), Some(text(to)));
            })
        };
        let inside = whole.iter().filter(|t| (from * SECOND..to * SECOND).contains(t));
        assert_eq!(slice(false), inside.map(|t| t - from * SECOND).collect::<Vec<_>>(), "{from} {to}");
        assert_eq!(slice(false), slice(true));
    }
    let small = folder(
        "three",
        "o1,a1,f1,http,1,0,2\no1,a1,f2,timer,1,1,1\n",
        &format!("o1,a1,f1,{}o1,a1,f2,{}", constant("100", "3"), constant("200", "3")),
        "o1,a1,10,100\n",
    );
    let up_to = |to: &str| arrivals(&small, |c| c.to = Some(to.into()));
    assert_eq!(up_to("119s"), [9_495_373_109, 47_546_225_187, 107_546_225_187]);
    assert_eq!(up_to("90s"), [9_495_373_109, 47_546_225_187]);
    let spans = |from: u64| {
        let row = "10,5,1.0,30.0,1,2,5,8,12,25,30";
        let dir = folder("same-luck", "o,a,f,http,60,7.5,120\n", &format!("o,a,f,{row}\n"), "o,a,5,100\n");
        let slice = load(&dir, |c| (c.from, c.rate_scale) = (Some(format!("{from}s")), Some(0.7)));
        slice.calls.iter().map(|c| (c.1 + from * SECOND, c.2)).collect::<Vec<_>>()
    };
    let (all, late) = (spans(0), spans(125));
    assert!(late.len() > 50 && all.ends_with(&late), "each call has its instant and duration in every slice");
    let mut config = TraceConfig::new(Format::Azure2019, vec![dir.clone()]);
    (config.from, config.to) = (Some("30s".into()), Some("90.5s".into()));
    let workload = open(&config, 1).unwrap();
    assert_eq!((workload.begin.map(|t| t.0), workload.end.map(|t| t.0)), (Some(0), Some(60_500_000_000)));
    config.time_scale = Some(0.1);
    assert_eq!(open(&config, 1).unwrap().end.map(|t| t.0), Some(6_050_000_000));
    let ends = arrivals(&dir, |c| {
        (c.counts, c.from, c.to) = (Counts::End, Some("30s".into()), Some("150s".into()));
    });
    assert!(ends.is_sorted() && ends.iter().all(|t| *t < 120 * SECOND));
    for (from, to, part) in [
        ("30s", "30s", "'from' is not before its 'to'"),
        ("08:03:01", "08:04", "is outside"),
        ("0s", "180.000000001s", "is outside"),
        ("07:59:59", "08:01", "is outside"),
    ] {
        (config.from, config.to) = (Some(from.into()), Some(to.into()));
        let said = open(&config, 1).err().unwrap().to_string();
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn official_files_count_minutes_from_one_wherever_they_were_cut() {
    let dir = scratch("official");
    let one = files(
        "labels",
        &format!("{ID},Trigger,481,482,483\no,a,f,http,1,0,2\n"),
        &format!("o,a,f,{}", constant("100", "1")),
        "HashOwner,HashApp,SampleCount,AverageAllocatedMb\no,a,5,100\n",
    );
    for (from, to) in [
        ("invocations", "invocations_per_function_md.anon.d01.csv"),
        ("durations", "function_durations_percentiles.anon.d01.csv"),
        ("memory", "app_memory_percentiles.anon.d01.csv"),
    ] {
        std::fs::copy(one.join(from).with_extension("csv"), dir.join(to)).unwrap();
    }
    let at = |dir: &Path, from: &str, to: &str| {
        let mut config = TraceConfig::new(Format::Azure2019, vec![dir.to_path_buf()]);
        (config.from, config.to) = (Some(from.into()), Some(to.into()));
        open(&config, 1).map_err(|fault| fault.to_string())
    };
    let workload = at(&dir, "08:00", "08:02").unwrap();
    let remarks = workload.notes.borrow().remarks.join(" ");
    assert!(
        remarks.contains("labelled from 481 on, which is read as 08:00: official files count from 1"),
        "{remarks}"
    );
    // 2019-07-15, 08:00.
    assert_eq!(workload.epoch, Some(1_563_177_600_000_000_000));
    assert_eq!(at(&dir, "08:00:30", "08:02").unwrap().epoch, Some(1_563_177_630_000_000_000));
    let said = at(&dir, "08:00", "08:03:01").err().unwrap();
    assert!(said.contains("08:00 to 08:03"), "{said}");
    let workload = at(&one, "08:01", "08:04").unwrap();
    let remarks = workload.notes.borrow().remarks.join(" ");
    assert!(
        remarks.contains("labelled from 481 on, which is read as 08:01: a file that is called"),
        "{remarks}"
    );
    assert_eq!(workload.epoch, None);
    at(&one, "08:00", "08:02").err().unwrap();
}

#[test]
fn files_are_joined_by_the_keys_that_they_share() {
    let good = constant("100", "3");
    let durations = format!("o,a,f,{good}p,b,g,{good}");
    let remarks = |dir: &Path| {
        let run = load(dir, |_| {});
        assert_eq!(run.names(), ["f", "g"]);
        (run.memory_mb(), run.remarks())
    };
    let rows = "o,a,f,http,1,0,2\np,b,g,timer,1,1,1\n";
    let inv = format!("{ID},Trigger,1,2,3\n{rows}");
    let app = files("apps", &inv, &durations, "HashApp,AverageAllocatedMb\na,300\nb,400\nb,500\n");
    let (memory, said) = remarks(&app);
    assert_eq!(memory, [300, 400]);
    assert!(said.contains("invocations.csv and memory.csv are joined by HashApp alone"), "{said}");
    assert!(!said.contains("durations.csv are joined"), "{said}");
    let function = files(
        "functions-only",
        "HashFunction,Trigger,1,2,3\nf,http,1,0,2\ng,timer,1,1,1\n",
        &durations,
        "HashFunction,HashOwner,AverageAllocatedMb\nf,o,300\ng,p,400\n",
    );
    let (memory, said) = remarks(&function);
    assert_eq!(memory, [300, 400]);
    assert!(said.contains("invocations.csv and durations.csv are joined by HashFunction alone"), "{said}");
    // Functions of no app have memory of their own, whoever shares a container.
    assert_eq!(load(&function, |c| c.unit = Some(Unit::App)).memory_mb(), [300, 400]);
    for (inv, memory, part) in [
        (
            "HashFunction,1\nf,1\n",
            "HashApp,AverageAllocatedMb\na,300\n",
            "invocations.csv: line 1: there is no column 'HashApp'",
        ),
        ("HashApp,1\na,1\n", "HashApp,AverageAllocatedMb\na,300\n", "there is no column 'HashFunction'"),
        (
            "HashFunction,1\nf,1\n",
            "HashOwner,AverageAllocatedMb\no,300\n",
            "memory.csv: line 1: there is no column 'HashApp'",
        ),
        (
            "HashFunction,HashFunction,1\nf,f,1\n",
            "HashApp,AverageAllocatedMb\na,3\n",
            "'HashFunction' is there twice",
        ),
    ] {
        let dir = files("no-keys", inv, &durations, memory);
        let said = open(&TraceConfig::new(Format::Azure2019, vec![dir]), 1).err().unwrap().to_string();
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn counts_are_scaled_but_those_of_timers_and_clones_have_luck_of_their_own() {
    let row = constant("100", "1");
    let dir = folder(
        "scaled",
        "o,a,timer,timer,1,1,1\no,a,web,http,600,0,600\n",
        &format!("o,a,timer,{row}o,a,web,{row}"),
        "o,a,5,300\n",
    );
    let plain = load(&dir, |_| {});
    for (k, web) in [(0.1, 80..160), (2.5, 3_000..3_001)] {
        let scaled = load(&dir, |c| c.rate_scale = Some(k));
        assert!(web.contains(&scaled.of("web").0), "{}", scaled.of("web").0);
        assert_eq!(scaled.times("timer"), plain.times("timer"), "they keep their period");
        let said = "rate_scale leaves what timers call as it is, 3 invocations of 1 of the functions";
        assert!(scaled.remarks().contains(said), "{}", scaled.remarks());
    }
    let clones = load(&dir, |c| c.clones = Some(3));
    assert_eq!(clones.names(), ["timer", "web", "timer~2", "web~2", "timer~3", "web~3"]);
    for name in ["web", "web~2", "web~3"] {
        assert_eq!(clones.of(name).0, 1200, "{name}");
    }
    assert_eq!(clones.of("timer~3").0, 3);
    assert_eq!(clones.times("web"), plain.times("web"));
    assert!(clones.times("web") != clones.times("web~2") && clones.times("web~2") != clones.times("web~3"));
    assert_ne!(clones.times("timer"), clones.times("timer~2"));
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
