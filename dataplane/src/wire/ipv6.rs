//! IPv6 (RFC 8200).

use super::{get_bytes, put_u16};
use crate::address::Address;

/// Bytes of the fixed header.
pub const HEADER: usize = 40;
/// Offset of the payload length.
pub const PAYLOAD_LENGTH: usize = 4;
/// Offset of the next header.
pub const NEXT_HEADER: usize = 6;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Offset of the source address.
pub const SOURCE: usize = 8;
/// Offset of the destination address.
pub const DESTINATION: usize = 24;
/// Bytes of the fragment header.
pub const FRAGMENT_HEADER: usize = 8;

/// Hop-by-hop options
pub const HOP_BY_HOP: u8 = 0;
/// Routing header
pub const ROUTING: u8 = 43;
/// Fragment header
pub const FRAGMENT: u8 = 44;
/// Destination options
pub const DESTINATION_OPTIONS: u8 = 60;
/// No next header
pub const NO_NEXT_HEADER: u8 = 59;

/// The smallest MTU of an IPv6 link (RFC 8200 section 5).
pub const MINIMUM_MTU: usize = 1280;

/// The source address.
#[inline]
pub fn source(ip: &[u8]) -> Address {
    address_at(ip, SOURCE)
}

/// The destination address.
#[inline]
pub fn destination(ip: &[u8]) -> Address {
    address_at(ip, DESTINATION)
}

#[inline]
fn address_at(ip: &[u8], at: usize) -> Address {
    Address::v6(get_bytes(ip, at))
}

/// The traffic class (DSCP and ECN).
#[inline]
pub fn traffic_class(ip: &[u8]) -> u8 {
    ip[0] << 4 | ip[1] >> 4
}

/// What the fixed header says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes behind the fixed header.
    pub payload_length: u16,
    /// Upper protocol or first extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Header {
    /// Writes the header, flow label 0, to the first 40 bytes of `ip`.
    pub fn emit(&self, ip: &mut [u8]) {
        let Some(ip) = ip.first_chunk_mut::<HEADER>() else {
            return;
        };
        ip[0] = 0x60 | self.traffic_class >> 4;
        ip[1] = self.traffic_class << 4;
        put_u16(ip, 2, 0);
        put_u16(ip, PAYLOAD_LENGTH, self.payload_length);
        ip[NEXT_HEADER] = self.next_header;
        ip[HOP_LIMIT] = self.hop_limit;
        ip[SOURCE..SOURCE + 16].copy_from_slice(self.source.octets());
        ip[DESTINATION..DESTINATION + 16].copy_from_slice(self.destination.octets());
    }
}
