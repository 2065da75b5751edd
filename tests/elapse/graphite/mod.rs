//! A run or a daemon that is sent to a real carbon, fetched from a real graphite-web and laid on one axis.

#![expect(clippy::disallowed_methods, reason = "real servers take real time")]

mod names;

use crate::common::containers::agent;
use crate::common::daemon::{Daemon, elapse, said};
use crate::common::graphite::{scenario, text, values};
use crate::common::{has, scratch};
use elapse::metrics::{
    BACKEND_PATHS, CONTROLLER_PATHS, HOST_PATHS, Kind, PATHS, STORAGE_SCHEMAS, storage_aggregation,
};
use elapse::report::Finished;
use elapse_live::graphite::{Client, Fetched, Protocol, Sender};
use names::ODD;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The ends of the Graphite that `tests/daemons.sh` has started: carbon's two ports and the web address.
struct Graphite {
    carbon: String,
    pickle: String,
    url: String,
}

fn graphite(test: &str) -> Option<Graphite> {
    let var = |name: &str| std::env::var(format!("ELAPSE_TEST_{name}")).ok();
    let all = (var("CARBON"), var("CARBON_PICKLE"), var("GRAPHITE"));
    let found = if let (Some(carbon), Some(pickle), Some(url)) = all {
        Some(Graphite { carbon, pickle, url })
    } else {
        None
    };
    has("graphite", test, found.is_some()).then_some(found)?
}

/// What was sent is what came back.
fn assert_same(sent: &BTreeMap<(String, u64), f64>, found: &BTreeMap<(String, u64), f64>) {
    let lost: Vec<_> = sent.iter().filter(|(k, v)| found.get(k) != Some(v)).take(3).collect();
    let strange: Vec<_> = found.keys().filter(|k| !sent.contains_key(k)).take(3).collect();
    assert!(lost.is_empty() && strange.is_empty(), "lost or changed: {lost:?}; never sent: {strange:?}");
}

/// A name of a run that no other run of these tests has: Graphite forgets nothing.
fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{name}{}", now.as_nanos())
}

#[test]
fn a_live_run_sends_extracts_and_aligns() {
    let test = "a_live_run_sends_extracts_and_aligns";
    let Some(g) = graphite(test) else { return };
    if !has("process", test, agent().exists()) {
        return;
    }
    let folder = scratch("graphite-live");
    let name = unique("live");
    let lines = format!("carbon = \"{}\"\nurl = \"{}\"\nmarker = \"1s\"", g.carbon, g.url);
    let file = scenario(&folder, &name, 5, &lines);
    let out = folder.join("run");
    let ran = elapse(&["live", text(&file), "--out", text(&out)]);
    assert!(ran.status.success(), "{}", said(&ran));
    let (sent, found) = (values(&out, "metrics.csv"), values(&out, "graphite.csv"));
    let paths = PATHS.len() + BACKEND_PATHS.len() + HOST_PATHS.len();
    // The tick at the very end may or may not be in.
    assert!(sent.len() >= 4 * paths, "{} points of {paths} paths", sent.len());
    assert_same(&sent, &found);
    let run = Finished::open(&out).expect("a run");
    assert_eq!(run.run["graphite"]["own_points"].as_u64(), Some(sent.len() as u64));
    assert!(run.run["graphite"]["sent_points"].as_u64() >= Some(sent.len() as u64));
    assert_eq!(run.run["graphite"]["steps_seconds"][0], 1);

    // Every path that is listed is sent, for the worker, its backend and its host.
    let prefix = format!("elapse.{name}.worker-0.");
    let seen: BTreeSet<String> =
        sent.keys().map(|(path, _)| path.strip_prefix(&prefix).expect("our prefix").to_string()).collect();
    let mut listed: BTreeSet<String> =
        [PATHS, HOST_PATHS].concat().iter().map(|p| p.name.to_string()).collect();
    listed.extend(BACKEND_PATHS.iter().map(|p| format!("backend.process.{}", p.name)));
    assert_eq!(seen, listed);
    let last =
        |path: &str| sent.iter().rev().find(|((p, _), _)| *p == format!("{prefix}{path}")).expect(path).1;
    assert!(
        *last("cpu_host_seconds") > 0.0 && *last("memory_worker_mb") > 1.0 && *last("invocations") > 30.0
    );

    // On one axis both say the same at every second, and records agree with totals.
    let table = folder.join("aligned.csv");
    let aligned = elapse(&["align", text(&out), "--out", text(&table)]);
    assert!(aligned.status.success(), "{}", said(&aligned));
    let rows: Vec<(f64, String, String, Option<f64>)> = csv::Reader::from_path(&table)
        .expect("a table")
        .into_deserialize()
        .collect::<Result<_, _>>()
        .expect("time,source,path,value");
    let of = |source: &str| -> BTreeMap<(u64, String), f64> {
        let rows = rows.iter().filter(|r| r.1 == source);
        rows.filter_map(|r| Some(((r.0 as u64, r.2.clone()), r.3?))).collect()
    };
    assert!(of("metrics") == of("graphite"), "both sources say the same at every second");
    let arrivals: f64 = of("records").iter().filter(|((_, p), _)| p == "invocations").map(|(_, v)| v).sum();
    assert_eq!(arrivals, run.summary["invocations"].as_f64().expect("a count"));
    assert!(out.join("plots/timeline.svg").exists());
}

