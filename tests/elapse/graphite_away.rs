//! Graphites that are away, slow, wrong, cut off, or know less than what is asked for, played by peers of these tests.

#![expect(clippy::disallowed_methods, reason = "peers of real sockets live in threads and in real time")]

use crate::common::daemon::{elapse, said};
use crate::common::graphite::{START, answers, http, ok, peer, rendered, scenario, targets_of, text, values};
use crate::common::scratch;
use elapse::Interrupt;
use elapse::report::Finished;
use elapse_live::graphite::{Client, Protocol, Sender};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn a_failure_is_asked_again_and_no_question_falls_into_graphites_traps() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&seen);
    let body = format!("[{}]", rendered("a", [(1000, 1.0), (1001, 2.0), (1002, 3.0)].into_iter()));
    let url = peer(move |line| {
        let mut asked = asked.lock().expect("no panic");
        asked.push(line.to_string());
        if asked.len() == 1 { http("500 Internal Server Error", 0, "") } else { ok(&body) }
    });
    let series = Client::new(&url, Duration::from_secs(5), 3).render(&["a".into()], 1000, 1001);
    let series = series.expect("an answer at the second attempt");
    assert_eq!(series[0].points, [(1000, Some(1.0)), (1001, Some(2.0))]);
    let asked = seen.lock().expect("no panic");
    assert_eq!(asked.len(), 2, "{asked:?}");
    for line in asked.iter() {
        // The start is exclusive, and a maximum of points would have them averaged.
        assert!(line.contains("from=999&") && line.contains("until=1001"), "{line}");
        assert!(!line.contains("maxDataPoints"), "{line}");
    }
}

#[test]
fn what_an_answer_lacks_is_told() {
    let folder = scratch("graphite-lacks");
    let (file, out) = (scenario(&folder, "lacks", 5, ""), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--no-plots"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let pull = |url: &str, targets: &[&str]| {
        let targets = targets.iter().flat_map(|target| ["--target", target]);
        let args = ["graphite", "pull", text(&out), "--url", url].into_iter().chain(targets);
        let pulled = elapse(&args.collect::<Vec<_>>());
        (pulled.status.code(), said(&pulled))
    };
    // Of two series one is in the answer, a minute apart; and a function of nothing.
    let url = peer(|line| {
        if line.contains("/metrics/expand") {
            return ok("{\"results\": [\"a.b\", \"a.c\"]}");
        }
        let there = targets_of(line).contains(&"a.b");
        let series = rendered("a.b", (-1..3).map(|i| (START + i * 60, 1.0)));
        ok(&if there { format!("[{series}]") } else { "[]".into() })
    });
    let (code, told) = pull(&url, &["a.*", "sumSeries(x.*)"]);
    assert_eq!(code, Some(0), "{told}");
    for says in [
        "the answer is partial; 1 of 3 series are not in it: a.c",
        "'sumSeries(x.*)' gives no series",
        "its points are 60 s apart, and the run is 5 s long",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    // Points of another day.
    let series = format!("[{}]", rendered("a.b", (0..5).map(|i| (START + 86_400 + i, 1.0))));
    let url =
        peer(move |line| ok(if line.contains("/expand") { "{\"results\": [\"a.b\"]}" } else { &series }));
    let (code, told) = pull(&url, &["a.*"]);
    assert_eq!(code, Some(1), "nothing came: {told}");
    assert!(told.contains("no series has a point between 1704067200 and 1704067205"), "{told}");
    assert!(told.contains("are kept as they were fetched before"), "{told}");
}

#[test]
fn our_own_points_from_a_coarser_archive_are_told() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let folder = scratch("graphite-coarser");
    let ends = format!("carbon = \"{nobody}\"\nwait = \"1s\"");
    let (file, out) = (scenario(&folder, "coarser", 5, &ends), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--no-plots"]);
    assert!(said(&ran).contains("points could not be sent"), "{}", said(&ran));
    let url = peer(|line| {
        let series = targets_of(line).into_iter().map(|t| rendered(t, (-2..2).map(|i| (START + i * 4, 1.0))));
        ok(&format!("[{}]", series.collect::<Vec<_>>().join(",")))
    });
    let pulled = elapse(&["graphite", "pull", text(&out), "--url", &url]);
    assert!(said(&pulled).contains("sent 1 s apart and came 4 s apart"), "{}", said(&pulled));
}

/// A burst of processor use that stands seven seconds later in the series of a sender than it was.
#[test]
fn the_clock_of_a_sender_is_found_by_the_marker() {
    let folder = scratch("graphite-marker");
    let (file, out) = (scenario(&folder, "marked", 5, ""), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--no-plots"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let about = out.join("run.json");
    let mut run: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&about).expect("run.json")).expect("JSON");
    run["marker_unix_seconds"] = serde_json::json!([START as f64 - 10.0, START as f64 - 7.0]);
    std::fs::write(&about, run.to_string()).expect("run.json");
    let url = peer(|line| {
        if line.contains("/metrics/expand") {
            return ok("{\"results\": [\"host.cpu\"]}");
        }
        let busy = |i: i64| match i {
            -3..0 => 2.0,
            ..8 => 0.25,
            _ => 0.5,
        };
        ok(&format!("[{}]", rendered("host.cpu", (-60..15).map(|i| (START + i, busy(i))))))
    });
    let pulled = elapse(&["graphite", "pull", text(&out), "--url", &url, "--target", "host.*"]);
    assert!(pulled.status.success(), "{}", said(&pulled));
    let aligned = elapse(&["align", text(&out), "--marker", "host=host.cpu"]);
    assert!(said(&aligned).contains("host: its clock is +7.0 s off"), "{}", said(&aligned));
    // What it says of the eighth second and later was at the run's first and later.
    for row in ["1704067200,graphite,host.cpu,0.25\n", "1704067202,graphite,host.cpu,0.5\n"] {
        assert!(said(&aligned).contains(row), "{row}: {}", said(&aligned));
    }
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
    // A sender that is two seconds behind; and longer buckets, by rule.
    let moved = said(&elapse(&["align", text(&out), "--shift", "host=2s"]));
    assert!(moved.contains("1704067203,graphite,host.cpu,1.5\n"), "{moved}");
    for (rule, value) in [("--mean", "2.5"), ("--sum", "5"), ("--max", "3"), ("--last", "3")] {
        let rows = said(&elapse(&["align", text(&out), "--step", "5s", rule, "host.late"]));
        assert!(rows.contains(&format!("1704067200,graphite,host.late,{value}\n")), "{rule}: {rows}");
    }
    // The clock of a sender is a day off: nothing overlaps.
    let off = elapse(&["align", text(&out), "--shift", "host=24h"]);
    assert_eq!(off.status.code(), Some(1), "{}", said(&off));
    assert!(said(&off).contains("no series of graphite.csv has a point in the run's time"), "{}", said(&off));
    let marker = elapse(&["align", text(&out), "--marker", "host=host.cpu"]);
    assert!(said(&marker).contains("the run made no marker"), "{}", said(&marker));
}

