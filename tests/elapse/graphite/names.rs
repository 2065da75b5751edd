//! What the names of series mean: how values are aggregated, which series a target or a pattern gives, and which of several is
//! which. The Graphite is one of these tests, which reads targets as graphite-web does.

use crate::common::daemon::{elapse, said};
use crate::common::graphite::{Points, START, Store, scenario, text, values};
use crate::common::scratch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names that hold marks of Graphite's grammar, or letters that it has no place for.
pub const ODD: [&str; 15] = [
    "odd.a(b)",
    "odd.a{b,c}",
    "odd.a,b",
    "odd.a'b",
    "odd.a\"b",
    "odd.a b",
    "odd.a*b",
    "odd.a?b",
    "odd.a[b]",
    "odd.a|b",
    "odd.a=b",
    "odd.a\\b",
    "odd.a%b+&c",
    "odd.\u{fc}",
    "odd.axb",
];

/// A run of a minute, and the words of `graphite pull` of these targets from this store; and what it was asked.
fn pulled(test: &str, store: Store, targets: &[&str]) -> (PathBuf, String, Vec<String>) {
    let folder = scratch(test);
    let (file, out) = (scenario(&folder, "names", 60, ""), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--no-plots"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let (url, asked) = store.serve();
    let targets = targets.iter().flat_map(|target| ["--target", target]);
    let args = ["graphite", "pull", text(&out), "--url", &url].into_iter().chain(targets);
    let pulled = elapse(&args.collect::<Vec<_>>());
    assert!(pulled.status.success(), "{}", said(&pulled));
    let asked = asked.lock().expect("no panic").clone();
    (out, said(&pulled), asked)
}

/// The value of each series of Graphite in the run's only bucket of a minute.
fn of_a_minute(run: &Path, flags: &[&str]) -> BTreeMap<String, f64> {
    let table = run.with_file_name("aligned.csv");
    let args = ["align", text(run), "--relative", "--step", "60s", "--out", text(&table)];
    let aligned = elapse(&args.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>());
    assert!(aligned.status.success(), "{}", said(&aligned));
    let mut table = csv::Reader::from_path(&table).expect("a table");
    let rows = table.deserialize().map(|row| row.expect("time,source,path,value"));
    let rows = rows.filter(|row: &(f64, String, String, Option<f64>)| row.1 == "graphite");
    rows.filter_map(|(_, _, path, value)| Some((path, value?))).collect()
}

/// A value each ten seconds, from before the run until after it.
fn each_ten_seconds(value: impl Fn(i64) -> f64) -> Points {
    (-2..9).map(|i| (i * 10, value(i))).collect()
}

#[test]
fn series_of_others_are_aggregated_as_carbon_does_it() {
    let saw = || each_ten_seconds(|i| (i.rem_euclid(6) + 1) as f64);
    let mut store = Store::default();
    let timers = ["lower", "upper", "upper_90", "min", "max", "mean"];
    store.series.extend(timers.map(|name| (format!("stats.timers.api.{name}"), saw())));
    store.series.insert("stats_counts.req".into(), each_ten_seconds(|_| 5.0));
    store.series.insert("jvm.requests.count".into(), each_ten_seconds(|i| (1000 + 10 * i) as f64));
    store.series.insert("stats.requests.count".into(), saw());
    store.series.insert("db.failed".into(), saw());
    let targets = ["stats.timers.api.*", "stats_counts.req", "*.requests.count", "db.failed"];
    let (run, _, _) = pulled("graphite-rules", store, &targets);
    let found = of_a_minute(&run, &[]);
    let expected = [
        ("db.failed", 3.5),
        ("jvm.requests.count", 1050.0),
        ("stats.requests.count", 21.0),
        ("stats.timers.api.lower", 1.0),
        ("stats.timers.api.max", 6.0),
        ("stats.timers.api.mean", 3.5),
        ("stats.timers.api.min", 1.0),
        ("stats.timers.api.upper", 6.0),
        ("stats.timers.api.upper_90", 6.0),
        ("stats_counts.req", 30.0),
    ];
    assert_eq!(found, expected.map(|(name, value)| (name.to_string(), value)).into());
    let told = ["--min", "*.timers.api.upper", "--sum", "db", "--mean", "*.requests.count"];
    let found = of_a_minute(&run, &told);
    for (name, value) in
        [("stats.timers.api.upper", 1.0), ("db.failed", 21.0), ("jvm.requests.count", 1025.0)]
    {
        assert_eq!(found[name], value, "{name}");
    }
}

#[test]
fn two_series_of_one_name_stay_two() {
    let target = "aliasByNode(servers.*.cpu,2)";
    let mut store = Store::default();
    let both = |from: i64, until: i64| {
        let points = |value: f64| {
            let all = each_ten_seconds(|_| value).into_iter();
            all.filter(|p| p.0 > from && p.0 <= until).collect::<Points>()
        };
        vec![("cpu".to_string(), points(1.0)), ("cpu".to_string(), points(3.0))]
    };
    store.functions.insert(target.into(), Box::new(both));
    store.series.insert("cpu#2".into(), each_ten_seconds(|_| 7.0));
    let (run, told, asked) = pulled("graphite-twice", store, &[target, "cpu*"]);
    assert!(told.contains("series of one name are told apart by a number: cpu#3"), "{told}");
    // By that name Graphite knows nothing.
    assert!(asked.iter().all(|asked| asked != "cpu"), "{asked:?}");
    let three = |cpu, second, third| {
        [("cpu", cpu), ("cpu#2", second), ("cpu#3", third)]
            .map(|(name, value)| (name.to_string(), value))
            .into()
    };
    assert_eq!(of_a_minute(&run, &[]), three(1.0, 7.0, 3.0));
    // A plain name means all of them, one with its number that one.
    assert_eq!(of_a_minute(&run, &["--last", "cpu#3", "--sum", "cpu"]), three(6.0, 42.0, 18.0));
    let plotted = elapse(&["plot", text(&run), "--series", "cpu"]);
    assert!(plotted.status.success(), "{}", said(&plotted));
    let timeline = std::fs::read_to_string(run.join("plots/timeline.svg")).expect("a plot");
    assert!(
        ["cpu", "cpu#2", "cpu#3"].iter().all(|name| timeline.contains(&format!(">\n{name}\n<"))),
        "{timeline}"
    );

    // What an earlier version wrote under one name, one after the other.
    let file = run.join("graphite.csv");
    let before = std::fs::read_to_string(&file).expect("series");
    std::fs::write(&file, before.replace("cpu#2,", "cpu,").replace("cpu#3,", "cpu,")).expect("a file");
    assert_eq!(of_a_minute(&run, &[]).into_values().collect::<Vec<_>>(), [7.0, 1.0, 3.0]);
}

/// A second each is there; what a function makes of thirty is cut where it is asked for less.
#[test]
fn the_steps_at_both_edges_of_a_run_are_asked_for_whole() {
    let mut store = Store::default();
    let target = "summarize(servers.a.cpu,'30s','sum')";
    let sums = |from: i64, until: i64| {
        let bucket = |at: i64| (at - 7).div_euclid(30) * 30 + 7;
        let mut sums = BTreeMap::<i64, f64>::new();
        (from + 1..=until).for_each(|at| *sums.entry(bucket(at)).or_default() += 1.0);
        vec![("summarize(servers.a.cpu, \"30s\", \"sum\")".to_string(), sums.into_iter().collect())]
    };
    store.functions.insert(target.into(), Box::new(sums));
    let (run, told, _) = pulled("graphite-edges", store, &[target]);
    assert!(!told.contains("not over"), "{told}");
    let found = values(&run, "graphite.csv");
    let found: Vec<(i64, f64)> = found.into_iter().map(|((_, at), v)| (at as i64 - START, v)).collect();
    assert_eq!(found, [(-23, 30.0), (7, 30.0), (37, 30.0)]);
    let sum = of_a_minute(&run, &["--sum", "summarize(servers"]);
    assert_eq!(sum.into_values().collect::<Vec<_>>(), [60.0]);
}

#[test]
fn a_last_step_that_is_not_over_is_told() {
    let mut store = Store::default();
    let far = |_, _| vec![("f".to_string(), vec![(0, 1.0), (1 << 32, 1.0)])];
    store.functions.insert("f(x)".into(), Box::new(far));
    let (_, told, _) = pulled("graphite-not-over", store, &["f(x)"]);
    assert!(told.contains("the last step of 'f(x)' is not over"), "{told}");
}

#[test]
fn a_target_without_wildcards_is_asked_for_as_it_is() {
    let mut store = Store::default();
    store.series.insert("disk.used;host=a".into(), each_ten_seconds(|_| 7.0));
    store.series.insert("disk.max;host=a".into(), each_ten_seconds(|i| i as f64));
    store.series.insert("disk.free".into(), each_ten_seconds(|_| 9.0));
    let targets = ["disk.used;host=a", "disk.max;host=a", "disk.free", "disk.none", "disk.f*"];
    let (run, told, asked) = pulled("graphite-tagged", store, &targets);
    assert!(asked.iter().filter(|a| a.starts_with("expand:")).all(|a| a == "expand:disk.f*"), "{asked:?}");
    assert!(told.contains("no series matches 'disk.none'") && !told.contains("disk.free"), "{told}");
    let expected = [("disk.free", 9.0), ("disk.max;host=a", 5.0), ("disk.used;host=a", 7.0)];
    assert_eq!(of_a_minute(&run, &[]), expected.map(|(name, value)| (name.to_string(), value)).into());
}

/// Found by a pattern or named as they are: the marks of Graphite's grammar are escaped, or asked for as any character.
#[test]
fn names_that_mean_something_in_a_target_are_fetched_by_their_names() {
    let store = |odd: &[&str]| {
        let values =
            odd.iter().enumerate().map(|(i, name)| (name.to_string(), each_ten_seconds(|_| i as f64)));
        Store { series: values.collect(), ..Store::default() }
    };
    let (run, told, _) = pulled("graphite-odd", store(&ODD), &["odd.*"]);
    assert!(!told.contains("Graphite: the answer is partial") && !told.contains("told apart"), "{told}");
    let expected: BTreeMap<String, f64> =
        ODD.iter().enumerate().map(|(i, n)| (n.to_string(), i as f64)).collect();
    assert_eq!(of_a_minute(&run, &[]), expected);
    let (run, _, _) = pulled("graphite-odd-one", store(&ODD), &["odd.a(b)", "odd.a b"]);
    assert_eq!(of_a_minute(&run, &[]).into_keys().collect::<Vec<_>>(), ["odd.a b", "odd.a(b)"]);
}

#[test]
fn a_runs_own_series_are_known_whatever_it_is_called() {
    let folder = scratch("graphite-own-names");
    let (file, out) = (scenario(&folder, "backend", 60, ""), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out)]);
    assert!(ran.status.success(), "{}", said(&ran));
    let drawn = std::fs::read(out.join("plots/memory.svg")).expect("a plot");
    let again = elapse(&["plot", text(&out)]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(
        drawn == std::fs::read(out.join("plots/memory.svg")).expect("a plot"),
        "drawn again it is another"
    );
    let aligned = said(&elapse(&["align", text(&out), "--relative", "--step", "60s"]));
    let value = |path: &str| {
        let row =
            aligned.lines().find(|row| row.contains(path)).unwrap_or_else(|| panic!("{path}: {aligned}"));
        row.rsplit(',').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    // The last value of a total, at the last tick, is not the mean.
    assert!(
        value("metrics,elapse.backend.worker-0.invocations,") > 0.9 * value("records,invocations,"),
        "{aligned}"
    );
}
