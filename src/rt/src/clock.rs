//! Time and duration: whole nanoseconds, each a type of its own. Text carries its unit; decimals go to the nearest nanosecond, half up.

use crate::number::{CENTURY, time_of};
use crate::text::{from_text, measure, write_decimal};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::{Add, AddAssign, Mul};
use std::str::FromStr;

/// An instant of a run: nanoseconds since its virtual (or monotonic) zero. At most 2^62 ns (146 years).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

impl Time {
    /// The start of a run.
    pub const ZERO: Time = Time(0);
    /// The last instant that can be told: no deadline.
    pub const MAX: Time = Time((1 << 62) - 1);
    /// The latest instant that a load may have: 100 years.
    pub const CENTURY: Time = Time(CENTURY);

    /// Nanoseconds since zero.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since zero, for plots and CSV only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The span from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);
    /// Longer than any run: "forever".
    pub const MAX: Duration = Duration((1 << 62) - 1);
    /// The longest span that can be asked for: 100 years.
    pub const CENTURY: Duration = Duration(CENTURY);

    /// Whole nanoseconds.
    pub const fn from_nanos(ns: u64) -> Duration {
        Duration(ns)
    }
    /// Whole microseconds.
    pub const fn from_micros(us: u64) -> Duration {
        Duration(us * 1_000)
    }
    /// Whole milliseconds.
    pub const fn from_millis(ms: u64) -> Duration {
        Duration(ms * 1_000_000)
    }
    /// Whole seconds.
    pub const fn from_secs(s: u64) -> Duration {
        Duration(s * 1_000_000_000)
    }
    /// To the nearest nanosecond; negative and NaN become zero, too long becomes [`Duration::MAX`].
    pub fn from_nanos_f64(ns: f64) -> Duration {
        Duration(((ns + 0.5) as u64).min(Duration::MAX.0))
    }
    /// Nanoseconds.
    pub fn as_nanos(self) -> u64 {
        self.0
    }
    /// Seconds, for plots and CSV only.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// Milliseconds, for plots and CSV only.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<Duration> for std::time::Duration {
    fn from(d: Duration) -> Self {
        std::time::Duration::from_nanos(d.0)
    }
}

impl From<std::time::Duration> for Duration {
    fn from(d: std::time::Duration) -> Self {
        Duration(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).min(Duration::MAX.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(d.0).min(Time::MAX.0))
    }
}

impl Add for Duration {
    type Output = Duration;
    fn add(self, d: Duration) -> Duration {
        Duration(self.0.saturating_add(d.0))
    }
}

impl AddAssign for Duration {
    fn add_assign(&mut self, d: Duration) {
        self.0 = self.0.saturating_add(d.0);
    }
}

impl Mul<u64> for Duration {
    type Output = Duration;
    fn mul(self, n: u64) -> Duration {
        Duration(self.0.saturating_mul(n).min(Duration::MAX.0))
    }
}

const TIME_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("sec", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a number with its unit, or `forever`.
///
/// ```
/// use elapse_rt::Duration;
///
/// assert_eq!("1.5ms".parse(), Ok(Duration(1_500_000)));
/// assert_eq!(Duration::from_secs(600).to_string(), "600s");
/// assert!("600".parse::<Duration>().is_err(), "a bare number has no unit");
/// ```
impl FromStr for Duration {
    type Err = String;
    fn from_str(text: &str) -> Result<Duration, String> {
        if text == "forever" {
            return Ok(Duration::MAX);
        }
        measure(text, TIME_UNITS, time_of, "duration", "600s, 10min or 1.5ms").map(Duration)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Duration::MAX {
            return f.write_str("forever");
        }
        let (scale, unit) = match self.0 {
            0 => (1_000_000_000, "s"),
            n if n % 1_000_000_000 == 0 => (1_000_000_000, "s"),
            n if n >= 1_000_000_000 => (1_000_000_000, "s"),
            n if n >= 1_000_000 => (1_000_000, "ms"),
            n if n >= 1_000 => (1_000, "us"),
            _ => (1, "ns"),
        };
        write_decimal(f, self.0, scale, unit)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 1_000_000_000, "s")
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        from_text(d, "a duration with its unit in quotes, for instance \"600s\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_back() {
        for text in ["600s", "1.5ms", "120ms", "forever", "17us", "3ns"] {
            assert_eq!(text.parse::<Duration>().map(|d| d.to_string()), Ok(text.to_string()));
        }
        assert!("600".parse::<Duration>().is_err_and(|e| e.contains("no unit")));
        assert!("5 parsecs".parse::<Duration>().is_err_and(|e| e.contains("unknown unit 'parsecs'")));
        assert!("-5s".parse::<Duration>().is_err_and(|e| e.contains("is negative")));
        assert_eq!("36525d".parse::<Duration>(), Ok(Duration::CENTURY));
        for text in ["36526d", "3155760000.000000001s", "1e300h"] {
            assert!(text.parse::<Duration>().is_err_and(|e| e.contains("is above 100 years")), "{text}");
        }
    }
}
