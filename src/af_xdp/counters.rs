//! The kernel's own counters of every socket, for the control thread.

use super::bind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Weak;
use ulvs_dataplane::io::PortIndex;

/// What the kernel counted on one queue (`XDP_STATISTICS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueCounters {
    /// The port.
    pub port: PortIndex,
    /// Its queue.
    pub queue: u32,
    /// Frames dropped on receiving for other reasons than the next two.
    pub rx_dropped: u64,
    /// Frames dropped because the RX ring was full: the worker is too slow.
    pub rx_ring_full: u64,
    /// Times that the fill ring was found empty: frames are missing.
    pub fill_ring_empty: u64,
    /// Descriptors of the fill ring that the kernel refused.
    pub rx_invalid: u64,
    /// Descriptors of the TX ring that the kernel refused.
    pub tx_invalid: u64,
}

/// Reads the counters of all sockets from any thread.
pub struct SocketCounters {
    pub(super) sockets: Vec<(PortIndex, u32, Weak<OwnedFd>)>,
}

impl SocketCounters {
    /// The counters of every queue whose worker still runs.
    pub fn read(&self) -> Vec<QueueCounters> {
        let read = |(port, queue, fd): &(PortIndex, u32, Weak<OwnedFd>)| {
            let counters = bind::statistics(fd.upgrade()?.as_raw_fd()).ok()?;
            Some(QueueCounters {
                port: *port,
                queue: *queue,
                rx_dropped: counters.rx_dropped,
                rx_ring_full: counters.rx_ring_full,
                fill_ring_empty: counters.rx_fill_ring_empty_descs,
                rx_invalid: counters.rx_invalid_descs,
                tx_invalid: counters.tx_invalid_descs,
            })
        };
        self.sockets.iter().filter_map(read).collect()
    }
}
