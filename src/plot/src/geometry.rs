//! What is drawn of a series or a distribution, computed before anything is drawn: steps, bands, stacks and staircases.
//!
//! A value that was measured at an instant holds until the next one. Where there are more of them than can be told apart,
//! neighbours become one step that keeps the least, the mean and the most of what it stands for: no peak is lost.

/// A span over which a series is drawn flat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) least: f64,
    /// Weighted by how long each value held.
    pub(super) mean: f64,
    pub(super) most: f64,
}

/// A part of a stack: from `bottom` to `top` over a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slab {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) bottom: f64,
    pub(super) top: f64,
}

/// Instants in order with their values, `None` where there is none; each holds until the next and the last until `end`. At
/// most `limit` steps come of them, and none where nothing was known.
pub(super) fn steps(points: &[(f64, Option<f64>)], end: f64, limit: usize) -> Vec<Step> {
    let each = points.len().div_ceil(limit.max(1)).max(1);
    let until = |i: usize| points.get(i).map_or(end, |p| p.0);
    let mut steps = Vec::new();
    for (n, chunk) in points.chunks(each).enumerate() {
        let first = n * each;
        let values =
            || chunk.iter().enumerate().filter_map(|(i, (at, value))| Some((first + i, *at, (*value)?)));
        let Some((_, from, _)) = values().next() else { continue };
        let held = |i: usize, at: f64| (until(i + 1) - at).max(0.0);
        let total: f64 = values().map(|(i, at, _)| held(i, at)).sum();
        let count = values().count() as f64;
        // An instant at the very end holds for no time, and counts nevertheless.
        let weight = |i: usize, at: f64| if total > 0.0 { held(i, at) / total } else { 1.0 / count };
        let last = values().next_back().map_or(first, |(i, ..)| i);
        let least = values().map(|v| v.2).fold(f64::INFINITY, f64::min);
        let most = values().map(|v| v.2).fold(f64::NEG_INFINITY, f64::max);
        let mean = values().map(|(i, at, value)| value * weight(i, at)).sum::<f64>();
        let to = until(last + 1).max(from);
        steps.push(Step { from, to, least, mean: mean.clamp(least, most), most });
    }
    steps
}

/// Whether any step stands for values that differ.
pub(super) fn is_thinned(steps: &[Step]) -> bool {
    steps.iter().any(|s| s.most > s.least)
}

/// Layers, the lowest first, as slabs that stand on each other: their means add up. All have the same spans.
pub(super) fn stack(layers: &[Vec<Step>]) -> Vec<Vec<Slab>> {
    let mut heights = vec![0.0; layers.first().map_or(0, Vec::len)];
    let mut slabs = Vec::new();
    for layer in layers {
        let on = |(step, height): (&Step, &mut f64)| {
            let bottom = *height;
            *height += step.mean;
            Slab { from: step.from, to: step.to, bottom, top: *height }
        };
        slabs.push(layer.iter().zip(&mut heights).map(on).collect());
    }
    slabs
}

/// How fast a total grows between its instants, by `unit` seconds: a value for each interval, at its begin. The total is 0 at
/// `origin`, before the first.
pub(super) fn rates(totals: &[(f64, f64)], origin: f64, unit: f64) -> Vec<(f64, Option<f64>)> {
    let before = [(origin, 0.0)].into_iter().chain(totals.iter().copied());
    let pairs = before.zip(totals).filter(|(from, to)| to.0 > from.0);
    pairs.map(|(from, to)| (from.0, Some((to.1 - from.1) / (to.0 - from.0) * unit))).collect()
}

/// Those of `totals` that are at least `width` apart, the last one always.
pub(super) fn spaced(totals: &[(f64, f64)], origin: f64, width: f64) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for point in totals {
        let before = kept.last().map_or(origin, |p| p.0);
        // A tick is a whole number of nanoseconds, a second is not always one of f64.
        if point.0 - before >= width - 1e-6 {
            kept.push(*point);
        }
    }
    if let Some(last) = totals.last().filter(|last| kept.last().is_none_or(|k| k.0 < last.0)) {
        // A short rest would be a rate of few counts; it joins the interval before it.
        if kept.last().is_some_and(|k| last.0 - k.0 < width / 2.0) {
            kept.pop();
        }
        kept.push(*last);
    }
    kept
}

