//! Locality-based least connections: all connections to one called address go to one server, chosen by weighted least connections when
//! the address is first seen, and again when the server leaves, is quiesced, or is crowded while another has room.
//!
//! As in the kernel, an address stays with its server even when that has reached its upper threshold; only a choice leaves it out.
//! A service for one address sends everything to one server until it is crowded: lblc is for services that take many addresses.

use super::least::least;
use super::locality::{Locality, Members, is_crowded};
use super::{Algorithm, Client, ServerChanges};
use crate::service::{Load, Loads, Server, ServerSlot, Service};

/// The server of each address; `None` when its slot got another server.
#[derive(Debug)]
pub(super) struct Lblc {
    table: Locality<Option<ServerSlot>>,
    members: Members,
}

impl Algorithm for Lblc {
    fn start(servers: &[Server]) -> Lblc {
        let mut members = Members::default();
        members.update(servers);
        Lblc {
            table: Locality::new(),
            members,
        }
    }

    fn update(&mut self, changes: &ServerChanges) {
        let replaced = self.members.update(changes.now());
        if replaced.is_empty() {
            return;
        }
        self.table
            .for_each(|server| *server = server.filter(|slot| !replaced.contains(slot)));
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let remembered = self.table.touch(&client.called, client.now, |_| ());
        if let Some(place) = remembered.as_deref().and_then(|slot| self.members.place((*slot)?))
            && let Some(server) = service.servers.get(place)
            && server.weight > 0
            && !is_crowded(server, service, loads)
        {
            return Some(place);
        }
        let place = least(service, loads, Load::overhead)?;
        let slot = Some(service.servers[place].slot);
        match remembered {
            Some(server) => *server = slot,
            // Without room for it the address is scheduled anew each time.
            None => _ = self.table.insert(client.called, client.now, slot),
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Lblc;
    use crate::scheduler::tests::{SERVER_LIMIT, client, of_servers, overload, server, service};
    use crate::scheduler::{SchedulerState, pick};
    use crate::service::{Loads, Server, Service};

    struct Balancer {
        service: Service,
        loads: Loads,
        state: SchedulerState,
    }

    impl Balancer {
        fn new(weights: &[u32]) -> Balancer {
            let service = service(Lblc, weights);
            Balancer {
                state: SchedulerState::new(&service),
                loads: Loads::new(SERVER_LIMIT),
                service,
            }
        }

        /// Opens a connection to an address; the slot of its server.
        fn open(&mut self, address: u32) -> Option<u32> {
            let place = pick(&mut self.state, &self.service, &self.loads, &client(address))?;
            let server = &self.service.servers[place];
            self.loads.get(server.slot).open(server, true);
            Some(server.slot.0)
        }

        fn change(&mut self, servers: Vec<Server>) {
            let new = of_servers(Lblc, servers);
            self.state.update(&self.service, &new);
            self.service = new;
        }
    }

    #[test]
    fn an_address_stays_until_its_server_is_crowded() {
        let mut balancer = Balancer::new(&[2, 2]);
        assert_eq!(
            [1, 1, 1, 1].map(|address| balancer.open(address)),
            [Some(0), Some(0), Some(0), Some(1)]
        );
        // The third was not yet more than the weight, the fourth found 3 > 2 and the other idle.
        assert_eq!(balancer.open(1), Some(1));
        assert_eq!(balancer.open(1), Some(1), "2 are not more than the weight");
        assert_eq!(balancer.open(1), Some(1), "3 are, but nobody has room");
        assert_eq!(balancer.open(2), Some(0), "a new address: the least connections");
    }

    #[test]
    fn a_server_that_comes_back_has_its_addresses_back_unless_they_moved() {
        let mut balancer = Balancer::new(&[10, 10]);
        assert_eq!((balancer.open(1), balancer.open(2)), (Some(0), Some(1)));
        balancer.change(vec![server(1, 10)]);
        balancer.change(vec![server(0, 10), server(1, 10)]);
        assert_eq!(balancer.open(1), Some(0));
        balancer.change(vec![server(1, 10)]);
        assert_eq!(balancer.open(1), Some(1));
        balancer.change(vec![server(0, 10), server(1, 10)]);
        assert_eq!(balancer.open(1), Some(1));
    }

    #[test]
    fn another_server_in_the_slot_does_not_inherit() {
        let mut balancer = Balancer::new(&[10, 10]);
        assert_eq!(
            (balancer.open(1), balancer.open(2), balancer.open(2)),
            (Some(0), Some(1), Some(1))
        );
        let other = Server {
            port: 81,
            ..server(1, 10)
        };
        balancer.change(vec![server(0, 10), other]);
        assert_eq!(balancer.open(2), Some(0), "by least connections, not by its slot");
    }

    #[test]
    fn a_threshold_counts_for_a_choice_but_not_for_what_is_remembered() {
        let mut balancer = Balancer::new(&[10, 10]);
        assert_eq!(balancer.open(1), Some(0));
        overload(&balancer.loads, &balancer.service.servers[0]);
        assert_eq!(balancer.open(1), Some(0), "the kernel looks at the weight only");
        assert_eq!(balancer.open(2), Some(1));
        let mut servers = balancer.service.servers.clone();
        servers[0].weight = 0;
        balancer.change(servers);
        assert_eq!(balancer.open(1), Some(1), "quiesced");
    }
}
