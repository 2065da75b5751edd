//! The memory ledger: what every container holds, by phase, and its integral over time.

use super::levels::{moment, within};
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
    /// Bytes times ns: all that came, at its instant, less all that went (see [`Levels`](super::levels::Levels)).
    moments: [u128; PHASES],
    /// Something came or went after the window began.
    opened: bool,
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
            moments: [0; PHASES],
            opened: false,
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

    /// Lets what it holds count in that ledger no more.
    pub fn leave_fleet(&mut self, now: Time) {
        let Some(fleet) = self.fleet.take() else { return };
        let mut fleet = fleet.borrow_mut();
        fleet.open(now);
        let at = fleet.within(now);
        for i in 0..PHASES {
            fleet.held[i] -= self.held[i];
            fleet.count[i] -= self.count[i];
            fleet.moments[i] = fleet.moments[i].wrapping_sub(moment(self.held[i], at));
        }
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

    /// Byte-nanoseconds of a phase up to `now`, within the window.
    pub fn integral(&self, phase: Phase, now: Time) -> u128 {
        moment(self.held[phase as usize], self.within(now)).wrapping_sub(self.moments[phase as usize])
    }

    /// The highest values up to `now`.
    pub fn peaks(&self, now: Time) -> Peaks {
        // What is held when the window opens counts in it.
        if self.opened || now <= self.from { self.peaks } else { self.peaks_now() }
    }

    #[inline]
    fn within(&self, now: Time) -> Time {
        within(now, self.from, self.until)
    }

    #[inline]
    fn open(&mut self, now: Time) {
        if !self.opened && now > self.from {
            self.opened = true;
            self.peaks = self.peaks_now();
        }
    }

    #[inline]
    fn add(&mut self, phase: Phase, memory: Mem, at: Time) {
        let i = phase as usize;
        self.held[i] += memory.0;
        self.count[i] += 1;
        self.moments[i] = self.moments[i].wrapping_add(moment(memory.0, at));
    }

    #[inline]
    fn take(&mut self, phase: Phase, memory: Mem, at: Time) {
        let i = phase as usize;
        self.held[i] -= memory.0;
        self.count[i] -= 1;
        self.moments[i] = self.moments[i].wrapping_sub(moment(memory.0, at));
    }

    /// A container enters with its memory. The caller has seen to it that it fits.
    #[inline]
    pub fn enter(&mut self, phase: Phase, memory: Mem, now: Time) {
        self.open(now);
        self.add(phase, memory, self.within(now));
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
        self.open(now);
        let at = self.within(now);
        self.take(from, before, at);
        self.add(to, after, at);
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
        self.open(now);
        self.take(phase, memory, self.within(now));
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
        let (peak, now) = (self.peaks, self.peaks_now());
        self.peaks = Peaks {
            used: peak.used.max(now.used),
            running: peak.running.max(now.running),
            creating: peak.creating.max(now.creating),
            cached: peak.cached.max(now.cached),
        };
    }

    /// What is held now, as [`Peaks`] tells it.
    fn peaks_now(&self) -> Peaks {
        let [creating, running, cached, removing] = self.held;
        Peaks {
            used: Mem(creating + running + cached + removing),
            running: Mem(creating + running),
            creating: Mem(creating),
            cached: Mem(cached),
        }
    }
}
