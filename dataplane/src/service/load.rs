//! How many connections each real server has: the only words that workers share for writing, touched when a connection opens, closes
//! or changes between active and inactive, never per packet.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use super::{Server, ServerSlot};

/// Connections of one server, all workers together.
#[derive(Debug, Default)]
pub struct Load {
    active: AtomicU32,
    inactive: AtomicU32,
    overloaded: AtomicBool,
}

/// The loads of all servers, by [`ServerSlot`]. Made once, for as many servers as the director's limit allows.
#[derive(Debug)]
pub struct Loads(Box<[CachePadded<Load>]>);

impl Loads {
    /// All counts 0.
    pub fn new(server_limit: usize) -> Loads {
        Loads((0..server_limit).map(|_| CachePadded::default()).collect())
    }

    /// The load of the server in `slot`.
    #[inline]
    pub fn get(&self, slot: ServerSlot) -> &Load {
        &self.0[slot.0 as usize]
    }
}

impl Load {
    /// Active connections (`ActiveConn` in ipvsadm).
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Inactive connections (`InActConn` in ipvsadm).
    pub fn inactive(&self) -> u32 {
        self.inactive.load(Relaxed)
    }

    /// Whether the upper threshold was reached and the lower one not yet crossed again.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded.load(Relaxed)
    }
    // H5: open(server, active), close(server, active), set_active(bool) with the kernel's threshold rules.
    #[doc(hidden)]
    pub fn _server(_: &Server) {}
}
