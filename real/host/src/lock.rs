//! One worker of a name on a host: a lock on a file in the folder of all workers, which the kernel lets go of when its holder ends,
//! however. Only who may write there can take a name, and every network namespace sees the same folder.

use crate::engine::run_folder;
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Held while a worker of this name lives.
#[derive(Debug)]
pub struct NameLock {
    path: PathBuf,
    #[expect(dead_code, reason = "it is held, not used")]
    file: OwnedFd,
}

impl NameLock {
    /// Takes the name.
    ///
    /// # Errors
    /// If another process holds it, or the folder of all workers is somebody else's.
    pub fn take(worker: &str) -> Result<NameLock, String> {
        NameLock::take_in(&run_folder()?, worker)
    }

    fn take_in(folder: &std::path::Path, worker: &str) -> Result<NameLock, String> {
        let path = folder.join(format!("{worker}.lock"));
        let cannot = |e: Errno| format!("cannot lock {}: {e}", path.display());
        loop {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(cannot)?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(format!(
                        "a worker named '{worker}' runs on this host already; end it, or take another name (live.worker)"
                    ));
                }
                Err(e) => return Err(cannot(e)),
            }
            // Its last holder may have removed the file in between: then this is no longer the one that others lock.
            let ours = fs::fstat(&file).map_err(cannot)?;
            if fs::lstat(&path).is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
            {
                return Ok(NameLock { path, file });
            }
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // While it is held, so that nobody has locked the same file meanwhile.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_process_s_until_it_ends() {
        let folder = std::env::temp_dir().join(format!("elapse-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let held = NameLock::take_in(&folder, "one").expect("free");
        let why = NameLock::take_in(&folder, "one").expect_err("taken");
        assert!(why.contains("runs on this host already"), "{why}");
        drop(NameLock::take_in(&folder, "other").expect("free"));
        drop(held);
        drop(NameLock::take_in(&folder, "one").expect("free again"));
        assert_eq!(std::fs::read_dir(&folder).expect("there").count(), 0);
        // What somebody put there is not followed, and nobody waits for it.
        std::os::unix::fs::symlink("/dev/null", folder.join("one.lock")).expect("a link");
        assert!(NameLock::take_in(&folder, "one").is_err());
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
