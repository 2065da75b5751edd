//! Room for bodies: what is on its way together may have so many bytes, and a body takes them as it comes, whatever length it was
//! said to have. It gives them back when nobody has it any more.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that bodies may have together. Clones are the same room.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// What of a room is given out at a time.
const PIECE: usize = 1 << 10;

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Room {
        Room(Arc::new(Semaphore::new(bytes.div_ceil(PIECE).min(Semaphore::MAX_PERMITS))))
    }
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A body as it comes: a single piece as it was read, or a buffer that grows.
#[derive(Debug, Default)]
pub struct Gathering {
    room: Option<Room>,
    /// What it is said to become, of which nothing is believed but that no more than this is needed.
    told: usize,
    single: Bytes,
    /// What came, where that was more than one piece.
    buffer: Vec<u8>,
    part: Option<OwnedSemaphorePermit>,
}

impl Gathering {
    /// One that takes its room from there, and is said to become so long.
    pub fn within(room: Option<&Room>, told: Option<u64>) -> Gathering {
        let told = told.and_then(|told| usize::try_from(told).ok()).unwrap_or(usize::MAX);
        Gathering { room: room.cloned(), told, ..Gathering::default() }
    }

    /// Bytes that have come.
    pub fn len(&self) -> usize {
        self.single.len() + self.buffer.len()
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn add(&mut self, piece: Bytes) -> Result<(), Full> {
        // Most bodies come in one piece, and are not copied.
        if self.is_empty() {
            self.take(piece.len())?;
            self.single = piece;
            return Ok(());
        }
        let needed = self.len() + piece.len();
        if needed > self.buffer.capacity() {
            // At most twice what came, so that what was said costs nobody room, and copies stay few; less where that is not free.
            let told = self.told;
            let sizes = [2 * needed, needed + needed / 4, needed];
            let mut sizes = sizes.into_iter().map(|size| needed.max(size.min(told)));
            let size = sizes.find(|size| self.take(*size).is_ok()).ok_or(Full)?;
            self.buffer.reserve_exact(size - self.buffer.len());
        }
        // A piece holds all that was read together with it, which is not counted.
        self.buffer.extend_from_slice(&std::mem::take(&mut self.single));
        self.buffer.extend_from_slice(&piece);
        Ok(())
    }

    /// Takes room for so many bytes in all: what is held is counted, and not only what came.
    fn take(&mut self, bytes: usize) -> Result<(), Full> {
        let Some(Room(room)) = &self.room else { return Ok(()) };
        let has = self.part.as_ref().map_or(0, |part| part.num_permits());
        let lacks = u32::try_from(bytes.div_ceil(PIECE).saturating_sub(has)).map_err(|_| Full)?;
        if lacks > 0 {
            let more = Arc::clone(room).try_acquire_many_owned(lacks).map_err(|_| Full)?;
            match &mut self.part {
                Some(part) => part.merge(more),
                None => self.part = Some(more),
            }
        }
        Ok(())
    }

    /// The whole, which keeps its room for as long as anybody has it.
    pub fn whole(self) -> Bytes {
        let body = if self.buffer.is_empty() { self.single } else { Bytes::from_owner(self.buffer) };
        match self.part {
            Some(part) if !body.is_empty() => Bytes::from_owner(Held { body, _part: part }),
            _ => body,
        }
    }
}

struct Held {
    body: Bytes,
    _part: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_room_as_it_comes_and_gives_it_back_with_its_last_clone() {
        let room = Room::new(10 * PIECE);
        let free = || room.0.available_permits();
        let mut body = Gathering::within(Some(&room), None);
        assert_eq!(body.add(Bytes::from_static(b"one")), Ok(()));
        assert_eq!(free(), 9);
        body.add(Bytes::from(vec![0; PIECE - 3])).expect("it is in the first piece");
        body.add(Bytes::from(vec![0; 1])).expect("there is room");
        assert_eq!((free(), body.len()), (8, PIECE + 1));
        let mut other = Gathering::within(Some(&room), None);
        assert_eq!(other.add(Bytes::from(vec![0; 9 * PIECE])), Err(Full));
        drop(other);
        let whole = body.whole();
        let part = whole.slice(0..3);
        assert_eq!((&part[..], whole.len(), free()), (&b"one"[..], PIECE + 1, 8));
        drop(whole);
        assert_eq!(free(), 8, "somebody has a part of it");
        drop(part);
        assert_eq!(free(), 10);
        assert!(Gathering::within(Some(&room), None).whole().is_empty());
        // What it is said to become bounds what is taken ahead, and nothing else; the last of the room is taken as it is needed.
        let mut honest = Gathering::within(Some(&room), Some(3 * PIECE as u64));
        for (took, free_then) in [(1, 9), (1, 7), (1, 7), (4, 3), (2, 1)] {
            honest.add(Bytes::from(vec![1; took * PIECE])).expect("there is room");
            assert_eq!(free(), free_then, "{took}");
        }
        assert_eq!(honest.add(Bytes::from(vec![0; PIECE + 1])), Err(Full));
        assert_eq!(honest.whole().len(), 9 * PIECE);
        assert_eq!(free(), 10);
        let mut free_of_it = Gathering::within(None, None);
        free_of_it.add(Bytes::from(vec![0; 100 * PIECE])).expect("no room is asked for");
        assert_eq!(free_of_it.whole().len(), 100 * PIECE);
    }
}
