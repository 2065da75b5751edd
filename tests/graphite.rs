//! Graphite beside a run: points sent to a real carbon, fetched from a real graphite-web and laid on one axis; and Graphites
//! that are away, slow, wrong or cut off.

#![expect(clippy::disallowed_methods, reason = "peers of real sockets live in threads and in real time")]

mod common;

use common::containers::{agent, worker_name};
use common::daemon::Daemon;
use common::{has, scratch};
use elapse::metrics::{
    BACKEND_PATHS, CONTROLLER_PATHS, HOST_PATHS, Kind, PATHS, STORAGE_SCHEMAS, storage_aggregation,
};
use elapse::report::Finished;
use elapse_real::graphite::{Client, Protocol, Sender};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

fn elapse(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elapse")).args(args).output().expect("elapse was started")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A scenario file of some seconds, with these lines under `[graphite]`.
fn scenario(folder: &Path, name: &str, seconds: u32, graphite: &str) -> PathBuf {
    let path = folder.join("scenario.toml");
    let text = format!(
        "name = \"{name}\"\nduration = \"{seconds}s\"\n[worker]\nmemory = \"512MiB\"\n[model]\ncold_start = \"5ms\"\n\
         [live]\nworker = \"{}\"\nagent = {:?}\n[measure]\nat_end = \"cut\"\nuntil = \"{seconds}s\"\n[graphite]\n{graphite}\n\
         [[function]]\nname = \"f\"\nmemory = \"64MiB\"\nduration = \"7ms\"\nload = {{ poisson = \"20/s\" }}\n",
        worker_name(),
        agent()
    );
    std::fs::write(&path, text).expect("a scenario");
    path
}

/// Values by path and second.
fn values(run: &Path, file: &str) -> BTreeMap<(String, u64), f64> {
    let run = Finished::open(run).expect("a run");
    let tracks = run.tracks(file).expect("series");
    let points = tracks.iter().flat_map(|t| t.points.iter().map(move |(at, v)| (&t.path, at, v)));
    points.filter_map(|(path, at, v)| Some(((path.clone(), *at as u64), (*v)?))).collect()
}

/// What was sent is what came back.
fn assert_same(sent: &BTreeMap<(String, u64), f64>, found: &BTreeMap<(String, u64), f64>) {
    let lost: Vec<_> = sent.iter().filter(|(k, v)| found.get(k) != Some(v)).take(3).collect();
    let strange: Vec<_> = found.keys().filter(|k| !sent.contains_key(k)).take(3).collect();
    assert!(lost.is_empty() && strange.is_empty(), "lost or changed: {lost:?}; never sent: {strange:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
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
        elapse_real::graphite::step_of(&sender, &client, "elapse.coarse.step", limit).expect("a step");
    assert_eq!(step, 10);
    let found = elapse_real::graphite::probe(
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
        elapse_real::graphite::probe(&sender, &client, &format!("elapse.{}.invocations", unique("p")), limit);
    assert_eq!(total.expect("a probe").aggregation.as_deref(), Some("last"));
    let checked = elapse(&["graphite", "check", "--carbon", &g.carbon, "--url", &g.url, "--creations"]);
    assert!(checked.status.success(), "{}", said(&checked));
    for says in ["1 s for 6 h, 10 s for 2 d, 60 s for 30 d", "totals are made by last", "were made within"] {
        assert!(said(&checked).contains(says), "{}", said(&checked));
    }
}

/// A peer that answers every request with the same bytes, and ends with the test.
fn answers(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let Ok(mut peer) = peer else { return };
            let mut line = String::new();
            let mut reader = BufReader::new(peer.try_clone().expect("a clone"));
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let _ = peer.write_all(&bytes);
        }
    });
    url
}

fn http(status: &str, length: usize, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

#[test]
fn a_graphite_that_fails_is_told_and_costs_no_results() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let page = "<html><h1>Server Error (500)</h1></html>";
    let cut = "[{\"target\": \"a\", \"datapoints\": [[1, 17040";
    let cases = [
        (format!("http://{nobody}"), "cannot reach Graphite at"),
        (
            answers(http("500 Internal Server Error", page.len(), page)),
            "answered 500 Internal Server Error (Server Error (500))",
        ),
        (answers(http("200 OK", 4000, cut)), "was cut off"),
        (answers(http("200 OK", cut.len(), cut)), "is no JSON"),
        (answers(http("200 OK", 13, "<b>log in</b>")), "is no JSON (log in)"),
        (answers(http("200 OK", 13, "{\"error\": 17}")), "something else than"),
    ];
    for (i, (url, says)) in cases.into_iter().enumerate() {
        let folder = scratch(&format!("graphite-wrong-{i}"));
        let file =
            scenario(&folder, "wrong", 5, &format!("url = \"{url}\"\ntargets = [\"a.(b)\"]\nattempts = 2"));
        let out = folder.join("run");
        let ran = elapse(&["sim", text(&file), "--out", text(&out)]);
        assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
        assert!(
            said(&ran).contains(says) && said(&ran).contains("the run's results are whole"),
            "{}",
            said(&ran)
        );
        assert!(out.join("records.csv").exists() && out.join("report.html").exists());
        let run = Finished::open(&out).expect("a run");
        assert!(run.run["graphite"]["fault"].is_string());
        // Nor does a later attempt harm them.
        let before = std::fs::read(out.join("run.json")).expect("run.json");
        let pulled = elapse(&["graphite", "pull", text(&out), "--attempts", "1"]);
        assert_eq!(pulled.status.code(), Some(3), "{}", said(&pulled));
        assert_eq!(std::fs::read(out.join("run.json")).expect("run.json"), before);
    }
}

