//! What tests of Graphite share.

use super::containers::{agent, worker_name};
use elapse::report::Finished;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
