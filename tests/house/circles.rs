//! Circles between the files of a crate: a file needs another where it names something that is made there, through whatever module passes
//! the name on.

use crate::source::{self, Crate, Import, Said, rust_files};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// A module: its path below the crate's root, without `crate`.
type Module = Vec<String>;

/// The circles of a crate's files, each as `a.rs -> b.rs -> a.rs`, the first name first.
pub fn of(each: &Crate) -> Vec<String> {
    let src = each.folder.join("src");
    let mut files = BTreeMap::new();
    for path in rust_files(&each.folder) {
        let inside = path.strip_prefix(&src).expect("below src");
        let text = std::fs::read_to_string(&path).expect("a source file");
        let said = source::read(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        files.insert(module_of(inside), (inside.display().to_string(), said));
    }
    let house = House { files };
    let mut arrows: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, (_, said)) in &house.files {
        arrows.insert(module.clone(), house.needs(module, said));
    }
    circles(&arrows)
        .into_iter()
        .map(|circle| {
            let names: Vec<&str> = circle.iter().map(|module| house.files[module].0.as_str()).collect();
            format!("{} -> {}", names.join(" -> "), names[0])
        })
        .collect()
}

/// The module that a file is: `worker/mod.rs` is `worker`.
fn module_of(inside: &Path) -> Module {
    let mut parts: Module =
        inside.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

struct House {
    files: BTreeMap<Module, (String, Said)>,
}

impl House {
    /// The files that a file needs.
    fn needs(&self, module: &Module, said: &Said) -> BTreeSet<Module> {
        let used: BTreeSet<&str> = said.names.iter().map(String::as_str).collect();
        let imports =
            said.imports.iter().filter(|import| !import.passed_on || used.contains(import.name.as_str()));
        let paths = imports.map(|import| &import.path).chain(&said.paths);
        let mut needs: BTreeSet<Module> = paths.filter_map(|path| self.made(module, path, 0)).collect();
        // A module declares those below it, so that it knows them anyway: its trait and the list of who has it may be one file.
        needs.retain(|needed| !needed.starts_with(module));
        needs
    }

    /// The file in which what a path leads to is made; none where that is another crate's.
    fn made(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        if depth > 16 {
            return None;
        }
        let (mut at, rest) = match path.first()?.as_str() {
            "crate" => (Module::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            first => {
                let child = joined(from, first);
                let is_known = self.files.contains_key(&child)
                    || self.import(from, first).is_some_and(|i| i.path != path);
                if !is_known {
                    return None;
                }
                (from.clone(), path)
            }
        };
        for (i, part) in rest.iter().enumerate() {
            if part == "super" {
                at.pop()?;
                continue;
            }
            let child = joined(&at, part);
            if self.files.contains_key(&child) {
                at = child;
                continue;
            }
            if let Some(import) = self.import(&at, part) {
                let further: Vec<String> =
                    import.path.iter().cloned().chain(rest[i + 1..].iter().cloned()).collect();
                return self.made(&at, &further, depth + 1);
            }
            // It is made here, or a name that a glob brings in.
            let globs =
                self.files.get(&at)?.1.imports.iter().filter(|import| import.name == "*" && import.passed_on);
            for glob in globs {
                let further: Vec<String> =
                    glob.path.iter().cloned().chain(rest[i..].iter().cloned()).collect();
                if let Some(made) = self.made(&at, &further, depth + 1) {
                    return Some(made);
                }
            }
            return Some(at);
        }
        // A module by itself: what of it is used is seen where its name is.
        None
    }

    /// What brings a name into a module.
    fn import(&self, module: &Module, name: &str) -> Option<&Import> {
        self.files.get(module)?.1.imports.iter().find(|import| import.name == name)
    }
}

fn joined(module: &[String], part: &str) -> Module {
    module.iter().cloned().chain([part.to_string()]).collect()
}

/// Of each knot of files that all reach each other, the shortest circle from its first one.
fn circles(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<Module>> {
    let mut found: Vec<Vec<Module>> = Vec::new();
    let mut knotted: BTreeSet<Module> = BTreeSet::new();
    for start in arrows.keys() {
        if knotted.contains(start) {
            continue;
        }
        let came = reached(arrows, start);
        let Some(mut at) = came.get(start) else { continue };
        let mut circle = vec![start.clone()];
        while at != start {
            circle.push(at.clone());
            at = &came[at];
        }
        circle[1..].reverse();
        found.push(circle);
        knotted.extend(came.into_keys().filter(|other| reached(arrows, other).contains_key(start)));
    }
    found
}

/// What can be reached from a file, each with the one before it on a shortest way.
fn reached(arrows: &BTreeMap<Module, BTreeSet<Module>>, start: &Module) -> BTreeMap<Module, Module> {
    let mut came = BTreeMap::new();
    let mut line = VecDeque::from([start]);
    while let Some(at) = line.pop_front() {
        for next in
            arrows.get(at).into_iter().flatten().filter(|next| !came.contains_key(*next)).collect::<Vec<_>>()
        {
            came.insert(next.clone(), at.clone());
            line.push_back(next);
        }
    }
    came
}
