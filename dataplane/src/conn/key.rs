//! The five-tuple and its keyed hash.

use crate::address::Address;
use crate::wire::checksum::Sum;

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

/// What checksums change by when one tuple takes another's place: the same for every packet of a connection, so it is computed once (a sixth of a NAT hit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TupleChange {
    addresses: u16,
    all: u16,
}

impl TupleChange {
    /// From `old` to `new`.
    pub fn new(old: &Key, new: &Key) -> TupleChange {
        let addresses = |key: &Key| Sum::of_address(&key.source).plus(Sum::of_address(&key.destination));
        let ports = |key: &Key| Sum(u32::from(key.source_port) + u32::from(key.destination_port));
        let of_addresses = addresses(new).minus(addresses(old));
        TupleChange {
            addresses: of_addresses.fold(),
            all: of_addresses.plus(ports(new)).minus(ports(old)).fold(),
        }
    }

    /// Of the change back.
    #[inline]
    pub const fn reversed(self) -> TupleChange {
        TupleChange {
            addresses: !self.addresses,
            all: !self.all,
        }
    }

    /// For the IPv4 header, which has the addresses only.
    #[inline]
    pub const fn of_addresses(self) -> Sum {
        Sum(self.addresses as u32)
    }

    /// For the TCP or UDP header with its pseudo-header.
    #[inline]
    pub const fn of_all(self) -> Sum {
        Sum(self.all as u32)
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
        let [s0, s1, s2, s3, _] = self.0;
        let (a, b) = key.source.words();
        let (c, d) = key.destination.words();
        let rest = u64::from(key.source_port) << 32 | u64::from(key.destination_port) << 16 | u64::from(key.protocol);
        // Ports and protocol go into the second product, where the client's address is hidden in the first one already: next to the address itself they could
        // cancel each other out, whatever the secrets are.
        folded_multiply(folded_multiply(a ^ s0, b ^ s1) ^ c ^ s2 ^ rest, d ^ s3)
    }
}
