//! The frame memory (UMEM): one area of equal chunks that all sockets of all ports and workers share.
//!
//! A chunk is at any time owned by exactly one of: a free list, a ring (so, the kernel), or an [`AfXdpFrame`](super::AfXdpFrame).
//! Whoever owns it may touch its bytes and its entry in the segment table; that rule is what makes the shared area sound.

use super::error::Error;
use std::cell::UnsafeCell;
use std::io;
use std::ptr::NonNull;
use ulvs_dataplane::io::HEADROOM;

/// What the kernel keeps free in front of every frame that it receives (`XDP_PACKET_HEADROOM`). Nothing is asked for beyond that
/// (`xdp_umem_reg.headroom` is 0), because each byte of it would be taken from the MTU.
pub(super) const KERNEL_HEADROOM: u32 = 256;
const _: () = assert!(HEADROOM <= KERNEL_HEADROOM as usize);

/// No chunk: the end of a chain.
pub(super) const NO_CHUNK: u32 = u32::MAX;

const HUGE_PAGE: usize = 2 << 20;

/// One further segment of a frame: where its bytes lie in its chunk, and which chunk follows.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub next: u32,
    pub offset: u32,
    pub length: u32,
}

/// The area. It lives as long as the process (frames refer to it without counting), so it is only handed out as `&'static`.
pub(super) struct Umem {
    base: NonNull<u8>,
    bytes: usize,
    chunk_shift: u32,
    chunk_count: u32,
    huge_pages: bool,
    segments: Box<[UnsafeCell<Segment>]>,
}

// SAFETY: the bytes and segment entries of a chunk are only touched by the chunk's one owner (see the module's rule), and what
// hands a chunk to another thread (locked free list, ring between workers) also orders the accesses.
unsafe impl Sync for Umem {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Umem {}

impl Umem {
    /// Maps room for `chunk_count` chunks of `chunk_size` bytes (a power of two), on huge pages when there are any.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn allocate(chunk_count: u32, chunk_size: u32) -> Result<&'static Umem, Error> {
        let wanted = chunk_count as usize * chunk_size as usize;
        let rounded = wanted.next_multiple_of(HUGE_PAGE);
        let (base, bytes, huge_pages) = match map_anonymous(rounded, libc::MAP_HUGETLB) {
            Ok(base) => (base, rounded, true),
            Err(_) => {
                let base = map_anonymous(wanted, 0).map_err(|source| Error::OutOfMemory { bytes: wanted, source })?;
                (base, wanted, false)
            }
        };
        let empty = || {
            UnsafeCell::new(Segment {
                next: NO_CHUNK,
                offset: 0,
                length: 0,
            })
        };
        Ok(Box::leak(Box::new(Umem {
            base,
            bytes,
            chunk_shift: chunk_size.trailing_zeros(),
            chunk_count,
            huge_pages,
            segments: (0..chunk_count).map(|_| empty()).collect(),
        })))
    }

    /// Start of the area, for registering it.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of the area that hold chunks.
    pub fn used_bytes(&self) -> usize {
        (self.chunk_count as usize) << self.chunk_shift
    }

    /// Bytes mapped.
    pub fn mapped_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the area lies on huge pages.
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// Bytes of a chunk.
    pub fn chunk_size(&self) -> u32 {
        1 << self.chunk_shift
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// The kernel's address (offset into the area) of a byte of a chunk.
    pub fn address(&self, chunk: u32, offset: u32) -> u64 {
        (u64::from(chunk) << self.chunk_shift) + u64::from(offset)
    }

    /// Chunk and offset of an address from a ring, or nothing when it lies outside the area.
    pub fn locate(&self, address: u64) -> Option<(u32, u32)> {
        let chunk = address >> self.chunk_shift;
        let offset = address as u32 & (self.chunk_size() - 1);
        (chunk < u64::from(self.chunk_count)).then_some((chunk as u32, offset))
    }

    /// Where a byte of a chunk is. `chunk` and `offset` must be inside the area, as [`Umem::locate`] gives them.
    pub fn pointer(&self, chunk: u32, offset: u32) -> NonNull<u8> {
        debug_assert!(chunk < self.chunk_count && offset <= self.chunk_size());
        // SAFETY: chunk and offset lie inside the mapping.
        unsafe { self.base.add(self.address(chunk, offset) as usize) }
    }

    /// The chunk's entry in the segment table.
    ///
    /// # Safety
    /// The caller owns the chunk.
    pub unsafe fn segment(&self, chunk: u32) -> Segment {
        // SAFETY: only the owner touches the entry, and that is the caller.
        unsafe { *self.segments[chunk as usize].get() }
    }

    /// Changes the chunk's entry in the segment table.
    ///
    /// # Safety
    /// The caller owns the chunk.
    pub unsafe fn set_segment(&self, chunk: u32, segment: Segment) {
        // SAFETY: only the owner touches the entry, and that is the caller.
        unsafe { *self.segments[chunk as usize].get() = segment };
    }
}

fn map_anonymous(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping touches no memory of ours.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | flags,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mmap gave address 0"))
}
