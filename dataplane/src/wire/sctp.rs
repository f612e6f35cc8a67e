//! SCTP (RFC 9260): the common header, the chunks that open and close an association, and the checksum, which covers no addresses.

use super::get_u16;

/// Bytes of the common header: ports, verification tag, checksum.
pub const HEADER: usize = 12;
/// Offset of the CRC32c, which is written least significant byte first (RFC 9260 appendix A) and counts as 0 while it is computed.
pub const CHECKSUM: usize = 8;
/// Bytes of a chunk's header: type, flags, length with the header.
pub const CHUNK_HEADER: usize = 4;

/// Chunk types (RFC 9260 section 3.2).
pub mod chunk {
    /// INIT
    pub const INIT: u8 = 1;
    /// INIT ACK
    pub const INIT_ACK: u8 = 2;
    /// ABORT
    pub const ABORT: u8 = 6;
    /// SHUTDOWN
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN ACK
    pub const SHUTDOWN_ACK: u8 = 8;
    /// ERROR
    pub const ERROR: u8 = 9;
    /// COOKIE ECHO
    pub const COOKIE_ECHO: u8 = 10;
    /// COOKIE ACK
    pub const COOKIE_ACK: u8 = 11;
    /// SHUTDOWN COMPLETE
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The type of the chunk that says what the packet does: the first, or an ABORT right behind a COOKIE ECHO or COOKIE ACK. `None` when
/// there is no chunk.
pub fn deciding_chunk(sctp: &[u8]) -> Option<u8> {
    let first = sctp.get(HEADER..HEADER + CHUNK_HEADER)?;
    let length = usize::from(get_u16(first, 2));
    if matches!(first[0], chunk::COOKIE_ECHO | chunk::COOKIE_ACK) && length >= CHUNK_HEADER {
        let second = HEADER + length.next_multiple_of(4);
        if sctp
            .get(second..second + CHUNK_HEADER)
            .is_some_and(|next| next[0] == chunk::ABORT)
        {
            return Some(chunk::ABORT);
        }
    }
    Some(first[0])
}
