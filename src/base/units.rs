//! Units: time, duration, memory and processor shares as integers with a type of their own.
//!
//! Time is whole nanoseconds; memory is bytes, where MB = MiB = 2^20 and GB = GiB (the field's habit); a processor
//! share is counted in 1/1000 core. Decimal input goes to the nearest unit, half up. Text carries its unit.

use super::number::{CENTURY, NumberFault, decimal, time_of};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};
use std::str::FromStr;

/// An instant of a run: nanoseconds since its virtual (or monotonic) zero. At most 2^62 ns (146 years).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub u64);

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mem(pub u64);

/// A share of the processors in 1/1000 core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(pub u32);

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

impl Mem {
    /// More than any host has: "unlimited".
    pub const MAX: Mem = Mem(u64::MAX);
    /// One MiB, which this field writes MB.
    pub const MIB: u64 = 1 << 20;

    /// Whole MiB.
    pub const fn from_mib(mib: u64) -> Mem {
        Mem(mib * Mem::MIB)
    }
    /// MiB as a fraction, for plots and CSV only.
    pub fn as_mib_f64(self) -> f64 {
        self.0 as f64 / Mem::MIB as f64
    }
}

impl From<u64> for Mem {
    fn from(bytes: u64) -> Mem {
        Mem(bytes)
    }
}

impl Add for Mem {
    type Output = Mem;
    fn add(self, m: Mem) -> Mem {
        Mem(self.0.saturating_add(m.0))
    }
}

impl Sub for Mem {
    type Output = Mem;
    fn sub(self, m: Mem) -> Mem {
        Mem(self.0.saturating_sub(m.0))
    }
}

impl AddAssign for Mem {
    fn add_assign(&mut self, m: Mem) {
        *self = *self + m;
    }
}

impl SubAssign for Mem {
    fn sub_assign(&mut self, m: Mem) {
        *self = *self - m;
    }
}

impl Cpus {
    /// More than any host has: "unlimited".
    pub const MAX: Cpus = Cpus(u32::MAX);

    /// Whole cores.
    pub const fn from_cores(n: u32) -> Cpus {
        Cpus(n * 1000)
    }
    /// Cores as a fraction.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// Splits `12.5 ms` into the number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(i, c)| {
            !(c.is_ascii_digit()
                || matches!(c, '.' | '-' | '+')
                || (matches!(c, 'e' | 'E')
                    && text[i + 1..].starts_with(|n: char| n.is_ascii_digit() || n == '-')))
        })
        .map_or(text.len(), |(i, _)| i);
    (&text[..end], text[end..].trim())
}

/// Reads a number into whole units of a scale.
type Reader = fn(&[u8], u64) -> Result<u64, NumberFault>;

fn measure(
    text: &str,
    units: &[(&str, u64)],
    read: Reader,
    what: &str,
    example: &str,
) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    if number.is_empty() {
        return Err(format!("'{text}' is not a {what}; write for instance {example}"));
    }
    if unit.is_empty() {
        return Err(format!("'{text}' has no unit; write for instance {example}"));
    }
    let Some((_, scale)) = units.iter().find(|(name, _)| *name == unit) else {
        let known: Vec<&str> = units.iter().map(|(n, _)| *n).collect();
        return Err(format!("'{text}' has the unknown unit '{unit}'; known are {}", known.join(", ")));
    };
    read(number.as_bytes(), *scale)
        .map_err(|why| format!("'{text}' {why}; a {what} is for instance {example}"))
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

const MEM_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("KB", 1 << 10),
    ("Ki", 1 << 10),
    ("K", 1 << 10),
    ("MiB", 1 << 20),
    ("MB", 1 << 20),
    ("Mi", 1 << 20),
    ("M", 1 << 20),
    ("GiB", 1 << 30),
    ("GB", 1 << 30),
    ("Gi", 1 << 30),
    ("G", 1 << 30),
    ("TiB", 1 << 40),
    ("TB", 1 << 40),
    ("Ti", 1 << 40),
    ("T", 1 << 40),
];

