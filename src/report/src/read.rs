//! Reads a finished run back from its folder: what plots, alignment and comparison are made of.

use super::folder::check_source;
use crate::base::{Duration, Fault, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// A finished run's folder.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The folder.
    pub folder: PathBuf,
    /// `run.json`.
    pub run: Value,
    /// `summary.json`.
    pub summary: Value,
}

/// A series of `metrics.csv` or `graphite.csv`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    /// Its path.
    pub path: String,
    /// Unix seconds and value, in order of time; `None` where there is no point.
    pub points: Vec<(f64, Option<f64>)>,
}

impl Track {
    /// Seconds between its points; `None` of fewer than two.
    pub fn step(&self) -> Option<f64> {
        self.points.windows(2).map(|w| w[1].0 - w[0].0).filter(|s| *s > 0.0).min_by(f64::total_cmp)
    }
}

/// A distribution of `distributions.csv`: values and how many are not above them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution(pub Vec<(f64, u64)>);

impl Distribution {
    /// Values.
    pub fn count(&self) -> u64 {
        self.0.last().map_or(0, |p| p.1)
    }

    /// The smallest value of rank >= q n; `None` if there is none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        self.0.iter().find(|p| p.1 >= rank).map(|p| p.0)
    }

    /// Share of values not above `value`.
    pub fn share(&self, value: f64) -> f64 {
        let i = self.0.partition_point(|p| p.0 <= value);
        if i == 0 { 0.0 } else { self.0[i - 1].1 as f64 / self.count().max(1) as f64 }
    }

    /// The largest distance between two distribution functions (Kolmogorov and Smirnov), 0 to 1, where values below
    /// `resolution` count as equal.
    pub fn distance(&self, other: &Distribution, resolution: f64) -> f64 {
        let at = |value: f64| (self.share(value) - other.share(value)).abs();
        self.0.iter().chain(&other.0).map(|p| at(p.0.max(resolution))).fold(0.0, f64::max)
    }
}

/// What a function did in a bucket of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeatRow {
    /// The function.
    pub function: String,
    /// From, to (seconds since the start), invocations, cold starts.
    pub cells: Vec<(f64, f64, u64, u64)>,
}

impl Finished {
    /// Opens a folder.
    ///
    /// # Errors
    /// If it holds no run.
    pub fn open(folder: &Path) -> Result<Finished> {
        check_source(folder)?;
        let read = |name: &str| -> Result<Value> {
            let path = folder.join(name);
            let file = File::open(&path).map_err(|e| Fault::reading(&path, &e))?;
            serde_json::from_reader(BufReader::new(file)).map_err(|e| wrong(&path, &e))
        };
        Ok(Finished { folder: folder.to_path_buf(), summary: read("summary.json")?, run: read("run.json")? })
    }

    /// The scenario's name.
    pub fn name(&self) -> &str {
        self.summary["name"].as_str().unwrap_or("run")
    }

