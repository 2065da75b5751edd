//! What is typed: flags, keys and words, the plan that they make, and the sentence that each wrong one gets.

use super::{SCENARIO, elapse, fails, scratch};
use std::path::Path;
use std::process::{Command, Output};

pub(super) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(super) fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with a scenario that is called s.toml.
pub(super) fn with_scenario(name: &str) -> std::path::PathBuf {
    let dir = scratch(name);
    std::fs::write(dir.join("s.toml"), SCENARIO).unwrap();
    dir
}

#[test]
fn what_a_flag_said_is_told_of_the_flag() {
    let dir = with_scenario("blame");
    std::fs::write(dir.join("f.csv"), "name,memory_mb,cold_ms,warm_ms\na,128,1,1\n").unwrap();
    std::fs::write(dir.join("i.csv"), "time_ms,function,duration_ms\n1,a,5\n").unwrap();
    let (sim, replay) = (["sim", "s.toml"], ["replay", "csv", "f.csv", "i.csv"]);
    let cases: &[(&[&str], &[&str], &str, &str)] = &[
        (&sim, &["--eviction", "lruu"], "--eviction lruu", "did you mean 'lru'?"),
        (&sim, &["--queue", "fifoskip"], "--queue fifoskip", "did you mean 'fifo-skip'?"),
        (&sim, &["--balancer", "localty"], "--balancer localty", "did you mean 'locality'?"),
        (&sim, &["--records", "some"], "--records some", "write full, none or sample:0.01"),
        (&sim, &["--memory", "0MiB"], "--memory 0MiB", "must be above 0"),
        (&sim, &["--keep-alive", "600"], "--keep-alive 600", "no unit"),
        (&sim, &["--workers", "0"], "--workers 0", "it is at least 1"),
        (&sim, &["--graphite-shift", "later"], "--graphite-shift later", "known: none, now"),
        (&sim, &["--set", "worker.status=1500ms"], "--set worker.status=1500ms", "whole seconds"),
        (&sim, &["--set", "worker.count=many"], "--set worker.count=many", "not a whole number"),
        (
            &sim,
            &["--set", "measure.warm_up=2h", "--set", "measure.until=1h"],
            "--set measure.until=1h",
            "is not before",
        ),
        (&sim, &["--calibration", "hos.toml"], "--calibration hos.toml", "no such file"),
        (&replay, &["--from", "25:00"], "--from 25:00", "not a time of day"),
        (&replay, &["--from", "09:00", "--to", "08:00"], "--to 08:00", "not after the trace's 'from', 09:00"),
        (&replay, &["--to", "soon"], "--to soon", "not a duration"),
        (&replay, &["--rate-scale", "0"], "--rate-scale 0", "finite number above 0"),
        (&replay, &["--rate-scale", "twice"], "--rate-scale twice", "not a number"),
        (&replay, &["--time-scale", "0"], "--time-scale 0", "0.5 is twice as fast"),
        (&replay, &["--clones", "0"], "--clones 0", "at least 1"),
        (&replay, &["--clones", "many"], "--clones many", "not a whole number"),
        (&replay, &["--day", "3"], "--day 3", "azure-2019"),
        (&replay, &["--placement", "evenly"], "--placement evenly", "known: auto, uniform"),
        (&replay, &["--unit", "ap"], "--unit ap", "did you mean 'app'?"),
        (&replay, &["--cold-start", "5"], "--cold-start 5", "unit"),
    ];
    for (command, flags, blamed, why) in cases {
        let said = fails(&[command, *flags, &["--out", "out"]].concat(), &dir, 2);
        assert!(
            said.starts_with(&format!("elapse: {blamed}: ")) && said.contains(why),
            "'{why}' is not in: {said}"
        );
        assert!(!said.contains("[worker]"), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "one sentence: {said}");
    }
    // What the file says is told of the file, whatever was typed beside it.
    std::fs::write(dir.join("s.toml"), SCENARIO.replacen("'1GiB'", "'1GiB'\neviction = 'lruu'", 1)).unwrap();
    let said = fails(&["sim", "s.toml", "--out", "out", "--seed", "2", "--memory", "2GiB"], &dir, 2);
    assert!(said.starts_with("elapse: s.toml: [worker]: unknown eviction"), "{said}");
    // And a flag mends it.
    assert!(elapse(&["sim", "s.toml", "--out", "good", "--eviction", "lru"], &dir).status.success());
}

