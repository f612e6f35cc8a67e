//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Two things are easily mixed up, so they have types of their own: a [`Sum`] is a running one's-complement sum, *not* complemented; the
//! `u16` in a header is its complement. An update never subtracts: `~m` is added where `m` goes away (RFC 1624 equation 3), which also
//! keeps the two zeros of one's complement apart.

use crate::address::Address;

/// A running one's-complement sum of big-endian 16-bit words, not folded: room for the sums of thousands of pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(pub u32);

impl Sum {
    /// The sum of `bytes`, which start at an even offset of the message; an odd last byte is padded with zero (RFC 1071 section 4.1).
    pub fn of(bytes: &[u8]) -> Sum {
        // Words are added in the machine's byte order and swapped once at the end (RFC 1071 section 2.B), 32 bits at a time.
        let mut total: u64 = 0;
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            total += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let rest = words.remainder();
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        total += u64::from(u32::from_ne_bytes(last));
        Sum::of_native(total)
    }

    /// The same for a length that is known when this is compiled, and a multiple of four: no loop is left of it.
    #[inline(always)]
    pub fn of_words<const N: usize>(bytes: &[u8; N]) -> Sum {
        const { assert!(N % 4 == 0) };
        let mut total: u64 = 0;
        for at in (0..N).step_by(4) {
            total += u64::from(u32::from_ne_bytes([
                bytes[at],
                bytes[at + 1],
                bytes[at + 2],
                bytes[at + 3],
            ]));
        }
        Sum::of_native(total)
    }

    /// The same for words in the machine's byte order, as they lie in memory.
    #[inline(always)]
    pub fn of_native_words<const N: usize>(words: &[u32; N]) -> Sum {
        Sum::of_native(words.iter().map(|&word| u64::from(word)).sum())
    }

    /// From a total of words in the machine's byte order.
    #[inline(always)]
    fn of_native(total: u64) -> Sum {
        // A number plus itself with its halves swapped: the upper half of that is the sum of both halves with the carry brought round.
        let halves = (total.wrapping_add(total.rotate_left(32)) >> 32) as u32;
        Sum(u32::from(u16::from_be(Sum(halves).fold())))
    }

    /// The sum of an address as it stands on the wire.
    #[inline]
    pub fn of_address(address: &Address) -> Sum {
        if address.is_v4() {
            let word = u32::from_be_bytes(address.v4_octets());
            return Sum((word >> 16) + (word & 0xffff));
        }
        let (first, last) = address.words();
        let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
        Sum::of_native(halves(first) + halves(last))
    }

    /// The pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 section 3.1, RFC 8200 section 8.1). `length` is that of the upper layer.
    pub fn of_pseudo_header(source: &Address, destination: &Address, protocol: u8, length: u32) -> Sum {
        Sum::of_address(source)
            .plus(Sum::of_address(destination))
            .plus(Sum(u32::from(protocol)))
            .plus(Sum((length & 0xffff) + (length >> 16)))
    }

    /// Adds another sum.
    #[inline]
    pub const fn plus(self, other: Sum) -> Sum {
        Sum(self.0 + other.0)
    }

    /// Adds a word.
    #[inline]
    pub const fn plus_word(self, word: u16) -> Sum {
        Sum(self.0 + word as u32)
    }

    /// Takes a word away again: adds its complement.
    #[inline]
    pub const fn minus_word(self, word: u16) -> Sum {
        self.plus_word(!word)
    }

    /// Takes another sum away again.
    #[inline]
    pub const fn minus(self, other: Sum) -> Sum {
        self.plus_word(!other.fold())
    }

    /// The sum as one word.
    #[inline]
    pub const fn fold(self) -> u16 {
        // As in `of_native`: the upper half is the sum of both halves with the carry brought round.
        (self.0.wrapping_add(self.0.rotate_left(16)) >> 16) as u16
    }

    /// What goes into a header's checksum field for a message with this sum.
    #[inline]
    pub const fn to_checksum(self) -> u16 {
        !self.fold()
    }
}

/// A checksum field after the message changed by `delta` (what was added minus what was taken away).
#[inline]
pub const fn update(checksum: u16, delta: Sum) -> u16 {
    // RFC 1624 equation 3: HC' = ~(~HC + ~m + m')
    !(Sum(!checksum as u32).plus(delta).fold())
}

/// Sums a message that lies in several pieces, any of which may have an odd length.
pub fn sum_of_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Sum {
    let mut total = Sum::default();
    let mut at_odd_offset = false;
    for piece in pieces {
        let sum = Sum::of(piece).fold();
        // A piece at an odd offset has its bytes in the other halves of the words (RFC 1071 section 2.B).
        total = total.plus_word(if at_odd_offset { sum.swap_bytes() } else { sum });
        at_odd_offset ^= piece.len() % 2 == 1;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum: u64 = 0;
        for word in bytes.chunks(2) {
            sum += u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// 0x0000 and 0xffff are the same number in one's complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a | b == 0xffff && a & b == 0 && (a == 0 || b == 0))
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
    }

    proptest! {
        #[test]
        fn sum_equals_the_naive_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(same(Sum::of(&bytes).fold(), naive(&bytes)));
        }

        #[test]
        fn pieces_equal_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..200), a in 0usize..200, b in 0usize..200) {
            let (a, b) = (a.min(bytes.len()), b.min(bytes.len()));
            let (a, b) = (a.min(b), a.max(b));
            let pieces = [&bytes[..a], &bytes[a..b], &bytes[b..]];
            prop_assert!(same(sum_of_pieces(pieces.into_iter()).fold(), naive(&bytes)));
        }

        #[test]
        fn incremental_equals_full(mut bytes in proptest::collection::vec(any::<u8>(), 4..200), at in 0usize..100, new in any::<u16>()) {
            let at = (at * 2).min((bytes.len() - 2) / 2 * 2);
            let before = Sum::of(&bytes).to_checksum();
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let after = update(before, Sum::default().minus_word(old).plus_word(new));
            prop_assert!(same(after, !naive(&bytes)), "{after:04x} {:04x}", !naive(&bytes));
        }
    }
}
