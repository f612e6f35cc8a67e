//! Consistent hashing as DPVS has it (`-s conhash`, hash target source address), so that directors of both kinds send a client to the
//! same server: a ring of points on which each server has many, by its weight; a client goes to the first point at or after its own.
//!
//! - A server has 160 points for each `weight / divisor`, the divisor being the greatest common one of all weights. Point n is the hash
//!   of the text `ADDRESSPORT-n`: the address as one writes it, the port as the number that its two octets give in little-endian order,
//!   n with at least three digits. A server of weight 0 has none: its clients go on to the next points, nobody else moves.
//! - A client's place is the hash of the decimal number that its address gives in little-endian order; IPv6: the XOR of its four words.
//!   With the flag `conhash-port` (DPVS has none) `:PORT` follows in plain decimal.
//! - The hash: the four little-endian words of the text's MD5 are added up in 64 bits, mixed by Jenkins' six shifts, and multiplied by
//!   3221225473. Points are in the order of signed numbers; after the highest comes the lowest. Of two points with one hash, the older
//!   server's stays.
//! - Only where DPVS would make more than [`POINT_LIMIT`] points are all servers' shares cut down to fit.

use std::io::Write;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::wrr::greatest_common_divisor;
use super::{Algorithm, Client, SchedulerTable, TooManyServers};
use crate::address::Address;
use crate::service::{Loads, Server, Service};

const POINTS_PER_WEIGHT: u64 = 160;

/// Points of one service: 4 MB, made in a tenth of a second.
pub(super) const POINT_LIMIT: u64 = 1 << 18;

/// One point of a server on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPoint {
    hash: i64,
    /// Place in `Service::servers`.
    place: u32,
}

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conhash;

impl Algorithm for Conhash {
    fn start(_servers: &[Server]) -> Conhash {
        Conhash
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let SchedulerTable::Ring(ring) = &service.scheduler_table else {
            return None;
        };
        let own = client_hash(client.address, service.scheduler_flags.port.then_some(client.port));
        let at = ring.partition_point(|point| point.hash < own);
        let place = ring.get(at).or(ring.first())?.place as usize;
        let server = service.servers.get(place)?;
        loads.is_usable(server).then_some(place)
    }

    fn table(servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
        let divisor = servers
            .iter()
            .fold(0, |divisor, server| greatest_common_divisor(divisor, server.weight));
        let full = |server: &Server| u64::from(server.weight / divisor.max(1)) * POINTS_PER_WEIGHT;
        let total = servers.iter().map(full).sum::<u64>().max(1);
        let count = |server: &Server| match full(server) {
            0 => 0,
            full if total <= POINT_LIMIT => full,
            full => (u128::from(full) * u128::from(POINT_LIMIT) / u128::from(total)).max(1) as u64,
        };
        let mut ring: Vec<RingPoint> = Vec::new();
        // The oldest server is the last of the list.
        for (place, server) in servers.iter().enumerate().rev() {
            let points = (0..count(server)).map(|number| RingPoint {
                hash: point_hash(server, number),
                place: place as u32,
            });
            ring.extend(points);
        }
        // Stable: of equal points the first added comes first.
        ring.sort_by_key(|point| point.hash);
        ring.dedup_by_key(|point| point.hash);
        Ok(SchedulerTable::Ring(Arc::from(ring)))
    }
}

fn point_hash(server: &Server, number: u64) -> i64 {
    let port = server.port.swap_bytes();
    let mut text = Text::default();
    text.write(format_args!("{}{port}-{number:03}", server.address));
    text.hash()
}

fn client_hash(address: Address, port: Option<u16>) -> i64 {
    let mut text = Text::default();
    text.write(format_args!("{}", address.fold().swap_bytes()));
    if let Some(port) = port {
        text.write(format_args!(":{port}"));
    }
    text.hash()
}

/// A short text without a heap.
struct Text {
    bytes: [u8; 80],
    length: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; 80],
            length: 0,
        }
    }
}

impl Text {
    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let mut rest = &mut self.bytes[self.length..];
        let before = rest.len();
        // The longest address, port and number take 39 + 5 + 1 + 20 characters: it cannot fail.
        let written = rest.write_fmt(text);
        debug_assert!(written.is_ok());
        self.length += before - rest.len();
    }

    fn hash(&self) -> i64 {
        let digest = Md5::digest(&self.bytes[..self.length]);
        let words = digest.as_slice().chunks_exact(4);
        let sum = words
            .map(|word| u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
            .sum();
        mix(sum).wrapping_mul(3_221_225_473) as i64
    }
}

