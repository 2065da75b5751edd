//! The README's commands, as they stand.

use super::scratch;
use crate::common::has;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a document's blocks of code that call the program, without their comments, by block.
fn blocks(document: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let code = text.split("\n```").skip(1).step_by(2);
    let of_program = |line: &str| {
        let line = line.strip_prefix("target/release/")?.strip_prefix("elapse ")?;
        Some(line.split("  #").next().unwrap_or(line).split(" # ").next().unwrap_or(line).trim().to_string())
    };
    let blocks = code.map(|block| block.lines().filter_map(of_program).collect::<Vec<_>>());
    blocks.filter(|block| !block.is_empty()).collect()
}

/// A folder like a checkout, in which results may be left.
fn checkout(name: &str) -> PathBuf {
    let dir = scratch(name);
    for inside in ["scenarios", "sim-traces", "examples", "real"] {
        std::os::unix::fs::symlink(root().join(inside), dir.join(inside)).unwrap();
    }
    dir
}

fn bash(dir: &Path, script: &str) -> Output {
    let bin = crate::common::elapse().parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    Command::new("bash").args(["-c", script]).env("PATH", path).current_dir(dir).output().expect("bash")
}

#[test]
fn what_simulates_does_so_as_it_stands() {
    let dir = checkout("readme-sim");
    let mut ran = 0;
    for line in blocks("README.md").concat() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !matches!(words.first(), Some(&"sim" | &"replay")) || line.contains("host.toml") {
            continue;
        }
        let missing = words.iter().any(|w| w.starts_with("sim-traces/") && !root().join(w).exists());
        assert!(!missing, "README names a trace that is not there: {line}");
        let output = bash(&dir, &format!("elapse {line} --no-plots --set metrics.points=100"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        ran += 1;
    }
    assert!(ran >= 7, "only {ran} commands were found");
}

#[test]
fn what_is_named_is_known() {
    let dir = checkout("readme-help");
    let mut files = 0;
    for line in ["README.md", "sim-traces/README.md", "real/graphite/README.md"].map(blocks).concat().concat()
    {
        for word in line.split_whitespace().filter(|w| w.contains('/') && !w.contains("://")) {
            let word = word.trim_start_matches('>').split('=').next_back().unwrap_or(word);
            let ours =
                ["scenarios/", "sim-traces/", "examples/", "real/"].iter().any(|p| word.starts_with(p));
            if ours {
                files += 1;
                assert!(dir.join(word).exists(), "{word} is not there: {line}");
            }
        }
        // Its command and its flags are known: with a flag that none has, that one is what is wrong.
        let output = bash(&dir, &format!("elapse {line} --no-such-flag"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("unexpected argument '--no-such-flag'"), "{line}: {said}");
    }
    assert!(files >= 12, "{files}");
}

/// The daemons on a host of their own, as far as their sockets and ports go.
#[test]
fn worker_and_controller_find_each_other_as_the_readme_says() {
    let test = "worker_and_controller_find_each_other_as_the_readme_says";
    let agent = root().join("target/release/elapse-agent");
    let alone = Command::new("unshare").args(["-n", "sh", "-c", "ip link set lo up"]).output();
    if !has("process", test, agent.exists() && alone.is_ok_and(|o| o.status.success())) {
        return;
    }
    let dir = checkout("readme-daemons");
    let all = blocks("README.md");
    let starts = |command: &str| all.iter().position(|block| block[0].starts_with(command)).unwrap();
    let (daemons, clients) = (&all[starts("controller ")], &all[starts("workers ")]);
    let name = format!("readme{}", std::process::id() % 100_000);
    // A folder of all daemons in which there are no others.
    let mut script = String::from(
        "set -e\nip link set lo up\nmkdir -p /run/elapse\nmount -t tmpfs -o mode=755 elapse /run/elapse\n",
    );
    for line in daemons {
        let own = if line.starts_with("worker ") {
            format!(
                " --set live.worker={name} --set live.agent={} --set worker.backends='[\"process\"]'",
                agent.display()
            )
        } else {
            String::new()
        };
        let line = line.replace("/tmp/elapse-state", "state").replace("worker-0", &name);
        let log = line.split_whitespace().next().unwrap_or_default();
        script.push_str(&format!("elapse {line}{own} 2>{log}.log & pids=\"$pids $!\"\n"));
        script.push_str("trap 'kill $pids; wait' EXIT\n");
        let its = if log == "worker" { name.as_str() } else { "controller" };
        script.push_str(&format!(
            "for i in $(seq 100); do elapse health --at unix:/run/elapse/{its}/api.sock >/dev/null 2>&1 && break; sleep 0.05; done\n"
        ));
    }
    for line in clients {
        let brief = if line.starts_with("live ") { " --set duration=2s --no-plots" } else { "" };
        script.push_str(&format!("elapse {}{brief}\n", line.replace("worker-0", &name)));
        if line.contains("> thumbnail.jpg") {
            script
                .push_str("head -c 3 thumbnail.jpg | od -An -tx1 | grep -q 'ff d8 ff' && rm thumbnail.jpg\n");
        }
    }
    std::fs::write(dir.join("script.sh"), &script).unwrap();
    let output = Command::new("unshare")
        .args(["-n", "-m", "bash", "script.sh"])
        .env("PATH", {
            let bin = crate::common::elapse().parent().unwrap().display().to_string();
            format!("{bin}:{}", std::env::var("PATH").unwrap_or_default())
        })
        .current_dir(&dir)
        .output()
        .expect("unshare");
    let logs = ["controller.log", "worker.log"]
        .map(|log| std::fs::read_to_string(dir.join(log)).unwrap_or_default());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{said}\n{}", logs.concat());
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("\"status\": \"healthy\"") && out.contains(&name), "{out}");
    assert!(out.contains("all completed"), "{out}");
}
