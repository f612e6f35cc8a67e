//! A worker's end of the way to the kernel.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ulvs_dataplane::io::{Frame, PortIndex};

use super::classify::classify;
use super::lane::Refused;
use super::shared::Shared;

/// Hands frames to the kernel. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct PuntSender(Arc<Shared>);

impl PuntSender {
    pub(super) fn new(shared: Arc<Shared>) -> PuntSender {
        PuntSender(shared)
    }

    /// Copies a frame to the lane of its class, and says whether there was room; whether or not, it is counted, and the caller frees its
    /// frame. Never waits.
    pub fn punt<F: Frame>(&self, port: PortIndex, frame: &F) -> bool {
        self.punt_pieces(port, frame.head(), frame.tail())
    }

    /// The same for a frame in pieces; all of its headers are in the first one.
    pub fn punt_pieces<'a>(&self, port: PortIndex, head: &'a [u8], tail: impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(lanes) = self.0.ports.get(usize::from(port.0)) else {
            return false;
        };
        let class = classify(head) as usize;
        let (lane, counters) = (&lanes.to_kernel[class], &lanes.counters[class]);
        let refused = match lane.put(std::iter::once(head).chain(tail)) {
            Ok(()) => None,
            Err(Refused::TooLong) => Some(&counters.punt_too_long),
            // A lane that waits for its rate is full because of the rate.
            Err(Refused::Full) if lane.is_throttled.load(Ordering::Relaxed) => Some(&counters.punt_rate_limited),
            Err(Refused::Full) => Some(&counters.punt_ring_full),
        };
        if let Some(counter) = refused {
            counter.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.0.wake_for(lane);
        true
    }
}
