//! Images, archives and registries that mean harm (tests/hostile/images.py makes them): each comes to one sentence or does nothing, in
//! bounded memory and time, and nothing of it reaches the host.
#![cfg(feature = "containerd")]
#![expect(clippy::disallowed_methods, reason = "it starts another process")]

use crate::common::containers::{common_of, daemon, worker_name};
use crate::common::{has, scratch};
use elapse::rt;
use elapse_host::containerd::Containerds;
use elapse_host::engine::{Common, Engine};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What is expected of a kind: a sentence with these words, or that nothing comes of it.
const ARCHIVES: &[(&str, Option<&str>)] = &[
    ("no-tar", Some("it is no")),
    ("empty", Some("index.json is missing")),
    ("truncated", Some("cannot be used")),
    ("no-index", Some("index.json is missing")),
    ("index-is-no-json", Some("cannot be used")),
    ("index-is-deep", Some("recursion limit")),
    ("index-is-empty", Some("this host is")),
    ("index-is-long", Some("at most are read")),
    ("index-is-a-link", Some("index.json is missing")),
    ("index-is-a-pipe", Some("index.json is missing")),
    ("index-of-another-machine", Some("it is for s390x")),
    ("many-files", Some("more than 10000 files")),
    ("digest-is-a-path", Some("is no sha256 digest")),
    ("digest-is-short", Some("is no sha256 digest")),
    ("digest-is-of-nothing", Some("is missing")),
    ("digest-is-no-text", Some("manifest is incomplete")),
    ("manifest-is-another", Some("is another")),
    ("manifest-is-no-json", Some("cannot be used")),
    ("config-is-missing", Some("is missing")),
    ("config-is-another", Some("is another")),
    ("config-is-no-json", Some("cannot be used")),
    ("config-is-a-list", Some("do not agree")),
    ("layers-are-many", Some("400 layers")),
    ("layer-of-less-than-nothing", Some("-1 bytes")),
    ("layer-of-everything", Some("live.image_size")),
    ("layer-is-missing", Some("is missing")),
    ("layer-is-another", Some("cannot write a blob")),
    ("layer-is-shorter", Some("cannot write a blob")),
    ("layer-is-no-tar", Some("cannot unpack a layer")),
    ("layer-of-another-name", Some("is not the one that it names")),
    ("layers-without-names", Some("do not agree")),
    ("bomb", Some("unpacked it is larger than")),
    ("out-of-the-root", None),
    ("absolute-path", None),
    ("through-a-link", None),
    ("hard-link-to-the-host", None),
    ("devices", None),
    ("user-in-a-pipe", Some("it wants user 'app'")),
    ("user-in-a-device", Some("it wants user 'app'")),
    ("user-in-a-link", Some("it wants user 'root'")),
    ("user-behind-a-link", Some("it wants user 'root'")),
    ("user-in-a-long-list", Some("it wants user 'app'")),
    ("user-of-no-number", Some("it wants user '4294967296'")),
    ("environment-is-long", None),
    ("no-command", None),
    ("file-is-a-pipe", Some("it is no file")),
    ("file-is-a-folder", Some("it is no file")),
    ("file-is-a-device", Some("it is no file")),
];
const REGISTRIES: &[(&str, &str)] = &[
    ("manifest-is-endless", "registry 127.0.0.1"),
    ("blob-is-endless", "a blob longer than"),
    ("blob-is-shorter", "registry 127.0.0.1"),
    ("blob-is-another", "cannot write a blob"),
    ("redirects-for-ever", "does not answer"),
    ("redirects-to-a-file", "does not answer"),
    ("token-from-elsewhere", "sends us for a token to 'http://169.254.169.254/latest'"),
    ("token-from-a-file", "sends us for a token to 'file:///etc/shadow'"),
    ("demand-is-nonsense", "a demand that is not understood"),
    ("no-token-will-do", "does not let us read"),
    ("always-busy", "HTTP 503"),
    ("headers-are-endless", "does not answer"),
];

/// What this process has had of memory at most, in MiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a number");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") / 1024
}

#[test]
fn an_image_that_means_harm_comes_to_a_sentence_or_to_nothing() {
    let test = "an_image_that_means_harm_comes_to_a_sentence_or_to_nothing";
    let Some(socket) = daemon("containerd", test) else { return };
    if !has("python3", test, Path::new("/usr/bin/python3").exists()) {
        return;
    }
    let folder = scratch(test);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/images.py");
    let mut python = Command::new("python3")
        .arg(script)
        .arg(&folder)
        .arg(architecture)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut told = String::new();
    BufReader::new(python.stdout.take().expect("its output")).read_line(&mut told).expect("an address");
    let mut words = told.split_whitespace();
    let (registry, manifest, number) =
        (words.next().expect("an address"), words.next().expect("a digest"), words.next().expect("a number"));
    let worker = worker_name();
    let before = most_memory();
    rt::Live::new().expect("a runtime").block_on(async {
        let common = Common { image_size: 64 << 20, ..common_of(&worker) };
        let engine: Rc<dyn Engine> =
            Rc::new(Containerds::connect(&socket, common, "runc", 0).await.expect("an engine"));
        let mut kinds: Vec<(String, Option<&str>)> = Vec::new();
        kinds.extend(ARCHIVES.iter().map(|(kind, said)| {
            (folder.join(format!("{kind}.tar")).to_str().expect("a path").to_string(), *said)
        }));
        kinds.extend(REGISTRIES.iter().map(|(kind, said)| (format!("{registry}/{kind}:1"), Some(*said))));
        kinds.push((
            format!("{registry}/manifest-of-another-digest@{manifest}"),
            Some("a manifest that is not"),
        ));
        assert!(kinds.len() >= 30);
        for (image, said) in &kinds {
            let begun = Instant::now();
            let outcome = engine.prepare(Some(image)).await;
            assert!(begun.elapsed() < Duration::from_secs(60), "{image}: {:?}", begun.elapsed());
            match (said, outcome) {
                (Some(part), Err(fault)) => {
                    assert!(fault.why.contains(part), "{image}: {}", fault.why);
                    assert!(fault.why.len() < 1000 && !fault.why.contains("root:"), "{image}: {}", fault.why);
                }
                (Some(part), Ok(())) => panic!("{image}: it was taken, and not told '{part}'"),
                // It may be taken, or refused; what matters is what came of it.
                (None, _) => {}
            }
        }
        assert!(
            !Path::new(&format!("/tmp/elapse-evil-{number}")).exists(),
            "an image has written on the host"
        );
        engine.sweep().await.expect("a sweep");
    });
    let grown = most_memory() - before;
    assert!(grown <= 256, "{grown} MiB");
    drop(python.stdin.take());
    python.wait().expect("its end");
    assert_eq!(elapse_host::doctor::leftovers_of(&worker), Vec::<String>::new());
}
