//! What of a trace's configuration cannot be meant, whatever is in its files: told before they are opened.

use super::slice::{Mark, Stretch, mark};
use super::trace::{Format, TraceConfig};
use crate::base::{Fault, Result};

impl TraceConfig {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<()> {
        let [from, to] = [&self.from, &self.to].map(|at| at.as_deref().map(mark).transpose());
        let is_before = match (from?, to?) {
            (Some(Mark::TimeOfDay(from)), Some(Mark::TimeOfDay(to)))
            | (Some(Mark::After(from)), Some(Mark::After(to))) => from < to,
            _ => true,
        };
        if let (false, Some(from), Some(to)) = (is_before, &self.from, &self.to) {
            return Err(Fault::usage(format!("to is {to}; it is not after the trace's 'from', {from}")));
        }
        let scale = self.rate_scale.unwrap_or(1.0);
        if !(scale > 0.0 && scale <= 1e6) {
            return Err(Fault::usage(format!(
                "rate_scale is {scale}; it is a finite number above 0, at most 1e6"
            )));
        }
        Stretch::of(self)?;
        if self.clones == Some(0) {
            return Err(Fault::usage("clones is 0; it is at least 1"));
        }
        if self.day.is_some() && self.format != Format::Azure2019 {
            return Err(Fault::usage(
                "day chooses among the days of an azure-2019 folder; other traces have none",
            ));
        }
        Ok(())
    }
}
