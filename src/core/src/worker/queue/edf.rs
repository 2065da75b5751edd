//! Earliest deadline first (Liu and Layland, 1973; Ilúvatar's `MinHeapED`). The deadline is the function's own, or its
//! expected execution; a function that was not seen yet is due at once.

use super::{Joining, QueuePolicy};

pub(super) struct Edf;

impl QueuePolicy for Edf {
    fn name(&self) -> &str {
        "edf"
    }

    fn rank(&mut self, joining: &Joining) -> f64 {
        let span = joining.deadline.or(joining.expected).map_or(0, |d| d.0);
        joining.at.0 as f64 + span as f64
    }
}
