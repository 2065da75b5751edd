//! What a worker holds at an instant, its integral over the window, and the highest values in it.

use crate::base::Time;

/// Quantities that change at instants: each with its integral over [from, until) and its highest value in it.
///
/// An integral is what is held times the time until now, less, for all that came and went, its amount times the instant at which it
/// did: so a change costs one multiplication, whatever else is held. Instants outside the window count as its nearest end.
#[derive(Clone, Debug)]
pub(super) struct Levels<const N: usize> {
    value: [u64; N],
    /// Units times ns: all that came, at its instant, less all that went. It wraps, as the integrals that it is taken from do.
    moments: [u128; N],
    peak: [u64; N],
    /// Something was held or given back after the window began.
    opened: bool,
    from: Time,
    until: Time,
}

impl<const N: usize> Levels<N> {
    /// Nothing is held; the window is [from, until).
    pub(super) fn new(from: Time, until: Time) -> Levels<N> {
        Levels { value: [0; N], moments: [0; N], peak: [0; N], opened: false, from, until }
    }

    /// Ends the window at an instant that has not passed.
    pub(super) fn end_window(&mut self, until: Time) {
        self.until = until;
    }

    /// What is held now.
    #[inline]
    pub(super) fn value(&self, i: usize) -> u64 {
        self.value[i]
    }

    /// Units times ns up to `now`, within the window.
    pub(super) fn integral(&self, i: usize, now: Time) -> u128 {
        moment(self.value[i], self.within(now)).wrapping_sub(self.moments[i])
    }

    /// The highest value in the window up to `now`.
    pub(super) fn peak(&self, i: usize, now: Time) -> u64 {
        // What is held when the window opens counts in it.
        if self.opened || now <= self.from { self.peak[i] } else { self.value[i] }
    }

    #[inline]
    fn within(&self, now: Time) -> Time {
        within(now, self.from, self.until)
    }

    #[inline]
    fn open(&mut self, now: Time) {
        if !self.opened && now > self.from {
            self.opened = true;
            self.peak = self.value;
        }
    }

    /// So much more is held from now on.
    #[inline]
    pub(super) fn add(&mut self, i: usize, n: u64, now: Time) {
        self.open(now);
        self.value[i] += n;
        self.moments[i] = self.moments[i].wrapping_add(moment(n, self.within(now)));
        if now >= self.from && now < self.until {
            self.peak[i] = self.peak[i].max(self.value[i]);
        }
    }

    /// So much less is held from now on.
    #[inline]
    pub(super) fn take(&mut self, i: usize, n: u64, now: Time) {
        self.open(now);
        debug_assert!(self.value[i] >= n, "more is given back than was taken");
        self.value[i] -= n;
        self.moments[i] = self.moments[i].wrapping_sub(moment(n, self.within(now)));
    }
}

/// An instant, or the end of the window [from, until) that is nearer to it; its beginning where the window is empty.
#[inline]
pub(super) fn within(now: Time, from: Time, until: Time) -> Time {
    now.min(until).max(from)
}

/// An amount times an instant.
#[inline]
pub(super) fn moment(amount: u64, at: Time) -> u128 {
    u128::from(amount) * u128::from(at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrals_and_peaks_are_those_of_the_window() {
        let mut held = Levels::<1>::new(Time(10), Time(30));
        held.add(0, 5, Time(2));
        held.take(0, 3, Time(8));
        held.add(0, 1, Time(20));
        held.take(0, 3, Time(25));
        held.add(0, 9, Time(30));
        // 2 on [10, 20), 3 on [20, 25), 0 on [25, 30).
        assert_eq!((held.integral(0, Time(50)), held.peak(0, Time(50)), held.value(0)), (35, 3, 9));
    }

    #[test]
    fn what_is_held_all_the_time_counts_from_the_window_on() {
        let mut held = Levels::<1>::new(Time(10), Time(30));
        held.add(0, 4, Time(2));
        assert_eq!((held.integral(0, Time(5)), held.peak(0, Time(5))), (0, 0));
        assert_eq!((held.integral(0, Time(20)), held.peak(0, Time(20))), (40, 4));
        held.end_window(Time(25));
        assert_eq!((held.integral(0, Time(99)), held.peak(0, Time(99))), (60, 4));
    }

    #[test]
    fn a_window_that_ends_before_it_begins_has_nothing() {
        let mut held = Levels::<1>::new(Time(10), Time::MAX);
        held.add(0, 4, Time(2));
        held.end_window(Time(5));
        held.take(0, 1, Time(20));
        assert_eq!(held.integral(0, Time(30)), 0);
    }
}
