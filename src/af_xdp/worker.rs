//! One worker's view of all ports: [`AfXdpIo`].

use super::frame::AfXdpFrame;
use super::pool::Pool;
use super::socket::{Socket, free_chunks};
use super::umem::Umem;
use crate::waker::Waker;
use ulvs_dataplane::io::{BURST, Io, PortIndex};

/// Where a worker's frames are, in chunks of the UMEM. Summed over all workers, and with the shared free frames counted once, this
/// is always the number of frames that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameAccount {
    /// In this worker's free list.
    pub free: u64,
    /// In fill and RX rings.
    pub receiving: u64,
    /// In TX and completion rings.
    pub sending: u64,
    /// Given out less taken back. Negative on a worker that gets frames from others; the sum over all workers is what is held
    /// outside.
    pub in_hand: i64,
}

/// A port as one worker sees it.
pub(super) struct WorkerPort {
    /// This worker's queues; never empty.
    pub sockets: Vec<Socket>,
    /// Which of them sends.
    pub sender: usize,
    /// Which of them is asked first for received frames, so that none starves.
    pub next: usize,
}

/// AF_XDP sockets as [`Io`]: this worker's queues of every port, and its part of the frames.
pub struct AfXdpIo {
    umem: &'static Umem,
    pool: Pool,
    ports: Vec<WorkerPort>,
    waker: Waker,
    /// All sockets and, last, the waker.
    descriptors: Vec<libc::pollfd>,
    in_hand: i64,
}

impl AfXdpIo {
    pub(super) fn new(umem: &'static Umem, pool: Pool, ports: Vec<WorkerPort>, waker: Waker) -> AfXdpIo {
        let sockets = ports.iter().flat_map(|port| &port.sockets).map(Socket::raw_fd);
        let descriptors = sockets
            .chain([waker.raw_fd()])
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        AfXdpIo {
            umem,
            pool,
            ports,
            waker,
            descriptors,
            in_hand: 0,
        }
    }

    /// A handle with which another thread ends this worker's [`Io::wait`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Where this worker's frames are.
    pub fn frame_account(&self) -> FrameAccount {
        let sockets = || self.ports.iter().flat_map(|port| &port.sockets);
        FrameAccount {
            free: self.pool.len() as u64,
            receiving: sockets().map(|socket| socket.receiving).sum(),
            sending: sockets().map(|socket| socket.sending).sum(),
            in_hand: self.in_hand,
        }
    }

    /// Free frames that belong to no worker at the moment.
    pub fn shared_free_frames(&self) -> u64 {
        self.pool.shared_len() as u64
    }

    pub(super) fn ports(&self) -> &[WorkerPort] {
        &self.ports
    }
}

impl Io for AfXdpIo {
    type Frame = AfXdpFrame;

    fn port_count(&self) -> usize {
        self.ports.len()
    }

    fn receive(&mut self, port: PortIndex, into: &mut Vec<AfXdpFrame>) {
        let Some(port) = self.ports.get_mut(usize::from(port.0)) else {
            return;
        };
        let end = into.len() + BURST;
        for i in 0..port.sockets.len() {
            let socket = (port.next + i) % port.sockets.len();
            self.in_hand += port.sockets[socket].receive(end - into.len(), into) as i64;
            if into.len() >= end {
                break;
            }
        }
        port.next = (port.next + 1) % port.sockets.len();
    }

    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<AfXdpFrame>) -> usize {
        if frames.is_empty() {
            return 0;
        }
        let Some(port) = self.ports.get_mut(usize::from(port.0)) else {
            frames
                .drain(..)
                .for_each(|frame| self.in_hand -= free_chunks(&frame, &mut self.pool) as i64);
            return 0;
        };
        let (accepted, chunks) = port.sockets[port.sender].transmit(frames, &mut self.pool);
        self.in_hand -= chunks as i64;
        accepted
    }

    fn allocate(&mut self) -> Option<AfXdpFrame> {
        let chunk = self.pool.take()?;
        self.in_hand += 1;
        Some(AfXdpFrame::empty(self.umem, chunk))
    }

    fn free(&mut self, frame: AfXdpFrame) {
        self.in_hand -= free_chunks(&frame, &mut self.pool) as i64;
    }

    fn housekeeping(&mut self) {
        for socket in self.ports.iter_mut().flat_map(|port| &mut port.sockets) {
            socket.housekeeping(&mut self.pool);
        }
        self.pool.balance();
    }

    fn frames(&self) -> (usize, usize) {
        let account = self.frame_account();
        let total = account.free + account.receiving + account.sending;
        (account.free as usize, total as usize)
    }

    fn wait(&mut self, milliseconds: u32) {
        let timeout = i32::try_from(milliseconds).unwrap_or(i32::MAX);
        let count = self.descriptors.len() as libc::nfds_t;
        // SAFETY: pointer and count are those of the vector. An interrupted call only means to look at the ports earlier.
        unsafe { libc::poll(self.descriptors.as_mut_ptr(), count, timeout) };
        if self.descriptors.last().is_some_and(|waker| waker.revents != 0) {
            self.waker.clear();
        }
    }
}
