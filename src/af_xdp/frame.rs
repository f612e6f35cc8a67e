//! One received or allocated frame in the UMEM.

use super::umem::{KERNEL_HEADROOM, NO_CHUNK, Segment, Umem};
use ulvs_dataplane::io::{Frame, NoRoom};

/// A frame: a stretch of one chunk, and for a jumbo frame the chunks that follow it. Owns those chunks; it must go back through
/// `transmit` or `free` of any worker's [`AfXdpIo`](super::AfXdpIo).
pub struct AfXdpFrame {
    umem: &'static Umem,
    chunk: u32,
    offset: u32,
    length: u32,
    /// First of the further chunks that this frame owns, or `NO_CHUNK`.
    tail: u32,
    /// Bytes in the further segments; 0 with a `tail` when they were dropped and only wait to be freed.
    tail_length: u32,
}

impl AfXdpFrame {
    /// An empty frame in a chunk taken from a free list.
    pub(super) fn empty(umem: &'static Umem, chunk: u32) -> AfXdpFrame {
        AfXdpFrame::received(umem, chunk, KERNEL_HEADROOM, 0)
    }

    /// What an RX descriptor describes. Offset and length are cut to the chunk.
    pub(super) fn received(umem: &'static Umem, chunk: u32, offset: u32, length: u32) -> AfXdpFrame {
        let length = length.min(umem.chunk_size() - offset);
        AfXdpFrame {
            umem,
            chunk,
            offset,
            length,
            tail: NO_CHUNK,
            tail_length: 0,
        }
    }

    /// Hangs a further segment behind `last`, the chunk of the segment before it.
    pub(super) fn append(&mut self, last: u32, chunk: u32, offset: u32, length: u32) {
        let length = length.min(self.umem.chunk_size() - offset);
        // SAFETY: the frame owns the chunks of all its segments, and takes over this one.
        unsafe {
            self.umem.set_segment(
                chunk,
                Segment {
                    next: NO_CHUNK,
                    offset,
                    length,
                },
            );
            if last == self.chunk {
                self.tail = chunk;
            } else {
                self.umem.set_segment(
                    last,
                    Segment {
                        next: chunk,
                        ..self.umem.segment(last)
                    },
                );
            }
        }
        self.tail_length += length;
    }

    /// The chunk of the head.
    pub(super) fn chunk(&self) -> u32 {
        self.chunk
    }

    /// The kernel's address and the length of the head.
    pub(super) fn head_descriptor(&self) -> (u64, u32) {
        (self.umem.address(self.chunk, self.offset), self.length)
    }

    /// The chunks behind the head with their segments, whether or not they still count.
    pub(super) fn tail_chunks(&self) -> impl Iterator<Item = (u32, Segment)> {
        let umem = self.umem;
        let mut next = self.tail;
        std::iter::from_fn(move || {
            if next == NO_CHUNK {
                return None;
            }
            let chunk = next;
            // SAFETY: the frame owns the chunks of all its segments.
            let segment = unsafe { umem.segment(chunk) };
            next = segment.next;
            Some((chunk, segment))
        })
    }

    /// Whether segments behind the head are part of the frame.
    pub(super) fn has_tail(&self) -> bool {
        self.tail_length > 0
    }

    /// Whether the frame owns further chunks, dropped or not.
    pub(super) fn owns_tail(&self) -> bool {
        self.tail != NO_CHUNK
    }
}

impl Frame for AfXdpFrame {
    fn head(&self) -> &[u8] {
        let start = self.umem.pointer(self.chunk, self.offset);
        // SAFETY: offset + length is at most the chunk size, and the frame owns the chunk.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.length as usize) }
    }

    fn head_mut(&mut self) -> &mut [u8] {
        let start = self.umem.pointer(self.chunk, self.offset);
        // SAFETY: as in `head`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.length as usize) }
    }

    fn total_length(&self) -> usize {
        (self.length + self.tail_length) as usize
    }

    fn push_front(&mut self, count: usize) -> Result<(), NoRoom> {
        if count > self.offset as usize {
            return Err(NoRoom);
        }
        self.offset -= count as u32;
        self.length += count as u32;
        Ok(())
    }

    fn pull_front(&mut self, count: usize) {
        debug_assert!(count <= self.length as usize);
        let count = count.min(self.length as usize) as u32;
        self.offset += count;
        self.length -= count;
    }

    fn set_length(&mut self, length: usize) -> Result<(), NoRoom> {
        if length > (self.umem.chunk_size() - self.offset) as usize {
            return Err(NoRoom);
        }
        self.length = length as u32;
        self.tail_length = 0;
        Ok(())
    }

    fn tail(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = if self.has_tail() {
            Some(self.tail_chunks())
        } else {
            None
        };
        chunks.into_iter().flatten().map(|(chunk, segment)| {
            let start = self.umem.pointer(chunk, segment.offset);
            // SAFETY: `append` cut the segment to its chunk, and the frame owns the chunk.
            unsafe { std::slice::from_raw_parts(start.as_ptr(), segment.length as usize) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulvs_dataplane::io::HEADROOM;

    #[test]
    fn an_empty_frame_has_the_promised_headroom() {
        let umem = Umem::allocate(2, 2048).unwrap();
        let mut frame = AfXdpFrame::empty(umem, 1);
        frame.set_length(60).unwrap();
        frame.head_mut().fill(7);
        frame.push_front(HEADROOM).unwrap();
        assert_eq!(frame.head().len(), 60 + HEADROOM);
        assert_eq!(frame.head()[HEADROOM], 7);
        frame.push_front(KERNEL_HEADROOM as usize - HEADROOM).unwrap();
        assert_eq!(frame.push_front(1), Err(NoRoom), "the chunk before is somebody else's");
        assert_eq!(frame.total_length(), 60 + KERNEL_HEADROOM as usize);
    }

    #[test]
    fn a_frame_does_not_grow_beyond_its_chunk() {
        let umem = Umem::allocate(1, 2048).unwrap();
        let mut frame = AfXdpFrame::empty(umem, 0);
        assert_eq!(frame.set_length(2048 - 255), Err(NoRoom));
        assert_eq!(frame.total_length(), 0);
        frame.set_length(2048 - 256).unwrap();
        frame.pull_front(100);
        assert_eq!(frame.head().len(), 2048 - 356);
    }

    #[test]
    fn segments_follow_in_order_until_the_length_is_set() {
        let umem = Umem::allocate(3, 2048).unwrap();
        for (chunk, value) in [(0, 1u8), (2, 2), (1, 3)] {
            // SAFETY: the test owns all chunks.
            unsafe { umem.pointer(chunk, 256).write_bytes(value, 1000) };
        }
        let mut frame = AfXdpFrame::received(umem, 0, 256, 1000);
        frame.append(0, 2, 256, 1000);
        frame.append(2, 1, 256, 10);
        assert_eq!(frame.total_length(), 2010);
        assert_eq!(
            frame.tail().map(|s| (s[0], s.len())).collect::<Vec<_>>(),
            [(2, 1000), (3, 10)]
        );
        frame.set_length(500).unwrap();
        assert_eq!((frame.total_length(), frame.tail().count()), (500, 0));
        assert_eq!(
            frame.tail_chunks().map(|(chunk, _)| chunk).collect::<Vec<_>>(),
            [2, 1],
            "still to be freed"
        );
    }
}
