//! One address type for both families, so that no file exists twice.

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{Immutable, IntoBytes};

/// The family of an address or packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// An IPv4 or IPv6 address in 16 bytes, network order. IPv4 is held v4-mapped (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2);
/// packets that carry mapped addresses on the wire are dropped by name, so the two never meet.
///
/// The octets are held as two words in the order of memory: as words they travel in registers, while an array of bytes is stored in small pieces and loaded in
/// large ones, for which the processor has to wait (a third of the time of a hit, when it was so).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct Address {
    first: u64,
    last: u64,
}

/// In the second word: `ffff` in front of the IPv4 address, which the mask leaves out.
const V4_PREFIX: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const V4_PREFIX_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
/// Where the IPv4 address stands in the second word.
const V4_SHIFT: u32 = if cfg!(target_endian = "little") { 32 } else { 0 };

impl Address {
    /// `::`, used where there is no address.
    pub const UNSPECIFIED: Address = Address { first: 0, last: 0 };

    /// From the four octets of an IPv4 address.
    #[inline]
    pub const fn v4(octets: [u8; 4]) -> Address {
        Address {
            first: 0,
            last: V4_PREFIX | (u32::from_ne_bytes(octets) as u64) << V4_SHIFT,
        }
    }

    /// From the sixteen octets of an IPv6 address.
    #[inline]
    pub const fn v6(octets: [u8; 16]) -> Address {
        let both = u128::from_be_bytes(octets);
        Address {
            first: ((both >> 64) as u64).to_be(),
            last: (both as u64).to_be(),
        }
    }

    /// Both words, in the order of memory: for hashing and comparing, not for counting.
    #[inline(always)]
    pub const fn words(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// The address as a number, the first octet highest.
    #[inline]
    const fn number(&self) -> u128 {
        (u64::from_be(self.first) as u128) << 64 | u64::from_be(self.last) as u128
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.first == 0 && self.last & V4_PREFIX_MASK == V4_PREFIX
    }

    /// The family of the address.
    #[inline]
    pub fn family(&self) -> Family {
        if self.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// All sixteen octets (mapped for IPv4).
    #[inline]
    pub fn octets(&self) -> &[u8; 16] {
        zerocopy::transmute_ref!(self)
    }

    /// The last four octets: the IPv4 address, when it is one.
    #[inline]
    pub const fn v4_octets(&self) -> [u8; 4] {
        ((self.last >> V4_SHIFT) as u32).to_ne_bytes()
    }

    /// The octets as they stand on the wire: 4 for IPv4, 16 for IPv6.
    #[inline]
    pub fn wire(&self) -> &[u8] {
        if self.is_v4() {
            &self.octets()[12..]
        } else {
            self.octets()
        }
    }

    /// The kernel's address folding for its hashing schedulers (`ip_vs_sh`, `ip_vs_mh`): the IPv4 address as a host-order
    /// word; for IPv6 the XOR of its four words, then to host order.
    pub fn fold(&self) -> u32 {
        if self.is_v4() {
            return u32::from_be_bytes(self.v4_octets());
        }
        self.octets().chunks_exact(4).fold(0, |acc, word| {
            acc ^ u32::from_be_bytes([word[0], word[1], word[2], word[3]])
        })
    }

    /// The first `prefix_length` bits of the address in its own family, the rest zero. 32 or 128 keep it whole.
    pub fn masked(&self, prefix_length: u8) -> Address {
        let skipped = if self.is_v4() { 96 } else { 0 };
        let kept = u32::from(prefix_length) + skipped;
        if kept >= 128 {
            return *self;
        }
        let mask = if kept == 0 { 0 } else { u128::MAX << (128 - kept) };
        Address::v6((self.number() & mask).to_be_bytes())
    }

    /// Loopback, multicast, broadcast or unspecified: never a valid source (RFC 1812 section 5.3.7, RFC 4291 section 2.7).
    #[inline]
    pub fn is_martian_source(&self) -> bool {
        if self.is_v4() {
            let first = self.v4_octets()[0];
            first == 0 || first == 127 || first >= 224
        } else {
            let number = self.number();
            number >> 120 == 0xff || number <= 1
        }
    }
}

impl Ord for Address {
    /// As the octets compare.
    fn cmp(&self, other: &Address) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Address) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        match ip {
            IpAddr::V4(v4) => Address::v4(v4.octets()),
            IpAddr::V6(v6) => Address::v6(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> IpAddr {
        if address.is_v4() {
            IpAddr::V4(Ipv4Addr::from(address.v4_octets()))
        } else {
            IpAddr::V6(Ipv6Addr::from(*address.octets()))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_round_trip_and_mask() {
        let v4 = Address::from("192.0.2.77".parse::<IpAddr>().unwrap());
        let v6 = Address::from("2001:db8::7".parse::<IpAddr>().unwrap());
        assert_eq!((v4.family(), v6.family()), (Family::V4, Family::V6));
        assert_eq!(v4.wire(), [192, 0, 2, 77]);
        assert_eq!(v4.masked(24).to_string(), "192.0.2.0");
        assert_eq!(v6.masked(32).to_string(), "2001:db8::");
        assert_eq!(v4.masked(0).to_string(), "0.0.0.0");
        assert_eq!(v6.masked(128), v6);
        assert_eq!(v4.fold(), 0xc000_024d);
    }
}
