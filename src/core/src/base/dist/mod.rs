//! Distributions of durations, sizes and ratios, as scenario files write them.
//!
//! `"120ms"` is a constant; `{ lognormal = { median = "120ms", sigma = 0.6 } }` and its like are random. The parameters
//! are those the papers use: lognormal by median and sigma or by mean and sd, the rest by mean.

mod mean;
mod written;

use super::{Duration, Mem};
use mean::gamma_function;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal, Weibull};
use std::sync::Arc;

/// A quantity that a distribution can speak of: its text form carries a unit.
pub trait Quantity: Copy + std::fmt::Display + std::str::FromStr<Err = String> {
    /// The largest value that is drawn, in the smallest unit.
    const MOST: f64;
    /// The value in its smallest unit.
    fn to_f64(self) -> f64;
    /// The nearest value to `x` smallest units; never negative.
    fn from_f64(x: f64) -> Self;
    /// `x` smallest units to four digits, with their unit.
    fn about(x: f64) -> String;
}

/// `x` to four digits, in the first of the units (largest first) that it reaches, else in the last.
fn four_digits(x: f64, units: &[(f64, &str)]) -> String {
    let Some((size, unit)) = units.iter().find(|(size, _)| x >= *size).or(units.last()) else {
        return x.to_string();
    };
    let value = x / size;
    let decimals = (3.0 - value.max(1.0).log10().floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

impl Quantity for Duration {
    const MOST: f64 = Duration::CENTURY.0 as f64;
    fn to_f64(self) -> f64 {
        self.0 as f64
    }
    fn from_f64(x: f64) -> Duration {
        Duration::from_nanos_f64(x)
    }
    fn about(x: f64) -> String {
        four_digits(x, &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")])
    }
}

impl Quantity for Mem {
    const MOST: f64 = (1u64 << 62) as f64;
    fn to_f64(self) -> f64 {
        self.0 as f64
    }
    fn from_f64(x: f64) -> Mem {
        Mem((x + 0.5) as u64)
    }
    fn about(x: f64) -> String {
        let size = |power: u32| (1u64 << power) as f64;
        four_digits(x, &[(size(30), "GiB"), (size(20), "MiB"), (size(10), "KiB"), (1.0, "B")])
    }
}

/// A distribution of a [`Quantity`]. What is drawn is never negative, nor outside the limits `min` and `max`, nor above
/// [`Quantity::MOST`]: it is moved to the nearest of them. [`Dist::cut_mean`] tells where that changes the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Dist<Q = Duration> {
    shape: Shape<Q>,
    low: Option<Q>,
    high: Option<Q>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape<Q> {
    Constant(Q),
    Uniform {
        low: Q,
        high: Q,
    },
    Exponential {
        mean: Q,
    },
    /// By median and sigma of the logarithm.
    LogNormal {
        median: Q,
        sigma: f64,
    },
    Normal {
        mean: Q,
        sd: Q,
    },
    Gamma {
        mean: Q,
        shape: f64,
    },
    Weibull {
        mean: Q,
        shape: f64,
    },
    /// Values with equal weight, for instance measured ones.
    Empirical(Arc<[Q]>),
}

impl<Q: Quantity> Dist<Q> {
    /// Always the same value.
    pub fn constant(value: Q) -> Dist<Q> {
        Dist { shape: Shape::Constant(value), low: None, high: None }
    }

    /// Any of these values with equal chance; none without a value.
    pub fn empirical(values: Vec<Q>) -> Option<Dist<Q>> {
        let shape = Shape::Empirical(values.into());
        let some = !matches!(&shape, Shape::Empirical(values) if values.is_empty());
        some.then_some(Dist { shape, low: None, high: None })
    }

    /// Exponential with a mean.
    pub fn exponential(mean: Q) -> Dist<Q> {
        Dist { shape: Shape::Exponential { mean }, low: None, high: None }
    }

    /// Lognormal by the mean and the standard deviation of the quantity itself.
    pub fn lognormal_mean_sd(mean: Q, sd: Q) -> Dist<Q> {
        let cv = sd.to_f64() / mean.to_f64();
        let variance = (1.0 + cv * cv).ln();
        let median = Q::from_f64(mean.to_f64() * (-variance / 2.0).exp());
        Dist { shape: Shape::LogNormal { median, sigma: variance.sqrt() }, low: None, high: None }
    }

    /// Lognormal around a median.
    pub fn lognormal(median: Q, sigma: f64) -> Dist<Q> {
        Dist { shape: Shape::LogNormal { median, sigma }, low: None, high: None }
    }

    /// The value, if there is only one.
    pub fn as_constant(&self) -> Option<Q> {
        match &self.shape {
            Shape::Constant(q) => Some(*q),
            _ => None,
        }
    }

    /// The mean before zero and the limits `min` and `max` cut it, in the smallest unit.
    pub fn mean(&self) -> f64 {
        match &self.shape {
            Shape::Constant(q) => q.to_f64(),
            Shape::Uniform { low, high } => (low.to_f64() + high.to_f64()) / 2.0,
            Shape::LogNormal { median, sigma } => median.to_f64() * (sigma * sigma / 2.0).exp(),
            Shape::Exponential { mean }
            | Shape::Normal { mean, .. }
            | Shape::Gamma { mean, .. }
            | Shape::Weibull { mean, .. } => mean.to_f64(),
            Shape::Empirical(values) => values.iter().map(|q| q.to_f64()).sum::<f64>() / values.len() as f64,
        }
    }

    /// Draws one value.
    pub fn sample(&self, rng: &mut impl Rng) -> Q {
        let x = match &self.shape {
            Shape::Constant(q) => return self.limited(*q),
            Shape::Uniform { low, high } => {
                low.to_f64() + (high.to_f64() - low.to_f64()) * rng.random::<f64>()
            }
            Shape::Exponential { mean } => mean.to_f64() * Distribution::<f64>::sample(&Exp1, rng),
            Shape::LogNormal { median, sigma } => {
                let z: f64 = StandardNormal.sample(rng);
                median.to_f64() * (sigma * z).exp()
            }
            Shape::Normal { mean, sd } => {
                let z: f64 = StandardNormal.sample(rng);
                mean.to_f64() + sd.to_f64() * z
            }
            Shape::Gamma { mean, shape } => match Gamma::new(*shape, mean.to_f64() / shape) {
                Ok(gamma) => gamma.sample(rng),
                Err(_) => mean.to_f64(),
            },
            Shape::Weibull { mean, shape } => match Weibull::new(1.0, *shape) {
                Ok(weibull) => mean.to_f64() * weibull.sample(rng) / gamma_function(1.0 + 1.0 / shape),
                Err(_) => mean.to_f64(),
            },
            Shape::Empirical(values) => return self.limited(values[rng.random_range(0..values.len())]),
        };
        let (least, most) = self.limits();
        Q::from_f64(x.max(least).min(most))
    }

    /// Between which values all lie that are drawn.
    fn limits(&self) -> (f64, f64) {
        let least = self.low.map_or(0.0, Q::to_f64);
        (least, self.high.map_or(Q::MOST, |high| high.to_f64().min(Q::MOST)))
    }

    /// A value that was given, moved to the nearest limit; to the last digit itself if it lies between them.
    fn limited(&self, value: Q) -> Q {
        let below = self.low.filter(|low| value.to_f64() < low.to_f64());
        let above = self.high.filter(|high| value.to_f64() > high.to_f64());
        above.or(below).unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::chance::{Purpose, Seed};

    #[test]
    fn samples_have_the_mean_that_is_told() {
        for text in [
            r#"{"uniform":{"low":"1ms","high":"3ms"}}"#,
            r#"{"exponential":{"mean":"2ms"}}"#,
            r#"{"lognormal":{"median":"2ms","sigma":0.5}}"#,
            r#"{"lognormal":{"mean":"2ms","cv":1.5}}"#,
            r#"{"normal":{"mean":"2ms","sd":"100us"}}"#,
            r#"{"gamma":{"mean":"2ms","shape":0.3}}"#,
            r#"{"weibull":{"mean":"2ms","shape":0.7}}"#,
            r#"{"empirical":["1ms","3ms"]}"#,
        ] {
            let dist: Dist = serde_json::from_str(text).expect(text);
            let mut draw = Seed::new(1).named(text).draw(Purpose::Duration, 0);
            let n = 200_000;
            let mean = (0..n).map(|_| dist.sample(&mut draw).0 as f64).sum::<f64>() / n as f64;
            assert!((mean / dist.mean() - 1.0).abs() < 0.02, "{text}: drawn {mean}, told {}", dist.mean());
            let back: Dist = serde_json::from_str(&serde_json::to_string(&dist).unwrap()).unwrap();
            assert!((back.mean() / dist.mean() - 1.0).abs() < 1e-6);
        }
    }
}
