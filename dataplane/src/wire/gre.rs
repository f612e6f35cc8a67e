//! Generic routing encapsulation (RFC 2784): no key, no sequence number.

use super::put_u16;

/// Bytes of the header without a checksum.
pub const HEADER: usize = 4;
/// Bytes that a checksum adds: itself and a reserved word.
pub const CHECKSUM_WORDS: usize = 4;
/// Offset of the checksum, where there is one.
pub const CHECKSUM: usize = 4;
/// First bit of the header: a checksum is present.
const HAS_CHECKSUM: u16 = 0x8000;

/// Bytes of the header.
pub const fn length(has_checksum: bool) -> usize {
    if has_checksum { HEADER + CHECKSUM_WORDS } else { HEADER }
}

/// Writes the header in front of a packet of this Ethernet type; the checksum, if there is to be one, as 0.
pub fn emit(bytes: &mut [u8], ethertype: u16, has_checksum: bool) {
    put_u16(bytes, 0, if has_checksum { HAS_CHECKSUM } else { 0 });
    put_u16(bytes, 2, ethertype);
    if has_checksum {
        bytes[HEADER..HEADER + CHECKSUM_WORDS].fill(0);
    }
}
