//! Numbers for people: thousands apart, units that scale, shares.

/// A count, for instance `9,366`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole, for instance `46.8 %`.
pub fn share(part: f64, whole: f64) -> String {
    if whole <= 0.0 {
        return "0 %".into();
    }
    let percent = 100.0 * part / whole;
    match percent {
        p if p > 0.0 && p < 0.05 => "<0.1 %".into(),
        p if (99.95..100.0).contains(&p) => ">99.9 %".into(),
        p => format!("{} %", trimmed(format!("{p:.1}"))),
    }
}

/// A time in milliseconds, for instance `1.69 s`.
pub fn millis(ms: f64) -> String {
    const UNITS: &[(&str, f64)] = &[
        ("us", 0.001),
        ("ms", 1.0),
        ("s", 1_000.0),
        ("min", 60_000.0),
        ("h", 3_600_000.0),
        ("d", 86_400_000.0),
    ];
    scaled(ms, UNITS)
}

/// A size in MB (2^20 bytes), for instance `6 GB`.
pub fn megabytes(mb: f64) -> String {
    const UNITS: &[(&str, f64)] = &[("KB", 1.0 / 1024.0), ("MB", 1.0), ("GB", 1024.0), ("TB", 1_048_576.0)];
    scaled(mb, UNITS)
}

/// Three digits in the largest unit of which it is at least one.
fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    if value == 0.0 {
        return "0".into();
    }
    // What would be written as 1000 ms or 60 s is written in the next unit.
    let almost = value * 1.0005;
    let (unit, scale) = units
        .iter()
        .rev()
        .find(|(_, scale)| almost >= *scale)
        .or(units.first())
        .copied()
        .unwrap_or(("", 1.0));
    format!("{} {unit}", digits(value / scale))
}

/// Three digits, and all that a larger number has before its point.
pub fn digits(x: f64) -> String {
    match x.abs() {
        a if (999.5..9e15).contains(&a) => {
            format!("{}{}", if x < 0.0 { "-" } else { "" }, count(a.round() as u64))
        }
        a if a >= 99.95 => format!("{x:.0}"),
        a if a >= 9.995 => trimmed(format!("{x:.1}")),
        _ => trimmed(format!("{x:.2}")),
    }
}

fn trimmed(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_string() } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (n, text) in [(0, "0"), (7, "7"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(n), text);
        }
        for (part, text) in
            [(0.0, "0 %"), (0.01, "<0.1 %"), (46.83, "46.8 %"), (99.99, ">99.9 %"), (100.0, "100 %")]
        {
            assert_eq!(share(part, 100.0), text);
        }
        assert_eq!(share(1.0, 0.0), "0 %");
        for (ms, text) in [
            (0.0, "0"),
            (0.0004, "0.4 us"),
            (0.056, "56 us"),
            (1.5, "1.5 ms"),
            (446.09, "446 ms"),
            (999.7, "1 s"),
            (1_686.1, "1.69 s"),
            (59_990.0, "1 min"),
            (119_000.0, "1.98 min"),
            (7_200_000.0, "2 h"),
            (30.0 * 86_400_000.0, "30 d"),
        ] {
            assert_eq!(millis(ms), text);
        }
        for (mb, text) in [(0.5, "512 KB"), (256.0, "256 MB"), (6144.0, "6 GB"), (2130.8, "2.08 GB")] {
            assert_eq!(megabytes(mb), text);
        }
        assert_eq!(digits(32_216.2), "32,216");
        assert_eq!(digits(1.9007), "1.9");
    }
}