impl FromStr for Duration {
    type Err = String;
    fn from_str(text: &str) -> Result<Duration, String> {
        if text == "forever" {
            return Ok(Duration::MAX);
        }
        measure(text, TIME_UNITS, time_of, "duration", "600s, 10min or 1.5ms").map(Duration)
    }
}

impl FromStr for Mem {
    type Err = String;
    fn from_str(text: &str) -> Result<Mem, String> {
        if text == "unlimited" {
            return Ok(Mem::MAX);
        }
        measure(text, MEM_UNITS, decimal, "memory size", "512MiB or 16GiB").map(Mem)
    }
}

impl FromStr for Cpus {
    type Err = String;
    fn from_str(text: &str) -> Result<Cpus, String> {
        if text == "unlimited" {
            return Ok(Cpus::MAX);
        }
        let thousandths = decimal(text.trim().as_bytes(), 1000)
            .map_err(|why| format!("'{text}' {why}; cores are for instance 8, 0.5 or unlimited"))?;
        u32::try_from(thousandths)
            .map(Cpus)
            .map_err(|_| format!("'{text}' is more cores than can be counted"))
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

impl fmt::Display for Mem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Mem::MAX {
            return f.write_str("unlimited");
        }
        let (scale, unit) = match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => (1 << 30, "GiB"),
            n if n >= 1 << 20 || n == 0 => (1 << 20, "MiB"),
            n if n >= 1 << 10 => (1 << 10, "KiB"),
            _ => (1, "B"),
        };
        write_decimal(f, self.0, scale, unit)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Cpus::MAX {
            f.write_str("unlimited")
        } else {
            write_decimal(f, u64::from(self.0), 1000, "")
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.0, 1_000_000_000, "s")
    }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, scale: u64, unit: &str) -> fmt::Result {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return write!(f, "{whole}{unit}");
    }
    let nano = (u128::from(rest) * 1_000_000_000 / u128::from(scale)) as u64;
    write!(f, "{whole}.{}{unit}", format!("{nano:09}").trim_end_matches('0'))
}

macro_rules! text_serde {
    ($($unit:ty => $what:literal),*) => {$(
        impl Serialize for $unit {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$unit, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $unit;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$unit, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                d.deserialize_str(Text)
            }
        }
    )*};
}

text_serde!(
    Duration => "a duration with its unit in quotes, for instance \"600s\"",
    Mem => "a memory size with its unit in quotes, for instance \"16GiB\""
);

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if *self == Cpus::MAX {
            s.serialize_str("unlimited")
        } else if self.0.is_multiple_of(1000) {
            s.serialize_u32(self.0 / 1000)
        } else {
            s.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Cpus, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Cpus;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of cores, for instance 8, 0.5 or \"unlimited\"")
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Cpus, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Cpus, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Cpus, E> {
                n.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpus, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written_back() {
        for text in ["600s", "1.5ms", "120ms", "forever", "17us", "3ns"] {
            assert_eq!(text.parse::<Duration>().map(|d| d.to_string()), Ok(text.to_string()));
        }
        for text in ["16GiB", "256MiB", "unlimited", "1.5MiB", "3B"] {
            assert_eq!(text.parse::<Mem>().map(|d| d.to_string()), Ok(text.to_string()));
        }
        for text in ["128GB", "128GiB", "128Gi", "128G", "0.125T"] {
            assert_eq!(text.parse::<Mem>(), Ok(Mem::from_mib(128 * 1024)), "{text}");
        }
        assert_eq!("0.5".parse::<Cpus>(), Ok(Cpus(500)));
        assert!("600".parse::<Duration>().is_err_and(|e| e.contains("no unit")));
        assert!("5 parsecs".parse::<Duration>().is_err_and(|e| e.contains("unknown unit 'parsecs'")));
        assert!("-5s".parse::<Duration>().is_err_and(|e| e.contains("is negative")));
        assert_eq!("36525d".parse::<Duration>(), Ok(Duration::CENTURY));
        for text in ["36526d", "3155760000.000000001s", "1e300h"] {
            assert!(text.parse::<Duration>().is_err_and(|e| e.contains("is above 100 years")), "{text}");
        }
    }
}
