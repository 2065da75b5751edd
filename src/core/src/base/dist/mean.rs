//! The mean of what a distribution draws, where its limits cut it.
//!
//! All follows from E[min(X, c)], which has a closed form for every shape (Klugman, Panjer and Willmot, "Loss Models").

use super::{Dist, Quantity, Shape};

/// A cut mean is told where it differs from the written one by more than this share.
const TOLERANCE: f64 = 0.01;

impl<Q: Quantity> Dist<Q> {
    /// A sentence on the mean of what is drawn, where zero, `min` or `max` move it by more than 1 % from [`Dist::mean`].
    ///
    /// ```
    /// let dist: elapse_core::base::Dist =
    ///     serde_json::from_str(r#"{"normal": {"mean": "100ms", "sd": "200ms"}}"#).unwrap();
    /// assert_eq!(dist.cut_mean().unwrap(), "the mean of what is drawn is 139.6 ms, not 100 ms: below zero is cut");
    /// ```
    pub fn cut_mean(&self) -> Option<String> {
        let (written, drawn) = (self.mean(), self.drawn_mean());
        if (drawn - written).abs() <= TOLERANCE * written {
            return None;
        }
        let (least, most) = self.limits();
        let low = (self.mean_up_to(least) - least).abs() > 1e-9 * written;
        let high = self.mean_up_to(most) < written;
        let low = low.then_some(if self.low.is_some() { "below min" } else { "below zero" });
        let high = high.then_some(if self.high.is_some() { "above max" } else { "above what can be drawn" });
        let cut: Vec<&str> = low.into_iter().chain(high).collect();
        Some(format!(
            "the mean of what is drawn is {}, not {}: {} is cut",
            Q::about(drawn),
            Q::about(written),
            cut.join(" and ")
        ))
    }

    /// The mean of what is drawn, in the smallest unit.
    fn drawn_mean(&self) -> f64 {
        let (least, most) = self.limits();
        (self.mean_up_to(most) + least - self.mean_up_to(least)).clamp(least, most)
    }

    /// E[min(X, c)], for c >= 0.
    fn mean_up_to(&self, c: f64) -> f64 {
        match &self.shape {
            Shape::Constant(q) => q.to_f64().min(c),
            Shape::Uniform { low, high } => {
                let (low, high) = (low.to_f64(), high.to_f64());
                match c {
                    c if c <= low => c,
                    c if c >= high => f64::midpoint(low, high),
                    c => ((c * c - low * low) / 2.0 + c * (high - c)) / (high - low),
                }
            }
            Shape::Exponential { mean } => {
                let mean = mean.to_f64();
                if mean > 0.0 { -mean * (-c / mean).exp_m1() } else { 0.0 }
            }
            Shape::LogNormal { median, sigma } => {
                if c <= 0.0 || median.to_f64() <= 0.0 {
                    return 0.0;
                }
                if *sigma <= 0.0 {
                    return median.to_f64().min(c);
                }
                let z = (c / median.to_f64()).ln() / sigma;
                self.mean() * normal_below(z - sigma) + c * normal_below(-z)
            }
            Shape::Normal { mean, sd } => {
                let (mean, sd) = (mean.to_f64(), sd.to_f64());
                if sd <= 0.0 {
                    return mean.min(c);
                }
                let z = (c - mean) / sd;
                let density = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
                mean * normal_below(z) - sd * density + c * normal_below(-z)
            }
            Shape::Gamma { mean, shape } => {
                let (mean, scale) = (mean.to_f64(), mean.to_f64() / shape);
                if scale <= 0.0 {
                    return 0.0;
                }
                mean * gamma_split(shape + 1.0, c / scale).0 + c * gamma_split(*shape, c / scale).1
            }
            Shape::Weibull { mean, shape } => {
                let (mean, scale) = (mean.to_f64(), mean.to_f64() / gamma_function(1.0 + 1.0 / shape));
                if scale <= 0.0 {
                    return 0.0;
                }
                let t = (c / scale).powf(*shape);
                mean * gamma_split(1.0 + 1.0 / shape, t).0 + c * (-t).exp()
            }
            Shape::Empirical(values) => {
                values.iter().map(|q| q.to_f64().min(c)).sum::<f64>() / values.len() as f64
            }
        }
    }
}

/// Lanczos' approximation (g = 7, n = 9), good to 1e-13 for x > 0.5.
pub(super) fn gamma_function(x: f64) -> f64 {
    let (t, sum) = lanczos(x);
    std::f64::consts::TAU.sqrt() * t.powf(x - 0.5) * (-t).exp() * sum
}

/// The logarithm of the same, which is finite for every x.
fn ln_gamma(x: f64) -> f64 {
    let (t, sum) = lanczos(x);
    std::f64::consts::TAU.sqrt().ln() + (x - 0.5) * t.ln() - t + sum.ln()
}

fn lanczos(x: f64) -> (f64, f64) {
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
    let sum = C.iter().enumerate().skip(1).fold(C[0], |sum, (i, c)| sum + c / (x + i as f64));
    (x + 7.5, sum)
}

/// The shares of a gamma law of this shape and scale 1 that lie below x and above it; the smaller is exact to its last
/// digits.
///
/// By the series of the lower share below shape + 1, by Lentz' continued fraction of the upper one elsewhere.
fn gamma_split(shape: f64, x: f64) -> (f64, f64) {
    if x <= 0.0 {
        return (0.0, 1.0);
    }
    if x.is_infinite() {
        return (1.0, 0.0);
    }
    let front = (shape * x.ln() - x - ln_gamma(shape + 1.0)).exp() * shape;
    if x < shape + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / shape, 1.0 / shape, shape);
        while term > sum * 1e-15 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        let below = (front * sum).min(1.0);
        return (below, 1.0 - below);
    }
    let mut b = x + 1.0 - shape;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for i in 1..500 {
        let i = f64::from(i);
        let a = -i * (i - shape);
        b += 2.0;
        d = 1.0 / (a * d + b);
        c = b + a / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    let above = (front * fraction).min(1.0);
    (1.0 - above, above)
}

/// The share of the standard normal law that lies below z.
fn normal_below(z: f64) -> f64 {
    let (inside, outside) = gamma_split(0.5, z * z / 2.0);
    if z < 0.0 { outside / 2.0 } else { 0.5 + inside / 2.0 }
}
