//! Who takes the points of a run beside its folder, and may have something to say when it is over: a Graphite, where the program has one.

use crate::base::{Duration, Result, Time};
use crate::graphite::GraphiteConfig;
use crate::interrupt::Interrupt;
use crate::metrics::{Series, Sink};
use crate::report::Summary;
use serde_json::Value;
use std::path::Path;

/// From when to when all processors were busy before the load, unix seconds.
pub type ClockMarker = Option<(f64, f64)>;

/// Opens the publisher that a configuration names; none where it names none.
pub type Opener = fn(&GraphiteConfig, &Interrupt) -> Result<Option<Box<dyn Publisher>>>;

/// Takes a run's points.
pub trait Publisher {
    /// Refuses a virtual start, in ns of unix time, that it would not keep.
    ///
    /// # Errors
    /// One sentence.
    fn check_start(&self, start_unix_ns: u64) -> Result<()>;

    /// By how many seconds a simulated run, which ends at `end`, is to be moved on its calendar.
    fn shift(&self, start_unix_ns: u64, end: Time) -> i64;

    /// Takes a simulated worker's whole series.
    fn send(&mut self, run: &str, worker: &str, series: &Series, start_unix_ns: u64);

    /// Hears that the load goes to a worker elsewhere, so that there are no points of the run's own.
    fn sends_nothing(&mut self);

    /// What takes a live worker's points, one each `interval`. `start_unix_ns` is its time zero on the calendar; without it a point's time
    /// is the calendar's when it is taken.
    fn sink(
        &self,
        run: &str,
        worker: &str,
        interval: Duration,
        start_unix_ns: Option<u64>,
    ) -> Option<Box<dyn Sink>>;

    /// Counts the points that were dropped so far.
    fn dropped(&self) -> Box<dyn Fn() -> f64>;

    /// How long all processors are to be busy before a live load, as a mark in other series.
    fn marker(&self) -> Option<Duration>;

    /// Comes to its end, when the results are whole and in their place: whatever goes wrong now, they stay.
    ///
    /// # Errors
    /// A folder that cannot be written.
    fn end(self: Box<Self>, over: &Over<'_>) -> Result<FromGraphite>;
}

/// A run that is over.
pub struct Over<'a> {
    /// Its figures.
    pub summary: &'a Summary,
    /// Seconds by which a simulated run was moved.
    pub shift: i64,
    /// See [`ClockMarker`].
    pub marker: ClockMarker,
    /// Whether plots are drawn anew with what was fetched.
    pub plots: bool,
    /// Where its results are, if they were written.
    pub folder: Option<&'a Path>,
    /// Fetched series that the timeline shows.
    pub chosen: &'a [String],
}

/// What came of Graphite.
#[derive(Clone, Debug, Default)]
pub struct FromGraphite {
    /// What was fetched.
    pub pulled: Option<Pulled>,
    /// What a reader has to know.
    pub remarks: Vec<String>,
    /// Why nothing was fetched although it was wanted.
    pub fault: Option<String>,
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Series.
    pub series: usize,
    /// Points that hold a value.
    pub points: u64,
    /// What a reader has to know.
    pub remarks: Vec<String>,
    /// The query and what came, for run.json.
    pub json: Value,
}
