//! The slow path: whatever a port receives and the director does not balance reaches the kernel, and whatever the kernel sends leaves by the
//! port, for backends that take a port away from the kernel altogether.
//!
//! ```text
//!            worker ── punt ──▶ lanes by class ──┐                       ┌──▶ twin (TAP) ──▶ kernel: ARP, NDP, VRRP, BGP, ssh
//!  port ◀──▶                                     ├── slow-path thread ───┤
//!            worker ◀─ take ─── lanes by class ──┘                       └─── twin (TAP) ◀── kernel
//! ```
//!
//! Every port has a *twin*, a TAP with its name, MAC and MTU, which carries the addresses and routes that the operator sets with `ip`. VLANs
//! are tagged on the twin as they are on the wire.
//!
//! Nothing here waits for anything: a lane that is full drops, by name and class. Classes keep the important apart from what can be flooded
//! ([`Class`]); the thread takes the more important one first, and the ones that strangers can fill have a rate limit. This module knows no
//! backend.

mod classify;
mod counters;
mod error;
mod inject;
mod lane;
mod limit;
mod punt;
mod shared;
mod tap;
mod thread;

pub use classify::{Class, classify};
pub use counters::Counters;
pub use error::Error;
pub use inject::Injected;
pub use limit::TokenBucket;
pub use punt::PuntSender;
pub use tap::Twin;
pub use thread::Running;

use shared::Shared;
use std::sync::Arc;
use ulvs_control::config::Director;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::worker::Wake;

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Name of the twin.
    pub name: String,
    /// The port's Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u32,
}

/// How many frames per second each port may hand to the kernel, by class. [`Class::Urgent`] has no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// [`Class::Routing`]
    pub routing_pps: u32,
    /// [`Class::Neighbour`]
    pub neighbour_pps: u32,
    /// [`Class::Rest`]
    pub rest_pps: u32,
}

impl From<&Director> for Limits {
    fn from(director: &Director) -> Limits {
        Limits {
            routing_pps: director.slow_path_routing_pps,
            neighbour_pps: director.slow_path_neighbour_pps,
            rest_pps: director.slow_path_pps,
        }
    }
}

/// The twins are there, but nothing moves yet.
pub struct SlowPath {
    twins: Arc<[Twin]>,
    shared: Arc<Shared>,
    limits: Limits,
    injected: Vec<Option<Injected>>,
}

impl SlowPath {
    /// Creates the twins, or opens those that an operator made before, in the order of [`PortIndex`](ulvs_dataplane::io::PortIndex).
    ///
    /// # Errors
    /// A sentence that says what to do; the twins made so far are gone again.
    pub fn open(ports: &[PortSettings], limits: Limits) -> Result<SlowPath, Error> {
        let twins = ports.iter().map(Twin::create).collect::<Result<Arc<[Twin]>, _>>()?;
        let shared = Arc::new(Shared::new(ports)?);
        Ok(SlowPath {
            twins,
            injected: (0..ports.len())
                .map(|port| Some(Injected::new(Arc::clone(&shared), PortIndex(port as u8))))
                .collect(),
            shared,
            limits,
        })
    }

    /// The twins, by port.
    pub fn twins(&self) -> &[Twin] {
        &self.twins
    }

    /// For a worker's `Io::punt`; one for each.
    pub fn sender(&self) -> PuntSender {
        PuntSender::new(Arc::clone(&self.shared))
    }

    /// What the kernel sends on a port's twin, for the one worker that transmits it. `None` the second time, and for a port that is not there.
    pub fn injected(&mut self, port: PortIndex) -> Option<Injected> {
        self.injected.get_mut(usize::from(port.0))?.take()
    }

    /// For the control thread.
    pub fn counters(&self) -> Counters {
        Counters::new(Arc::clone(&self.shared))
    }

    /// Starts the thread. `wake` ends the sleep of the worker that has [`Injected`] (or of all that have one), or its next one; it may be called
    /// at any time.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(self, wake: Wake) -> Result<Running, Error> {
        Running::start(self.twins, self.shared, self.limits, wake)
    }
}
