//! The PROXY protocol, version 2 (section 2.2 of its specification): how a server behind FullNAT learns the client's address.

use super::put_u16;
use crate::address::{Address, Family};
use crate::service::protocol;

const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const VERSION_2_PROXY: u8 = 0x21;
const FIXED: usize = 16;

/// Bytes of the header for IPv4 addresses.
pub const V4: usize = FIXED + 12;
/// Bytes of the header for IPv6 addresses.
pub const V6: usize = FIXED + 36;

/// Length of the header for a client of that family, in bytes. Always even, so that checksums of what follows do not shift.
pub fn length(client: &Address) -> usize {
    match client.family() {
        Family::V4 => V4,
        Family::V6 => V6,
    }
}

/// Writes the header to the first [`length`] bytes of `out`: client and virtual address, both of one family.
pub fn emit(
    out: &mut [u8],
    ip_protocol: u8,
    client: &Address,
    client_port: u16,
    virtual_: &Address,
    virtual_port: u16,
) {
    out[..12].copy_from_slice(&SIGNATURE);
    out[12] = VERSION_2_PROXY;
    let transport = if ip_protocol == protocol::UDP { 0x2 } else { 0x1 };
    let (family, wire) = match client.family() {
        Family::V4 => (0x10, 4),
        Family::V6 => (0x20, 16),
    };
    out[13] = family | transport;
    put_u16(out, 14, (2 * wire + 4) as u16);
    out[FIXED..FIXED + wire].copy_from_slice(client.wire());
    out[FIXED + wire..FIXED + 2 * wire].copy_from_slice(virtual_.wire());
    put_u16(out, FIXED + 2 * wire, client_port);
    put_u16(out, FIXED + 2 * wire + 2, virtual_port);
}
