//! The journal: what a worker must still know after it was killed. Append-only, checksummed, made durable on demand, and
//! compacted into what still holds.
//!
//! A file is a line that names its version, with its own checksum, then frames:
//!
//! ```text
//! mark 4 bytes | length u32 | number u64 | crc32 u32 | payload (JSON)        all little-endian
//! ```
//!
//! The checksum covers length, number and payload. Numbers count up by one, so a gap tells how many entries are lost. After
//! damage the reader looks for the next mark behind which a whole frame stands; a file that was cut ends with its last
//! whole frame. Whatever the bytes are, opening succeeds with every entry that is whole, and says what is not.

mod frame;

use elapse::base::{Fault, Result};
use frame::{Frame, Scan};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const VERSION: u32 = 1;
const TITLE: &str = "elapse journal ";

/// An open journal of entries `E`.
pub struct Journal<E> {
    path: PathBuf,
    file: File,
    /// The number of the next entry.
    next: u64,
    bytes: u64,
    /// The device has refused once to make it durable, and will not say so again of the same bytes.
    doubtful: Arc<AtomicBool>,
    entries: PhantomData<fn(E)>,
}

/// What opening a journal found.
pub struct Opened<E> {
    /// Ready for more.
    pub journal: Journal<E>,
    /// Every entry that is whole, in order.
    pub entries: Vec<E>,
    /// What is not, in words.
    pub lost: Vec<String>,
}

impl<E: Serialize + DeserializeOwned> Journal<E> {
    /// Opens a journal, or begins one. What was damaged is left out from then on, and told.
    ///
    /// # Errors
    /// If the file cannot be read or written, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Opened<E>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Fault::reading(path, &e)),
        };
        let mut lost = Vec::new();
        let start = match title(&bytes) {
            Title::Ours(length) => length,
            Title::Newer(version) => {
                return Err(Fault::usage(format!(
                    "cannot read {}: it was written by a newer Elapse (journal version {version}, this one knows {VERSION}); run that \
                     one, or move the file away to begin without what it knows",
                    path.display()
                )));
            }
            Title::Unknown => {
                if !bytes.is_empty() {
                    lost.push("its first line is damaged".to_string());
                }
                0
            }
        };
        let mut entries = Vec::new();
        let mut next = 0;
        let mut clean = lost.is_empty() && start > 0;
        // Where the last whole frame ends.
        let mut end = bytes.len();
        for found in Scan::new(&bytes, start) {
            match found {
                Frame::Whole { number, payload } => {
                    if number != next {
                        clean = false;
                        if number > next {
                            lost.push(missing(next, number));
                        }
                    }
                    next = number + 1;
                    match serde_json::from_slice(payload) {
                        Ok(entry) => entries.push(entry),
                        Err(e) => lost.push(format!("entry {number} is of no kind that is known here ({e})")),
                    }
                }
                Frame::Damaged { from, to } => {
                    clean = false;
                    if to == bytes.len() {
                        end = from;
                    }
                    let what = if to == bytes.len() { "cut off or damaged" } else { "damaged" };
                    lost.push(format!("bytes {from} to {to} are {what}"));
                }
            }
        }
        let mut journal = Journal {
            path: path.to_path_buf(),
            file: open(path)?,
            next,
            bytes: 0,
            doubtful: Arc::default(),
            entries: PhantomData,
        };
        if clean {
            journal.bytes = bytes.len() as u64;
            journal.file.seek(SeekFrom::End(0)).map_err(|e| Fault::writing(path, &e))?;
        } else {
            // A frame behind damage would be found again, but one behind a half-written one would not be its neighbour.
            if let Err(fault) = journal.compact(&entries) {
                // Of a full disk what is there can still be read, and cut: it goes on behind the last whole frame.
                tracing::warn!(target: "elapse", %fault, "the journal is damaged and cannot be written anew");
                let cut = journal.file.set_len(end as u64).and_then(|()| journal.file.seek(SeekFrom::End(0)));
                cut.map_err(|e| Fault::writing(path, &e))?;
                journal.bytes = end as u64;
                journal.doubtful.store(true, Ordering::Relaxed);
            }
        }
        Ok(Opened { journal, entries, lost })
    }

    /// Adds an entry. It survives this process, and after [`sync`](Journal::sync) the host's loss of power.
    ///
    /// # Errors
    /// If it cannot be written; the journal then ends with its last whole entry.
    pub fn append(&mut self, entry: &E) -> Result<()> {
        let frame = frame::encode(self.next, &payload(entry)?);
        if let Err(e) = self.file.write_all(&frame) {
            // What was half written goes, so that the next entry stands behind a whole one.
            let _ = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
            return Err(Fault::writing(&self.path, &e));
        }
        self.next += 1;
        self.bytes += frame.len() as u64;
        Ok(())
    }

    /// Makes everything that was added durable.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn sync(&self) -> Result<()> {
        self.syncing()?()
    }

    /// What makes durable everything that was added so far, for a thread that may wait for it.
    ///
    /// # Errors
    /// If the file cannot be shared with it.
    pub fn syncing(&self) -> Result<impl FnOnce() -> Result<()> + Send + 'static + use<E>> {
        let path = self.path.clone();
        let file = self.file.try_clone().map_err(|e| Fault::writing(&path, &e))?;
        let doubtful = Arc::clone(&self.doubtful);
        Ok(move || {
            file.sync_data().map_err(|e| {
                doubtful.store(true, Ordering::Relaxed);
                Fault::writing(&path, &e)
            })
        })
    }

    /// Whether what was added may be missing from the device although the file shows it: an earlier
    /// [`sync`](Journal::sync) failed, and Linux forgets such bytes. [`compact`](Journal::compact) writes all again.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Relaxed)
    }

    /// Entries since it was last compacted, those included.
    pub fn entries(&self) -> u64 {
        self.next
    }

    /// Writes these entries in the place of all that were added, durably: at every instant there is the old file or the new
    /// one.
    ///
    /// # Errors
    /// If they cannot be written; the journal is then as it was. Or the new one is there, and not known to be durable.
    pub fn compact(&mut self, entries: &[E]) -> Result<()> {
        let mut bytes = heading(VERSION).into_bytes();
        for (number, entry) in (0..).zip(entries) {
            bytes.extend_from_slice(&frame::encode(number, &payload(entry)?));
        }
        let beside = self.path.with_extension("new");
        let path = self.path.clone();
        let failed = |e: std::io::Error| Fault::writing(&path, &e);
        let write = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, &self.path)?;
            Ok(file)
        };
        self.file = write().map_err(|e| {
            let _ = std::fs::remove_file(&beside);
            failed(e)
        })?;
        self.next = entries.len() as u64;
        self.bytes = bytes.len() as u64;
        // The name is durable when its folder is. The file is the new one already, whatever becomes of that.
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = File::open(folder).and_then(|folder| folder.sync_all());
        self.doubtful.store(named.is_err(), Ordering::Relaxed);
        named.map_err(failed)
    }

    /// From now on writes vanish and the device refuses to make anything durable, as one that fails does.
    #[cfg(test)]
    pub(crate) fn device_fails(&mut self) {
        self.file = open(Path::new("/dev/null")).unwrap();
    }

    /// How long the file is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn payload<E: Serialize>(entry: &E) -> Result<Vec<u8>> {
    serde_json::to_vec(entry)
        .map_err(|e| Fault::bug(format!("an entry of the journal cannot be written: {e}")))
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|e| Fault::writing(path, &e))
}

