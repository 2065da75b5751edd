//! A fault is one clear sentence (what, where, why, what to try) and the exit code that goes with it.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with a [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// Who has to act on a fault; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A check failed although the work was done (exit 1).
    Check,
    /// What was typed or written is wrong (exit 2).
    Usage,
    /// This host lacks something: a file, space, a permission, a daemon (exit 3).
    Host,
    /// Our bug (exit 4).
    Bug,
    /// A peer refused, for instance a registration (exit 5).
    Refused,
    /// The user ended it before there was anything to keep (exit 130).
    Interrupted,
}

impl FaultKind {
    /// The process exit code that goes with this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            FaultKind::Check => 1,
            FaultKind::Usage => 2,
            FaultKind::Host => 3,
            FaultKind::Bug => 4,
            FaultKind::Refused => 5,
            FaultKind::Interrupted => 130,
        }
    }
}

/// One sentence for the user, and whose turn it is.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: FaultKind,
    message: String,
}

impl Fault {
    /// What was typed or written is wrong.
    pub fn usage(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Usage, message: message.into() }
    }

    /// A check failed although the work was done.
    pub fn check(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Check, message: message.into() }
    }

    /// This host lacks something.
    pub fn host(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Host, message: message.into() }
    }

    /// Our bug.
    pub fn bug(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Bug, message: message.into() }
    }

    /// A peer refused.
    pub fn refused(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Refused, message: message.into() }
    }

    /// The user ended it before there was anything to keep.
    pub fn interrupted(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Interrupted, message: message.into() }
    }

    /// A fault in the contents of a file, at a line counted from 1.
    pub fn at(path: &Path, line: u64, message: impl fmt::Display) -> Fault {
        Fault::usage(format!("cannot read {}: line {line}: {message}", path.display()))
    }

    /// A file that cannot be opened or read: absent, a directory, not permitted.
    pub fn reading(path: &Path, error: &std::io::Error) -> Fault {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => match neighbour(path) {
                Some(near) => format!("there is no such file; did you mean '{}'?", near.display()),
                None => "there is no such file; check the path".to_string(),
            },
            std::io::ErrorKind::IsADirectory => "it is a directory; name the file inside it".to_string(),
            std::io::ErrorKind::PermissionDenied => "permission denied; check who may read it".to_string(),
            _ => error.to_string(),
        };
        Fault::usage(format!("cannot read {}: {hint}", path.display()))
    }

    /// A file that cannot be written: no space, no permission.
    pub fn writing(path: &Path, error: &std::io::Error) -> Fault {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => {
                "no space is left on the device; free some or choose another folder".to_string()
            }
            std::io::ErrorKind::PermissionDenied => {
                "permission denied; choose another folder, or let yourself write there".to_string()
            }
            _ => error.to_string(),
        };
        Fault::host(format!("cannot write {}: {hint}", path.display()))
    }

    /// Whose turn it is.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The same fault with a place in front of it.
    pub fn within(mut self, place: impl fmt::Display) -> Fault {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The file or folder whose name is closest to that of one that is not there, if one is close enough. Where a folder on the
/// way is not there, the one closest to it.
fn neighbour(path: &Path) -> Option<PathBuf> {
    let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last()?;
    let name = missing.file_name()?.to_str()?;
    let folder = missing.parent().unwrap_or(Path::new(""));
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(here).ok()?.flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    // An ending that is the same says nothing: one wrong letter, and another for each four of the name itself.
    let length = Path::new(name).file_stem().map_or(0, std::ffi::OsStr::len);
    names.retain(|other| strsim::damerau_levenshtein(name, other) <= 1 + length / 4);
    let near = folder.join(nearest(name, names.iter().map(String::as_str))?);
    let rest = path.strip_prefix(missing).ok()?;
    // Of a folder only what is really in it.
    let whole = near.join(rest);
    Some(if rest.as_os_str().is_empty() || !whole.exists() { near } else { whole })
}

/// The known word closest to `word`, if one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(d, k)| *d <= 1 + k.len().max(word.len()) / 3)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}
