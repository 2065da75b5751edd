//! A series of snapshots whose step doubles rather than growing without bound.

use super::{PATHS, Snapshot};
use crate::base::{Duration, Time};

/// Snapshots of one worker at equal steps.
#[derive(Clone, Debug)]
pub struct Series {
    step: Duration,
    /// Ticks longer than this are thinned out.
    most: usize,
    times: Vec<Time>,
    values: Vec<[f64; PATHS.len()]>,
}

impl Series {
    /// A series that starts with this step and holds at most `most` points.
    pub fn new(step: Duration, most: usize) -> Series {
        Series { step: Duration(step.0.max(1)), most: most.max(2), times: Vec::new(), values: Vec::new() }
    }

    /// The step at present.
    pub fn step(&self) -> Duration {
        self.step
    }

    /// Adds a snapshot; every second one is dropped and the step doubled when there are too many.
    pub fn push(&mut self, at: Time, snapshot: &Snapshot) {
        if self.times.len() >= self.most {
            self.step = self.step * 2;
            let step = self.step.0;
            let mut keep = self.times.iter().map(|t| t.0 % step == 0).collect::<Vec<_>>().into_iter();
            self.values.retain(|_| keep.next().unwrap_or(false));
            self.times.retain(|t| t.0 % step == 0);
            if !at.0.is_multiple_of(step) {
                return;
            }
        }
        self.times.push(at);
        self.values.push(snapshot.values());
    }

    /// The next instant at which a snapshot is wanted.
    pub fn next(&self, now: Time) -> Time {
        Time((now.0 / self.step.0 + 1) * self.step.0)
    }

    /// Points so far.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The points, in order of time.
    pub fn points(&self) -> impl Iterator<Item = (Time, &[f64; PATHS.len()])> {
        self.times.iter().copied().zip(&self.values)
    }
}
