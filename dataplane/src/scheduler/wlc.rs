//! Weighted least connections: the usable server with the smallest overhead for its weight; among equals the first in list order.

use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wlc;

impl Algorithm for Wlc {
    fn start(_servers: &[Server]) -> Wlc {
        Wlc
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let mut least: Option<(usize, u64, u32)> = None;
        for (place, server) in service
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| loads.is_usable(server))
        {
            let overhead = loads.get(server.slot).overhead();
            if least.is_none_or(|(_, least_overhead, least_weight)| {
                is_less(overhead, server.weight, least_overhead, least_weight)
            }) {
                least = Some((place, overhead, server.weight));
            }
        }
        least.map(|(place, ..)| place)
    }
}

/// Whether `overhead / weight` is less than `other / other_weight`, multiplied out so that nothing is rounded.
fn is_less(overhead: u64, weight: u32, other: u64, other_weight: u32) -> bool {
    u128::from(overhead) * u128::from(other_weight) < u128::from(other) * u128::from(weight)
}
