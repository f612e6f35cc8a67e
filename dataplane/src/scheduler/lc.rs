//! Least connections: the usable server with the smallest overhead ([`Load::overhead`](crate::service::Load::overhead)); among equals
//! the first in list order.

use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lc;

impl Algorithm for Lc {
    fn start(_servers: &[Server]) -> Lc {
        Lc
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let usable = service
            .servers
            .iter()
            .enumerate()
            .filter(|(_, server)| loads.is_usable(server));
        // min_by_key gives the first of several smallest.
        usable
            .min_by_key(|(_, server)| loads.get(server.slot).overhead())
            .map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Lc;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, overload, picks, service};
    use crate::service::Loads;

    #[test]
    fn fewest_connections_win_whatever_the_weight() {
        let service = service(Lc, &[1, 9, 0, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        assert_eq!(picks(&mut state, &service, &loads, 1), [Some(0)], "the first of equals");
        loads.get(service.servers[0].slot).open(&service.servers[0], true);
        assert_eq!(picks(&mut state, &service, &loads, 1), [Some(1)]);
        (0..257).for_each(|_| loads.get(service.servers[1].slot).open(&service.servers[1], false));
        overload(&loads, &service.servers[3]);
        assert_eq!(
            picks(&mut state, &service, &loads, 1),
            [Some(0)],
            "257 inactive ones weigh as much as an active one"
        );
    }
}
