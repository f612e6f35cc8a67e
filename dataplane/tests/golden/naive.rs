//! The Internet checksum as RFC 1071 words it, one byte pair after another, and SCTP's CRC32c bit by bit. Slow and plain on purpose: it judges the fast one.

/// Adds up 16-bit words, an odd last byte padded with zero, carries added back in. Not complemented.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let all: Vec<u8> = parts.concat();
    let mut total: u64 = 0;
    for pair in all.chunks(2) {
        total += u64::from(pair[0]) * 256 + u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while total > 0xffff {
        total = total % 0x1_0000 + total / 0x1_0000;
    }
    total as u16
}

/// The pseudo-header of TCP, UDP and ICMPv6 for addresses of 4 or 16 bytes.
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let mut pseudo = [source, destination].concat();
    if source.len() == 4 {
        pseudo.extend([0, protocol]);
        pseudo.extend((length as u16).to_be_bytes());
    } else {
        pseudo.extend((length as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol]);
    }
    pseudo
}

/// Whether a message with its checksum in it adds up to "all ones" (minus zero), as every right one does.
pub fn is_right(parts: &[&[u8]]) -> bool {
    sum(parts) == 0xffff
}

/// The CRC32c of RFC 9260 appendix A, one bit after another.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = remainder & 1;
            remainder >>= 1;
            if carry == 1 {
                // The generator polynomial 0x1edc6f41, its bits reversed.
                remainder ^= 0x82f6_3b78;
            }
        }
    }
    !remainder
}

/// The checksum that an SCTP packet must have: that over itself with a checksum of 0.
pub fn sctp_checksum(packet: &[u8]) -> u32 {
    crc32c(&[&packet[..8], &[0; 4], &packet[12..]].concat())
}

#[test]
fn the_check_value_of_crc32c_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
