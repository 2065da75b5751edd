//! The one rule by which an invocation is dispatched, and the queue of those that wait for it.

use super::grant::{Grant, Way};
use super::lines::{Ticket, ordered};
use super::{CPUS, IN_FLIGHT, LoopDue, Phase, QUEUED, Shell, State};
use crate::base::{Cpus, Duration, FunctionId, Invocation, Mem, StartKind, Time, Waited};
use crate::worker::config::Dispatch;
use crate::worker::event::{Lack, Refusal, WorkerEvent};
use crate::worker::queue::Joining;
use std::task::{Context, Poll};

/// What came of asking for a place in the worker.
pub(in crate::worker) enum Admission {
    Granted(Grant),
    Queued(usize),
    Refused(Refusal),
}

/// An invocation that is to be dispatched.
#[derive(Clone, Copy)]
struct Contender {
    invocation: u64,
    function: FunctionId,
    /// How it waited in the queue, if it stands there.
    waited: Option<Waited>,
}

impl State {
    /// Takes an invocation: it is dispatched, joins the queue, or is refused.
    #[inline]
    pub(in crate::worker) fn arrive(
        &mut self,
        call: &Invocation,
        now: Time,
        shell: &mut impl Shell,
    ) -> Admission {
        if self.heard {
            self.check_progress(now);
        }
        self.emit(now, |_| WorkerEvent::Arrived { invocation: call.number, function: call.function });
        let admission = self.admit(call, now, shell);
        if let Admission::Refused(why) = admission {
            self.emit(now, |_| WorkerEvent::Refused { invocation: call.number, why, waited: false });
        }
        self.settled();
        admission
    }

    #[inline]
    fn admit(&mut self, call: &Invocation, now: Time, shell: &mut impl Shell) -> Admission {
        if self.queue_len() > 0 {
            self.drop_overdue(now);
        }
        if self.draining {
            return Admission::Refused(Refusal::Draining);
        }
        if self.keeping.is_adaptive() {
            let group = self.functions[call.function.index()].group;
            self.keeping.arrived(call.function, group, now);
        }
        let candidate = Contender { invocation: call.number, function: call.function, waited: None };
        let mut lacks = Lack::Turn;
        if self.queue_len() == 0 || self.policy.skips() {
            match self.dispatch(candidate, now, shell) {
                Ok(grant) => {
                    // What it took may be what one that it passed was counting on.
                    if self.queue_len() > 0 {
                        self.serve_queue(now, shell);
                    }
                    return Admission::Granted(grant);
                }
                Err(lack) => lacks = lack,
            }
        }
        match self.join(call, lacks, now) {
            // The limit is for those that wait, not for one that need not.
            Err(Refusal::QueueFull) if self.would_be_first(call, now) => {
                match self.dispatch(candidate, now, shell) {
                    Ok(grant) => Admission::Granted(grant),
                    Err(_) => Admission::Refused(Refusal::QueueFull),
                }
            }
            Err(why) => Admission::Refused(why),
            Ok((ticket, first)) => {
                if let Some(deadline) = self.tickets[ticket].deadline {
                    shell.look_by(LoopDue::Deadline, deadline);
                }
                if first {
                    self.serve_queue(now, shell);
                }
                Admission::Queued(ticket)
            }
        }
    }

    fn cpus_free(&self, need: Cpus) -> bool {
        self.cores == Cpus::MAX || self.held.value(CPUS) + u64::from(need.0) <= u64::from(self.cores.0)
    }