#[test]
fn a_simulated_run_laid_at_now_is_found_whole_by_pickle() {
    let Some(g) = graphite("a_simulated_run_laid_at_now_is_found_whole_by_pickle") else { return };
    let folder = scratch("graphite-sim");
    let lines = format!("carbon = \"{}\"\nprotocol = \"pickle\"\nurl = \"{}\"", g.pickle, g.url);
    let name = unique("sim");
    let file = scenario(&folder, &name, 600, &lines);
    let out = folder.join("run");
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--graphite-shift", "now"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let (sent, found) = (values(&out, "metrics.csv"), values(&out, "graphite.csv"));
    assert!(sent.len() >= 599 * PATHS.len());
    // On the run's own calendar, whatever it is in Graphite.
    assert_same(&sent, &found);

    // Once more, later, by hand, with a series that is nobody's.
    std::fs::remove_file(out.join("graphite.csv")).expect("it was there");
    let pulled =
        elapse(&["graphite", "pull", text(&out), "--target", "nobody.*.has", "--target", "randomWalk('x')"]);
    assert!(pulled.status.success(), "{}", said(&pulled));
    assert!(said(&pulled).contains("no series matches 'nobody.*.has'"), "{}", said(&pulled));
    let again = values(&out, "graphite.csv");
    assert!(sent.iter().all(|(k, v)| again.get(k) == Some(v)));
    assert!(again.len() > sent.len(), "the function's points came too");
    // A pattern before the last part, and what came before and does not come now.
    let globbed =
        elapse(&["graphite", "pull", text(&out), "--target", &format!("elapse.{name}.*.queue_length")]);
    assert!(globbed.status.success() && !said(&globbed).contains("partial"), "{}", said(&globbed));
    assert!(said(&globbed).contains("1 series are kept as they were fetched before"), "{}", said(&globbed));
    assert_eq!(values(&out, "graphite.csv").keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
}

/// A value covers its step, also where that is longer than all that is asked for and one point alone tells no step.
#[test]
fn a_step_longer_than_what_is_asked_for_is_seen() {
    let Some(g) = graphite("a_step_longer_than_what_is_asked_for_is_seen") else { return };
    let sender = Sender::open(&g.carbon, Protocol::Plaintext, 1000).expect("a sender");
    let client = Client::new(&g.url, Duration::from_secs(5), 3);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let slot = now.as_secs() / 10 * 10 - 20;
    let path = format!("elapse.coarse.{}", unique("s"));
    sender.offer(&Arc::from([path.clone()]), slot + 3, vec![7.0]);
    let shown = client.wait_for(&path, slot + 3, Duration::from_secs(20)).expect("an answer");
    assert!(shown.is_some(), "it does not show");
    let [series] = &client.render(&[path], slot + 2, slot + 6).expect("an answer")[..] else {
        panic!("not one series")
    };
    assert_eq!((series.step, series.points.as_slice()), (10, [(slot, Some(7.0))].as_slice()));
}

/// What the Graphite of `names` is taken for, and what that one cannot tell: whether this is how a real one reads targets.
#[test]
fn names_tags_and_last_steps_are_read_as_a_real_graphite_has_them() {
    let Some(g) = graphite("names_tags_and_last_steps_are_read_as_a_real_graphite_has_them") else { return };
    let sender = Sender::open(&g.pickle, Protocol::Pickle, 10_000).expect("a sender");
    let client = Client::new(&g.url, Duration::from_secs(5), 3);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let (begin, place) = (now.as_secs() / 60 * 60 - 120, unique("odd"));
    let mut paths: Vec<String> = ODD.iter().map(|name| name.replace("odd.", &format!("{place}."))).collect();
    let tagged = format!("{place}.used;host=a");
    paths.push(tagged.clone());
    let paths: Arc<[String]> = paths.into();
    for second in begin..begin + 120 {
        sender.offer(&paths, second, (0..paths.len()).map(|i| i as f64).collect());
    }
    let patience = Duration::from_secs(20);
    let shown = client.wait_for(&tagged, begin + 119, patience).expect("an answer");
    assert!(shown.is_some(), "it does not show");
    // Names are listed when their files are there, and for a moment points are in neither cache nor file.
    let begun = std::time::Instant::now();
    let mut found = Vec::new();
    while found.len() < ODD.len() && begun.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(100));
        found = client.find(&format!("{place}.*")).expect("names");
    }
    found.sort();
    let mut wanted = paths[..ODD.len()].to_vec();
    wanted.sort();
    assert_eq!(found, wanted, "all but the tagged one");
    let whole = |all: &[Fetched]| all.iter().all(|s| s.points.iter().all(|p| p.1.is_some()));
    let series = client.render_until(&found, begin + 5, begin + 7, patience, whole).expect("an answer");
    let value = |path: &str| paths.iter().position(|p| p == path).map(|i| i as f64);
    for s in &series {
        let points: Vec<_> = (5..8).map(|i| (begin + i, value(&s.target))).collect();
        assert_eq!((s.step, &s.points), (1, &points), "{}", s.target);
    }
    assert_eq!(series.len(), ODD.len());
    let [series] = &client.render_target(&tagged, begin, begin + 1).expect("an answer")[..] else {
        panic!("not one series")
    };
    assert_eq!((&series.target, series.points[0].1), (&tagged, value(&tagged)));
    // Thirty seconds of the tagged series, whose value is the same each second, in steps that the edges cut.
    let sum = format!("summarize({tagged},'30s','sum')");
    let sums = client.render_target(&sum, begin + 37, begin + 67).expect("an answer");
    let whole = value(&tagged).map(|v| 30.0 * v);
    assert_eq!((sums.len(), &sums[0].points), (1, &vec![(begin + 30, whole), (begin + 60, whole)]));
}

