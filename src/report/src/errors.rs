//! Why invocations did not complete: what was said, counted by kind, in a space that what functions write cannot fill.

use crate::base::Status;
use rustc_hash::FxHashMap;
use std::fmt::Write as _;

/// Kinds that are told apart; what comes after them is counted together.
const KINDS: usize = 1000;
/// Letters of a kind.
const LETTERS: usize = 200;
/// Kinds that a report names.
const NAMED: usize = 10;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    kinds: FxHashMap<Box<str>, u64>,
    others: u64,
    /// The kind that is being looked up; its space is used again.
    kind: String,
}

impl Errors {
    /// Counts an invocation that ended so; what completed, or had not ended, is none.
    pub fn add(&mut self, status: Status, why: Option<&str>) {
        if matches!(status, Status::Completed | Status::Unfinished) {
            return;
        }
        kind_of(why.filter(|why| !why.trim().is_empty()).unwrap_or(status.word()), &mut self.kind);
        if let Some(count) = self.kinds.get_mut(self.kind.as_str()) {
            *count += 1;
        } else if self.kinds.len() < KINDS {
            self.kinds.insert(self.kind.as_str().into(), 1);
        } else {
            self.others += 1;
        }
    }

    /// The ten most frequent kinds, the most frequent first, and how many invocations ended for any other reason.
    pub fn named(&self) -> (Vec<(&str, u64)>, u64) {
        let mut all: Vec<(&str, u64)> = self.kinds.iter().map(|(kind, n)| (&**kind, *n)).collect();
        all.sort_unstable_by_key(|(kind, n)| (std::cmp::Reverse(*n), *kind));
        let beyond = all.iter().skip(NAMED).map(|(_, n)| n).sum::<u64>();
        all.truncate(NAMED);
        (all, self.others + beyond)
    }

    /// The kinds that are named, in one phrase; `None` if nothing went wrong.
    pub fn words(&self) -> Option<String> {
        let (named, others) = self.named();
        let mut words: Vec<String> = named.iter().map(|(kind, n)| format!("'{kind}' ({n})")).collect();
        if others > 0 {
            words.push(format!("others ({others})"));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Puts the kind of what was said into `kind`: the text with every number made equal, on one line, without control characters,
/// and cut.
fn kind_of(text: &str, kind: &mut String) {
    kind.clear();
    let mut letters = 0;
    let mut before = ' ';
    for letter in text.trim().chars() {
        let letter = match letter {
            c if c.is_numeric() => '#',
            c if c.is_whitespace() => ' ',
            c if c.is_control() => '?',
            c => c,
        };
        if letter == before && matches!(letter, '#' | ' ') {
            continue;
        }
        if letters == LETTERS {
            let _ = kind.write_char('…');
            return;
        }
        before = letter;
        letters += 1;
        kind.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> String {
        let mut kind = String::new();
        kind_of(text, &mut kind);
        kind
    }

    #[test]
    fn numbers_are_equal_and_text_is_short_and_on_one_line() {
        assert_eq!(
            kind(" container 17 died after 3.25 s\n\tat line 9 "),
            "container # died after #.# s at line #"
        );
        assert_eq!(kind("\u{1b}[31mred\u{7}"), "?[#mred?");
        assert_eq!(kind(&"e".repeat(100_000)).chars().count(), LETTERS + 1);
        assert_eq!(kind(&"é".repeat(LETTERS)), "é".repeat(LETTERS));
    }

    #[test]
    fn what_functions_write_is_bounded_and_nothing_is_lost() {
        let mut errors = Errors::default();
        let mut word = String::new();
        for i in 0..5000u32 {
            word.clear();
            word.extend(i.to_string().bytes().map(|digit| char::from(b'a' + digit - b'0')));
            errors.add(Status::Failed, Some(&word));
        }
        (0..7).for_each(|_| errors.add(Status::Failed, Some("b")));
        (0..3).for_each(|_| errors.add(Status::Dropped, None));
        errors.add(Status::Completed, None);
        errors.add(Status::Unfinished, None);
        assert_eq!(errors.kinds.len(), KINDS);
        let (named, others) = errors.named();
        assert_eq!((named[0], named.len()), (("b", 8), NAMED));
        assert_eq!(named.iter().map(|n| n.1).sum::<u64>() + others, 5010);
    }

    #[test]
    fn what_says_nothing_is_known_by_its_status() {
        let mut errors = Errors::default();
        errors.add(Status::TimedOut, None);
        errors.add(Status::Lost, Some(" "));
        assert_eq!(errors.words().unwrap(), "'lost' (1), 'timed_out' (1)");
        assert_eq!(Errors::default().words(), None);
    }
}
