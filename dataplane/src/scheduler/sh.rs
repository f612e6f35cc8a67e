//! Source hashing: 256 buckets, filled with each server as often as its weight says, in list order and round and round.
//!
//! A server of weight 0 gets one bucket in each round too, as in the kernel: its clients have no server (or, with `sh-fallback`,
//! another one) instead of moving everybody else.

use super::buckets::pick_by_hash;
use super::{Algorithm, Client, SchedulerTable, TooManyServers};
use crate::service::{Loads, Server, Service};

const BUCKET_BITS: u32 = 8;
const BUCKET_COUNT: u32 = 1 << BUCKET_BITS;

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sh;

impl Algorithm for Sh {
    fn start(_servers: &[Server]) -> Sh {
        Sh
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let port = if service.scheduler_flags.port {
            u32::from(client.port)
        } else {
            0
        };
        let own = golden_ratio_hash(client.address.fold().wrapping_add(port));
        pick_by_hash(service, loads, BUCKET_COUNT, |offset| {
            offset.wrapping_add(own) % BUCKET_COUNT
        })
    }

    fn table(servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
        // Every server takes at least one bucket, so no place beyond 255 is ever reached.
        let round = servers.iter().take(BUCKET_COUNT as usize).zip(0_u16..);
        let repeated = round.flat_map(|(server, place)| {
            let times = server.weight.clamp(1, BUCKET_COUNT) as usize;
            std::iter::repeat_n(place, times)
        });
        Ok(SchedulerTable::Buckets(
            repeated.cycle().take(BUCKET_COUNT as usize).collect(),
        ))
    }
}

/// The kernel's `hash_32`: the top bits of a multiplication by the golden ratio's fraction, as kernels from 4.7 on have it.
fn golden_ratio_hash(value: u32) -> u32 {
    value.wrapping_mul(0x61c8_8647) >> (32 - BUCKET_BITS)
}
