//! The house: what cargo cannot hold. Crates may use others only as the plan says, no circle between files of a crate, files that open with
//! what they are for and stay short, unsafe code and wall time in their places.

mod circles;
mod source;

use source::{Crate, crates, rust_files};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which crates of ours each may use; cargo itself refuses circles.
const PLAN: &[(&str, &[&str])] = &[
    ("elapse-rt", &[]),
    ("elapse-core", &["elapse-rt"]),
    ("elapse-load", &["elapse-core"]),
    ("elapse-report", &["elapse-core"]),
    ("elapse-plot", &["elapse-core", "elapse-report"]),
    ("elapse", &["elapse-core", "elapse-load", "elapse-plot", "elapse-report", "elapse-rt"]),
    ("elapse-host", &[]),
    ("elapse-agent", &[]),
    ("elapse-live", &["elapse", "elapse-host"]),
    ("elapse-daemon", &["elapse", "elapse-host", "elapse-live"]),
    ("elapse-cli", &["elapse", "elapse-daemon", "elapse-host", "elapse-live"]),
    ("elapse-attempts", &[]),
    ("elapse-model", &[]),
    ("elapse-tests", &[]),
];

/// Where code may be unsafe, with the reason.
const UNSAFE: &[(&str, &str)] = &[
    ("src/rt", "wakers and tasks without a heap block each"),
    ("real/host", "system calls that no crate wraps"),
    ("real/agent", "the same, inside a container"),
    ("tests/attempts", "system calls of an attacker"),
];

/// Where wall time may be named, with the reason.
const WALL: &[(&str, &str)] = &[
    ("src/rt", "the live arm's clock, and `rt::wall`"),
    ("src/cli", "how long somebody has waited"),
    ("real", "it knows no virtual time"),
    ("tests", "tests wait for other processes"),
];

