//! Which ports the fragments of a datagram belong to: learnt from the first fragment, remembered for a while in a table of fixed size.

use super::key::Key;
use crate::address::Address;
use crate::time::Time;

/// What all fragments of one datagram share (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DatagramKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
}

/// How long a datagram's ports are remembered: Linux's reassembly time (`ipfrag_time`).
const LIFETIME: Time = Time::from_secs(30);
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    key: DatagramKey,
    ports: (u16, u16),
    expires: Time,
}

/// See the module. Four entries share a place; a fifth one there replaces the oldest.
#[derive(Debug)]
pub struct Fragments {
    entries: Box<[[Entry; WAYS]]>,
}

impl Fragments {
    /// Room for about `datagrams` at once.
    pub fn new(datagrams: usize) -> Fragments {
        let places = (datagrams / WAYS).max(1).next_power_of_two();
        Fragments {
            entries: vec![[Entry::default(); WAYS]; places].into_boxed_slice(),
        }
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    /// Remembers the ports of a datagram, whose [`hash_key`] has that hash.
    pub fn remember(&mut self, hash: u64, key: &DatagramKey, ports: (u16, u16), now: Time) {
        let place = self.place(hash);
        let ways = &mut self.entries[place];
        let own = ways.iter().position(|entry| entry.key == *key);
        let oldest = || (0..WAYS).min_by_key(|&way| ways[way].expires).unwrap_or(0);
        let way = own.unwrap_or_else(oldest);
        ways[way] = Entry {
            key: *key,
            ports,
            expires: now + LIFETIME.0,
        };
    }

    /// The ports of a datagram, if its first fragment was seen.
    pub fn find(&self, hash: u64, key: &DatagramKey, now: Time) -> Option<(u16, u16)> {
        let entry = self.entries[self.place(hash)].iter().find(|entry| entry.key == *key)?;
        (entry.expires > now).then_some(entry.ports)
    }
}

/// The datagram's key in the form that [`super::key::KeyHasher`] hashes.
pub fn hash_key(key: &DatagramKey) -> Key {
    Key {
        source: key.source,
        destination: key.destination,
        source_port: (key.id >> 16) as u16,
        destination_port: key.id as u16,
        protocol: key.protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_for_thirty_seconds_and_replaces_the_oldest() {
        let mut fragments = Fragments::new(4);
        let key = |id| DatagramKey {
            id,
            ..DatagramKey::default()
        };
        for id in 1..=5 {
            fragments.remember(7, &key(id), (id as u16, 9), Time::from_secs(u64::from(id)));
        }
        let now = Time::from_secs(6);
        assert_eq!(fragments.find(7, &key(1), now), None, "the oldest of five made room");
        assert_eq!(fragments.find(7, &key(2), now), Some((2, 9)));
        assert_eq!(
            fragments.find(7, &key(5), Time::from_secs(40)),
            None,
            "forgotten after thirty seconds"
        );
    }
}
