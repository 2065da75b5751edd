//! What a run sends to Graphite while it goes on, or at its end.

use super::pull::{Query, Sent};
use super::{Client, Patience, Sender, client_of, step_of};
use elapse::base::{Duration, Fault, Result, Time};
use elapse::metrics::{self, Columns, Series, Sink};
use elapse::rt::wall::unix_now;
use elapse::{GraphiteConfig, Interrupt, Shift};
use elapse_host::threads::ThreadHeartbeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A run's connection to Graphite.
pub struct GraphiteSession {
    config: GraphiteConfig,
    /// Ends what is waited for.
    interrupt: Interrupt,
    sender: Option<Arc<Sender>>,
    /// Seconds between points that Graphite keeps apart; 1 if unknown, or not known yet.
    step: Arc<AtomicU64>,
    /// Points that were not handed to the sender, because carbon takes none.
    withheld: u64,
    /// What a reader has to know.
    pub(crate) remarks: Vec<String>,
}

const NS: u64 = 1_000_000_000;
/// The series by which it is seen what Graphite keeps.
const PROBE: &str = "elapse.probe.step";
/// How long is waited for it.
const PATIENCE: Duration = Duration(5_000_000_000);
/// Between two attempts of a daemon, whose Graphite may come up after it.
const LONGEST_PAUSE: Duration = Duration(600_000_000_000);

impl GraphiteSession {
    /// Opens what the scenario names. A Graphite that does not answer is told, and no reason not to run.
    pub(crate) fn open(config: &GraphiteConfig, interrupt: &Interrupt) -> Result<Option<GraphiteSession>> {
        let Some(mut station) = GraphiteSession::connecting(config)? else { return Ok(None) };
        station.interrupt = interrupt.clone();
        let client = client_of(config).map(|client| client.interrupted_by(interrupt));
        if let (Some(sender), Some(client)) = (&station.sender, client) {
            match step_of(sender, &client, PROBE, config.wait.min(PATIENCE).into()) {
                Ok((step, _)) => station.step.store(step, Ordering::Relaxed),
                Err(why) => station.remarks.push(format!("Graphite: {why}; the run went on.")),
            }
        }
        Ok(Some(station))
    }

    fn connecting(config: &GraphiteConfig) -> Result<Option<GraphiteSession>> {
        if config.carbon.is_none() && config.url.is_none() {
            return Ok(None);
        }
        let sender = match &config.carbon {
            Some(carbon) => {
                Some(Arc::new(Sender::open(carbon, config.protocol.into(), config.buffer).map_err(|e| {
                    Fault::host(format!("cannot start the thread that sends to Graphite: {e}"))
                })?))
            }
            None => None,
        };
        let step = Arc::new(AtomicU64::new(1));
        Ok(Some(GraphiteSession {
            config: config.clone(),
            interrupt: Interrupt::default(),
            sender,
            step,
            withheld: 0,
            remarks: Vec::new(),
        }))
    }

    fn client(&self) -> Option<Client> {
        Some(client_of(&self.config)?.interrupted_by(&self.interrupt))
    }

    /// Refuses a virtual start that Graphite would not keep. One that is kept in longer steps gets a point for each of those.
    pub(crate) fn check_start(&self, start_unix_ns: u64) -> Result<()> {
        let (Some(_), Some(client)) = (&self.sender, self.client()) else { return Ok(()) };
        if self.config.shift == Shift::Now || !self.remarks.is_empty() {
            return Ok(());
        }
        let (now, start) = (unix_now().as_secs(), start_unix_ns / NS);
        let Ok(told) = client.render(&[PROBE.into()], start, start + 600) else { return Ok(()) };
        if start <= now && told.iter().any(|s| !s.points.is_empty()) {
            let step = told.iter().map(|s| s.step).max().unwrap_or(1);
            self.step.fetch_max(step, Ordering::Relaxed);
            return Ok(());
        }
        let days = now.abs_diff(start) / 86_400;
        let lies = if start > now { "in the future" } else { "longer ago than Graphite keeps points" };
        Err(Fault::usage(format!(
            "start lies {days} days off, {lies}; give --graphite-shift now to lay the run's end at this instant, or set start"
        )))
    }

