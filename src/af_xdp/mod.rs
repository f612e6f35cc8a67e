//! AF_XDP ports: frames go between a NIC's queues and the director without passing through the kernel's network stack, and without
//! any library or kernel module.
//!
//! Read in this order: [`open()`] puts everything together; `filter.bpf.c` decides in the kernel which frames are ours; `socket.rs`
//! serves a queue's rings; `worker.rs` is the [`Io`](ulvs_dataplane::io::Io) that a worker polls.
//!
//! There is one frame memory (`umem.rs`) for all ports, so that a frame received on one is sent on another without a copy.

mod attach;
mod bind;
mod counters;
mod device;
mod error;
mod ethtool;
mod filter;
mod frame;
mod inspect;
mod netlink;
mod open;
mod pool;
mod ring;
mod socket;
mod umem;
mod worker;
mod xdp_features;

pub use crate::waker::Waker;
pub use counters::{QueueCounters, SocketCounters};
pub use device::{DeviceFacts, XdpMode};
pub use error::Error;
pub use filter::{AddressClass, Endpoint, Filter, FilterCounters};
pub use frame::AfXdpFrame;
pub use inspect::{Inspection, frame_memory_bytes, inspect, kernel_has_af_xdp, largest_mtu};
pub use open::{Opened, open};
pub use worker::{AfXdpIo, FrameAccount};
pub use xdp_features::XdpFeatures;

/// In which mode the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// Native if the driver can, else generic with a warning.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// Behind the driver (skb mode).
    Generic,
}

/// Whether the driver puts frames right into our memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If all devices can, else copy.
    #[default]
    Auto,
    /// Or not at all.
    On,
    /// Always copy.
    Off,
}

/// One port.
#[derive(Clone, Debug)]
pub struct DeviceSettings {
    /// Name of the interface.
    pub name: String,
    /// In which mode the XDP program is attached.
    pub mode: AttachMode,
    /// VLAN ids on this interface that are the director's; 0 means untagged. A frame with two tags is the director's when both ids
    /// are in the list.
    pub vlans: Vec<u16>,
}

impl DeviceSettings {
    /// Untagged, in the best mode there is.
    pub fn new(name: impl Into<String>) -> DeviceSettings {
        DeviceSettings {
            name: name.into(),
            mode: AttachMode::Auto,
            vlans: vec![0],
        }
    }
}

/// All ports and what they share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The ports, in the order of [`PortIndex`](ulvs_dataplane::io::PortIndex).
    pub devices: Vec<DeviceSettings>,
    /// How many workers there are. Worker `i` of `n` gets the queues `i`, `i + n`, ... of every device.
    pub workers: usize,
    /// Whether to copy. One answer for all devices, because their frames lie in one memory.
    pub zero_copy: ZeroCopy,
    /// Whether a frame may span several buffers where kernel and driver can do that. Without it the MTU is bounded by the frame size.
    pub multi_buffer: bool,
    /// Frames per worker and device; none: computed.
    pub frames: Option<u32>,
    /// Bytes of a frame's buffer: 2048 or 4096.
    pub frame_size: u32,
    /// Entries in each of a queue's rings: a power of two from 64 to 16384.
    pub ring_size: u32,
    /// The most addresses that the filter can be given.
    pub max_addresses: u32,
    /// The most virtual services and real servers that the filter can be given.
    pub max_endpoints: u32,
}

impl Settings {
    /// The defaults for these devices, with one worker.
    pub fn new(devices: Vec<DeviceSettings>) -> Settings {
        Settings {
            devices,
            workers: 1,
            zero_copy: ZeroCopy::Auto,
            multi_buffer: true,
            frames: None,
            frame_size: 4096,
            ring_size: 2048,
            max_addresses: 4096,
            max_endpoints: 65536,
        }
    }
}
