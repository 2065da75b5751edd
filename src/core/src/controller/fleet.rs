//! The fleet: the workers that a controller knows, how they are, and what each has to do.
//!
//! A worker's load is what messages have told of it: what it had left when it last made a report, and what was sent to it
//! beyond the requests that it had received by then, less the returns heard of work that ended later. A report thus never
//! forgets what is on its way. Where nobody reports, it is what was sent less the returns that were heard of.

use super::balancer::{Asked, Balancer, Candidate};
use crate::base::Cpus;
use rustc_hash::FxHashMap;

/// A worker's place in the fleet. It stays the same as long as the worker has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(pub usize);

/// Whether a worker takes invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Healthy,
    /// It said that it leaves.
    Draining,
    /// It has not been heard of for too long.
    Lost,
}

impl Health {
    /// The word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Draining => "draining",
            Health::Lost => "lost",
        }
    }
}

/// See the module.
pub struct Fleet {
    members: Vec<Member>,
    by_name: FxHashMap<String, Place>,
    /// Places of those that have left, which others may have.
    free: Vec<Place>,
    balancer: Box<dyn Balancer>,
    /// Those that take invocations, in order of their places.
    candidates: Vec<Candidate>,
    sent: u64,
}

struct Member {
    name: String,
    cores: f64,
    /// Whether cores limit what it does at once.
    limited: bool,
    health: Health,
    report: Report,
    /// Requests that were sent to it.
    sent: u64,
    /// Returns that were heard of.
    returned: u64,
}

/// What a worker tells of its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests of this controller that it had received.
    pub received: u64,
    /// Those of them that it had answered.
    pub answered: u64,
    /// Invocations that it had left, waiting or under way.
    pub left: u64,
}

impl Member {
    fn new(name: &str, cores: Cpus) -> Member {
        let limited = cores != Cpus::MAX;
        Member {
            name: name.to_string(),
            // Where cores do not limit, invocations are compared as they are.
            cores: if limited { cores.as_f64().max(0.001) } else { 1.0 },
            limited,
            health: Health::Healthy,
            report: Report::default(),
            sent: 0,
            returned: 0,
        }
    }

    fn load(&self) -> f64 {
        let on_the_way = self.sent.saturating_sub(self.report.received);
        // What ended after the report was made, as far as it was heard of.
        let ended = self.returned.saturating_sub(self.report.answered);
        (self.report.left + on_the_way).saturating_sub(ended) as f64 / self.cores
    }
}

/// A number of a name that is the same everywhere (FNV-1a).
pub fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

impl Fleet {
    /// One without workers.
    pub fn new(balancer: Box<dyn Balancer>) -> Fleet {
        let (by_name, free) = (FxHashMap::default(), Vec::new());
        Fleet { members: Vec::new(), by_name, free, balancer, candidates: Vec::new(), sent: 0 }
    }

    /// The balancer's name.
    pub fn balancer(&self) -> &str {
        self.balancer.name()
    }

    /// A worker joins, or begins a new life under its name: healthy, with nothing to do.
    pub fn join(&mut self, name: &str, cores: Cpus) -> Place {
        let fresh = Member::new(name, cores);
        let place = match self.find(name).or_else(|| self.free.pop()) {
            Some(place) => {
                self.members[place.0] = fresh;
                place
            }
            None => {
                self.members.push(fresh);
                Place(self.members.len() - 1)
            }
        };
        self.by_name.insert(name.to_string(), place);
        self.line_up();
        place
    }

