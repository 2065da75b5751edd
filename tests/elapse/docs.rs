//! The pages of docs/: their commands run as they stand, and the reference is what the program says of itself.

use crate::common::{elapse, scratch};
use elapse::Scenario;
use elapse::keys::{Shape, Without, keys_of, of};
use elapse::metrics::{BACKEND_PATHS, CONTROLLER_PATHS, HOST_PATHS, PATHS, Path as Metric};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn pages() -> Vec<PathBuf> {
    let all = std::fs::read_dir(docs()).expect("docs/").flatten().map(|entry| entry.path());
    let mut pages: Vec<PathBuf> =
        all.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.sort();
    pages
}

/// Every block that is marked as `sh`, in a folder of its page's own, with the program on PATH.
#[test]
fn every_command_runs_as_it_stands() {
    let path = format!(
        "{}:{}",
        elapse().parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut ran = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page");
        let blocks: Vec<&str> =
            text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
        let folder = scratch("docs");
        for block in blocks {
            let output =
                Command::new("bash").args(["-ec", block]).env("PATH", &path).current_dir(&folder).output();
            let output = output.expect("bash");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{}: {block}\n{said}", page.display());
            ran += 1;
        }
    }
    assert!(ran >= 1);
}

/// Links between pages lead somewhere, and every page is in the summary.
#[test]
fn every_page_is_found() {
    let summary = std::fs::read_to_string(docs().join("SUMMARY.md")).expect("the summary");
    for page in pages() {
        let name = page.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is not in SUMMARY.md"
        );
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            let outside = file.is_empty() || file.contains("://");
            assert!(outside || docs().join(file).exists(), "{name}: {link} leads nowhere");
        }
    }
}

fn metrics(text: &mut String, what: &str, paths: &[Metric]) {
    let _ = write!(text, "\n### {what}\n\n| path | kind | unit | what |\n|---|---|---|---|\n");
    for Metric { name, kind, unit, help } in paths {
        let _ = writeln!(text, "| `{name}` | {kind:?} | {unit} | {help} |");
    }
}

fn reference() -> String {
    let mut text = String::from(
        "# Reference\n\nThis page is made from the program: `ELAPSE_UPDATE=1 cargo test --workspace --features containerd,whole --test program --test elapse \
         docs::` writes it anew.\n\n## Exit codes\n\n| code | means |\n|---|---|\n| 0 | done, failed invocations included |\n| 1 | done, but a check failed |\n\
         | 2 | what was typed or written is wrong |\n| 3 | this host lacks something |\n| 4 | a bug of ours |\n| 5 | a peer refused (registration) |\n\
         | 130 | interrupted |\n\n## Keys of a scenario\n\nDefaults < file < `ELAPSE__WORKER__MEMORY` < flags. `elapse schema` prints the same for editors.\n\n\
         | key | what | where it is not given | words |\n|---|---|---|---|\n",
    );
    let cell = |text: &str| text.replace('|', "\\|");
    for key in keys_of::<Scenario>() {
        let Some(doc) = of::<Scenario>(&key.path) else { continue };
        let without = match doc.without {
            Without::Default => "a default, which `--print-plan` shows".to_string(),
            Without::Words(words) => words.to_string(),
            Without::Refused => format!("it has to be given: {}", doc.example),
        };
        let words = match key.shape {
            Shape::Words(words) => words.join(", "),
            _ => String::new(),
        };
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} |", key.path, cell(doc.says), cell(&without), cell(&words));
    }
    text.push_str("\n## Metrics\n\nUnder `elapse.<run>.<worker>.`, in metrics.csv, at a Graphite, and (daemons) as OpenMetrics.\n");
    metrics(&mut text, "A worker", PATHS);
    metrics(&mut text, "Each of its backends: `backend.<name>.`", BACKEND_PATHS);
    metrics(&mut text, "The host of a live one", HOST_PATHS);
    metrics(&mut text, "A controller", CONTROLLER_PATHS);
    text.push_str("\n## Commands\n");
    for command in [
        "sim",
        "live",
        "replay csv",
        "plot",
        "compare",
        "align",
        "trace",
        "calibrate",
        "doctor",
        "clean",
        "worker",
        "controller",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = Command::new(elapse()).args(&words).env("COLUMNS", "100").output().expect("the program");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n### elapse {command}\n\n```text\n{}\n```\n", lines.join("\n").trim());
    }
    text
}

#[test]
fn the_reference_is_what_the_program_says() {
    let (path, text) = (docs().join("reference.md"), reference());
    if std::env::var_os("ELAPSE_UPDATE").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(known.lines()).find(|(now, known)| now != known);
    assert!(
        known == text,
        "docs/reference.md is not what the program says; write it anew with ELAPSE_UPDATE=1. First: {differs:?}"
    );
}
