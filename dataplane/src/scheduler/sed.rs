//! Shortest expected delay: the usable server with the fewest active connections for its weight, the new one counted in; among
//! equals the first in list order. Inactive connections count for nothing, so with UDP the highest weight takes all.

use super::least::{expected_delay, least};
use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sed;

impl Algorithm for Sed {
    fn start(_servers: &[Server]) -> Sed {
        Sed
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        least(service, loads, expected_delay)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Sed;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, open, picks, service};
    use crate::service::Loads;

    #[test]
    fn the_new_connection_counts_so_the_fast_server_is_first() {
        let service = service(Sed, &[1, 3, 0]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let places: Vec<_> = (0..5).map(|_| open(&mut state, &service, &loads)).collect();
        // Delays of the two: 1/1 and 1/3, 2/3, 3/3 (a tie: the first), then 2/1 and 3/3, 4/3.
        assert_eq!(places, [1, 1, 0, 1, 1]);
        loads.get(service.servers[0].slot).close(0, 0, true);
        loads.get(service.servers[0].slot).open(&service.servers[0], false);
        assert_eq!(
            picks(&mut state, &service, &loads, 1),
            [Some(0)],
            "inactive connections do not count"
        );
    }
}
