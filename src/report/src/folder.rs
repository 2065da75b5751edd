//! The folder of a run: written beside its name, and renamed when it is whole. Nothing half-written bears a final name, and
//! what an interrupted run has bears another one.

use crate::base::{Fault, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A folder that is being written. Dropped before [`commit`](Folder::commit), it is removed.
pub struct Folder {
    partial: PathBuf,
    target: PathBuf,
    force: bool,
    done: bool,
}

/// Whether results may be written to `target`.
///
/// # Errors
/// If it holds something that must not be replaced.
pub fn check_target(target: &Path, force: bool) -> Result<()> {
    let name = target.display();
    let canonical = fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
    let here = std::env::current_dir().unwrap_or_default();
    if here.starts_with(&canonical) {
        return Err(Fault::usage(format!(
            "will not write the results to {name}: it is the folder you stand in, or one around it; name a new one with --out"
        )));
    }
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Fault::usage(format!(
                "will not write the results to {name}: it is a file; name a folder with --out"
            )));
        }
        Err(e) => return Err(Fault::writing(target, &e)),
    };
    let names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
    if names.is_empty() {
        return Ok(());
    }
    if !force {
        return Err(Fault::usage(format!(
            "will not write the results to {name}: it exists and is not empty; choose another with --out, or replace a run with --force"
        )));
    }
    if ["run.json", "summary.json"].iter().all(|needed| names.iter().any(|n| n == needed)) {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "will not replace {name}: it does not hold an Elapse run (run.json and summary.json), and --force replaces only those"
    )))
}

/// How the name of a folder ends that holds what an interrupted run has.
const INTERRUPTED: &str = ".interrupted";

/// Where the results for `target` are kept if the run is interrupted.
pub fn interrupted(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(INTERRUPTED);
    PathBuf::from(name)
}

/// Sees that a folder to be read is there.
///
/// # Errors
/// It is not, but what a run left there that was interrupted is.
pub(super) fn check_source(folder: &Path) -> Result<()> {
    let left = interrupted(folder);
    if folder.exists() || !left.exists() {
        return Ok(());
    }
    Err(Fault::usage(format!(
        "cannot read {}: it is not there, as its run was interrupted; what that has is in {}: name that, or run it again",
        folder.display(),
        left.display()
    )))
}

/// A name that nothing has yet: with `-2` and so on behind it, but before `.interrupted`.
pub fn free_name(target: &Path) -> PathBuf {
    let name = target.display().to_string();
    let (stem, end) = name.strip_suffix(INTERRUPTED).map_or((name.as_str(), ""), |stem| (stem, INTERRUPTED));
    let mut names = (2u64..).map(|n| PathBuf::from(format!("{stem}-{n}{end}")));
    names.find(|path| !path.exists()).unwrap_or_else(|| target.to_path_buf())
}

/// Where finished results go that are wanted at `target`: there if that is free, or holds a run and `force` replaces it; else
/// beside it.
fn place(target: &Path, force: bool) -> PathBuf {
    match check_target(target, force) {
        Ok(()) => target.to_path_buf(),
        Err(_) => free_name(target),
    }
}

impl Folder {
    /// Starts a folder that will be `target`.
    ///
    /// # Errors
    /// See [`check_target`]; or if it cannot be made.
    pub fn create(target: &Path, force: bool) -> Result<Folder> {
        check_target(target, force)?;
        let name = target.file_name().map_or("run".into(), |n| n.to_string_lossy().into_owned());
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let partial = parent.join(format!(".partial-{name}-{}", std::process::id()));
        fs::create_dir_all(partial.join("plots")).map_err(|e| Fault::writing(&partial, &e))?;
        Ok(Folder { partial, target: target.to_path_buf(), force, done: false })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Opens a file in it for writing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn file(&self, name: &str) -> Result<File> {
        let path = self.partial.join(name);
        File::create(&path).map_err(|e| Fault::writing(&self.target.join(name), &e))
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, name: &str, text: &[u8]) -> Result<()> {
        fs::write(self.partial.join(name), text).map_err(|e| Fault::writing(&self.target.join(name), &e))
    }

    /// Gives it its name, and returns that: with `-2` and so on behind it if somebody took it meanwhile. What an interrupted
    /// run has is kept under a name that ends in `.interrupted`; a run that has the name already stays as it is.
    ///
    /// # Errors
    /// If the file system refuses; the results then stay where the fault says.
    pub fn commit(mut self, cut: bool) -> Result<PathBuf> {
        // Empty without plots; an entry more would say that there are some.
        let _ = fs::remove_dir(self.partial.join("plots"));
        // From here on the results are whole: whatever goes wrong, they are not removed.
        self.done = true;
        if cut {
            self.target = interrupted(&self.target);
        }
        self.target = place(&self.target, self.force);
        let kept = |e: &std::io::Error| {
            Fault::host(format!(
                "cannot rename the results to {}: {e}; they are whole, in {}",
                self.target.display(),
                self.partial.display()
            ))
        };
        if self.target.exists() && self.force {
            let old = self.partial.with_extension("replaced");
            fs::rename(&self.target, &old).map_err(|e| kept(&e))?;
            if let Err(e) = fs::rename(&self.partial, &self.target) {
                let _ = fs::rename(&old, &self.target);
                return Err(kept(&e));
            }
            // The new run is in place; what cannot be removed of the old one is no reason to fail.
            let _ = fs::remove_dir_all(&old);
        } else {
            fs::rename(&self.partial, &self.target).map_err(|e| kept(&e))?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Writes a whole file in the place of one that may be there: at every instant there is the old one or the new one.
///
/// # Errors
/// If it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_by(path, |file| file.write_all(bytes).map_err(|e| Fault::writing(path, &e)))
}

/// The same of a file that is written bit by bit; what `write` returns is passed on.
///
/// # Errors
/// If it cannot be written, or why `write` could not go on: the old file is as it was.
pub fn replace_by<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    let fault = |e: std::io::Error| Fault::writing(path, &e);
    // A link is followed, as whoever made it wants; what is no file, a pipe for instance, cannot be replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let mut out = BufWriter::new(File::options().write(true).open(path).map_err(fault)?);
        let came = write(&mut out)?;
        out.flush().map_err(fault)?;
        return Ok(came);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let written = || -> Result<T> {
        let mut file = BufWriter::new(File::create(&beside).map_err(fault)?);
        let came = write(&mut file)?;
        file.into_inner().map_err(|e| fault(e.into_error()))?;
        fs::rename(&beside, path).map_err(fault)?;
        Ok(came)
    };
    written().inspect_err(|_| drop(fs::remove_file(&beside)))
}

/// Sets one key of a JSON file.
///
/// # Errors
/// If it cannot be read or written.
pub fn amend(path: &Path, key: &str, value: serde_json::Value) -> Result<()> {
    let text = fs::read_to_string(path).map_err(|e| Fault::reading(path, &e))?;
    let mut whole: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| Fault::usage(format!("cannot read {}: {e}", path.display())))?;
    whole[key] = value;
    replace(path, (serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n").as_bytes())
}