    /// Its start on the calendar, unix seconds.
    pub fn start(&self) -> Option<f64> {
        self.run["start_unix_ns"].as_u64().map(|ns| ns as f64 / 1e9)
    }

    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        self.summary["virtual_seconds"].as_f64().unwrap_or(0.0)
    }

    /// The seconds of its measuring window; all of it where it has none.
    pub fn window(&self) -> [f64; 2] {
        let measure = &self.run["plan"]["measure"];
        let seconds = |key: &str| {
            measure[key].as_str().and_then(|text| text.parse::<Duration>().ok()).map(|d| d.0 as f64 / 1e9)
        };
        [seconds("warm_up").unwrap_or(0.0), seconds("until").unwrap_or(f64::INFINITY)]
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The series of `metrics.csv` or `graphite.csv`; none where there is no such file.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn tracks(&self, name: &str) -> Result<Vec<Track>> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let mut tracks: Vec<Track> = Vec::new();
        // By name the track that its rows belong to, and how many tracks have that name.
        let mut places = rustc_hash::FxHashMap::<Vec<u8>, (usize, u64)>::default();
        each_row(&path, ["path", "unix_seconds", "value"], |[name, at, value]| {
            let at = float(at)?;
            let found = places.get(name).copied();
            let goes_on = |place: usize| tracks[place].points.last().is_none_or(|(last, _)| *last <= at);
            let place = match found {
                Some((place, _)) if goes_on(place) => place,
                // Where time goes back, another series of this name begins: earlier versions gave both one name.
                _ => {
                    let number = found.map_or(1, |(_, number)| number + 1);
                    let name = name.to_vec();
                    let mut path = String::from_utf8_lossy(&name).into_owned();
                    if number > 1 {
                        path = format!("{path}#{number}");
                    }
                    places.insert(name, (tracks.len(), number));
                    tracks.push(Track { path, points: Vec::new() });
                    tracks.len() - 1
                }
            };
            let value = if value.is_empty() { None } else { Some(float(value)?) };
            tracks[place].points.push((at, value));
            Ok(())
        })?;
        Ok(tracks)
    }

    /// The distributions, by figure.
    ///
    /// # Errors
    /// What of them cannot be read.
    pub fn distributions(&self) -> Result<BTreeMap<String, Distribution>> {
        let mut all = BTreeMap::<String, Distribution>::new();
        let path = self.file("distributions.csv");
        if !path.exists() {
            return Ok(all);
        }
        each_row(&path, ["figure", "value", "count_at_or_below"], |[figure, value, count]| {
            let figure = String::from_utf8_lossy(figure).into_owned();
            let (value, count) = (float(value)?, float(count)?);
            let points = &mut all.entry(figure).or_default().0;
            let before = points.last().copied().unwrap_or((f64::MIN, 0));
            if !(value.is_finite() && value >= before.0 && count >= before.1 as f64 && count < 1e15) {
                return Err("values and counts of a figure are finite and grow from row to row".into());
            }
            points.push((value, count as u64));
            Ok(())
        })?;
        Ok(all)
    }

    /// What its most invoked functions did over time, the most invoked first.
    ///
    /// # Errors
    /// What of it cannot be read.
    pub fn heat(&self) -> Result<Vec<HeatRow>> {
        let path = self.file("heat.csv");
        let mut rows: Vec<HeatRow> = Vec::new();
        if !path.exists() {
            return Ok(rows);
        }
        let columns = ["function", "from_s", "to_s", "invocations", "cold_starts"];
        each_row(&path, columns, |[function, from, to, invocations, cold]| {
            let function = String::from_utf8_lossy(function).into_owned();
            if rows.last().is_none_or(|row| row.function != function) {
                rows.push(HeatRow { function, cells: Vec::new() });
            }
            let cell = (float(from)?, float(to)?, float(invocations)? as u64, float(cold)? as u64);
            if let Some(row) = rows.last_mut() {
                row.cells.push(cell);
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::usage(format!("cannot read {}: {why}; is it an Elapse run?", path.display()))
}

/// A number of a CSV file.
pub(super) fn float(field: &[u8]) -> std::result::Result<f64, String> {
    let text = std::str::from_utf8(field).unwrap_or_default();
    text.parse().map_err(|_| format!("'{}' is no number", String::from_utf8_lossy(field)))
}

/// Hands out the wanted columns of each row of a CSV file, whatever their order there.
pub fn each_row<const N: usize>(
    path: &Path,
    columns: [&str; N],
    mut take: impl FnMut([&[u8]; N]) -> std::result::Result<(), String>,
) -> Result<()> {
    let mut reader =
        csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_path(path).map_err(|e| wrong(path, &e))?;
    let header = reader.headers().map_err(|e| wrong(path, &e))?.clone();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = header
            .iter()
            .position(|h| h == column)
            .ok_or_else(|| wrong(path, &format!("there is no column {column}")))?;
    }
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).map_err(|e| wrong(path, &e))? {
        let line = row.position().map_or(0, csv::Position::line);
        take(places.map(|i| row.get(i).unwrap_or_default())).map_err(|why| Fault::at(path, line, why))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_distances_of_distributions() {
        let a = Distribution(vec![(1.0, 1), (2.0, 3), (4.0, 4)]);
        let b = Distribution(vec![(2.0, 2), (4.0, 4)]);
        assert_eq!((a.quantile(0.5), a.quantile(0.76), a.quantile(0.0)), (Some(2.0), Some(4.0), Some(1.0)));
        assert_eq!((a.distance(&b, 0.0), b.distance(&a, 0.0), a.distance(&a, 0.0)), (0.25, 0.25, 0.0));
        let (none, little) =
            (Distribution(vec![(0.0, 9), (7.0, 10)]), Distribution(vec![(0.03, 9), (7.0, 10)]));
        assert_eq!((none.distance(&little, 0.0), none.distance(&little, 0.5)), (0.9, 0.0));
        assert_eq!(Distribution::default().quantile(0.5), None);
    }
}
