//! What a run sends to Graphite while it goes on, or at its end.

use super::config::{GraphiteConfig, Shift};
use super::pull::{Query, Sent};
use crate::base::{Duration, Fault, Result, Time};
use crate::metrics::{self, Columns, Series, Sink};
use crate::rt::wall::unix_now;
use elapse_real::graphite::{Sender, step_of};
use std::rc::Rc;
use std::sync::Arc;

/// A run's connection to Graphite.
pub(crate) struct Station {
    config: GraphiteConfig,
    sender: Option<Rc<Sender>>,
    /// Seconds between points that Graphite keeps apart; 1 if unknown.
    step: u64,
    /// Points that were not handed to the sender, because carbon takes none.
    withheld: u64,
    /// What a reader has to know.
    pub(crate) remarks: Vec<String>,
}

const NS: u64 = 1_000_000_000;

impl Station {
    /// Opens what the scenario names. A Graphite that does not answer is told, and no reason not to run.
    pub(crate) fn open(config: &GraphiteConfig) -> Result<Option<Station>> {
        if config.carbon.is_none() && config.url.is_none() {
            return Ok(None);
        }
        let sender = match &config.carbon {
            Some(carbon) => {
                Some(Rc::new(Sender::open(carbon, config.protocol.into(), config.buffer).map_err(|e| {
                    Fault::host(format!("cannot start the thread that sends to Graphite: {e}"))
                })?))
            }
            None => None,
        };
        let mut station =
            Station { config: config.clone(), sender, step: 1, withheld: 0, remarks: Vec::new() };
        if let (Some(sender), Some(client)) = (&station.sender, config.client()) {
            let patience = station.config.wait.min(Duration::from_secs(5));
            match step_of(sender, &client, "elapse.probe.step", patience.into()) {
                Ok((step, _)) => station.step = step,
                Err(why) => station.remarks.push(format!("Graphite: {why}; the run went on.")),
            }
        }
        Ok(Some(station))
    }

    /// Refuses a virtual start that Graphite would not keep.
    pub(crate) fn check_start(&self, start_unix_ns: u64) -> Result<()> {
        let (Some(_), Some(client)) = (&self.sender, self.config.client()) else { return Ok(()) };
        if self.config.shift == Shift::Now || !self.remarks.is_empty() {
            return Ok(());
        }
        let (now, start) = (unix_now().as_secs(), start_unix_ns / NS);
        let told = client.render(&["elapse.probe.step".into()], start, start + 600);
        let kept =
            start <= now && told.as_ref().is_ok_and(|series| series.iter().any(|s| !s.points.is_empty()));
        if kept || told.is_err() {
            return Ok(());
        }
        let days = now.abs_diff(start) / 86_400;
        let lies = if start > now { "in the future" } else { "longer ago than Graphite keeps points" };
        Err(Fault::usage(format!(
            "start lies {days} days off, {lies}; give --graphite-shift now to lay the run's end at this instant, or set start"
        )))
    }

    /// The connection of a daemon, which runs without an end: what is wrong with Graphite is logged.
    pub(crate) fn of_daemon(config: &GraphiteConfig) -> Result<Option<Station>> {
        /// A daemon's end is not held up for long.
        const PATIENCE: Duration = Duration::from_secs(5);
        let config = GraphiteConfig { wait: config.wait.min(PATIENCE), ..config.clone() };
        let mut station = Station::open(&config)?;
        if let Some(station) = &mut station {
            station.remarks.drain(..).for_each(|remark| tracing::warn!(target: "elapse", remark));
        }
        Ok(station)
    }

    /// What takes a live worker's points. `start_unix_ns` is its time zero on the calendar; without it a point's time is
    /// the calendar's when it is taken: over months the two clocks part.
    pub(crate) fn sink(&self, run: &str, worker: &str, start_unix_ns: Option<u64>) -> Option<Box<dyn Sink>> {
        let sender = Rc::clone(self.sender.as_ref()?);
        let prefix = metrics::prefix(run, worker);
        let slots = Slots { step: self.step, last: None };
        Some(Box::new(Emit { sender, prefix, paths: Arc::from([]), start: start_unix_ns, slots }))
    }

    /// [`sink`](Self::sink) of a daemon of this name.
    pub(crate) fn endless_sink(&self, name: &str) -> Option<Box<dyn Sink>> {
        self.sink("daemon", name, None)
    }

    /// Sends what a daemon has left.
    pub(crate) fn end(mut self) {
        self.close();
        self.remarks.drain(..).for_each(|remark| tracing::warn!(target: "elapse", remark));
    }

    /// Points that were dropped so far.
    pub(crate) fn dropped(&self) -> impl Fn() -> f64 + use<> {
        let sender = self.sender.clone();
        move || sender.as_ref().map_or(0.0, |s| s.report().dropped as f64)
    }

    /// By how many seconds a simulated run is to be moved.
    pub(crate) fn shift(&self, start_unix_ns: u64, end: Time) -> i64 {
        match self.config.shift {
            Shift::Now if self.sender.is_some() => {
                unix_now().as_secs() as i64 - ((start_unix_ns + end.0) / NS) as i64
            }
            _ => 0,
        }
    }

