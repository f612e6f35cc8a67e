//! One worker's view of all ports: [`DpdkIo`].

use ulvs_dataplane::forward::edit;
use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex, TransportChecksum};
use ulvs_dataplane::prefetch::prefetch;

use super::mbuf::DpdkFrame;
use super::pool::Pool;
use super::{eal, ffi, offloads};
use crate::slow_path::{Injected, PuntSender};
use crate::waker::Waker;

/// The longest sleep: nothing wakes a worker when a frame arrives at a queue that is only ever polled.
const LONGEST_SLEEP_MS: u32 = 1;
/// Turns between two looks at how many buffers are free, for the counters.
const TURNS_PER_COUNT: u32 = 4096;
/// Frames that the kernel may send per turn and port.
const FROM_KERNEL: usize = 16;

/// A port as workers see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenPort {
    /// DPDK's number.
    pub id: u16,
    /// Marks of received frames that mean nothing.
    pub distrusted_marks: u64,
}

/// DPDK's queues as [`Io`]: this worker's queue of every port.
pub struct DpdkIo {
    ports: Vec<OpenPort>,
    queue: u16,
    workers: usize,
    /// Where empty frames come from.
    pool: Pool,
    all_frames: usize,
    free_frames: usize,
    turns: u32,
    waker: Waker,
    to_kernel: Option<PuntSender>,
    /// By port, where this worker is the one that sends what the kernel sends.
    from_kernel: Vec<Option<Injected>>,
    /// Frames of the kernel's that are to be sent; empty between two calls.
    injected: Vec<DpdkFrame>,
    is_registered: bool,
}

impl DpdkIo {
    pub(super) fn new(
        ports: Vec<OpenPort>,
        queue: u16,
        workers: usize,
        pool: Pool,
        all_frames: usize,
        waker: Waker,
    ) -> DpdkIo {
        DpdkIo {
            from_kernel: ports.iter().map(|_| None).collect(),
            ports,
            queue,
            workers,
            pool,
            all_frames,
            free_frames: all_frames,
            turns: 0,
            waker,
            to_kernel: None,
            injected: Vec::with_capacity(FROM_KERNEL),
            is_registered: false,
        }
    }

    /// A handle with which another thread ends this worker's [`Io::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Where punted frames go. Without it they are freed.
    pub fn set_way_to_kernel(&mut self, to_kernel: PuntSender) {
        self.to_kernel = Some(to_kernel);
    }

    /// What the kernel sends on a port, for the one worker that transmits it.
    pub fn set_way_from_kernel(&mut self, port: PortIndex, from_kernel: Injected) {
        if let Some(way) = self.from_kernel.get_mut(usize::from(port.0)) {
            *way = Some(from_kernel);
        }
    }

    /// Sends what the kernel wants out of the ports.
    fn transmit_injected(&mut self) {
        for (port, from_kernel) in self.ports.iter().zip(&mut self.from_kernel) {
            let Some(from_kernel) = from_kernel else { continue };
            let (pool, frames) = (self.pool, &mut self.injected);
            from_kernel.take(FROM_KERNEL, |bytes| {
                let Some(mut frame) = pool.allocate() else { return false };
                // What does not fit is longer than the MTU; it is not kept for another try.
                if frame.set_length(bytes.len()).is_ok() {
                    frame.head_mut().copy_from_slice(bytes);
                    frames.push(frame);
                }
                true
            });
            if !frames.is_empty() {
                send(port.id, self.queue, frames);
            }
        }
    }
}

/// Has the driver bring frames that leave their checksum to it into the form that its card wants. What it refuses is freed.
fn prepare(port: u16, queue: u16, frames: &mut Vec<DpdkFrame>) {
    if !frames.iter().any(DpdkFrame::leaves_checksum) {
        return;
    }
    let mut ready = 0;
    while ready < frames.len() {
        let rest = &mut frames[ready..];
        // SAFETY: a frame is laid out as the pointer to its mbuf; the queue is this worker's alone.
        let prepared =
            unsafe { ffi::rte_eth_tx_prepare(port, queue, rest.as_mut_ptr().cast(), rest.len().min(BURST) as u16) };
        let wanted = rest.len().min(BURST);
        ready += usize::from(prepared);
        if usize::from(prepared) < wanted {
            drop(frames.remove(ready));
        }
    }
}

