//! Units beside those of time: memory and processor shares as integers with a type of their own.
//!
//! Memory is bytes, where MB = MiB = 2^20 and GB = GiB (the field's habit); a processor share is counted in 1/1000 core.
//! Decimal input goes to the nearest unit, half up. Text carries its unit.

use crate::rt::number::decimal;
use crate::rt::text::{from_text, measure, write_decimal};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mem(pub u64);

/// A share of the processors in 1/1000 core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(pub u32);

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

impl Serialize for Mem {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mem {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Mem, D::Error> {
        from_text(d, "a memory size with its unit in quotes, for instance \"16GiB\"")
    }
}

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
        for text in ["16GiB", "256MiB", "unlimited", "1.5MiB", "3B"] {
            assert_eq!(text.parse::<Mem>().map(|d| d.to_string()), Ok(text.to_string()));
        }
        for text in ["128GB", "128GiB", "128Gi", "128G", "0.125T"] {
            assert_eq!(text.parse::<Mem>(), Ok(Mem::from_mib(128 * 1024)), "{text}");
        }
        assert_eq!("0.5".parse::<Cpus>(), Ok(Cpus(500)));
    }
}
