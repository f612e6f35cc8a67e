//! The network that the director stands in: clients behind a gateway on port 0, the servers and the local addresses on port 1.

use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::address::Family::{self, V4, V6};
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::scheduler::{SchedulerKind, compile_table};
use ulvs_dataplane::service::ForwardingMethod::{DirectRouting, FullNat, Nat, Tunnel};
use ulvs_dataplane::service::protocol::{TCP, UDP};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot, TunnelType,
};
use ulvs_dataplane::snapshot::{
    HopIndex, Interface, InterfaceIndex, Interfaces, NextHop, OwnedAddress, Routes, Services, Snapshot, Via,
};

pub const OUTSIDE: PortIndex = PortIndex(0);
pub const INSIDE: PortIndex = PortIndex(1);
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// As many servers as a row has that says nothing of them.
pub const SERVERS: u16 = 10;
pub const SERVICE_PORT: u16 = 80;
pub const SERVER_PORT: u16 = 8080;
const LOCAL_ADDRESSES: u8 = 255;

/// The virtual address of a service. The last two octets are its number.
pub fn virtual_address(family: Family, service: u16) -> Address {
    let [high, low] = service.to_be_bytes();
    by_family(family, [198, 18, high, low], [0x2001, 0xdb8, 0xff, 0, 0, 0, 0, service])
}

/// A server's address. The last two octets are its number.
pub fn server(family: Family, number: u16) -> Address {
    let [high, low] = number.to_be_bytes();
    by_family(family, [10, 1, high, low], [0xfd00, 0, 0, 1, 0, 0, 0, number])
}

/// A local address. The last octet is its number.
pub fn local(family: Family, number: u8) -> Address {
    let last = u16::from(number);
    by_family(family, [10, 0, 2, number], [0xfd00, 0, 0, 2, 0, 0, 0, last])
}

fn gateway(family: Family) -> Address {
    by_family(family, [192, 0, 2, 254], [0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 0xfe])
}

fn by_family(family: Family, v4: [u8; 4], v6: [u16; 8]) -> Address {
    match family {
        Family::V4 => Address::v4(v4),
        Family::V6 => std::net::IpAddr::V6(v6.into()).into(),
    }
}

/// What is balanced, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    pub protocol: u8,
    pub method: ForwardingMethod,
    pub client: Family,
    pub server: Family,
    pub scheduler: SchedulerKind,
    /// In each service. All services send to the same addresses, but each has servers of its own with their load and counters.
    pub servers: u16,
    pub services: u16,
}

impl Balance {
    /// One service with the usual servers and wlc.
    pub fn v4(protocol: u8, method: ForwardingMethod) -> Balance {
        Balance {
            protocol,
            method,
            client: Family::V4,
            server: Family::V4,
            scheduler: SchedulerKind::Wlc,
            servers: SERVERS,
            services: 1,
        }
    }

    /// Slots that the servers of all services take; slot 0 is nobody's.
    pub fn server_slots(&self) -> usize {
        usize::from(self.servers) * usize::from(self.services) + 1
    }
}

