//! The five-tuple and its keyed hash.

use crate::address::Address;

/// What tells connections apart: the tuple as a packet carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Key {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port, host order.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Key {
    /// The tuple of a packet in the other direction.
    pub const fn reversed(&self) -> Key {
        Key {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// Hashes keys with secrets of this boot, so that nobody outside can aim at one bucket.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher([u64; 5]);

#[inline(always)]
fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl KeyHasher {
    /// From random words.
    pub const fn new(secrets: [u64; 5]) -> KeyHasher {
        KeyHasher(secrets)
    }

    /// Random secrets from the standard library's per-process random state.
    pub fn random() -> KeyHasher {
        use std::hash::{BuildHasher, Hasher};
        KeyHasher(std::array::from_fn(|i| {
            let mut hasher = std::hash::RandomState::new().build_hasher();
            hasher.write_usize(i);
            hasher.finish()
        }))
    }

    /// The hash of a key.
    #[inline(always)]
    pub fn hash(&self, key: &Key) -> u64 {
        let [s0, s1, s2, s3, s4] = self.0;
        let (a, b) = key.source.words();
        let (c, d) = key.destination.words();
        let rest = u64::from(key.source_port) << 32 | u64::from(key.destination_port) << 16 | u64::from(key.protocol);
        let addresses = folded_multiply(a ^ s0, b ^ s1 ^ rest) ^ folded_multiply(c ^ s2, d ^ s3);
        folded_multiply(addresses ^ rest, s4 | 1)
    }
}
