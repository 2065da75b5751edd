//! Where a table's bytes come from: a file as it is, gzip, zstd, or standard input.

#[cfg(feature = "compressed")]
use super::zstd::Zstd;
use crate::base::{Fault, Result};
#[cfg(feature = "compressed")]
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
#[cfg(feature = "compressed")]
use std::io::BufReader;
use std::io::{self, Cursor, ErrorKind, Read, Seek};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes, decompressed.
pub(super) enum Input {
    /// A regular file that is read as it is.
    File(File),
    /// Anything else.
    Stream(Box<dyn Read>),
}

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";
/// Bytes that tell what a file is.
const HEAD: usize = 16;

/// Whether standard input was given out: what was read of it is gone.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether a path means standard input.
pub(crate) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == STANDARD_INPUT
}

impl Input {
    /// Opens a path.
    pub(super) fn open(path: &Path) -> Result<Input> {
        let reading = |e: io::Error| Fault::reading(path, &e);
        if is_standard_input(path) {
            if TAKEN.swap(true, Ordering::Relaxed) {
                return Err(Fault::usage(
                    "standard input is read once only; give the other file, or run, a path",
                ));
            }
            return decompressed(Box::new(io::stdin())).map_err(reading);
        }
        let mut file = File::open(path).map_err(reading)?;
        let metadata = file.metadata().map_err(reading)?;
        if metadata.is_dir() {
            return Err(reading(ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() {
            let head = head_of(&mut file).map_err(reading)?;
            file.rewind().map_err(reading)?;
            if !is_gzip(&head) && !is_zstd(&head) {
                return Ok(Input::File(file));
            }
        }
        decompressed(Box::new(file)).map_err(reading)
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::File(file) => file.read(into),
            Input::Stream(stream) => stream.read(into),
        }
    }
}

/// What a stream holds, after decompression.
fn decompressed(mut stream: Box<dyn Read>) -> io::Result<Input> {
    let head = head_of(&mut stream)?;
    let (gzip, zstd) = (is_gzip(&head), is_zstd(&head));
    let whole = Cursor::new(head).chain(stream);
    #[cfg(feature = "compressed")]
    return Ok(Input::Stream(match (gzip, zstd) {
        (true, _) => Box::new(MultiGzDecoder::new(BufReader::new(whole))),
        (_, true) => Box::new(Zstd::new(BufReader::new(whole))),
        _ => Box::new(whole),
    }));
    #[cfg(not(feature = "compressed"))]
    match gzip || zstd {
        true => Err(io::Error::other(
            "it is compressed, and this program was built without what unpacks it; unpack it, or build the program whole (make build)",
        )),
        false => Ok(Input::Stream(Box::new(whole))),
    }
}

fn head_of(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    stream.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn is_gzip(head: &[u8]) -> bool {
    head.starts_with(b"\x1f\x8b")
}

/// A frame, or one to skip, with which files of parallel compressors begin.
fn is_zstd(head: &[u8]) -> bool {
    head.starts_with(b"\x28\xb5\x2f\xfd")
        || (head.len() > 3 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18")
}

/// What a file is that begins like this, and what to do about it; `None` for what may be a table.
pub(super) fn foreign(head: &[u8]) -> Option<&'static str> {
    const UTF_16: &str = "it is UTF-16 text; save it as UTF-8, for instance with iconv -f UTF-16 -t UTF-8";
    const KINDS: &[(&[u8], &str)] = &[
        (b"\xff\xfe", UTF_16),
        (b"\xfe\xff", UTF_16),
        (b"\x1f\x8b", "it is compressed twice; unpack it once"),
        (b"\x28\xb5\x2f\xfd", "it is compressed twice; unpack it once"),
        (b"BZh", "it is compressed with bzip2; of compressed files gzip and zstd are read"),
        (b"\xfd7zXZ\0", "it is compressed with xz; of compressed files gzip and zstd are read"),
        (b"\x04\x22\x4d\x18", "it is compressed with lz4; of compressed files gzip and zstd are read"),
        (b"7z\xbc\xaf", "it is a 7z archive; unpack it"),
        (b"PK\x03\x04", "it is a zip archive or a spreadsheet; unpack it, or export the sheet as CSV"),
        (b"PAR1", "it is a Parquet file; export it as CSV"),
    ];
    let head = &head[..head.len().min(64)];
    if let Some((_, what)) = KINDS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(what);
    }
    // Latin letters in UTF-16 without a mark have every other byte 0.
    let zero = |from: usize| head.len() >= 4 && head.iter().take(8).skip(from).step_by(2).all(|b| *b == 0);
    match head.contains(&0) {
        true if zero(0) || zero(1) => Some(UTF_16),
        true => Some("it is no text: there are zero bytes in it"),
        false => None,
    }
}
