//! What all workers of a fleet hold together: its peaks are those of the sum at one instant, not sums of peaks.

use super::ledger::{Ledger, Peaks};
use super::levels::Levels;
use super::{CPUS, HELD, IN_FLIGHT, QUEUED};
use crate::base::{Cpus, Mem, Time};
use std::cell::RefCell;
use std::rc::Rc;

/// See the module. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    pub(super) memory: Rc<RefCell<Ledger>>,
    pub(super) held: Rc<RefCell<Levels<HELD>>>,
}

impl Fleet {
    /// One that holds nothing; the window of its figures is [from, until).
    pub fn new(from: Time, until: Time) -> Fleet {
        Fleet {
            memory: Rc::new(RefCell::new(Ledger::new(Mem::MAX, from, until))),
            held: Rc::new(RefCell::new(Levels::new(from, until))),
        }
    }

    /// Ends the window at an instant that has not passed.
    pub fn end_window(&self, until: Time) {
        self.memory.borrow_mut().end_window(until);
        self.held.borrow_mut().end_window(until);
    }

    /// The highest values of memory in the window, up to `now`.
    pub fn memory_peaks(&self, now: Time) -> Peaks {
        self.memory.borrow().peaks(now)
    }

    /// The most cores, invocations in flight and queued invocations at one instant of the window, up to `now`.
    pub fn held_peaks(&self, now: Time) -> [f64; HELD] {
        let held = self.held.borrow();
        let core = f64::from(Cpus::from_cores(1).0);
        [(CPUS, core), (IN_FLIGHT, 1.0), (QUEUED, 1.0)].map(|(i, unit)| held.peak(i, now) as f64 / unit)
    }
}
