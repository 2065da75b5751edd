//! What a worker holds at an instant, its integral over the window, and the highest values in it.

use crate::base::Time;

/// Quantities that change at instants: each with its integral over [from, until) and its highest value in it.
#[derive(Clone, Debug)]
pub(super) struct Levels<const N: usize> {
    value: [u64; N],
    /// Units times ns, within the window.
    integral: [u128; N],
    peak: [u64; N],
    at: Time,
    from: Time,
    until: Time,
}

impl<const N: usize> Levels<N> {
    /// Nothing is held; the window is [from, until).
    pub(super) fn new(from: Time, until: Time) -> Levels<N> {
        let (value, integral, peak) = ([0; N], [0; N], [0; N]);
        Levels { value, integral, peak, at: Time::ZERO, from, until }
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

    /// Units times ns so far; ask after [`settle`](Levels::settle).
    pub(super) fn integral(&self, i: usize) -> u128 {
        self.integral[i]
    }

    /// The highest value in the window so far.
    pub(super) fn peak(&self, i: usize) -> u64 {
        self.peak[i]
    }

    /// Accounts for the time until `now`.
    #[inline]
    pub(super) fn settle(&mut self, now: Time) {
        if now == self.at {
            return;
        }
        if self.at <= self.from && now > self.from {
            // What is held when the window opens counts in it.
            self.peak = self.value;
        }
        let span = now.min(self.until).since(self.at.max(self.from)).0;
        self.at = now;
        if span > 0 {
            for (sum, value) in self.integral.iter_mut().zip(self.value) {
                *sum += u128::from(value) * u128::from(span);
            }
        }
    }

    /// So much more is held from now on.
    #[inline]
    pub(super) fn add(&mut self, i: usize, n: u64, now: Time) {
        self.settle(now);
        self.value[i] += n;
        if now >= self.from && now < self.until {
            self.peak[i] = self.peak[i].max(self.value[i]);
        }
    }

    /// So much less is held from now on.
    #[inline]
    pub(super) fn take(&mut self, i: usize, n: u64, now: Time) {
        self.settle(now);
        debug_assert!(self.value[i] >= n, "more is given back than was taken");
        self.value[i] -= n;
    }
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
        held.settle(Time(50));
        // 2 on [10, 20), 3 on [20, 25), 0 on [25, 30).
        assert_eq!((held.integral(0), held.peak(0), held.value(0)), (35, 3, 9));
    }
}
