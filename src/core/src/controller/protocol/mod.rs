//! The controller's protocol, without I/O: which workers there are, how they are, and what becomes of each call.
//!
//! What happens is told to it, with the instant: a worker registers, beats, leaves; a call comes; an attempt is answered, or is not.
//! What is to be done it has ready for whoever drives it ([`poll`](Protocol::poll)), and when it wants to be asked again
//! ([`next_deadline`](Protocol::next_deadline)). The daemon drives it over HTTP, the simulated controller over a network with delays and
//! losses: it is the same protocol, so that what is found under the virtual clock is true of the daemon. (The form is quinn-proto's.)
//!
//! *Sessions.* A worker that registers begins a session, in which it is introduced (told the functions) before it gets calls. It is lost
//! when nothing was heard of it for `lost_after`, and takes part again when it is. Calls end with a session that is lost, replaced or
//! left: they are lost, unless further attempts are allowed.
//!
//! *Attempts.* A worker that did not take a call (it refused, or was not reached) has not run it: the next worker is tried in silence. One
//! that was lost with a call may have run it: another attempt is made only where attempts are left, and what is answered in the end never
//! leaves that unsaid.

mod calls;
mod workers;

pub use calls::{Attempt, CallEnd, Verdict};
pub use workers::{Beat, Farewell, Heard, Load, MOST, Newcomer, Objection, Over, Session};

use super::Fleet;
use super::fleet::{Health, Place};
use crate::base::{Duration, Time};
use calls::RoutedCall;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use workers::Member;

/// How patient the controller is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// A worker that was not heard of for this long is lost; [`Duration::MAX`] for never.
    pub lost_after: Duration,
    /// Attempts at a call, the first included, where one is lost with its worker.
    pub attempts: u32,
    /// How long a worker may take to answer a call, its queue included; [`Duration::MAX`] for any time.
    pub attempt_timeout: Duration,
    /// What becomes of a call that a worker refuses.
    pub on_refusal: OnRefusal,
}

/// What becomes of a call that a worker refuses: it did not run there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefusal {
    /// Another worker is tried, as long as there is one.
    #[default]
    Next,
    /// It is over.
    End,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a call to a worker, and tell what came of it ([`Protocol::answered`]).
    Send(Attempt),
    /// A call is over.
    End {
        /// Which.
        call: u64,
        /// How.
        how: CallEnd,
    },
    /// Tell a worker the functions, and whether it has them ([`Protocol::introduced`]).
    Introduce(Session),
    /// A session is over, or its worker lost: nothing that it has is waited for.
    Over {
        /// Which.
        session: Session,
        /// Why.
        why: Over,
    },
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls that came.
    pub invocations: u64,
    /// Attempts whose worker was lost.
    pub lost: u64,
    /// Further attempts.
    pub retries: u64,
    /// Calls that no worker could take.
    pub refused: u64,
}

/// What is due at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    /// A worker may have been silent for too long.
    Silence(Session),
    /// An attempt may have taken too long: the call, and the number of its attempt.
    Attempt(u64, u32),
    /// What a worker that left had still to answer is waited for no longer.
    Farewell(Session),
}

/// See the module.
///
/// ```
/// use elapse_core::base::{Cpus, Duration, Time};
/// use elapse_core::controller::protocol::{Action, CallEnd, Newcomer, OnRefusal, Protocol, Terms, Verdict};
/// use elapse_core::controller::{Fleet, balancer};
/// use elapse_core::rt::chance::Seed;
///
/// let balancer = balancer::build(&"round-robin".into(), Seed::new(1).named("balancer")).unwrap();
/// let patience = Duration::from_secs(3);
/// let terms = Terms {
///     lost_after: patience,
///     attempts: 2,
///     attempt_timeout: Duration::MAX,
///     on_refusal: OnRefusal::Next,
/// };
/// let mut protocol = Protocol::new(Fleet::new(balancer), terms);
/// for name in ["a", "b"] {
///     let newcomer = Newcomer { name, incarnation: 1, machine: "host", cores: Cpus::from_cores(1) };
///     let session = protocol.register(newcomer, Time(0)).unwrap();
///     assert_eq!(protocol.poll(), Some(Action::Introduce(session)));
///     protocol.introduced(session, true, Time(0));
/// }
/// let call = protocol.invoke(7, Time(0));
/// let Some(Action::Send(first)) = protocol.poll() else { panic!("it is sent") };
/// // Nobody is heard of for three seconds: what the worker had is lost, and nobody is left for the second attempt.
/// protocol.handle_timeout(Time(3_000_000_000));
/// let done: Vec<Action> = std::iter::from_fn(|| protocol.poll()).collect();
/// assert!(done.contains(&Action::End { call, how: CallEnd::Lost }));
/// // Its answer comes too late.
/// protocol.answered(first, Verdict::Answered { ran: true }, Time(4_000_000_000));
/// assert_eq!(protocol.poll(), None);
/// ```
pub struct Protocol {
    terms: Terms,
    fleet: Fleet,
    /// Finds the session at each place of the fleet.
    members: BTreeMap<Place, Session>,
    /// Holds those members, and those that left and have still to answer something.
    sessions: FxHashMap<Session, Member>,
    begun: u64,
    calls: FxHashMap<u64, RoutedCall>,
    totals: Totals,
    actions: VecDeque<Action>,
    due: BinaryHeap<Reverse<(Time, Deadline)>>,
    draining: bool,
    /// A worker has said of a function that it cannot serve it.
    some_cannot: bool,
}

