//! DPDK ports: frames go between a NIC's queues and the director through a poll mode driver, without the kernel.
//!
//! Read in this order: [`open()`] puts everything together; `memory.rs` says how much memory that takes and where it comes from; `eal.rs` starts DPDK;
//! `port.rs` sets a port up; `offloads.rs` says what work it takes over, `worker.rs` is the [`Io`](ulvs_dataplane::io::Io) that a worker polls, and `mbuf.rs` its frames. What is the kernel's
//! goes by the [slow path](crate::slow_path). `ffi.rs` is generated from `shim.h` and is named by this folder only.

mod claim;
mod counters;
mod eal;
mod error;
mod ffi;
mod log;
mod mbuf;
mod memory;
mod numa;
mod offloads;
mod open;
mod pool;
mod port;
mod rss;
#[cfg(test)]
mod tests;
mod worker;

pub use counters::{PortCounters, PortStatistics};
pub use error::Error;
pub use mbuf::DpdkFrame;
pub use memory::needed_bytes;
pub use open::{Opened, Ports, open};
pub use port::PortFacts;
pub use rss::RssFacts;
pub use worker::DpdkIo;

use ulvs_dataplane::steering::RssFields;

/// Whether huge pages back DPDK's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// If enough of them are free; else ordinary pages with a warning.
    #[default]
    Auto,
    /// Or not at all.
    On,
    /// Never.
    Off,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Name for messages.
    pub name: String,
    /// A PCI address (`0000:3b:00.0`) or a virtual device (`net_tap0,iface=tap0`), as DPDK's `-a` and `--vdev` take them.
    pub device: String,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// What its card hashes to spread packets over the queues.
    pub rss: RssFields,
}

impl DeviceSettings {
    /// A port of this name and device with Ethernet's usual MTU.
    pub fn new(name: impl Into<String>, device: impl Into<String>) -> DeviceSettings {
        DeviceSettings {
            name: name.into(),
            device: device.into(),
            mtu: 1500,
            rss: RssFields::Tuple,
        }
    }

    /// Whether it is on the PCI bus. All others are virtual.
    pub fn is_pci(&self) -> bool {
        self.device.starts_with(|first: char| first.is_ascii_hexdigit()) && self.device.contains(':')
    }

    /// The device without its arguments, as DPDK names the port.
    pub(crate) fn dpdk_name(&self) -> String {
        let name = self.device.split(',').next().unwrap_or_default();
        // DPDK takes the short form but lists ports by the long one.
        if self.is_pci() && name.matches(':').count() == 1 {
            format!("0000:{name}")
        } else {
            name.to_owned()
        }
    }

    /// Whether it is DPDK's driver over AF_XDP sockets.
    pub(crate) fn is_af_xdp(&self) -> bool {
        self.device.starts_with("net_af_xdp")
    }

    /// The kernel's interface under that driver.
    pub(crate) fn af_xdp_interface(&self) -> Option<&str> {
        let mut arguments = self.device.split(',').skip(1);
        arguments
            .find_map(|argument| argument.strip_prefix("iface="))
            .filter(|_| self.is_af_xdp())
    }
}

/// All ports and what they share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The ports, in the order of [`PortIndex`](ulvs_dataplane::io::PortIndex).
    pub devices: Vec<DeviceSettings>,
    /// How many workers there are; each gets one receive queue and one send queue of every port.
    pub workers: usize,
    /// The core of each worker, where it is pinned.
    pub cores: Vec<usize>,
    /// Packet buffers per worker and port; none: computed.
    pub frames: Option<u32>,
    /// Whether huge pages are used.
    pub huge_pages: HugePages,
    /// MiB that DPDK gets; none: computed.
    pub memory_mib: Option<u32>,
    /// Further arguments for DPDK, which come last.
    pub eal_arguments: Vec<String>,
}

impl Settings {
    /// The defaults for these devices, with one worker.
    pub fn new(devices: Vec<DeviceSettings>) -> Settings {
        Settings {
            devices,
            workers: 1,
            cores: Vec::new(),
            frames: None,
            huge_pages: HugePages::Auto,
            memory_mib: None,
            eal_arguments: Vec::new(),
        }
    }
}
