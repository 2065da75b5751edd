//! Users for sandboxes: each that lives has one of its own, and a group of the same number, from a range of this host's.
//!
//! Each worker has a block of the range, by its name, in a file of the folder of all workers: what it leaves behind when it dies keeps
//! its user until a later life, or `elapse clean`, has removed it. A user that was given back is given out last.

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The range where nothing else is said: apart from those of `useradd`'s subordinate users (from 100000, 65536 each), systemd's
/// dynamic users (61184 to 65519) and its containers (from 524288).
pub const DEFAULT: RangeInclusive<u32> = 200_000..=265_535;
/// Workers of a host that have blocks at once.
const BLOCKS: u32 = 32;
/// Fewer users than this are too few for a block.
const LEAST: u32 = 64;
/// The file of the blocks: a number and a worker's name a line.
const FILE: &str = "uids";

/// A range as it is written, `FIRST-LAST`.
///
/// # Errors
/// If it is none, is too small, or has users that are somebody's.
pub fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let wrong = || format!("'{text}' is no range of users; write for instance 200000-265535");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let (first, last): (u32, u32) =
        (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    let least = BLOCKS * LEAST;
    if first > last || last - first + 1 < least {
        return Err(format!(
            "'{text}' has fewer than {least} users; {BLOCKS} workers are to have {LEAST} each at least"
        ));
    }
    // Numbers that the kernel or the C library give a meaning of their own.
    if first < 1000 || last >= 0xffff_0000 || (first..=last).contains(&65_534) {
        return Err(format!("'{text}' has users that are the system's or nobody; begin above 100000"));
    }
    Ok(first..=last)
}

/// Whose some users of a range are, if they are anybody's: by the files of accounts and of users for user namespaces.
pub fn taken(range: &RangeInclusive<u32>, etc: &Path) -> Option<String> {
    let lines = |name: &str| std::fs::read_to_string(etc.join(name)).unwrap_or_default();
    for name in ["passwd", "group"] {
        for line in lines(name).lines() {
            let mut fields = line.split(':');
            let (who, number) =
                (fields.next().unwrap_or_default(), fields.nth(1).and_then(|n| n.parse().ok()));
            if number.is_some_and(|number: u32| range.contains(&number)) {
                return Some(format!("{who} of {}/{name}", etc.display()));
            }
        }
    }
    for name in ["subuid", "subgid"] {
        for line in lines(name).lines() {
            let mut fields = line.split(':');
            let who = fields.next().unwrap_or_default();
            let mut number = || fields.next().and_then(|n| n.trim().parse::<u32>().ok());
            if let (Some(first), Some(count)) = (number(), number())
                && first <= *range.end()
                && first.saturating_add(count.saturating_sub(1)) >= *range.start()
                && count > 0
            {
                return Some(format!("{who} of {}/{name}", etc.display()));
            }
        }
    }
    None
}

/// The users of a worker.
pub(crate) struct Uids {
    free: RefCell<VecDeque<u32>>,
    count: usize,
    file: PathBuf,
    worker: String,
}

impl Uids {
    /// Takes a block of a range for a worker, or its own again.
    ///
    /// # Errors
    /// If all blocks are others', or the file cannot be read or written.
    pub(crate) fn claim(
        folder: &Path,
        worker: &str,
        range: &RangeInclusive<u32>,
    ) -> Result<Rc<Uids>, String> {
        let file = folder.join(FILE);
        let lives = |name: &str| folder.join(name).exists() || is_held(&folder.join(format!("{name}.lock")));
        let block = change(&file, |blocks| {
            if let Some((block, _)) = blocks.iter().find(|(_, name)| name == worker) {
                return Some(*block);
            }
            let holds = |block: u32, blocks: &[(u32, String)]| {
                blocks.iter().any(|(b, name)| *b == block && lives(name))
            };
            let free = (0..BLOCKS).find(|block| !holds(*block, blocks))?;
            blocks.retain(|(block, _)| *block != free);
            blocks.push((free, worker.to_string()));
            Some(free)
        })?;
        let block = block.ok_or_else(|| {
            format!("all {BLOCKS} blocks of users are other workers'; end one, or `elapse clean` what one has left")
        })?;
        let size = (range.end() - range.start() + 1) / BLOCKS;
        let first = range.start() + block * size;
        let free: VecDeque<u32> = (first..first + size).collect();
        Ok(Rc::new(Uids { count: free.len(), free: free.into(), file, worker: worker.to_string() }))
    }

    /// A user that no sandbox has, and none had for the longest time.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Uid> {
        let number = self.free.borrow_mut().pop_front()?;
        Some(Uid { number, of: Rc::clone(self) })
    }

    /// The user that a sandbox of an earlier life has.
    pub(crate) fn adopt(self: &Rc<Self>, number: u32) -> Option<Uid> {
        let mut free = self.free.borrow_mut();
        let place = free.iter().position(|n| *n == number)?;
        free.remove(place);
        drop(free);
        Some(Uid { number, of: Rc::clone(self) })
    }
}

