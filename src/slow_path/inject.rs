//! What the kernel sends on a twin, for the worker that transmits it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ulvs_dataplane::io::PortIndex;

use super::classify::Class;
use super::shared::Shared;

/// The only taker of the frames that the kernel sends on one port's twin.
pub struct Injected {
    shared: Arc<Shared>,
    port: usize,
    /// By class: a frame that could not be transmitted yet.
    held: [Option<Vec<u8>>; Class::ALL.len()],
}

impl Injected {
    pub(super) fn new(shared: Arc<Shared>, port: PortIndex) -> Injected {
        Injected {
            shared,
            port: usize::from(port.0),
            held: Default::default(),
        }
    }

    /// Gives at most `limit` frames to `transmit`, the more important classes first, and returns how many it took. `transmit` copies the frame
    /// and says whether it had room for it; if not, the frame is kept for the next call. Never waits, and costs one load when there is nothing.
    pub fn take(&mut self, limit: usize, mut transmit: impl FnMut(&[u8]) -> bool) -> usize {
        let lanes = &self.shared.ports[self.port];
        if !lanes.has_injected.load(Ordering::Relaxed) {
            return 0;
        }
        // Before looking: a frame that comes meanwhile sets it again.
        lanes.has_injected.swap(false, Ordering::AcqRel);
        let mut taken = 0;
        for ((lane, held), counters) in lanes.from_kernel.iter().zip(&mut self.held).zip(&lanes.counters) {
            while let Some(frame) = held.take().or_else(|| lane.take()) {
                if taken == limit || !transmit(&frame) {
                    *held = Some(frame);
                    lanes.has_injected.store(true, Ordering::Relaxed);
                    return taken;
                }
                counters.injected.fetch_add(1, Ordering::Relaxed);
                lane.give_back(frame);
                taken += 1;
            }
        }
        taken
    }

    /// Copies the next frame into `buffer` and returns its length; none when there is none. One that is longer than `buffer` is dropped.
    pub fn next(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let mut length = None;
        self.take(1, |frame| {
            if let Some(room) = buffer.get_mut(..frame.len()) {
                room.copy_from_slice(frame);
                length = Some(frame.len());
            }
            true
        });
        length
    }
}
