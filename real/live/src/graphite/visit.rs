//! What happens with Graphite when a run's results are whole and in their place: whatever goes wrong now, they stay.

use super::pull::{csv, gather, span};
use super::session::{GraphiteSession, emitted};
use elapse::base::{Duration, Result, Time};
use elapse::metrics::{self, Series, Sink};
use elapse::plot;
use elapse::report;
use elapse::{FromGraphite, GraphiteConfig, Interrupt, Over, Publisher};

const NS: u64 = 1_000_000_000;

/// Opens what a scenario names, as a run's publisher.
///
/// # Errors
/// If this host does not give the thread that sends.
pub fn open(config: &GraphiteConfig, interrupt: &Interrupt) -> Result<Option<Box<dyn Publisher>>> {
    Ok(GraphiteSession::open(config, interrupt)?.map(|station| Box::new(station) as _))
}

impl Publisher for GraphiteSession {
    fn check_start(&self, start_unix_ns: u64) -> Result<()> {
        self.check_start(start_unix_ns)
    }

    fn shift(&self, start_unix_ns: u64, end: Time) -> i64 {
        self.shift(start_unix_ns, end)
    }

    fn send(&mut self, run: &str, worker: &str, series: &Series, start_unix_ns: u64) {
        self.send(run, worker, series, start_unix_ns);
    }

    fn sends_nothing(&mut self) {
        self.sends_nothing();
    }

    fn sink(
        &self,
        run: &str,
        worker: &str,
        interval: Duration,
        start_unix_ns: Option<u64>,
    ) -> Option<Box<dyn Sink>> {
        self.sink(run, worker, interval, start_unix_ns)
    }

    fn dropped(&self) -> Box<dyn Fn() -> f64> {
        self.dropped()
    }

    fn marker(&self) -> Option<Duration> {
        self.marker()
    }

    fn end(self: Box<Self>, over: &Over<'_>) -> Result<FromGraphite> {
        visit(*self, over)
    }
}

/// Sends what is left, and fetches what the scenario wants into the folder.
fn visit(mut station: GraphiteSession, over: &Over<'_>) -> Result<FromGraphite> {
    let sent = station.close();
    let mut came = FromGraphite { remarks: std::mem::take(&mut station.remarks), ..FromGraphite::default() };
    let Some(folder) = over.folder else { return Ok(came) };
    let facts = &over.summary.facts;
    let start = facts.start_unix_ns / NS;
    let end = (facts.start_unix_ns + facts.end.0) / NS;
    let (from, until) = span(start, end, over.marker.map(|(from, _)| from));
    let own = over.summary.series().flat_map(|(name, series)| {
        let prefix = metrics::prefix(&facts.name, name);
        series.columns().names.iter().map(move |name| format!("{prefix}{name}"))
    });
    // As they were sent, on the run's own calendar.
    let moved = facts.start_unix_ns.saturating_add_signed(over.shift * NS as i64);
    let mut latest = Vec::new();
    let (mut expected, mut spacing) = (0, 0);
    for (name, series) in over.summary.series() {
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
        let at = at.saturating_add_signed(-over.shift);
        let values = names.iter().zip(emitted(row));
        latest.extend(values.map(|(name, value)| (format!("{prefix}{name}"), at, value)));
    }
    let last = latest.iter().map(|(_, at, _)| *at).max();
    if let Some(mut query) = station.query(own.collect(), from, until, over.shift) {
        if sent.is_some_and(|sent| sent.dropped + sent.unsent == 0) {
            (query.expected, query.spacing, query.latest) = (expected, spacing, latest);
        }
        match gather(&query, last) {
            Ok((pulled, fetched)) => {
                came.remarks.extend(pulled.remarks.iter().cloned());
                report::replace(&folder.join("graphite.csv"), &csv(&fetched))?;
                came.pulled = Some(pulled);
            }
            Err(why) => came.fault = Some(why),
        }
    }
    let mut json = came.pulled.as_ref().map_or_else(|| serde_json::json!({}), |p| p.json.clone());
    json["shift_seconds"] = over.shift.into();
    if let Some(sent) = sent {
        json["sent_points"] = sent.points.into();
        json["dropped_points"] = sent.dropped.into();
        json["unsent_points"] = sent.unsent.into();
    }
    json["remarks"] = serde_json::json!(came.remarks);
    json["fault"] = serde_json::json!(came.fault);
    report::amend(&folder.join("run.json"), "graphite", json)?;
    if over.plots && came.pulled.is_some() {
        let tracks = report::Finished::open(folder)?.tracks("graphite.csv")?;
        plot::write_plots(folder, &plot::draw(over.summary, tracks, over.chosen)?, false)?;
    }
    Ok(came)
}
