//! What a worker measures of itself at equal steps: the series that is kept, and where each point goes besides.

use super::{BACKEND_PATHS, CONTROLLER_PATHS, HOST_PATHS, HOST_VALUES, PATHS, Path, Snapshot, path_part};
use crate::base::{Duration, Time};
use std::rc::Rc;

/// The columns of a series: their paths below the worker's prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// Names, [`PATHS`] first.
    pub names: Vec<String>,
    /// What each is.
    pub paths: Vec<&'static Path>,
}

impl Columns {
    /// Those of a worker with these backends, on a host of its own if it is live.
    pub fn new(backends: &[String], live: bool) -> Columns {
        let mut columns = Columns { names: Vec::new(), paths: Vec::new() };
        let mut add = |before: &str, paths: &'static [Path]| {
            columns.names.extend(paths.iter().map(|p| format!("{before}{}", p.name)));
            columns.paths.extend(paths);
        };
        add("", PATHS);
        for backend in backends {
            add(&format!("backend.{}.", path_part(backend)), BACKEND_PATHS);
        }
        if live {
            add("", HOST_PATHS);
        }
        columns
    }

    /// Those of a controller.
    pub fn of_controller() -> Columns {
        let names = CONTROLLER_PATHS.iter().map(|p| p.name.to_string()).collect();
        Columns { names, paths: CONTROLLER_PATHS.iter().collect() }
    }
}

/// Takes every point as it is measured; it must not block.
pub trait Sink {
    /// Told once, before the first point.
    fn columns(&mut self, columns: &Columns);
    /// The values of an instant, in the order of the columns.
    fn take(&mut self, at: Time, values: &[f64]);
}

/// What reads the host's values, in the order of [`HOST_PATHS`].
pub type HostProbe = Box<dyn Fn() -> [f64; HOST_VALUES]>;

/// Measures a worker: its series, its host, and where points go besides.
pub struct Meter {
    series: Series,
    /// Whether its points stay in the series.
    keeps: bool,
    host: Option<HostProbe>,
    sink: Option<Box<dyn Sink>>,
    row: Vec<f64>,
}

impl Meter {
    /// A meter whose series starts with this step and holds at most `most` points.
    pub fn new(step: Duration, most: usize) -> Meter {
        Meter { series: Series::new(step, most), keeps: true, host: None, sink: None, row: Vec::new() }
    }

    /// A meter that measures at this step for ever and keeps nothing.
    pub fn endless(step: Duration) -> Meter {
        Meter { keeps: false, ..Meter::new(step, 0) }
    }

    /// Measures nothing before this instant.
    #[must_use]
    pub fn beginning_at(mut self, begin: Time) -> Meter {
        self.series.begin = begin;
        self
    }

    /// Also measures a host.
    #[must_use]
    pub fn host(mut self, probe: HostProbe) -> Meter {
        self.host = Some(probe);
        self
    }

    /// Also hands each point to `sink`.
    #[must_use]
    pub fn sink(mut self, sink: Option<Box<dyn Sink>>) -> Meter {
        self.sink = sink;
        self
    }

    /// Says whose backends are counted. Before the first point.
    pub fn begin(&mut self, backends: &[String]) {
        let columns = Columns::new(backends, self.host.is_some());
        if let Some(sink) = &mut self.sink {
            sink.columns(&columns);
        }
        self.series.columns = Rc::new(columns);
    }

    /// The next instant at which a point is wanted.
    pub fn next(&self, now: Time) -> Time {
        self.series.next(now)
    }

    fn fill(&mut self, snapshot: &Snapshot, backends: &[[f64; BACKEND_PATHS.len()]]) {
        self.row.clear();
        self.row.extend_from_slice(&snapshot.values());
        backends.iter().for_each(|b| self.row.extend_from_slice(b));
        if let Some(probe) = &self.host {
            self.row.extend_from_slice(&probe());
        }
    }

    /// Takes a point: the worker, and the containers of each backend by state.
    pub fn push(&mut self, at: Time, snapshot: &Snapshot, backends: &[[f64; BACKEND_PATHS.len()]]) {
        self.fill(snapshot, backends);
        if let Some(sink) = &mut self.sink {
            sink.take(at, &self.row);
        }
        if self.keeps {
            self.series.push(at, &self.row);
        }
    }

    /// Takes a last point at the end of a run, so that totals are whole.
    pub fn push_last(&mut self, end: Time, snapshot: &Snapshot, backends: &[[f64; BACKEND_PATHS.len()]]) {
        let Some(at) = self.series.last(end).filter(|_| self.keeps) else { return };
        self.fill(snapshot, backends);
        if let Some(sink) = &mut self.sink {
            sink.take(at, &self.row);
        }
        self.series.push_last(at, &self.row);
    }

