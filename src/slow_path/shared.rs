//! What workers and the slow-path thread share.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::classify::Class;
use super::counters::ClassCounters;
use super::lane::Lane;
use super::{Error, PortSettings};

/// Frames that wait in a lane of [`Class::Rest`], and of any other. A second's worth of VRRP, ARP and routing is far less.
const REST_FRAMES: usize = 1024;
const OTHER_FRAMES: usize = 256;
/// Ethernet header and two VLAN tags.
const LINK_HEADERS: usize = 14 + 2 * 4;

/// One port's lanes.
pub(super) struct PortLanes {
    pub(super) to_kernel: [Lane; Class::ALL.len()],
    pub(super) from_kernel: [Lane; Class::ALL.len()],
    pub(super) counters: [ClassCounters; Class::ALL.len()],
    /// There may be something in `from_kernel`.
    pub(super) has_injected: AtomicBool,
    pub(super) frame_bytes: usize,
}

pub(super) struct Shared {
    pub(super) ports: Vec<PortLanes>,
    pub(super) event: EventFd,
    pub(super) is_asleep: AtomicBool,
    pub(super) is_stopping: AtomicBool,
}

impl PortLanes {
    fn new(port: &PortSettings) -> PortLanes {
        let frame_bytes = port.mtu as usize + LINK_HEADERS;
        let lane = |at: usize| {
            let is_rest = Class::ALL[at] == Class::Rest;
            Lane::new(if is_rest { REST_FRAMES } else { OTHER_FRAMES }, frame_bytes)
        };
        PortLanes {
            to_kernel: std::array::from_fn(lane),
            from_kernel: std::array::from_fn(lane),
            counters: std::array::from_fn(|_| ClassCounters::default()),
            has_injected: AtomicBool::new(false),
            frame_bytes,
        }
    }
}

impl Shared {
    pub(super) fn new(ports: &[PortSettings]) -> Result<Shared, Error> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_flags(flags);
        Ok(Shared {
            ports: ports.iter().map(PortLanes::new).collect(),
            event: event.map_err(|error| Error::call("creating an eventfd", "the slow path", error))?,
            is_asleep: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// After a frame was put into a lane to the kernel.
    pub(super) fn wake_for(&self, lane: &Lane) {
        // Pairs with the one in `falls_asleep`: either the thread sees the frame, or this sees that it sleeps.
        fence(Ordering::SeqCst);
        let may_sleep_on = lane.is_throttled.load(Ordering::Relaxed);
        // Once is enough for all frames that come while it gets up.
        if !may_sleep_on && self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    /// Whether the thread may sleep now: it has said so, and found nothing that may go on afterwards.
    pub(super) fn falls_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut lanes = self.ports.iter().flat_map(|port| &port.to_kernel);
        lanes.all(|lane| lane.is_throttled.load(Ordering::Relaxed) || lane.is_empty())
    }

    pub(super) fn gets_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
        // WouldBlock: nobody has rung.
        let _ = self.event.read();
    }

    /// Ends the thread's sleep, or its next one.
    pub(super) fn ring(&self) {
        // A full counter also wakes, so the result does not matter.
        let _ = self.event.write(1);
    }
}
