//! Distributions of durations, sizes and ratios, as scenario files write them.
//!
//! `"120ms"` is a constant; `{ lognormal = { median = "120ms", sigma = 0.6 } }` and its like are random. The parameters
//! are those the papers use: lognormal by median and sigma or by mean and sd, the rest by mean.

use super::{Duration, Mem};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, Gamma, StandardNormal, Weibull};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// A quantity that a distribution can speak of: its text form carries a unit.
pub trait Quantity: Copy + std::fmt::Display + std::str::FromStr<Err = String> {
    /// The value in its smallest unit.
    fn to_f64(self) -> f64;
    /// The nearest value to `x` smallest units; never negative.
    fn from_f64(x: f64) -> Self;
}

impl Quantity for Duration {
    fn to_f64(self) -> f64 {
        self.0 as f64
    }
    fn from_f64(x: f64) -> Duration {
        Duration::from_nanos_f64(x)
    }
}

impl Quantity for Mem {
    fn to_f64(self) -> f64 {
        self.0 as f64
    }
    fn from_f64(x: f64) -> Mem {
        Mem((x + 0.5) as u64)
    }
}

/// A distribution of a [`Quantity`]; samples are never negative.
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

    /// The value, if there is only one.
    pub fn as_constant(&self) -> Option<Q> {
        match &self.shape {
            Shape::Constant(q) => Some(*q),
            _ => None,
        }
    }

    /// Mean before the limits `min` and `max` cut it.
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
            Shape::Constant(q) => return *q,
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
                (mean.to_f64() + sd.to_f64() * z).max(0.0)
            }
            Shape::Gamma { mean, shape } => match Gamma::new(*shape, mean.to_f64() / shape) {
                Ok(gamma) => gamma.sample(rng),
                Err(_) => mean.to_f64(),
            },
            Shape::Weibull { mean, shape } => match Weibull::new(1.0, *shape) {
                Ok(weibull) => mean.to_f64() * weibull.sample(rng) / gamma_function(1.0 + 1.0 / shape),
                Err(_) => mean.to_f64(),
            },
            Shape::Empirical(values) => return values[rng.random_range(0..values.len())],
        };
        let x = self.low.map_or(x, |low| x.max(low.to_f64()));
        let x = self.high.map_or(x, |high| x.min(high.to_f64()));
        Q::from_f64(x)
    }
}

/// Lanczos' approximation (g = 7, n = 9), good to 1e-13 for x > 0.5.
fn gamma_function(x: f64) -> f64 {
    const C: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let t = x + 7.5;
    let sum = C.iter().enumerate().skip(1).fold(C[0], |sum, (i, c)| sum + c / (x + i as f64));
    (2.0 * std::f64::consts::PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * sum
}

/// The scenario form of a distribution's parameters.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Constant(String),
    Table(Box<WrittenTable>),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    uniform: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exponential: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lognormal: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    normal: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weibull: Option<WrittenParameters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    empirical: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenParameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    median: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigma: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cv: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<f64>,
}

fn quantity<Q: Quantity>(text: &Option<String>, what: &str) -> Result<Q, String> {
    text.as_deref().ok_or_else(|| format!("the distribution lacks '{what}'"))?.parse()
}

fn positive(number: Option<f64>, what: &str) -> Result<f64, String> {
    match number {
        Some(x) if x.is_finite() && x > 0.0 => Ok(x),
        Some(x) => Err(format!("'{what}' is {x}; it must be a finite number above 0")),
        None => Err(format!("the distribution lacks '{what}'")),
    }
}

impl<Q: Quantity> TryFrom<WrittenTable> for Dist<Q> {
    type Error = String;

