//! ARP for IPv4 over Ethernet (RFC 826).

/// Bytes of the message.
pub const LENGTH: usize = 28;
/// Offset of the operation.
pub const OPERATION: usize = 6;
/// Offset of the sender's link-layer address.
pub const SENDER_MAC: usize = 8;
/// Offset of the sender's address.
pub const SENDER_ADDRESS: usize = 14;
/// Offset of the target's link-layer address.
pub const TARGET_MAC: usize = 18;
/// Offset of the target's address.
pub const TARGET_ADDRESS: usize = 24;
/// Operation: who has?
pub const REQUEST: u16 = 1;
/// Operation: is at.
pub const REPLY: u16 = 2;

/// Hardware type Ethernet, protocol type IPv4, lengths 6 and 4: how every message that concerns us begins.
pub const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
