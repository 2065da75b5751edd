//! What serde says of a wrong configuration, for people.

use super::nearest;

/// Adds the nearest known word to what serde says of an unknown one.
pub fn explain(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    if let (true, Some((unknown, known))) = (is_unknown, words.split_first()) {
        let what = if message.starts_with("unknown field") { "key" } else { "word" };
        let hint = nearest(unknown, known.iter().copied()).map(|n| format!("; did you mean '{n}'?"));
        return format!(
            "unknown {what} '{unknown}'{} (known: {})",
            hint.unwrap_or_default(),
            known.join(", ")
        );
    }
    let message = message.trim().replace('\n', "; ");
    without_jargon(&message).unwrap_or(message)
}

/// What serde says of a value of the wrong kind, or of one that is not there, for people.
fn without_jargon(message: &str) -> Option<String> {
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return Some(format!("'{key}' is not given, and there is no default for it"));
    }
    let (head, expected) = message.split_once(", expected ")?;
    let found = head.strip_prefix("invalid type: ").or(head.strip_prefix("invalid value: "))?;
    let value = found.split(['`', '"']).nth(1).map_or(found.to_string(), |value| format!("'{value}'"));
    let wanted = match expected {
        "f64" | "f32" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number >= 0",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in brackets",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    Some(format!("{value} is not {wanted}"))
}
