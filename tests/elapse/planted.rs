//! Faults planted in the worker's state: each must stop a run by itself, before it tells wrong numbers.
//!
//! A copy of the core has them all, each behind a switch; the random programs of `probes/worker.rs` run with one at a time, with
//! the checks that `--check` turns on and without the compiler's own. A fault that nothing notices fails the test.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A fault: what it does, the file below `src/core/src/worker`, the text as it should be, and what stands there where `ON` holds.
struct Fault(&'static str, &'static str, &'static str, Option<&'static str>);

/// Without a text of its own a fault leaves out what stands there.
#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    Fault("a creation ends and the ledger does not know", "state/life.rs",
        "self.ledger.shift(Phase::Creating, Phase::Running, memory, now);",
        None),
    Fault("processors are not given back", "state/life.rs",
        "self.release(CPUS, u64::from(held.cpus.0), now);",
        None),
    Fault("processors are given back twice", "state/life.rs",
        "self.release(CPUS, u64::from(held.cpus.0), now);",
        Some("self.release(CPUS, u64::from(held.cpus.0) * if ON { 2 } else { 1 }, now);")),
    Fault("a place in flight is not given back", "state/life.rs",
        "self.release(IN_FLIGHT, 1, now);",
        None),
    Fault("processors are not taken", "state/dispatch.rs",
        "self.hold(CPUS, u64::from(cpus.0), now);",
        None),
    Fault("a place in flight is not taken", "state/dispatch.rs",
        "self.hold(IN_FLIGHT, 1, now);",
        None),
    Fault("who leaves a line is counted in it still", "state/dispatch.rs",
        "self.release(QUEUED, 1, now);",
        None),
    Fault("who is dropped is not told", "state/dispatch.rs",
        "self.tickets[ticket].tell(Err(why));",
        None),
    Fault("more processors are used than there are", "state/dispatch.rs",
        "self.cores == Cpus::MAX ||",
        Some("ON || self.cores == Cpus::MAX ||")),
    Fault("a container is gone and its memory is not free", "state/life.rs",
        "self.ledger.leave(phase, container.charged, now);",
        None),
    Fault("a container is gone and its GPU is not free", "state/life.rs",
        "self.gpus.give(part);",
        None),
    Fault("a removal begins and the ledger does not know", "state/life.rs",
        "self.ledger.shift(phase, Phase::Removing, memory, now);",
        None),
    Fault("a container is removed while somebody is in it", "state/life.rs",
        "if c.in_flight > 0 {",
        Some("if c.in_flight > 0 && !ON {")),
    Fault("a place is handed over and the ledger does not know", "state/life.rs",
        "self.ledger.shift(phase, Phase::Running, memory, now);",
        None),
    Fault("who gives up a place for later stays in line", "state/late.rs",
        "line.retain(|w| *w != waiter);",
        None),
    Fault("memory is taken that is not free", "state/room.rs",
        "        self.ledger.free() >= need\n",
        Some("        ON || self.ledger.free() >= need\n")),
    Fault("more creations are under way than may be", "state/room.rs",
        "if limit > 0 && ",
        Some("if !ON && limit > 0 && ")),
    Fault("a retired container counts as alive", "state/pool/mod.rs",
        "g.living -= 1;",
        None),
    Fault("a retired container is entered", "state/pool/mod.rs",
        "[c.group as usize];\n        if c.concurrency > 1 {\n            g.spare.retain",
        Some("[c.group as usize];\n        if c.concurrency > 1 && !ON {\n            g.spare.retain")),
    Fault("room in a container is forgotten", "state/pool/mod.rs",
        "} else if c.in_flight == c.concurrency - 1 && !c.retired {",
        Some("} else if c.in_flight == c.concurrency - 1 && !c.retired && !ON {")),
    Fault("a container that is taken counts as idle", "state/pool/mod.rs",
        "self.idle -= 1;",
        None),
    Fault("an idle container is never evicted", "state/pool/mod.rs",
        "            self.nominate(key);",
        None),
    Fault("a container runs on what it was charged while it was idle", "state/pool/mod.rs",
        "c.charged = c.memory;",
        None),
    Fault("a container is entered after its keep-alive", "state/pool/mod.rs",
        "if now < c.idle_since + c.keep_alive && fits(c)",
        Some("if (ON || now < c.idle_since + c.keep_alive) && fits(c)")),
    Fault("what was given back is offered to nobody", "invoke.rs",
        "now, &mut Around(&self.inner));\n        self.inner.pump();",
        Some("now, &mut Around(&self.inner));\n        if !ON { self.inner.pump() }")),
];