/// Sends the frames of a vector, in order, and empties it; what the queue does not take is freed. Returns how many it took.
#[inline]
fn send(port: u16, queue: u16, frames: &mut Vec<DpdkFrame>) -> usize {
    if offloads::ports_finish_checksums() {
        prepare(port, queue, frames);
    }
    let all = frames.len();
    let mut sent = 0;
    while sent < all {
        let count = (all - sent).min(usize::from(u16::MAX)) as u16;
        // SAFETY: a frame is laid out as the pointer to its mbuf; the queue is this worker's alone.
        let taken = unsafe { ffi::rte_eth_tx_burst(port, queue, frames.as_mut_ptr().add(sent).cast(), count) };
        sent += usize::from(taken);
        if taken < count {
            break;
        }
    }
    // SAFETY: the first `sent` frames belong to the driver now, and the others are freed by the next call alone.
    unsafe {
        frames.set_len(0);
        if sent < all {
            ffi::rte_pktmbuf_free_bulk(frames.as_mut_ptr().add(sent).cast(), (all - sent) as u32);
        }
    }
    sent
}

impl Drop for DpdkIo {
    fn drop(&mut self) {
        // Dropped by the worker's thread, which also called `begin`.
        if self.is_registered {
            eal::unregister_thread();
        }
    }
}

impl Io for DpdkIo {
    type Frame = DpdkFrame;

    fn begin(&mut self) {
        self.is_registered = eal::register_thread();
    }

    fn port_count(&self) -> usize {
        self.ports.len()
    }

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut Vec<DpdkFrame>) {
        let Some(&OpenPort { id, distrusted_marks }) = self.ports.get(usize::from(port.0)) else {
            return;
        };
        let before = into.len();
        let room = into.spare_capacity_mut();
        let count = room.len().min(BURST) as u16;
        // SAFETY: a frame is laid out as the pointer to its mbuf, and there is room for `count`; the queue is this worker's alone.
        let received = unsafe { ffi::rte_eth_rx_burst(id, self.queue, room.as_mut_ptr().cast(), count) };
        if received == 0 {
            return;
        }
        // SAFETY: the driver has written that many mbufs, which are ours from now on.
        unsafe { into.set_len(before + usize::from(received)) };
        for frame in &mut into[before..] {
            prefetch(frame.first_byte());
            if frame.lost_its_tag() {
                frame.restore_tag();
            }
            frame.forget_marks(distrusted_marks);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<DpdkFrame>) -> usize {
        match self.ports.get(usize::from(port.0)) {
            Some(port) => send(port.id, self.queue, frames),
            None => {
                frames.clear();
                0
            }
        }
    }

    #[inline]
    fn allocate(&mut self) -> Option<DpdkFrame> {
        self.pool.allocate()
    }

    #[inline]
    fn free(&mut self, frame: DpdkFrame) {
        drop(frame);
    }

    fn punt(&mut self, port: PortIndex, mut frame: DpdkFrame) {
        if let Some(to_kernel) = &self.to_kernel {
            if frame.checksums().transport == TransportChecksum::Partial {
                edit::finish_for_kernel(&mut frame);
            }
            to_kernel.punt(port, &frame);
        }
    }

    fn housekeeping(&mut self) {
        self.transmit_injected();
        self.turns += 1;
        if self.turns == TURNS_PER_COUNT {
            self.turns = 0;
            self.free_frames = self.pool.free_frames() as usize;
        }
    }

    /// The pool is all workers'; each tells its share, so that the sum is right.
    fn frames(&self) -> (usize, usize) {
        (self.free_frames / self.workers, self.all_frames / self.workers)
    }

    fn wait(&mut self, milliseconds: u32) {
        let timeout = milliseconds.min(LONGEST_SLEEP_MS) as i32;
        let mut descriptor = libc::pollfd {
            fd: self.waker.raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one structure, which lives until the call returns. An interrupted call only means to look at the ports earlier.
        unsafe { libc::poll(&mut descriptor, 1, timeout) };
        if descriptor.revents != 0 {
            self.waker.clear();
        }
    }
}