    /// The worker with this name.
    pub fn find(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).copied()
    }

    /// A worker is known no more: its place may be another's.
    pub fn leave(&mut self, place: Place) {
        let name = std::mem::take(&mut self.members[place.0].name);
        if self.by_name.remove(&name).is_some() {
            self.free.push(place);
        }
        self.set_health(place, Health::Lost);
    }

    /// How a worker is.
    pub fn health(&self, place: Place) -> Health {
        self.members[place.0].health
    }

    /// How a worker is from now on.
    pub fn set_health(&mut self, place: Place, health: Health) {
        self.members[place.0].health = health;
        self.line_up();
    }

    /// What a worker has to do, for each of its cores.
    pub fn load(&self, place: Place) -> f64 {
        self.members[place.0].load()
    }

    /// A worker said how many invocations it has, and all that was sent to it counts in that.
    pub fn report(&mut self, place: Place, invocations: u64) {
        let member = &self.members[place.0];
        let (received, answered) = (member.sent, member.returned);
        self.hear(place, Report { received, answered, left: invocations });
    }

    /// A report arrived. Messages of one worker arrive in the order in which they were sent.
    pub fn hear(&mut self, place: Place, report: Report) {
        self.members[place.0].report = report;
        self.weigh(place);
    }

    /// Workers that take invocations.
    pub fn able(&self) -> usize {
        self.candidates.len()
    }

    /// The worker that takes an invocation of the function with this key, counted as sent; none if none can.
    pub fn choose(&mut self, function: u64) -> Option<Place> {
        if self.candidates.is_empty() {
            return None;
        }
        let asked = Asked { function, nth: self.sent };
        let chosen = self.balancer.choose(asked, &self.candidates);
        Some(self.send(Place(self.candidates[chosen].place)))
    }

    /// [`choose`](Self::choose) among those workers that `fits` allows.
    pub fn choose_among(&mut self, function: u64, fits: impl Fn(Place) -> bool) -> Option<Place> {
        let fitting: Vec<Candidate> =
            self.candidates.iter().copied().filter(|c| fits(Place(c.place))).collect();
        if fitting.is_empty() {
            return None;
        }
        let chosen = self.balancer.choose(Asked { function, nth: self.sent }, &fitting);
        Some(self.send(Place(fitting[chosen].place)))
    }

    fn send(&mut self, place: Place) -> Place {
        self.sent += 1;
        self.members[place.0].sent += 1;
        self.weigh(place);
        place
    }

    /// The controller heard that an invocation which was sent to a worker is there no more.
    pub fn returned(&mut self, place: Place) {
        self.members[place.0].returned += 1;
        self.weigh(place);
    }

    fn weigh(&mut self, place: Place) {
        let load = self.members[place.0].load();
        if let Ok(i) = self.candidates.binary_search_by_key(&place.0, |c| c.place) {
            self.candidates[i].load = load;
        }
    }

    fn line_up(&mut self) {
        let able = self.members.iter().enumerate().filter(|(_, m)| m.health == Health::Healthy);
        self.candidates = able
            .map(|(place, m)| Candidate { key: key_of(&m.name), place, load: m.load(), limited: m.limited })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::super::balancer;
    use super::*;
    use crate::rt::chance::Seed;

    fn fleet(name: &str, workers: usize) -> Fleet {
        let mut fleet =
            Fleet::new(balancer::build(&name.into(), Seed::new(1).named("balancer")).expect("known"));
        for i in 0..workers {
            fleet.join(&format!("w{i}"), Cpus::from_cores(2));
        }
        fleet
    }

    #[test]
    fn loads_are_reports_corrected_by_what_was_sent_since() {
        let mut fleet = fleet("least-loaded", 3);
        assert_eq!((0..3).map(|_| fleet.choose(1).unwrap().0).collect::<Vec<_>>(), [0, 1, 2]);
        fleet.returned(Place(1));
        assert_eq!(fleet.load(Place(0)), 0.5);
        assert_eq!(fleet.choose(1), Some(Place(1)));
        fleet.report(Place(0), 0);
        fleet.report(Place(1), 7);
        fleet.report(Place(2), 1);
        // No herd: the one that reported nothing fills up by what is sent to it.
        assert_eq!((0..3).map(|_| fleet.choose(1).unwrap().0).collect::<Vec<_>>(), [0, 0, 2]);
    }

    #[test]
    fn a_report_forgets_nothing_that_is_on_its_way_and_counts_no_return_twice() {
        let mut fleet = fleet("round-robin", 1);
        (0..5).for_each(|_| assert!(fleet.choose(1).is_some()));
        // It had received three of five when it reported, and answered one of them.
        fleet.hear(Place(0), Report { received: 3, answered: 1, left: 2 });
        assert_eq!(fleet.load(Place(0)), 2.0);
        // The report knew of the first return, and not of the second.
        fleet.returned(Place(0));
        assert_eq!(fleet.load(Place(0)), 2.0);
        fleet.returned(Place(0));
        assert_eq!(fleet.load(Place(0)), 1.5);
    }

    #[test]
    fn who_is_lost_or_drains_gets_nothing_until_it_is_back() {
        for name in balancer::names() {
            let mut fleet = fleet(name, 3);
            fleet.set_health(Place(0), Health::Lost);
            fleet.set_health(Place(2), Health::Draining);
            assert!((0..20).all(|f| fleet.choose(f) == Some(Place(1))), "{name}");
            fleet.set_health(Place(1), Health::Lost);
            assert_eq!((fleet.choose(1), fleet.able()), (None, 0));
            assert_eq!(fleet.join("w2", Cpus::from_cores(1)), Place(2));
            assert_eq!(fleet.choose(1), Some(Place(2)));
        }
    }

    #[test]
    fn who_leaves_gives_its_place_to_another() {
        let mut fleet = fleet("round-robin", 2);
        fleet.leave(Place(0));
        assert_eq!((fleet.find("w0"), fleet.choose(1)), (None, Some(Place(1))));
        assert_eq!(fleet.join("w9", Cpus::from_cores(1)), Place(0));
        assert_eq!((fleet.find("w9"), fleet.join("w1", Cpus::from_cores(1))), (Some(Place(0)), Place(1)));
        assert_eq!(fleet.join("w3", Cpus::from_cores(1)), Place(2));
    }

    #[test]
    fn some_workers_can_be_left_out() {
        let mut fleet = fleet("locality", 2);
        let first = fleet.choose(9).unwrap();
        assert_eq!(fleet.choose_among(9, |p| p != first), Some(Place(1 - first.0)));
        fleet.set_health(Place(1 - first.0), Health::Lost);
        assert_eq!(fleet.choose_among(9, |p| p != first), None);
        assert_eq!(fleet.choose_among(9, |_| true), Some(first));
    }
}
