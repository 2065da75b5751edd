//! The law of a function's durations, from its percentiles and its average.
//!
//! Between two percentiles the inverse CDF is a + (b - a) s^g with s in [0, 1], whose mean is a + (b - a) / (g + 1). One
//! m = 1 / (g + 1) is chosen for the tail (above the 75th percentile) so that the mean of the whole is `Average`; g = 1
//! would be linear interpolation, which adds half of the load again on real rows. If the tail alone cannot do it, the
//! body is bent as well. Of several rows of one function each call draws its row by Count.

use super::cells::DurationRow;
use crate::Durations;
use crate::base::Duration;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

/// Ranks of the percentiles that the files have.
const RANKS: [f64; 7] = [0.0, 0.01, 0.25, 0.50, 0.75, 0.99, 1.0];
/// The first segment of the tail.
const TAIL: usize = 4;
const LEAST_MS: f64 = 1.0;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Law {
    average: f64,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Constant,
    Lognormal {
        median: f64,
        sigma: f64,
    },
    Knots {
        knots: [f32; 7],
        body: f32,
        tail: f32,
        off: bool,
    },
    /// Laws, each with the share of the calls that it and those before it have.
    Mixture(Box<[(f64, Law)]>),
}

impl Law {
    /// The law of a function with these rows, of which there is at least one.
    pub(super) fn of(rows: &[DurationRow], durations: Durations) -> Law {
        let total: f64 = rows.iter().filter_map(|row| row.count).sum();
        // Where nothing is counted, all weigh the same.
        let weight = |row: &DurationRow| match total > 0.0 {
            true => row.count.unwrap_or(0.0) / total,
            false => 1.0 / rows.len() as f64,
        };
        if let [row] = rows {
            return Law::new(row, durations);
        }
        let mut up_to = 0.0;
        let laws = rows.iter().map(|row| {
            up_to += weight(row);
            (up_to, Law::new(row, durations))
        });
        let laws: Box<[(f64, Law)]> = laws.collect();
        Law { average: rows.iter().map(|row| weight(row) * row.average).sum(), shape: Shape::Mixture(laws) }
    }

    fn new(row: &DurationRow, durations: Durations) -> Law {
        let average = row.average;
        let shape = match durations {
            Durations::Average => Shape::Constant,
            Durations::Lognormal => {
                let median = row.percentiles[3].max(LEAST_MS);
                match average > median {
                    true => Shape::Lognormal { median, sigma: (2.0 * (average / median).ln()).sqrt() },
                    false => Shape::Constant,
                }
            }
            Durations::Percentiles => bent(row),
        };
        Law { average, shape }
    }

    /// The mean that the file gives, in ms.
    pub(super) fn average(&self) -> f64 {
        self.average
    }

    /// Whether no bend of the inverse CDF has the mean `Average`.
    pub(super) fn is_off(&self) -> bool {
        match &self.shape {
            Shape::Knots { off, .. } => *off,
            Shape::Mixture(laws) => laws.iter().any(|(_, law)| law.is_off()),
            Shape::Constant | Shape::Lognormal { .. } => false,
        }
    }

    pub(super) fn sample(&self, rng: &mut impl Rng) -> Duration {
        let ms = match &self.shape {
            Shape::Mixture(laws) => {
                let u: f64 = rng.random();
                let drawn = laws.iter().find(|(up_to, _)| u < *up_to).or(laws.last());
                return drawn.map_or(Duration::ZERO, |(_, law)| law.sample(rng));
            }
            Shape::Constant => self.average,
            Shape::Lognormal { median, sigma } => {
                let z: f64 = StandardNormal.sample(rng);
                median * (sigma * z).exp()
            }
            Shape::Knots { knots, body, tail, .. } => {
                let u: f64 = rng.random();
                let i = RANKS[1..6].iter().filter(|r| u >= **r).count();
                let s = (u - RANKS[i]) / (RANKS[i + 1] - RANKS[i]);
                let (a, b) = (f64::from(knots[i]), f64::from(knots[i + 1]));
                a + (b - a) * s.powf(f64::from(if i < TAIL { *body } else { *tail }))
            }
        };
        Duration::from_nanos_f64(ms.max(LEAST_MS) * 1e6).min(Duration::CENTURY)
    }
}