    fn try_from(t: WrittenTable) -> Result<Dist<Q>, String> {
        let mut shapes = Vec::new();
        if let Some(p) = &t.uniform {
            let (low, high): (Q, Q) = (quantity(&p.low, "low")?, quantity(&p.high, "high")?);
            if high.to_f64() < low.to_f64() {
                return Err(format!("uniform: high {high} is below low {low}"));
            }
            shapes.push(Shape::Uniform { low, high });
        }
        if let Some(p) = &t.exponential {
            shapes.push(Shape::Exponential { mean: quantity(&p.mean, "mean")? });
        }
        if let Some(p) = &t.lognormal {
            shapes.push(lognormal(p)?);
        }
        if let Some(p) = &t.normal {
            shapes.push(Shape::Normal { mean: quantity(&p.mean, "mean")?, sd: quantity(&p.sd, "sd")? });
        }
        if let Some(p) = &t.gamma {
            shapes
                .push(Shape::Gamma { mean: quantity(&p.mean, "mean")?, shape: positive(p.shape, "shape")? });
        }
        if let Some(p) = &t.weibull {
            shapes.push(Shape::Weibull {
                mean: quantity(&p.mean, "mean")?,
                shape: positive(p.shape, "shape")?,
            });
        }
        if let Some(values) = &t.empirical {
            if values.is_empty() {
                return Err("empirical: there are no values".into());
            }
            shapes.push(Shape::Empirical(values.iter().map(|v| v.parse()).collect::<Result<_, String>>()?));
        }
        let limit = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        let (low, high): (Option<Q>, Option<Q>) = (limit(&t.min)?, limit(&t.max)?);
        match (shapes.pop(), shapes.pop()) {
            (Some(shape), None) => Ok(Dist { shape, low, high }),
            (None, _) => {
                Err("the distribution has no shape; write uniform, exponential, lognormal, normal, gamma, \
                              weibull or empirical, or a constant such as \"120ms\""
                    .into())
            }
            _ => Err("the distribution has more than one shape".into()),
        }
    }
}

fn lognormal<Q: Quantity>(p: &WrittenParameters) -> Result<Shape<Q>, String> {
    if p.median.is_some() {
        return Ok(Shape::LogNormal {
            median: quantity(&p.median, "median")?,
            sigma: positive(p.sigma, "sigma")?,
        });
    }
    let mean: Q = quantity(&p.mean, "median' (with sigma) or 'mean' (with sd or cv)")?;
    let sd = match &p.sd {
        Some(_) => quantity(&p.sd, "sd")?,
        None => Q::from_f64(mean.to_f64() * positive(p.cv, "sd' or 'cv")?),
    };
    Ok(Dist::lognormal_mean_sd(mean, sd).shape)
}

impl<Q: Quantity> From<&Dist<Q>> for Written {
    fn from(d: &Dist<Q>) -> Written {
        let text = |q: &Q| Some(q.to_string());
        let mut t = WrittenTable {
            min: d.low.as_ref().and_then(text),
            max: d.high.as_ref().and_then(text),
            ..WrittenTable::default()
        };
        let none = WrittenParameters::default();
        match &d.shape {
            Shape::Constant(q) => return Written::Constant(q.to_string()),
            Shape::Uniform { low, high } => {
                t.uniform = Some(WrittenParameters { low: text(low), high: text(high), ..none });
            }
            Shape::Exponential { mean } => {
                t.exponential = Some(WrittenParameters { mean: text(mean), ..none });
            }
            Shape::LogNormal { median, sigma } => {
                t.lognormal = Some(WrittenParameters { median: text(median), sigma: Some(*sigma), ..none });
            }
            Shape::Normal { mean, sd } => {
                t.normal = Some(WrittenParameters { mean: text(mean), sd: text(sd), ..none });
            }
            Shape::Gamma { mean, shape } => {
                t.gamma = Some(WrittenParameters { mean: text(mean), shape: Some(*shape), ..none });
            }
            Shape::Weibull { mean, shape } => {
                t.weibull = Some(WrittenParameters { mean: text(mean), shape: Some(*shape), ..none });
            }
            Shape::Empirical(values) => t.empirical = Some(values.iter().map(|q| q.to_string()).collect()),
        }
        Written::Table(Box::new(t))
    }
}

impl<Q: Quantity> Serialize for Dist<Q> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(s)
    }
}

impl<'de, Q: Quantity> Deserialize<'de> for Dist<Q> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Dist<Q>, D::Error> {
        use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
        struct Form<Q>(std::marker::PhantomData<Q>);
        impl<'de, Q: Quantity> Visitor<'de> for Form<Q> {
            type Value = Dist<Q>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value with its unit in quotes, or a distribution such as { exponential = { mean = .. } }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Dist<Q>, E> {
                text.parse().map(Dist::constant).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Dist<Q>, A::Error> {
                let table = WrittenTable::deserialize(MapAccessDeserializer::new(map))?;
                Dist::try_from(table).map_err(A::Error::custom)
            }
        }
        d.deserialize_any(Form(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_distribution_says_what_is_wrong() {
        let fault = |text: &str| serde_json::from_str::<Dist>(text).expect_err(text).to_string();
        assert!(fault(r#"{"exponential":{}}"#).contains("lacks 'mean'"));
        assert!(fault(r#"{"lognormal":{"median":"1ms","sigma":-1}}"#).contains("above 0"));
        assert!(fault(r#"{"expo":{"mean":"1ms"}}"#).contains("unknown field `expo`"));
        assert!(fault("5").contains("with its unit in quotes"));
        assert!(fault("{}").contains("no shape"));
    }
}
