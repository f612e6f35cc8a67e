//! Round robin: the next usable server after the one used last, in list order; weights only tell usable from quiesced.

use super::{Algorithm, Client, ServerChanges};
use crate::service::{Loads, Server, Service};

/// Where the round stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rr {
    /// Place of the server used last; `None` is the head of the list.
    last: Option<usize>,
}

impl Algorithm for Rr {
    fn start(_servers: &[Server]) -> Rr {
        Rr { last: None }
    }

    /// When the server used last is deleted, the kernel goes on from the one in front of it.
    fn update(&mut self, changes: &ServerChanges) {
        self.last = self.last.and_then(|last| changes.place_at_or_before(last));
    }

    fn pick(&mut self, service: &Service, loads: &Loads, _client: &Client) -> Option<usize> {
        let count = service.servers.len();
        let first = self.last.map_or(0, |last| last + 1);
        let mut round = (first..count).chain(0..first.min(count));
        let place = round.find(|place| loads.is_usable(&service.servers[*place]))?;
        self.last = Some(place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Rr;
    use crate::scheduler::SchedulerState;
    use crate::scheduler::tests::{SERVER_LIMIT, of_servers, overload, picks, server, service};
    use crate::service::{Loads, Service};

    #[test]
    fn goes_round_and_leaves_out_the_quiesced_and_the_overloaded() {
        let service = service(Rr, &[1, 0, 5, 1]);
        let loads = Loads::new(SERVER_LIMIT);
        overload(&loads, &service.servers[3]);
        let mut state = SchedulerState::new(&service);
        assert_eq!(
            picks(&mut state, &service, &loads, 4),
            [Some(0), Some(2), Some(0), Some(2)]
        );
    }

    /// The next pick after `used` picks from servers 0, 1, 2 when the list then becomes `slots`.
    fn next_slot_after(used: u32, slots: &[u32]) -> Option<u32> {
        let old: Service = service(Rr, &[1, 1, 1]);
        let new = of_servers(Rr, slots.iter().map(|slot| server(*slot, 1)).collect());
        let loads = Loads::new(SERVER_LIMIT);
        let mut state = SchedulerState::new(&old);
        picks(&mut state, &old, &loads, used);
        state.update(&old, &new);
        picks(&mut state, &new, &loads, 1)[0].map(|place| new.servers[place].slot.0)
    }

    #[test]
    fn goes_on_where_it_was_when_servers_come_and_go() {
        assert_eq!(next_slot_after(2, &[0, 1, 2]), Some(2), "nothing changed");
        assert_eq!(next_slot_after(2, &[7, 0, 1, 2]), Some(2), "a server came");
        assert_eq!(next_slot_after(2, &[0, 2]), Some(2), "the server used last went");
        assert_eq!(
            next_slot_after(1, &[1, 2]),
            Some(1),
            "the first server, used last, went"
        );
        assert_eq!(
            next_slot_after(3, &[7, 1]),
            Some(7),
            "a round ended, one came, two went"
        );
        assert_eq!(next_slot_after(3, &[]), None, "all went");
    }
}
