//! A bounded queue of copied frames. Its buffers are taken once, and go round.

use crossbeam::queue::ArrayQueue;
use std::sync::atomic::AtomicBool;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All buffers are full.
    Full,
    /// It is longer than a buffer.
    TooLong,
}

/// One class of frames of one port in one direction.
#[derive(Debug)]
pub(super) struct Lane {
    buffer_bytes: usize,
    empty: ArrayQueue<Vec<u8>>,
    full: ArrayQueue<Vec<u8>>,
    /// The class has used up its rate for now: frames wait, and nobody needs to be woken for them.
    pub(super) is_throttled: AtomicBool,
}

impl Lane {
    /// Room for `frames` frames of at most `buffer_bytes` bytes.
    pub(super) fn new(frames: usize, buffer_bytes: usize) -> Lane {
        let empty = ArrayQueue::new(frames);
        for _ in 0..frames {
            let _ = empty.push(Vec::with_capacity(buffer_bytes));
        }
        Lane {
            buffer_bytes,
            empty,
            full: ArrayQueue::new(frames),
            is_throttled: AtomicBool::new(false),
        }
    }

    /// Copies a frame that lies in these pieces.
    pub(super) fn put<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Refused> {
        let mut buffer = self.empty.pop().ok_or(Refused::Full)?;
        buffer.clear();
        for piece in pieces {
            if buffer.len() + piece.len() > self.buffer_bytes {
                self.give_back(buffer);
                return Err(Refused::TooLong);
            }
            buffer.extend_from_slice(piece);
        }
        // Both queues have room for all buffers.
        let _ = self.full.push(buffer);
        Ok(())
    }

    /// The frame that came first; its buffer goes to [`Lane::give_back`] afterwards.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.full.pop()
    }

    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let _ = self.empty.push(buffer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_order_refuses_what_has_no_room_and_uses_its_buffers_again() {
        let lane = Lane::new(2, 8);
        let put = |bytes: &[u8]| lane.put([&bytes[..1], &bytes[1..]].into_iter());
        assert_eq!(put(&[0; 9]), Err(Refused::TooLong));
        for round in 0..10 {
            assert_eq!((put(&[round; 8]), put(&[100 + round; 3])), (Ok(()), Ok(())));
            assert_eq!(put(&[1]), Err(Refused::Full));
            let first = lane.take().unwrap();
            assert_eq!(first, [round; 8]);
            // It is still in hand: no buffer is free.
            assert_eq!(put(&[1]), Err(Refused::Full));
            lane.give_back(first);
            assert!(!lane.is_empty());
            let second = lane.take().unwrap();
            assert_eq!((second.as_slice(), second.capacity()), (&[100 + round; 3][..], 8));
            lane.give_back(second);
            assert!(lane.is_empty() && lane.take().is_none());
        }
    }
}
