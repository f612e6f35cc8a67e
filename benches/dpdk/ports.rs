//! DPDK's ports without a card, with a generator at their far ends. One worker has all of them open; [`DpdkPorts`] shows the director two.

use ulvs::dpdk::{DeviceSettings, DpdkFrame, DpdkIo};
use ulvs_dataplane::io::{BURST, Io, PortIndex};

use crate::rig::Ports;

/// What the director's two ports are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Rings in memory: the director receives from one of each pair and sends into the other.
    Ring,
    /// A driver that makes a frame of an empty buffer and frees what it sends, as that of a card does, without a card. The buffers that it takes are those
    /// which the generator has written and freed last.
    Null,
}

/// Rings that the director receives from, rings that it sends into, ports of nothing. These give all frames one length: that of IPv6 with TCP.
const DEVICES: [&str; 6] = [
    "net_ring0",
    "net_ring1",
    "net_ring2",
    "net_ring3",
    "net_null0,size=74",
    "net_null1,size=74",
];
const PORTS: usize = 2;
const RINGS_OUT: u8 = 2;
const NULLS: u8 = 4;
/// Frames that the pool's cache for one thread holds without ever giving some to the rest of the pool: what is freed last is taken first.
const IN_CACHE: usize = 192;

/// The devices to open.
pub fn devices() -> Vec<DeviceSettings> {
    DEVICES.map(|device| DeviceSettings::new(device, device)).to_vec()
}

impl Driver {
    /// One device of its kind.
    pub fn device(self) -> &'static str {
        match self {
            Driver::Ring => DEVICES[0],
            Driver::Null => DEVICES[usize::from(NULLS)],
        }
    }

    /// Its name with DPDK.
    pub fn name(self) -> &'static str {
        self.device().split_once('0').map_or(self.device(), |(name, _)| name)
    }
}

/// The worker's ports of one driver.
pub struct DpdkPorts<const NULL: bool> {
    io: DpdkIo,
    /// Written frames of a burst that is not full yet.
    arriving: Vec<DpdkFrame>,
    /// Bursts that stand before each port of nothing, which would give more of them than were written.
    bursts: [usize; PORTS],
    sent: Vec<DpdkFrame>,
    /// Kept out of the pool before ports of nothing.
    kept: Vec<DpdkFrame>,
}

impl<const NULL: bool> DpdkPorts<NULL> {
    pub fn new(mut io: DpdkIo) -> DpdkPorts<NULL> {
        let mut kept = Vec::new();
        if NULL {
            kept.extend(std::iter::from_fn(|| io.allocate()));
            kept.truncate(kept.len().saturating_sub(IN_CACHE));
        }
        DpdkPorts {
            io,
            arriving: Vec::with_capacity(BURST),
            bursts: [0; PORTS],
            sent: Vec::with_capacity(BURST),
            kept,
        }
    }

    /// The ports of all drivers again.
    pub fn into_io(self) -> DpdkIo {
        drop(self.kept);
        self.io
    }
}

impl<const NULL: bool> Io for DpdkPorts<NULL> {
    type Frame = DpdkFrame;

    fn port_count(&self) -> usize {
        PORTS
    }

    #[inline]
    fn receive(&mut self, port: PortIndex, into: &mut Vec<DpdkFrame>) {
        if !NULL {
            return self.io.receive(port, into);
        }
        let bursts = &mut self.bursts[usize::from(port.0)];
        if *bursts > 0 {
            *bursts -= 1;
            self.io.receive(PortIndex(NULLS + port.0), into);
        }
    }

    #[inline]
    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<DpdkFrame>) -> usize {
        let first = if NULL { NULLS } else { RINGS_OUT };
        self.io.transmit(PortIndex(first + port.0), frames)
    }

    #[inline]
    fn allocate(&mut self) -> Option<DpdkFrame> {
        self.io.allocate()
    }

    #[inline]
    fn free(&mut self, frame: DpdkFrame) {
        self.io.free(frame);
    }

    fn housekeeping(&mut self) {
        self.io.housekeeping();
    }

    fn frames(&self) -> (usize, usize) {
        self.io.frames()
    }

    fn wait(&mut self, milliseconds: u32) {
        self.io.wait(milliseconds);
    }
}

impl<const NULL: bool> Ports for DpdkPorts<NULL> {
    // Those that lie on top of the pool's cache.
    const ROUND: usize = if NULL { BURST } else { 8 * BURST };
    const SHOWS_SENT: bool = !NULL;

    fn arrive(&mut self, port: PortIndex, frame: DpdkFrame) {
        self.arriving.push(frame);
        if self.arriving.len() < BURST {
            return;
        }
        if NULL {
            // Last freed, first taken.
            self.arriving.drain(..).rev().for_each(drop);
            self.bursts[usize::from(port.0)] += 1;
        } else {
            let taken = self.io.transmit(port, &mut self.arriving);
            assert_eq!(taken, BURST, "a round fits into the ring");
        }
    }

    fn take_sent(&mut self, mut see: impl FnMut(&DpdkFrame)) {
        if NULL {
            return;
        }
        for port in 0..PORTS as u8 {
            loop {
                self.io.receive(PortIndex(RINGS_OUT + port), &mut self.sent);
                if self.sent.is_empty() {
                    break;
                }
                self.sent.drain(..).for_each(|frame| see(&frame));
            }
        }
    }
}