impl Drop for Uids {
    fn drop(&mut self) {
        // What is left on the host keeps its user.
        if self.free.borrow().len() == self.count {
            let _ = change(&self.file, |blocks| blocks.retain(|(_, name)| *name != self.worker));
        }
    }
}

/// Whether a worker that lives has this lock: one that was killed leaves the file, and no lock.
fn is_held(lock: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    fs::open(lock, flags, Mode::empty())
        .is_ok_and(|file| fs::flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Reads the blocks, changes them and writes them again, one process at a time.
fn change<T>(path: &Path, change: impl FnOnce(&mut Vec<(u32, String)>) -> T) -> Result<T, String> {
    let cannot = |e: std::io::Error| format!("cannot change {}: {e}", path.display());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::open(path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| cannot(e.into()))?;
    let mut file = File::from(file);
    fs::flock(&file, FlockOperation::LockExclusive).map_err(|e| cannot(e.into()))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(cannot)?;
    let block = |line: &str| {
        let (number, name) = line.split_once(' ')?;
        Some((number.parse().ok()?, name.to_string()))
    };
    let mut blocks = text.lines().filter_map(block).collect();
    let changed = change(&mut blocks);
    let text: String = blocks.iter().map(|(number, name)| format!("{number} {name}\n")).collect();
    file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)?;
    Ok(changed)
}

/// A user of a sandbox's own, given back when it is dropped.
pub(crate) struct Uid {
    number: u32,
    of: Rc<Uids>,
}

impl Uid {
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Uid {
    fn drop(&mut self) {
        self.of.free.borrow_mut().push_back(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("elapse-uids-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn no_two_sandboxes_share_a_user_and_what_dies_keeps_its_own() {
        let (folder, range) = (folder("blocks"), range("200000-265535").expect("a range"));
        let one = Uids::claim(&folder, "one", &range).expect("a block");
        std::fs::create_dir(folder.join("one")).expect("it lives");
        let other = Uids::claim(&folder, "other", &range).expect("a block");
        let (a, b, c) = (one.take().expect("one"), one.take().expect("one"), other.take().expect("one"));
        assert_eq!((a.number(), b.number(), c.number()), (200_000, 200_001, 202_048));
        drop(a);
        assert_eq!(one.take().expect("one").number(), 200_002, "the one given back is last");
        // A life that is killed leaves its block behind, and the next one finds it.
        std::mem::forget(b);
        drop(one);
        let again = Uids::claim(&folder, "one", &range).expect("its own");
        let adopted = again.adopt(200_001).expect("it is free as far as this life knows");
        assert!(again.adopt(200_001).is_none());
        let all: Vec<Uid> = std::iter::from_fn(|| again.take()).collect();
        assert!(all.len() == 2047 && all.iter().all(|uid| uid.number() != adopted.number()));
        drop((all, adopted, again, c, other));
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).expect("there"), "");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn blocks_of_workers_that_are_gone_are_given_out_again() {
        let (folder, range) = (folder("gone"), range("200000-265535").expect("a range"));
        let text: String = (0..BLOCKS).map(|i| format!("{i} w{i}\n")).collect();
        std::fs::write(folder.join(FILE), text).expect("written");
        (0..BLOCKS - 1).for_each(|i| std::fs::create_dir(folder.join(format!("w{i}"))).expect("it lives"));
        let last = Uids::claim(&folder, "new", &range).expect("the last one's");
        assert_eq!(last.take().expect("one").number(), 200_000 + (BLOCKS - 1) * 2048);
        std::fs::create_dir(folder.join("new")).expect("it lives");
        let why = Uids::claim(&folder, "more", &range).map(drop).expect_err("none is left");
        assert!(why.contains("32 blocks"), "{why}");
        drop(last);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_range_is_nobody_elses() {
        for (text, part) in [
            ("many", "no range"),
            ("5-3", "fewer than 2048"),
            ("200000-200100", "fewer than 2048"),
            ("500-90000", "the system's"),
            ("60000-70000", "nobody"),
        ] {
            let why = range(text).expect_err(text);
            assert!(why.contains(part), "{why}");
        }
        let folder = folder("etc");
        let ours = range("200000-265535").expect("a range");
        assert_eq!(taken(&ours, &folder), None);
        std::fs::write(folder.join("subuid"), "nested:165536:65536\n").expect("written");
        assert!(taken(&ours, &folder).is_some_and(|who| who.starts_with("nested of ")));
        std::fs::write(folder.join("subuid"), "nested:100000:65536\n").expect("written");
        std::fs::write(folder.join("passwd"), "root:x:0:0::/root:/bin/sh\nother:x:200001:1::/:/bin/sh\n")
            .expect("written");
        assert!(taken(&ours, &folder).is_some_and(|who| who.starts_with("other of ")));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
