//! Shortest job first, by what the function showed before (Ilúvatar's `MinHeap` queue; Fuerst et al., HPDC 2023). A
//! function that was not seen yet goes first, so that it is seen.

use super::{Joining, QueuePolicy};

pub(super) struct Sjf;

impl QueuePolicy for Sjf {
    fn name(&self) -> &str {
        "sjf"
    }

    fn rank(&mut self, joining: &Joining) -> f64 {
        joining.expected.map_or(-1.0, |d| d.0 as f64)
    }
}
