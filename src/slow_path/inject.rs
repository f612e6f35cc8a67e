//! What the kernel sends on the twins, for the worker that transmits it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ulvs_dataplane::io::PortIndex;

use super::classify::Class;
use super::shared::Shared;

/// The only taker of the frames that the kernel sends.
pub struct Injected {
    shared: Arc<Shared>,
    /// By port and class: a frame that could not be transmitted yet.
    held: Vec<[Option<Vec<u8>>; Class::ALL.len()]>,
}

impl Injected {
    pub(super) fn new(shared: Arc<Shared>) -> Injected {
        Injected {
            held: shared.ports.iter().map(|_| Default::default()).collect(),
            shared,
        }
    }

    /// Gives at most `limit` frames that are to leave by `port` to `transmit`, the more important classes first, and returns how many it
    /// took. `transmit` copies the frame and says whether it had room for it; if not, the frame is kept for the next call. Never waits, and
    /// costs one load when there is nothing.
    pub fn take(&mut self, port: PortIndex, limit: usize, mut transmit: impl FnMut(&[u8]) -> bool) -> usize {
        let Some(lanes) = self.shared.ports.get(usize::from(port.0)) else {
            return 0;
        };
        if !lanes.has_injected.load(Ordering::Relaxed) {
            return 0;
        }
        // Before looking: a frame that comes meanwhile sets it again.
        lanes.has_injected.swap(false, Ordering::AcqRel);
        let held = &mut self.held[usize::from(port.0)];
        let mut taken = 0;
        for (at, lane) in lanes.from_kernel.iter().enumerate() {
            while let Some(frame) = held[at].take().or_else(|| lane.take()) {
                if taken == limit || !transmit(&frame) {
                    held[at] = Some(frame);
                    lanes.has_injected.store(true, Ordering::Relaxed);
                    return taken;
                }
                lanes.counters[at].injected.fetch_add(1, Ordering::Relaxed);
                lane.give_back(frame);
                taken += 1;
            }
        }
        taken
    }
}
