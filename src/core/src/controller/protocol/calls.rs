//! Calls on their way to a worker, or to the next one, and back.

use super::workers::{Over, Session};
use super::{Action, Deadline, OnRefusal, Protocol};
use crate::base::Time;
use crate::controller::Place;

/// An attempt at a call: what a driver sends, and says an answer of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The call.
    pub call: u64,
    /// Counts what was sent of it: an answer to an earlier one is not heard any more.
    pub nth: u32,
    /// Where it is sent.
    pub to: Session,
    /// The worker's place in the fleet.
    pub place: Place,
    /// Counts attempts as callers see them, from 1: those that no worker took are not counted.
    pub attempt: u32,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an answer.
    Answered {
        /// It comes from the function: it is no refusal of the worker.
        ran: bool,
    },
    /// The worker did not take it, and says so.
    NotTaken,
    /// The worker was not reached.
    Unreached,
    /// Nobody knows whether it ran.
    Lost,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// With the answer that was told last.
    Answered,
    /// With the last refusal: no worker is left that might take it.
    Refused,
    /// Lost with a worker, where it may have run.
    Lost,
    /// There was no worker for it.
    NoWorker,
}

/// A call that is not over.
pub(super) struct RoutedCall {
    function: u64,
    /// Where the last attempt is.
    at: Option<Session>,
    /// The worker's place.
    place: Place,
    nth: u32,
    attempt: u32,
    /// Workers that need not be tried again.
    tried: Vec<Place>,
    refused: bool,
    lost: bool,
}

impl RoutedCall {
    pub(super) fn is_sent(&self) -> bool {
        self.at.is_some()
    }

    pub(super) fn at(&self) -> Option<Session> {
        self.at
    }

    /// Whether the last attempt is this one, and is under way.
    pub(super) fn is_at(&self, nth: u32) -> bool {
        self.nth == nth && self.is_sent()
    }
}

impl Protocol {
    /// A call of the function with this key comes: its number. It is sent, or over, by the next [`poll`](Protocol::poll)s.
    pub fn invoke(&mut self, function: u64, now: Time) -> u64 {
        let number = self.totals.invocations;
        self.totals.invocations += 1;
        let (at, nth, attempt, tried) = (None, 0, 1, Vec::new());
        self.calls.insert(
            number,
            RoutedCall { function, at, place: Place(0), nth, attempt, tried, refused: false, lost: false },
        );
        self.try_next(number, now);
        number
    }

    /// What came of an attempt. An answer to one that has been given up says nothing any more.
    pub fn answered(&mut self, attempt: Attempt, verdict: Verdict, now: Time) {
        let Attempt { call: number, nth, .. } = attempt;
        if self.calls.get(&number).is_some_and(|call| call.is_at(nth)) {
            self.conclude(number, verdict, now);
        }
    }

    /// A worker for something of a function that is no call: it counts among nobody's load.
    pub fn pick(&mut self, function: u64) -> Option<Session> {
        let place = self.choose(function, &[])?;
        self.fleet.returned(place);
        self.members.get(&place).copied()
    }

    /// The worker that the balancer names, among those that can serve a function and are none of `tried`; counted as sent to.
    fn choose(&mut self, function: u64, tried: &[Place]) -> Option<Place> {
        if tried.is_empty() && !self.some_cannot {
            return self.fleet.choose(function);
        }
        let (members, sessions) = (&self.members, &self.sessions);
        let serves = |place: Place| {
            let member = members.get(&place).and_then(|session| sessions.get(session));
            member.is_some_and(|m| !m.cannot.contains(&function))
        };
        self.fleet.choose_among(function, |place| serves(place) && !tried.contains(&place))
    }

    /// The caller does not wait for a call any more.
    pub fn give_up(&mut self, number: u64) {
        self.take_back(number);
        self.calls.remove(&number);
    }

    fn conclude(&mut self, number: u64, verdict: Verdict, now: Time) {
        self.take_back(number);
        let attempts = self.terms.attempts;
        let Some(call) = self.calls.get_mut(&number) else { return };
        let place = call.place;
        match verdict {
            // A refusal of another attempt does not undo that an earlier one may have run.
            Verdict::Answered { ran } if ran || !call.lost => return self.end(number, CallEnd::Answered),
            Verdict::NotTaken if self.terms.on_refusal == OnRefusal::End => {
                let how = if call.lost { CallEnd::Lost } else { CallEnd::Refused };
                return self.end(number, how);
            }
            Verdict::Answered { .. } | Verdict::NotTaken | Verdict::Unreached => call.refused = true,
            Verdict::Lost => {
                self.totals.lost += 1;
                if call.attempt >= attempts {
                    return self.end(number, CallEnd::Lost);
                }
                self.totals.retries += 1;
                (call.attempt, call.lost) = (call.attempt + 1, true);
            }
        }
        call.tried.push(place);
        self.try_next(number, now);
    }

    /// Sends a call to the worker that the balancer names among those that it was not sent to yet, or ends it.
    fn try_next(&mut self, number: u64, now: Time) {
        let Some(call) = self.calls.get(&number) else { return };
        let (function, tried) = (call.function, call.tried.clone());
        let chosen = self.choose(function, &tried);
        let sent = chosen.and_then(|place| Some((place, *self.members.get(&place)?)));
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some((place, to)) = sent else {
            self.totals.refused += 1;
            let how = match (call.lost, call.refused) {
                (true, _) => CallEnd::Lost,
                (false, true) => CallEnd::Refused,
                (false, false) => CallEnd::NoWorker,
            };
            return self.end(number, how);
        };
        call.nth += 1;
        (call.at, call.place) = (Some(to), place);
        let (nth, attempt) = (call.nth, call.attempt);
        if let Some(member) = self.sessions.get_mut(&to) {
            member.take(number);
        }
        self.later(now + self.terms.attempt_timeout, Deadline::Attempt(number, nth));
        self.actions.push_back(Action::Send(Attempt { call: number, nth, to, place, attempt }));
    }

    fn end(&mut self, call: u64, how: CallEnd) {
        self.calls.remove(&call);
        self.actions.push_back(Action::End { call, how });
    }

    /// A call is not with its worker any more, whatever became of it.
    fn take_back(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let (Some(session), place) = (call.at.take(), call.place) else { return };
        let Some(member) = self.sessions.get_mut(&session) else { return };
        member.give(number);
        // Nothing of an earlier session counts among the load of the present one.
        if self.members.get(&place) == Some(&session) {
            self.fleet.returned(place);
        }
    }

    /// An attempt has taken as long as it may.
    pub(super) fn give_up_attempt(&mut self, number: u64, nth: u32, now: Time) {
        if self.calls.get(&number).is_some_and(|call| call.is_at(nth)) {
            self.conclude(number, Verdict::Lost, now);
        }
    }

    /// What a session has is lost.
    pub(super) fn lose_calls(&mut self, session: Session, why: Over, now: Time) {
        self.actions.push_back(Action::Over { session, why });
        let has = self.sessions.get(&session).map(|member| member.calls.clone()).unwrap_or_default();
        for call in has {
            self.conclude(call, Verdict::Lost, now);
        }
    }
}
