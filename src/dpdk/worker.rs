//! One worker's view of all ports: [`DpdkIo`].

use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex};
use ulvs_dataplane::prefetch::prefetch;

use super::mbuf::DpdkFrame;
use super::pool::Pool;
use super::twin::Twin;
use super::{eal, ffi};
use crate::waker::Waker;

/// The longest sleep: nothing wakes a worker when a frame arrives at a queue that is only ever polled.
const LONGEST_SLEEP_MS: u32 = 1;
/// Turns between two looks at how many buffers are free, for the counters.
const TURNS_PER_COUNT: u32 = 4096;
/// Frames taken from a twin per turn and port.
const FROM_TWIN: usize = 16;

/// DPDK's queues as [`Io`]: this worker's queue of every port.
pub struct DpdkIo {
    /// DPDK's numbers of the ports.
    ports: Vec<u16>,
    queue: u16,
    workers: usize,
    /// Where empty frames come from.
    pool: Pool,
    all_frames: usize,
    free_frames: usize,
    turns: u32,
    waker: Waker,
    twins: Vec<Option<Box<dyn Twin>>>,
    has_twins: bool,
    from_twin: Vec<DpdkFrame>,
    /// The waker, and what of the twins can be waited for.
    descriptors: Vec<libc::pollfd>,
    is_registered: bool,
}

impl DpdkIo {
    pub(super) fn new(
        ports: Vec<u16>,
        queue: u16,
        workers: usize,
        pool: Pool,
        all_frames: usize,
        waker: Waker,
    ) -> DpdkIo {
        let mut io = DpdkIo {
            twins: ports.iter().map(|_| None).collect(),
            has_twins: false,
            from_twin: Vec::with_capacity(FROM_TWIN),
            ports,
            queue,
            workers,
            pool,
            all_frames,
            free_frames: all_frames,
            turns: 0,
            waker,
            descriptors: Vec::new(),
            is_registered: false,
        };
        io.list_descriptors();
        io
    }

    /// A handle with which another thread ends this worker's [`Io::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Gives a port its twin in the kernel, as this worker reaches it. Without one, punted frames are freed.
    pub fn set_twin(&mut self, port: PortIndex, twin: Box<dyn Twin>) {
        if let Some(place) = self.twins.get_mut(usize::from(port.0)) {
            *place = Some(twin);
            self.has_twins = true;
        }
        self.list_descriptors();
    }

    fn list_descriptors(&mut self) {
        let twins = self.twins.iter().flatten().filter_map(|twin| twin.readable());
        let all = [self.waker.raw_fd()].into_iter().chain(twins);
        self.descriptors = all
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
    }

    /// Sends what the kernel wants out of the ports.
    fn serve_twins(&mut self) {
        for port in 0..self.twins.len() {
            let Some(twin) = self.twins[port].as_mut() else {
                continue;
            };
            while self.from_twin.len() < FROM_TWIN {
                let Some(mut frame) = self.pool.allocate() else { break };
                match twin.take(frame.whole_room()) {
                    Some(length) if frame.set_length(length).is_ok() => self.from_twin.push(frame),
                    _ => break,
                }
            }
            if !self.from_twin.is_empty() {
                send(self.ports[port], self.queue, &mut self.from_twin);
            }
        }
    }
}

/// Sends the frames of a vector, in order, and empties it; what the queue does not take is freed. Returns how many it took.
#[inline]
fn send(port: u16, queue: u16, frames: &mut Vec<DpdkFrame>) -> usize {
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
        let Some(&id) = self.ports.get(usize::from(port.0)) else {
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
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<DpdkFrame>) -> usize {
        match self.ports.get(usize::from(port.0)) {
            Some(&id) => send(id, self.queue, frames),
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

    fn punt(&mut self, port: PortIndex, frame: DpdkFrame) {
        if let Some(Some(twin)) = self.twins.get_mut(usize::from(port.0)) {
            twin.deliver(frame.head(), &mut frame.tail());
        }
    }

    fn housekeeping(&mut self) {
        if self.has_twins {
            self.serve_twins();
        }
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
        let count = self.descriptors.len() as libc::nfds_t;
        // SAFETY: pointer and count are those of the vector. An interrupted call only means to look at the ports earlier.
        unsafe { libc::poll(self.descriptors.as_mut_ptr(), count, timeout) };
        if self.descriptors.first().is_some_and(|waker| waker.revents != 0) {
            self.waker.clear();
        }
    }
}