/// Circles that are still there, of each knot the first one, with what would undo it.
const KNOWN: &[(&str, &str)] = &[
    ("elapse-daemon: request.rs -> roles.rs -> request.rs", "who asks would be a file of its own"),
    (
        "elapse-live: graphite/pull.rs -> graphite/remarks.rs -> graphite/pull.rs",
        "what was seen beside what is said",
    ),
    ("elapse-rt: calls.rs -> context.rs -> calls.rs", "each arm's core below the context that holds it"),
    ("elapse-load: arrivals.rs -> function.rs -> arrivals.rs", "a load's shape below who draws it"),
    ("elapse-load: azure/mod.rs -> trace.rs -> azure/mod.rs", "options of traces below their formats"),
    (
        "elapse-host: containerd/import.rs -> containerd/unpack.rs -> containerd/import.rs",
        "snapshots below both",
    ),
    ("elapse-host: engine.rs -> net/mod.rs -> engine.rs", "an engine's faults below it"),
    ("elapse-agent: behaviour.rs -> http.rs -> behaviour.rs", "an answer below both"),
    (
        "elapse-model: eviction.rs -> worker.rs -> room.rs -> eviction.rs",
        "it follows the text of the law, not a plan",
    ),
    ("elapse-attempts: calls.rs -> tries.rs -> calls.rs", "what a try says below both"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn crates_use_others_only_as_planned() {
    let mut faults = Vec::new();
    let all = crates(&root());
    for each in &all {
        let Some((_, allowed)) = PLAN.iter().find(|(name, _)| *name == each.name) else {
            faults.push(format!("{} is not in the plan of the house", each.name));
            continue;
        };
        for used in each.uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            faults.push(format!("{} uses {used}", each.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(all.len(), PLAN.len());
}

/// What is wrong with the files of a crate below a folder.
fn faults_of(root: &Path, each: &Crate) -> Vec<String> {
    let mut faults = Vec::new();
    for path in rust_files(&each.folder) {
        let name = path.strip_prefix(root).expect("below the root").display().to_string();
        let within =
            |places: &[(&str, &str)]| places.iter().any(|(place, _)| name.starts_with(&format!("{place}/")));
        let text = std::fs::read_to_string(&path).expect("a source file");
        if !text.starts_with("//!") {
            faults.push(format!("{name} does not open with //!"));
        }
        let lines = text.lines().count();
        if lines > 500 {
            faults.push(format!("{name} has {lines} lines"));
        }
        let said = source::read(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        if said.has_unsafe && !within(UNSAFE) {
            faults.push(format!("{name} has unsafe code"));
        }
        if said.names_wall_time && !within(WALL) {
            faults.push(format!("{name} names wall time"));
        }
    }
    faults.extend(circles::of(each).into_iter().map(|circle| format!("a circle in {}: {circle}", each.name)));
    faults
}

#[test]
fn files_are_as_they_should_be() {
    let mut faults = Vec::new();
    for each in crates(&root()) {
        faults.extend(faults_of(&root(), &each));
    }
    let known = |fault: &String, circle: &str| {
        fault.strip_prefix("a circle in ").is_some_and(|found| found == circle)
    };
    for (circle, _) in KNOWN {
        assert!(faults.iter().any(|fault| known(fault, circle)), "{circle} is gone; take it off the list");
    }
    faults.retain(|fault| !KNOWN.iter().any(|(circle, _)| known(fault, circle)));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// A crate with these files.
fn planted(name: &str, files: &[(&str, &str)]) -> Vec<String> {
    let root =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("house-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let mut all = BTreeMap::from([
        ("core/Cargo.toml", "[package]\nname = \"planted\"\n".to_string()),
        ("core/src/lib.rs", "//! It.\nmod a;\nmod b;\nmod c;\n".to_string()),
        ("core/src/a.rs", "//! It.\npub struct A;\n".to_string()),
        ("core/src/b.rs", "//! It.\nuse super::a::A;\npub struct B(A);\n".to_string()),
        ("core/src/c.rs", "//! It.\nuse crate::{a::A, b::B};\npub struct C(A, B);\n".to_string()),
    ]);
    all.extend(files.iter().map(|(path, text)| (*path, (*text).to_string())));
    for (path, text) in all {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let each = Crate { name: "planted".into(), folder: root.join("core"), uses: Vec::new() };
    let faults = faults_of(&root, &each);
    std::fs::remove_dir_all(&root).expect("it was made");
    faults
}

/// Each of these once passed unseen.
#[test]
fn planted_faults_are_found() {
    assert_eq!(planted("none", &[]), Vec::<String>::new());
    let circle = "a circle in planted: a.rs -> c.rs -> a.rs";
    let found = |name: &str, text: &str| planted(name, &[("core/src/a.rs", text)]);
    assert_eq!(found("braces", "//! It.\nuse crate::{c::{C}};\npub struct A(C);\n"), [circle]);
    assert_eq!(found("super", "//! It.\npub struct A(Box<super::c::C>);\n"), [circle]);
    let early = "//! It.\n#[cfg(test)]\nmod early {\n    use crate::c::C;\n}\nfn late() {\n    crate::c::C::new();\n}\npub struct A;\n";
    assert_eq!(found("early", early), [circle]);
    // What only tests use is no arrow.
    assert_eq!(
        found("tests", "//! It.\npub struct A;\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"),
        Vec::<String>::new()
    );
    let text = "//! It.\npub struct A;\nfn f() -> u8 {\n    unsafe{ *std::ptr::null() }\n}\n";
    assert_eq!(found("unsafe", text), ["core/src/a.rs has unsafe code"]);
    let text = "//! It.\nuse std::time::{Duration, Instant as I};\npub struct A(I, Duration);\n";
    assert_eq!(found("wall", text), ["core/src/a.rs names wall time"]);
    let long = format!("//! It.\npub struct A;\n{}", "// More of it.\n".repeat(500));
    assert_eq!(found("long", &long), ["core/src/a.rs has 502 lines"]);
    assert_eq!(found("headless", "pub struct A;\n"), ["core/src/a.rs does not open with //!"]);
    // A name that a module passes on is where it is made.
    let through = [
        ("core/src/lib.rs", "//! It.\nmod a;\nmod b;\nmod c;\npub use c::C as D;\n"),
        ("core/src/a.rs", "//! It.\nuse crate::D;\npub struct A(D);\n"),
    ];
    assert_eq!(planted("through", &through), [circle]);
}
