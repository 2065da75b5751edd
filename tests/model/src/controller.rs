//! Which worker an invocation goes to, by what messages have told.

use crate::plan::{Balancer, Plan};

/// What a worker's last report said.
#[derive(Clone, Copy, Debug)]
struct Report {
    /// When it was made, as which of all events.
    made: u64,
    /// Requests that the worker had received.
    received: u64,
    /// Requests that it had left.
    left: u64,
}

/// What is known of a worker.
#[derive(Clone, Debug, Default)]
struct Known {
    sent: u64,
    report: Option<Report>,
    /// Of each return that was heard of: as which of all events the work ended.
    returns: Vec<u64>,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Controller {
    known: Vec<Known>,
    turn: usize,
}

impl Controller {
    /// One that has heard nothing.
    pub fn new(workers: usize) -> Controller {
        Controller { known: vec![Known::default(); workers], turn: 0 }
    }

    /// Law (A fleet): known load = left + sent beyond those received - returns heard of work that ended after the report
    /// was made. Without a report: sent - returns heard of.
    fn known_load(&self, worker: usize) -> u64 {
        let known = &self.known[worker];
        let report = known.report.unwrap_or(Report { made: 0, received: 0, left: 0 });
        let ended_since = known.returns.iter().filter(|ended| **ended > report.made).count() as u64;
        report.left + (known.sent - report.received) - ended_since
    }

    /// Hears of a return.
    pub fn hear_return(&mut self, worker: usize, ended: u64) {
        self.known[worker].returns.push(ended);
    }

    /// Hears a report.
    pub fn hear_report(&mut self, worker: usize, made: u64, received: u64, left: u64) {
        self.known[worker].report = Some(Report { made, received, left });
    }

    /// Picks a worker for a call of this function, and sends it there.
    pub fn send(&mut self, plan: &Plan, function: usize) -> usize {
        let n = self.known.len();
        let worker = match &plan.controller.balancer {
            Balancer::RoundRobin => {
                self.turn += 1;
                (self.turn - 1) % n
            }
            // Assumed: of equal ones the first.
            Balancer::LeastLoaded => (0..n).min_by_key(|w| self.known_load(*w)).unwrap_or(0),
            Balancer::Locality { rings, slack } => self.by_locality(plan, &rings[function], *slack),
        };
        self.known[worker].sent += 1;
        worker
    }

    /// Law (A fleet): consistent hashing with bounded loads (1.25), which passes over a worker whose known load is at least
    /// `slack` x its cores for the next one clockwise that is known to have a free place.
    fn by_locality(&self, plan: &Plan, ring: &[usize], slack: u64) -> usize {
        let n = ring.len() as u64;
        let total: u64 = ring.iter().map(|w| self.known_load(*w)).sum();
        // Assumed: one is passed over while its known load is above 1.25 times the mean of all.
        let bounded = |w: &usize| 4 * n * self.known_load(*w) <= 5 * total;
        let Some(place) = ring.iter().position(bounded) else { return ring[0] };
        // Without limited cores only the 1.25 holds.
        let Some(cores) = plan.worker.cores else { return ring[place] };
        if self.known_load(ring[place]) * 1000 < slack * cores {
            return ring[place];
        }
        let clockwise = (1..ring.len()).map(|step| ring[(place + step) % ring.len()]);
        let free = clockwise.into_iter().find(|w| self.known_load(*w) * 1000 < cores);
        free.unwrap_or(ring[place])
    }
}
