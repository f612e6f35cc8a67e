//! Packet headers, one file each: where the fields are and how to write them. Nothing here judges; [`crate::parse`] does, once, and
//! everything behind it relies on the lengths that it checked.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod proxy_v2;
pub mod sctp;
pub mod tcp;
pub mod udp;

/// `N` bytes from `at` on, with one bounds check for all of them.
#[inline(always)]
pub fn get_bytes<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut copy = [0; N];
    copy.copy_from_slice(&bytes[at..at + N]);
    copy
}

/// The big-endian 16-bit word at `at`.
#[inline(always)]
pub fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(get_bytes(bytes, at))
}

/// The big-endian 32-bit word at `at`.
#[inline(always)]
pub fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(get_bytes(bytes, at))
}

/// Writes a big-endian 16-bit word.
#[inline(always)]
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian 32-bit word.
#[inline(always)]
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
