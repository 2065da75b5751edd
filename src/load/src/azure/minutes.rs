//! Expands counts per minute into arrivals, a minute at a time, as the clock reaches them. A slice has those of the whole
//! trace's arrivals that lie in it, with the same durations.

use super::MINUTE;
use super::law::Law;
use super::sparse::{Cursor, Sparse, WHOLE};
use crate::base::{FunctionId, Invocation, Result, Time, interrupt};
use crate::rt::chance::{Purpose, RngKey, RngStream};
use crate::scale::whole_of;
use crate::{Notes, Placement, Source};
use rand::RngExt;
use rand_distr::{Distribution, Poisson};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

/// A function's counts and its luck.
pub(super) struct Function {
    minutes: Rc<Sparse>,
    at: Cursor,
    /// The next minute with a count, and that count in millionths.
    next: Option<(u32, u64)>,
    law: Law,
    rng: RngKey,
    /// Where in the minute a timer fires.
    phase: Option<f64>,
    /// What its counts are multiplied by.
    scale: f64,
    k: u64,
}

impl Function {
    /// With `phased`, a count's invocations are placed from one instant of every minute on.
    pub(super) fn new(minutes: Rc<Sparse>, law: Law, rng: RngKey, phased: bool, scale: f64) -> Function {
        let phase = phased.then(|| rng.draw(Purpose::Arrival, u64::MAX).random::<f64>());
        let mut function =
            Function { minutes, at: Cursor::default(), next: None, law, rng, phase, scale, k: 0 };
        function.advance();
        function
    }

    fn advance(&mut self) {
        self.next = self.minutes.pull(&mut self.at);
    }

    /// How many invocations there are, for a count in millionths: that many times the scale, in the mean.
    fn drawn(&self, count: u64, draw: &mut RngStream) -> u64 {
        if count.is_multiple_of(WHOLE) && self.scale == 1.0 {
            return count / WHOLE;
        }
        whole_of(count as f64 / WHOLE as f64 * self.scale, draw)
    }
}

/// See the module.
pub(super) struct Minutes {
    functions: Vec<Function>,
    /// The functions that have something in each minute.
    agenda: Vec<Vec<u32>>,
    placement: Placement,
    /// Counts are of ends: a start may lie minutes before its count.
    ends: bool,
    /// The instants that are replayed, in ns from the file's first minute on.
    span: Range<u64>,
    minute: u32,
    /// Arrivals in order, and how far they are complete.
    ready: VecDeque<Invocation>,
    pending: Vec<Invocation>,
    notes: Rc<RefCell<Notes>>,
    busy: (f64, f64),
}

/// With counts of ends: how many minutes are looked ahead. Longer executions start at the edge of it, and are counted.
const LOOK_AHEAD: u32 = 30;

impl Minutes {
    pub(super) fn new(
        functions: Vec<Function>,
        span: Range<u64>,
        placement: Placement,
        ends: bool,
        notes: Rc<RefCell<Notes>>,
    ) -> Minutes {
        let mut agenda = vec![Vec::new(); span.end.div_ceil(MINUTE) as usize];
        for (i, f) in (0u32..).zip(&functions) {
            if let Some((minute, _)) = f.next {
                agenda[minute as usize].push(i);
            }
        }
        let (ready, pending) = (VecDeque::new(), Vec::new());
        Minutes {
            functions,
            agenda,
            placement,
            ends,
            span,
            minute: 0,
            ready,
            pending,
            notes,
            busy: (0.0, 0.0),
        }
    }

    fn expand(&mut self) {
        let minute = self.minute;
        self.minute += 1;
        // In order of the file, so that ties keep it.
        let mut due = std::mem::take(&mut self.agenda[minute as usize]);
        due.sort_unstable();
        let start = u64::from(minute) * MINUTE;
        let mut early = 0;
        for i in due {
            let f = &mut self.functions[i as usize];
            let Some((_, count)) = f.next else { continue };
            let mut draw = f.rng.draw(Purpose::Arrival, u64::from(minute));
            let mut count = f.drawn(count, &mut draw);
            if self.placement == Placement::Poisson && count > 0 {
                count = Poisson::new(count as f64).map_or(count, |law| law.sample(&mut draw) as u64);
            }
            if start + MINUTE <= self.span.start {
                f.k += count;
                count = 0;
            }
            for j in 0..count {
                let share = match (self.placement, f.phase) {
                    (Placement::Auto, Some(phase)) => (phase + j as f64 / count as f64).fract(),
                    (Placement::Equidistant, _) => j as f64 / count as f64,
                    _ => draw.random::<f64>(),
                };
                let intended = f.law.sample(&mut f.rng.draw(Purpose::Duration, f.k));
                f.k += 1;
                let at = start + ((share * MINUTE as f64) as u64).min(MINUTE - 1);
                if !self.span.contains(&at) {
                    continue;
                }
                self.busy.0 += f.law.average() / 1e3;
                self.busy.1 += intended.as_secs_f64();
                let arrival = if self.ends {
                    let edge = start.saturating_sub(u64::from(LOOK_AHEAD - 1) * MINUTE).max(self.span.start);
                    early += u64::from(at < edge + intended.0);
                    at.saturating_sub(intended.0).max(edge)
                } else {
                    at
                };
                let function = FunctionId(i);
                self.pending.push(Invocation {
                    number: 0,
                    function,
                    arrival: Time(arrival),
                    intended,
                    fails: false,
                    usage: None,
                });
            }
            f.advance();
            if let Some((next, _)) = f.next {
                self.agenda[next as usize].push(i);
            }
        }
        let mut notes = self.notes.borrow_mut();
        notes.count(
            "invocations that began before the trace or over 29 minutes before their end (moved)",
            early,
        );
        notes.busy = Some(self.busy);
        drop(notes);
        self.settle();
    }

    /// Hands over what no later minute can come before.
    fn settle(&mut self) {
        self.pending.sort_by_key(|call| (call.arrival, call.function));
        let complete = if !self.ends || self.minute as usize == self.agenda.len() {
            Time::MAX
        } else {
            Time(u64::from(self.minute.saturating_sub(LOOK_AHEAD - 1)) * MINUTE)
        };
        let cut = self.pending.partition_point(|call| call.arrival < complete);
        self.ready.extend(self.pending.drain(..cut));
    }
}

impl Source for Minutes {
    fn next(&mut self) -> Result<Option<Invocation>> {
        while self.ready.is_empty() && (self.minute as usize) < self.agenda.len() {
            interrupt::check()?;
            self.expand();
        }
        let call = self.ready.pop_front();
        Ok(call.map(|call| Invocation { arrival: Time(call.arrival.0 - self.span.start), ..call }))
    }
}

impl Drop for Minutes {
    fn drop(&mut self) {
        self.notes.borrow_mut().busy = Some(self.busy);
    }
}
