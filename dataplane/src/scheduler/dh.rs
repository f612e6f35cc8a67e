//! Destination hashing: 256 buckets, filled with the servers in list order, round and round whatever their weights; the address that
//! the client called picks the bucket. When the server in it is not usable, there is none.
//!
//! A service for one address has one server with it: dh is for services that take many addresses, in front of caches.

use super::buckets::{BUCKET_COUNT, bucket_of};
use super::{Algorithm, Client, SchedulerTable, TooManyServers};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dh;

impl Algorithm for Dh {
    fn start(_servers: &[Server]) -> Dh {
        Dh
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let SchedulerTable::Buckets(buckets) = &service.scheduler_table else {
            return None;
        };
        let place = usize::from(*buckets.get(bucket_of(client.called.fold()) as usize)?);
        let server = service.servers.get(place)?;
        loads.is_usable(server).then_some(place)
    }

    fn table(servers: &[Server]) -> Result<SchedulerTable, TooManyServers> {
        // The kernel's table has no place for more servers than buckets either.
        let round = (0..servers.len().min(BUCKET_COUNT as usize) as u16).cycle();
        Ok(SchedulerTable::Buckets(round.take(BUCKET_COUNT as usize).collect()))
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Dh;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, overload, picks, service};
    use crate::service::Loads;

    #[test]
    fn an_address_stays_with_its_server_or_has_none() {
        let mut service = service(Dh, &[1, 100, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let before = picks(&mut state, &service, &loads, 200);
        let shares = [0, 1, 2].map(|place| before.iter().filter(|picked| **picked == Some(place)).count());
        assert!(
            shares.iter().all(|share| *share > 40),
            "the weights do not count: {shares:?}"
        );
        assert_eq!(before, picks(&mut state, &service, &loads, 200));
        overload(&loads, &service.servers[0]);
        service.servers[1].weight = 0;
        let after = picks(&mut state, &service, &loads, 200);
        for (before, after) in before.into_iter().zip(after) {
            assert_eq!(after, before.filter(|place| *place == 2));
        }
    }
}
