//! A daemon of containers that does not answer: it is told once, and asked again after pauses that grow.

use elapse::base::{Duration, Time};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_millis(250);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the daemon answers, as far as creations have seen.
#[derive(Default)]
pub(crate) struct Away {
    why: RefCell<Option<Rc<str>>>,
    pause: Cell<Duration>,
    until: Cell<Time>,
}

impl Away {
    /// Why it does not answer, if it does not.
    pub(crate) fn why(&self) -> Option<Rc<str>> {
        self.why.borrow().clone()
    }

    /// Why nobody is sent to it now: it did not answer a moment ago.
    pub(crate) fn pauses(&self, now: Time) -> Option<Rc<str>> {
        self.why().filter(|_| now < self.until.get())
    }

    /// It has not answered.
    pub(crate) fn is_away(&self, engine: &str, why: &str, now: Time) {
        let first = self.why.replace(Some(Rc::from(why))).is_none();
        let pause = if first { FIRST } else { Duration(self.pause.get().0.saturating_mul(2)).min(LONGEST) };
        self.pause.set(pause);
        self.until.set(now + pause);
        if first {
            tracing::error!(target: "elapse", backend = engine, why, "it does not answer; it is asked again, less and less often");
        }
    }

    /// It has answered.
    pub(crate) fn is_back(&self, engine: &str) {
        if self.why.take().is_some() {
            tracing::info!(target: "elapse", backend = engine, "it answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_is_away_and_are_over_when_it_is_back() {
        let away = Away::default();
        let mut now = Time(100_000_000_000);
        assert!(away.pauses(now).is_none());
        let mut pauses = Vec::new();
        for _ in 0..10 {
            away.is_away("docker", "nobody", now);
            let begun = now;
            while away.pauses(now).is_some() {
                now = now + Duration::from_millis(250);
            }
            pauses.push(now.since(begun).as_secs_f64());
        }
        assert_eq!(pauses, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        away.is_back("docker");
        assert!(away.why().is_none() && away.pauses(now).is_none());
    }
}