#[test]
fn a_second_run_of_one_name_is_not_given_the_points_of_the_first() {
    let Some(g) = graphite("a_second_run_of_one_name_is_not_given_the_points_of_the_first") else { return };
    let folder = scratch("graphite-again");
    let lines = format!("carbon = \"{}\"\nurl = \"{}\"", g.carbon, g.url);
    let file = scenario(&folder, &unique("again"), 300, &lines);
    // Both at the same instants, within what Graphite keeps.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let start = jiff::Timestamp::from_second(now.as_secs() as i64 - 900).expect("a time").to_string();
    for seed in ["1", "2"] {
        let out = folder.join(seed);
        let set = format!("start={start}");
        let ran =
            elapse(&["sim", text(&file), "--out", text(&out), "--seed", seed, "--set", &set, "--no-plots"]);
        assert!(ran.status.success(), "{}", said(&ran));
        assert_same(&values(&out, "metrics.csv"), &values(&out, "graphite.csv"));
    }
}

#[test]
fn a_start_that_graphite_would_forget_is_refused() {
    let Some(g) = graphite("a_start_that_graphite_would_forget_is_refused") else { return };
    let folder = scratch("graphite-start");
    let lines = format!("carbon = \"{}\"\nurl = \"{}\"", g.carbon, g.url);
    let file = scenario(&folder, &unique("old"), 5, &lines);
    let out = folder.join("run");
    let ran = elapse(&["sim", text(&file), "--out", text(&out)]);
    assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
    assert!(
        said(&ran).contains("longer ago than Graphite keeps points; give --graphite-shift now"),
        "{}",
        said(&ran)
    );
    assert!(!out.exists());
    let ahead = elapse(&["sim", text(&file), "--out", text(&out), "--set", "start=2100-01-01T00:00:00Z"]);
    assert!(
        ahead.status.code() == Some(2) && said(&ahead).contains("in the future; give"),
        "{}",
        said(&ahead)
    );
}