fn bent(row: &DurationRow) -> Shape {
    let p = row.percentiles.map(|x| x.max(LEAST_MS));
    let weight = |i: usize| RANKS[i + 1] - RANKS[i];
    let sum = |range: std::ops::Range<usize>, f: &dyn Fn(usize) -> f64| {
        range.map(|i| weight(i) * f(i)).sum::<f64>()
    };
    let low = |i: usize| p[i];
    let rise = |i: usize| p[i + 1] - p[i];
    // What the bend of a part must make of its rise, so that all adds up to the average.
    let solve = |rest: f64, rise: f64| match rise > 0.0 {
        true => rest / rise,
        // Nothing to bend: fine where nothing is missing.
        false if rest.abs() <= 0.005 * row.average => 0.5,
        false => f64::INFINITY.copysign(rest),
    };
    let (least, most) = (0.002, 0.998);
    let wanted = solve(
        row.average - sum(0..TAIL, &|i| low(i) + rise(i) / 2.0) - sum(TAIL..6, &low),
        sum(TAIL..6, &rise),
    );
    let tail = wanted.clamp(least, most);
    let mut body = 0.5;
    let mut off = false;
    if tail != wanted {
        let wanted = solve(
            row.average - sum(0..TAIL, &low) - sum(TAIL..6, &|i| low(i) + tail * rise(i)),
            sum(0..TAIL, &rise),
        );
        body = wanted.clamp(least, most);
        off = (body - wanted).abs() > 1e-9;
    }
    let power = |m: f64| (1.0 / m - 1.0) as f32;
    Shape::Knots { knots: p.map(|x| x as f32), body: power(body), tail: power(tail), off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::chance::{Purpose, Seed};

    #[test]
    fn the_mean_is_the_average_and_the_percentiles_are_kept() {
        let rows = [
            (6108.0, [4810.0, 4886.0, 5613.0, 5932.0, 6317.0, 8388.0, 21484.0]),
            (100.0, [1.0, 2.0, 10.0, 30.0, 90.0, 900.0, 5000.0]),
            (12.0, [10.0, 10.0, 10.0, 10.0, 10.0, 50.0, 300.0]),
        ];
        for (average, percentiles) in rows {
            let row = DurationRow { average, percentiles, count: None };
            let law = Law::of(&[row], Durations::Percentiles);
            assert!(!law.is_off());
            let mut draw = Seed::new(3).named("law").draw(Purpose::Duration, 0);
            let n = 400_000;
            let mut drawn: Vec<f64> = (0..n).map(|_| law.sample(&mut draw).as_millis_f64()).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(n);
            assert!((mean / average - 1.0).abs() < 0.01, "{mean} against {average}");
            drawn.sort_by(f64::total_cmp);
            for (rank, p) in RANKS.iter().zip(percentiles).skip(1).take(5) {
                let at = drawn[(rank * f64::from(n)) as usize];
                assert!((at / p - 1.0).abs() < 0.06, "rank {rank}: {at} against {p}");
            }
        }
    }

    #[test]
    fn an_average_that_no_bend_allows_is_told() {
        let row = DurationRow { average: 90.0, percentiles: [10.0; 7], count: None };
        assert!(Law::of(&[row], Durations::Percentiles).is_off());
    }

    #[test]
    fn of_several_rows_each_call_draws_one_by_count() {
        let row = |ms: f64, count| DurationRow { average: ms, percentiles: [ms; 7], count };
        let drawn = |rows: &[DurationRow]| {
            let law = Law::of(rows, Durations::Percentiles);
            let mut draw = Seed::new(3).named("mixture").draw(Purpose::Duration, 0);
            let long = (0..10_000).filter(|_| law.sample(&mut draw) == Duration::from_millis(900)).count();
            (law.average(), long)
        };
        let (average, long) = drawn(&[row(100.0, Some(3.0)), row(900.0, Some(1.0))]);
        assert!(average == 300.0 && (2_400..2_600).contains(&long), "{average} {long}");
        let (average, long) = drawn(&[row(100.0, Some(3.0)), row(900.0, None)]);
        assert_eq!((average, long), (100.0, 0), "a bad count is 0");
        let (average, long) = drawn(&[row(100.0, Some(0.0)), row(900.0, None)]);
        assert!(average == 500.0 && (4_800..5_200).contains(&long), "{average} {long}");
    }
}
