//! One network interface: what the backend must know of it before and after it opens it.

use super::error::Error;
use super::umem::KERNEL_HEADROOM;
use super::{ethtool, netlink};
use std::ffi::{CStr, CString};

/// How the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes an skb of a frame.
    Native,
    /// Behind it (skb mode): works with every driver, costs a copy and an skb for each frame.
    Generic,
}

/// What was found out about an interface and how it was opened. For the log at start.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// Its name.
    pub name: String,
    /// The kernel's number for it.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// RX queues, all of which are bound.
    pub receive_queues: u32,
    /// TX queues, of which at most as many as RX queues are used.
    pub transmit_queues: u32,
    /// Name of its driver.
    pub driver: String,
    /// Whether it is a veth.
    pub is_veth: bool,
    /// How the filter runs on it.
    pub mode: XdpMode,
    /// Whether frames are received and sent without the kernel copying them.
    pub zero_copy: bool,
    /// Whether a frame may span several buffers (jumbo frames).
    pub multi_buffer: bool,
    /// What works but should be changed, each with the command.
    pub warnings: Vec<String>,
}

/// An interface that exists.
pub(super) struct Device {
    pub name: String,
    pub ifindex: u32,
    pub link: netlink::Link,
    pub driver: String,
    pub receive_queues: u32,
    pub transmit_queues: u32,
}

impl Device {
    /// Looks an interface up by name.
    ///
    /// # Errors
    /// `NoSuchDevice`, or a failed call.
    pub fn find(name: &str) -> Result<Device, Error> {
        let missing = || Error::NoSuchDevice {
            name: name.to_owned(),
            existing: existing_names(),
        };
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: a valid C string.
        let ifindex = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if ifindex == 0 {
            return Err(missing());
        }
        let link = netlink::link(ifindex).map_err(|error| Error::call("asking rtnetlink", name, error))?;
        let driver = ethtool::driver(name);
        let allocated = (link.receive_queues.max(1), link.transmit_queues.max(1));
        let (receive_queues, transmit_queues) = ethtool::queues(name).unwrap_or(allocated);
        Ok(Device {
            name: name.to_owned(),
            ifindex,
            link,
            driver,
            receive_queues,
            transmit_queues,
        })
    }

    /// Whether it is a veth.
    pub fn is_veth(&self) -> bool {
        self.link.kind == "veth"
    }

    /// Queues that can both receive and send.
    pub fn paired_queues(&self) -> u32 {
        self.receive_queues.min(self.transmit_queues)
    }

    /// The command that gives the interface `count` queues.
    pub fn queue_remedy(&self, count: usize) -> String {
        if self.is_veth() {
            format!(
                "ethtool -L {0} rx {count} tx {count}, if it was created with numrxqueues {count} numtxqueues {count}",
                self.name
            )
        } else {
            format!("ethtool -L {} combined {count}", self.name)
        }
    }

    /// Things about the interface that hide frames from the filter or spoil them, with the command against each.
    pub fn warnings(&self, mode: XdpMode, has_vlans: bool) -> Vec<String> {
        let name = &self.name;
        let mut warnings = Vec::new();
        if has_vlans && !self.is_veth() && ethtool::strips_vlan_tags(name) {
            warnings.push(format!(
                "{name} takes VLAN tags off received frames, so that XDP takes tagged frames for untagged ones: ethtool -K {name} rxvlan off"
            ));
        }
        if self.is_veth() {
            self.warn_of_peer(mode, has_vlans, &mut warnings);
        } else if mode == XdpMode::Generic && ethtool::joins_segments(name) {
            warnings.push(format!(
                "{name} joins received TCP segments before generic XDP sees them, into frames larger than any MTU: ethtool -K {name} gro off lro off"
            ));
        }
        warnings
    }

    /// On a veth, what the peer does on sending decides what arrives here.
    fn warn_of_peer(&self, mode: XdpMode, has_vlans: bool, warnings: &mut Vec<String>) {
        let name = &self.name;
        let peer = self.link.peer.and_then(name_of);
        let (shown, seen) = match &peer {
            Some(peer) => (peer.as_str(), "sends"),
            None => ("PEER", "(in another namespace, where it cannot be looked up) may send"),
        };
        if has_vlans && peer.as_deref().is_none_or(ethtool::sends_vlan_tags_aside) {
            warnings.push(format!(
                "the peer of {name} {seen} VLAN tags beside the frame, where XDP does not see them, so that tagged frames count as untagged \
                 ones: ethtool -K {shown} txvlan off tx-vlan-stag-hw-insert off"
            ));
        }
        if mode == XdpMode::Generic && self.receive_queues > 1 {
            warnings.push(format!(
                "generic XDP finds all frames of the veth {name} on queue 0, so only the first worker receives from it: set mode = \"native\""
            ));
        }
        // Native XDP makes the kernel turn this off by itself (veth_fix_features).
        if mode == XdpMode::Generic && peer.as_deref().is_none_or(ethtool::is_sent_large_segments) {
            warnings.push(format!(
                "the peer of {name} {seen} TCP segments larger than the MTU, which generic XDP passes on whole: ethtool -K {shown} tso off gso off"
            ));
        }
    }
}

/// Bytes of Ethernet header and two VLAN tags.
const LINK_BYTES: u32 = 14 + 2 * 4;

/// The largest MTU whose frames fit into one buffer of `frame_size` bytes.
pub(super) fn largest_single_buffer_mtu(frame_size: u32) -> u32 {
    frame_size - KERNEL_HEADROOM - LINK_BYTES
}

fn name_of(ifindex: u32) -> Option<String> {
    let mut buffer = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may write.
    let name = unsafe { libc::if_indextoname(ifindex, buffer.as_mut_ptr().cast()) };
    if name.is_null() {
        return None;
    }
    Some(CStr::from_bytes_until_nul(&buffer).ok()?.to_string_lossy().into_owned())
}

/// The names of all interfaces in this namespace.
fn existing_names() -> String {
    // SAFETY: the call has no arguments; its result is freed below.
    let first = unsafe { libc::if_nameindex() };
    if first.is_null() {
        return String::new();
    }
    let mut names = Vec::new();
    let mut entry = first;
    // SAFETY: the array ends with an entry whose index is 0, and the names in it are C strings.
    unsafe {
        while (*entry).if_index != 0 {
            names.push(CStr::from_ptr((*entry).if_name).to_string_lossy().into_owned());
            entry = entry.add(1);
        }
        libc::if_freenameindex(first);
    }
    names.join(", ")
}
