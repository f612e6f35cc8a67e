//! Source hashing: 256 buckets, filled with each server as often as its weight says, in list order and round and round.
//!
//! A server of weight 0 gets one bucket in each round too, as in the kernel: its clients have no server (or, with `sh-fallback`,
//! another one) instead of moving everybody else.

use super::buckets::{BUCKET_COUNT, bucket_of, pick_by_hash};
use super::{Algorithm, Client, SchedulerTable, TooManyServers};
use crate::service::{Loads, Server, Service};

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
        let own = bucket_of(client.address.fold().wrapping_add(port));
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

#[cfg(test)]
mod tests {
    use super::Sh;
    use crate::scheduler::SchedulerKind;
    use crate::scheduler::tests::{SERVER_LIMIT, client, overload, picks, server, service};
    use crate::scheduler::{Algorithm, SchedulerState, SchedulerTable, pick};
    use crate::service::Loads;

    fn buckets(weights: &[u32]) -> Vec<u16> {
        let servers: Vec<_> = weights
            .iter()
            .zip(0..)
            .map(|(weight, slot)| server(slot, *weight))
            .collect();
        let SchedulerTable::Buckets(buckets) = Sh::table(&servers).unwrap() else {
            panic!("sh has a table")
        };
        buckets.to_vec()
    }

    #[test]
    fn buckets_repeat_by_weight_and_one_for_weight_zero() {
        let table = buckets(&[2, 0, 1]);
        assert_eq!(table.len(), 256);
        assert_eq!(table[..8], [0, 0, 1, 2, 0, 0, 1, 2]);
        assert_eq!(buckets(&[1000, 1]), [0; 256], "the first server takes all");
        assert_eq!(buckets(&[]), []);
    }

    #[test]
    fn an_address_stays_with_its_server_and_the_port_counts_only_with_the_flag() {
        let mut service = service(SchedulerKind::Sh, &[1, 1, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let mut of_port = |service: &_, port| {
            pick(
                &mut state,
                service,
                &loads,
                &crate::scheduler::Client { port, ..client(1) },
            )
        };
        let without: Vec<_> = (1..20).map(|port| of_port(&service, port)).collect();
        assert!(without.iter().all(|place| place.is_some() && *place == without[0]));
        service.scheduler_flags.port = true;
        let with: Vec<_> = (1..20).map(|port| of_port(&service, port)).collect();
        assert!(with.iter().any(|place| *place != with[0]));
    }

    #[test]
    fn the_clients_of_a_lost_server_move_only_with_fallback() {
        let mut service = service(SchedulerKind::Sh, &[1, 1, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let before = picks(&mut state, &service, &loads, 100);
        overload(&loads, &service.servers[1]);
        let strict = picks(&mut state, &service, &loads, 100);
        service.scheduler_flags.fallback = true;
        let moved = picks(&mut state, &service, &loads, 100);
        for ((before, strict), moved) in before.into_iter().zip(strict).zip(moved) {
            if before == Some(1) {
                assert_eq!(strict, None);
                assert!(matches!(moved, Some(0 | 2)));
            } else {
                assert_eq!((strict, moved), (before, before));
            }
        }
    }
}
