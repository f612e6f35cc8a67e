//! Ports in memory, for tests and benchmarks: frames are plain buffers, a port is two queues.

use std::collections::VecDeque;

use super::{BURST, Frame, HEADROOM, Io, NoRoom, PortIndex};

/// A frame in ordinary memory.
#[derive(Clone, Debug)]
pub struct MemoryFrame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    tail: Vec<Box<[u8]>>,
}

impl MemoryFrame {
    /// A frame that holds `bytes`, with headroom, in a buffer of `size` bytes.
    pub fn new(bytes: &[u8], size: usize) -> MemoryFrame {
        let size = size.max(HEADROOM + bytes.len());
        let mut frame = MemoryFrame {
            buffer: vec![0xa5; size].into_boxed_slice(),
            start: HEADROOM,
            end: HEADROOM,
            tail: Vec::new(),
        };
        frame.refill(bytes);
        frame
    }

    /// A frame whose bytes lie in a head of `head` bytes and further segments of at most `segment` bytes.
    pub fn segmented(bytes: &[u8], head: usize, segment: usize) -> MemoryFrame {
        let (first, rest) = bytes.split_at(head.min(bytes.len()));
        let mut frame = MemoryFrame::new(first, 4096);
        frame.tail = rest.chunks(segment.max(1)).map(Box::from).collect();
        frame
    }

    /// Puts `bytes` into the buffer again, as if freshly received. They must fit.
    pub fn refill(&mut self, bytes: &[u8]) {
        self.start = HEADROOM;
        self.end = HEADROOM + bytes.len();
        self.buffer[self.start..self.end].copy_from_slice(bytes);
        self.tail.clear();
    }

    /// All bytes, over all segments.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = self.head().to_vec();
        all.extend(self.tail.iter().flat_map(|segment| segment.iter()));
        all
    }
}

impl Frame for MemoryFrame {
    #[inline]
    fn head(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    #[inline]
    fn total_length(&self) -> usize {
        self.end - self.start + self.tail.iter().map(|segment| segment.len()).sum::<usize>()
    }

    #[inline]
    fn push_front(&mut self, count: usize) -> Result<(), NoRoom> {
        self.start = self.start.checked_sub(count).ok_or(NoRoom)?;
        Ok(())
    }

    #[inline]
    fn pull_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    fn set_length(&mut self, length: usize) -> Result<(), NoRoom> {
        if self.start + length > self.buffer.len() {
            return Err(NoRoom);
        }
        self.end = self.start + length;
        self.tail.clear();
        Ok(())
    }

    fn tail(&self) -> impl Iterator<Item = &[u8]> {
        self.tail.iter().map(|segment| &segment[..])
    }
}

/// Ports of one worker, in memory. What is put into `arrivals` is received; what is sent stands in `departures`.
#[derive(Debug, Default)]
pub struct MemoryIo {
    /// By port: frames to be received.
    pub arrivals: Vec<VecDeque<MemoryFrame>>,
    /// By port: frames sent.
    pub departures: Vec<Vec<MemoryFrame>>,
    /// Frames given to the kernel.
    pub punted: Vec<(PortIndex, MemoryFrame)>,
    pool: Vec<MemoryFrame>,
}

impl MemoryIo {
    /// `ports` ports and a pool of `frames` empty frames of `size` bytes.
    pub fn new(ports: usize, frames: usize, size: usize) -> MemoryIo {
        MemoryIo {
            arrivals: vec![VecDeque::new(); ports],
            departures: vec![Vec::new(); ports],
            punted: Vec::new(),
            pool: vec![MemoryFrame::new(&[], size); frames],
        }
    }

    /// Frames in the pool.
    pub fn pool_size(&self) -> usize {
        self.pool.len()
    }
}

impl Io for MemoryIo {
    type Frame = MemoryFrame;

    fn port_count(&self) -> usize {
        self.arrivals.len()
    }

    fn receive(&mut self, port: PortIndex, into: &mut Vec<MemoryFrame>) {
        let queue = &mut self.arrivals[usize::from(port.0)];
        let count = queue.len().min(BURST);
        into.extend(queue.drain(..count));
    }

    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<MemoryFrame>) -> usize {
        let count = frames.len();
        self.departures[usize::from(port.0)].append(frames);
        count
    }

    fn allocate(&mut self) -> Option<MemoryFrame> {
        let mut frame = self.pool.pop()?;
        frame.refill(&[]);

        Some(frame)
    }

    fn free(&mut self, frame: MemoryFrame) {
        self.pool.push(frame);
    }

    fn punt(&mut self, port: PortIndex, frame: MemoryFrame) {
        self.punted.push((port, frame));
    }

    fn housekeeping(&mut self) {}

    fn frames(&self) -> (usize, usize) {
        (self.pool.len(), self.pool.capacity())
    }

    fn wait(&mut self, _milliseconds: u32) {}
}
