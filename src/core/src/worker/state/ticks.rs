//! Policies that hear events, and that are called at times of their own.

use super::lines::ordered;
use super::{Shell, State};
use crate::base::{Duration, Time};
use crate::worker::event::WorkerEvent;
use crate::worker::queue::Joining;

/// A policy of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Asked {
    Eviction,
    Queue,
    KeepAlive,
}

impl Asked {
    /// All, each with the name of the loop that calls it.
    pub(in crate::worker) const ALL: [(Asked, &'static str); 3] = [
        (Asked::Eviction, "eviction-tick"),
        (Asked::Queue, "queue-tick"),
        (Asked::KeepAlive, "keep-alive-tick"),
    ];
}

impl State {
    /// Tells an event to those policies that want to hear it.
    pub(super) fn tell_policies(&mut self, now: Time, event: &WorkerEvent) {
        if self.pool.eviction().hears() {
            self.pool.eviction().hear(now, event);
        }
        if self.policy.hears() {
            self.policy.hear(now, event);
        }
        if let Some(asked) = self.keeping.adaptive()
            && asked.policy().hears()
        {
            asked.policy().hear(now, event);
        }
    }

    /// How often a policy wants to be called.
    pub(in crate::worker) fn every(&mut self, asked: Asked) -> Option<Duration> {
        let every = match asked {
            Asked::Eviction => self.pool.eviction().every(),
            Asked::Queue => self.policy.every(),
            Asked::KeepAlive => self.keeping.adaptive().and_then(|asked| asked.policy().every()),
        };
        every.filter(|every| *every > Duration::ZERO)
    }

    /// Calls a policy whose time has come, and does what follows from what it says then.
    pub(in crate::worker) fn tick(&mut self, asked: Asked, now: Time, shell: &mut impl Shell) {
        match asked {
            Asked::Eviction => {
                self.pool.eviction().tick(now);
                self.pool.nominate_anew();
            }
            Asked::Queue => {
                self.policy.tick(now);
                self.rank_anew();
                self.serve_queue(now, shell);
            }
            Asked::KeepAlive => {
                self.keeping.adaptive().into_iter().for_each(|asked| asked.policy().tick(now))
            }
        }
        self.settled();
    }

    /// Ranks every invocation that waits as if it joined at its own instant, with what is known by now.
    fn rank_anew(&mut self) {
        let mut waiting: Vec<usize> =
            self.tickets.iter().filter(|(_, t)| t.outcome.is_none()).map(|(i, _)| i).collect();
        waiting.sort_unstable_by_key(|ticket| self.tickets[*ticket].place.1);
        for ticket in waiting {
            let t = &self.tickets[ticket];
            let (function, place) = (t.function, t.place);
            let f = &self.functions[function.index()];
            let rank = self.policy.rank(&Joining {
                function,
                at: t.since,
                expected: self.groups.expected(f.group),
                deadline: f.spec.deadline,
            });
            let next = (ordered(rank), place.1);
            if next != place {
                self.lines.leave(function, place);
                self.lines.join(function, next, ticket);
                self.tickets[ticket].place = next;
            }
        }
    }
}