    /// Dispatches an invocation if its processors and a container, or the memory for one, can be had together now.
    ///
    /// `Err` leaves everything as it was, except for containers evicted to make room that is not confirmed free yet.
    #[inline]
    fn dispatch(&mut self, who: Contender, now: Time, shell: &mut impl Shell) -> Result<Grant, Lack> {
        let Contender { invocation, function, waited } = who;
        let from_queue = waited.is_some();
        let waited = waited.unwrap_or_default();
        let f = &self.functions[function.index()];
        let (cpus, group, fit) = (f.spec.cpus, f.group, f.fit);
        if !self.cpus_free(cpus) {
            return Err(Lack::Cores);
        }
        let grant =
            |container, start, cause, way| Grant { invocation, container, start, cause, way, cpus, waited };
        let grant = match self.pool.choose(group, fit, now) {
            Some(container) if self.grows(container, invocation, now, shell) => {
                grant(container, self.occupy(container, now), None, Way::Exists)
            }
            Some(_) => return Err(Lack::Memory),
            None => {
                // So that the cause is the same whether or not the reaper has run at this instant.
                self.retire_expired(now, shell);
                let cause = self.pool.cold_cause(group);
                let container = self.create_for(function, invocation, now, shell)?;
                let way = match self.dispatch {
                    Dispatch::Early => {
                        self.pool.reserve(container);
                        Way::Created
                    }
                    // In line at once: what frees up at this very instant is its, and nobody's who comes later.
                    Dispatch::Late => Way::Late(self.late.join(invocation, group, fit, container)),
                };
                grant(container, StartKind::Cold, Some(cause), way)
            }
        };
        self.hold(CPUS, u64::from(cpus.0), now);
        self.hold(IN_FLIGHT, 1, now);
        let Grant { start, cause, way, .. } = grant;
        let placed = !matches!(way, Way::Late(_));
        self.emit(now, |state| WorkerEvent::Dispatched {
            invocation,
            container: state.pool.number(grant.container),
            cpus,
            start,
            cause,
            waited,
            from_queue,
            placed,
        });
        Ok(grant)
    }

    /// Whether an invocation could be dispatched now if nobody was before it. Nothing is changed.
    pub(super) fn could_dispatch(&self, function: FunctionId, now: Time) -> bool {
        let f = &self.functions[function.index()];
        if !self.cpus_free(f.spec.cpus) {
            return false;
        }
        if self.pool.choose(f.group, f.fit, now).is_some() {
            return true;
        }
        let limit = self.config.max_creating;
        let needs = self.groups.needs(f.group);
        (limit == 0 || self.ledger.count(Phase::Creating) < limit)
            && needs.gpu.is_none_or(|need| self.gpus.find(need, |_| Mem(0)).is_some())
            && self.ledger.free() + self.pool.evictable() >= needs.memory
    }

    /// Lets an invocation join the queue. Its ticket, and whether it is now the head of all lines.
    fn join(&mut self, call: &Invocation, lacks: Lack, now: Time) -> Result<(usize, bool), Refusal> {
        let limit = self.config.queue.limit;
        if limit.is_some_and(|limit| self.lines.len() as u64 >= limit) {
            return Err(Refusal::QueueFull);
        }
        let blocked = !self.policy.skips() && self.could_dispatch(call.function, now);
        let f = &self.functions[call.function.index()];
        let rank = self.policy.rank(&Joining {
            function: call.function,
            at: now,
            expected: self.groups.expected(f.group),
            deadline: f.spec.deadline,
        });
        self.joined += 1;
        let place = (ordered(rank), self.joined);
        let deadline = self.config.queue.timeout.filter(|t| *t != Duration::MAX).map(|t| now + t);
        let ticket = self.tickets.insert(Ticket {
            invocation: call.number,
            function: call.function,
            place,
            outcome: None,
            waker: None,
            deadline,
            since: now,
            blocked,
            lacks,
        });
        let first = self.lines.join(call.function, place, ticket);
        self.hold(QUEUED, 1, now);
        self.emit(now, |_| WorkerEvent::Waits { invocation: call.number, lacks, joins: true });
        if let Some(deadline) = deadline {
            self.deadlines.push_back((deadline, self.joined, ticket));
        }
        Ok((ticket, first))
    }

