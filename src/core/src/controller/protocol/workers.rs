//! Workers come, are heard of, are lost, and go.

use super::{Action, Deadline, Protocol};
use crate::base::{Cpus, Duration, Time};
use crate::controller::Place;
use crate::controller::fleet::{Health, Report};
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;

/// How long the last answers of a worker that has left may take: what is on its way overtakes no farewell on another connection.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// As many workers are known at once, lost ones included.
pub const MOST: usize = 4096;

/// A worker's time with the controller, from a registration on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(u64);

/// Who registers.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Its name, which no other live worker may have.
    pub name: &'a str,
    /// Counts its lives: a later one is higher.
    pub incarnation: u64,
    /// The host that it is on.
    pub machine: &'a str,
    /// Its cores; [`Cpus::MAX`] where they do not limit it.
    pub cores: Cpus,
}

/// Why a worker cannot register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// The controller ends.
    Draining,
    /// A live worker of this name is on another host.
    OtherHost,
    /// A worker of this name has begun a later life.
    LaterLife,
    /// As many workers are known as may be.
    Full,
}

/// What a worker says now and then.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Which of its lives says it.
    pub incarnation: u64,
    /// It takes no more.
    pub draining: bool,
    /// What it has.
    pub load: Load,
}

/// What a worker tells of its load.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// So many invocations, and all that was sent to it counts in that.
    Left(u64),
    /// What it had received by then, and has left.
    Report(Report),
}

/// What a heartbeat comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It takes part, or drains.
    Is(Health),
    /// It is being introduced.
    Registering,
    /// It is not known: it has to register.
    Unknown,
    /// Another life of its name is registered: a later one, or an earlier one that this one has to replace.
    OtherLife {
        /// The registered life is the later one.
        later: bool,
    },
}

/// What a farewell comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It has left; what it has still to answer is waited for a little.
    Left,
    /// Nobody of this name is known.
    Unknown,
    /// Another life is registered.
    OtherLife,
}

/// Why nothing that a session has is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It was not heard of. The session goes on when it is.
    Silent,
    /// Its worker registered again.
    Replaced,
    /// It could not be introduced.
    NotIntroduced,
    /// It left.
    Left,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Introducing,
    Introduced,
}

/// A worker in a session.
pub(super) struct Member {
    pub(super) place: Place,
    incarnation: u64,
    machine: String,
    heard: Time,
    drains: bool,
    stage: Stage,
    /// Keys of functions that it cannot serve.
    pub(super) cannot: FxHashSet<u64>,
    /// Calls that it has.
    pub(super) calls: BTreeSet<u64>,
    /// It has said farewell.
    leaves: bool,
    /// Its silence is looked for at an instant that is among what is due.
    watched: bool,
}

impl Member {
    pub(super) fn take(&mut self, call: u64) {
        self.calls.insert(call);
    }

    pub(super) fn give(&mut self, call: u64) {
        self.calls.remove(&call);
    }

    /// Whether its silence is looked for.
    pub(super) fn is_watched(&self) -> bool {
        self.watched && !self.leaves
    }

    pub(super) fn has(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn has_call(&self, call: u64) -> bool {
        self.calls.contains(&call)
    }
}

impl Protocol {
    /// A worker registers: its session, in which it is introduced first.
    ///
    /// # Errors
    /// Why it cannot be the one of its name.
    pub fn register(&mut self, who: Newcomer<'_>, now: Time) -> Result<Session, Objection> {
        if self.draining {
            return Err(Objection::Draining);
        }
        if let Some(objection) = self.objection(&who) {
            return Err(objection);
        }
        let before = self.session_of(who.name);
        if let Some(known) = before
            && let Some(member) = self.sessions.get_mut(&known)
            && member.incarnation == who.incarnation
            && self.fleet.health(member.place) != Health::Lost
        {
            // It did not hear that it is registered: what it has goes on.
            member.heard = now;
            return Ok(known);
        }
        if before.is_none() && self.members.len() >= MOST {
            return Err(Objection::Full);
        }
        let place = self.fleet.join(who.name, who.cores);
        // It is known, and gets nothing until it knows the functions.
        self.fleet.set_health(place, Health::Draining);
        self.begun += 1;
        let session = Session(self.begun);
        let member = Member {
            place,
            incarnation: who.incarnation,
            machine: who.machine.to_string(),
            heard: now,
            drains: false,
            stage: Stage::Introducing,
            cannot: FxHashSet::default(),
            calls: BTreeSet::new(),
            leaves: false,
            watched: false,
        };
        self.sessions.insert(session, member);
        self.members.insert(place, session);
        if let Some(before) = before {
            self.end_session(before, Over::Replaced, now);
        }
        self.watch(session);
        self.actions.push_back(Action::Introduce(session));
        Ok(session)
    }

    /// Whether a worker could register as it is: nothing changes.
    pub fn objection(&self, who: &Newcomer<'_>) -> Option<Objection> {
        let known = self.sessions.get(&self.session_of(who.name)?)?;
        if self.fleet.health(known.place) == Health::Lost {
            // One that is lost does not come back from a later life; the host's clock was set back.
            return None;
        }
        if known.machine != who.machine {
            return Some(Objection::OtherHost);
        }
        (who.incarnation < known.incarnation).then_some(Objection::LaterLife)
    }

    /// The session of the worker that has this name.
    pub fn session_of(&self, name: &str) -> Option<Session> {
        self.members.get(&self.fleet.find(name)?).copied()
    }

