//! UDP (RFC 768).

/// Bytes of the header.
pub const HEADER: usize = 8;
/// Offset of the length.
pub const LENGTH: usize = 4;
/// Offset of the checksum; 0 means none, which only IPv4 allows (RFC 8200 section 8.1).
pub const CHECKSUM: usize = 6;