/// A method with the families of client and server and the protocol, as a row is called.
pub type Method = (&'static str, ForwardingMethod, Family, Family, u8);

/// What packets of open connections are measured for.
pub const METHODS: &[Method] = &[
    ("DR v4 UDP", DirectRouting, V4, V4, UDP),
    ("DR v4 TCP", DirectRouting, V4, V4, TCP),
    ("DR v6 TCP", DirectRouting, V6, V6, TCP),
    ("TUN v4 UDP", Tunnel, V4, V4, UDP),
    ("TUN v6 TCP", Tunnel, V6, V6, TCP),
    ("NAT v4 UDP", Nat, V4, V4, UDP),
    ("NAT v4 TCP", Nat, V4, V4, TCP),
    ("NAT v6 TCP", Nat, V6, V6, TCP),
    ("FullNAT v4 UDP", FullNat, V4, V4, UDP),
    ("FullNAT v4 TCP", FullNat, V4, V4, TCP),
    ("FullNAT v6 TCP", FullNat, V6, V6, TCP),
    ("FullNAT 6→4 TCP", FullNat, V6, V4, TCP),
];

fn service(balance: &Balance, number: u16) -> Service {
    let rewrites = matches!(balance.method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
    // With weight 1, ovf would have no server left after two connections for each.
    let weight = if balance.scheduler == SchedulerKind::Ovf {
        1 << 24
    } else {
        1
    };
    let first_slot = 1 + u32::from(number) * u32::from(balance.servers);
    let servers: Vec<Server> = (0..balance.servers)
        .map(|index| Server {
            slot: ServerSlot(first_slot + u32::from(index)),
            address: server(balance.server, index + 1),
            port: if rewrites { SERVER_PORT } else { SERVICE_PORT },
            weight,
            last_weight: weight,
            method: balance.method,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    let locals = |family| match balance.method {
        ForwardingMethod::FullNat => (1..=LOCAL_ADDRESSES).map(|number| local(family, number)).collect(),
        _ => Vec::new(),
    };
    Service {
        slot: ServiceSlot(u32::from(number)),
        revision: 1,
        protocol: balance.protocol,
        address: virtual_address(balance.client, number),
        port: SERVICE_PORT,
        scheduler: balance.scheduler,
        // One client address has several ports here; with the port in the hash each is a client of its own.
        scheduler_flags: SchedulerFlags {
            fallback: false,
            port: true,
        },
        scheduler_table: compile_table(balance.scheduler, &servers).expect("so many servers fit"),
        ownership: Ownership::after(None, None, &servers),
        servers,
        client_address: ClientAddress::Hidden,
        local_v4: locals(Family::V4),
        local_v6: locals(Family::V6),
        local_ports: (1024, 65535),
        one_packet: false,
        persistence: None,
    }
}

fn interface(port: PortIndex) -> Interface {
    let address = |family| match port {
        OUTSIDE => by_family(family, [192, 0, 2, 2], [0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 2]),
        _ => by_family(family, [10, 0, 0, 1], [0xfd00, 0, 0, 0, 0, 0, 0, 1]),
    };
    Interface {
        port,
        vlan: None,
        mac: MACS[usize::from(port.0)],
        mtu: 1500,
        address_v4: Some(address(Family::V4)),
        address_v6: Some(address(Family::V6)),
    }
}

fn routes(interfaces: &[Interface], servers: u16) -> Routes {
    let (outside, inside) = (InterfaceIndex(0), InterfaceIndex(1));
    let mut routes = Routes::new(1);
    let mut hops = 0;
    let mut add = |routes: &mut Routes, on: InterfaceIndex, neighbour: Address| {
        let mac = [2, 1, on.0 as u8, 0, 0, neighbour.octets()[15]];
        let hop = NextHop::new(on, &interfaces[usize::from(on.0)], mac, 1500);
        routes.set_neighbour(HopIndex(hops), on, neighbour, hop);
        hops += 1;
    };
    for family in [Family::V4, Family::V6] {
        add(&mut routes, outside, gateway(family));
        for number in 1..=servers {
            add(&mut routes, inside, server(family, number));
        }
        let any = by_family(family, [0; 4], [0; 8]);
        routes.add_prefix(any, 0, Via::Gateway(outside, gateway(family)));
        let bits = if family == Family::V4 { 16 } else { 32 };
        routes.add_prefix(server(family, 0), bits, Via::OnLink(inside));
    }
    routes
}

/// The configuration for its services.
pub fn snapshot(balance: &Balance) -> Arc<Snapshot> {
    let interfaces = vec![interface(OUTSIDE), interface(INSIDE)];
    let routes = routes(&interfaces, balance.servers);
    let families = [Family::V4, Family::V6];
    let numbers = 0..balance.services;
    let virtuals = families.into_iter().flat_map(|family| {
        numbers
            .clone()
            .map(move |number| (virtual_address(family, number), OwnedAddress::Virtual))
    });
    let locals = families
        .into_iter()
        .flat_map(|family| (1..=LOCAL_ADDRESSES).map(move |number| (local(family, number), OwnedAddress::Local)));
    Arc::new(Snapshot {
        generation: 1,
        services: Arc::new(Services::new(
            numbers.clone().map(|number| Arc::new(service(balance, number))),
        )),
        interfaces: Arc::new(Interfaces::new(interfaces, virtuals.chain(locals), vec![false; 2])),
        routes: Arc::new(routes),
        ..Snapshot::default()
    })
}
