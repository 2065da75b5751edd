//! What a reader of fetched series has to know: which are missing, empty, coarse, or not over yet.

use super::Fetched;
use super::pull::Query;

/// What Graphite was asked for.
pub(crate) struct Asked {
    /// Series by their names, and targets as they were written.
    pub(crate) series: usize,
    /// Names that are not in the answer.
    pub(crate) lost: Vec<String>,
}

/// The first of these names, and how many more there are.
pub(crate) fn list(names: &[&str]) -> String {
    let shown = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(3);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Says what a target as it was written gave too little of. `now` is in unix seconds.
pub(crate) fn of_target(target: &str, given: &[Fetched], now: u64) -> Option<String> {
    let is_function = target.contains('(');
    if given.is_empty() {
        return Some(if is_function {
            format!("Graphite: '{target}' gives no series.")
        } else {
            format!("Graphite: no series matches '{target}'.")
        });
    }
    // What is stored as it was sent is whole at once; what a function makes of a step is whole when the step is over.
    let last_step_is_not_over = |s: &Fetched| {
        let last = s.points.iter().rev().find(|p| p.1.is_some());
        s.step > 1 && last.is_some_and(|(at, _)| at.saturating_add(s.step) > now)
    };
    (is_function && given.iter().any(last_step_is_not_over)).then(|| {
        format!(
            "Graphite: the last step of '{target}' is not over, and its value is of what was there; later: elapse graphite pull."
        )
    })
}

/// Says what the whole answer lacks. Its series are on the run's calendar; `own` of their points are our own.
pub(crate) fn of_answer(
    query: &Query,
    asked: &Asked,
    series: &[Fetched],
    own: u64,
    remarks: &mut Vec<String>,
) {
    if !asked.lost.is_empty() {
        let lost: Vec<&str> = asked.lost.iter().map(String::as_str).collect();
        remarks.push(format!(
            "Graphite: the answer is partial; {} of {} series are not in it: {}.",
            lost.len(),
            asked.series,
            list(&lost)
        ));
    }
    let empty: Vec<&str> =
        series.iter().filter(|s| s.points.iter().all(|p| p.1.is_none())).map(|s| s.target.as_str()).collect();
    if series.is_empty() || empty.len() == series.len() {
        remarks.push(format!(
            "Graphite: no series has a point between {} and {} (unix seconds); do the run's calendar and Graphite's agree?",
            query.from.saturating_add_signed(query.shift),
            query.until.saturating_add_signed(query.shift)
        ));
    } else if !empty.is_empty() {
        remarks.push(format!(
            "Graphite: {} series have no point in the run's time: {}.",
            empty.len(),
            list(&empty)
        ));
    }
    let span = query.until.saturating_sub(query.from);
    if let Some(coarse) = series.iter().map(|s| s.step).max().filter(|step| *step > span.max(1)) {
        remarks.push(format!(
            "Graphite: its points are {coarse} s apart, and the run is {span} s long: they say little about it."
        ));
    }
    let steps = series.iter().filter(|s| query.own.contains(&s.target)).map(|s| s.step);
    let ours = steps.max().unwrap_or(0);
    if query.spacing > 0 && ours > query.spacing {
        remarks.push(format!(
            "Graphite: our own series were sent {} s apart and came {ours} s apart: older points come from coarser archives, \
             where several have become one.",
            query.spacing
        ));
    } else if own < query.expected {
        remarks.push(format!(
            "Graphite: {} of the {} points that were sent are not in the answer; they may come later: elapse graphite pull.",
            query.expected - own,
            query.expected
        ));
    }
}
