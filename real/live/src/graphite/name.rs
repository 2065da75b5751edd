//! Writes the name of a series as a target: targets have a grammar, and names may hold what means something there.

/// A series' name as a target of the render API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The target.
    pub(crate) text: String,
    /// Whether it means this series alone. Otherwise others may fit it too, and are told apart by their names in the answer.
    pub(crate) exact: bool,
}

/// Writes a name as a target that means it.
///
/// graphite-web reads a backslash before its own marks, but drops it again before it looks for wildcards and braces: a
/// wildcard is put into brackets, and what cannot be written at all (braces, backslashes, spaces, letters outside ASCII)
/// is asked for as any one character.
pub(crate) fn written(name: &str) -> Written {
    let mut text = String::with_capacity(name.len() + 8);
    let mut exact = true;
    for c in name.chars() {
        match c {
            '(' | ')' | ',' | '\'' | '"' | '|' => text.extend(['\\', c]),
            '*' | '?' | '[' => text.extend(['[', c, ']']),
            c if c.is_ascii_graphic() && !"{}\\".contains(c) => text.push(c),
            _ => {
                exact = false;
                text.push('?');
            }
        }
    }
    Written { text, exact }
}

/// Whether a target is a pattern of names, which Graphite expands. Functions and tagged series are not: they are asked of
/// the render API as they are.
///
/// ```
/// use elapse_live::graphite::is_pattern;
///
/// assert!(is_pattern("servers.*.cpu") && is_pattern("servers.{a,b}.cpu"));
/// assert!(!is_pattern("servers.a.cpu") && !is_pattern("disk.used;host=a") && !is_pattern("sumSeries(servers.*)"));
/// ```
pub fn is_pattern(target: &str) -> bool {
    let mut escaped = false;
    let wild = target.chars().any(|c| {
        let is = !escaped && matches!(c, '*' | '?' | '[' | '{');
        escaped = c == '\\' && !escaped;
        is
    });
    wild && !target.contains(['(', ';'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_graphites_marks_are_written_so_that_it_finds_them() {
        for (name, text, exact) in [
            ("servers.a-1.cpu_5%", "servers.a-1.cpu_5%", true),
            ("disk.used;host=a", "disk.used;host=a", true),
            ("jvm.gc(young),'x'|\"y\"", r#"jvm.gc\(young\)\,\'x\'\|\"y\""#, true),
            ("a*b.c?d.e[f]", "a[*]b.c[?]d.e[[]f]", true),
            ("GET /a{b}", "GET?/a?b?", false),
            (r"a\b.ü", "a?b.?", false),
        ] {
            assert_eq!(written(name), Written { text: text.into(), exact }, "{name}");
        }
    }

    #[test]
    fn only_names_with_wildcards_are_patterns() {
        for pattern in ["a.*", "a?", "a.[bc]", "a.{b,c}", r"a\{b.*"] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        for other in ["a.b", r"a.\{b\}", "f(a.*)", "a.*|f()", "disk.used;path=/var/*"] {
            assert!(!is_pattern(other), "{other}");
        }
    }
}