    /// A point that is only looked at.
    pub fn look(
        &mut self,
        snapshot: &Snapshot,
        backends: &[[f64; BACKEND_PATHS.len()]],
    ) -> (Rc<Columns>, Vec<f64>) {
        self.fill(snapshot, backends);
        (Rc::clone(&self.series.columns), self.row.clone())
    }

    /// The points so far.
    pub fn series(&self) -> &Series {
        &self.series
    }
}

/// Points of one worker at equal steps. The step doubles rather than letting them grow without bound.
#[derive(Clone, Debug)]
pub struct Series {
    columns: Rc<Columns>,
    /// The first tick is behind it.
    begin: Time,
    step: Duration,
    /// Ticks longer than this are thinned out.
    most: usize,
    times: Vec<Time>,
    values: Vec<f64>,
}

impl Series {
    /// A series that starts with this step and holds at most `most` points, with the columns of a worker alone.
    pub fn new(step: Duration, most: usize) -> Series {
        Series::of(Columns::new(&[], false), step, most)
    }

    /// The same with these columns.
    pub fn of(columns: Columns, step: Duration, most: usize) -> Series {
        Series {
            columns: Rc::new(columns),
            begin: Time::ZERO,
            step: Duration(step.0.max(1)),
            most: most.max(2),
            times: Vec::new(),
            values: Vec::new(),
        }
    }

    /// With no row before this instant.
    #[must_use]
    pub fn beginning_at(mut self, begin: Time) -> Series {
        self.begin = begin;
        self
    }

    /// What is in a row.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The step at present.
    pub fn step(&self) -> Duration {
        self.step
    }

    /// Adds a row; every second one is dropped and the step doubled when there are too many.
    pub fn push(&mut self, at: Time, row: &[f64]) {
        if self.times.len() >= self.most {
            self.step = self.step * 2;
            let (step, width) = (self.step.0, self.columns.names.len());
            let mut kept = 0;
            for i in 0..self.times.len() {
                if self.times[i].0.is_multiple_of(step) {
                    self.times[kept] = self.times[i];
                    self.values.copy_within(i * width..(i + 1) * width, kept * width);
                    kept += 1;
                }
            }
            self.times.truncate(kept);
            self.values.truncate(kept * width);
            if !at.0.is_multiple_of(step) {
                return;
            }
        }
        self.times.push(at);
        self.values.extend_from_slice(row);
    }

    /// The next instant at which a row is wanted.
    pub fn next(&self, now: Time) -> Time {
        Time((now.max(self.begin).0 / self.step.0 + 1) * self.step.0)
    }

    /// The instant of a last row at the end of a run: the whole second that holds it, as Graphite knows no others. `None` if
    /// there is a row of it already.
    pub fn last(&self, end: Time) -> Option<Time> {
        const SECOND: u64 = 1_000_000_000;
        let at = Time(end.0.div_ceil(SECOND) * SECOND);
        self.times.last().is_none_or(|last| *last < at).then_some(at)
    }

    /// Adds a last row, whatever its instant.
    pub fn push_last(&mut self, at: Time, row: &[f64]) {
        self.times.push(at);
        self.values.extend_from_slice(row);
    }

    /// Adds the rows of another series with the same columns, which are later than its own, as far as they stand at its step.
    pub fn followed_by(&mut self, later: &Series) {
        let end = later.times.last().copied();
        for (at, row) in later.points() {
            let after = self.times.last().is_none_or(|last| *last < at);
            if after && (at.0.is_multiple_of(self.step.0) || Some(at) == end) {
                self.push(at, row);
            }
        }
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The rows, in order of time; the columns of [`PATHS`] stand first, at [`Snapshot::INDEX`].
    pub fn points(&self) -> impl Iterator<Item = (Time, &[f64])> {
        self.times.iter().copied().zip(self.values.chunks(self.columns.names.len().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_series_keeps_every_second_row_and_doubles_its_step() {
        let mut series = Series::new(Duration::from_secs(1), 4);
        let mut at = Time::ZERO;
        for _ in 0..6 {
            at = series.next(at);
            let row = Snapshot { queue_length: at.as_secs_f64(), ..Snapshot::default() }.values();
            series.push(at, &row);
        }
        let column = Snapshot::INDEX.queue_length;
        let seen: Vec<_> = series.points().map(|(t, row)| (t.as_secs_f64(), row[column])).collect();
        assert_eq!(seen, [(2.0, 2.0), (4.0, 4.0), (6.0, 6.0)]);
        assert_eq!(series.step(), Duration::from_secs(2));
    }
}
