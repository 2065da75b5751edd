//! The network between a simulated controller and its workers: messages take their time, get lost, and overtake one another.

use crate::base::{Dist, Duration, Time};
use crate::rt::chance::{Purpose, RngKey};
use rand::RngExt;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the controller to a worker.
    There = 0,
    /// From a worker to the controller.
    Back = 1,
}

/// One direction between the controller and a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    sent: u64,
    /// When the last message arrives.
    last: Time,
}

/// See the module.
pub(super) struct Network {
    delay: Dist,
    /// The delay, where it is always the same.
    constant: Option<Duration>,
    loss: f64,
    ordered: bool,
    rng: RngKey,
    links: Vec<[Direction; 2]>,
    /// Workers that no message reaches or leaves.
    parted: Vec<bool>,
}

impl Network {
    /// One to so many workers. What befalls the n-th message of a direction is drawn by (seed, worker, direction, n).
    pub(super) fn new(delay: Dist, loss: f64, ordered: bool, rng: RngKey, workers: usize) -> Network {
        let constant = delay.as_constant();
        let (links, parted) = (vec![[Direction::default(); 2]; workers], vec![false; workers]);
        Network { delay, constant, loss, ordered, rng, links, parted }
    }

    /// No message between a worker and the controller arrives from now on, or they do again.
    pub(super) fn part(&mut self, worker: usize, parted: bool) {
        self.parted[worker] = parted;
    }

    /// Whether what arrives now at a worker, or from it, does not.
    pub(super) fn is_parted(&self, worker: usize) -> bool {
        self.parted[worker]
    }

    /// When a message arrives that is sent now; none if it never does.
    #[inline]
    pub(super) fn send(&mut self, worker: usize, way: Way, now: Time) -> Option<Time> {
        if self.parted[worker] {
            return None;
        }
        let link = &mut self.links[worker][way as usize];
        link.sent += 1;
        let delay = match self.constant {
            Some(delay) if self.loss == 0.0 => delay,
            _ => {
                let key = (worker as u64 * 2 + way as u64) << 40 ^ link.sent;
                let mut draw = self.rng.draw(Purpose::Message, key);
                if draw.random::<f64>() < self.loss {
                    return None;
                }
                self.delay.sample(&mut draw)
            }
        };
        let arrives = now + delay;
        let at = if self.ordered { arrives.max(link.last) } else { arrives };
        link.last = at;
        Some(at)
    }
}