    /// The connection of a daemon, which runs without an end: what is wrong with Graphite is logged.
    pub fn of_daemon(config: &GraphiteConfig) -> Result<Option<GraphiteSession>> {
        // Its end is not held up for long, and its start not at all.
        let config = GraphiteConfig { wait: config.wait.min(PATIENCE), ..config.clone() };
        let Some(station) = GraphiteSession::connecting(&config)? else { return Ok(None) };
        if let (Some(sender), Some(client)) = (&station.sender, client_of(&config)) {
            // It asks for as long as there is somebody to know.
            let (sender, step) = (Arc::downgrade(sender), Arc::clone(&station.step));
            let probe = move |pulse: ThreadHeartbeat| async move {
                let mut pause = PATIENCE;
                while let Some(sender) = sender.upgrade() {
                    pulse.works();
                    match step_of(&sender, &client, PROBE, config.wait.into()) {
                        Ok((found, _)) => return step.store(found, Ordering::Relaxed),
                        Err(why) => tracing::warn!(target: "elapse", why, again_after = %pause, "Graphite"),
                    }
                    drop(sender);
                    let pausing = std::time::Duration::from(pause);
                    Patience::from(pausing).rest(pausing);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            };
            elapse_host::threads::spawn_runtime("graphite-probe", probe)
                .map_err(|e| Fault::host(format!("cannot start the thread that asks Graphite: {e}")))?;
        }
        Ok(Some(station))
    }

    /// What takes a live worker's points, one each `interval`. `start_unix_ns` is its time zero on the calendar; without it
    /// a point's time is the calendar's when it is taken: over months the two clocks part.
    pub(crate) fn sink(
        &self,
        run: &str,
        worker: &str,
        interval: Duration,
        start_unix_ns: Option<u64>,
    ) -> Option<Box<dyn Sink>> {
        let sender = Arc::clone(self.sender.as_ref()?);
        let prefix = metrics::prefix(run, worker);
        let slots = Slots::new(&self.step, interval);
        Some(Box::new(Emit { sender, prefix, paths: Arc::from([]), start: start_unix_ns, slots }))
    }

    /// What takes the points of a daemon of this name.
    pub fn endless_sink(&self, name: &str, interval: Duration) -> Option<Box<dyn Sink>> {
        self.sink("daemon", name, interval, None)
    }

    /// Sends what a daemon has left.
    pub fn end(mut self) {
        self.close();
        self.remarks.drain(..).for_each(|remark| tracing::warn!(target: "elapse", remark));
    }

    /// Points that were dropped so far.
    pub fn dropped(&self) -> Box<dyn Fn() -> f64> {
        let sender = self.sender.clone();
        Box::new(move || sender.as_ref().map_or(0.0, |s| s.report().dropped as f64))
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
        let mut last = 0;
        for (seconds, row) in self.sent(series, start_unix_ns) {
            // Once it took none for as long as it may, it is not waited for again with each further point.
            if self.withheld > 0
                || !sender.push(&paths, seconds, emitted(row), self.patience(self.config.wait))
            {
                self.withheld += row.len() as u64;
            }
            last = seconds;
        }
        let ahead = last.saturating_sub(unix_now().as_secs());
        if ahead > 0 {
            self.remarks.push(format!(
                "Graphite: the run ends {} from now on its calendar, and points are shown when their time has come; \
                 --graphite-shift now lays its end at this instant.",
                Duration::from_secs(ahead)
            ));
        }
    }

    fn patience(&self, limit: Duration) -> Patience {
        Patience::new(limit.into(), &self.interrupt)
    }

    /// Waits until everything is sent.
    pub(crate) fn close(&mut self) -> Option<Sent> {
        let sender = self.sender.take()?;
        let wait = if self.withheld > 0 { Duration::ZERO } else { self.config.wait };
        let mut report = sender.flush(self.patience(wait));
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
        let client = self.client()?;
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
            interrupt: self.interrupt.clone(),
            expected: 0,
            spacing: 0,
            latest: Vec::new(),
        })
    }

    /// The points of a series that are sent, with their unix seconds: of two in one step Graphite would keep one.
    pub(crate) fn sent<'a>(
        &self,
        series: &'a Series,
        start_unix_ns: u64,
    ) -> impl Iterator<Item = (u64, &'a [f64])> + use<'a> {
        let instants: Vec<Time> = series.points().take(2).map(|(at, _)| at).collect();
        let interval = instants.windows(2).map(|w| w[1].since(w[0])).next().unwrap_or_default();
        let mut slots = Slots::new(&self.step, interval);
        series.points().filter_map(move |(at, row)| Some((slots.due(start_unix_ns + at.0)?, row)))
    }

    pub(crate) fn marker(&self) -> Option<Duration> {
        self.config.marker
    }
}

/// The steps of Graphite's that points have gone into. Points that come more rarely go into every second one, or third: into
/// steps that are equally far apart.
struct Slots {
    /// Graphite's.
    step: Arc<AtomicU64>,
    /// Seconds between points.
    interval: u64,
    last: Option<u64>,
}

impl Slots {
    fn new(step: &Arc<AtomicU64>, interval: Duration) -> Slots {
        Slots { step: Arc::clone(step), interval: interval.0.div_ceil(NS), last: None }
    }

    /// Seconds from one point that is sent to the next: the interval as a multiple of the step.
    fn spacing(&self) -> u64 {
        let step = self.step.load(Ordering::Relaxed).max(1);
        self.interval.div_ceil(step).max(1) * step
    }

    /// The unix second of a point, if nothing was sent into its step yet.
    fn due(&mut self, unix_ns: u64) -> Option<u64> {
        let seconds = unix_ns / NS;
        let slot = seconds / self.spacing();
        (self.last.replace(slot) != Some(slot)).then_some(seconds)
    }
}

fn paths(prefix: &str, columns: &Columns) -> Arc<[String]> {
    columns.names.iter().map(|name| format!("{prefix}{name}")).collect()
}

/// As `metrics.csv` has them: six decimals.
pub(crate) fn emitted(row: &[f64]) -> Vec<f64> {
    row.iter().map(|v| (v * 1e6).round() / 1e6).collect()
}

/// Hands a worker's points to the sender.
struct Emit {
    sender: Arc<Sender>,
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
            let mut slots = Slots::new(&Arc::new(AtomicU64::new(step)), Duration::from_secs(apart));
            let all = (start..=start + 60).step_by(apart as usize);
            all.filter_map(|s| slots.due(s * NS)).map(|s| s - start).collect::<Vec<u64>>()
        };
        assert_eq!(sent(1, 1, 0).len(), 61);
        assert_eq!(sent(30, 1, 0), [0, 30, 60]);
        // The start need not be a multiple of the step, nor the interval a divisor of it.
        assert_eq!(sent(30, 1, 17), [0, 13, 43]);
        assert_eq!(sent(10, 16, 0), [0, 32, 48]);
    }
}