#[test]
fn where_graphite_keeps_long_steps_only_those_are_sent() {
    let Some(g) = graphite("where_graphite_keeps_long_steps_only_those_are_sent") else { return };
    // The probe of the step has a path of its own; a Graphite that keeps ten seconds of everything is played by a rule
    // for its path.
    let sender = Sender::open(&g.carbon, Protocol::Plaintext, 1000).expect("a sender");
    let client = Client::new(&g.url, Duration::from_secs(5), 3);
    let limit = Duration::from_secs(20);
    let (step, _) =
        elapse_live::graphite::step_of(&sender, &client, "elapse.coarse.step", limit).expect("a step");
    assert_eq!(step, 10);
    let found = elapse_live::graphite::probe(
        &sender,
        &client,
        &format!("elapse.{}.queue_length", unique("p")),
        limit,
    );
    let found = found.expect("a probe");
    let archives: Vec<(u64, u64)> = found.archives.iter().map(|a| (a.step, a.retention)).collect();
    assert_eq!(
        archives,
        [(1, 6 * 3600), (10, 2 * 86_400), (60, 30 * 86_400)],
        "those of the file that we ship"
    );
    assert_eq!(found.aggregation.as_deref(), Some("average"));
    let total =
        elapse_live::graphite::probe(&sender, &client, &format!("elapse.{}.invocations", unique("p")), limit);
    assert_eq!(total.expect("a probe").aggregation.as_deref(), Some("last"));
    let checked = elapse(&["graphite", "check", "--carbon", &g.carbon, "--url", &g.url, "--creations"]);
    assert!(checked.status.success(), "{}", said(&checked));
    for says in ["1 s for 6 h, 10 s for 2 d, 60 s for 30 d", "totals are made by last", "were made within"] {
        assert!(said(&checked).contains(says), "{}", said(&checked));
    }
}

#[test]
fn what_is_shipped_for_graphite_is_what_the_code_says() {
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("real/graphite").join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    assert_eq!(file("storage-schemas.conf"), STORAGE_SCHEMAS);
    assert_eq!(file("storage-aggregation.conf"), storage_aggregation());
    let page = file("README.md");
    for path in [PATHS, BACKEND_PATHS, HOST_PATHS, CONTROLLER_PATHS].concat() {
        let kind = if path.kind == Kind::Total { "total" } else { "gauge" };
        let row = format!("| `{}` | {kind} | {} | {} |", path.name, path.unit, path.help);
        assert!(page.contains(&row), "real/graphite/README.md does not say: {row}");
    }
}

#[test]
fn a_daemon_sends_for_as_long_as_it_lives() {
    let test = "a_daemon_sends_for_as_long_as_it_lives";
    let Some(graphite) = graphite(test) else { return };
    if !has("process", test, agent().exists()) {
        return;
    }
    let table = format!("[graphite]\ncarbon = \"{}\"", graphite.carbon);
    let controller = Daemon::controller(test, &table);
    let worker = Daemon::worker(test, "", &table);
    assert!(worker.ask(&["invoke", "echo"]).status.success());
    for (daemon, has) in [(&controller, &["graphite"][..]), (&worker, &["graphite", "api"])] {
        let threads = daemon.json(&["status"])["threads"].clone();
        let named = |name: &str| threads.as_array().is_some_and(|all| all.iter().any(|t| t["name"] == name));
        assert!(has.iter().all(|name| named(name)), "{threads}");
    }
    let client = Client::new(&graphite.url, Duration::from_secs(10), 3);
    let begun =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let own = |path: &str| format!("elapse.daemon.{}.{path}", worker.name.replace('.', "_"));
    for (target, value) in [
        (own("cold_starts"), Some(1.0)),
        (own("backend.process.containers_cached"), Some(1.0)),
        (own("memory_worker_mb"), None),
        ("elapse.daemon.controller.workers_healthy".to_string(), Some(0.0)),
        ("elapse.daemon.controller.thread_restarts".to_string(), Some(0.0)),
    ] {
        worker.until(&format!("{target} found"), || {
            let series =
                client.render(std::slice::from_ref(&target), begun - 60, begun + 60).expect("an answer");
            let mut points = series.iter().flat_map(|s| s.points.iter().filter_map(|p| p.1));
            points.any(|v| value.is_none_or(|wanted| wanted == v))
        });
    }
    // Every path that is listed is sent.
    let sent: BTreeSet<String> =
        client.find("elapse.daemon.controller.*").expect("an answer").into_iter().collect();
    for path in CONTROLLER_PATHS {
        assert!(sent.contains(&format!("elapse.daemon.controller.{}", path.name)), "{}: {sent:?}", path.name);
    }
    worker.ends_well();
    controller.ends_well();
}

#[test]
fn wrong_words_under_graphite_are_explained() {
    let folder = scratch("graphite-words");
    for (lines, says) in [
        ("carbon = \"here\"", "[graphite]: carbon is 'here'; write host:port"),
        ("url = \"localhost:8080\"", "it starts with http:// or https://"),
        ("targets = [\"a\"]", "no url to fetch them from"),
        ("protocol = \"pickles\"", "did you mean 'pickle'?"),
        ("carbom = \"a:1\"", "did you mean 'carbon'?"),
        ("marker = \"1h\"", "it is 1s to 60s"),
    ] {
        let file = scenario(&folder, "words", 5, lines);
        let ran = elapse(&["sim", text(&file), "--out", text(&folder.join("run"))]);
        assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
        assert!(said(&ran).contains(says), "{}", said(&ran));
    }
}
