//! Frames: how an entry lies in the file, and how whole ones are found among damage.

/// Bytes that are no text in any encoding that JSON may have.
const MARK: [u8; 4] = [0xE1, 0xAC, 0xFF, 0x0A];
const HEAD: usize = 20;
/// No entry is longer; a length beyond it is damage.
const LONGEST: usize = 16 << 20;

/// A part of a journal's bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Frame<'a> {
    Whole { number: u64, payload: &'a [u8] },
    Damaged { from: usize, to: usize },
}

pub(super) fn encode(number: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(&MARK);
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(&checksum(&frame[4..16], payload).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

/// The whole frame at the start of these bytes, and its length.
fn decode(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let (mark, rest) = head.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let sum = rest.first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if *mark != MARK || length > LONGEST {
        return None;
    }
    let payload = bytes.get(HEAD..HEAD + length)?;
    let whole = checksum(&head[4..16], payload) == u32::from_le_bytes(*sum);
    whole.then_some((u64::from_le_bytes(*number), payload, HEAD + length))
}

/// Goes through a journal's bytes.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Scan<'a> {
        Scan { bytes, at }
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let from = self.at;
        if from >= self.bytes.len() {
            return None;
        }
        if let Some((number, payload, length)) = decode(&self.bytes[from..]) {
            self.at += length;
            return Some(Frame::Whole { number, payload });
        }
        let marks = memchr::memmem::find_iter(&self.bytes[from + 1..], &MARK);
        let next = marks.map(|i| from + 1 + i).find(|i| decode(&self.bytes[*i..]).is_some());
        self.at = next.unwrap_or(self.bytes.len());
        Some(Frame::Damaged { from, to: self.at })
    }
}
