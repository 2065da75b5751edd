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

/// A body as it comes.
#[derive(Debug, Default)]
pub struct Gathering {
    room: Option<Room>,
    pieces: Vec<Bytes>,
    length: usize,
    part: Option<OwnedSemaphorePermit>,
}

impl Gathering {
    /// One that takes its room from there.
    pub fn within(room: Option<&Room>) -> Gathering {
        Gathering { room: room.cloned(), ..Gathering::default() }
    }

    /// Bytes that have come.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn add(&mut self, piece: Bytes) -> Result<(), Full> {
        self.length += piece.len();
        if let Some(Room(room)) = &self.room {
            let has = self.part.as_ref().map_or(0, |part| part.num_permits());
            let lacks = u32::try_from(self.length.div_ceil(PIECE).saturating_sub(has)).map_err(|_| Full)?;
            if lacks > 0 {
                let more = Arc::clone(room).try_acquire_many_owned(lacks).map_err(|_| Full)?;
                match &mut self.part {
                    Some(part) => part.merge(more),
                    None => self.part = Some(more),
                }
            }
        }
        // A piece holds all that was read together with it: of several each is copied, so that no more is held than is counted.
        if let [first] = &mut self.pieces[..] {
            *first = Bytes::copy_from_slice(first);
        }
        self.pieces.push(if self.pieces.is_empty() { piece } else { Bytes::copy_from_slice(&piece) });
        Ok(())
    }

    /// The whole, which keeps its room for as long as anybody has it.
    pub fn whole(mut self) -> Bytes {
        let body = match self.pieces.len() {
            0 => return Bytes::new(),
            // Most come in one piece, and are not copied.
            1 => self.pieces.swap_remove(0),
            _ => self.pieces.concat().into(),
        };
        match self.part {
            None => body,
            Some(part) => Bytes::from_owner(Held { body, _part: part }),
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
        let mut body = Gathering::within(Some(&room));
        assert_eq!(body.add(Bytes::from_static(b"one")), Ok(()));
        assert_eq!(free(), 9);
        body.add(Bytes::from(vec![0; PIECE - 3])).expect("it is in the first piece");
        body.add(Bytes::from(vec![0; 1])).expect("there is room");
        assert_eq!((free(), body.len()), (8, PIECE + 1));
        let mut other = Gathering::within(Some(&room));
        assert_eq!(other.add(Bytes::from(vec![0; 9 * PIECE])), Err(Full));
        drop(other);
        let whole = body.whole();
        let part = whole.slice(0..3);
        assert_eq!((&part[..], whole.len(), free()), (&b"one"[..], PIECE + 1, 8));
        drop(whole);
        assert_eq!(free(), 8, "somebody has a part of it");
        drop(part);
        assert_eq!(free(), 10);
        assert!(Gathering::within(Some(&room)).whole().is_empty());
        let mut free_of_it = Gathering::within(None);
        free_of_it.add(Bytes::from(vec![0; 100 * PIECE])).expect("no room is asked for");
        assert_eq!(free_of_it.whole().len(), 100 * PIECE);
    }
}
