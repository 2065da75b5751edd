//! What tests of Graphite share.

use super::containers::{agent, worker_name};
use elapse::report::Finished;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A scenario file of some seconds, with these lines under `[graphite]`.
pub fn scenario(folder: &Path, name: &str, seconds: u32, graphite: &str) -> PathBuf {
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
pub fn values(run: &Path, file: &str) -> BTreeMap<(String, u64), f64> {
    let run = Finished::open(run).expect("a run");
    let tracks = run.tracks(file).expect("series");
    let points = tracks.iter().flat_map(|t| t.points.iter().map(move |(at, v)| (&t.path, at, v)));
    points.filter_map(|(path, at, v)| Some(((path.clone(), *at as u64), (*v)?))).collect()
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of letters")
}

/// 2024-01-01, where scenarios begin that say nothing else.
pub const START: i64 = 1_704_067_200;

/// A peer that answers each request by its first line, and ends with the test.
#[expect(clippy::disallowed_methods, reason = "a peer of a real socket lives in a thread")]
pub fn peer(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let Ok(mut peer) = peer else { return };
            let (mut first, mut line) = (String::new(), String::new());
            let mut reader = BufReader::new(peer.try_clone().expect("a clone"));
            let _ = reader.read_line(&mut first);
            while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                line.clear();
            }
            let _ = peer.write_all(&answer(&first));
        }
    });
    url
}

/// One that answers all with the same bytes.
pub fn answers(bytes: Vec<u8>) -> String {
    peer(move |_| bytes.clone())
}

/// A good answer.
pub fn ok(body: &str) -> Vec<u8> {
    http("200 OK", body.len(), body)
}

/// A series as the render API has it, of points with their unix seconds.
pub fn rendered(target: &str, points: impl Iterator<Item = (i64, f64)>) -> String {
    let points: Vec<String> = points.map(|(at, value)| format!("[{value}, {at}]")).collect();
    format!("{{\"target\": \"{target}\", \"datapoints\": [{}]}}", points.join(","))
}

/// The targets that a request names.
pub fn targets_of(line: &str) -> Vec<&str> {
    line.split(['?', '&', ' ']).filter_map(|part| part.strip_prefix("target=")).collect()
}

/// An answer of HTTP that says to be so long.
pub fn http(status: &str, length: usize, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// The value of a parameter of a request, as it was before it was escaped.
fn parameters(line: &str, key: &str) -> Vec<String> {
    let pairs = line.split(['?', '&', ' ']).filter_map(|part| part.split_once('='));
    let decoded = |value: &str| {
        percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned()
    };
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| decoded(value)).collect()
}

/// Seconds since [`START`], and a value.
pub type Points = Vec<(i64, f64)>;
/// What a function makes of the points after one second and up to another: series with their names.
pub type Function = Box<dyn Fn(i64, i64) -> Vec<(String, Points)> + Send>;

/// A Graphite that reads targets as graphite-web does: it parses their grammar, drops what escapes, and only then looks for
/// braces and wildcards. Tagged series are found by their whole names alone.
#[derive(Default)]
pub struct Store {
    pub series: BTreeMap<String, Points>,
    /// By the target that asks for it.
    pub functions: BTreeMap<String, Function>,
}

/// A target as graphite-web's parser leaves it: up to the first mark that is not escaped.
fn parsed(target: &str) -> String {
    let mut text = String::new();
    let mut braces = 0;
    let mut chars = target.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if "(){},.'\"\\|=".contains(c) => text.push(c),
                _ => break,
            },
            '{' | '}' | ',' if braces > 0 || c == '{' => {
                braces += i32::from(c == '{') - i32::from(c == '}');
                text.push(c);
            }
            c if !c.is_ascii_graphic() || "(){},'\"|".contains(c) => break,
            c => text.push(c),
        }
    }
    text.replace('\\', "")
}

impl Store {
    /// What a path, parsed, finds.
    fn found(&self, path: &str) -> Vec<&str> {
        let fits = |name: &str| {
            // A brace cannot stand for itself.
            let is_pattern = path.contains(['*', '?', '[', '{']);
            if is_pattern && !name.contains(';') { elapse::report::matches(path, name) } else { path == name }
        };
        let names = self.series.keys().map(String::as_str);
        names.filter(|name| fits(name) && !(path.contains('{') && *name == path)).collect()
    }

    fn rendered(&self, target: &str, from: i64, until: i64) -> Vec<(String, Points)> {
        if let Some(function) = self.functions.get(target) {
            return function(from, until);
        }
        let within =
            |points: &Points| points.iter().copied().filter(|p| p.0 > from && p.0 <= until).collect();
        let path = parsed(target);
        self.found(&path).into_iter().map(|name| (name.to_string(), within(&self.series[name]))).collect()
    }

    fn answer(&self, line: &str) -> String {
        if line.contains("/metrics/expand") {
            let query = parameters(line, "query").concat();
            let found: Vec<&str> =
                self.found(&query).into_iter().filter(|name| !name.contains(';')).collect();
            return serde_json::json!({ "results": found }).to_string();
        }
        let second = |key: &str| parameters(line, key).concat().parse::<i64>().expect("a second") - START;
        let (from, until) = (second("from"), second("until"));
        let targets = parameters(line, "target");
        let series = targets.iter().flat_map(|target| self.rendered(target, from, until));
        let series = series.map(|(target, points)| {
            let points: Vec<(f64, i64)> = points.into_iter().map(|(at, value)| (value, START + at)).collect();
            serde_json::json!({ "target": target, "datapoints": points })
        });
        serde_json::Value::from_iter(series).to_string()
    }

    /// Its address, and the targets that it is asked for, with `expand:` before those of which it lists the names.
    pub fn serve(self) -> (String, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&seen);
        let url = peer(move |line| {
            let listed = parameters(line, "query").into_iter().map(|query| format!("expand:{query}"));
            asked.lock().expect("no panic").extend(listed.chain(parameters(line, "target")));
            ok(&self.answer(line))
        });
        (url, seen)
    }
}