/// Puts every fault behind a switch of its own.
fn plant(worker: &Path) {
    // Those that stand on one text are nested: the last one is outside.
    for (number, Fault(name, file, text, planted)) in FAULTS.iter().enumerate() {
        let path = worker.join(file);
        let source = std::fs::read_to_string(&path).expect("a source of the core");
        assert!(source.contains(text), "{name}: {file} has no '{text}' any more; plant the fault anew");
        let on = format!("crate::planted({number})");
        let planted =
            planted.map_or_else(|| format!("if !ON {{ {text} }}"), str::to_string).replace("ON", &on);
        std::fs::write(&path, source.replacen(text, &planted, 1)).expect("written");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder of sources").flatten() {
        let (path, into) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &into);
        } else {
            std::fs::copy(&path, &into).expect("copied");
        }
    }
}

/// A program of the copy that runs random programs until one is stopped, with the fault of the number that it is given.
fn build(root: &Path, at: &Path) -> PathBuf {
    for name in ["rt", "core"] {
        copy(&root.join("src").join(name), &at.join(name));
    }
    plant(&at.join("core/src/worker"));
    let library = at.join("core/src/lib.rs");
    let mut text = std::fs::read_to_string(&library).expect("the core");
    text.push_str(
        "\n/// Whether the fault of this number is planted.\npub fn planted(number: u32) -> bool {\n    static PLANTED: std::sync::LazyLock<u32> = \
         std::sync::LazyLock::new(|| std::env::var(\"PLANTED\").ok().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX));\n    *PLANTED == number\n}\n",
    );
    std::fs::write(&library, text).expect("written");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the workspace");
    let mut of_copy: toml::Table = manifest.parse().expect("a manifest");
    let workspace = of_copy["workspace"].as_table_mut().expect("a workspace");
    workspace.insert("members".into(), vec!["core", "rt", "program"].into());
    let workspace = workspace.clone();
    let profile =
        "[profile.dev]\nopt-level = 1\ndebug = 0\ndebug-assertions = false\noverflow-checks = false\n";
    let mut text =
        toml::to_string(&toml::Table::from_iter([("workspace".into(), workspace.into())])).expect("TOML");
    let _ = writeln!(text, "{profile}");
    std::fs::write(at.join("Cargo.toml"), text).expect("written");
    std::fs::copy(root.join("Cargo.lock"), at.join("Cargo.lock")).expect("the lock file");
    let probe = include_str!("probes/worker.rs")
        .replace("use elapse::", "use elapse_core::")
        .replace("elapse::base::", "elapse_core::base::");
    let probe = probe.replace("//! ", "// ").replace("#[test]\n", "#[allow(dead_code)]\n");
    let main = "\nfn main() {\n    for seed in 0..3000 {\n        let stopped = std::panic::catch_unwind(|| Program::draw(seed).run(seed));\n        \
                match stopped {\n            Err(_) => std::process::exit(9),\n            Ok(Err(why)) if why.contains(\"panicked\") || \
                why.contains(\"deadlock\") || why.contains(\"livelock\") => { eprintln!(\"{why}\"); std::process::exit(9) }\n            Ok(_) => {}\n        }\n    }\n}\n";
    std::fs::create_dir_all(at.join("program/src")).expect("a folder");
    std::fs::write(
        at.join("program/src/main.rs"),
        format!("//! Random programs, until one is stopped.\n{probe}{main}"),
    )
    .expect("written");
    std::fs::write(
        at.join("program/Cargo.toml"),
        "[package]\nname = \"planted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\nelapse-core = { path = \"../core\" }\nrand = { version = \"0.10\", default-features = false, features = [\"std\"] }\n",
    )
    .expect("written");
    let target = at.join("target");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--offline", "--package", "planted", "--target-dir"]).arg(&target).current_dir(at);
    let built = command.output().expect("cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("debug/planted")
}

#[test]
fn every_fault_that_is_planted_in_the_core_stops_a_run() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let at = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let _ = std::fs::remove_dir_all(at.join("core"));
    let program = build(&root, &at);
    let stops = |number: usize| {
        let status = Command::new(&program)
            .env("PLANTED", number.to_string())
            .stderr(Stdio::null())
            .status()
            .expect("the program");
        status.code() == Some(9)
    };
    // Without a fault nothing stops.
    assert!(!stops(usize::MAX >> 33), "a run is stopped although no fault is planted");
    let unnoticed: Vec<&str> =
        FAULTS.iter().enumerate().filter(|(i, _)| !stops(*i)).map(|(_, fault)| fault.0).collect();
    assert!(unnoticed.is_empty(), "nothing stops a run where {}", unnoticed.join("; where "));
}