    /// Of a load that goes to a worker elsewhere no points are sent.
    pub(crate) fn sends_nothing(&mut self) {
        if self.sender.take().is_some() {
            self.config.carbon = None;
            self.remarks.push(
                "Graphite: [graphite] carbon was not used; the daemon that was driven sends its own points."
                    .into(),
            );
        }
    }

    /// Sends a simulated worker's whole series, as far as carbon takes it.
    pub(crate) fn send(&mut self, run: &str, worker: &str, series: &Series, start_unix_ns: u64) {
        let Some(sender) = &self.sender else { return };
        let paths = paths(&metrics::prefix(run, worker), series.columns());
        for (seconds, row) in self.sent(series, start_unix_ns) {
            // Once it took none for as long as it may, it is not waited for again with each further point.
            if self.withheld > 0 || !sender.push(&paths, seconds, emitted(row), self.config.wait.into()) {
                self.withheld += row.len() as u64;
            }
        }
    }

    /// Waits until everything is sent.
    pub(crate) fn close(&mut self) -> Option<Sent> {
        let sender = Rc::into_inner(self.sender.take()?)?;
        let wait = if self.withheld > 0 { Duration::ZERO } else { self.config.wait };
        let mut report = sender.finish(wait.into());
        report.unsent += self.withheld;
        if report.unsent > 0 {
            let why = report.fault.as_deref().unwrap_or("carbon took them too slowly");
            self.remarks.push(format!("Graphite: {} points could not be sent: {why}.", report.unsent));
        }
        if report.dropped > 0 {
            self.remarks.push(format!(
                "Graphite: {} points, the oldest, were dropped while carbon was away.",
                report.dropped
            ));
        }
        Some(Sent { points: report.sent, dropped: report.dropped, unsent: report.unsent })
    }

    /// What is to be fetched of a run: our own series and what the scenario names.
    pub(crate) fn query(&self, own: Vec<String>, from: u64, until: u64, shift: i64) -> Option<Query> {
        let client = self.config.client()?;
        let own = if self.config.carbon.is_some() { own } else { Vec::new() };
        let targets = self.config.targets.clone();
        Some(Query {
            client,
            own,
            targets,
            from,
            until,
            shift,
            wait: self.config.wait,
            expected: 0,
            latest: Vec::new(),
        })
    }

    /// The points of a series that are sent, with their unix seconds: of two in one step Graphite would keep one.
    pub(crate) fn sent<'a>(
        &self,
        series: &'a Series,
        start_unix_ns: u64,
    ) -> impl Iterator<Item = (u64, &'a [f64])> + use<'a> {
        let mut slots = Slots { step: self.step, last: None };
        series.points().filter_map(move |(at, row)| Some((slots.due(start_unix_ns + at.0)?, row)))
    }

    pub(crate) fn marker(&self) -> Option<crate::base::Duration> {
        self.config.marker
    }
}

/// The steps of Graphite's that points have gone into.
struct Slots {
    step: u64,
    last: Option<u64>,
}

impl Slots {
    /// The unix second of a point, if nothing was sent into its step yet.
    fn due(&mut self, unix_ns: u64) -> Option<u64> {
        let seconds = unix_ns / NS;
        let slot = seconds / self.step.max(1);
        (self.last.replace(slot) != Some(slot)).then_some(seconds)
    }
}

fn paths(prefix: &str, columns: &Columns) -> Arc<[String]> {
    columns.names.iter().map(|name| format!("{prefix}{name}")).collect()
}

/// As `metrics.csv` has them: six decimals.
pub(super) fn emitted(row: &[f64]) -> Vec<f64> {
    row.iter().map(|v| (v * 1e6).round() / 1e6).collect()
}

/// Hands a worker's points to the sender.
struct Emit {
    sender: Rc<Sender>,
    prefix: String,
    paths: Arc<[String]>,
    /// Time zero on the calendar.
    start: Option<u64>,
    slots: Slots,
}

impl Sink for Emit {
    fn columns(&mut self, columns: &Columns) {
        self.paths = paths(&self.prefix, columns);
    }

    fn take(&mut self, at: Time, values: &[f64]) {
        let unix_ns = self.start.map_or_else(|| unix_now().as_nanos() as u64, |start| start + at.0);
        if let Some(seconds) = self.slots.due(unix_ns) {
            self.sender.offer(&self.paths, seconds, emitted(values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_graphites_gets_one_point() {
        let sent = |step: u64, apart: u64, start: u64| {
            let mut slots = Slots { step, last: None };
            let all = (start..=start + 60).step_by(apart as usize);
            all.filter_map(|s| slots.due(s * NS)).map(|s| s - start).collect::<Vec<u64>>()
        };
        assert_eq!(sent(1, 1, 0).len(), 61);
        assert_eq!(sent(30, 1, 0), [0, 30, 60]);
        // The start need not be a multiple of the step, nor the interval a divisor of it.
        assert_eq!(sent(30, 1, 17), [0, 13, 43]);
        assert_eq!(sent(10, 16, 0), [0, 16, 32, 48]);
    }
}
