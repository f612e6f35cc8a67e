//! TCP (RFC 9293) and the options that a balancer reads or writes.

use super::{get_u16, put_u16};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Bytes of the longest header.
pub const LONGEST_HEADER: usize = 60;
/// Offset of the sequence number.
pub const SEQUENCE: usize = 4;
/// Offset of the acknowledgment number.
pub const ACKNOWLEDGMENT: usize = 8;
/// Offset of the data offset.
pub const DATA_OFFSET: usize = 12;
/// Offset of the flags.
pub const FLAGS: usize = 13;
/// Offset of the checksum.
pub const CHECKSUM: usize = 16;

/// Flag FIN
pub const FIN: u8 = 0x01;
/// Flag SYN
pub const SYN: u8 = 0x02;
/// Flag RST
pub const RST: u8 = 0x04;
/// Flag PSH
pub const PSH: u8 = 0x08;
/// Flag ACK
pub const ACK: u8 = 0x10;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_SACK: u8 = 5;

/// The kind of the option that carries the client's address ("TOA").
pub const OPTION_TOA: u8 = 254;
/// Bytes of the option with an IPv4 address: kind, length, port, address.
pub const TOA_V4: usize = 8;
/// Bytes of the option with an IPv6 address.
pub const TOA_V6: usize = 20;

/// Length of the header that starts `tcp`, in bytes.
#[inline]
pub fn header_length(tcp: &[u8]) -> usize {
    usize::from(tcp[DATA_OFFSET] >> 4) * 4
}

/// Calls `visit(kind, offset of the option, length)` for each option with a length; stops at the end, or at the first one that does not fit.
fn each_option(tcp: &[u8], mut visit: impl FnMut(u8, usize, usize)) {
    let end = header_length(tcp).min(tcp.len());
    let mut at = HEADER;
    while at < end {
        match tcp[at] {
            OPTION_END => return,
            OPTION_NOP => at += 1,
            kind => {
                let Some(&length) = tcp.get(at + 1) else { return };
                let length = usize::from(length);
                if length < 2 || at + length > end {
                    return;
                }
                visit(kind, at, length);
                at += length;
            }
        }
    }
}

/// Offset of the maximum segment size value (a word) in the header, when there is the option (RFC 9293 section 3.7.1).
pub fn find_mss(tcp: &[u8]) -> Option<usize> {
    let mut found = None;
    each_option(tcp, |kind, at, length| {
        if kind == OPTION_MSS && length == 4 {
            found = Some(at + 2);
        }
    });
    found
}

/// Offset of the first selective acknowledgment edge and how many edges there are (RFC 2018 section 3).
pub fn find_sack_edges(tcp: &[u8]) -> Option<(usize, usize)> {
    let mut found = None;
    each_option(tcp, |kind, at, length| {
        if kind == OPTION_SACK && length >= 10 {
            found = Some((at + 2, (length - 2) / 4));
        }
    });
    found
}

/// Reads the maximum segment size at the offset that [`find_mss`] gave.
#[inline]
pub fn mss_at(tcp: &[u8], at: usize) -> u16 {
    get_u16(tcp, at)
}

/// Makes the header `bytes` longer by the field alone.
#[inline]
pub fn grow_header(tcp: &mut [u8], bytes: usize) {
    let words = (header_length(tcp) + bytes) / 4;
    tcp[DATA_OFFSET] = (words as u8) << 4 | tcp[DATA_OFFSET] & 0x0f;
}

/// Writes the ports.
#[inline]
pub fn put_ports(transport: &mut [u8], source: u16, destination: u16) {
    put_u16(transport, 0, source);
    put_u16(transport, 2, destination);
}
