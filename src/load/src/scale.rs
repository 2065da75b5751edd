//! `rate_scale` for traces of single invocations: fewer or more of them, at instants that a busier or quieter trace could have.
//!
//! Below 1 each stays with that probability. Above 1 extra copies of each (as many as the factor has above 1, in the mean) lie
//! uniformly between it and its function's next arrival at a later instant, at most a minute on. They are the more, the longer
//! that gap is beside the last eight: as many in each gap as in the next would make clusters of a busy function's arrivals,
//! and two and a half times the cold starts of a Poisson process of the same rate. A copy takes its original's duration. All
//! is drawn by (seed, function, k-th row of it), so that a slice of a scaled trace is the scaled trace's slice.

use super::Source;
use crate::base::{FunctionId, FunctionSpec, Invocation, Result, Time};
use crate::rt::chance::{Purpose, RngKey, RngStream, Seed};
use rand::RngExt;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// How far from its original a copy may lie, in ns.
const REACH: u64 = 60_000_000_000;
/// Gaps of a function that say how long its gaps are. Fewer would leave clusters, more would fill the pauses between bursts.
const GAPS: usize = 8;

/// A whole number whose mean is `x`.
pub(super) fn whole_of(x: f64, draw: &mut RngStream) -> u64 {
    let part = x.fract();
    x as u64 + u64::from(part > 0.0 && draw.random::<f64>() < part)
}

/// The luck of each function, and how many of its rows came.
struct Rows {
    rng: Vec<RngKey>,
    seen: Vec<u64>,
}

impl Rows {
    fn new(functions: &[FunctionSpec], seed: u64) -> Rows {
        let chance = Seed::new(seed);
        let rng = functions.iter().map(|f| chance.named(&f.name)).collect();
        Rows { rng, seen: vec![0; functions.len()] }
    }

    /// What decides about the next row of a function.
    fn draw(&mut self, function: FunctionId) -> RngStream {
        let k = &mut self.seen[function.index()];
        *k += 1;
        self.rng[function.index()].draw(Purpose::Arrival, *k - 1)
    }
}

/// The trace with so many times its invocations.
pub(super) fn scaled(
    source: Box<dyn Source>,
    functions: &[FunctionSpec],
    factor: f64,
    seed: u64,
) -> Box<dyn Source> {
    let rows = Rows::new(functions, seed);
    if factor == 1.0 {
        source
    } else if factor < 1.0 {
        Box::new(Thinned { source, rows, factor })
    } else {
        let (open, gaps) = (vec![Vec::new(); functions.len()], vec![Gaps::default(); functions.len()]);
        Box::new(Multiplied {
            source,
            rows,
            extra: factor - 1.0,
            read: Time::ZERO,
            ended: false,
            open,
            gaps,
            order: VecDeque::new(),
            ready: BinaryHeap::new(),
            calls: Vec::new(),
            free: Vec::new(),
            number: 0,
        })
    }
}

struct Thinned {
    source: Box<dyn Source>,
    rows: Rows,
    factor: f64,
}

impl Source for Thinned {
    fn next(&mut self) -> Result<Option<Invocation>> {
        while let Some(call) = self.source.next()? {
            if whole_of(self.factor, &mut self.rows.draw(call.function)) > 0 {
                return Ok(Some(call));
            }
        }
        Ok(None)
    }
}

/// A row whose copies wait for the function's next arrival.
#[derive(Clone)]
struct Open {
    call: Invocation,
    draw: RngStream,
}

/// A function's last gaps, in ns, each at most [`REACH`].
#[derive(Clone, Default)]
struct Gaps {
    last: [u64; GAPS],
    seen: usize,
}

impl Gaps {
    /// Adds a gap, and says how long it is beside the mean of the last ones, itself included: 1 in the mean of all.
    fn weigh(&mut self, gap: u64) -> f64 {
        self.last[self.seen % GAPS] = gap;
        self.seen += 1;
        let known = &self.last[..self.seen.min(GAPS)];
        gap as f64 * known.len() as f64 / known.iter().sum::<u64>() as f64
    }
}

