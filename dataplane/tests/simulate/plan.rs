//! The network that is simulated: services, servers, addresses, and the configurations that the director gets for them.

use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::scheduler::{SchedulerKind, compile_table};
use ulvs_dataplane::service::ForwardingMethod::{self, DirectRouting, FullNat, Nat, Tunnel};
use ulvs_dataplane::service::{
    ClientAddress, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot, TunnelType,
};
use ulvs_dataplane::snapshot::{
    HopIndex, Interface, InterfaceIndex, Interfaces, NextHop, OwnedAddress, Routes, Services, Snapshot, Via,
};
use ulvs_dataplane::wire::ethernet::Mac;

use super::packet::{TCP, UDP};
use super::random::Random;

/// Servers that a service can have.
pub const SERVERS: usize = 4;
/// The port towards the clients, and the one towards the servers.
pub const OUTSIDE: PortIndex = PortIndex(0);
/// See [`OUTSIDE`].
pub const INSIDE: PortIndex = PortIndex(1);
/// MACs of the director.
pub const DIRECTOR: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// The MAC of the clients' router.
pub const GATEWAY: Mac = [2, 0, 0, 0, 1, 0];
/// Local ports of FullNAT: few, so that they run out.
pub const LOCAL_PORTS: (u16, u16) = (20_001, 20_060);
/// Largest packet towards the clients and towards the servers.
pub const MTU: [u16; 2] = [1500, 1460];

/// A service and what can change about it.
#[derive(Clone, Debug)]
pub struct PlannedService {
    pub protocol: u8,
    pub address: Address,
    pub port: u16,
    pub scheduler: SchedulerKind,
    pub client_address: ClientAddress,
    /// Methods that its servers may have.
    pub methods: &'static [ForwardingMethod],
    pub is_configured: bool,
    /// How the owner of its connections was found in the configuration before.
    pub ownership: Option<Ownership>,
    pub servers: Vec<PlannedServer>,
}

/// A server and what can change about it.
#[derive(Clone, Debug)]
pub struct PlannedServer {
    pub slot: ServerSlot,
    pub address: Address,
    pub mac: Mac,
    pub port: u16,
    pub weight: u32,
    pub method: ForwardingMethod,
    pub upper_threshold: u32,
    pub is_configured: bool,
    pub is_resolved: bool,
    /// How often the slot was given to another server.
    pub incarnation: u8,
}

/// Everything that configurations are made of.
#[derive(Debug)]
pub struct Plan {
    pub services: Vec<PlannedService>,
    pub route_version: u32,
    pub generation: u64,
    pub is_gateway_resolved: bool,
}

/// A client's address.
pub fn client(is_v4: bool, number: usize) -> Address {
    if is_v4 {
        Address::v4([198, 51, 100, 10 + number as u8])
    } else {
        v6(0xc, number as u8)
    }
}

