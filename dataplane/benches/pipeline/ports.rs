//! Two ports whose frames lie in one block of 2 KiB chunks, as AF_XDP and DPDK lay them out.
//!
//! [`MemoryIo`](ulvs_dataplane::io::memory::MemoryIo) is made for tests: its frames own buffers and lists of segments, which costs more to move around than the
//! packet machine takes. A frame here is a reference, an offset and a length, about what a descriptor of a real port is.

use ulvs_dataplane::io::{BURST, Frame, HEADROOM, Io, NoRoom, PortIndex};

use crate::rig::Ports;

/// Bytes of a chunk.
const CHUNK: usize = 2048;
/// Frames sent on per round. With two or three lines used of each, they stay in the second-level cache from the generator to the director: about what direct
/// cache access gives a real port.
pub const ROUND: usize = 8 * BURST;
/// Frames that the worker keeps for itself.
const SPARE: usize = 256;

/// A frame in a chunk.
pub struct ChunkFrame {
    chunk: &'static mut [u8],
    start: u32,
    end: u32,
}

impl Frame for ChunkFrame {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        &self.chunk[self.start as usize..self.end as usize]
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.chunk[self.start as usize..self.end as usize]
    }

    #[inline(always)]
    fn total_length(&self) -> usize {
        (self.end - self.start) as usize
    }

    #[inline(always)]
    fn push_front(&mut self, count: usize) -> Result<(), NoRoom> {
        self.start = self.start.checked_sub(count as u32).ok_or(NoRoom)?;
        Ok(())
    }

    #[inline(always)]
    fn pull_front(&mut self, count: usize) {
        self.start = (self.start + count as u32).min(self.end);
    }

    fn set_length(&mut self, length: usize) -> Result<(), NoRoom> {
        let end = self.start as usize + length;
        if end > self.chunk.len() {
            return Err(NoRoom);
        }
        self.end = end as u32;
        Ok(())
    }

    fn tail(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }
}

/// The ports: what stands in `arrivals` is received, what was sent stands in `sent`.
pub struct BenchIo {
    /// By port.
    arrivals: [Vec<ChunkFrame>; 2],
    /// Of both ports, in order.
    sent: Vec<ChunkFrame>,
    /// Frames that were dropped, and spare ones.
    pool: Vec<ChunkFrame>,
}

impl BenchIo {
    /// All frames are in the pool.
    pub fn new() -> BenchIo {
        let block = vec![0; (ROUND + SPARE) * CHUNK].leak();
        let pool = block.chunks_exact_mut(CHUNK).map(|chunk| ChunkFrame {
            chunk,
            start: HEADROOM as u32,
            end: HEADROOM as u32,
        });
        let mut room = Vec::with_capacity(ROUND + SPARE);
        room.extend(pool);
        BenchIo {
            arrivals: [(); 2].map(|()| Vec::with_capacity(ROUND)),
            sent: Vec::with_capacity(ROUND),
            pool: room,
        }
    }
}

impl Io for BenchIo {
    type Frame = ChunkFrame;

    fn port_count(&self) -> usize {
        self.arrivals.len()
    }

    fn receive(&mut self, port: PortIndex, into: &mut Vec<ChunkFrame>) {
        let queue = &mut self.arrivals[usize::from(port.0)];
        let from = queue.len().saturating_sub(BURST);
        into.extend(queue.drain(from..));
    }

    fn transmit(&mut self, _port: PortIndex, frames: &mut Vec<ChunkFrame>) -> usize {
        let count = frames.len();
        self.sent.append(frames);
        count
    }

    fn allocate(&mut self) -> Option<ChunkFrame> {
        let mut frame = self.pool.pop()?;
        (frame.start, frame.end) = (HEADROOM as u32, HEADROOM as u32);
        Some(frame)
    }

    fn free(&mut self, frame: ChunkFrame) {
        self.pool.push(frame);
    }

    fn housekeeping(&mut self) {}

    fn frames(&self) -> (usize, usize) {
        (self.pool.len(), self.pool.capacity())
    }

    fn wait(&mut self, _milliseconds: u32) {}
}

impl Ports for BenchIo {
    const ROUND: usize = ROUND;
    const SHOWS_SENT: bool = true;

    fn arrive(&mut self, port: PortIndex, frame: ChunkFrame) {
        self.arrivals[usize::from(port.0)].push(frame);
    }

    fn take_sent(&mut self, mut see: impl FnMut(&ChunkFrame)) {
        // Bursts are received from the end of the queue.
        self.sent.chunks(BURST).rev().flatten().for_each(&mut see);
        self.pool.append(&mut self.sent);
    }
}
