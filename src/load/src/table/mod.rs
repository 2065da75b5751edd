//! Reading CSV tables: columns by name, faults by file and line.

mod input;
#[cfg(feature = "compressed")]
mod zstd;

use super::Notes;
use crate::base::{Fault, NumberFault, Result, interrupt, nearest, time_of};
pub(super) use input::is_standard_input;
use input::{Input, foreign};
use memchr::memchr;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// An open CSV file with a header.
///
/// Lines without quotes, which are all lines of all trace formats, are split here, eight bytes at a time; a line with a
/// quote goes through the csv crate. Measured on a million rows of three fields: 200 instructions for a row against
/// 550 when every row went through the crate.
pub(super) struct Table {
    path: PathBuf,
    input: Input,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read and not used yet.
    unread: std::ops::Range<usize>,
    line: u64,
    /// The present row in `buffer`, and where its fields end in it; or its fields, if it had quotes.
    row: std::ops::Range<usize>,
    ends: Vec<u32>,
    quoted: Option<csv::ByteRecord>,
    pub(super) header: Vec<String>,
    /// Which columns somebody asked for.
    used: Vec<bool>,
}

const CHUNK: usize = 1 << 16;
/// The longest row that is read; what is longer is no row, and its length is not for others to choose.
const LONGEST: usize = 1 << 24;
/// Nanoseconds of the unit in which tables have their times.
const MS: u64 = 1_000_000;
/// Bytes of the buffer that are never read into, so that a word at the end of what was read is whole.
const SLACK: usize = 8;

