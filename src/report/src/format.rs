//! How a text and a number stand in a CSV file.

use std::borrow::Cow;

/// A CSV field, in quotes if it needs them.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        return Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")));
    }
    Cow::Borrowed(text)
}

/// At most 6 decimals, and none that say nothing.
pub fn short(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 9e15 {
        return format!("{}", x as i64);
    }
    // Halves go away from zero, as in the points that Graphite gets.
    let text = format!("{:.6}", (x * 1e6).round() / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