fn missing(from: u64, to: u64) -> String {
    if to - from == 1 {
        format!("entry {from} is missing")
    } else {
        format!("entries {from} to {} are missing", to - 1)
    }
}

enum Title {
    /// Ours, and so long.
    Ours(usize),
    Newer(u32),
    Unknown,
}

/// The first line of a version. Its checksum tells a newer version from damage.
fn heading(version: u32) -> String {
    let words = format!("{TITLE}{version}");
    format!("{words} {:08x}\n", crc32fast::hash(words.as_bytes()))
}

fn title(bytes: &[u8]) -> Title {
    let line = bytes.iter().take(64).position(|b| *b == b'\n').map(|end| &bytes[..end]);
    let version = line.and_then(|line| {
        let (words, sum) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
        let whole = u32::from_str_radix(sum, 16).is_ok_and(|sum| sum == crc32fast::hash(words.as_bytes()));
        words.strip_prefix(TITLE)?.parse::<u32>().ok().filter(|_| whole)
    });
    match version {
        Some(version) if version > VERSION => Title::Newer(version),
        Some(_) => Title::Ours(line.map_or(0, <[u8]>::len) + 1),
        None => Title::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("elapse-journal-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("journal")
    }

    fn gone(path: &Path) {
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }

    fn written(path: &Path, entries: &[String]) -> Vec<u8> {
        let _ = std::fs::remove_file(path);
        let mut journal = Journal::<String>::open(path).unwrap().journal;
        entries.iter().for_each(|e| journal.append(e).unwrap());
        journal.sync().unwrap();
        std::fs::read(path).unwrap()
    }

    /// Where each entry's frame ends.
    fn ends(entries: &[String]) -> Vec<usize> {
        let mut at = heading(VERSION).len();
        entries
            .iter()
            .enumerate()
            .map(|(n, e)| {
                at += frame::encode(n as u64, &serde_json::to_vec(e).unwrap()).len();
                at
            })
            .collect()
    }

    fn five() -> Vec<String> {
        (0..5).map(|i| format!("entry {i} {}", "x".repeat(i * 7))).collect()
    }

    #[test]
    fn cut_at_every_byte_it_opens_with_the_entries_before_the_cut() {
        let path = place("cut");
        let entries = five();
        let (whole, ends) = (written(&path, &entries), ends(&entries));
        assert_eq!(ends.last(), Some(&whole.len()));
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut opened = Journal::<String>::open(&path).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(opened.entries, entries[..kept], "cut at {cut}");
            let at_an_end = cut == 0 || cut == heading(VERSION).len() || ends.contains(&cut);
            assert_eq!(opened.lost.is_empty(), at_an_end, "cut at {cut}: {:?}", opened.lost);
            // It goes on from there, and nothing of the cut is seen again.
            opened.journal.append(&"more".to_string()).unwrap();
            let again = Journal::<String>::open(&path).unwrap();
            assert_eq!((again.entries.len(), again.lost.len()), (kept + 1, 0), "cut at {cut}");
        }
        gone(&path);
    }

    /// As on a full disk: nothing can be written anew, and what is there is still read and goes on.
    #[test]
    fn one_that_cannot_be_written_anew_opens_and_goes_on() {
        let path = place("full");
        let entries = five();
        let whole = written(&path, &entries);
        for cut in [whole.len() - 3, whole.len()] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            // Where the new file would be, there is a folder.
            std::fs::create_dir_all(path.with_extension("new")).unwrap();
            let mut opened = Journal::<String>::open(&path).unwrap();
            let kept = if cut == whole.len() { 5 } else { 4 };
            assert_eq!(opened.entries, entries[..kept]);
            assert_eq!(opened.journal.is_doubtful(), cut != whole.len());
            opened.journal.append(&"more".to_string()).unwrap();
            assert!(opened.journal.compact(&entries).is_err());
            std::fs::remove_dir(path.with_extension("new")).unwrap();
            let again = Journal::<String>::open(&path).unwrap();
            assert_eq!((again.entries.len(), again.lost.len()), (kept + 1, 0), "{:?}", again.lost);
        }
        gone(&path);
    }

    #[test]
    fn damaged_at_every_byte_it_loses_that_entry_and_says_so() {
        let path = place("damage");
        let entries = five();
        let (whole, ends) = (written(&path, &entries), ends(&entries));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let opened = Journal::<String>::open(&path).unwrap();
            let hit = ends.iter().position(|end| at < *end).filter(|_| at >= heading(VERSION).len());
            let expected: Vec<&String> =
                entries.iter().enumerate().filter(|(i, _)| Some(*i) != hit).map(|(_, e)| e).collect();
            assert_eq!(opened.entries.iter().collect::<Vec<_>>(), expected, "damaged at {at}");
            assert!(!opened.lost.is_empty(), "damaged at {at}");
        }
        gone(&path);
    }

    #[test]
    fn a_newer_version_is_refused_in_a_sentence() {
        let path = place("newer");
        std::fs::write(&path, format!("{}what this one cannot know", heading(2))).unwrap();
        let fault = Journal::<String>::open(&path).err().unwrap().to_string();
        assert!(fault.contains("newer Elapse (journal version 2, this one knows 1)"), "{fault}");
        gone(&path);
    }

    #[test]
    fn compaction_keeps_what_holds() {
        let path = place("compact");
        written(&path, &five());
        let mut opened = Journal::<String>::open(&path).unwrap();
        let before = opened.journal.bytes();
        opened.journal.compact(&["kept".to_string()]).unwrap();
        assert!(opened.journal.bytes() < before);
        opened.journal.append(&"after".to_string()).unwrap();
        let again = Journal::<String>::open(&path).unwrap();
        assert_eq!((again.entries, again.lost), (vec!["kept".to_string(), "after".to_string()], vec![]));
        gone(&path);
    }

    #[test]
    fn what_a_device_refused_is_in_doubt_until_all_is_written_again() {
        let path = place("refused");
        written(&path, &five());
        let Opened { mut journal, mut entries, .. } = Journal::<String>::open(&path).unwrap();
        journal.device_fails();
        entries.push("sixth".to_string());
        journal.append(&entries[5]).unwrap();
        let refused = journal.sync().unwrap_err().to_string();
        assert!(refused.contains(path.to_str().unwrap()) && journal.is_doubtful(), "{refused}");
        assert_eq!(Journal::<String>::open(&path).unwrap().entries, five());
        journal.compact(&entries).unwrap();
        journal.sync().unwrap();
        assert!(!journal.is_doubtful());
        assert_eq!(Journal::<String>::open(&path).unwrap().entries, entries);
        gone(&path);
    }

    proptest! {
        /// Whatever happens to the bytes, every entry that is read was written, in its order.
        #[test]
        fn nothing_is_ever_made_up(
            entries in prop::collection::vec("[a-z]{0,40}", 0..12),
            wounds in prop::collection::vec((any::<u16>(), any::<u8>()), 0..6),
            cut in any::<u16>(),
        ) {
            let path = place("random");
            let mut bytes = written(&path, &entries);
            for (at, value) in wounds {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(bytes.len() - usize::from(cut) % (bytes.len() / 2));
            std::fs::write(&path, &bytes).unwrap();
            // It opens, whatever the bytes are.
            let opened = Journal::<String>::open(&path).unwrap();
            let mut rest = entries.iter();
            for entry in &opened.entries {
                prop_assert!(rest.any(|e| e == entry), "{entry} was not written, or not there");
            }
            gone(&path);
        }
    }
}
