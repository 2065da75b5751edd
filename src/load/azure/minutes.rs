//! Expands counts per minute into arrivals, a minute at a time, as the clock reaches them.

use super::MINUTE;
use super::files::pull_number;
use super::law::Law;
use crate::base::{FunctionId, Invocation, Result, Time, interrupt};
use crate::load::trace::whole_of;
use crate::load::{Notes, Placement, Source};
use crate::rt::chance::{Luck, Purpose};
use rand::RngExt;
use rand_distr::{Distribution, Poisson};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// A function's counts and its luck.
pub(super) struct Function {
    minutes: Box<[u8]>,
    at: usize,
    /// The next minute with a count, and that count.
    next: Option<(u32, u64)>,
    law: Law,
    luck: Luck,
    /// Where in the minute a timer fires.
    phase: Option<f64>,
    k: u64,
}

impl Function {
    pub(super) fn new(minutes: Box<[u8]>, law: Law, luck: Luck, timer: bool) -> Function {
        let phase = timer.then(|| luck.draw(Purpose::Arrival, u64::MAX).random::<f64>());
        let mut function = Function { minutes, at: 0, next: None, law, luck, phase, k: 0 };
        function.advance(0);
        function
    }

    fn advance(&mut self, from: u32) {
        let gap = pull_number(&self.minutes, &mut self.at);
        let count = pull_number(&self.minutes, &mut self.at);
        self.next = gap.zip(count).map(|(gap, count)| (from + gap as u32, count));
    }
}

/// See the module.
pub(super) struct Minutes {
    functions: Vec<Function>,
    /// The functions that have something in each minute.
    agenda: Vec<Vec<u32>>,
    placement: Placement,
    scale: f64,
    /// Counts are of ends: a start may lie minutes before its count.
    ends: bool,
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
        minutes: u32,
        placement: Placement,
        scale: f64,
        ends: bool,
        notes: Rc<RefCell<Notes>>,
    ) -> Minutes {
        let mut agenda = vec![Vec::new(); minutes as usize];
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
            scale,
            ends,
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
            let mut draw = f.luck.draw(Purpose::Arrival, u64::from(minute));
            let mut count =
                if self.scale == 1.0 { count } else { whole_of(count as f64 * self.scale, &mut draw) };
            if self.placement == Placement::Poisson && count > 0 {
                count = Poisson::new(count as f64).map_or(count, |law| law.sample(&mut draw) as u64);
            }
            for j in 0..count {
                let share = match (self.placement, f.phase) {
                    (Placement::Auto, Some(phase)) => (phase + j as f64 / count as f64).fract(),
                    (Placement::Equidistant, _) => j as f64 / count as f64,
                    _ => draw.random::<f64>(),
                };
                let intended = f.law.sample(&mut f.luck.draw(Purpose::Duration, f.k));
                f.k += 1;
                self.busy.0 += f.law.average() / 1e3;
                self.busy.1 += intended.as_secs_f64();
                let at = start + ((share * MINUTE as f64) as u64).min(MINUTE - 1);
                let arrival = if self.ends {
                    let edge = start.saturating_sub(u64::from(LOOK_AHEAD - 1) * MINUTE);
                    early += u64::from(at.saturating_sub(intended.0) < edge || at < intended.0);
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
            f.advance(minute + 1);
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
        Ok(self.ready.pop_front())
    }
}

impl Drop for Minutes {
    fn drop(&mut self) {
        self.notes.borrow_mut().busy = Some(self.busy);
    }
}
