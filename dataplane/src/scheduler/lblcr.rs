//! Locality-based least connections with replication: all connections to one called address go to a set of servers, to the one with the
//! least connections for its weight. When that is crowded while another server has room, the set gets one more by weighted least
//! connections; when the set did not change for a day, the most loaded server leaves it.

use super::least::{is_less, least};
use super::locality::{ENTRY_LIMIT, EXPIRATION, Locality, Members, is_crowded};
use super::{Algorithm, Client, ServerChanges};
use crate::service::{Load, Loads, Server, ServerSlot, Service};
use crate::time::Time;

/// Members of all sets together; beyond, no set grows. The kernel takes memory as long as there is some.
const ELEMENT_LIMIT: usize = ENTRY_LIMIT * 4;
/// No element: the end of a set.
const NONE: u32 = u32::MAX;

/// The set of each address.
#[derive(Debug)]
pub(super) struct Lblcr {
    table: Locality<Set>,
    elements: Elements,
    members: Members,
}

/// The servers of an address.
#[derive(Clone, Copy, Debug)]
struct Set {
    /// The element added last; the others follow.
    first: u32,
    count: u32,
    modified: Time,
}

/// A place for the servers of all sets, reserved at once.
#[derive(Debug)]
struct Elements {
    all: Vec<Element>,
    free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Element {
    slot: ServerSlot,
    next: u32,
}

impl Elements {
    fn of(&self, set: Set) -> impl Iterator<Item = ServerSlot> {
        let element = |index: u32| self.all.get(index as usize);
        std::iter::successors(element(set.first), move |last| element(last.next)).map(|element| element.slot)
    }

    /// Puts a server in front of the set if there is room.
    fn add(&mut self, set: &mut Set, slot: ServerSlot, now: Time) {
        let element = Element { slot, next: set.first };
        let index = self.free;
        if index != NONE {
            self.free = self.all[index as usize].next;
            self.all[index as usize] = element;
            set.first = index;
        } else if self.all.len() < ELEMENT_LIMIT {
            set.first = self.all.len() as u32;
            self.all.push(element);
        } else {
            return;
        }
        set.count += 1;
        set.modified = now;
    }

    /// Takes a server out of the set; whether it was in it.
    fn remove(&mut self, set: &mut Set, slot: ServerSlot) -> bool {
        let (mut previous, mut index) = (NONE, set.first);
        while index != NONE {
            let Element { slot: own, next } = self.all[index as usize];
            if own == slot {
                match previous {
                    NONE => set.first = next,
                    previous => self.all[previous as usize].next = next,
                }
                self.all[index as usize].next = self.free;
                self.free = index;
                set.count -= 1;
                return true;
            }
            (previous, index) = (index, next);
        }
        false
    }

    /// Takes all servers out of a set that is no more.
    fn release(&mut self, set: Set) {
        let mut index = set.first;
        while let Some(element) = self.all.get_mut(index as usize) {
            let next = std::mem::replace(&mut element.next, self.free);
            self.free = index;
            index = next;
        }
    }
}

impl Lblcr {
    /// The place of the usable server of a set with the least connections for its weight; among equals the one added last.
    fn least_of(elements: &Elements, members: &Members, set: &Set, service: &Service, loads: &Loads) -> Option<usize> {
        let mut least: Option<(usize, u64, u32)> = None;
        for slot in elements.of(*set) {
            let Some((place, server)) = members
                .place(slot)
                .and_then(|place| Some((place, service.servers.get(place)?)))
            else {
                continue;
            };
            let own = loads.get(slot).overhead();
            let is_less = |(_, overhead, weight)| is_less(own, server.weight, overhead, weight);
            if loads.is_usable(server) && least.is_none_or(is_less) {
                least = Some((place, own, server.weight));
            }
        }
        least.map(|(place, ..)| place)
    }

    /// The server of a set with the most connections for its weight, one that left the service among them.
    fn most_of(elements: &Elements, members: &Members, set: &Set, loads: &Loads) -> Option<ServerSlot> {
        let mut most: Option<(ServerSlot, u64, u32)> = None;
        for slot in elements.of(*set) {
            let weight = members.get(slot).map_or(0, |member| member.weight);
            let own = loads.get(slot).overhead();
            let is_more = |(_, overhead, other)| is_less(overhead, other, own, weight);
            if weight > 0 && most.is_none_or(is_more) {
                most = Some((slot, own, weight));
            }
        }
        most.map(|(slot, ..)| slot)
    }
}

impl Algorithm for Lblcr {
    fn start(servers: &[Server]) -> Lblcr {
        let mut members = Members::default();
        members.update(servers);
        Lblcr {
            table: Locality::new(),
            elements: Elements {
                all: Vec::with_capacity(ELEMENT_LIMIT),
                free: NONE,
            },
            members,
        }
    }

    fn update(&mut self, changes: &ServerChanges) {
        let replaced = self.members.update(changes.now());
        for slot in replaced {
            self.table.for_each(|set| _ = self.elements.remove(set, slot));
        }
    }