/// Bob Jenkins' integer hash of six shifts, carried out in 64 bits.
fn mix(a: u64) -> u64 {
    let a = a.wrapping_add(0x7ed5_5d16).wrapping_add(a << 12);
    let a = (a ^ 0xc761_c23c) ^ (a >> 19);
    let a = a.wrapping_add(0x1656_67b1).wrapping_add(a << 5);
    let a = a.wrapping_add(0xd3a2_646c) ^ (a << 9);
    let a = a.wrapping_add(0xfd70_46c5).wrapping_add(a << 3);
    (a ^ 0xb55a_4f09) ^ (a >> 16)
}

#[cfg(test)]
mod tests {
    use super::{Conhash, POINT_LIMIT, POINTS_PER_WEIGHT, RingPoint, client_hash, point_hash};
    use crate::address::Address;
    use crate::scheduler::SchedulerKind;
    use crate::scheduler::tests::{SERVER_LIMIT, client, picks, server, service};
    use crate::scheduler::{Algorithm, Client, SchedulerState, SchedulerTable, pick};
    use crate::service::{Loads, Server};

    fn ring(servers: &[Server]) -> Vec<RingPoint> {
        match Conhash::table(servers).unwrap() {
            SchedulerTable::Ring(ring) => ring.to_vec(),
            _ => panic!("conhash has a ring"),
        }
    }

    /// The numbers are those of DPVS's construction carried out with another language's MD5.
    #[test]
    fn places_are_those_of_dpvs() {
        let eleven = Server {
            address: Address::v4([10, 0, 2, 11]),
            ..server(0, 1)
        };
        assert_eq!(point_hash(&eleven, 0), -3_207_625_125_376_383_853);
        assert_eq!(
            client_hash(Address::v4([1, 128, 30, 172]), None),
            8_855_803_296_765_955_394
        );

        let mut service = service(SchedulerKind::Conhash, &[1, 2, 0, 3]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let mut place = |service: &_, address: &str, port| {
            let address = address.parse::<std::net::IpAddr>().unwrap().into();
            let client = Client {
                address,
                port,
                ..client(0)
            };
            pick(&mut state, service, &loads, &client).unwrap()
        };
        let v4 = (0..24).map(|last| place(&service, &format!("172.16.0.{last}"), 1));
        let expected = [3, 3, 1, 3, 1, 3, 1, 0, 1, 3, 3, 0, 3, 0, 1, 1, 3, 1, 1, 1, 3, 3, 1, 3];
        assert_eq!(v4.collect::<Vec<_>>(), expected);
        let v6 = ["2001:db8::1", "2001:db8::7", "2001:db8:1::9"].map(|address| place(&service, address, 1));
        assert_eq!(v6, [3, 1, 1]);
        service.scheduler_flags.port = true;
        let with_port = (1024..1036).map(|port| place(&service, "172.16.0.1", port));
        assert_eq!(with_port.collect::<Vec<_>>(), [1, 3, 1, 1, 1, 3, 3, 1, 0, 3, 1, 3]);
    }

    #[test]
    fn points_follow_the_weights_within_the_limit() {
        let counts = |weights: &[u32]| {
            let servers: Vec<Server> = (0..).zip(weights).map(|(slot, weight)| server(slot, *weight)).collect();
            let ring = ring(&servers);
            assert!(ring.is_sorted_by(|a, b| a.hash < b.hash));
            let of_place = |place| ring.iter().filter(|point| point.place == place).count() as u64;
            (0..weights.len() as u32).map(of_place).collect::<Vec<u64>>()
        };
        assert_eq!(counts(&[20, 0, 40]), [160, 0, 320]);
        assert_eq!(counts(&[0, 0]), [0, 0]);
        let cut = counts(&[1, u32::MAX]);
        assert_eq!(cut[0], 1);
        assert!(
            (POINT_LIMIT - POINTS_PER_WEIGHT..=POINT_LIMIT).contains(&cut[1]),
            "{cut:?}"
        );
    }

    #[test]
    fn quiescing_moves_only_the_servers_own_clients() {
        let old = service(SchedulerKind::Conhash, &[1, 1, 1]);
        let new = service(SchedulerKind::Conhash, &[1, 0, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&old);
        let before = picks(&mut state, &old, &loads, 300);
        let after = picks(&mut state, &new, &loads, 300);
        for (before, after) in before.into_iter().zip(after) {
            assert!(after == before || before == Some(1));
            assert_ne!(after, Some(1));
        }
    }

    #[test]
    fn a_ring_of_servers_that_are_gone_leads_nowhere_wrong() {
        let mut stale = service(SchedulerKind::Conhash, &[1; 10]);
        stale.servers.truncate(3);
        stale.servers[1].weight = 0;
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&stale);
        let picked = picks(&mut state, &stale, &loads, 300);
        assert!(picked.iter().all(|place| matches!(place, None | Some(0 | 2))));
        assert!(picked.contains(&Some(0)) && picked.contains(&None));
    }
}
