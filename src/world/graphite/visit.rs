//! What happens with Graphite when a run's results are whole and in their place: whatever goes wrong now, they stay.

use super::pull::{Pulled, gather, span};
use super::station::{Station, emitted};
use crate::base::Result;
use crate::metrics;
use crate::plot;
use crate::report::{self, Summary};
use std::path::Path;

/// From when to when all processors were busy before the load, unix seconds.
pub(crate) type Marker = Option<(f64, f64)>;

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

/// A run that has ended.
pub(crate) struct Visit<'a> {
    summary: &'a Summary,
    /// Seconds by which a simulated run was moved on Graphite's calendar.
    shift: i64,
    marker: Marker,
    pub(crate) plots: bool,
}

const NS: u64 = 1_000_000_000;

impl Visit<'_> {
    pub(crate) fn new(summary: &Summary, shift: i64, marker: Marker) -> Visit<'_> {
        Visit { summary, shift, marker, plots: true }
    }

    /// Sends what is left, and fetches what the scenario wants into the folder.
    pub(crate) fn pay(
        &self,
        mut station: Station,
        folder: Option<&Path>,
        chosen: &[String],
    ) -> Result<FromGraphite> {
        let sent = station.close();
        let mut came =
            FromGraphite { remarks: std::mem::take(&mut station.remarks), ..FromGraphite::default() };
        let Some(folder) = folder else { return Ok(came) };
        let facts = &self.summary.facts;
        let start = facts.start_unix_ns / NS;
        let end = (facts.start_unix_ns + facts.end.0) / NS;
        let (from, until) = span(start, end, self.marker.map(|(from, _)| from));
        let own = self.summary.series().flat_map(|(name, series)| {
            let prefix = metrics::prefix(&facts.name, name);
            series.columns().names.iter().map(move |name| format!("{prefix}{name}"))
        });
        // As they were sent, on the run's own calendar.
        let moved = facts.start_unix_ns.saturating_add_signed(self.shift * NS as i64);
        let mut latest = Vec::new();
        let (mut expected, mut spacing) = (0, 0);
        for (name, series) in self.summary.series() {
            let (names, prefix) = (&series.columns().names, metrics::prefix(&facts.name, name));
            let mut last: Option<(u64, &[f64])> = None;
            for point in station.sent(series, moved) {
                expected += names.len() as u64;
                if let Some((before, _)) = last {
                    spacing = spacing.max(point.0 - before);
                }
                last = Some(point);
            }
            let Some((at, row)) = last else { continue };
            let at = at.saturating_add_signed(-self.shift);
            let values = names.iter().zip(emitted(row));
            latest.extend(values.map(|(name, value)| (format!("{prefix}{name}"), at, value)));
        }
        let last = latest.iter().map(|(_, at, _)| *at).max();
        if let Some(mut query) = station.query(own.collect(), from, until, self.shift) {
            if sent.is_some_and(|sent| sent.dropped + sent.unsent == 0) {
                (query.expected, query.spacing, query.latest) = (expected, spacing, latest);
            }
            match gather(&query, last) {
                Ok(pulled) => {
                    came.remarks.extend(pulled.remarks.iter().cloned());
                    report::replace(&folder.join("graphite.csv"), &pulled.csv())?;
                    came.pulled = Some(pulled);
                }
                Err(why) => came.fault = Some(why),
            }
        }
        let mut json = came.pulled.as_ref().map_or_else(|| serde_json::json!({}), |p| p.json.clone());
        json["shift_seconds"] = self.shift.into();
        if let Some(sent) = sent {
            json["sent_points"] = sent.points.into();
            json["dropped_points"] = sent.dropped.into();
            json["unsent_points"] = sent.unsent.into();
        }
        json["remarks"] = serde_json::json!(came.remarks);
        json["fault"] = serde_json::json!(came.fault);
        report::amend(&folder.join("run.json"), "graphite", json)?;
        if self.plots && came.pulled.is_some() {
            let tracks = report::Finished::open(folder)?.tracks("graphite.csv")?;
            plot::write_plots(folder, &plot::draw(self.summary, tracks, chosen)?, false)?;
        }
        Ok(came)
    }
}