    fn pick(&mut self, service: &Service, loads: &Loads, client: &Client) -> Option<usize> {
        let Lblcr {
            table,
            elements,
            members,
        } = self;
        let Some(set) = table.touch(&client.called, client.now, |set| elements.release(set)) else {
            let place = least(service, loads, Load::overhead)?;
            let mut set = Set {
                first: NONE,
                count: 0,
                modified: client.now,
            };
            elements.add(&mut set, service.servers[place].slot, client.now);
            if !table.insert(client.called, client.now, set) {
                elements.release(set);
            }
            return Some(place);
        };
        let chosen = Self::least_of(elements, members, set, service, loads);
        if set.count > 1
            && client.now > set.modified + EXPIRATION.0
            && let Some(most) = Self::most_of(elements, members, set, loads)
            && elements.remove(set, most)
        {
            set.modified = client.now;
        }
        if let Some(place) = chosen.filter(|place| !is_crowded(&service.servers[*place], service, loads)) {
            return Some(place);
        }
        let place = least(service, loads, Load::overhead)?;
        let slot = service.servers[place].slot;
        if !elements.of(*set).any(|own| own == slot) {
            elements.add(set, slot, client.now);
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use crate::scheduler::SchedulerKind::Lblcr;
    use crate::scheduler::tests::{SERVER_LIMIT, client, of_servers, overload, server, service};
    use crate::scheduler::{Client, SchedulerState, pick};
    use crate::service::{Loads, Server, Service};
    use crate::time::Time;

    struct Balancer {
        service: Service,
        loads: Loads,
        state: SchedulerState,
        now: Time,
    }

    impl Balancer {
        fn new(weights: &[u32]) -> Balancer {
            let service = service(Lblcr, weights);
            Balancer {
                state: SchedulerState::new(&service),
                loads: Loads::new(SERVER_LIMIT),
                service,
                now: Time::from_secs(1000),
            }
        }

        fn pick(&mut self, address: u32) -> Option<u32> {
            let client = Client {
                now: self.now,
                ..client(address)
            };
            let place = pick(&mut self.state, &self.service, &self.loads, &client)?;
            Some(self.service.servers[place].slot.0)
        }

        fn open(&mut self, address: u32) -> Option<u32> {
            let slot = self.pick(address)?;
            self.set_active(slot, self.loads.get(crate::service::ServerSlot(slot)).active() + 1);
            Some(slot)
        }

        fn set_active(&mut self, slot: u32, active: u32) {
            let server = self
                .service
                .servers
                .iter()
                .find(|server| server.slot.0 == slot)
                .unwrap();
            let load = self.loads.get(server.slot);
            (load.active()..active).for_each(|_| load.open(server, true));
            (active..load.active()).for_each(|_| load.close(0, 0, true));
        }

        fn change(&mut self, servers: Vec<Server>) {
            let new = of_servers(Lblcr, servers);
            self.state.update(&self.service, &new);
            self.service = new;
        }
    }

    #[test]
    fn a_crowded_server_gets_company() {
        let mut balancer = Balancer::new(&[2, 2, 2]);
        assert_eq!(
            [1; 4].map(|address| balancer.open(address)),
            [Some(0), Some(0), Some(0), Some(1)]
        );
        assert_eq!(balancer.open(1), Some(1), "of the set, the less loaded");
        balancer.set_active(0, 0);
        assert_eq!(balancer.open(1), Some(0), "the first is still in the set");
        overload(&balancer.loads, &balancer.service.servers[0]);
        assert_eq!(
            balancer.open(1),
            Some(1),
            "one that has reached its threshold is left out"
        );
    }

    #[test]
    fn a_day_later_the_most_loaded_leaves() {
        let mut balancer = Balancer::new(&[2, 2]);
        (0..4).for_each(|_| _ = balancer.open(1));
        balancer.set_active(1, 0);
        balancer.set_active(0, 2);
        let day = Time::from_secs(24 * 60 * 60).0;
        let modified = balancer.now;
        // Used in between, lest the whole entry goes.
        for hours in [20, 24] {
            balancer.now = modified + hours * day / 24;
            assert_eq!(balancer.pick(1), Some(1));
        }
        balancer.set_active(0, 0);
        balancer.set_active(1, 1);
        assert_eq!(balancer.pick(1), Some(0), "not a moment before");
        balancer.now = balancer.now + 1;
        assert_eq!(balancer.pick(1), Some(0));
        assert_eq!(balancer.pick(1), Some(0), "the only one now");
        balancer.set_active(0, 2);
        balancer.set_active(1, 0);
        assert_eq!(
            balancer.pick(1),
            Some(0),
            "not crowded, and the other one has left the set"
        );
    }

    #[test]
    fn servers_come_and_go() {
        let mut balancer = Balancer::new(&[2, 2]);
        (0..4).for_each(|_| _ = balancer.open(1));
        balancer.change(vec![server(1, 2)]);
        assert_eq!(balancer.pick(1), Some(1), "the one that is left");
        balancer.change(vec![server(0, 2), server(1, 2)]);
        balancer.set_active(0, 0);
        assert_eq!(balancer.pick(1), Some(0), "it came back and is in the set as before");
        balancer.change(vec![
            Server {
                port: 81,
                ..server(0, 2)
            },
            server(1, 2),
        ]);
        assert_eq!(
            balancer.pick(1),
            Some(1),
            "another one has its slot, but not its place in the set"
        );
        balancer.change(vec![]);
        assert_eq!(balancer.pick(1), None);
    }
}
