//! Reads names of series: what a pattern of Graphite means, and the plain name of a series that has tags or a number.

/// The name of a series without its tags, and without the number by which series of one name are told apart:
/// `disk.used` of `disk.used;host=a`, `cpu` of `cpu#2`. What a function is called stays.
pub(super) fn plain(path: &str) -> &str {
    let unnumbered = path
        .rsplit_once('#')
        .filter(|(name, number)| !name.is_empty() && number.parse::<u64>().is_ok_and(|n| n > 1))
        .map_or(path, |(name, _)| name);
    match unnumbered.split_once(';') {
        Some((name, _)) if !name.is_empty() && !name.contains('(') => name,
        _ => unnumbered,
    }
}

/// Whether a path, or its plain name, fits a pattern of Graphite: `*`, `?` and `[a-z]` within a part, `{a,b}`, whole parts
/// between dots, a backslash before what means itself.
pub fn matches(pattern: &str, path: &str) -> bool {
    fits(pattern, path) || fits(pattern, plain(path))
}

/// Whether a path is, or lies below, what a pattern means.
pub(super) fn covers(pattern: &str, path: &str) -> bool {
    let wanted = pattern.split('.').count();
    let below = |path: &str| {
        let head: Vec<&str> = path.split('.').take(wanted).collect();
        fits(pattern, &head.join("."))
    };
    pattern == path || below(path) || below(plain(path))
}

fn fits(pattern: &str, path: &str) -> bool {
    if pattern == path {
        return true;
    }
    let chars = |text: &str| text.split('.').map(|part| part.chars().collect()).collect();
    let (patterns, parts): (Vec<Vec<char>>, Vec<Vec<char>>) = (chars(pattern), chars(path));
    patterns.len() == parts.len() && patterns.iter().zip(&parts).all(|(p, t)| part_fits(p, t))
}

/// Whether a part fits. A bracket or brace that is not closed means itself.
fn part_fits(pattern: &[char], text: &[char]) -> bool {
    let literal = |c: &char, rest: &[char]| text.first() == Some(c) && part_fits(rest, &text[1..]);
    match pattern {
        [] => text.is_empty(),
        ['\\', c, rest @ ..] => literal(c, rest),
        ['*', rest @ ..] => (0..=text.len()).any(|i| part_fits(rest, &text[i..])),
        ['?', rest @ ..] => !text.is_empty() && part_fits(rest, &text[1..]),
        ['[', rest @ ..] => match set(rest) {
            Some((set, rest)) => text.first().is_some_and(|c| holds(set, *c)) && part_fits(rest, &text[1..]),
            None => literal(&'[', rest),
        },
        ['{', rest @ ..] => match words(rest) {
            Some((words, rest)) => words.iter().any(|word| part_fits(&[word, rest].concat(), text)),
            None => literal(&'{', rest),
        },
        [c, rest @ ..] => literal(c, rest),
    }
}

/// What stands in a bracket that is open, and what follows it. A closing one that comes first belongs to it.
fn set(open: &[char]) -> Option<(&[char], &[char])> {
    let first = usize::from(open.first() == Some(&'!')) + 1;
    let end = first + open.get(first..)?.iter().position(|c| *c == ']')?;
    Some((&open[..end], &open[end + 1..]))
}

/// Whether a character is in a bracket's set: one of it, or between two of it, or with `!` before them in none.
fn holds(set: &[char], c: char) -> bool {
    match set {
        ['!', rest @ ..] => !holds(rest, c),
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&c) || holds(rest, c),
        [one, rest @ ..] => *one == c || holds(rest, c),
        [] => false,
    }
}

/// The words of a brace that is open, and what follows it. Braces may stand in braces.
fn words(open: &[char]) -> Option<(Vec<&[char]>, &[char])> {
    let (mut depth, mut begin, mut words) = (0, 0, Vec::new());
    for (i, c) in open.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                words.push(&open[begin..i]);
                begin = i + 1;
                if *c == '}' {
                    return Some((words, &open[begin..]));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_graphite() {
        for (pattern, path, expected) in [
            ("servers.*.cpu", "servers.a.cpu", true),
            ("servers.*.cpu", "servers.a.b.cpu", false),
            ("servers.{a,b}*.cpu", "servers.b7.cpu", true),
            ("servers.{a,b}.cpu", "servers.c.cpu", false),
            ("servers.{a*,{b,c}1}.cpu", "servers.c1.cpu", true),
            ("servers.a?.cpu", "servers.a1.cpu", true),
            ("servers.a?.cpu", "servers.a.cpu", false),
            ("servers.a[0-3]", "servers.a2", true),
            ("servers.a[!0-3]", "servers.a2", false),
            ("servers.a[*]", "servers.a*", true),
            (r"servers.a\*", "servers.ab", false),
            ("sumSeries(a.*)", "sumSeries(a.*)", true),
            ("jvm.gc(old)", "jvm.gc(old)", true),
            ("a.{b,c", "a.{b,c", true),
            ("a.[", "a.[", true),
            ("a.b", "a", false),
            // Series of one name, and tagged ones, are meant by their plain name too.
            ("cpu", "cpu#2", true),
            ("cpu#2", "cpu#2", true),
            ("cpu#2", "cpu", false),
            ("disk.used", "disk.used;host=a", true),
            ("disk.*", "disk.used;host=a.b", true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_cover_what_lies_below() {
        assert!(covers("servers.db1", "servers.db1.cpu.user") && covers("servers.*", "servers.x.y"));
        assert!(!covers("servers.db1", "servers.db10.cpu") && !covers("a.b.c", "a.b"));
        assert!(covers("summarize(servers", "summarize(servers.a.cpu, \"30s\", \"sum\")"));
        assert!(covers("cpu", "cpu#2") && covers("disk", "disk.used;host=a"));
    }

    #[test]
    fn a_plain_name_has_neither_tags_nor_a_number() {
        for (path, name) in [
            ("cpu#2", "cpu"),
            ("cpu#x", "cpu#x"),
            ("cpu#1", "cpu#1"),
            ("disk.used;host=a#b;dc=c", "disk.used"),
            ("sumSeries(a;b=c)", "sumSeries(a;b=c)"),
            ("#2", "#2"),
        ] {
            assert_eq!(plain(path), name);
        }
    }
}
