//! What holds for every scheduler, and small services for the tests beside each of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::service::{
    ClientAddress, ForwardingMethod, Ownership, SchedulerFlags, ServerSlot, ServiceSlot, TunnelType, protocol,
};

/// Room for every slot that a test uses.
pub const SERVER_LIMIT: usize = 64;

/// A server in its slot, without thresholds.
pub fn server(slot: u32, weight: u32) -> Server {
    let [.., high, low] = slot.to_be_bytes();
    Server {
        slot: ServerSlot(slot),
        address: Address::v4([10, 0, high, low]),
        port: 80,
        weight,
        last_weight: weight,
        method: ForwardingMethod::Nat,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: TunnelType::Ipip,
    }
}

/// A service whose servers, in list order, have these weights; their slots are their places.
pub fn service(scheduler: SchedulerKind, weights: &[u32]) -> Service {
    of_servers(
        scheduler,
        weights
            .iter()
            .zip(0..)
            .map(|(weight, slot)| server(slot, *weight))
            .collect(),
    )
}

/// A service with these servers.
pub fn of_servers(scheduler: SchedulerKind, servers: Vec<Server>) -> Service {
    Service {
        slot: ServiceSlot(0),
        revision: 0,
        protocol: protocol::TCP,
        address: Address::v4([10, 0, 1, 100]),
        port: 80,
        scheduler,
        scheduler_flags: SchedulerFlags::default(),
        scheduler_table: compile_table(scheduler, &servers).expect("few servers"),
        servers,
        client_address: ClientAddress::Hidden,
        local_v4: Vec::new(),
        local_v6: Vec::new(),
        local_ports: (1024, 65535),
        one_packet: false,
        persistence: None,
        ownership: Ownership::default(),
    }
}

/// The places picked for clients number 0 to `count`, none of whose connections is counted.
pub fn picks(state: &mut SchedulerState, service: &Service, loads: &Loads, count: u32) -> Vec<Option<usize>> {
    (0..count)
        .map(|number| pick(state, service, loads, &client(number)))
        .collect()
}

/// Opens an active connection of some client, and gives the place of its server.
pub fn open(state: &mut SchedulerState, service: &Service, loads: &Loads) -> usize {
    let place = pick(state, service, loads, &client(0)).expect("a usable server");
    let server = &service.servers[place];
    loads.get(server.slot).open(server, true);
    place
}

/// Clients with different addresses and ports, who call different addresses.
pub fn client(number: u32) -> Client {
    Client {
        address: Address::v4((0xac10_0000 + number * 7919).to_be_bytes()),
        port: 1024 + (number % 60_000) as u16,
        called: Address::v4((0xc633_6400 + number).to_be_bytes()),
        now: Time::from_secs(1),
    }
}

/// Makes the server overloaded.
pub fn overload(loads: &Loads, server: &Server) {
    loads.get(server.slot).open(
        &Server {
            upper_threshold: 1,
            ..server.clone()
        },
        true,
    );
}

#[test]
fn names_are_read_and_written_as_in_ipvsadm() {
    for kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(*kind));
    }
    assert_eq!("wlc".parse(), Ok(SchedulerKind::Wlc));
    let unknown = "fastest".parse::<SchedulerKind>().unwrap_err().to_string();
    assert!(
        unknown.starts_with("there is no scheduler \"fastest\"; use one of rr, wrr, lc, "),
        "{unknown}"
    );
}

#[test]
fn another_scheduler_starts_afresh() {
    let old = service(SchedulerKind::Rr, &[1, 1, 1]);
    let loads = Loads::new(SERVER_LIMIT);
    let mut state = SchedulerState::new(&old);
    picks(&mut state, &old, &loads, 2);
    let new = service(SchedulerKind::Wrr, &[1, 1, 1]);
    state.update(&old, &new);
    assert_eq!(picks(&mut state, &new, &loads, 3), [Some(0), Some(1), Some(2)]);
}

/// Weights that occur, and a few that do not.
fn weights() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..4_u32, 3 => 0..200_u32, 1 => Just(65_535), 1 => any::<u32>()]
}

/// Any list of servers with slots of their own; the second value says which of them are overloaded.
fn server_lists() -> impl Strategy<Value = (Vec<Server>, u64)> {
    let list = proptest::collection::hash_set(0..SERVER_LIMIT as u32, 0..20).prop_shuffled();
    (
        list,
        proptest::collection::vec((weights(), weights()), 20),
        any::<u64>(),
    )
        .prop_map(|(slots, weights, overloaded)| {
            let with_weights = slots.into_iter().zip(weights);
            let servers = with_weights
                .map(|(slot, (weight, last_weight))| Server {
                    last_weight,
                    ..server(slot, weight)
                })
                .collect();
            (servers, overloaded)
        })
}

/// A set's members in any order.
trait Shuffled: Strategy<Value = HashSet<u32>> + Sized {
    fn prop_shuffled(self) -> impl Strategy<Value = Vec<u32>> {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle()
    }
}

impl<S: Strategy<Value = HashSet<u32>>> Shuffled for S {}

proptest! {
    /// From any list of servers to any other: no panic, and never a server that must not get connections. Those that pick from all
    /// servers find one when there is one.
    #[test]
    fn only_usable_servers_are_picked(
        kind in proptest::sample::select(SchedulerKind::ALL),
        (fallback, port) in any::<(bool, bool)>(),
        (before, _) in server_lists(),
        (after, overloaded) in server_lists(),
    ) {
        let loads = Loads::new(SERVER_LIMIT);
        let flags = SchedulerFlags { fallback, port };
        let old = Service { scheduler_flags: flags, ..of_servers(kind, before) };
        let new = Service { scheduler_flags: flags, ..of_servers(kind, after) };
        let mut state = SchedulerState::new(&old);
        picks(&mut state, &old, &loads, 5);
        state.update(&old, &new);
        new.servers.iter().filter(|server| overloaded >> server.slot.0 & 1 == 1).for_each(|server| overload(&loads, server));

        use SchedulerKind::{Conhash, Dh, Lblc, Mh, Ovf, Sh};
        let searches_all = !matches!(kind, Sh | Mh | Dh | Conhash | Ovf);
        for place in picks(&mut state, &new, &loads, 10) {
            match place {
                // An address stays with its server whatever its threshold, see there.
                Some(place) if kind == Lblc => prop_assert!(new.servers[place].weight > 0),
                Some(place) => prop_assert!(loads.is_usable(&new.servers[place])),
                None => prop_assert!(!(searches_all && new.servers.iter().any(|server| loads.is_usable(server)))),
            }
        }
    }

    /// A table that is still the one of an older list of servers leads nowhere wrong.
    #[test]
    fn a_stale_table_is_harmless(
        kind in proptest::sample::select(vec![SchedulerKind::Sh, SchedulerKind::Mh, SchedulerKind::Dh]),
        fallback in any::<bool>(),
        (before, _) in server_lists(),
        (after, _) in server_lists(),
    ) {
        let loads = Loads::new(SERVER_LIMIT);
        let mut stale = of_servers(kind, before);
        stale.servers = after;
        stale.scheduler_flags.fallback = fallback;
        let mut state = SchedulerState::new(&stale);
        for place in picks(&mut state, &stale, &loads, 10).into_iter().flatten() {
            prop_assert!(loads.is_usable(&stale.servers[place]));
        }
    }
}
