//! Opens AF_XDP sockets: options, rings, bind.

use super::device::Device;
use super::error::Error;
use super::pool::Pool;
use super::ring::{Consumer, Producer};
use super::socket::Socket;
use super::umem::Umem;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// `XDP_MAX_TX_SKB_BUDGET` (linux/if_xdp.h, Linux 6.17): descriptors sent by one system call in copy mode.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// What copy mode sends in one call where that cannot be set (`TX_BATCH_SIZE`).
const DEFAULT_TX_BUDGET: u32 = 32;

/// How long a queue that still belongs to a socket being torn down is waited for.
const BIND_PATIENCE: Duration = Duration::from_secs(2);

/// How sockets are bound. The first one decides for all that share its UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BindMode {
    pub zero_copy: bool,
    pub multi_buffer: bool,
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
