//! Which worker a packet belongs to. The answer is what a network card computes by itself when it spreads packets over its queues (receive-side scaling, RSS),
//! so that with a card that is told [`KEY`] and [`worker_of_entry`] every packet arrives at its owner. Without such a card the answer is the same, and packets
//! are redirected.
//!
//! | packet | its owner is found by hashing |
//! |---|---|
//! | client's, service without NAT servers | the tuple; client's address and port where a port has `rss = "source"` |
//! | client's, service with NAT servers | the client's address and port: all that their replies carry of it |
//! | client's, persistent service | the client's address, as many bits of it as make it one client |
//! | persistent service's NAT server's | the same |
//! | NAT server's | the client's address and port |
//! | FullNAT server's | the tuple; local address and port where a port has `rss = "destination"` |
//!
//! With four-tuples a card with `rss = "tuple"` agrees; with one side it is `"source"` towards clients and `"destination"` towards servers.

mod toeplitz;

use crate::address::Address;
use crate::conn::key::Key;
use crate::service::OwnedBy;

pub use toeplitz::{KEY_LENGTH, Toeplitz};

/// The key of the hash: that of Microsoft's RSS verification suite, which is known to spread well and whose results are published. It is no secret, and the
/// same on all directors, so that they agree on local ports.
#[rustfmt::skip]
pub const KEY: [u8; KEY_LENGTH] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Tables for [`KEY`].
pub static TOEPLITZ: Toeplitz = Toeplitz::new(&KEY);

/// The key for a card that wants more bytes than [`KEY`] has (40, 52): repeated. Bytes after the 40th touch no tuple.
pub fn key_of_length(length: usize) -> Vec<u8> {
    KEY.iter().copied().cycle().take(length).collect()
}

/// The fewest entries of an indirection table that are told apart. Most cards have a multiple of it.
const ENTRIES: u32 = 128;

/// Entries that are told apart with so many workers: four for each at least, so that none has more than five where another has four.
pub fn entries(workers: u8) -> u32 {
    (4 * u32::from(workers)).next_power_of_two().max(ENTRIES)
}

/// The worker whose queue stands at this place of a card's indirection table. Holds for tables of any length; the card agrees with the director if the length
/// is a multiple of [`entries`], or, with workers a power of two, not less than their number.
pub fn worker_of_entry(entry: usize, workers: u8) -> u8 {
    let hash = entry as u32;
    worker_of(hash, entries(workers) - 1, workers)
}

#[inline]
fn worker_of(hash: u32, mask: u32, workers: u8) -> u8 {
    ((hash & mask) % u32::from(workers)) as u8
}

/// Which fields of TCP and UDP packets a port's card hashes. What has no ports, such as a fragment, it hashes by both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RssFields {
    /// Addresses and ports of both sides.
    #[default]
    Tuple,
    /// Source address and port: for ports towards the clients of NAT services.
    Source,
    /// Destination address and port: for ports towards NAT servers.
    Destination,
}

impl RssFields {
    /// The hash that a card with [`KEY`] computes for a TCP or UDP packet.
    pub fn hash(self, key: &Key) -> u32 {
        match self {
            RssFields::Tuple => TOEPLITZ.tuple(key),
            RssFields::Source => TOEPLITZ.side(&key.source, key.source_port),
            RssFields::Destination => TOEPLITZ.side(&key.destination, key.destination_port),
        }
    }
}

/// How connections are spread over the workers: one function, the same for all workers for as long as they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    workers: u8,
    mask: u32,
    /// Some port hashes only the source: clients' packets come by that.
    by_source: bool,
    /// Some port hashes only the destination: servers' replies come by that.
    by_destination: bool,
}

impl Steering {
    /// For so many workers (at least one), and ports whose cards hash these fields.
    pub fn new(workers: u8, ports: impl IntoIterator<Item = RssFields>) -> Steering {
        let mut steering = Steering {
            workers: workers.max(1),
            mask: entries(workers) - 1,
            by_source: false,
            by_destination: false,
        };
        for fields in ports {
            steering.by_source |= fields == RssFields::Source;
            steering.by_destination |= fields == RssFields::Destination;
        }
        steering
    }

    /// How many workers there are.
    #[inline]
    pub const fn workers(&self) -> u8 {
        self.workers
    }

    /// The worker at whose queue a TCP or UDP packet arrives on a port whose card is told [`KEY`], [`worker_of_entry`] and these fields.
    pub fn arrives_at(&self, fields: RssFields, key: &Key) -> u8 {
        worker_of(fields.hash(key), self.mask, self.workers)
    }

    /// The owner of a client's packet to a service whose servers' replies do not pass here, or come to a local port that the owner chose.
    #[inline]
    pub fn owner_by_tuple(&self, packet: &Key) -> u8 {
        worker_of(self.hash_of_client(packet), self.mask, self.workers)
    }

    /// The hash that the card of a port towards clients computes for their TCP and UDP packets, if it does as it was told.
    #[inline]
    pub fn hash_of_client(&self, packet: &Key) -> u32 {
        if self.by_source {
            return RssFields::Source.hash(packet);
        }
        RssFields::Tuple.hash(packet)
    }

    /// The owner of a client's packets and the replies to it where these carry nothing else of the connection (NAT).
    #[inline]
    pub fn owner_by_client(&self, address: &Address, port: u16) -> u8 {
        worker_of(TOEPLITZ.side(address, port), self.mask, self.workers)
    }

    /// The owner of a client's packet.
    #[inline]
    pub fn owner(&self, by: OwnedBy, packet: &Key) -> u8 {
        match by {
            OwnedBy::Tuple => self.owner_by_tuple(packet),
            OwnedBy::Client => self.owner_by_client(&packet.source, packet.source_port),
            OwnedBy::Network(prefix_length) => self.owner_by_client(&packet.source.masked(prefix_length), 0),
        }
    }

    /// The owner of a FullNAT server's reply.
    #[inline]
    pub fn owner_of_reply(&self, reply: &Key) -> u8 {
        self.replies(reply).owner(reply.destination_port)
    }

    /// The owners of replies that differ from this one in the local port only.
    #[inline]
    pub fn replies(&self, reply: &Key) -> Replies {
        let (without_port, port_at) = if self.workers == 1 {
            // All are its own.
            (0, 0)
        } else if self.by_destination {
            TOEPLITZ.side_without_port(&reply.destination)
        } else {
            TOEPLITZ.tuple_without_destination_port(reply)
        };
        Replies {
            steering: *self,
            without_port,
            port_at,
        }
    }
}

/// See [`Steering::replies`]. The hash is linear: each port costs its own four table words, not the whole tuple again.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    steering: Steering,
    without_port: u32,
    port_at: usize,
}

impl Replies {
    /// The owner of a reply to this local port.
    #[inline]
    pub fn owner(&self, local_port: u16) -> u8 {
        let hash = self.without_port ^ TOEPLITZ.part(self.port_at, &local_port.to_be_bytes());
        worker_of(hash, self.steering.mask, self.steering.workers)
    }
}

#[cfg(test)]
mod tests;
