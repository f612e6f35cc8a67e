//! Pools of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;

use super::error::{Error, last_reason};
use super::ffi;
use super::mbuf::DpdkFrame;
use super::memory::{CACHE, FreeHugePages, Need};

/// A pool of packet buffers, for all workers. Cheap to copy; [`Pool::free`] ends it for all copies.
#[derive(Clone, Copy)]
pub(super) struct Pool {
    pool: NonNull<ffi::rte_mempool>,
    size: u32,
}

// SAFETY: DPDK's pools may be used from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Makes a pool on a NUMA node, or anywhere.
    pub fn create(name: &str, need: Need, node: Option<u32>, huge_pages: bool) -> Result<Pool, Error> {
        let c_name = CString::new(name).map_err(|_| Error::Setting(format!("{name:?} is no name for a pool")))?;
        let socket = node.map_or(ffi::ULVS_ANY_SOCKET, |node| node as i32);
        // SAFETY: the name is copied; all else are numbers.
        let pool =
            unsafe { ffi::rte_pktmbuf_pool_create(c_name.as_ptr(), need.frames, CACHE, 0, need.data_room, socket) };
        match NonNull::new(pool) {
            Some(pool) => Ok(Pool {
                pool,
                size: need.frames,
            }),
            None => Err(Error::Pool {
                frames: need.frames,
                needed_mib: need.pool_mib(huge_pages),
                reason: last_reason(),
                remedy: if huge_pages {
                    FreeHugePages::find().remedy(need.total_mib(true))
                } else {
                    format!(
                        "set memory_mib in [dpdk] to at least {}, or to 0",
                        need.total_mib(false)
                    )
                },
            }),
        }
    }

    /// How many buffers there are.
    pub fn size(self) -> u32 {
        self.size
    }

    /// How many of them are free. Looks into every thread's cache, so not for the packet path.
    pub fn free_frames(self) -> u32 {
        // SAFETY: a pool that has not been freed.
        unsafe { ffi::rte_mempool_avail_count(self.pool.as_ptr()) }
    }

    /// An empty frame.
    #[inline]
    pub fn allocate(self) -> Option<DpdkFrame> {
        // SAFETY: as above.
        let mbuf = NonNull::new(unsafe { ffi::rte_pktmbuf_alloc(self.pool.as_ptr()) })?;
        // SAFETY: just given out by the pool.
        Some(unsafe { DpdkFrame::from_raw(mbuf) })
    }

    pub fn as_ptr(self) -> *mut ffi::rte_mempool {
        self.pool.as_ptr()
    }

    /// Ends the pool.
    ///
    /// # Safety
    /// No frame of it and no port that receives into it may be used any more, nor any copy of this value.
    pub unsafe fn free(self) {
        // SAFETY: the caller's promise.
        unsafe { ffi::rte_mempool_free(self.pool.as_ptr()) }
    }
}
