//! Room for bodies: what is on its way together may have so many bytes, and a body takes them as it comes, whatever length it was
//! said to have. It gives them back when nobody has it any more.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that bodies may have together. Clones are the same room.
#[derive(Clone, Debug)]
pub struct Room {
    own: Arc<Semaphore>,
    pieces: usize,
    /// What it is a part of: what it gives out is taken from there too.
    whole: Option<Arc<Semaphore>>,
}

/// What of a room is given out at a time.
const PIECE: usize = 1 << 10;

impl Room {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Room {
        let pieces = bytes.div_ceil(PIECE).min(Semaphore::MAX_PERMITS);
        Room { own: Arc::new(Semaphore::new(pieces)), pieces, whole: None }
    }

    /// A part of it, for one of those who share it: the `share`th at most, and no more than there is.
    #[must_use]
    pub fn part(&self, share: usize) -> Room {
        let whole = self.whole.as_ref().unwrap_or(&self.own);
        let pieces = (self.pieces / share.max(1)).max(1);
        Room { own: Arc::new(Semaphore::new(pieces)), pieces, whole: Some(Arc::clone(whole)) }
    }

    /// Takes so many pieces more.
    fn take(&self, pieces: u32, part: &mut Part) -> Result<(), Full> {
        let of = |room: &Arc<Semaphore>| Arc::clone(room).try_acquire_many_owned(pieces).map_err(|_| Full);
        let own = of(&self.own)?;
        let whole = self.whole.as_ref().map(of).transpose()?;
        part.add(own, whole);
        Ok(())
    }
}

/// What a body has of a room, and of what that is a part of.
#[derive(Debug, Default)]
struct Part {
    own: Option<OwnedSemaphorePermit>,
    whole: Option<OwnedSemaphorePermit>,
}

impl Part {
    fn pieces(&self) -> usize {
        self.own.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn add(&mut self, own: OwnedSemaphorePermit, whole: Option<OwnedSemaphorePermit>) {
        for (has, more) in [(&mut self.own, Some(own)), (&mut self.whole, whole)] {
            match (has.as_mut(), more) {
                (Some(has), Some(more)) => has.merge(more),
                (None, more) => *has = more,
                (Some(_), None) => {}
            }
        }
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
    part: Part,
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
        let Some(room) = &self.room else { return Ok(()) };
        let lacks = bytes.div_ceil(PIECE).saturating_sub(self.part.pieces());
        let lacks = u32::try_from(lacks).map_err(|_| Full)?;
        if lacks > 0 { room.take(lacks, &mut self.part) } else { Ok(()) }
    }

    /// The whole, which keeps its room for as long as anybody has it.
    pub fn whole(self) -> Bytes {
        let body = if self.buffer.is_empty() { self.single } else { Bytes::from_owner(self.buffer) };
        match self.part.pieces() > 0 && !body.is_empty() {
            true => Bytes::from_owner(Held { body, _part: self.part }),
            false => body,
        }
    }
}

struct Held {
    body: Bytes,
    _part: Part,
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
    fn a_part_takes_no_more_than_its_share_nor_than_there_is() {
        let room = Room::new(12 * PIECE);
        let free = || room.own.available_permits();
        let (one, other) = (room.part(2), room.part(2));
        let filled = |room: &Room, pieces: usize| {
            let mut body = Gathering::within(Some(room), None);
            body.add(Bytes::from(vec![0; pieces * PIECE])).map(|()| body)
        };
        let first = filled(&one, 5).expect("there is room");
        assert!(filled(&one, 2).is_err(), "its share");
        let others = filled(&room, 3).expect("there is room");
        assert!(filled(&other, 5).is_err(), "there is no more");
        assert_eq!(free(), 4);
        // What was refused took nothing.
        let second = filled(&other, 4).expect("the last");
        drop((first.whole(), others, second));
        assert_eq!((free(), one.own.available_permits(), other.own.available_permits()), (12, 6, 6));
    }

    #[test]
    fn a_body_takes_room_as_it_comes_and_gives_it_back_with_its_last_clone() {
        let room = Room::new(10 * PIECE);
        let free = || room.own.available_permits();
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
