//! Arrivals: open loops (Poisson, constant, on-off, diurnal), closed loops, and how a rate is shared by popularity.

use super::{Profile, Source};
use crate::base::{Dist, Duration, Fault, FunctionId, Invocation, Result, Time, decimal};
use crate::rt::chance::{Purpose, RngKey, RngStream};
use rand::RngExt;
use rand_distr::{Distribution, Exp1};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Invocations per time, written `5/s`, `300/min` or `12/h`. In events per ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("'{text}' is not a rate; write for instance 5/s, 300/min or 12/h");
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per: f64 = match unit.trim() {
            "s" => 1e9,
            "min" | "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            _ => return Err(wrong()),
        };
        let millionths =
            decimal(number.trim().as_bytes(), 1_000_000).map_err(|why| format!("'{text}' {why}"))?;
        if millionths == 0 {
            return Err(format!("'{text}' is no rate: nothing would ever arrive; leave `load` out instead"));
        }
        Ok(Rate(millionths as f64 / 1e6 / per))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = self.0 * 1e9;
        let (value, unit) = [(per_second, "s"), (per_second * 60.0, "min"), (per_second * 3600.0, "h")]
            .into_iter()
            .find(|(v, _)| *v >= 1.0)
            .unwrap_or((per_second * 86_400.0, "d"));
        write!(f, "{}/{unit}", (value * 1e6).round() / 1e6)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Rate, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a function is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// A Poisson process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poisson: Option<Rate>,
    /// Equal distances, from the first instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<Rate>,
    /// A Poisson process that is switched on and off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_off: Option<OnOff>,
    /// A Poisson process whose rate is a cosine over the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diurnal: Option<Diurnal>,
    /// Clients that each wait for their answer before they call again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
    /// With `count` functions: the rate (or the clients) is shared by a Zipf law with this exponent. Else equally.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipf: Option<f64>,
}

/// See [`Load::on_off`]. It starts switched on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnOff {
    /// Rate while on.
    pub rate: Rate,
    /// How long it is on.
    pub on: Duration,
    /// How long it is off.
    pub off: Duration,
}

/// See [`Load::diurnal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diurnal {
    /// Mean rate.
    pub mean: Rate,
    /// Rate at the peak, as a multiple of the mean; 1 to 2.
    pub peak: f64,
    /// When the peak is, after virtual time 0.
    #[serde(default = "midday")]
    pub peak_at: Duration,
    /// The length of a day.
    #[serde(default = "day")]
    pub period: Duration,
}

fn midday() -> Duration {
    Duration::from_secs(13 * 3600)
}

fn day() -> Duration {
    Duration::from_secs(86_400)
}

/// See [`Load::closed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Clients.
    pub clients: u32,
    /// Time between an answer and the next call.
    #[serde(default = "no_time")]
    pub think: Dist,
    /// The least time between a refusal and the next call.
    #[serde(default = "a_moment")]
    pub retry: Duration,
}

fn a_moment() -> Duration {
    Duration::from_millis(1)
}

fn no_time() -> Dist {
    Dist::constant(Duration::ZERO)
}

/// A closed loop of one function.
#[derive(Clone, Debug)]
pub struct ClosedLoop {
    /// What its clients call.
    pub function: FunctionId,
    /// How many they are.
    pub clients: u32,
    /// Time between an answer and the next call.
    pub think: Dist,
    /// The least time between a refusal and the next call.
    pub retry: Duration,
    /// How the invocations turn out.
    pub profile: Profile,
    /// The seed of their think times.
    pub rng: RngKey,
}

