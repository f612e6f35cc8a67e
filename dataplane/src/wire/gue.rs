//! Generic UDP encapsulation, version 0, data messages without options (draft-ietf-intarea-gue section 3).

/// Bytes of the header.
pub const HEADER: usize = 4;

/// Writes the header in front of a packet of this IP protocol.
pub fn emit(bytes: &mut [u8], inner_protocol: u8) {
    // Version 0, no control message, no optional words; the protocol; no flags.
    bytes[..HEADER].copy_from_slice(&[0, inner_protocol, 0, 0]);
}
