//! Says how values of a series become one of a longer time: by its name, as carbon does when it makes coarser archives.
//!
//! The names are those of carbon's own example of a storage-aggregation.conf and of the one that statsd asks for:
//! `.min` and `.lower` keep the least, `.max` and `.upper` (also of a percentile, `.upper_90`) the largest, `.sum` and all
//! below `stats_counts` are added up, the rest is averaged. A `.count` is either: one that only grows counts from a
//! start and has a last value, any other counts anew in every step and is added up.

use super::pattern::plain;
use super::read::Track;
use crate::metrics::{Kind, path_of};

/// How values of a series become one of a longer bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Averaged by time.
    Mean,
    /// Added up, in proportion to what lies in the bucket.
    Sum,
    /// The least.
    Min,
    /// The largest.
    Max,
    /// The last one.
    Last,
}

impl Rule {
    /// The rule of a series that nobody gave one: our own are known, others go by their names.
    pub(super) fn usual(track: &Track) -> Rule {
        let name = plain(&track.path);
        if let Some(ours) = path_of(name) {
            return if ours.kind == Kind::Total { Rule::Last } else { Rule::Mean };
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        // A percentile may follow: digits, with an underscore for a point.
        let stem = last.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        let is_bound = |bound: &str| stem == bound && (last == bound || last[bound.len()..].starts_with('_'));
        if last == "min" || is_bound("lower") {
            Rule::Min
        } else if last == "max" || is_bound("upper") {
            Rule::Max
        } else if last == "sum" || name.starts_with("stats_counts") || (last == "count" && !only_grows(track))
        {
            Rule::Sum
        } else if last == "count" {
            Rule::Last
        } else {
            Rule::Mean
        }
    }
}

/// Whether a series rises and never falls.
fn only_grows(track: &Track) -> bool {
    let mut values = track.points.iter().filter_map(|p| p.1);
    let Some(first) = values.next() else { return false };
    let last = values.try_fold(first, |before, value| (value >= before).then_some(value));
    last.is_some_and(|last| last > first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, values: &[f64]) -> Rule {
        let points = values.iter().enumerate().map(|(i, v)| (i as f64, Some(*v))).collect();
        Rule::usual(&Track { path: path.into(), points })
    }

    #[test]
    fn names_of_others_are_aggregated_as_carbon_does_it() {
        for (path, expected) in [
            ("stats.timers.api.lower", Rule::Min),
            ("stats.timers.api.lower_90", Rule::Min),
            ("stats.timers.api.upper", Rule::Max),
            ("stats.timers.api.upper_90", Rule::Max),
            ("stats.timers.api.upper_99_9", Rule::Max),
            ("stats.timers.api.sum", Rule::Sum),
            ("stats_counts.req", Rule::Sum),
            ("stats_counts.req.max", Rule::Max),
            ("jvm.heap.min", Rule::Min),
            ("jvm.heap.max", Rule::Max),
            // Their names only look alike.
            ("stats.timers.api.count_90", Rule::Mean),
            ("stats.timers.api.sum_90", Rule::Mean),
            ("stats.timers.api.mean_90", Rule::Mean),
            ("stats.timers.api.upper90", Rule::Mean),
            ("jvm.heap_max", Rule::Mean),
            ("a.max.cpu", Rule::Mean),
            ("db.failed", Rule::Mean),
            // The names that functions give, tags, and the number of one of several.
            ("max", Rule::Max),
            ("jvm.heap.max#2", Rule::Max),
            ("jvm.heap.max;host=a", Rule::Max),
            ("jvm.heap;kind=x.max", Rule::Mean),
            ("summarize(jvm.heap.max, \"1min\", \"sum\")", Rule::Mean),
            ("sumSeries(jvm.heap.max;host=a)", Rule::Mean),
        ] {
            assert_eq!(rule(path, &[1.0, 2.0]), expected, "{path}");
        }
    }

    #[test]
    fn a_count_that_only_grows_is_a_total_and_any_other_is_added_up() {
        for (values, expected) in [
            (&[1000.0, 1010.0, 1010.0, 1020.0][..], Rule::Last),
            (&[3.0, 5.0, 2.0], Rule::Sum),
            (&[5.0, 5.0, 5.0], Rule::Sum),
            (&[5.0], Rule::Sum),
            (&[], Rule::Sum),
        ] {
            assert_eq!(rule("jvm.requests.count", values), expected, "{values:?}");
            assert_eq!(rule("requests.count;host=a", values), expected, "{values:?}");
        }
    }

    #[test]
    fn our_own_are_known_by_their_place_whatever_a_run_is_called() {
        assert_eq!(rule("elapse.run.worker-0.invocations", &[1.0]), Rule::Last);
        assert_eq!(rule("elapse.backend.worker-0.invocations", &[1.0]), Rule::Last);
        assert_eq!(rule("elapse.run.worker-0.queue_length", &[1.0]), Rule::Mean);
        assert_eq!(rule("elapse.daemon.controller.retries", &[1.0]), Rule::Last);
        assert_eq!(rule("elapse.run.worker-0.backend.process.containers_cached", &[1.0, 2.0]), Rule::Mean);
        assert_eq!(rule("servers.db.invocations", &[1.0, 2.0]), Rule::Mean);
    }
}
