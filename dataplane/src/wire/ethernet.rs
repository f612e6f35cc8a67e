//! Ethernet II with 802.1Q and 802.1ad tags.

use super::get_bytes;

/// A link-layer address.
pub type Mac = [u8; 6];

/// A link-layer address as a word, to be compared with a frame's.
#[derive(Clone, Copy, Debug)]
pub struct MacWord(u64);

impl From<Mac> for MacWord {
    fn from([a, b, c, d, e, f]: Mac) -> MacWord {
        MacWord(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// All stations.
pub const BROADCAST: Mac = [0xff; 6];
/// Bytes of an untagged header.
pub const HEADER: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG: usize = 4;
/// Offset of the source address.
pub const SOURCE: usize = 6;
/// Offset of the type of an untagged frame.
pub const ETHERTYPE: usize = 12;

/// IPv4
pub const IPV4: u16 = 0x0800;
/// IPv6
pub const IPV6: u16 = 0x86dd;
/// ARP
pub const ARP: u16 = 0x0806;
/// 802.1Q tag
pub const VLAN: u16 = 0x8100;
/// 802.1ad outer tag
pub const SERVICE_VLAN: u16 = 0x88a8;

/// The destination address of a frame.
#[inline]
pub fn destination(frame: &[u8]) -> Mac {
    get_bytes(frame, 0)
}

/// Whether a frame, which must have a whole header, is sent to this address.
#[inline(always)]
pub fn is_to(frame: &[u8], mac: MacWord) -> bool {
    (u64::from_le_bytes(get_bytes(frame, 0)) ^ mac.0) << 16 == 0
}

/// The source address of a frame.
#[inline]
pub fn source(frame: &[u8]) -> Mac {
    get_bytes(frame, SOURCE)
}

/// Whether the address names a group (multicast or broadcast).
#[inline]
pub fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 == 1
}