#[test]
fn nulls_gaps_and_series_without_points_are_told() {
    let start = 1_704_067_200;
    let series = |target: &str, values: &[&str]| {
        let points: Vec<String> =
            values.iter().enumerate().map(|(i, v)| format!("[{v}, {}]", start + 1 + i as u64)).collect();
        format!("{{\"target\": \"{target}\", \"datapoints\": [{}]}}", points.join(","))
    };
    let body = format!(
        "[{},{},{}]",
        series("host.cpu", &["1.5", "null", "NaN", "4"]),
        series("host.none", &["null", "null", "null", "null"]),
        series("host.late", &["Infinity", "1e9999", "2", "3"])
    );
    let url = answers(http("200 OK", body.len(), &body));
    let folder = scratch("graphite-nulls");
    let targets = "targets = [\"f(1)\"]\nplot = [\"host.*\"]";
    let file = scenario(&folder, "nulls", 4, &format!("url = \"{url}\"\n{targets}"));
    let out = folder.join("run");
    let ran = elapse(&["sim", text(&file), "--out", text(&out)]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(said(&ran).contains("1 series have no point in the run's time: host.none"), "{}", said(&ran));
    let found = values(&out, "graphite.csv");
    let cpu: Vec<(u64, f64)> =
        found.iter().filter(|((p, _), _)| p == "host.cpu").map(|((_, t), v)| (t - start, *v)).collect();
    assert_eq!(cpu, [(1, 1.5), (4, 4.0)]);
    let aligned = elapse(&["align", text(&out)]);
    let rows = said(&aligned);
    assert!(rows.contains("1704067201,graphite,host.cpu,1.5\n1704067202,graphite,host.cpu,\n"), "{rows}");
    // The clock of a sender is a day off: nothing overlaps.
    let off = elapse(&["align", text(&out), "--shift", "host=24h"]);
    assert_eq!(off.status.code(), Some(1), "{}", said(&off));
    assert!(said(&off).contains("no series of graphite.csv has a point in the run's time"), "{}", said(&off));
    let marker = elapse(&["align", text(&out), "--marker", "host=host.cpu"]);
    assert!(said(&marker).contains("the run made no marker"), "{}", said(&marker));
}

#[test]
fn carbon_away_drops_the_oldest_and_counts_them() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let sender = Sender::open(&address, Protocol::Plaintext, 100).expect("a sender");
    let paths: Arc<[String]> = (0..10).map(|i| format!("p{i}")).collect();
    let begun = Instant::now();
    for second in 0..30 {
        sender.offer(&paths, second, vec![1.0; 10]);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "whoever offers does not wait");
    // One batch may be in the hands of the thread that tries to connect.
    let waiting = sender.report();
    assert!((90..=110).contains(&waiting.unsent) && waiting.dropped + waiting.unsent == 300, "{waiting:?}");
    // It comes back: the newest are there.
    let listener = TcpListener::bind(&address).expect("the same port");
    let peer = std::thread::spawn(move || {
        let mut text = String::new();
        listener.accept().expect("a connection").0.read_to_string(&mut text).expect("lines");
        text
    });
    let report = sender.finish(Duration::from_secs(20));
    let text = peer.join().expect("the peer");
    assert_eq!((report.unsent, report.sent + report.dropped), (0, 300), "{report:?}");
    assert_eq!(text.lines().count() as u64, report.sent);
    assert!(text.contains("p9 1 29\n") && !text.contains("p0 1 5\n"), "{text}");
}

#[test]
fn what_a_lost_connection_took_along_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let reads = |mut peer: TcpStream, lines: usize| {
        let mut seen = Vec::new();
        for line in BufReader::new(&mut peer).lines().take(lines) {
            seen.push(line.expect("a line"));
        }
        seen
    };
    let peer = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        // Each connection is dropped after some lines; the last one stays.
        for lines in [3, 50, 7, usize::MAX] {
            seen.extend(reads(listener.accept().expect("a connection").0, lines));
        }
        seen
    });
    let sender = Sender::open(&address, Protocol::Plaintext, 100_000).expect("a sender");
    let paths: Arc<[String]> = Arc::from(["p".to_string()]);
    let mut expected = 0;
    for second in 0..400u64 {
        sender.offer(&paths, second, vec![second as f64]);
        expected += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = sender.finish(Duration::from_secs(20));
    assert!(report.connections >= 3, "{report:?}");
    assert_eq!((report.sent, report.dropped, report.unsent), (expected, 0, 0));
    drop(report);
    // Whatever the kernel had taken and the peer not read is lost with the peer: that much no sender can know.
    let seen = peer.join().expect("the peer");
    assert!(seen.contains("p 399 399") && seen.len() > 300, "{} lines", seen.len());
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
    let client = Client::new(&graphite.url, Duration::from_secs(10), 3);
    let begun =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let own = |path: &str| format!("elapse.daemon.{}.{path}", worker.name.replace('.', "_"));
    for (target, value) in [
        (own("cold_starts"), Some(1.0)),
        (own("backend.process.containers_cached"), Some(1.0)),
        (own("memory_worker_mb"), None),
        ("elapse.daemon.controller.workers_healthy".to_string(), Some(0.0)),
    ] {
        worker.until(&format!("{target} found"), || {
            let series =
                client.render(std::slice::from_ref(&target), begun - 60, begun + 60).expect("an answer");
            let mut points = series.iter().flat_map(|s| s.points.iter().filter_map(|p| p.1));
            points.any(|v| value.is_none_or(|wanted| wanted == v))
        });
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
