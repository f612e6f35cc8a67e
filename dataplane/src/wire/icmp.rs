//! ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861).

/// Bytes of the header, with the four bytes that depend on the type.
pub const HEADER: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Offset of the next-hop MTU in "fragmentation needed" (RFC 1191 section 4).
pub const V4_MTU: usize = 6;
/// Offset of the MTU in "packet too big" (RFC 4443 section 3.2).
pub const V6_MTU: usize = 4;

/// ICMP types.
pub mod v4 {
    /// Echo reply
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable
    pub const UNREACHABLE: u8 = 3;
    /// Source quench
    pub const SOURCE_QUENCH: u8 = 4;
    /// Echo request
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded
    pub const TIME_EXCEEDED: u8 = 11;
    /// Code of unreachable: host
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Code of unreachable: port
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Code of unreachable: fragmentation needed and DF set
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// ICMPv6 types.
pub mod v6 {
    /// Destination unreachable
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded
    pub const TIME_EXCEEDED: u8 = 3;
    /// Echo request
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour solicitation
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Code of unreachable: address
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Code of unreachable: port
    pub const PORT_UNREACHABLE: u8 = 4;
}