    /// How the worker of a session is; `None` once the session is over.
    pub fn health(&self, session: Session) -> Option<Health> {
        let member = self.sessions.get(&session)?;
        (self.members.get(&member.place) == Some(&session)).then(|| self.fleet.health(member.place))
    }

    /// The session of the worker that has this name, if it is being introduced.
    pub fn introducing(&self, name: &str) -> Option<Session> {
        self.session_of(name).filter(|session| self.is_introducing(*session))
    }

    /// Whether the worker of a session is being introduced.
    pub fn is_introducing(&self, session: Session) -> bool {
        self.sessions.get(&session).is_some_and(|member| member.stage == Stage::Introducing)
    }

    /// When the worker of a session was heard of last.
    pub fn heard_at(&self, session: Session) -> Option<Time> {
        self.sessions.get(&session).map(|member| member.heard)
    }

    /// Calls that the worker of a session has.
    pub fn calls_of(&self, session: Session) -> u64 {
        self.sessions.get(&session).map_or(0, |member| member.calls.len() as u64)
    }

    /// The introduction of a worker came to its end: it takes part if it knows the functions, or has to register again.
    pub fn introduced(&mut self, session: Session, knows: bool, now: Time) {
        let Some(member) = self.sessions.get_mut(&session) else { return };
        let place = member.place;
        if self.members.get(&place) != Some(&session) || member.stage == Stage::Introduced {
            return;
        }
        if !knows {
            self.fleet.leave(place);
            self.members.remove(&place);
            return self.end_session(session, Over::NotIntroduced, now);
        }
        member.stage = Stage::Introduced;
        member.heard = now;
        let health = if member.drains { Health::Draining } else { Health::Healthy };
        self.fleet.set_health(place, health);
        self.watch(session);
    }

    /// Whether a worker can serve the function with this key, as it said itself.
    pub fn serves(&mut self, session: Session, function: u64, serves: bool) {
        if let Some(member) = self.sessions.get_mut(&session) {
            if serves {
                member.cannot.remove(&function)
            } else {
                member.cannot.insert(function)
            };
            self.some_cannot |= !serves;
        }
    }

    /// A worker says that it is alive.
    pub fn beat(&mut self, name: &str, beat: Beat, now: Time) -> Heard {
        let Some(session) = self.session_of(name) else { return Heard::Unknown };
        let Some(member) = self.sessions.get_mut(&session) else { return Heard::Unknown };
        if beat.incarnation != member.incarnation {
            return Heard::OtherLife { later: beat.incarnation < member.incarnation };
        }
        member.drains = beat.draining;
        member.heard = now;
        let (place, stage) = (member.place, member.stage);
        if stage == Stage::Introducing {
            return Heard::Registering;
        }
        let before = self.fleet.health(place);
        let health = if beat.draining { Health::Draining } else { Health::Healthy };
        if (before, health) == (Health::Lost, Health::Healthy) {
            // Functions came and went while nobody could tell it: it takes part when it knows them.
            member.stage = Stage::Introducing;
            self.fleet.set_health(place, Health::Draining);
            self.watch(session);
            self.actions.push_back(Action::Introduce(session));
            return Heard::Registering;
        }
        match beat.load {
            Load::Left(invocations) => self.fleet.report(place, invocations),
            Load::Report(report) => self.fleet.hear(place, report),
        }
        if before != health {
            self.fleet.set_health(place, health);
            self.watch(session);
        }
        Heard::Is(health)
    }

    /// A report of a worker's load arrived, beside its heartbeats.
    pub fn report(&mut self, place: Place, report: Report) {
        self.fleet.hear(place, report);
    }

    /// A worker says that its life is over; without a number it is said of whichever life there is.
    pub fn leave(&mut self, name: &str, incarnation: Option<u64>, now: Time) -> Farewell {
        let Some(session) = self.session_of(name) else { return Farewell::Unknown };
        let Some(member) = self.sessions.get_mut(&session) else { return Farewell::Unknown };
        if incarnation.is_some_and(|said| said != member.incarnation) {
            return Farewell::OtherLife;
        }
        let place = member.place;
        member.leaves = true;
        self.fleet.leave(place);
        self.members.remove(&place);
        self.later(now + LAST_ANSWERS, Deadline::Farewell(session));
        Farewell::Left
    }

    /// Looks for the silence of a worker from now on, once.
    fn watch(&mut self, session: Session) {
        let Some(member) = self.sessions.get_mut(&session).filter(|member| !member.watched) else { return };
        member.watched = true;
        let due = member.heard + self.terms.lost_after;
        self.later(due, Deadline::Silence(session));
    }

    /// Marks a worker as lost that has been silent for too long; false if it was heard of meanwhile.
    pub(super) fn is_silent(&mut self, session: Session, now: Time) -> bool {
        let Some(member) = self.sessions.get_mut(&session) else { return false };
        member.watched = false;
        let (place, due) = (member.place, member.heard + self.terms.lost_after);
        if member.leaves || self.fleet.health(place) == Health::Lost {
            return false;
        }
        if due > now {
            self.watch(session);
            return false;
        }
        self.fleet.set_health(place, Health::Lost);
        true
    }

    /// A session is over for good.
    pub(super) fn end_session(&mut self, session: Session, why: Over, now: Time) {
        if self.sessions.contains_key(&session) {
            self.lose_calls(session, why, now);
            self.sessions.remove(&session);
        }
    }
}
