//! How long something is waited for at the end of a run, when the user may want the end.

use elapse::Interrupt;
use std::time::{Duration, Instant};

/// Between two looks whether the user asks for the end.
const LOOK: Duration = Duration::from_millis(100);

/// How long something may be waited for: so long, or until the user asks for the end. Where that was asked before, a moment.
#[derive(Clone, Debug)]
pub struct Patience {
    begun: Instant,
    limit: Duration,
    interrupt: Interrupt,
}

impl Patience {
    /// From now on.
    pub fn new(limit: Duration, interrupt: &Interrupt) -> Patience {
        /// What an interrupted run has left is worth this much.
        const MOMENT: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        if interrupt.asked() {
            return Patience { begun, limit: limit.min(MOMENT), interrupt: Interrupt::default() };
        }
        Patience { begun, limit, interrupt: interrupt.clone() }
    }

    /// What was waited so far.
    pub fn spent(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether nothing more is waited for.
    pub fn is_over(&self) -> bool {
        self.interrupt.asked() || self.spent() >= self.limit
    }

    /// How long may be slept until [`is_over`](Self::is_over) is asked again.
    pub fn nap(&self) -> Duration {
        self.limit.saturating_sub(self.spent()).min(LOOK)
    }

    /// Sleeps for so long, or until it is over.
    pub fn rest(&self, span: Duration) {
        let until = Instant::now() + span;
        while !self.is_over() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(self.nap()));
        }
    }
}

/// So long, whatever the user asks for.
impl From<Duration> for Patience {
    fn from(limit: Duration) -> Patience {
        Patience::new(limit, &Interrupt::default())
    }
}
