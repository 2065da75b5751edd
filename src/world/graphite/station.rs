//! What a run sends to Graphite while it goes on, or at its end.

use super::config::{GraphiteConfig, Shift};
use super::pull::{Query, Sent};
use crate::base::{Fault, Result, Time};
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
        let mut station = Station { config: config.clone(), sender, step: 1, remarks: Vec::new() };
        if let (Some(sender), Some(client)) = (&station.sender, config.client()) {
            let patience = station.config.wait.min(crate::base::Duration::from_secs(5));
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

    /// What takes a live worker's points. `start_unix_ns` is its time zero on the calendar.
    pub(crate) fn sink(&self, run: &str, worker: &str, start_unix_ns: u64) -> Option<Box<dyn Sink>> {
        let sender = Rc::clone(self.sender.as_ref()?);
        let prefix = metrics::prefix(run, worker);
        let slots = Slots { start: start_unix_ns, step: self.step, last: None };
        Some(Box::new(Emit { sender, prefix, paths: Arc::from([]), slots }))
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

    /// Sends a simulated worker's whole series; whether carbon took it.
    pub(crate) fn send(&mut self, run: &str, worker: &str, series: &Series, start_unix_ns: u64) -> bool {
        let Some(sender) = &self.sender else { return true };
        let paths = paths(&metrics::prefix(run, worker), series.columns());
        for (seconds, row) in self.sent(series, start_unix_ns) {
            if !sender.push(&paths, seconds, emitted(row), self.config.wait.into()) {
                self.remarks
                    .push("Graphite: carbon takes no points; the rest of the run was not sent.".into());
                return false;
            }
        }
        true
    }

    /// Waits until everything is sent.
    pub(crate) fn close(&mut self) -> Option<Sent> {
        let sender = Rc::into_inner(self.sender.take()?)?;
        let report = sender.finish(self.config.wait.into());
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
        let mut slots = Slots { start: start_unix_ns, step: self.step, last: None };
        series.points().filter_map(move |(at, row)| Some((slots.due(at)?, row)))
    }

    pub(crate) fn marker(&self) -> Option<crate::base::Duration> {
        self.config.marker
    }
}

/// The steps of Graphite's that points have gone into.
struct Slots {
    /// Time zero on the calendar.
    start: u64,
    step: u64,
    last: Option<u64>,
}

impl Slots {
    /// The unix second of a point, if nothing was sent into its step yet.
    fn due(&mut self, at: Time) -> Option<u64> {
        let seconds = (self.start + at.0) / NS;
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
    slots: Slots,
}

impl Sink for Emit {
    fn columns(&mut self, columns: &Columns) {
        self.paths = paths(&self.prefix, columns);
    }

    fn take(&mut self, at: Time, values: &[f64]) {
        if let Some(seconds) = self.slots.due(at) {
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
            let mut slots = Slots { start: start * NS, step, last: None };
            (0..=60).step_by(apart as usize).filter_map(|s| slots.due(Time(s * NS))).collect::<Vec<u64>>()
        };
        assert_eq!(sent(1, 1, 0).len(), 61);
        assert_eq!(sent(30, 1, 0), [0, 30, 60]);
        // The start need not be a multiple of the step, nor the interval a divisor of it.
        assert_eq!(sent(30, 1, 17), [17, 30, 60]);
        assert_eq!(sent(10, 16, 0), [0, 16, 32, 48]);
    }
}