/// A distribution function as a line of steps: values and how many are not above them. It starts at 0 and ends at the number
/// of values. What is below `left` stands there.
pub(super) fn staircase(cumulative: &[(f64, u64)], left: f64) -> Vec<(f64, u64)> {
    let mut line: Vec<(f64, u64)> = Vec::new();
    let mut count = 0;
    for (value, upto) in cumulative {
        line.extend([(value.max(left), count), (value.max(left), *upto)]);
        count = *upto;
    }
    line
}

/// Where a share of `count` in `n` stands on an axis of percentiles, on which 0, 90, 99 and 99.9 % are at equal distances;
/// all of them at `top`.
pub(super) fn nines(count: u64, n: u64, top: f64) -> f64 {
    let above = n.saturating_sub(count);
    if above == 0 { top } else { (-(above as f64 / n as f64).log10()).clamp(0.0, top) }
}

/// Where such an axis ends for `n` values: a little beyond the last of them that has one above it.
pub(super) fn top_of(n: u64) -> f64 {
    (n.max(1) as f64).log10().max(1.0) + 0.25
}

/// The marks of such an axis with their words, and the end's.
pub(super) fn percentiles(top: f64) -> Vec<(f64, String)> {
    let mut marks = vec![(0.0, "0".to_string()), (0.5f64.log10().abs(), "50".to_string())];
    let nines = (1..12).take_while(|k| f64::from(*k) < top - 0.1);
    marks.extend(nines.map(|k| {
        let digits = "9".repeat(k as usize);
        let (whole, rest) = if k == 1 { ("90".to_string(), "") } else { ("99".to_string(), &digits[2..]) };
        (f64::from(k), if rest.is_empty() { whole } else { format!("{whole}.{rest}") })
    }));
    marks.push((top, "max".to_string()));
    marks
}

/// At most `limit` round values in [low, high], at equal distances of 1, 2 or 5 times a power of ten.
pub(super) fn round_marks(low: f64, high: f64, limit: usize) -> Vec<f64> {
    let raw = (high - low).max(1e-12) / limit.max(1) as f64;
    let unit = 10f64.powf(raw.log10().floor());
    let width = [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * unit >= raw).unwrap_or(10.0) * unit;
    marks_every(width, low, high)
}

