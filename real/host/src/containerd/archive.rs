//! A tar archive with the files of an image, which is looked at and never in memory as a whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Files that an archive may have: as many as an image of several platforms, and more.
const FILES: usize = 10_000;
/// Longest file that is read as a whole: a manifest or a configuration. The specification asks for 4 MiB.
pub(super) const SMALL: u64 = 16 << 20;

/// See the module.
pub(super) struct Archive {
    bytes: Bytes,
    /// Where each file begins, and how long it is.
    files: HashMap<String, (u64, u64)>,
}

enum Bytes {
    Memory(Vec<u8>),
    File(File),
}

impl Archive {
    /// One that was just made.
    ///
    /// # Errors
    /// If it is no archive.
    pub(super) fn of(tar: Vec<u8>) -> Result<Archive, String> {
        let files = index(Cursor::new(&tar))?;
        Ok(Archive { bytes: Bytes::Memory(tar), files })
    }

    /// One in a file. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, is no file, or no archive.
    pub(super) fn open(path: &Path) -> Result<Archive, String> {
        let wait_for_nobody = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file =
            File::options().read(true).custom_flags(wait_for_nobody).open(path).map_err(|e| e.to_string())?;
        if !file.metadata().map_err(|e| e.to_string())?.is_file() {
            return Err("it is no file".into());
        }
        let files = index(&file)?;
        Ok(Archive { bytes: Bytes::File(file), files })
    }

    /// How long a file in it is, if there is one.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|(_, size)| *size)
    }

    /// A short file as a whole. Blocks.
    ///
    /// # Errors
    /// If there is none, it is too long, or cannot be read.
    pub(super) fn small(&self, name: &str) -> Result<Vec<u8>, String> {
        match self.size(name) {
            None => Err(format!("its {name} is missing")),
            Some(size) if size > SMALL => {
                Err(format!("its {name} has {size} bytes, and {SMALL} at most are read"))
            }
            Some(size) => self.part(name, 0, size as usize),
        }
    }

    /// So many bytes of a file from a place on, or as many as there are. Blocks.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be read.
    pub(super) fn part(&self, name: &str, from: u64, most: usize) -> Result<Vec<u8>, String> {
        let (begin, size) = self.files.get(name).ok_or_else(|| format!("its {name} is missing"))?;
        let length = size.saturating_sub(from).min(most as u64) as usize;
        let mut bytes = vec![0; length];
        let at = begin + from;
        match &self.bytes {
            Bytes::Memory(all) => {
                let at = at as usize;
                let there = all.get(at..at + length).ok_or_else(|| format!("its {name} ends too early"))?;
                bytes.copy_from_slice(there);
            }
            Bytes::File(file) => {
                file.read_exact_at(&mut bytes, at).map_err(|e| format!("its {name}: {e}"))?
            }
        }
        Ok(bytes)
    }
}

/// Where the files of an archive are. Links and devices in it are none.
fn index(tar: impl Read + Seek) -> Result<HashMap<String, (u64, u64)>, String> {
    let mut files = HashMap::new();
    let wrong = |e: io::Error| format!("it is no tar archive: {e}");
    let mut archive = tar::Archive::new(tar);
    for (number, entry) in archive.entries_with_seek().map_err(wrong)?.enumerate() {
        if number >= FILES {
            return Err(format!("it has more than {FILES} files"));
        }
        let entry = entry.map_err(wrong)?;
        if entry.header().entry_type().is_file() {
            let path = entry.path().map_err(wrong)?.to_string_lossy().into_owned();
            files
                .insert(path.trim_start_matches("./").to_string(), (entry.raw_file_position(), entry.size()));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_read_in_parts_and_nothing_else_is_a_file() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            if kind.is_symlink() {
                header.set_link_name("/etc/shadow").expect("a link");
            }
            header.set_cksum();
            tar.append_data(&mut header, name, bytes).expect("an entry");
        };
        add("./a", tar::EntryType::Regular, b"0123456789");
        add("link", tar::EntryType::Symlink, b"");
        add("fifo", tar::EntryType::Fifo, b"");
        let archive = Archive::of(tar.into_inner().expect("an archive")).expect("an archive");
        assert_eq!(archive.small("a").expect("a file"), b"0123456789");
        assert_eq!(archive.part("a", 8, 100).expect("its end"), b"89");
        assert_eq!(archive.part("a", 100, 1).expect("nothing"), b"");
        for none in ["link", "fifo", "b"] {
            assert!(archive.small(none).expect_err(none).contains("missing"));
        }
        assert!(Archive::of(b"no archive, and longer than a block of one".repeat(40)).is_err());
        let fifo = std::env::temp_dir().join(format!("elapse-archive-{}", std::process::id()));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("a pipe");
        assert!(Archive::open(&fifo).err().expect("a pipe").contains("it is no file"));
        std::fs::remove_file(&fifo).expect("removed");
        assert!(Archive::open(Path::new("/dev/zero")).err().expect("a device").contains("it is no file"));
    }
}
