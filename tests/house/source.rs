//! Crates and their files, and what a file of code says.

use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};

/// A crate of the workspace.
pub struct Crate {
    pub name: String,
    pub folder: PathBuf,
    /// The crates of ours that it uses, tests apart.
    pub uses: Vec<String>,
}

/// All crates of a workspace.
pub fn crates(root: &Path) -> Vec<Crate> {
    let manifest = |folder: &Path| -> toml::Table {
        let text = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        text.parse().expect("a manifest")
    };
    let top = manifest(root);
    let members = top["workspace"]["members"].as_array().expect("members");
    let each = |member: &toml::Value| {
        let folder = root.join(member.as_str().expect("a folder"));
        let manifest = manifest(&folder);
        let uses = manifest.get("dependencies").and_then(|all| all.as_table()).into_iter().flatten();
        Crate {
            name: manifest["package"]["name"].as_str().expect("a name").to_string(),
            uses: uses.filter(|(_, what)| what.get("path").is_some()).map(|(name, _)| name.clone()).collect(),
            folder,
        }
    };
    members.iter().map(each).collect()
}

/// The files of a crate's own code, without those of crates in folders below it.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    below(&folder.join("src"), &mut files);
    files.sort();
    files
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() {
                below(&path, files);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// A name that a file brings in: what it is called there, and the path that leads to it.
#[derive(Clone, Debug)]
pub struct Import {
    pub name: String,
    pub path: Vec<String>,
    /// Whether others see it, and the file itself may only pass it on.
    pub passed_on: bool,
}

/// What a file says, its tests apart.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub imports: Vec<Import>,
    /// Paths in code that begin with a module.
    pub paths: Vec<Vec<String>>,
    /// Single names in code and first parts of paths, to see whether what is passed on is used too.
    pub names: Vec<String>,
    pub has_unsafe: bool,
    pub names_wall_time: bool,
}

/// Reads a file.
///
/// # Errors
/// If it is not Rust.
pub fn read(text: &str) -> Result<Said, String> {
    let file = syn::parse_file(text).map_err(|e| e.to_string())?;
    let mut said = Said::default();
    said.visit_file(&file);
    let of_time = |path: &[String]| {
        path.iter().any(|part| part == "Instant" || part == "SystemTime")
            && path.first().is_some_and(|first| first == "std" || first == "Instant" || first == "SystemTime")
    };
    said.names_wall_time =
        said.imports.iter().any(|import| of_time(&import.path)) || said.paths.iter().any(|p| of_time(p));
    Ok(said)
}

fn is_of_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let of_test = |list: &syn::MetaList| {
            list.tokens.to_string().split(|c: char| !c.is_alphanumeric()).any(|w| w == "test")
        };
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg") && attribute.meta.require_list().is_ok_and(of_test)
    })
}

/// The attributes of an item, which say whether it is of tests.
fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

impl Said {
    fn bring(&mut self, before: &[String], tree: &syn::UseTree, passed_on: bool) {
        let joined = |part: &syn::Ident| before.iter().cloned().chain([part.to_string()]).collect::<Vec<_>>();
        let mut add = |name: String, path| self.imports.push(Import { name, path, passed_on });
        match tree {
            syn::UseTree::Path(path) => self.bring(&joined(&path.ident), &path.tree, passed_on),
            syn::UseTree::Name(name) if name.ident == "self" => {
                add(before.last().cloned().unwrap_or_default(), before.to_vec());
            }
            syn::UseTree::Name(name) => add(name.ident.to_string(), joined(&name.ident)),
            syn::UseTree::Rename(rename) => add(rename.rename.to_string(), joined(&rename.ident)),
            syn::UseTree::Glob(_) => add("*".into(), before.to_vec()),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.bring(before, tree, passed_on);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Said {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_of_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_of_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.bring(&[], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.names.extend(parts.first().cloned());
        if parts.len() > 1 {
            self.paths.push(parts);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        // What is inside is no code yet: names and paths are taken as they are written.
        let text = item.tokens.to_string();
        let mut words: Vec<String> = Vec::new();
        let mut joined = false;
        for word in text.replace("::", " :: ").split_whitespace().map(str::to_string).chain([";".into()]) {
            if word == "::" {
                joined = true;
            } else {
                if !joined && !words.is_empty() {
                    self.names.extend(words.first().cloned());
                    if words.len() > 1 {
                        self.paths.push(std::mem::take(&mut words));
                    }
                    words.clear();
                }
                if word.chars().all(|c| c.is_alphanumeric() || c == '_') {
                    words.push(word);
                } else {
                    words.clear();
                }
                joined = false;
            }
        }
        visit::visit_macro(self, item);
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.has_unsafe = true;
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, item: &'ast syn::Signature) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_signature(self, item);
    }
}
