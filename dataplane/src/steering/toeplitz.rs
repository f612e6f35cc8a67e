//! The Toeplitz hash of receive-side scaling: the XOR, over all bits of the input that are 1, of the 32 bits of the key that begin at that bit.

use crate::address::Address;
use crate::conn::key::Key;

/// Bytes of a key: as many as the longest input (two IPv6 addresses, two ports) has, and four.
pub const KEY_LENGTH: usize = 40;
/// Half bytes in the longest input.
const NIBBLES: usize = 2 * (KEY_LENGTH - 4);

/// A key, made ready: for each half byte of the input, what each of its 16 values adds to the hash. A row is one cache line, and an IPv4 tuple uses the same 24
/// lines every time; whole bytes would halve the steps but spread them over 12 KiB.
#[derive(Clone, Debug)]
pub struct Toeplitz([[u32; 16]; NIBBLES]);

impl Toeplitz {
    /// Computes the tables.
    pub const fn new(key: &[u8; KEY_LENGTH]) -> Toeplitz {
        let mut rows = [[0; 16]; NIBBLES];
        let mut nibble = 0;
        while nibble < NIBBLES {
            let mut value = 0;
            while value < 16 {
                let mut bit = 0;
                while bit < 4 {
                    if value & (8 >> bit) != 0 {
                        rows[nibble][value] ^= window(key, 4 * nibble + bit);
                    }
                    bit += 1;
                }
                value += 1;
            }
            nibble += 1;
        }
        Toeplitz(rows)
    }

    /// What `bytes` add to the hash when they stand at byte `at` of the input. Parts are put together by XOR.
    #[inline(always)]
    pub fn part(&self, at: usize, bytes: &[u8]) -> u32 {
        let rows = self.0[2 * at..].chunks_exact(2);
        let add = |hash, (byte, rows): (&u8, &[[u32; 16]])| {
            hash ^ rows[0][usize::from(byte >> 4)] ^ rows[1][usize::from(byte & 15)]
        };
        bytes.iter().zip(rows).fold(0, add)
    }

    /// The hash of source address, destination address, source port, destination port.
    #[inline]
    pub fn tuple(&self, key: &Key) -> u32 {
        let (hash, port_at) = self.tuple_without_destination_port(key);
        hash ^ self.part(port_at, &key.destination_port.to_be_bytes())
    }

    /// The hash of one side's address and port.
    #[inline]
    pub fn side(&self, address: &Address, port: u16) -> u32 {
        let (hash, port_at) = self.side_without_port(address);
        hash ^ self.part(port_at, &port.to_be_bytes())
    }

    /// The hash of both addresses: of packets without ports.
    #[inline]
    pub fn addresses(&self, source: &Address, destination: &Address) -> u32 {
        let (hash, length) = self.side_without_port(source);
        hash ^ self.address(length, destination)
    }

    /// A tuple's hash without its last part, and where in the input that stands.
    #[inline]
    pub(super) fn tuple_without_destination_port(&self, key: &Key) -> (u32, usize) {
        let ports_at = if key.source.is_v4() { 8 } else { 32 };
        let hash = self.addresses(&key.source, &key.destination) ^ self.part(ports_at, &key.source_port.to_be_bytes());
        (hash, ports_at + 2)
    }

    /// The same for one side.
    #[inline]
    pub(super) fn side_without_port(&self, address: &Address) -> (u32, usize) {
        let length = if address.is_v4() { 4 } else { 16 };
        (self.address(0, address), length)
    }

    #[inline]
    fn address(&self, at: usize, address: &Address) -> u32 {
        if address.is_v4() {
            self.part(at, &address.v4_octets())
        } else {
            self.part(at, address.octets())
        }
    }
}

/// The 32 bits of the key from a bit on.
const fn window(key: &[u8; KEY_LENGTH], bit: usize) -> u32 {
    let mut bits = 0;
    let mut i = 0;
    while i < 5 {
        bits = bits << 8 | key[bit / 8 + i] as u64;
        i += 1;
    }
    (bits >> (8 - bit % 8)) as u32
}
