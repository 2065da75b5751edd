//! The form that a distribution has in scenario files.

use super::mean::gamma_function;
use super::{Dist, Quantity, Shape};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// A value that can be drawn: "forever" and "unlimited" cannot.
fn value<Q: Quantity>(text: &str) -> Result<Q, String> {
    let value: Q = text.parse()?;
    if value.to_f64() > Q::MOST {
        return Err(format!(
            "'{text}' is too much for a value that is drawn; at most {} is",
            Q::from_f64(Q::MOST)
        ));
    }
    Ok(value)
}

fn quantity<Q: Quantity>(text: &Option<String>, what: &str) -> Result<Q, String> {
    value(text.as_deref().ok_or_else(|| format!("the distribution lacks '{what}'"))?)
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
            let shape = positive(p.shape, "shape")?;
            if !gamma_function(1.0 + 1.0 / shape).is_finite() {
                return Err(format!("weibull: shape {shape} is so small that its mean is beyond numbers"));
            }
            shapes.push(Shape::Weibull { mean: quantity(&p.mean, "mean")?, shape });
        }
        if let Some(values) = &t.empirical {
            if values.is_empty() {
                return Err("empirical: there are no values".into());
            }
            shapes.push(Shape::Empirical(values.iter().map(|v| value(v)).collect::<Result<_, String>>()?));
        }
        let limit = |text: &Option<String>| text.as_deref().map(value).transpose();
        let (low, high): (Option<Q>, Option<Q>) = (limit(&t.min)?, limit(&t.max)?);
        if let (Some(low), Some(high)) = (low, high)
            && low.to_f64() > high.to_f64()
        {
            return Err(format!("min {low} is above max {high}"));
        }
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
                value(text).map(Dist::constant).map_err(E::custom)
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
    use crate::base::Dist;

    #[test]
    fn a_wrong_distribution_says_what_is_wrong() {
        let fault = |text: &str| serde_json::from_str::<Dist>(text).expect_err(text).to_string();
        assert!(fault(r#"{"exponential":{}}"#).contains("lacks 'mean'"));
        assert!(fault(r#"{"lognormal":{"median":"1ms","sigma":-1}}"#).contains("above 0"));
        assert!(fault(r#"{"expo":{"mean":"1ms"}}"#).contains("unknown field `expo`"));
        assert!(fault("5").contains("with its unit in quotes"));
        assert!(fault("{}").contains("no shape"));
        assert!(fault(r#""forever""#).contains("too much for a value that is drawn"));
        assert!(fault(r#"{"exponential":{"mean":"101000d"}}"#).contains("above 100 years"));
        assert!(
            fault(r#"{"empirical":["1ms"],"min":"3ms","max":"2ms"}"#).contains("min 3ms is above max 2ms")
        );
    }
}
