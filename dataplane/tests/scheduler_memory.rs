//! No scheduler takes or gives back memory when it picks, however many addresses call and however long it runs.

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::scheduler::{Client, SchedulerKind, SchedulerState, compile_table, pick};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Loads, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot,
    TunnelType, protocol,
};
use ulvs_dataplane::time::Time;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const SERVERS: u32 = 10;
/// More addresses than are remembered.
const PICKS: u32 = 60_000;

fn service(scheduler: SchedulerKind) -> Service {
    let servers: Vec<Server> = (0..SERVERS)
        .map(|number| Server {
            slot: ServerSlot(number),
            address: Address::v4([10, 0, 0, number as u8]),
            port: 80,
            weight: number,
            last_weight: number,
            method: ForwardingMethod::DirectRouting,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    Service {
        slot: ServiceSlot(0),
        revision: 0,
        protocol: protocol::TCP,
        address: Address::UNSPECIFIED,
        port: 0,
        scheduler,
        scheduler_flags: SchedulerFlags {
            fallback: true,
            port: true,
        },
        scheduler_table: compile_table(scheduler, &servers).expect("ten servers"),
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

#[test]
fn no_pick_allocates() {
    for scheduler in SchedulerKind::ALL {
        let service = service(*scheduler);
        let loads = Loads::new(SERVERS as usize);
        let mut state = SchedulerState::new(&service);
        let region = Region::new(ALLOCATOR);
        for number in 0..PICKS {
            let client = Client {
                address: Address::v4((0xac10_0000 + number).to_be_bytes()),
                port: number as u16,
                called: Address::v4((0xc633_0000 + number * 7).to_be_bytes()),
                // Two days go by, so that the sweeps are among it.
                now: Time::from_millis(u64::from(number) * 3000),
            };
            if let Some(place) = pick(&mut state, &service, &loads, &client) {
                let server = &service.servers[place];
                loads.get(server.slot).open(server, number % 2 == 0);
            }
        }
        let change = region.change();
        let calls = change.allocations + change.reallocations + change.deallocations;
        assert_eq!(calls, 0, "{scheduler}: {change:?}");
    }
}