/// The results are whole by then; whoever has them waits for Graphite as long as they please.
#[test]
fn who_wants_the_end_does_not_wait_for_graphite() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    let url = answers(http("200 OK", 2, "[]"));
    let folder = scratch("graphite-impatient");
    let ends = format!("carbon = \"{nobody}\"\nurl = \"{url}\"\nwait = \"300s\"");
    let (file, out) = (scenario(&folder, "impatient", 5, &ends), folder.join("run"));
    let mut run = Command::new(crate::common::elapse());
    run.args(["sim", text(&file), "--out", text(&out), "--graphite-shift", "now"]).stdout(Stdio::piped());
    let run = run.stderr(Stdio::piped()).spawn().expect("elapse");
    let begun = Instant::now();
    while !out.join("run.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let ended = run.wait_with_output().expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(120), "{}", said(&ended));
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    for told in ["points could not be sent", "did not show before the wait for it was interrupted"] {
        assert!(said(&ended).contains(told), "{told}: {}", said(&ended));
    }
    assert!(out.join("records.csv").exists() && out.join("graphite.csv").exists());
}

#[test]
fn who_wants_the_end_has_nothing_asked_again() {
    let interrupt = Interrupt::default();
    let (asked, ends) = (Arc::new(AtomicUsize::new(0)), interrupt.clone());
    let counts = Arc::clone(&asked);
    let url = peer(move |_| {
        counts.fetch_add(1, Ordering::Relaxed);
        ends.ask();
        http("500 Internal Server Error", 0, "")
    });
    let client = Client::new(&url, Duration::from_secs(5), 3).interrupted_by(&interrupt);
    assert!(client.find("a.*").is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// An address where everything is read and nothing said.
fn sink() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut peer in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut peer, &mut std::io::sink()));
        }
    });
    address
}

#[test]
fn a_last_point_that_does_not_show_in_time_is_told() {
    let url = answers(http("200 OK", 2, "[]"));
    let folder = scratch("graphite-late");
    let ends = format!("carbon = \"{}\"\nurl = \"{url}\"\nwait = \"1s\"", sink());
    let (file, out) = (scenario(&folder, "late", 5, &ends), folder.join("run"));
    let ran = elapse(&["sim", text(&file), "--out", text(&out), "--graphite-shift", "now", "--no-plots"]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    assert!(said(&ran).contains("the run's last point did not show within 1"), "{}", said(&ran));
}

/// One that keeps 10 s for an hour and a minute for a day, sums what becomes coarser, and makes ten series and no more.
#[test]
fn a_check_tells_what_of_a_graphite_does_not_fit() {
    let number = |line: &str, key: &str| {
        let found = line.split(['?', '&', ' ']).find_map(|part| part.strip_prefix(key)?.parse::<i64>().ok());
        found.unwrap_or_default()
    };
    let url = peer(move |line| {
        if line.contains("/expand") {
            let names: Vec<String> = (0..10).map(|i| format!("\"a{i}\"")).collect();
            return ok(&format!("{{\"results\": [{}]}}", names.join(",")));
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let now = now.as_secs() as i64;
        let (from, until) = (number(line, "from="), number(line, "until="));
        // Of 1, 5 and 2 the sum is 8.
        let (step, value) = if from >= now - 3600 { (10, 1.0) } else { (60, 8.0) };
        let first = (from.max(now - 86_400) / step + 1) * step;
        let points = (0..).map(|i| first + i * step).take_while(|at| *at <= until.min(now));
        let target = targets_of(line).first().copied().unwrap_or_default();
        ok(&format!("[{}]", rendered(target, points.map(|at| (at, value)))))
    });
    let carbon = sink();
    let checked =
        elapse(&["graphite", "check", "--carbon", &carbon, "--url", &url, "--creations", "--wait", "4s"]);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    for says in [
        "points are kept at: 10 s for 1 h, 60 s for 1 d",
        "the finest step is 10 s: the worker sends a point each 10 s",
        "coarser points of gauges are made by sum; we want average",
        "coarser points of totals are made by sum; we want last",
        "only 10 of ",
        "raise MAX_CREATES_PER_MINUTE",
    ] {
        assert!(said(&checked).contains(says), "{says}: {}", said(&checked));
    }
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
