//! What each function did over time: counts in equal buckets, whose width doubles rather than letting them grow.

use crate::base::{Duration, FunctionId, Time};

/// Invocations and cold starts by function and time.
///
/// Buckets are kept one after the other, each with a cell for every function: invocations that come one after the other
/// touch one bucket, which stays in the cache.
#[derive(Clone, Debug)]
pub struct Heat {
    functions: usize,
    /// Where the first bucket begins.
    begin: Time,
    width: u64,
    /// Invocations and cold starts, by bucket and function.
    cells: Vec<[u32; 2]>,
}

/// Buckets at most; they are halved when time goes beyond.
const MOST: usize = 128;
const FIRST_WIDTH: Duration = Duration::from_secs(1);

impl Heat {
    /// For so many functions, from this instant on.
    pub fn new(functions: usize, begin: Time) -> Heat {
        Heat { functions, begin, width: FIRST_WIDTH.0, cells: Vec::new() }
    }

    /// Counts an invocation that arrived at `at`.
    #[inline]
    pub fn add(&mut self, function: FunctionId, at: Time, cold: bool) {
        let i = self.bucket(at) * self.functions + function.index();
        match self.cells.get_mut(i) {
            Some(cell) => {
                cell[0] = cell[0].saturating_add(1);
                cell[1] = cell[1].saturating_add(u32::from(cold));
            }
            None => self.grow(function, at, cold),
        }
    }

    #[inline]
    fn bucket(&self, at: Time) -> usize {
        (at.since(self.begin).0 / self.width) as usize
    }

    #[cold]
    fn grow(&mut self, function: FunctionId, at: Time, cold: bool) {
        while self.bucket(at) >= MOST {
            self.width *= 2;
            let buckets = self.buckets();
            for bucket in 0..buckets {
                for f in 0..self.functions {
                    let old = std::mem::take(&mut self.cells[bucket * self.functions + f]);
                    let cell = &mut self.cells[bucket / 2 * self.functions + f];
                    *cell = [0, 1].map(|i| cell[i].saturating_add(old[i]));
                }
            }
            self.cells.truncate(buckets.div_ceil(2) * self.functions);
        }
        let buckets = self.bucket(at) + 1;
        self.cells.resize((buckets * self.functions).max(self.cells.len()), [0, 0]);
        self.add(function, at, cold);
    }

    /// Where the first bucket begins.
    pub fn begin(&self) -> Time {
        self.begin
    }

    /// How long a bucket is.
    pub fn width(&self) -> Duration {
        Duration(self.width)
    }

    /// Buckets so far.
    pub fn buckets(&self) -> usize {
        self.cells.len().checked_div(self.functions).unwrap_or(0)
    }

    /// Invocations and cold starts of a function in a bucket.
    pub fn cell(&self, bucket: usize, function: usize) -> [u32; 2] {
        self.cells.get(bucket * self.functions + function).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_keeps_every_count_in_its_place() {
        let mut heat = Heat::new(2, Time(3_000_000_000));
        for second in 0..1000u64 {
            heat.add(FunctionId((second % 2) as u32), Time((second + 3) * 1_000_000_000), second % 10 == 0);
        }
        assert_eq!((heat.width(), heat.buckets()), (Duration::from_secs(8), 125));
        for bucket in 0..125 {
            assert_eq!(heat.cell(bucket, 0)[0] + heat.cell(bucket, 1)[0], 8, "bucket {bucket}");
        }
        let cold: u32 = (0..125).map(|b| heat.cell(b, 0)[1] + heat.cell(b, 1)[1]).sum();
        assert_eq!(cold, 100);
    }
}