    /// Whether an invocation that joined now would be before all that wait.
    fn would_be_first(&mut self, call: &Invocation, now: Time) -> bool {
        let f = &self.functions[call.function.index()];
        let (expected, deadline) = (self.groups.expected(f.group), f.spec.deadline);
        let rank = self.policy.rank(&Joining { function: call.function, at: now, expected, deadline });
        self.lines.head_from((0, 0)).is_none_or(|((head, _), _)| ordered(rank) < head)
    }

    /// Takes a ticket out of the line that it stands in, if it stands in one still.
    fn leave_line(&mut self, ticket: usize, now: Time) -> bool {
        let t = &self.tickets[ticket];
        let stood = self.lines.leave(t.function, t.place);
        if stood {
            self.release(QUEUED, 1, now);
        }
        stood
    }

    /// Drops who has waited for as long as the queue lets them; the next deadline.
    pub(in crate::worker) fn drop_overdue(&mut self, now: Time) -> Option<Time> {
        while let Some((deadline, joined, ticket)) = self.deadlines.front().copied() {
            let waits = self.tickets.get(ticket).is_some_and(|t| t.place.1 == joined && t.outcome.is_none());
            if waits && deadline > now {
                return Some(deadline);
            }
            if waits {
                self.leave_line(ticket, now);
                let (invocation, why) = (self.tickets[ticket].invocation, Refusal::QueueTimeout);
                self.tickets[ticket].tell(Err(why));
                self.emit(now, |_| WorkerEvent::Refused { invocation, why, waited: true });
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Dispatches whatever can be dispatched, in the order of the policy.
    pub(in crate::worker) fn pump(&mut self, now: Time, shell: &mut impl Shell) {
        self.serve_queue(now, shell);
        self.settled();
    }

    /// Drops overdue invocations first, whichever timer was set first, and dispatches the rest in the policy's order.
    pub(super) fn serve_queue(&mut self, now: Time, shell: &mut impl Shell) {
        self.drop_overdue(now);
        let skips = self.policy.skips();
        let first = (0, 0);
        let mut from = first;
        while let Some((place, ticket)) = self.lines.head_from(from) {
            let t = &self.tickets[ticket];
            let waited =
                Some(Waited { behind_creation: self.creating_since(t.since), behind_head: t.blocked });
            let (invocation, function, told) = (t.invocation, t.function, t.lacks);
            match self.dispatch(Contender { invocation, function, waited }, now, shell) {
                Ok(grant) => {
                    self.leave_line(ticket, now);
                    self.tickets[ticket].tell(Ok(grant));
                    // What it took, or made room of, may be what one that was passed over waits for.
                    from = first;
                }
                Err(lacks) => {
                    if lacks != told {
                        self.tickets[ticket].lacks = lacks;
                        self.emit(now, |_| WorkerEvent::Waits { invocation, lacks, joins: false });
                    }
                    if !skips {
                        return;
                    }
                    from = (place.0, place.1 + 1);
                }
            }
        }
    }

    /// What became of one that waits; whoever asks is woken when there is more to tell.
    pub(in crate::worker) fn poll_ticket(
        &mut self,
        ticket: usize,
        cx: &Context<'_>,
    ) -> Poll<Result<Grant, Refusal>> {
        let waits = &mut self.tickets[ticket];
        match waits.outcome {
            Some(outcome) => {
                self.tickets.remove(ticket);
                Poll::Ready(outcome)
            }
            None => {
                waits.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Gives up waiting in the queue; what had been given by then.
    pub(in crate::worker) fn leave_queue(&mut self, ticket: usize, now: Time) -> Option<Grant> {
        if self.leave_line(ticket, now) {
            let invocation = self.tickets[ticket].invocation;
            self.emit(now, |_| WorkerEvent::Left { invocation });
        }
        let ticket = self.tickets.remove(ticket);
        self.settled();
        ticket.outcome?.ok()
    }

    /// Whether a creation was under way at some time since `since`.
    fn creating_since(&self, since: Time) -> bool {
        self.ledger.count(Phase::Creating) > 0 || self.last_creating.is_some_and(|last| last > since)
    }
}
