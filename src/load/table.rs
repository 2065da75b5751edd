//! Reading CSV tables: columns by name, faults by file and line.

use crate::base::{Fault, NumberFault, Result, interrupt, nearest};
use memchr::memchr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open CSV file with a header.
///
/// Lines without quotes, which are all lines of all trace formats, are split here, eight bytes at a time; a line with a
/// quote goes through the csv crate. Measured on a million rows of three fields: 200 instructions for a row against
/// 550 when every row went through the crate.
pub(super) struct Table {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read and not used yet.
    unread: std::ops::Range<usize>,
    line: u64,
    /// The present row in `buffer`, and where its fields end in it; or its fields, if it had quotes.
    row: std::ops::Range<usize>,
    ends: Vec<u32>,
    quoted: Option<csv::ByteRecord>,
    pub(super) header: Vec<String>,
}

const CHUNK: usize = 1 << 16;
/// Bytes of the buffer that are never read into, so that a word at the end of what was read is whole.
const SLACK: usize = 8;

/// What a search for the end of a line met first.
enum Scan {
    /// The line's end, so many bytes after its start.
    Line(usize),
    /// A field in quotes.
    Quote,
    /// The end of what was read; so many bytes were searched.
    More(usize),
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Table> {
        let file = File::open(path).map_err(|e| Fault::reading(path, &e))?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(Fault::reading(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let mut table = Table {
            path: path.to_path_buf(),
            file,
            buffer: vec![0; CHUNK + SLACK],
            unread: 0..0,
            line: 0,
            row: 0..0,
            ends: Vec::new(),
            quoted: None,
            header: Vec::new(),
        };
        if !table.next_row()? {
            return Err(Fault::usage(format!(
                "cannot read {}: it is empty; a header line is expected",
                path.display()
            )));
        }
        let text =
            |i| String::from_utf8_lossy(table.field(i)).trim_start_matches('\u{feff}').trim().to_string();
        table.header = (0..table.len()).map(text).collect();
        Ok(table)
    }

    /// The number in this column of the file's last row, times `scale`; `None` if that is no row as nearly all are. It says
    /// how far a sorted table goes before it is read.
    pub(super) fn last_decimal(&self, column: usize, scale: u64) -> Option<u64> {
        const TAIL: usize = 4096;
        let length = self.file.metadata().ok()?.len();
        let mut tail = vec![0; TAIL.min(length as usize)];
        // Beside what is read row by row: this moves nothing.
        let from = length - tail.len() as u64;
        self.file.read_exact_at(&mut tail, from).ok()?;
        let mut lines = tail.rsplit(|c| *c == b'\n').skip_while(|line| line.is_empty());
        // What stands before it shows that it is whole.
        let (last, _) = (lines.next()?, lines.next()?);
        let field = last.split(|c| *c == b',').nth(column).filter(|_| !last.contains(&b'"'))?;
        crate::base::decimal(field.trim_ascii_end(), scale).ok()
    }

    /// Reads more of the file; false at its end.
    #[cold]
    fn fill(&mut self) -> Result<bool> {
        interrupt::check()?;
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end + SLACK >= self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let room = self.buffer.len() - SLACK;
        let n = self
            .file
            .read(&mut self.buffer[self.unread.end..room])
            .map_err(|e| Fault::reading(&self.path, &e))?;
        self.unread.end += n;
        Ok(n > 0)
    }

    /// Finds the end of the line that begins `from` bytes after the first unread one; `None` at the end of the file.
    #[inline]
    fn line_end(&mut self, from: usize) -> Result<Option<usize>> {
        let mut searched = from;
        loop {
            let part = &self.buffer[self.unread.start + searched..self.unread.end];
            if let Some(n) = memchr(b'\n', part) {
                return Ok(Some(searched + n));
            }
            searched = self.unread.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Splits the next row; false at the end of the file.
    #[inline]
    fn next_row(&mut self) -> Result<bool> {
        loop {
            self.ends.clear();
            self.quoted = None;
            // Relative to the row's start: reading more moves the row within the buffer.
            let mut searched = 0;
            let end = loop {
                match self.scan(searched) {
                    Scan::Line(end) => break Some(end),
                    Scan::Quote => {
                        self.line += 1;
                        self.read_quoted()?;
                        return Ok(true);
                    }
                    Scan::More(from) => searched = from,
                }
                if !self.fill()? {
                    break None;
                }
            };
            let start = self.unread.start;
            let length = end.unwrap_or(self.unread.len());
            if length == 0 && end.is_none() {
                return Ok(false);
            }
            self.line += 1;
            self.unread.start = (start + length + 1).min(self.unread.end);
            let length = length - usize::from(length > 0 && self.buffer[start + length - 1] == b'\r');
            if length == 0 {
                continue;
            }
            self.row = start..start + length;
            self.ends.push(length as u32);
            return Ok(true);
        }
    }

    /// Looks for commas and the line's end, eight bytes at a time, from `from` bytes after the row's start on.
    #[inline]
    fn scan(&mut self, from: usize) -> Scan {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let unread = &self.buffer[self.unread.start..];
        let length = self.unread.len();
        let mut at = from;
        while at < length {
            // The buffer is longer than what was read, so that the last word is whole too.
            let Some(word) = unread.get(at..).and_then(<[u8]>::first_chunk) else { break };
            let word = u64::from_le_bytes(*word);
            // The high bit of every byte that is at most a comma, which lines, commas and quotes are, and digits not.
            let mut low = !((word | HIGH) - ONES * u64::from(b',' + 1)) & !word & HIGH;
            while low != 0 {
                let here = at + (low.trailing_zeros() / 8) as usize;
                low &= low - 1;
                if here >= length {
                    break;
                }
                match unread[here] {
                    b',' => self.ends.push(here as u32),
                    b'\n' => return Scan::Line(here),
                    // Elsewhere than at the start of a field, a quote is a character like any other.
                    b'"' if here == 0 || unread[here - 1] == b',' => return Scan::Quote,
                    _ => {}
                }
            }
            at += 8;
        }
        Scan::More(length)
    }

    /// Reads a row with quotes, which may span lines.
    #[cold]
    fn read_quoted(&mut self) -> Result<()> {
        let (mut length, mut counted, mut quotes) = (0, 0, 0);
        loop {
            let found = self.line_end(length)?;
            length = found.unwrap_or(self.unread.len());
            let text = &self.buffer[self.unread.start..self.unread.start + length];
            quotes += text[counted..].iter().filter(|b| **b == b'"').count();
            counted = length;
            if found.is_none() || quotes % 2 == 0 {
                break;
            }
            length += 1;
        }
        let text = &self.buffer[self.unread.start..self.unread.start + length];
        let mut record = csv::ByteRecord::new();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        reader.read_byte_record(&mut record).map_err(|e| self.fault(e))?;
        // A quote out of place may make one record of less than these lines: only what was read is used up.
        let used = (reader.position().byte() as usize).min(length);
        self.line += text[..used].iter().filter(|b| **b == b'\n').count() as u64;
        let next = self.unread.start + used + usize::from(used == length);
        self.line -= u64::from(used < length);
        self.unread.start = next.min(self.unread.end);
        self.quoted = Some(record);
        Ok(())
    }

    /// What is read and not used yet, with a few bytes more that mean nothing.
    #[inline]
    pub(super) fn ahead(&self) -> &[u8] {
        &self.buffer[self.unread.start..self.unread.end + SLACK]
    }

    /// Declares that a row of so many bytes, its line's end included, was used. False, and nothing is done, if it is not
    /// there as a whole.
    #[inline]
    pub(super) fn use_row(&mut self, bytes: usize) -> bool {
        let whole = bytes <= self.unread.len();
        if whole {
            self.unread.start += bytes;
            self.line += 1;
        }
        whole
    }

    fn len(&self) -> usize {
        self.quoted.as_ref().map_or(self.ends.len(), csv::ByteRecord::len)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a column that must be there.
    pub(super) fn column(&self, name: &str) -> Result<usize> {
        self.optional(name).ok_or_else(|| {
            let hint = nearest(name, self.header.iter().map(String::as_str)).filter(|h| h.len() < 40);
            let hint = hint.map_or(String::new(), |h| format!("; did '{h}' mean it?"));
            Fault::at(&self.path, 1, format!("there is no column '{name}'{hint}"))
        })
    }

    pub(super) fn optional(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|h| h == name)
    }

    /// Reads the next row; false at the end. A row with fewer fields than the header is a fault.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool> {
        if !self.next_row()? {
            return Ok(false);
        }
        if self.len() < self.header.len() {
            return Err(self.short_row());
        }
        Ok(true)
    }

    #[cold]
    fn short_row(&self) -> Fault {
        let (there, all) = (self.len(), self.header.len());
        self.fault(format!("the row has {there} of {all} columns; is the file truncated?"))
    }

    /// A fault in the present row.
    #[cold]
    pub(super) fn fault(&self, message: impl std::fmt::Display) -> Fault {
        Fault::at(&self.path, self.line, message)
    }

    #[inline]
    pub(super) fn field(&self, column: usize) -> &[u8] {
        if let Some(record) = &self.quoted {
            return record.get(column).unwrap_or_default();
        }
        let Some(&end) = self.ends.get(column) else { return &[] };
        let start = if column == 0 { 0 } else { self.ends[column - 1] as usize + 1 };
        &self.buffer[self.row.start + start..self.row.start + end as usize]
    }

    pub(super) fn text(&self, column: usize) -> Result<&str> {
        std::str::from_utf8(self.field(column))
            .map(str::trim)
            .map_err(|_| self.fault("a field is not UTF-8 text"))
    }

    /// A number times `scale`, told with its column's name if it is none.
    #[inline]
    pub(super) fn decimal(&self, column: usize, scale: u64, unit: &str) -> Result<u64> {
        crate::base::decimal(self.field(column), scale).map_err(|why| self.bad_number(column, why, unit))
    }

    #[cold]
    fn bad_number(&self, column: usize, why: NumberFault, unit: &str) -> Fault {
        let name = self.header.get(column).map_or("?", String::as_str);
        let value = String::from_utf8_lossy(self.field(column)).into_owned();
        self.fault(format!("{name} '{value}' {why}; it is {unit} >= 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, text: &str) -> Table {
        let path = std::env::temp_dir().join(format!("elapse-table-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let table = Table::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        table
    }

    #[test]
    fn rows_are_those_of_the_csv_crate() {
        let long = "x".repeat(3 * CHUNK);
        let text = format!(
            "a,b,c\r\n1,2,3\n\n\"q,1\",\"say \"\"so\"\"\",5\n,,\n\"two\nlines\",\"{long}\",7\r\n{long},8,9\n10,11,12"
        );
        let mut ours = table("rows", &text);
        let mut theirs = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let mut rows = 0;
        for record in theirs.byte_records() {
            let record = record.unwrap();
            assert!(ours.advance().unwrap());
            let fields: Vec<&[u8]> = (0..ours.len()).map(|i| ours.field(i)).collect();
            assert!(fields == record.iter().collect::<Vec<_>>(), "row {rows}");
            rows += 1;
        }
        assert!(!ours.advance().unwrap());
        assert_eq!((rows, ours.line), (6, 9));
    }

    #[test]
    fn the_last_row_is_known_before_it_is_read() {
        let last = |text: &str| table("last", text).last_decimal(1, 1_000_000);
        assert_eq!(last("a,t\nx,1.5\ny,2.25\n"), Some(2_250_000));
        assert_eq!(last(&format!("a,t\n{}z,7", "x,1\n".repeat(5000))), Some(7_000_000));
        let unknown = ["a,t\n", "a,t\nx,1\n\"y\",2\n", "a,t\nx,1\nshort\n"].map(last);
        assert_eq!(unknown, [None, None, None]);
        let mut read = table("last-read", "a,t\nx,1\ny,2\n");
        assert!(read.last_decimal(1, 1).is_some() && read.advance().unwrap());
        assert_eq!(read.text(0).unwrap(), "x", "nothing was used up");
    }

    #[test]
    fn a_quote_out_of_place_swallows_no_rows() {
        let mut ours = table("stray", "a,b,c\n0,a\"b,1\n1,f,1\n2,c\"d,1\n3,\"x\" y\"z,1\n4,g,1\n");
        let mut rows = Vec::new();
        while ours.advance().unwrap() {
            rows.push(ours.text(0).unwrap().to_string());
        }
        assert_eq!(rows, ["0", "1", "2", "3", "4"]);
    }

    #[test]
    fn a_short_row_tells_its_line() {
        let mut short = table("short", "a,b\n1,2\n\n3");
        assert!(short.advance().unwrap());
        let said = short.advance().unwrap_err().to_string();
        assert!(said.contains("line 4: the row has 1 of 2 columns"), "{said}");
    }
}
