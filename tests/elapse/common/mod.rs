//! What the tests share: how a test that cannot run says so, and small scenarios.

pub mod census;
pub mod containers;
pub mod daemon;
pub mod fleet;
pub mod graphite;

use elapse::load::TraceConfig;
use elapse::{Finished, Overrides, Run, Scenario, load_plan};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An address where nobody listens. A unix socket's path has at most 107 bytes, which a scratch folder deep in a
/// checkout leaves no room for.
pub const NOBODY: &str = "unix:/tmp/elapse-nobody-is-here.sock";

/// Writes a token or keys, which nobody else may read.
pub fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("a mode");
}

/// Whether a test has what it needs. If not, it is counted as skipped by name, or fails where `ELAPSE_REQUIRE` (a list
/// with commas) names what is missing.
pub fn has(need: &str, test: &str, there: bool) -> bool {
    if there {
        return true;
    }
    let required = std::env::var("ELAPSE_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|r| r == need),
        "{test}: '{need}' is required by ELAPSE_REQUIRE and missing"
    );
    eprintln!("SKIPPED {test}: missing {need}");
    if let Ok(path) = std::env::var("ELAPSE_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the list of skips");
        writeln!(file, "{test}: missing {need}").expect("the list of skips");
    }
    false
}

/// How many times slower this machine is than a usual one (`ELAPSE_SLOWER`), where a processor is emulated for instance.
pub fn slower() -> f64 {
    std::env::var("ELAPSE_SLOWER").ok().and_then(|times| times.parse().ok()).unwrap_or(1.0)
}

/// Waits until something is so, for a minute at most.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "this thread waits for another process")]
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed().as_secs_f64() < 60.0 * slower(), "{what} does not come");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// A folder of the shared material beside the checkout, named by what a skip would say.
pub fn shared(place: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(place)
}

/// A folder of this test's own, empty.
pub fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a scratch folder");
    path
}

/// The program `elapse`, which is built with the tests of its own crate: `cargo test --workspace`.
pub fn elapse() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let ours = std::env::current_exe().expect("a test program");
        let path = ours.ancestors().nth(2).expect("the folder of the build").join("elapse");
        let age = |path: &Path| std::fs::metadata(path).and_then(|facts| facts.modified()).ok();
        let built =
            age(&path).unwrap_or_else(|| panic!("{}: build it, with cargo test --workspace", path.display()));
        // An old program would be tested instead of what is written there.
        let newest = sources().iter().filter_map(|file| age(file)).max();
        assert!(
            newest <= Some(built),
            "{} is older than its sources: cargo test --workspace",
            path.display()
        );
        path
    })
}

/// The files that the program is made of.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("real")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs")
                && !path.starts_with(root.join("real/agent"))
            {
                files.push(path);
            }
        }
    }
    files
}

/// Whether a program can be started.
pub fn program(name: &str) -> bool {
    std::process::Command::new(name)
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// The plan that a scenario's text means.
pub fn plan(text: &str) -> Scenario {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = scratch(&format!("plan-{number}")).join("scenario.toml");
    std::fs::write(&path, text).expect("a scenario");
    load_plan(Some(&path), None, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// Simulates a scenario's text without writing anything.
pub fn simulate(text: &str) -> Finished {
    Run::new(plan(text)).simulate().unwrap_or_else(|e| panic!("{e}"))
}

/// Simulates a trace under a scenario's keys.
pub fn replay(config: TraceConfig, keys: &[(&str, &str)]) -> Finished {
    let mut overrides = Overrides::default();
    for (key, value) in keys {
        overrides.set(&format!("{key}={value}")).expect("a key");
    }
    let plan = load_plan(None, Some(Scenario::replay("trace".into(), config)), &overrides).expect("a plan");
    Run::new(plan).simulate().unwrap_or_else(|e| panic!("{e}"))
}

/// A figure of the summary, by its path.
pub fn figure(finished: &Finished, path: &str) -> f64 {
    let json = finished.summary.json();
    let value = path.split('.').fold(&json, |v, key| &v[key]);
    value.as_f64().unwrap_or_else(|| panic!("no figure {path}: {value}"))
}
