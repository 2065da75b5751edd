//! The memory ledger: what every container holds, by phase, and its integral over time.

use crate::base::{Mem, Time};
use std::cell::RefCell;
use std::rc::Rc;

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Phase {
    /// Its creation is under way.
    Creating = 0,
    /// It has an invocation.
    Running = 1,
    /// It is idle and kept.
    Cached = 2,
    /// Its destruction is not confirmed yet.
    Removing = 3,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Phase; PHASES] = [Phase::Creating, Phase::Running, Phase::Cached, Phase::Removing];
}

const PHASES: usize = 4;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ledger {
    capacity: Mem,
    held: [u64; PHASES],
    count: [u32; PHASES],
    /// Bytes times ns, within the window.
    integral: [u128; PHASES],
    at: Time,
    from: Time,
    until: Time,
    /// Highest values within the window: used, running with creating, creating, cached.
    peaks: Peaks,
    /// What all workers of a fleet hold together.
    fleet: Option<Rc<RefCell<Ledger>>>,
}

/// The highest values that the ledger saw, each by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Running, cached and removing together.
    pub used: Mem,
    /// Running and creating.
    pub running: Mem,
    /// Creating.
    pub creating: Mem,
    /// Cached.
    pub cached: Mem,
}

impl Ledger {
    /// An empty ledger whose integrals and peaks cover [from, until).
    pub fn new(capacity: Mem, from: Time, until: Time) -> Ledger {
        Ledger {
            capacity,
            held: [0; PHASES],
            count: [0; PHASES],
            integral: [0; PHASES],
            at: Time::ZERO,
            from,
            until,
            peaks: Peaks::default(),
            fleet: None,
        }
    }

    /// Ends the window at an instant that has not passed.
    pub fn end_window(&mut self, until: Time) {
        self.until = until;
    }

    /// Lets what it holds count in a ledger of several workers as well.
    pub fn count_in(&mut self, fleet: Rc<RefCell<Ledger>>) {
        self.fleet = Some(fleet);
    }

    /// What may be held at most.
    pub fn capacity(&self) -> Mem {
        self.capacity
    }

    /// What nobody holds.
    #[inline]
    pub fn free(&self) -> Mem {
        Mem(self.capacity.0 - self.used())
    }

    /// What containers of a phase hold.
    pub fn held(&self, phase: Phase) -> Mem {
        Mem(self.held[phase as usize])
    }

    /// How many containers are in a phase.
    pub fn count(&self, phase: Phase) -> u32 {
        self.count[phase as usize]
    }

    /// Byte-nanoseconds of a phase so far; ask after [`settle`](Self::settle).
    pub fn integral(&self, phase: Phase) -> u128 {
        self.integral[phase as usize]
    }

    /// The highest values so far.
    pub fn peaks(&self) -> Peaks {
        self.peaks
    }

    /// Accounts for the time until `now`.
    #[inline]
    pub fn settle(&mut self, now: Time) {
        if now == self.at {
            return;
        }
        if self.at <= self.from && now > self.from {
            // What is held when the window opens counts in it.
            self.note_peaks(self.from);
        }
        let span = now.min(self.until).since(self.at.max(self.from)).0;
        self.at = now;
        if span > 0 {
            for (sum, held) in self.integral.iter_mut().zip(self.held) {
                *sum += u128::from(held) * u128::from(span);
            }
        }
    }

    /// A container enters with its memory. The caller has seen to it that it fits.
    #[inline]
    pub fn enter(&mut self, phase: Phase, memory: Mem, now: Time) {
        self.settle(now);
        self.held[phase as usize] += memory.0;
        self.count[phase as usize] += 1;
        debug_assert!(self.used() <= self.capacity.0, "more memory is held than there is");
        if let Some(fleet) = &self.fleet {
            fleet.borrow_mut().enter(phase, memory, now);
        }
        self.note_peaks(now);
    }

    /// A container goes over from one phase to another.
    #[inline]
    pub fn shift(&mut self, from: Phase, to: Phase, memory: Mem, now: Time) {
        self.change(from, memory, to, memory, now);
    }

    /// A container goes over from one phase to another, and is charged another amount there. The caller has seen to it that
    /// it fits.
    #[inline]
    pub fn change(&mut self, from: Phase, before: Mem, to: Phase, after: Mem, now: Time) {
        self.settle(now);
        self.held[from as usize] -= before.0;
        self.count[from as usize] -= 1;
        self.held[to as usize] += after.0;
        self.count[to as usize] += 1;
        if let Some(fleet) = &self.fleet {
            fleet.borrow_mut().change(from, before, to, after, now);
        }
        if before != after {
            debug_assert!(self.used() <= self.capacity.0, "more memory is held than there is");
            return self.note_peaks(now);
        }
        if now < self.from || now >= self.until {
            return;
        }
        // What is used stays the same, and what it left can only have fallen.
        let peak = &mut self.peaks;
        match to {
            Phase::Cached => peak.cached = peak.cached.max(Mem(self.held[to as usize])),
            Phase::Removing => {}
            Phase::Creating | Phase::Running => {
                let creating = self.held[Phase::Creating as usize];
                peak.creating = peak.creating.max(Mem(creating));
                peak.running = peak.running.max(Mem(creating + self.held[Phase::Running as usize]));
            }
        }
    }

    /// A container is gone, and its memory free.
    #[inline]
    pub fn leave(&mut self, phase: Phase, memory: Mem, now: Time) {
        self.settle(now);
        self.held[phase as usize] -= memory.0;
        self.count[phase as usize] -= 1;
        if let Some(fleet) = &self.fleet {
            fleet.borrow_mut().leave(phase, memory, now);
        }
    }

    fn used(&self) -> u64 {
        self.held.iter().sum()
    }

    #[inline]
    fn note_peaks(&mut self, now: Time) {
        if now < self.from || now >= self.until {
            return;
        }
        let [creating, running, cached, removing] = self.held;
        let peak = &mut self.peaks;
        peak.used = peak.used.max(Mem(creating + running + cached + removing));
        peak.running = peak.running.max(Mem(creating + running));
        peak.creating = peak.creating.max(Mem(creating));
        peak.cached = peak.cached.max(Mem(cached));
    }
}
