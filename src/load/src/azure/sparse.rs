//! Counts per minute in little memory: most minutes of most functions have none.

/// One million: counts are kept in millionths, as samples have fractions of them.
pub(super) const WHOLE: u64 = 1_000_000;

/// Counts of some minutes, in order. Each is the minutes since the last one and the count as variable-length numbers; the
/// count doubled where it is whole, else one more than that and its millionths behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sparse {
    bytes: Vec<u8>,
    /// The minute behind the last one.
    next: u32,
}

impl Sparse {
    /// Adds a minute behind all others, with a count above 0 in millionths.
    pub(super) fn push(&mut self, minute: u32, millionths: u64) {
        let (whole, part) = (millionths / WHOLE, millionths % WHOLE);
        self.number(u64::from(minute - self.next));
        self.number(whole << 1 | u64::from(part > 0));
        if part > 0 {
            self.number(part);
        }
        self.next = minute + 1;
    }

    /// Gives back the memory that no further minute needs.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.bytes.push(n as u8);
    }

    /// The minutes and their counts in millionths, one after another.
    pub(super) fn pull(&self, at: &mut Cursor) -> Option<(u32, u64)> {
        let gap = self.read(at)?;
        let count = self.read(at)?;
        let part = if count & 1 == 1 { self.read(at)? } else { 0 };
        let minute = at.minute + gap as u32;
        at.minute = minute + 1;
        Some((minute, (count >> 1) * WHOLE + part))
    }

    fn read(&self, at: &mut Cursor) -> Option<u64> {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = *self.bytes.get(at.byte)?;
            at.byte += 1;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n);
            }
            shift += 7;
        }
    }

    /// All that there is.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, u64)> {
        let mut at = Cursor::default();
        std::iter::from_fn(move || self.pull(&mut at))
    }

    /// The counts of both.
    pub(super) fn sum(&self, other: &Sparse) -> Sparse {
        let (mut ours, mut theirs) = (self.all().peekable(), other.all().peekable());
        let mut sum = Sparse::default();
        loop {
            let (minute, count) = match (ours.peek(), theirs.peek()) {
                (Some(&a), Some(&b)) if a.0 == b.0 => (a.0, a.1 + b.1),
                (Some(&a), Some(&b)) => a.min(b),
                (Some(&one), None) | (None, Some(&one)) => one,
                (None, None) => return sum,
            };
            ours.next_if(|a| a.0 == minute);
            theirs.next_if(|b| b.0 == minute);
            sum.push(minute, count);
        }
    }
}

/// How far counts were pulled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    byte: usize,
    minute: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_and_add_up() {
        let of = |counts: &[(u32, u64)]| {
            let mut sparse = Sparse::default();
            counts.iter().for_each(|(minute, count)| sparse.push(*minute, *count));
            sparse
        };
        let a = of(&[(0, 3 * WHOLE), (7, 400_000), (1439, 1_000_000_000 * WHOLE)]);
        assert_eq!(
            a.all().collect::<Vec<_>>(),
            [(0, 3_000_000), (7, 400_000), (1439, 1_000_000_000_000_000)]
        );
        let b = of(&[(7, 600_000), (8, 2_500_000)]);
        let both = [(0, 3_000_000), (7, 1_000_000), (8, 2_500_000), (1439, 1_000_000_000_000_000)];
        assert_eq!(a.sum(&b).all().collect::<Vec<_>>(), both);
        assert_eq!(a.sum(&Sparse::default()), a);
    }
}