fn v6(net: u8, host: u8) -> Address {
    Address::v6([0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

/// The virtual address.
pub fn virtual_address(is_v4: bool) -> Address {
    if is_v4 {
        Address::v4([203, 0, 113, 1])
    } else {
        v6(0xf, 1)
    }
}

/// Local addresses of FullNAT.
pub fn local_addresses(is_v4: bool) -> Vec<Address> {
    if is_v4 {
        vec![Address::v4([10, 0, 0, 201]), Address::v4([10, 0, 0, 202])]
    } else {
        vec![v6(2, 201)]
    }
}

fn gateway(is_v4: bool) -> Address {
    if is_v4 { Address::v4([192, 0, 2, 1]) } else { v6(1, 1) }
}

fn server_address(is_v4: bool, slot: usize, incarnation: u8) -> Address {
    if is_v4 {
        Address::v4([10, 0, 2 + incarnation, 10 + slot as u8])
    } else {
        let mut octets = *v6(2, 10 + slot as u8).octets();
        octets[13] = incarnation;
        Address::v6(octets)
    }
}

/// Protocol, virtual family, server family, scheduler, how servers learn the client, methods.
type Row = (
    u8,
    bool,
    bool,
    SchedulerKind,
    ClientAddress,
    &'static [ForwardingMethod],
);

#[rustfmt::skip]
const SERVICES: &[Row] = &[
    (TCP, true,  true,  SchedulerKind::Wlc, ClientAddress::Hidden,  &[Nat, DirectRouting, Tunnel]),
    (TCP, true,  true,  SchedulerKind::Rr,  ClientAddress::Hidden,  &[FullNat]),
    (TCP, true,  true,  SchedulerKind::Wrr, ClientAddress::Toa,     &[FullNat]),
    (TCP, true,  true,  SchedulerKind::Lc,  ClientAddress::ProxyV2, &[FullNat]),
    (UDP, true,  true,  SchedulerKind::Rr,  ClientAddress::Hidden,  &[Nat, DirectRouting, Tunnel]),
    (UDP, true,  true,  SchedulerKind::Wlc, ClientAddress::Hidden,  &[FullNat]),
    (TCP, false, false, SchedulerKind::Mh,  ClientAddress::Hidden,  &[Nat, DirectRouting, Tunnel]),
    (TCP, false, true,  SchedulerKind::Rr,  ClientAddress::ProxyV2, &[FullNat]),
    (UDP, true,  true,  SchedulerKind::Sh,  ClientAddress::ProxyV2, &[FullNat]),
    (UDP, false, false, SchedulerKind::Rr,  ClientAddress::Hidden,  &[Nat, DirectRouting]),
    (TCP, true,  false, SchedulerKind::Lc,  ClientAddress::Toa,     &[FullNat]),
];

impl Plan {
    /// All services with two to four servers each.
    pub fn new(random: &mut Random, has_nat: bool) -> Plan {
        let services = SERVICES.iter().enumerate().map(|(number, row)| {
            let &(protocol, is_v4, has_v4_servers, scheduler, client_address, methods) = row;
            let methods = match methods {
                [Nat, others @ ..] if !has_nat => others,
                all => all,
            };
            let port = 80 + number as u16;
            let servers = (0..SERVERS).map(|at| {
                let slot = number * SERVERS + at;
                let method = *random.pick(methods);
                let rewrites = matches!(method, Nat | FullNat);
                PlannedServer {
                    slot: ServerSlot(slot as u32),
                    address: server_address(has_v4_servers, slot, 0),
                    mac: [2, 0, 0, 1, 0, slot as u8],
                    port: if rewrites { 8000 + number as u16 } else { port },
                    weight: random.between(1, 3) as u32,
                    method,
                    upper_threshold: 0,
                    is_configured: at < 2 || random.chance(50),
                    is_resolved: random.chance(80),
                    incarnation: 0,
                }
            });
            PlannedService {
                protocol,
                address: virtual_address(is_v4),
                port,
                scheduler,
                client_address,
                methods,
                is_configured: true,
                ownership: None,
                servers: servers.collect(),
            }
        });
        Plan {
            services: services.collect(),
            route_version: 1,
            generation: 0,
            is_gateway_resolved: true,
        }
    }

    /// The server that `slot` stands for now.
    pub fn server(&mut self, slot: usize) -> &mut PlannedServer {
        &mut self.services[slot / SERVERS].servers[slot % SERVERS]
    }

    /// Gives the slot to a new server with another address.
    pub fn replace_server(&mut self, slot: usize) {
        let server = self.server(slot);
        server.incarnation = (server.incarnation + 1) % 200;
        server.address = server_address(server.address.is_v4(), slot, server.incarnation);
        server.mac[4] = server.incarnation;
    }

    /// The configuration as the plan stands now.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        self.generation += 1;
        let interfaces = self.interfaces();
        let services = self
            .services
            .iter_mut()
            .enumerate()
            .filter(|(_, planned)| planned.is_configured);
        let services =
            Services::new(services.map(|(number, planned)| Arc::new(service(number, planned, self.generation))));
        Arc::new(Snapshot {
            generation: self.generation,
            services: Arc::new(services),
            routes: Arc::new(self.routes(&interfaces)),
            interfaces: Arc::new(interfaces),
            ..Snapshot::default()
        })
    }

    fn interfaces(&self) -> Interfaces {
        let interface = |port: PortIndex, v4: [u8; 4], net: u8| Interface {
            port,
            vlan: None,
            mac: DIRECTOR[usize::from(port.0)],
            mtu: MTU[usize::from(port.0)],
            address_v4: Some(Address::v4(v4)),
            address_v6: Some(v6(net, 254)),
        };
        let interfaces = vec![
            interface(OUTSIDE, [192, 0, 2, 254], 1),
            interface(INSIDE, [10, 0, 0, 254], 2),
        ];
        let both = [true, false];
        let virtuals = both.map(|is_v4| (virtual_address(is_v4), OwnedAddress::Virtual));
        let locals = both
            .into_iter()
            .flat_map(local_addresses)
            .map(|address| (address, OwnedAddress::Local));
        Interfaces::new(interfaces, virtuals.into_iter().chain(locals), vec![false, false])
    }

    fn routes(&self, interfaces: &Interfaces) -> Routes {
        let mut routes = Routes::new(self.route_version);
        let outside = InterfaceIndex(0);
        let inside = InterfaceIndex(1);
        routes.add_prefix(Address::v4([0; 4]), 0, Via::Gateway(outside, gateway(true)));
        routes.add_prefix(Address::v6([0; 16]), 0, Via::Gateway(outside, gateway(false)));
        routes.add_prefix(Address::v4([10, 0, 0, 0]), 8, Via::OnLink(inside));
        routes.add_prefix(v6(2, 0), 48, Via::OnLink(inside));
        if self.is_gateway_resolved {
            for (at, is_v4) in [true, false].into_iter().enumerate() {
                let hop = NextHop::new(outside, interfaces.get(outside), GATEWAY, 1500);
                routes.set_neighbour(HopIndex(at as u32), outside, gateway(is_v4), hop);
            }
        }
        for server in self.services.iter().flat_map(|service| &service.servers) {
            if server.is_resolved {
                let hop = NextHop::new(inside, interfaces.get(inside), server.mac, 1500);
                let index = HopIndex(2 + server.slot.0);
                routes.set_neighbour(index, inside, server.address, hop);
            }
        }
        routes
    }
}

fn service(number: usize, planned: &mut PlannedService, revision: u64) -> Service {
    let configured = planned.servers.iter().filter(|server| server.is_configured);
    let servers: Vec<Server> = configured
        .map(|server| Server {
            slot: server.slot,
            address: server.address,
            port: server.port,
            weight: server.weight,
            last_weight: server.weight.max(1),
            method: server.method,
            upper_threshold: server.upper_threshold,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    let ownership = Ownership::after(planned.ownership, None, &servers);
    planned.ownership = Some(ownership);
    Service {
        slot: ServiceSlot(number as u32),
        revision,
        protocol: planned.protocol,
        address: planned.address,
        port: planned.port,
        scheduler: planned.scheduler,
        scheduler_flags: SchedulerFlags::default(),
        scheduler_table: compile_table(planned.scheduler, &servers).expect("few servers"),
        servers,
        client_address: planned.client_address,
        local_v4: local_addresses(true),
        local_v6: local_addresses(false),
        local_ports: LOCAL_PORTS,
        one_packet: false,
        persistence: None,
        ownership,
    }
}
