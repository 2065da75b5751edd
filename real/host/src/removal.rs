//! Removes folders in which others could write: whatever is in them, it takes a few descriptors and no stack, and follows no link.

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Removes a folder and everything in it; what is gone already is no fault. A file or a link at that place is removed itself.
///
/// A folder in it is emptied by moving the folders that it has up beside it, so that no depth makes this deeper.
///
/// # Errors
/// What cannot be removed.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let top = match open(fs::CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(gone(fs::unlink(path))?),
        Err(e) => return Err(e.into()),
    };
    let mut moved = 0_u64;
    while empty_once(&top, &mut moved)? {}
    Ok(gone(fs::rmdir(path))?)
}

fn open(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    fs::openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Somebody may have been faster.
fn gone(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes what a folder has now; true if it had anything.
fn empty_once(top: &OwnedFd, moved: &mut u64) -> Result<bool, Errno> {
    let mut any = false;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        any = true;
        if unlinked(top, name)? {
            continue;
        }
        let inner = match open(top, name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        for entry in Dir::read_from(&inner)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || unlinked(&inner, name)? {
                continue;
            }
            // Until there is a name that nobody has taken.
            loop {
                *moved += 1;
                match fs::renameat(&inner, name, top, format!(".{moved}")) {
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    other => break gone(other)?,
                }
            }
        }
        match fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
            // What a reading of a folder that changes has passed over is found the next time.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => gone(other)?,
        }
    }
    Ok(any)
}

/// Removes what is no folder; false if it is one.
fn unlinked(at: &OwnedFd, name: &std::ffi::CStr) -> Result<bool, Errno> {
    match fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        other => gone(other).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_a_folder_goes_and_nothing_beside_it() {
        let folder = std::env::temp_dir().join(format!("elapse-removal-{}", std::process::id()));
        let (place, beside) = (folder.join("place"), folder.join("beside"));
        std::fs::create_dir_all(place.join("a/b")).expect("folders");
        std::fs::create_dir_all(&beside).expect("a folder");
        std::fs::write(beside.join("kept"), "x").expect("a file");
        for name in ["one", "a/two", "a/b/three", ".1", ".2"] {
            std::fs::write(place.join(name), "x").expect("a file");
        }
        for (to, link) in
            [(beside.as_path(), "a/link"), (Path::new("/"), "a/b/root"), (Path::new("a"), "self")]
        {
            std::os::unix::fs::symlink(to, place.join(link)).expect("a link");
        }
        remove_all(&place).expect("all of it");
        assert!(!place.exists() && beside.join("kept").exists());
        remove_all(&place).expect("it is gone already");
        std::os::unix::fs::symlink(&beside, &place).expect("a link");
        remove_all(&place).expect("the link itself");
        assert!(std::fs::symlink_metadata(&place).is_err() && beside.join("kept").exists());
        remove_all(&folder).expect("the rest");
    }

    /// As a function leaves it that wants to end the worker when it cleans up.
    #[test]
    fn no_depth_needs_a_stack_or_descriptors() {
        let folder = std::env::temp_dir().join(format!("elapse-depth-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let mut at = open(fs::CWD, &folder).expect("a folder");
        for _ in 0..20_000 {
            fs::mkdirat(&at, "d", Mode::RWXU).expect("a folder");
            at = open(&at, "d").expect("a folder");
        }
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let place = folder.clone();
        small
            .spawn(move || remove_all(&place))
            .expect("a thread")
            .join()
            .expect("no overflow")
            .expect("removed");
        assert!(!folder.exists());
    }
}
