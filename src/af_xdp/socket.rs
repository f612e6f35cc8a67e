//! One AF_XDP socket: a queue of a device with its four rings.

use super::frame::AfXdpFrame;
use super::pool::Pool;
use super::ring::{Consumer, Producer};
use super::umem::{NO_CHUNK, Umem};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use ulvs_dataplane::io::Frame;

/// The kernel sends at most so many segments as one frame (`MAX_SKB_FRAGS` by default).
const MAX_SEGMENTS: usize = 17;

/// A bound socket.
pub(super) struct Socket {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) umem: &'static Umem,
    pub(super) receive: Consumer<libc::xdp_desc>,
    /// Missing on a device with fewer TX than RX queues.
    pub(super) transmit: Option<Producer<libc::xdp_desc>>,
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) zero_copy: bool,
    pub(super) multi_buffer: bool,
    /// A frame of which the kernel has not published all segments yet, and the chunk of its last one.
    pub(super) partial: Option<(AfXdpFrame, u32)>,
    /// Descriptors that one wake-up sends at least, unless the ring empties before.
    pub(super) transmit_budget: u32,
    /// Chunks that are in the fill or the RX ring.
    pub receiving: u64,
    /// Chunks that are in the TX or the completion ring.
    pub sending: u64,
}

impl Socket {
    /// The descriptor, for poll(2) and the socket map.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// A handle with which another thread reads the kernel's counters while the socket lives.
    pub fn weak_fd(&self) -> Weak<OwnedFd> {
        Arc::downgrade(&self.fd)
    }

    /// Whether it can send.
    pub fn sends(&self) -> bool {
        self.transmit.is_some()
    }

    /// Appends at most `budget` received frames to `into`. Returns how many chunks came out of the ring.
    pub fn receive(&mut self, budget: usize, into: &mut Vec<AfXdpFrame>) -> u64 {
        let available = self.receive.available(budget as u32);
        let (mut frames, mut taken) = (0, 0);
        while frames < budget && taken < available {
            let descriptor = self.receive.read();
            taken += 1;
            let Some((chunk, offset)) = self.umem.locate(descriptor.addr) else {
                continue; // The kernel only gives out what the fill ring held.
            };
            let (frame, last) = match self.partial.take() {
                None => (AfXdpFrame::received(self.umem, chunk, offset, descriptor.len), chunk),
                Some((mut frame, last)) => {
                    frame.append(last, chunk, offset, descriptor.len);
                    (frame, chunk)
                }
            };
            if descriptor.options & libc::XDP_PKT_CONTD != 0 {
                self.partial = Some((frame, last));
            } else {
                into.push(frame);
                frames += 1;
            }
        }
        if taken > 0 {
            self.receive.release();
            self.receiving -= u64::from(taken);
        }
        u64::from(taken)
    }

    /// Sends frames in order and empties the list; what finds no room goes to `pool`. Returns how many frames were accepted, and
    /// how many chunks all of them, accepted or not, consisted of.
    pub fn transmit(&mut self, frames: &mut Vec<AfXdpFrame>, pool: &mut Pool) -> (usize, u64) {
        let wanted = frames.len() as u32;
        if self.transmit.as_mut().is_some_and(|ring| ring.room(wanted) < wanted) {
            self.complete(pool);
            self.wake_transmit(pool);
        }
        let (mut accepted, mut sent_chunks, mut freed_chunks) = (0, 0, 0);
        for frame in frames.drain(..) {
            let chunks = if frame.has_tail() {
                1 + frame.tail_chunks().count()
            } else {
                1
            };
            let sendable = is_sendable(&frame, chunks, self.multi_buffer);
            let ring = self.transmit.as_mut().filter(|_| sendable);
            let Some(ring) = ring.and_then(|ring| (ring.room(chunks as u32) >= chunks as u32).then_some(ring)) else {
                freed_chunks += free_chunks(&frame, pool);
                continue;
            };
            freed_chunks += write_frame(ring, self.umem, &frame, pool);
            sent_chunks += chunks as u64;
            accepted += 1;
        }
        if let Some(ring) = self.transmit.as_mut().filter(|_| accepted > 0) {
            ring.submit();
            self.sending += sent_chunks;
            self.wake_transmit(pool);
        }
        (accepted, sent_chunks + freed_chunks)
    }