/// What comes next in a table.
pub(super) enum Step {
    /// Nothing.
    End,
    /// A row.
    Row,
    /// A row that has not as many fields as the header.
    Misfit,
}

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
    /// Opens a file, or standard input where the path is `-`, decompresses it where it is compressed, and reads the header.
    pub(super) fn open(path: &Path) -> Result<Table> {
        let name = if is_standard_input(path) { Path::new("standard input") } else { path };
        let mut table = Table {
            path: name.to_path_buf(),
            input: Input::open(path)?,
            buffer: vec![0; CHUNK + SLACK],
            unread: 0..0,
            line: 0,
            row: 0..0,
            ends: Vec::new(),
            quoted: None,
            header: Vec::new(),
            used: Vec::new(),
        };
        table.fill()?;
        if let Some(what) = foreign(&table.buffer[table.unread.clone()]) {
            return Err(Fault::usage(format!("cannot read {}: {what}", table.path.display())));
        }
        if !table.next_row()? {
            return Err(Fault::usage(format!(
                "cannot read {}: it is empty; a header line is expected",
                table.path.display()
            )));
        }
        let text =
            |i| String::from_utf8_lossy(table.field(i)).trim_start_matches('\u{feff}').trim().to_string();
        table.header = (0..table.len()).map(text).collect();
        table.used = vec![false; table.header.len()];
        table.check_separator()?;
        Ok(table)
    }

    /// Refuses a header that is one column because others than commas stand between its names.
    fn check_separator(&self) -> Result<()> {
        let [only] = self.header.as_slice() else { return Ok(()) };
        let separators = [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")];
        match separators.iter().find(|(separator, _)| only.contains(*separator)) {
            Some((_, name)) => Err(self
                .fault(format!("the columns are separated by {name}; write commas, and points in numbers"))),
            None => Ok(()),
        }
    }

    /// The number in this column of the file's last row, times `scale`; `None` if that is no row as nearly all are. It says
    /// how far a sorted table goes before it is read. `None` too for what is compressed, or no file.
    pub(super) fn last_decimal(&self, column: usize, scale: u64) -> Option<u64> {
        const TAIL: usize = 4096;
        let Input::File(file) = &self.input else { return None };
        let length = file.metadata().ok()?.len();
        let mut tail = vec![0; TAIL.min(length as usize)];
        // Beside what is read row by row: this moves nothing.
        let from = length - tail.len() as u64;
        file.read_exact_at(&mut tail, from).ok()?;
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
            if self.buffer.len() > LONGEST {
                let what = "the row is longer than 16 MiB; is a quote not closed, or is it no CSV file?";
                return Err(Fault::at(&self.path, self.line + 1, what));
            }
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        let room = self.buffer.len() - SLACK;
        let n = self
            .input
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
        let start = self.unread.start;
        let next = (start + used + usize::from(used == length)).min(self.unread.end);
        self.line -= u64::from(used < length);
        self.row = start..next;
        self.unread.start = next;
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

    /// Goes back to before the present row, which is then the next one.
    pub(super) fn put_back(&mut self) {
        let row = &self.buffer[self.row.start..self.unread.start];
        let lines = row.iter().filter(|b| **b == b'\n').count() + usize::from(!row.ends_with(b"\n"));
        self.line -= lines as u64;
        self.unread.start = self.row.start;
    }

    /// The place of a column that must be there.
    pub(super) fn column(&mut self, name: &str) -> Result<usize> {
        let found = self.optional(name)?;
        found.ok_or_else(|| {
            let hint = nearest(name, self.header.iter().map(String::as_str)).filter(|h| h.len() < 40);
            let hint = hint.map_or(String::new(), |h| format!("; did '{h}' mean it?"));
            Fault::at(&self.path, 1, format!("there is no column '{name}'{hint}"))
        })
    }

    /// The place of a column, if it is there.
    ///
    /// # Errors
    /// If it is there twice.
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<usize>> {
        let mut places = self.header.iter().enumerate().filter(|(_, h)| *h == name).map(|(i, _)| i);
        let (first, second) = (places.next(), places.next());
        if second.is_some() {
            return Err(self.twice(name));
        }
        if let Some(column) = first {
            self.used[column] = true;
        }
        Ok(first)
    }

    /// Whether there is such a column; it does not count as used.
    pub(super) fn has(&self, name: &str) -> bool {
        self.header.iter().any(|h| h == name)
    }

    fn twice(&self, name: &str) -> Fault {
        Fault::at(&self.path, 1, format!("the column '{name}' is there twice; remove or rename one"))
    }

    /// Refuses a header that names any column twice.
    pub(super) fn check_header(&self) -> Result<()> {
        let mut seen = rustc_hash::FxHashSet::default();
        match self.header.iter().find(|name| !name.is_empty() && !seen.insert(*name)) {
            Some(name) => Err(self.twice(name)),
            None => Ok(()),
        }
    }

    /// Says that columns from here on, so many, are used.
    pub(super) fn mark_used(&mut self, from: usize, columns: usize) {
        self.used[from..from + columns].fill(true);
    }

    /// The columns that nobody asked for, with the file's name; nothing if there are none. Names that differ in a number at
    /// their end are told together.
    pub(super) fn unused(&self) -> Option<String> {
        const NAMED: usize = 12;
        let mut names: Vec<(String, Vec<&str>)> = Vec::new();
        let unused = self.header.iter().zip(&self.used).filter(|(name, used)| !**used && !name.is_empty());
        for (name, _) in unused {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            let (short, number) = (stem.chars().take(40).collect::<String>(), &name[stem.len()..]);
            match names.last_mut() {
                Some((last, numbers)) if *last == short && !number.is_empty() => numbers.push(number),
                _ => names.push((short, vec![number])),
            }
        }
        let more = names.len().saturating_sub(NAMED);
        let named = names.iter().take(NAMED).map(|(stem, numbers)| match numbers.as_slice() {
            [one] => format!("{stem}{one}"),
            several => format!("{stem}{{{}}}", several.join(",")),
        });
        let named: Vec<String> = named.collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let file = self.path.file_name().map_or_else(|| self.path.to_string_lossy(), |n| n.to_string_lossy());
        (!named.is_empty()).then(|| format!("{}{more} of {file}", named.join(", ")))
    }

    /// Reads the next row, whatever its number of fields.
    #[inline]
    pub(super) fn step(&mut self) -> Result<Step> {
        Ok(match self.next_row()? {
            false => Step::End,
            true if self.len() == self.header.len() => Step::Row,
            true => Step::Misfit,
        })
    }

    /// Reads the next row that has as many fields as the header, or empty ones beyond; false at the end. Others are counted.
    pub(super) fn advance_counting(&mut self, notes: &mut Notes) -> Result<bool> {
        loop {
            match self.step()? {
                Step::End => return Ok(false),
                Step::Row => return Ok(true),
                Step::Misfit => {}
            }
            let beyond = self.header.len()..self.len();
            if !beyond.is_empty() && beyond.clone().all(|i| self.field(i).trim_ascii().is_empty()) {
                return Ok(true);
            }
            notes.count(MISFITS, 1);
        }
    }

    /// The fault of a row that has not as many fields as the header.
    #[cold]
    pub(super) fn misfit(&self) -> Fault {
        let (there, all) = (self.len(), self.header.len());
        self.fault(match there < all {
            true => format!("the row has {there} of {all} columns; is the file truncated?"),
            false => format!(
                "the row has {there} of {all} columns; write decimals with a point, and text that has a comma in quotes"
            ),
        })
    }

    /// A number that is the same for equal rows, and differs for others.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.quoted {
            None => hasher.write(&self.buffer[self.row.clone()]),
            Some(record) => {
                for (i, field) in record.iter().enumerate() {
                    hasher.write(if i == 0 { b"" } else { b"," });
                    hasher.write(field);
                }
            }
        }
        hasher.finish()
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

    /// The text of a field without the spaces around it; `None` if it is not UTF-8.
    pub(super) fn cell(&self, column: usize) -> Option<&str> {
        std::str::from_utf8(self.field(column)).ok().map(str::trim)
    }

    pub(super) fn text(&self, column: usize) -> Result<&str> {
        self.cell(column).ok_or_else(|| self.fault("a field is not UTF-8 text"))
    }

    /// A number times `scale`.
    #[inline]
    pub(super) fn decimal(&self, column: usize, scale: u64) -> Result<u64, NumberFault> {
        crate::base::decimal(self.field(column), scale)
    }

    /// A time in milliseconds, to the nearest nanosecond.
    #[inline]
    pub(super) fn millis(&self, column: usize) -> Result<u64, NumberFault> {
        time_of(self.field(column), MS)
    }

    /// The fault of a number that cannot be used, told with its column's name.
    #[cold]
    pub(super) fn bad_number(&self, column: usize, why: NumberFault, unit: &str) -> Fault {
        let name = self.header.get(column).map_or("?", String::as_str);
        let value = String::from_utf8_lossy(self.field(column)).into_owned();
        let value: String = value.chars().take(60).collect();
        self.fault(format!("{name} '{value}' {why}; it is {unit} >= 0"))
    }
}

/// The kind under which rows are counted that have not as many fields as the header.
pub(super) const MISFITS: &str = "rows with more or fewer fields than the header (left out)";

#[cfg(test)]
mod tests;