/// The multiples of `width` in [low, high].
pub(super) fn marks_every(width: f64, low: f64, high: f64) -> Vec<f64> {
    let first = (low / width - 1e-9).ceil() as i64;
    (first..).map(|k| k as f64 * width).take_while(|x| *x <= high * (1.0 + 1e-9)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(values: &[Option<f64>]) -> Vec<(f64, Option<f64>)> {
        values.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect()
    }

    proptest! {
        #[test]
        fn bands_hold_the_true_extremes(
            values in prop::collection::vec(prop::option::weighted(0.9, 0.0..1e6f64), 1..400),
            limit in 1usize..50,
        ) {
            let points = series(&values);
            let end = values.len() as f64;
            let steps = steps(&points, end, limit);
            prop_assert!(steps.len() <= limit);
            for step in &steps {
                let inside = || points.iter().filter(|p| p.0 >= step.from && p.0 < step.to).filter_map(|p| p.1);
                prop_assert_eq!(inside().fold(f64::INFINITY, f64::min), step.least);
                prop_assert_eq!(inside().fold(f64::NEG_INFINITY, f64::max), step.most);
                let mean = inside().sum::<f64>() / inside().count() as f64;
                prop_assert!((mean - step.mean).abs() <= 1e-6 * mean.max(1.0), "{mean} and {}", step.mean);
            }
            let known = || values.iter().flatten().copied();
            prop_assert_eq!(known().fold(0.0, f64::max), steps.iter().map(|s| s.most).fold(0.0, f64::max));
            prop_assert!(steps.windows(2).all(|w| w[0].to <= w[1].from));
        }

        #[test]
        fn stacks_add_up_to_their_sum_at_every_step(
            rows in prop::collection::vec(prop::array::uniform4(0.0..1e5f64), 1..300),
            limit in 1usize..40,
        ) {
            let layer = |of: &dyn Fn(&[f64; 4]) -> f64| {
                let points: Vec<_> = rows.iter().enumerate().map(|(i, r)| (i as f64, Some(of(r)))).collect();
                steps(&points, rows.len() as f64, limit)
            };
            let layers: Vec<_> = (0..4).map(|k| layer(&|r| r[k])).collect();
            let used = layer(&|r| r.iter().sum());
            let slabs = stack(&layers);
            prop_assert!(slabs[0].iter().all(|s| s.bottom == 0.0));
            for below in slabs.windows(2) {
                prop_assert!(below[0].iter().zip(&below[1]).all(|(a, b)| a.top == b.bottom));
            }
            for (slab, step) in slabs[3].iter().zip(&used) {
                prop_assert_eq!((slab.from, slab.to), (step.from, step.to));
                prop_assert!((slab.top - step.mean).abs() < 1e-6 * step.mean.max(1.0));
            }
        }

        #[test]
        fn distribution_functions_are_steps_from_nothing_to_all(
            mut values in prop::collection::vec(0.0..1e4f64, 1..80),
        ) {
            values.sort_by(f64::total_cmp);
            let cumulative: Vec<_> = (1u64..).zip(&values).map(|(n, v)| (*v, n)).collect();
            let line = staircase(&cumulative, 0.5);
            prop_assert_eq!((line[0].1, line[line.len() - 1].1), (0, values.len() as u64));
            for pair in line.windows(2) {
                let flat = pair[0].1 == pair[1].1 && pair[0].0 <= pair[1].0;
                let upright = pair[0].0 == pair[1].0 && pair[0].1 <= pair[1].1;
                prop_assert!(flat || upright, "{pair:?} is a slope");
            }
        }

        #[test]
        fn rates_give_every_count_back(counts in prop::collection::vec(0u32..50, 1..200), width in 1.0..30f64) {
            let totals: Vec<(f64, f64)> = counts
                .iter()
                .scan(0.0, |sum, n| { *sum += f64::from(*n); Some(*sum) })
                .enumerate()
                .map(|(i, sum)| (10.0 + i as f64, sum))
                .collect();
            let all = f64::from(counts.iter().sum::<u32>());
            for kept in [totals.clone(), spaced(&totals, 9.0, width)] {
                let rates = rates(&kept, 9.0, 1.0);
                prop_assert_eq!(rates[0].0, 9.0, "the first interval is one of them");
                let ends = rates.iter().skip(1).map(|r| r.0).chain([totals[totals.len() - 1].0]);
                let sum: f64 = rates.iter().zip(ends).map(|(r, to)| r.1.unwrap() * (to - r.0)).sum();
                prop_assert!((sum - all).abs() < 1e-6, "{sum} of {all}");
            }
        }
    }

    #[test]
    fn a_short_rest_joins_the_interval_before_it() {
        let totals: Vec<(f64, f64)> = (1..=24).map(|t| (f64::from(t), f64::from(t))).collect();
        let times = |width| spaced(&totals, 0.0, width).iter().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(times(10.0), [10.0, 24.0]);
        assert_eq!(times(8.0), [8.0, 16.0, 24.0]);
        assert_eq!(times(9.0), [9.0, 18.0, 24.0]);
        assert_eq!(times(100.0), [24.0]);
    }

    #[test]
    fn percentiles_stand_at_equal_distances_to_the_last_that_is_known() {
        let top = top_of(10_000);
        let marks: Vec<String> = percentiles(top).into_iter().map(|m| m.1).collect();
        assert_eq!(marks, ["0", "50", "90", "99", "99.9", "99.99", "max"]);
        assert_eq!([0, 9_000, 9_900, 9_990].map(|c| nines(c, 10_000, top).round()), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(nines(10_000, 10_000, top), top);
        assert!(nines(9_999, 10_000, top) < top);
        assert_eq!(percentiles(top_of(7)).last().unwrap().1, "max");
    }

    #[test]
    fn marks_are_round() {
        assert_eq!(round_marks(0.0, 3.9, 5), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(round_marks(10.0, 12.0, 8), [10.0, 10.5, 11.0, 11.5, 12.0]);
        assert_eq!(round_marks(0.0, 0.4, 4), [0.0, 0.1, 0.2, 0.30000000000000004, 0.4]);
    }
}
