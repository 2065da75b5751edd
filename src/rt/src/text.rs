//! Measures as text: a number and its unit, for units of every kind.

use crate::number::NumberFault;
use serde::de::{self, Deserializer};
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

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
pub type Reader = fn(&[u8], u64) -> Result<u64, NumberFault>;

/// Reads a measure: a number and one of these units, each with how many of the smallest it has.
///
/// # Errors
/// A sentence with an example.
pub fn measure(
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

/// Writes a value that has so many of the smallest unit as a decimal, without zeros at its end.
///
/// # Errors
/// The formatter's.
pub fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, scale: u64, unit: &str) -> fmt::Result {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return write!(f, "{whole}{unit}");
    }
    let nano = (u128::from(rest) * 1_000_000_000 / u128::from(scale)) as u64;
    write!(f, "{whole}.{}{unit}", format!("{nano:09}").trim_end_matches('0'))
}

/// Reads a value that is written as text.
///
/// # Errors
/// The deserializer's, with what was expected; or why the text cannot be read.
pub fn from_text<'de, D, T>(d: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    struct Text<T>(&'static str, PhantomData<T>);
    impl<T: FromStr<Err = String>> de::Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    d.deserialize_str(Text(expected, PhantomData))
}