#[test]
fn words_in_capitals_are_the_same_words() {
    let dir = with_scenario("capitals");
    let plan = |more: &[&str]| printed(&elapse(&[&["sim", "s.toml", "--print-plan"], more].concat(), &dir));
    let text = plan(&[
        "--eviction",
        "LRU",
        "--queue",
        "Fifo-Skip",
        "--balancer",
        "Locality",
        "--records",
        "FULL",
        "--set",
        "model.contention=Shared",
    ]);
    for line in [
        "eviction = \"lru\"",
        "policy = \"fifo-skip\"",
        "balancer = \"locality\"",
        "records = \"full\"",
        "contention = \"shared\"",
    ] {
        assert!(text.contains(line), "{line}");
    }
    let file = SCENARIO.replacen("'1GiB'", "'1GiB'\neviction = 'LFU'\ndispatch = 'Late'", 1);
    std::fs::write(dir.join("s.toml"), file).unwrap();
    let text = plan(&[]);
    assert!(text.contains("eviction = \"lfu\"") && text.contains("dispatch = \"late\""), "{text}");
    let json = "{\"name\": \"x\", \"worker\": {\"memory\": \"1GiB\", \"dispatch\": \"LATE\", \"eviction\": \"Size\"}, \
                \"duration\": \"1s\", \"function\": [{\"name\": \"f\", \"memory\": \"1MiB\", \"duration\": \"1ms\", \
                \"load\": {\"poisson\": \"5/s\"}}]}";
    std::fs::write(dir.join("s.json"), json).unwrap();
    let text = printed(&elapse(&["sim", "s.json", "--print-plan"], &dir));
    assert!(text.contains("eviction = \"size\"") && text.contains("dispatch = \"late\""), "{text}");
}

#[test]
fn the_printed_plan_shows_every_key_and_runs_from_anywhere() {
    let dir = with_scenario("everywhere");
    let calibration = "[host]\nkernel = 'k'\ncpu = 'c'\ncores = 2\nmemory_mb = 1\ndate = 'd'\n[backend.process]\n\
                       first_call = '0ms'\nremoval = '1ms'\ncold_start = { 1 = '5ms' }\noverhead = {}\n";
    std::fs::create_dir_all(dir.join("inner/deep")).unwrap();
    std::fs::write(dir.join("inner/host.toml"), calibration).unwrap();
    std::fs::write(dir.join("inner/f.csv"), "name,memory_mb,cold_ms,warm_ms\na,128,1,1\n").unwrap();
    std::fs::write(dir.join("inner/i.csv"), "time_ms,function,duration_ms\n1,a,5\n9,a,5\n").unwrap();
    // In a file a path is relative to the file; by a flag, --set or the environment to where one stands.
    let by_file = "name = 'x'\n[worker]\nmemory = '1GiB'\n[model]\ncalibration = 'host.toml'\n[trace]\nformat = 'csv'\n\
                   paths = ['f.csv', 'i.csv']\n";
    std::fs::write(dir.join("inner/by-file.toml"), by_file).unwrap();
    let without = by_file.replace("calibration = 'host.toml'\n", "");
    std::fs::write(dir.join("inner/without.toml"), without).unwrap();
    let place = dir.join("inner/host.toml").canonicalize().unwrap();
    let shown = format!("calibration = \"{}\"", place.display());
    let plan = |arguments: &[&str]| printed(&elapse(&[&["sim", "--print-plan"], arguments].concat(), &dir));
    for arguments in [
        &["inner/by-file.toml"][..],
        &["inner/without.toml", "--calibration", "inner/host.toml"],
        &["inner/without.toml", "--set", "model.calibration=inner/host.toml"],
        &["inner/by-file.toml", "--set", "trace.paths=[\"inner/f.csv\", \"inner/i.csv\"]"],
    ] {
        let text = plan(arguments);
        assert!(text.contains(&shown), "{arguments:?}: {text}");
        let elsewhere = dir.join("inner/deep");
        std::fs::write(elsewhere.join("p.toml"), &text).unwrap();
        let again = elapse(&["sim", "p.toml", "--out", "run", "--force", "--no-plots"], &elsewhere);
        assert!(again.status.success(), "{arguments:?}: {}", said(&again));
        // It prints itself.
        assert_eq!(printed(&elapse(&["sim", "p.toml", "--print-plan"], &elsewhere)), text);
    }
    let environment = Command::new(crate::common::elapse())
        .args(["sim", "inner/without.toml", "--print-plan"])
        .env("ELAPSE__MODEL__CALIBRATION", "inner/host.toml")
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(printed(&environment).contains(&shown));
    // Keys that are set, that are not, and that belong to tables which are not there; each with its default and a comment.
    let text = plan(&["inner/without.toml"]);
    for line in [
        "keep_alive = \"600s\"",
        "#cores = 8",
        "#[[function]]",
        "#load = { poisson = \"5/s\" }",
        "#warm_up = \"5min\"",
        "[default: \"lru\"]",
        "[required]",
    ] {
        assert!(text.contains(line), "{line} is not in: {text}");
    }
    let bare =
        text.lines().filter(|line| line.contains(" = ") && !line.starts_with(' ') && !line.contains(" # "));
    let bare: Vec<&str> = bare.filter(|line| line.len() < 60).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
    // What replay made of its flags is a scenario too.
    let text = printed(&elapse(
        &["replay", "csv", "inner/f.csv", "inner/i.csv", "--from", "2ms", "--print-plan"],
        &dir,
    ));
    assert!(text.contains("from = \"2ms\"") && text.contains("memory = \"unlimited\""), "{text}");
    std::fs::write(dir.join("r.toml"), text).unwrap();
    assert!(elapse(&["sim", "r.toml", "--out", "r", "--no-plots"], &dir).status.success());
}

