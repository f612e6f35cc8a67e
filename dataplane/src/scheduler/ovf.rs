//! Overflow: the usable server of the highest weight takes all connections until its active ones are more than its weight; then
//! the next one does. When every server is over, there is none. Inactive connections do not count, so with UDP nothing overflows.

use super::fo::highest_weight;
use super::{Algorithm, Client};
use crate::service::{Loads, Server, Service};

/// Nothing to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ovf;

impl Algorithm for Ovf {
    fn start(_servers: &[Server]) -> Ovf {
        Ovf
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let fits = |server: &Server| loads.is_usable(server) && loads.get(server.slot).active() <= server.weight;
        highest_weight(service, fits)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Ovf;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, open, picks, service};
    use crate::service::Loads;

    #[test]
    fn one_more_than_its_weight_overflows_to_the_next() {
        let service = service(Ovf, &[1, 2, 0]);
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&service);
        let places: Vec<_> = (0..5).map(|_| open(&mut state, &service, &loads)).collect();
        assert_eq!(places, [1, 1, 1, 0, 0]);
        assert_eq!(picks(&mut state, &service, &loads, 1), [None], "all are over");
    }
}
