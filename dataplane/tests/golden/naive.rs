//! The Internet checksum as RFC 1071 words it, one byte pair after another. Slow and plain on purpose: it judges the fast one.

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
