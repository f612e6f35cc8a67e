//! What ports count by themselves, and whether their link is up; for the control thread.

use tracing::{info, warn};
use ulvs_dataplane::io::PortIndex;

use super::ffi;

/// A port's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Frames that the card dropped because a receive queue was full.
    pub missed: u64,
    /// Frames that were received damaged.
    pub receive_errors: u64,
    /// Frames that could not be sent.
    pub send_errors: u64,
    /// Frames that were lost because no packet buffer was free.
    pub no_buffer: u64,
}

/// All ports' counters and links. Valid until the ports are closed.
pub struct PortCounters {
    ports: Vec<Watched>,
}

struct Watched {
    id: u16,
    name: String,
    is_up: Option<bool>,
}

impl PortCounters {
    pub(super) fn new(ports: impl Iterator<Item = (u16, String)>) -> PortCounters {
        let watched = |(id, name)| Watched { id, name, is_up: None };
        PortCounters {
            ports: ports.map(watched).collect(),
        }
    }

    /// The counters of every port that has any.
    pub fn read(&self) -> Vec<(PortIndex, PortStatistics)> {
        let read = |(index, port): (usize, &Watched)| {
            let mut all = ffi::rte_eth_stats::default();
            // SAFETY: the structure is filled by the call; the port is open.
            let status = unsafe { ffi::rte_eth_stats_get(port.id, &mut all) };
            (status == 0).then_some((
                PortIndex(index as u8),
                PortStatistics {
                    received: all.ipackets,
                    sent: all.opackets,
                    missed: all.imissed,
                    receive_errors: all.ierrors,
                    send_errors: all.oerrors,
                    no_buffer: all.rx_nombuf,
                },
            ))
        };
        self.ports.iter().enumerate().filter_map(read).collect()
    }

    /// Looks at every link, logs what has changed and returns it: port, whether it is up. To be called about once a second.
    pub fn watch_links(&mut self) -> Vec<(PortIndex, bool)> {
        let mut changes = Vec::new();
        for (index, port) in self.ports.iter_mut().enumerate() {
            let (mut speed_mbps, mut is_up) = (0, 0);
            // SAFETY: both numbers live until the call returns; the port is open.
            if unsafe { ffi::ulvs_link(port.id, &mut speed_mbps, &mut is_up) } != 0 {
                continue;
            }
            let is_up = is_up != 0;
            if port.is_up.replace(is_up) == Some(is_up) {
                continue;
            }
            changes.push((PortIndex(index as u8), is_up));
            match (is_up, speed_mbps) {
                (false, _) => warn!("port {}: the link is down", port.name),
                (true, 0 | u32::MAX) => info!("port {}: the link is up", port.name),
                (true, speed) => info!("port {}: the link is up, {speed} Mbit/s", port.name),
            }
        }
        changes
    }
}
