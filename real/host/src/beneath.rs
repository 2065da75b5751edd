//! Folders that are opened once, below another and through no link, so that what is mounted later is what was looked at.

use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A folder that stays open.
#[derive(Debug)]
pub struct Folder {
    file: OwnedFd,
    root: PathBuf,
    path: PathBuf,
}

impl PartialEq for Folder {
    fn eq(&self, other: &Folder) -> bool {
        (&self.root, &self.path) == (&other.root, &other.path)
    }
}

impl Eq for Folder {}

impl Folder {
    /// Opens `path` below `root`. The root is followed as it is written; beneath it neither a link nor `..` is.
    ///
    /// # Errors
    /// One sentence: it lies elsewhere, there is a link on the way, or it is no folder.
    pub fn open(root: &Path, path: &Path) -> Result<Folder, String> {
        let wrong = |why: String| format!("{}: {why}", path.display());
        let below =
            path.strip_prefix(root).map_err(|_| wrong(format!("it lies not below {}", root.display())))?;
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let named = root;
        let root = fs::open(named, flags, Mode::empty()).map_err(|e| format!("{}: {e}", named.display()))?;
        let opened = fs::openat2(&root, below, flags, Mode::empty(), resolve);
        let folder = |file| Folder { file, root: named.to_path_buf(), path: path.to_path_buf() };
        opened.map(folder).map_err(|e| {
            wrong(match e {
                Errno::LOOP => "there is a symbolic link on the way, which is not followed".into(),
                Errno::XDEV => "it leads out of its root".into(),
                Errno::NOSYS => {
                    "this kernel has no openat2 (Linux 5.6), without which it cannot be kept below its root"
                        .into()
                }
                e => e.to_string(),
            })
        })
    }

    /// Its path here, whatever is at the path that it had, as long as it stays open.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Whether it is still what is found at its path, through no link: for engines that take a path and nothing else.
    ///
    /// # Errors
    /// One sentence.
    pub fn is_still_there(&self) -> Result<(), String> {
        let now = Folder::open(&self.root, &self.path)?;
        let of = |folder: &Folder| fs::fstat(&folder.file).map(|stat| (stat.st_dev, stat.st_ino));
        if of(&now).is_ok_and(|now| of(self) == Ok(now)) {
            return Ok(());
        }
        Err(format!("{}: it is another folder than when the function was registered", self.path.display()))
    }
}

/// The text of a file below a folder, of which at most so many bytes are read. Neither a link nor `..` is followed on the way, and what
/// is no file is not opened.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn text_beneath(root: &Path, path: &Path, most: u64) -> io::Result<String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = fs::open(root, flags | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = fs::openat2(&root, path, flags | OFlags::NOFOLLOW, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fs::fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no file"));
    }
    // The same one again, to be read now that it is known what it is.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_leads_out_of_its_root_is_not_opened() {
        let dir = std::env::temp_dir().join(format!("elapse-beneath-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let root = dir.join("root");
        std::fs::create_dir_all(root.join("app/lib")).expect("folders");
        std::fs::write(root.join("file"), "").expect("a file");
        symlink("/etc", root.join("out")).expect("a link");
        symlink("app", root.join("in")).expect("a link");
        for (path, part) in [
            ("out", "a symbolic link"),
            ("in/lib", "a symbolic link"),
            ("app/../..", "out of its root"),
            ("file", "Not a directory"),
            ("none", "No such file"),
        ] {
            let why = Folder::open(&root, &root.join(path)).expect_err(path);
            assert!(why.contains(part), "{path}: {why}");
        }
        assert!(Folder::open(&root, Path::new("/etc")).is_err());
        let app = Folder::open(&root, &root.join("app")).expect("the folder");
        assert_eq!(app.is_still_there(), Ok(()));
        // Whatever is put at its path later: it is what it was.
        std::fs::rename(root.join("app"), root.join("old")).expect("a rename");
        symlink("/etc", root.join("app")).expect("a link");
        assert!(app.is_still_there().is_err());
        assert!(app.path().join("lib").is_dir() && !app.path().join("passwd").exists());
        assert!(Folder::open(&root, &root).is_ok(), "the root itself");
        std::fs::write(root.join("file"), "0123456789").expect("a file");
        let text = |path: &str| text_beneath(&root, Path::new(path), 4);
        assert_eq!(text("file").expect("a file"), "0123");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), Mode::RUSR).expect("a pipe");
        symlink("file", root.join("link")).expect("a link");
        for none in ["pipe", "link", "out/passwd", "app", "old", "none", "../root/file"] {
            assert!(text(none).is_err(), "{none}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