impl Protocol {
    /// A controller that knows no worker.
    pub fn new(fleet: Fleet, terms: Terms) -> Protocol {
        Protocol {
            terms,
            fleet,
            members: BTreeMap::new(),
            sessions: FxHashMap::default(),
            begun: 0,
            calls: FxHashMap::default(),
            totals: Totals::default(),
            actions: VecDeque::new(),
            due: BinaryHeap::new(),
            draining: false,
            some_cannot: false,
        }
    }

    /// What is to be done next. Ask until there is nothing, after each thing that was told.
    #[inline]
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called, at the latest.
    pub fn next_deadline(&mut self) -> Option<Time> {
        while let Some(Reverse((at, due))) = self.due.peek() {
            if is_awaited(&self.calls, &self.sessions, due) {
                return Some(*at);
            }
            self.due.pop();
        }
        None
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Time) {
        let mut due = Vec::new();
        while let Some(Reverse((at, what))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            due.push(what);
        }
        // Who is lost by now is lost before anything is sent anew.
        due.retain(|what| match what {
            Deadline::Silence(session) => self.is_silent(*session, now),
            _ => true,
        });
        for what in due {
            match what {
                Deadline::Silence(session) => self.lose_calls(session, Over::Silent, now),
                Deadline::Attempt(call, nth) => self.give_up_attempt(call, nth, now),
                Deadline::Farewell(session) => self.end_session(session, Over::Left, now),
            }
        }
    }

    /// Calls and registrations are taken no more.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether calls and registrations are taken no more.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Calls that are not over.
    pub fn under_way(&self) -> u64 {
        self.calls.len() as u64
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Its workers: their load and health, by place.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// How many workers are so.
    pub fn workers(&self, health: Health) -> u64 {
        self.members.keys().filter(|place| self.fleet.health(**place) == health).count() as u64
    }

    fn later(&mut self, at: Time, due: Deadline) {
        if at < Time::MAX {
            self.due.push(Reverse((at, due)));
        }
        // Attempts that were answered are half of it at most.
        if self.due.len() > 2 * (self.calls.len() + self.sessions.len()) + 64 {
            let (calls, sessions) = (&self.calls, &self.sessions);
            self.due.retain(|Reverse((_, due))| is_awaited(calls, sessions, due));
        }
    }

    /// Instants that are kept to be asked at, for tests: their number follows that of calls and workers.
    pub fn deadlines(&self) -> usize {
        self.due.len()
    }

    /// What does not hold of it, for tests: every call is with a worker that has it, and nothing is counted twice.
    pub fn broken(&self) -> Option<String> {
        let held: usize = self.sessions.values().map(Member::has).sum();
        let sent = self.calls.values().filter(|call| call.is_sent()).count();
        if held != sent {
            return Some(format!("workers have {held} calls, and {sent} are with a worker"));
        }
        let lost = self.calls.iter().find(|(number, call)| {
            call.at().is_none_or(|session| !self.sessions.get(&session).is_some_and(|m| m.has_call(**number)))
        });
        if let Some((number, _)) = lost {
            return Some(format!("call {number} is with nobody"));
        }
        let stray = self
            .members
            .iter()
            .find(|(place, session)| self.sessions.get(session).is_none_or(|member| member.place != **place));
        stray.map(|(place, _)| format!("the worker at place {} has no session", place.0))
    }
}

/// Whether something is still to be done at its instant: nothing is of an attempt that was answered, or of a session that is over.
fn is_awaited(
    calls: &FxHashMap<u64, RoutedCall>,
    sessions: &FxHashMap<Session, Member>,
    due: &Deadline,
) -> bool {
    match due {
        Deadline::Attempt(call, nth) => calls.get(call).is_some_and(|call| call.is_at(*nth)),
        Deadline::Silence(session) => sessions.get(session).is_some_and(Member::is_watched),
        Deadline::Farewell(session) => sessions.contains_key(session),
    }
}
