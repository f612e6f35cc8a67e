//! IPv4 (RFC 791).

use super::checksum::{Sum, update};
use super::{get_bytes, get_u16, put_u16};
use crate::address::Address;

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// The first byte of a header without options: version 4, five words.
pub const VERSION_AND_PLAIN_HEADER: u8 = 0x45;
/// Offset of type of service (DSCP and ECN).
pub const TOS: usize = 1;
/// Offset of the total length.
pub const TOTAL_LENGTH: usize = 2;
/// Offset of the identification.
pub const IDENTIFICATION: usize = 4;
/// Offset of flags and fragment offset.
pub const FRAGMENT: usize = 6;
/// Offset of the time to live.
pub const TTL: usize = 8;
/// Offset of the protocol.
pub const PROTOCOL: usize = 9;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;
/// Offset of the source address.
pub const SOURCE: usize = 12;
/// Offset of the destination address.
pub const DESTINATION: usize = 16;

/// Flag: don't fragment.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// Flag: more fragments.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset, in units of 8 bytes.
pub const OFFSET_MASK: u16 = 0x1fff;

/// Length of the header that starts `ip`, in bytes.
#[inline]
pub fn header_length(ip: &[u8]) -> usize {
    usize::from(ip[0] & 0xf) * 4
}

/// The source address.
#[inline]
pub fn source(ip: &[u8]) -> Address {
    Address::v4(get_bytes(ip, SOURCE))
}

/// The destination address.
#[inline]
pub fn destination(ip: &[u8]) -> Address {
    Address::v4(get_bytes(ip, DESTINATION))
}

/// Takes one from the time to live, which must be more than 0, and keeps the checksum right.
#[inline]
pub fn decrement_ttl(ip: &mut [u8]) {
    let Some(ip) = ip.first_chunk_mut::<HEADER>() else {
        return;
    };
    ip[TTL] -= 1;
    // The word with the time to live sinks by 0x0100, so the complement of the sum rises by it, and carries round (RFC 1141); never to 0xffff, as by RFC 1624.
    let risen = u32::from(get_u16(ip, CHECKSUM)) + 0x0100;
    put_u16(ip, CHECKSUM, (risen + u32::from(risen >= 0xffff)) as u16);
}

/// Corrects the header checksum after words of the header changed by `delta`.
#[inline]
pub fn patch_checksum(ip: &mut [u8], delta: Sum) {
    let checksum = update(get_u16(ip, CHECKSUM), delta);
    put_u16(ip, CHECKSUM, checksum);
}

/// Changes a 16-bit word of the header and keeps the checksum right.
#[inline]
pub fn set_word(ip: &mut [u8], at: usize, value: u16) {
    let old = get_u16(ip, at);
    put_u16(ip, at, value);
    patch_checksum(ip, Sum::default().minus_word(old).plus_word(value));
}

/// What a header without options says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_length: u16,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Upper protocol.
    pub protocol: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

impl Header {
    /// Writes the header, checksum included, to the first 20 bytes of `ip`.
    ///
    /// Summed before it is written: what was just written in small pieces could not be read in larger ones without waiting for it.
    #[inline(always)]
    pub fn emit(&self, ip: &mut [u8]) {
        let Some(ip) = ip.first_chunk_mut::<HEADER>() else {
            return;
        };
        let in_order = |high: u32, low: u16| (high << 16 | u32::from(low)).to_be();
        let version_and_tos = u32::from(VERSION_AND_PLAIN_HEADER) << 8 | u32::from(self.tos);
        let ttl_and_protocol = u32::from(self.ttl) << 8 | u32::from(self.protocol);
        let mut words = [
            in_order(version_and_tos, self.total_length),
            in_order(u32::from(self.identification), self.fragment),
            in_order(ttl_and_protocol, 0),
            u32::from_ne_bytes(self.source.v4_octets()),
            u32::from_ne_bytes(self.destination.v4_octets()),
        ];
        words[2] |= u32::from(Sum::of_native_words(&words).to_checksum()).to_be();
        *ip = zerocopy::transmute!(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checksum_stays_right_when_the_time_to_live_sinks() {
        for checksum in 0..=0xffff {
            let mut ip = [0; HEADER];
            put_u16(&mut ip, TTL, 0x4011);
            put_u16(&mut ip, CHECKSUM, checksum);
            decrement_ttl(&mut ip);
            assert_eq!(ip[TTL], 0x3f);
            // RFC 1624 equation 3, with m = 0x4011 and m' = 0x3f11.
            let expected = update(checksum, Sum::default().minus_word(0x4011).plus_word(0x3f11));
            assert_eq!(get_u16(&ip, CHECKSUM), expected, "from {checksum:04x}");
        }
    }
}
