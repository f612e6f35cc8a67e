//! Where frames go after the pipeline.

use super::Settings;
use crate::address::Address;
use crate::io::{BURST, PortIndex};
use crate::snapshot::InterfaceIndex;

/// How many spare frames the worker should keep in [`Output::spare`]: enough to cut the largest packet for the smallest usual path.
pub const SPARE_FRAMES: usize = 64;

/// A frame on its way to the worker that owns its connection.
#[derive(Debug)]
pub struct Redirected<F> {
    /// The frame, as it came in.
    pub frame: F,
    /// The port it came in on.
    pub port: PortIndex,
    /// A later fragment's ports, where they are known.
    pub ports: Option<(u16, u16)>,
    /// How often it was redirected.
    pub times: u8,
}

/// Where frames went; the worker empties it after each burst.
#[derive(Debug)]
pub struct Output<F> {
    /// To be sent, by port.
    pub transmit: Vec<Vec<F>>,
    /// For other workers, by worker.
    pub redirect: Vec<Vec<Redirected<F>>>,
    /// For the kernel.
    pub punt: Vec<(PortIndex, F)>,
    /// To be given back to the pool.
    pub free: Vec<F>,
    /// Empty frames for packets that we make; the worker keeps some here.
    pub spare: Vec<F>,
    /// Neighbours that control should ask the kernel to resolve.
    pub resolve: Vec<(InterfaceIndex, Address)>,
}

impl<F> Output<F> {
    /// All memory is taken here.
    pub(super) fn new(settings: &Settings) -> Output<F> {
        let queue = || Vec::with_capacity(4 * BURST);
        Output {
            transmit: (0..settings.ports).map(|_| queue()).collect(),
            redirect: (0..settings.steering.workers())
                .map(|_| Vec::with_capacity(4 * BURST))
                .collect(),
            punt: Vec::with_capacity(BURST),
            free: queue(),
            spare: Vec::with_capacity(SPARE_FRAMES),
            resolve: Vec::with_capacity(BURST),
        }
    }
}
