//! The window of a run: what arrives in it is what the figures cover, and what happens in it is what they integrate.
//!
//! It begins with the load and ends with it, not with the last return, so that it is the same under every policy. Where the
//! end of a load is not known before (rows of a trace, a number of invocations) it is told when the last one has arrived: the
//! mean gap after it.

use crate::assemble::Assembled;
use crate::base::{Fault, Result, Time};
use crate::scenario::Scenario;

/// What is known of a window before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where it would begin without `warm_up`: ticks begin there.
    pub(crate) load_begins: Time,
    /// Where it begins.
    pub(crate) begin: Time,
    /// Where it ends, if nothing else ends it before.
    pub(crate) end: Option<Time>,
    /// Whether the last of a number of invocations ends it, whatever `end` says.
    pub(crate) ends_with_last: bool,
}

impl Plan {
    /// The window that a scenario asks for, given its load.
    ///
    /// # Errors
    /// If it would end before it begins.
    pub(crate) fn new(scenario: &Scenario, assembled: &Assembled) -> Result<Plan> {
        let measure = &scenario.measure;
        let load_begins = assembled.begin;
        let begin = load_begins + measure.warm_up.unwrap_or_default();
        let until = measure.until.map(|d| Time(d.0));
        // What was asked for by name counts before what follows from the load.
        let asked = until.or_else(|| assembled.end.filter(|_| assembled.cut_by_user));
        let end = asked.or(scenario.duration.map(|d| Time(d.0))).or(assembled.end);
        if let Some(until) = until.filter(|until| *until <= load_begins) {
            return Err(Fault::usage(format!(
                "[measure]: until is {until}, and the load begins at {load_begins}; nothing would be measured"
            )));
        }
        Ok(Plan { load_begins, begin, end, ends_with_last: asked.is_none() })
    }

    /// [begin, end), as far as it is known.
    pub(crate) fn bounds(&self) -> (Time, Time) {
        (self.begin, self.end.unwrap_or(Time::MAX))
    }
}

/// The end of a window that `n` arrivals from `first` to `last` made: the mean gap after the last. `None` where they make no gap.
pub(crate) fn end_of(n: u64, first: Time, last: Time) -> Option<Time> {
    let gaps = n.checked_sub(1).filter(|gaps| *gaps > 0)?;
    let gap = (last.since(first).0 + gaps / 2) / gaps;
    (gap > 0).then(|| Time(last.0 + gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_ends_the_mean_gap_after_its_last_arrival() {
        assert_eq!(end_of(20, Time(0), Time(9_500)), Some(Time(10_000)));
        assert_eq!(end_of(2, Time(5), Time(7)), Some(Time(9)));
        assert_eq!(
            (end_of(1, Time(5), Time(5)), end_of(3, Time(5), Time(5)), end_of(0, Time(0), Time(0))),
            (None, None, None)
        );
    }
}
