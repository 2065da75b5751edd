//! Reading CSV tables: columns by name, faults by file and line.

use crate::base::{Fault, NumberFault, Result, nearest};
use csv::{ByteRecord, Reader, ReaderBuilder};
use std::fs::File;
use std::path::{Path, PathBuf};

/// An open CSV file with a header.
pub(super) struct Table {
    path: PathBuf,
    reader: Reader<File>,
    pub(super) header: Vec<String>,
    columns: usize,
    pub(super) row: ByteRecord,
}

impl Table {
    pub(super) fn open(path: &Path) -> Result<Table> {
        let file = File::open(path).map_err(|e| Fault::reading(path, &e))?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(Fault::reading(path, &std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let mut reader =
            ReaderBuilder::new().has_headers(true).flexible(true).buffer_capacity(1 << 16).from_reader(file);
        let header = reader.byte_headers().map_err(|e| unreadable(path, &e))?;
        let header: Vec<String> = header
            .iter()
            .map(|h| String::from_utf8_lossy(h).trim_start_matches('\u{feff}').trim().to_string())
            .collect();
        if header.iter().all(String::is_empty) {
            return Err(Fault::usage(format!(
                "cannot read {}: it is empty; a header line is expected",
                path.display()
            )));
        }
        Ok(Table { path: path.to_path_buf(), reader, columns: header.len(), header, row: ByteRecord::new() })
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

    /// Reads the next row into `row`; false at the end. A row with fewer fields than the header is a fault.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool> {
        if !self.reader.read_byte_record(&mut self.row).map_err(|e| unreadable(&self.path, &e))? {
            return Ok(false);
        }
        if self.row.len() < self.columns {
            return Err(self.short_row());
        }
        Ok(true)
    }

    #[cold]
    fn short_row(&self) -> Fault {
        self.fault(format!(
            "the row has {} of {} columns; is the file truncated?",
            self.row.len(),
            self.columns
        ))
    }

    /// A fault in the present row.
    #[cold]
    pub(super) fn fault(&self, message: impl std::fmt::Display) -> Fault {
        let line = self.row.position().map_or(0, csv::Position::line);
        Fault::at(&self.path, line, message)
    }

    #[inline]
    pub(super) fn field(&self, column: usize) -> &[u8] {
        self.row.get(column).unwrap_or_default()
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

#[cold]
fn unreadable(path: &Path, error: &csv::Error) -> Fault {
    match error.kind() {
        csv::ErrorKind::Io(e) => Fault::reading(path, e),
        _ => Fault::usage(format!("cannot read {}: {error}", path.display())),
    }
}