#[test]
fn a_misspelt_file_gets_its_neighbour() {
    let dir = with_scenario("neighbour");
    std::fs::create_dir_all(dir.join("scenarios")).unwrap();
    std::fs::write(dir.join("scenarios/quickstart.toml"), SCENARIO).unwrap();
    for (typed, near) in [
        ("scenarios/quikstart.toml", "scenarios/quickstart.toml"),
        ("scenaros/quickstart.toml", "scenarios/quickstart.toml"),
        ("s.tml", "s.toml"),
    ] {
        let said = fails(&["sim", typed], &dir, 2);
        assert!(said.contains(&format!("did you mean '{near}'?")), "{said}");
    }
    let said = fails(&["sim", "nothing-like-it.toml"], &dir, 2);
    assert!(said.contains("check the path") && !said.contains("did you mean"), "{said}");
    let said = fails(&["plot", "scenarois"], &dir, 2);
    assert!(said.contains("did you mean 'scenarios'?"), "{said}");
}

#[test]
fn help_is_in_groups_and_each_command_has_its_own_flags() {
    let help = |arguments: &[&str]| printed(&elapse(&[arguments, &["--help"]].concat(), Path::new(".")));
    let all = help(&[]);
    for group in
        ["Run:", "Look at runs:", "Prepare:", "Serve:", "Talk to what serves:", "Everywhere:", "Exit codes:"]
    {
        assert!(all.lines().any(|line| line == group), "{group} is not in: {all}");
    }
    for code in ["  0 ", "  1 ", "  2 ", "  3 ", "  4 ", "  5 ", "  130 "] {
        assert!(all.lines().any(|line| line.starts_with(code)), "{code}");
    }
    let commands = "sim live replay plot compare align graphite trace calibrate doctor clean worker controller register deregister \
                    invoke result prewarm list workers status health metrics drain completions schema";
    for command in commands.split_whitespace() {
        assert_eq!(
            all.lines().filter(|line| line.starts_with(&format!("  {command} "))).count(),
            1,
            "{command}"
        );
        let own = help(&[command]);
        assert!(
            own.contains("--json") && own.contains("--quiet") && own.contains("--verbose"),
            "{command}: {own}"
        );
        // No line is wrapped by hand and then again by the terminal's width.
        let widest = own.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(110), "{command}: {widest:?}");
    }
    let (sim, live, replay) = (help(&["sim"]), help(&["live"]), help(&["replay"]));
    for flag in ["--workers", "--balancer", "--graphite-shift", "--calibration"] {
        assert!(sim.contains(flag) && replay.contains(flag), "{flag}");
        assert!(!live.contains(flag), "live cannot have {flag}");
    }
    assert!(live.contains("Against a daemon:") && sim.contains("Worker:") && replay.contains("Trace:"));
}

#[test]
fn shells_complete_the_words_of_flags() {
    let script = printed(&elapse(&["completions", "bash"], Path::new(".")));
    for words in [
        "\"lru ttl lfu size greedy-dual\"",
        "\"fifo fifo-skip sjf edf\"",
        "\"round-robin least-loaded power-of-two locality\"",
        "\"auto uniform poisson equidistant\"",
        "\"percentiles average lognormal\"",
        "\"function app\"",
        "\"start end\"",
        "\"full none sample:0.01\"",
        "\"plaintext pickle\"",
        "\"process containerd docker\"",
    ] {
        assert!(script.contains(words), "{words}");
    }
}

#[test]
fn daemons_show_every_key_too() {
    let dir = scratch("daemon-plans");
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::fs::write(dir.join("etc/w.toml"), "state = 'kept'\n[worker]\nmemory = '1GiB'\neviction = 'LRU'\n")
        .unwrap();
    std::fs::write(dir.join("etc/c.toml"), "balancer = 'Round-Robin'\n").unwrap();
    let place = dir.canonicalize().unwrap().join("etc/kept").display().to_string();
    for (command, file, lines) in [
        (
            "worker",
            "etc/w.toml",
            &[&*format!("state = \"{place}\""), "eviction = \"lru\"", "#[[function]]"][..],
        ),
        ("controller", "etc/c.toml", &["balancer = \"round-robin\"", "lost_after = \"5s\"", "#token_file ="]),
    ] {
        let text = printed(&elapse(&[command, file, "--print-plan"], &dir));
        lines.iter().for_each(|line| assert!(text.contains(line), "{line} is not in: {text}"));
        std::fs::write(dir.join("again.toml"), &text).unwrap();
        assert_eq!(printed(&elapse(&[command, "again.toml", "--print-plan"], &dir)), text);
    }
    // What a flag said is told of the flag, and a path by a flag is relative to where one stands.
    let said = fails(&["worker", "etc/w.toml", "--set", "worker.eviction=lruu"], &dir, 2);
    assert!(said.starts_with("elapse: --set worker.eviction=lruu: unknown"), "{said}");
    let text = printed(&elapse(&["worker", "etc/w.toml", "--set", "state=here", "--print-plan"], &dir));
    assert!(text.contains(&format!("state = \"{}/here\"", dir.canonicalize().unwrap().display())), "{text}");
}
