//! A quantile sketch: buckets of equal relative width over whole numbers, kept only where something was seen.
//!
//! The layout is that of HdrHistogram: 64 buckets for each power of two, so a bucket is at most 1/64 wide and its middle
//! is within 0.8 % of every value in it. Values below 128 are exact. Counts are merged by adding, so distributions of
//! several workers or functions are merged and never averaged.

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// The bucket that `counts[0]` stands for.
    first: usize,
    counts: Vec<u32>,
    zeros: u64,
    n: u64,
    sum: u128,
    max: u64,
}

const BITS: u32 = 6;

#[inline]
fn bucket(value: u64) -> usize {
    let shift = (63 - (value | 127).leading_zeros()) - BITS;
    ((shift as usize) << BITS) + (value >> shift) as usize
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let mantissa = (bucket - (shift << BITS)) as u64;
    (mantissa << shift) + (1u64 << shift >> 1)
}

impl Sketch {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: u64) {
        self.add_in(value, bucket(value));
    }

    /// Adds a value to several sketches.
    #[inline]
    pub fn add_to_all<const N: usize>(sketches: [&mut Sketch; N], value: u64) {
        let bucket = bucket(value);
        for sketch in sketches {
            sketch.add_in(value, bucket);
        }
    }

    #[inline]
    fn add_in(&mut self, value: u64, bucket: usize) {
        self.n += 1;
        if value == 0 {
            self.zeros += 1;
            return;
        }
        self.sum += u128::from(value);
        self.max = self.max.max(value);
        match self.counts.get_mut(bucket.wrapping_sub(self.first)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.widen(bucket, 1),
        }
    }

    #[cold]
    fn widen(&mut self, bucket: usize, count: u32) {
        const ROOM: usize = 32;
        if self.counts.is_empty() {
            self.first = bucket.saturating_sub(ROOM / 2);
        } else if bucket < self.first {
            let first = bucket.saturating_sub(ROOM);
            self.counts.splice(0..0, std::iter::repeat_n(0, self.first - first));
            self.first = first;
        }
        let i = bucket - self.first;
        if i >= self.counts.len() {
            self.counts.reserve_exact(i + ROOM - self.counts.len());
            self.counts.resize(i + ROOM, 0);
        }
        self.counts[i] = self.counts[i].saturating_add(count);
    }

    /// Adds all that `other` has seen.
    pub fn merge(&mut self, other: &Sketch) {
        for (i, count) in other.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let at = other.first + i;
            match self.counts.get_mut(at.wrapping_sub(self.first)) {
                Some(mine) => *mine = mine.saturating_add(*count),
                None => self.widen(at, *count),
            }
        }
        self.n += other.n;
        self.zeros += other.zeros;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Values seen.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// The exact sum.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The exact mean; `None` if nothing was seen.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum as f64 / self.n as f64)
    }

    /// The exact maximum; 0 if nothing was seen.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The smallest value of rank >= q n, to 0.8 %; `None` if nothing was seen.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.n == 0 {
            return None;
        }
        let rank = ((q * self.n as f64).ceil() as u64).clamp(1, self.n);
        if rank == self.n {
            return Some(self.max);
        }
        let mut seen = self.zeros;
        if seen >= rank {
            return Some(0);
        }
        for (i, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(value(self.first + i).min(self.max));
            }
        }
        Some(self.max)
    }

    /// Points (value, number of values not above it) of the distribution.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut points = Vec::new();
        let mut seen = self.zeros;
        if seen > 0 {
            points.push((0, seen));
        }
        for (i, count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            seen += u64::from(*count);
            points.push((value(self.first + i).min(self.max), seen));
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_within_one_per_cent(mut values in prop::collection::vec(0u64..1 << 45, 1..500), q in 0.0..1.0f64) {
            let (mut left, mut right) = (Sketch::default(), Sketch::default());
            for (i, v) in values.iter().enumerate() {
                if i % 3 == 0 { left.add(*v >> (i % 40)) } else { right.add(*v >> (i % 40)) }
            }
            values.iter_mut().enumerate().for_each(|(i, v)| *v >>= i % 40);
            values.sort_unstable();
            left.merge(&right);
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let told = left.quantile(q).unwrap() as f64;
            prop_assert!((told - exact).abs() <= exact * 0.01, "{told} against {exact}");
            prop_assert_eq!(left.max(), *values.last().unwrap());
            prop_assert_eq!(left.sum(), values.iter().map(|v| u128::from(*v)).sum::<u128>());
        }
    }
}
