//! Weighted least connections: the usable server with the smallest overhead for its weight; among equals the first in list order.

use super::least::least;
use super::{Algorithm, Client};
use crate::service::{Load, Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wlc;

impl Algorithm for Wlc {
    fn start(_servers: &[Server]) -> Wlc {
        Wlc
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        least(service, loads, Load::overhead)
    }
}

#[cfg(test)]
mod tests {
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
}