/// Reads at most a minute ahead of what it hands over.
struct Multiplied {
    source: Box<dyn Source>,
    rows: Rows,
    /// Copies beside each row, in the mean.
    extra: f64,
    /// The last arrival that was read.
    read: Time,
    ended: bool,
    /// By function: its rows at its last instant, until the next is known or out of reach.
    open: Vec<Vec<Open>>,
    gaps: Vec<Gaps>,
    /// The functions with open rows, in order of that instant.
    order: VecDeque<(Time, FunctionId)>,
    /// What may be handed over, by time and then by order of reading; with its place in `calls`.
    ready: BinaryHeap<Reverse<(Time, u64, usize)>>,
    calls: Vec<Invocation>,
    free: Vec<usize>,
    number: u64,
}

impl Multiplied {
    fn push(&mut self, call: Invocation) {
        let place = self.free.pop().unwrap_or(self.calls.len());
        if place == self.calls.len() {
            self.calls.push(call);
        } else {
            self.calls[place] = call;
        }
        self.ready.push(Reverse((call.arrival, self.number, place)));
        self.number += 1;
    }

    /// Places the copies of a function's open rows before `end`, its next arrival; `None` if that is out of reach or unknown.
    fn close(&mut self, function: FunctionId, end: Option<Time>) {
        let open = std::mem::take(&mut self.open[function.index()]);
        let Some(at) = open.first().map(|open| open.call.arrival) else { return };
        let gap = end.map_or(REACH, |end| (end.0 - at.0).min(REACH));
        // What follows the last row is not known: it has as many copies as others have in the mean.
        let weight = if self.ended { 1.0 } else { self.gaps[function.index()].weigh(gap) };
        for Open { call, mut draw } in open {
            for _ in 0..whole_of(self.extra * weight, &mut draw) {
                let on = (draw.random::<f64>() * gap as f64) as u64;
                self.push(Invocation { arrival: Time(at.0 + on.max(1)), ..call });
            }
        }
    }

    /// Closes rows that nothing within reach follows.
    fn close_old(&mut self) {
        while let Some(&(at, function)) = self.order.front() {
            let far = self.ended || self.read.0 - at.0 >= REACH;
            let open = self.open[function.index()].first().is_some_and(|o| o.call.arrival == at);
            if open && !far {
                return;
            }
            self.order.pop_front();
            if open {
                self.close(function, None);
            }
        }
    }

    /// Reads one row.
    fn read(&mut self) -> Result<()> {
        let Some(call) = self.source.next()? else {
            self.ended = true;
            return Ok(());
        };
        self.read = call.arrival;
        let draw = self.rows.draw(call.function);
        let before = self.open[call.function.index()].first().map(|o| o.call.arrival);
        if before.is_some_and(|before| before < call.arrival) {
            self.close(call.function, Some(call.arrival));
        }
        self.push(call);
        if self.open[call.function.index()].is_empty() {
            self.order.push_back((call.arrival, call.function));
        }
        self.open[call.function.index()].push(Open { call, draw });
        Ok(())
    }
}

impl Source for Multiplied {
    fn next(&mut self) -> Result<Option<Invocation>> {
        loop {
            self.close_old();
            // Copies still to come lie behind the oldest open row, and rows still to come behind the last one.
            let safe = match self.order.front() {
                Some(&(at, _)) => at,
                None if self.ended => Time::MAX,
                None => self.read,
            };
            match self.ready.peek() {
                Some(Reverse((at, ..))) if *at <= safe => break,
                None if self.ended => break,
                _ => self.read()?,
            }
        }
        Ok(self.ready.pop().map(|Reverse((_, _, place))| {
            self.free.push(place);
            self.calls[place]
        }))
    }
}