    /// Takes back the chunks of frames that were sent.
    fn complete(&mut self, pool: &mut Pool) {
        let count = self.completion.available(u32::MAX);
        if count == 0 {
            return;
        }
        for _ in 0..count {
            // The kernel only gives back what the TX ring held.
            if let Some((chunk, _)) = self.umem.locate(self.completion.read()) {
                pool.give(chunk);
            }
        }
        self.completion.release();
        self.sending -= u64::from(count);
    }

    /// Gives the kernel chunks to receive into, as many as there is room for.
    pub(super) fn refill(&mut self, pool: &mut Pool) {
        let room = self.fill.room(u32::MAX);
        let mut count = 0;
        while count < room {
            let Some(chunk) = pool.take() else { break };
            self.fill.write(self.umem.address(chunk, 0));
            count += 1;
        }
        if count > 0 {
            self.fill.submit();
            self.receiving += u64::from(count);
        }
    }

    /// Serves the completion and fill rings and wakes the kernel where it asks for it.
    pub fn housekeeping(&mut self, pool: &mut Pool) {
        self.complete(pool);
        self.refill(pool);
        if self.fill.needs_wakeup() {
            // SAFETY: a receive call without a buffer; it only wakes the kernel.
            unsafe { libc::recv(self.raw_fd(), std::ptr::null_mut(), 0, libc::MSG_DONTWAIT) };
        }
        self.wake_transmit(pool);
    }

    /// Has the kernel send what is in the TX ring, if it waits to be told.
    ///
    /// In copy mode one call sends no more than a budget and then says EAGAIN, as it does when the completion ring is full; a busy
    /// driver says EBUSY or ENOBUFS. So the call is repeated while the ring is not empty, but not forever: what is left then is
    /// sent by the next housekeeping.
    fn wake_transmit(&mut self, pool: &mut Pool) {
        let Some(ring) = &mut self.transmit else { return };
        let pending = ring.pending();
        if pending == 0 || !ring.needs_wakeup() {
            return;
        }
        let rounds = if self.zero_copy {
            1
        } else {
            pending / self.transmit_budget + 2
        };
        for _ in 0..rounds {
            // SAFETY: a send call without data or address; it only wakes the kernel.
            let result = unsafe {
                libc::sendto(
                    self.raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            if result < 0 {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => self.complete(pool),
                    _ => return, // The device is down: its frames wait in the ring.
                }
            }
            if self.transmit.as_mut().is_none_or(|ring| ring.pending() == 0) {
                return;
            }
        }
    }
}

/// Whether the kernel would take the frame. One that it finds invalid it skips without ever giving its chunk back.
fn is_sendable(frame: &AfXdpFrame, chunks: usize, multi_buffer: bool) -> bool {
    !frame.head().is_empty() && (chunks == 1 || (multi_buffer && chunks <= MAX_SEGMENTS))
}

/// Writes the descriptors of a frame. Segments that were dropped go to the pool; returns how many those are.
fn write_frame(ring: &mut Producer<libc::xdp_desc>, umem: &Umem, frame: &AfXdpFrame, pool: &mut Pool) -> u64 {
    let (addr, len) = frame.head_descriptor();
    if !frame.has_tail() {
        ring.write(libc::xdp_desc { addr, len, options: 0 });
        return if frame.owns_tail() { free_tail(frame, pool) } else { 0 };
    }
    ring.write(libc::xdp_desc {
        addr,
        len,
        options: libc::XDP_PKT_CONTD,
    });
    for (chunk, segment) in frame.tail_chunks() {
        let options = if segment.next == NO_CHUNK {
            0
        } else {
            libc::XDP_PKT_CONTD
        };
        ring.write(libc::xdp_desc {
            addr: umem.address(chunk, segment.offset),
            len: segment.length,
            options,
        });
    }
    0
}

fn free_tail(frame: &AfXdpFrame, pool: &mut Pool) -> u64 {
    let mut count = 0;
    for (chunk, _) in frame.tail_chunks() {
        pool.give(chunk);
        count += 1;
    }
    count
}

/// Gives all chunks of a frame to the pool; returns how many those are.
pub(super) fn free_chunks(frame: &AfXdpFrame, pool: &mut Pool) -> u64 {
    let tail = if frame.owns_tail() { free_tail(frame, pool) } else { 0 };
    pool.give(frame.chunk());
    tail + 1
}