impl Load {
    /// What cannot be meant.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        let open =
            [self.poisson.is_some(), self.constant.is_some(), self.on_off.is_some(), self.diurnal.is_some()];
        let forms = open.iter().filter(|f| **f).count() + usize::from(self.closed.is_some());
        if forms != 1 {
            return Err(format!(
                "load has {forms} forms; give one of poisson, constant, on_off, diurnal, closed"
            ));
        }
        if let Some(d) = &self.diurnal
            && !((1.0..=2.0).contains(&d.peak) && d.period.0 > 0)
        {
            return Err(format!(
                "diurnal: peak is {}; it is 1 to 2 times the mean, and period is above 0",
                d.peak
            ));
        }
        if self.on_off.as_ref().is_some_and(|o| o.on.0 == 0) {
            return Err("on_off: on is 0; nothing would ever arrive".into());
        }
        if self.closed.as_ref().is_some_and(|c| c.clients == 0) {
            return Err("closed: clients is 0; at least one is needed".into());
        }
        if self.closed.as_ref().is_some_and(|c| c.retry == Duration::ZERO) {
            return Err(
                "closed: retry is 0; a client that is refused would call again at the same instant, for ever"
                    .into(),
            );
        }
        if self.zipf.is_some_and(|z| !z.is_finite() || z < 0.0) {
            return Err("zipf is a finite exponent >= 0".into());
        }
        Ok(())
    }

    /// The share of the rate that each of `n` functions has.
    pub fn shares(&self, n: u32) -> Vec<f64> {
        let weights: Vec<f64> = (1..=n).map(|i| f64::from(i).powf(-self.zipf.unwrap_or(0.0))).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / total).collect()
    }

    /// The arrivals of one function with this share of the rate; `None` for a closed loop.
    pub fn open(&self, function: FunctionId, share: f64, profile: Profile, until: Time) -> Option<OpenLoad> {
        let shape = if let Some(rate) = self.poisson {
            Shape::Poisson(rate.0 * share)
        } else if let Some(rate) = self.constant {
            Shape::Constant(rate.0 * share)
        } else if let Some(o) = &self.on_off {
            Shape::OnOff { rate: o.rate.0 * share, on: o.on.0 as f64, off: o.off.0 as f64 }
        } else {
            let d = self.diurnal.as_ref()?;
            Shape::Diurnal {
                mean: d.mean.0 * share,
                swing: d.peak - 1.0,
                peak_at: d.peak_at.0 as f64,
                period: d.period.0 as f64,
            }
        };
        let draw = profile.rng.draw(Purpose::Arrival, 0);
        Some(OpenLoad { function, profile, shape, draw, clock: 0.0, k: 0, until })
    }
}

enum Shape {
    Poisson(f64),
    Constant(f64),
    OnOff { rate: f64, on: f64, off: f64 },
    Diurnal { mean: f64, swing: f64, peak_at: f64, period: f64 },
}

/// The arrivals of one function.
pub struct OpenLoad {
    function: FunctionId,
    profile: Profile,
    shape: Shape,
    draw: RngStream,
    /// ns; for on-off the time spent switched on.
    clock: f64,
    k: u64,
    until: Time,
}

impl OpenLoad {
    fn exponential(&mut self, rate: f64) -> f64 {
        Distribution::<f64>::sample(&Exp1, &mut self.draw) / rate
    }

    fn next_arrival(&mut self) -> f64 {
        match self.shape {
            Shape::Poisson(rate) => {
                self.clock += self.exponential(rate);
                self.clock
            }
            Shape::Constant(rate) => self.k as f64 / rate,
            Shape::OnOff { rate, on, off } => {
                self.clock += self.exponential(rate);
                self.clock + (self.clock / on).floor() * off
            }
            // Thinning (Lewis and Shedler, 1979).
            Shape::Diurnal { mean, swing, peak_at, period } => loop {
                self.clock += self.exponential(mean * (1.0 + swing));
                let phase = (self.clock - peak_at) / period * std::f64::consts::TAU;
                if self.draw.random::<f64>() * (1.0 + swing) < 1.0 + swing * phase.cos() {
                    return self.clock;
                }
            },
        }
    }
}

impl Source for OpenLoad {
    fn next(&mut self) -> Result<Option<Invocation>> {
        let at = Time(Duration::from_nanos_f64(self.next_arrival()).0);
        if at >= self.until {
            return Ok(None);
        }
        if at > Time::CENTURY {
            return Err(Fault::usage(
                "a function's load goes on beyond 100 years; give the run a duration, or the load a higher rate",
            ));
        }
        let call = self.profile.invocation(self.function, self.k, at);
        self.k += 1;
        Ok(Some(call))
    }
}
