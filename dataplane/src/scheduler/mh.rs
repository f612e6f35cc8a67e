//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4), with the kernel's table
//! size, hash and weights.
//!
//! The table is built from each server's last weight that was not 0, so that quiescing a server moves no client of another one.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::buckets::pick_by_hash;
use super::wrr::greatest_common_divisor;
use super::{Algorithm, Client, SchedulerTable, TooManyServers};
use crate::address::Address;
use crate::service::{Loads, Server, Service};

/// A prime, the size that kernels are built with (`IP_VS_MH_TAB_INDEX` 12).
const BUCKET_COUNT: u32 = 4093;

/// A server's largest number of turns in a round takes this many bits (half the kernel's table index).
const TURN_BITS: u32 = 6;

/// Both key words of the hash that places clients, and where a server starts.
const CLIENT_KEY: u64 = 2_654_435_761;

/// Both key words of the hash that says how a server goes on.
const SKIP_KEY: u64 = 2_654_446_892;

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mh;

impl Algorithm for Mh {
    fn start(_servers: &[Server]) -> Mh {
        Mh
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let port = if service.scheduler_flags.port { client.port } else { 0 };
        pick_by_hash(service, loads, BUCKET_COUNT, |offset| {
            hash(client.address, port, offset, CLIENT_KEY) % BUCKET_COUNT
        })
    }

    fn table(servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
        if servers.len() > BUCKET_COUNT as usize {
            return Err(TooManyServers {
                count: servers.len(),
                limit: BUCKET_COUNT as usize,
            });
        }
        let mut preferences: Vec<Preference> = preferences(servers);
        if preferences.is_empty() {
            return Ok(SchedulerTable::default());
        }
        Ok(SchedulerTable::Buckets(populate(&mut preferences).into()))
    }
}

/// The kernel's hash: SipHash-1-3 over one 32-bit word, of which 64-bit kernels keep the low half.
fn hash(address: Address, port: u16, offset: u32, key: u64) -> u32 {
    let value = offset.wrapping_add(u32::from(port)).wrapping_add(address.fold());
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&value.to_le_bytes());
    hasher.finish() as u32
}

/// The order in which a server wants the buckets: from `next` on in steps of `skip`, `turns` of them at a time.
struct Preference {
    place: u16,
    next: u32,
    skip: u32,
    turns: u32,
}

/// The preferences of all servers that ever had a weight, in list order.
fn preferences(servers: &[Server]) -> Vec<Preference> {
    let divisor = servers
        .iter()
        .fold(0, |divisor, server| {
            greatest_common_divisor(divisor, server.last_weight)
        })
        .max(1);
    let highest = servers.iter().map(|server| server.last_weight).max().unwrap_or(0);
    let shift = (u32::BITS - (highest / divisor).leading_zeros()).saturating_sub(TURN_BITS);
    let weighted = servers.iter().zip(0_u16..).filter(|(server, _)| server.last_weight > 0);
    weighted
        .map(|(server, place)| Preference {
            place,
            next: hash(server.address, server.port, 0, CLIENT_KEY) % BUCKET_COUNT,
            skip: hash(server.address, server.port, 0, SKIP_KEY) % (BUCKET_COUNT - 1) + 1,
            turns: ((server.last_weight / divisor) >> shift).max(1),
        })
        .collect()
}

/// Lets the servers choose their next free bucket in turn until none is left.
fn populate(preferences: &mut [Preference]) -> Vec<u16> {
    let mut buckets: Vec<Option<u16>> = vec![None; BUCKET_COUNT as usize];
    let mut free = BUCKET_COUNT;
    while free > 0 {
        for preference in preferences.iter_mut() {
            for _ in 0..preference.turns.min(free) {
                while buckets[preference.next as usize].is_some() {
                    preference.next = (preference.next + preference.skip) % BUCKET_COUNT;
                }
                buckets[preference.next as usize] = Some(preference.place);
                free -= 1;
            }
        }
    }
    buckets.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{BUCKET_COUNT, Mh};
    use crate::scheduler::tests::{SERVER_LIMIT, of_servers, picks, server, service};
    use crate::scheduler::{Algorithm, SchedulerKind, SchedulerState, SchedulerTable, TooManyServers};
    use crate::service::{Loads, Server};

    fn buckets(servers: &[Server]) -> Vec<u16> {
        match Mh::table(servers).unwrap() {
            SchedulerTable::Buckets(buckets) => buckets.to_vec(),
            _ => Vec::new(),
        }
    }

    fn share(buckets: &[u16], place: u16) -> usize {
        buckets.iter().filter(|bucket| **bucket == place).count()
    }

    #[test]
    fn shares_follow_the_weights() {
        let table = buckets(&[server(0, 10), server(1, 20), server(2, 0)]);
        assert_eq!(table.len(), BUCKET_COUNT as usize);
        assert_eq!((share(&table, 0), share(&table, 1), share(&table, 2)), (1365, 2728, 0));
        assert_eq!(buckets(&[server(0, 0)]), [], "no server ever had a weight");
    }

    #[test]
    fn quiescing_moves_nobody_else() {
        let mut old = service(SchedulerKind::Mh, &[1, 1, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&old);
        let before = picks(&mut state, &old, &loads, 200);
        old.servers[1].weight = 0;
        let quiesced = of_servers(SchedulerKind::Mh, old.servers);
        let after = picks(&mut state, &quiesced, &loads, 200);
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(after, before.filter(|place| *place != 1));
        }
    }

    #[test]
    fn a_lost_server_moves_few_of_the_others_clients() {
        let all: Vec<Server> = (0..10).map(|slot| server(slot, 1)).collect();
        let (with, without) = (buckets(&all), buckets(&all[..9]));
        let moved = with
            .iter()
            .zip(&without)
            .filter(|(with, without)| **with != 9 && with != without)
            .count();
        assert!(
            moved < BUCKET_COUNT as usize / 10,
            "{moved} of {BUCKET_COUNT} buckets moved"
        );
    }

    #[test]
    fn more_servers_than_buckets_are_refused() {
        let servers: Vec<Server> = (0..=BUCKET_COUNT).map(|slot| server(slot, 1)).collect();
        assert_eq!(
            Mh::table(&servers).err(),
            Some(TooManyServers {
                count: 4094,
                limit: 4093
            })
        );
        assert_eq!(buckets(&servers[1..]).len(), 4093);
    }
}
