//! One AF_XDP socket: a queue of a device with its four rings.

use super::device::Device;
use super::error::Error;
use super::frame::AfXdpFrame;
use super::pool::Pool;
use super::ring::{Consumer, Producer};
use super::umem::{NO_CHUNK, Umem};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};
use ulvs_dataplane::io::Frame;

/// `XDP_MAX_TX_SKB_BUDGET` (linux/if_xdp.h, Linux 6.17): descriptors sent by one system call in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What copy mode sends in one call where that cannot be set (`TX_BATCH_SIZE`).
const DEFAULT_TX_BUDGET: u32 = 32;

/// The kernel sends at most so many segments as one frame (`MAX_SKB_FRAGS` by default).
const MAX_SEGMENTS: usize = 17;

/// How long a queue that still belongs to a socket being torn down is waited for.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// How sockets are bound. The first one decides for all that share its UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindMode {
    pub zero_copy: bool,
    pub multi_buffer: bool,
}

/// A bound socket.
pub(super) struct Socket {
    fd: Arc<OwnedFd>,
    umem: &'static Umem,
    receive: Consumer<libc::xdp_desc>,
    /// Missing on a device with fewer TX than RX queues.
    transmit: Option<Producer<libc::xdp_desc>>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    zero_copy: bool,
    multi_buffer: bool,
    /// A frame of which the kernel has not published all segments yet, and the chunk of its last one.
    partial: Option<(AfXdpFrame, u32)>,
    /// Descriptors that one wake-up sends at least, unless the ring empties before.
    transmit_budget: u32,
    /// Chunks that are in the fill or the RX ring.
    pub receiving: u64,
    /// Chunks that are in the TX or the completion ring.
    pub sending: u64,
}

fn set_option<T>(fd: RawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length are those of `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option into a zeroed `T`.
///
/// # Safety
/// All-zero and whatever the kernel writes for `option` are valid values of `T`.
unsafe fn get_option<T>(fd: RawFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: the caller promises that all-zero is a valid T.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `value`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_XDP,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's counters of a socket.
pub(super) fn statistics(fd: RawFd) -> io::Result<libc::xdp_statistics> {
    // SAFETY: xdp_statistics is a struct of integers.
    unsafe { get_option(fd, libc::XDP_STATISTICS) }
}

impl Socket {
    /// Opens a socket on `queue` of `device` with rings of `ring_size` entries, its fill ring served from `pool`. The first
    /// socket (`shared_with` is `None`) registers the UMEM.
    pub fn open(
        umem: &'static Umem,
        shared_with: Option<RawFd>,
        device: &Device,
        queue: u32,
        ring_size: u32,
        mode: BindMode,
        pool: &mut Pool,
    ) -> Result<Socket, Error> {
        let call = |action| move |source| Error::call(action, &device.name, source);
        // SAFETY: socket(2) has no memory arguments.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::call(
                "opening an AF_XDP socket",
                &device.name,
                io::Error::last_os_error(),
            ));
        }
        // SAFETY: a descriptor that was just opened and that nobody else owns.
        let fd = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let raw = fd.as_raw_fd();

        if shared_with.is_none() {
            register(raw, umem)?;
        }
        let sends = queue < device.transmit_queues;
        for option in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            set_option(raw, option, &ring_size).map_err(call("creating the rings of an AF_XDP socket"))?;
        }
        if sends {
            set_option(raw, libc::XDP_TX_RING, &ring_size).map_err(call("creating the rings of an AF_XDP socket"))?;
        }
        // SAFETY: xdp_mmap_offsets is a struct of integers.
        let offsets: libc::xdp_mmap_offsets = unsafe { get_option(raw, libc::XDP_MMAP_OFFSETS) }
            .map_err(call("asking for the rings of an AF_XDP socket"))?;
        let map = call("mapping the rings of an AF_XDP socket");
        let mut socket = Socket {
            umem,
            receive: Consumer::map(raw, libc::XDP_PGOFF_RX_RING, &offsets.rx, ring_size).map_err(map)?,
            transmit: match sends {
                true => Some(Producer::map(raw, libc::XDP_PGOFF_TX_RING, &offsets.tx, ring_size).map_err(map)?),
                false => None,
            },
            fill: Producer::map(raw, libc::XDP_UMEM_PGOFF_FILL_RING as _, &offsets.fr, ring_size).map_err(map)?,
            completion: Consumer::map(raw, libc::XDP_UMEM_PGOFF_COMPLETION_RING as _, &offsets.cr, ring_size)
                .map_err(map)?,
            zero_copy: mode.zero_copy,
            multi_buffer: mode.multi_buffer,
            partial: None,
            transmit_budget: DEFAULT_TX_BUDGET,
            receiving: 0,
            sending: 0,
            fd,
        };
        // Some drivers take their first buffers while they are bound.
        socket.refill(pool);
        socket.bind(shared_with, device, queue, mode)?;
        if sends && set_option(raw, XDP_MAX_TX_SKB_BUDGET, &ring_size).is_ok() {
            socket.transmit_budget = ring_size;
        }
        Ok(socket)
    }

    fn bind(&self, shared_with: Option<RawFd>, device: &Device, queue: u32, mode: BindMode) -> Result<(), Error> {
        let flags = match shared_with {
            // What the first socket chose holds for all; the kernel refuses further flags.
            Some(_) => libc::XDP_SHARED_UMEM,
            None => {
                let copying = if mode.zero_copy {
                    libc::XDP_ZEROCOPY
                } else {
                    libc::XDP_COPY
                };
                let multi_buffer = if mode.multi_buffer { libc::XDP_USE_SG } else { 0 };
                copying | multi_buffer | libc::XDP_USE_NEED_WAKEUP
            }
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: device.ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: shared_with.unwrap_or(0) as u32,
        };
        let deadline = Instant::now() + BIND_PATIENCE;
        loop {
            // SAFETY: pointer and length are those of `address`.
            let result = unsafe {
                libc::bind(
                    self.raw_fd(),
                    std::ptr::from_ref(&address).cast(),
                    size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
                )
            };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EBUSY) {
                return Err(Error::call("binding an AF_XDP socket", &device.name, error));
            }
            // The kernel releases the queue of a closed socket in a work item, after close() or the process's end.
            if Instant::now() > deadline {
                return Err(Error::QueueInUse {
                    device: device.name.clone(),
                    queue,
                });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

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
    fn refill(&mut self, pool: &mut Pool) {
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

fn register(fd: RawFd, umem: &Umem) -> Result<(), Error> {
    // SAFETY: xdp_umem_reg is a struct of integers.
    let mut registration: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    registration.addr = umem.base().as_ptr() as u64;
    registration.len = umem.used_bytes() as u64;
    registration.chunk_size = umem.chunk_size();
    set_option(fd, libc::XDP_UMEM_REG, &registration).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOBUFS | libc::EPERM) => Error::LockedMemory {
            bytes: umem.used_bytes(),
        },
        Some(libc::ENOMEM) => Error::OutOfMemory {
            bytes: umem.used_bytes(),
            source: error,
        },
        _ => Error::call("registering the frame memory", "all AF_XDP ports", error),
    })
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
