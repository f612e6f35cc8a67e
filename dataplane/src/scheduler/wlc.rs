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

#[cfg(test)]
mod tests {
    use super::is_less;
    use crate::scheduler::SchedulerKind::Wlc;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, client, service};
    use crate::scheduler::{Client, pick};
    use crate::service::Loads;

    #[test]
    fn connections_follow_the_weights() {
        let service = service(Wlc, &[1, 0, 3]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let mut open = |client: &Client| {
            let place = pick(&mut state, &service, &loads, client).expect("two usable servers");
            loads
                .get(service.servers[place].slot)
                .open(&service.servers[place], true);
            place
        };
        let places: Vec<usize> = (0..8).map(|number| open(&client(number))).collect();
        assert_eq!(places, [0, 2, 2, 2, 0, 2, 2, 2]);
    }

    #[test]
    fn the_largest_numbers_compare_without_overflow() {
        assert!(is_less(1, 1, u64::MAX, u32::MAX));
        assert!(!is_less(u64::MAX, u32::MAX, u64::MAX, u32::MAX));
    }
}
