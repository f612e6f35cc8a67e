//! Failover: the usable server of the highest weight takes all connections; among equals the first in list order.

use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fo;

impl Algorithm for Fo {
    fn start(_servers: &[Server]) -> Fo {
        Fo
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        highest_weight(service, |server| loads.is_usable(server))
    }
}

/// The place of the server of the highest weight among those that `fits`; among equals the first.
pub(super) fn highest_weight(service: &Service, fits: impl Fn(&Server) -> bool) -> Option<usize> {
    let mut highest: Option<(usize, u32)> = None;
    for (place, server) in service.servers.iter().enumerate() {
        if highest.is_none_or(|(_, weight)| server.weight > weight) && fits(server) {
            highest = Some((place, server.weight));
        }
    }
    highest.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Fo;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, overload, picks, service};
    use crate::service::Loads;

    #[test]
    fn the_next_weight_takes_over_when_the_highest_cannot() {
        let service = service(Fo, &[2, 5, 0, 5]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        for expected in [Some(1), Some(3), Some(0), None] {
            assert_eq!(picks(&mut state, &service, &loads, 2), [expected; 2]);
            expected
                .into_iter()
                .for_each(|place| overload(&loads, &service.servers[place]));
        }
    }
}
