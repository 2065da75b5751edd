//! The house: imports point down only, siblings never import each other, files stay readable.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms by row, the lowest first. `rt` may use `base`; otherwise a room uses only lower rows.
const ROWS: &[&[&str]] = &[
    &["base"],
    &["rt"],
    &["backend", "journal", "metrics"],
    &["worker", "controller", "load", "report"],
    &["world"],
    &["cli"],
];

/// An arrow across a row's wall, with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code of a file without its tests, which may look around.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.split("#[cfg(test)]").next().unwrap_or_default().to_string()
}

#[test]
fn imports_point_down_only() {
    let row = |room: &str| ROWS.iter().position(|r| r.contains(&room));
    let mut faults = Vec::new();
    let mut rooms_seen = std::collections::BTreeSet::new();
    for path in rust_files(&source()) {
        let inside = path.strip_prefix(source()).expect("under src");
        let room = inside.components().next().expect("a room").as_os_str().to_string_lossy().to_string();
        if room == "lib.rs" || room == "main.rs" {
            continue;
        }
        let here = row(&room).unwrap_or_else(|| panic!("the room '{room}' is not in the plan of the house"));
        rooms_seen.insert(room.clone());
        for (number, line) in
            code(&path).lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for prefix in ["crate::", "elapse::"] {
                for (at, _) in line.match_indices(prefix) {
                    let rest = &line[at + prefix.len()..];
                    let other: String =
                        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let Some(there) = row(&other) else { continue };
                    if other != room
                        && there >= here
                        && !EXCEPTIONS.contains(&(room.as_str(), other.as_str()))
                    {
                        faults.push(format!("{}:{}: {room} imports {other}", inside.display(), number + 1));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "arrows that do not point down:\n{}", faults.join("\n"));
    assert!(rooms_seen.len() >= 8, "the test found only {rooms_seen:?}");
}

#[test]
fn the_leaf_crate_does_not_know_the_root() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("real/Cargo.toml");
    let text = fs::read_to_string(manifest).expect("real's manifest");
    assert!(!text.contains("path = \"..\""), "real/ depends on the root");
}

#[test]
fn every_file_opens_with_what_it_is_for_and_stays_short() {
    /// Files that may be longer than 500 lines, with the reason.
    const LONG: &[(&str, &str)] = &[];
    for path in rust_files(&source()) {
        let text = fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(source()).expect("under src").display().to_string();
        assert!(text.starts_with("//!"), "{name} does not open with //!");
        let lines = text.lines().count();
        assert!(lines <= 500 || LONG.iter().any(|(file, _)| *file == name), "{name} has {lines} lines");
    }
}

#[test]
fn unsafe_is_confined() {
    for path in rust_files(&source()) {
        let name = path.strip_prefix(source()).expect("under src").display().to_string();
        if !name.starts_with("rt/") {
            assert!(!code(&path).contains("unsafe "), "{name} has unsafe code outside rt");
        }
    }
}
