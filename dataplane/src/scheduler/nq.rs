//! Never queue: the first usable server in list order without active connections; when all have some, shortest expected delay.

use super::least::{expected_delay, least};
use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nq;

impl Algorithm for Nq {
    fn start(_servers: &[Server]) -> Nq {
        Nq
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let is_idle = |server: &Server| loads.is_usable(server) && loads.get(server.slot).active() == 0;
        let idle = service.servers.iter().position(is_idle);
        idle.or_else(|| least(service, loads, expected_delay))
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Nq;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, open, overload, service};
    use crate::service::Loads;

    #[test]
    fn the_idle_come_first_whatever_the_weight() {
        let service = service(Nq, &[1, 0, 9, 2, 100]);
        let loads = Loads::new(SERVER_LIMIT);
        overload(&loads, &service.servers[4]);
        let mut state = SchedulerState::new(&service);
        let places: Vec<_> = (0..5).map(|_| open(&mut state, &service, &loads)).collect();
        assert_eq!(places, [0, 2, 3, 2, 2]);
    }
}
