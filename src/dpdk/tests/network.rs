//! Services, servers and clients around a director, and their frames.

use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::scheduler::{SchedulerKind, SchedulerTable};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot, TunnelType,
    protocol,
};
use ulvs_dataplane::snapshot::{
    HopIndex, Interface, InterfaceIndex, Interfaces, NextHop, OwnedAddress, Routes, Services, Snapshot, Via,
};
use ulvs_dataplane::wire::checksum::Sum;
use ulvs_dataplane::wire::ethernet::{self, Mac};
use ulvs_dataplane::wire::{ipv4, ipv6, put_u16, put_u32, tcp, udp};

/// The port towards the clients, and the one towards the servers.
pub const OUTSIDE: usize = 0;
/// See [`OUTSIDE`].
pub const INSIDE: usize = 1;
/// MACs of the director, by port.
pub const DIRECTOR: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// The clients' router.
pub const GATEWAY: Mac = [2, 0, 0, 0, 1, 0];
/// Servers of each service.
const SERVERS: usize = 2;

/// A service, with servers of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub is_v4: bool,
    pub protocol: u8,
    pub method: ForwardingMethod,
    pub tunnel: TunnelType,
}

/// Every protocol and family with each of the methods, IP in IP for tunnels.
pub fn rows(methods: &[ForwardingMethod]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &method in methods {
        for is_v4 in [true, false] {
            rows.extend([protocol::TCP, protocol::UDP].map(|protocol| Row {
                is_v4,
                protocol,
                method,
                tunnel: TunnelType::Ipip,
            }));
        }
    }
    rows
}

fn address(is_v4: bool, net: u8, host: u8) -> Address {
    if is_v4 {
        Address::v4([10, net, 0, host])
    } else {
        Address::v6([0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
    }
}

/// The virtual address.
pub fn virtual_address(is_v4: bool) -> Address {
    address(is_v4, 9, 1)
}

/// A client's address.
pub fn client(is_v4: bool, host: u8) -> Address {
    address(is_v4, 100, host)
}

/// A multicast group.
pub fn group(is_v4: bool) -> Address {
    if is_v4 {
        Address::v4([224, 0, 0, 251])
    } else {
        Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb])
    }
}

fn local(is_v4: bool) -> Address {
    address(is_v4, 2, 200)
}

/// The virtual port of a service.
pub fn virtual_port(service: usize) -> u16 {
    80 + service as u16
}

/// The MAC of a server.
pub fn server_mac(service: usize, server: usize) -> Mac {
    [2, 0, 0, 1, service as u8, server as u8]
}

/// How many servers there are in all.
pub fn server_count(rows: &[Row]) -> usize {
    rows.len() * SERVERS
}

fn servers(number: usize, row: &Row) -> Vec<Server> {
    let rewrites = matches!(row.method, ForwardingMethod::Nat | ForwardingMethod::FullNat);
    let server = |at: usize| Server {
        slot: ServerSlot((number * SERVERS + at) as u32),
        address: address(row.is_v4, 2, (1 + number * SERVERS + at) as u8),
        port: if rewrites { 8080 } else { virtual_port(number) },
        weight: 1,
        last_weight: 1,
        method: row.method,
        upper_threshold: 0,
        lower_threshold: 0,
        tunnel: row.tunnel,
    };
    (0..SERVERS).map(server).collect()
}

/// The director's configuration. `may_be_partial`: whether its ports deliver unfinished checksums.
pub fn snapshot(rows: &[Row], may_be_partial: bool) -> Arc<Snapshot> {
    let interface = |port: usize, net: u8| Interface {
        port: PortIndex(port as u8),
        vlan: None,
        mac: DIRECTOR[port],
        mtu: 1500,
        address_v4: Some(address(true, net, 254)),
        address_v6: Some(address(false, net, 254)),
    };
    let owned = [true, false].into_iter().flat_map(|is_v4| {
        [
            (virtual_address(is_v4), OwnedAddress::Virtual),
            (local(is_v4), OwnedAddress::Local),
        ]
    });
    let interfaces = vec![interface(OUTSIDE, 1), interface(INSIDE, 2)];
    let interfaces = Interfaces::new(interfaces, owned, vec![may_be_partial; 2]);
    let (outside, inside) = (InterfaceIndex(0), InterfaceIndex(1));
    let mut routes = Routes::new(1);
    let mut hops = 0;
    let mut neighbour = |routes: &mut Routes, interface, address, mac| {
        let hop = NextHop::new(interface, interfaces.get(interface), mac, 1500);
        routes.set_neighbour(HopIndex(hops), interface, address, hop);
        hops += 1;
    };
    for is_v4 in [true, false] {
        let (any, bits) = if is_v4 {
            (Address::v4([0; 4]), 16)
        } else {
            (Address::v6([0; 16]), 48)
        };
        let gateway = address(is_v4, 1, 1);
        routes.add_prefix(any, 0, Via::Gateway(outside, gateway));
        routes.add_prefix(address(is_v4, 2, 0), bits, Via::OnLink(inside));
        neighbour(&mut routes, outside, gateway, GATEWAY);
    }
    let mut services = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let servers = servers(number, row);
        for (at, server) in servers.iter().enumerate() {
            neighbour(&mut routes, inside, server.address, server_mac(number, at));
        }
        services.push(Arc::new(Service {
            one_packet: false,
            persistence: None,
            slot: ServiceSlot(number as u32),
            revision: 1,
            protocol: row.protocol,
            address: virtual_address(row.is_v4),
            port: virtual_port(number),
            scheduler: SchedulerKind::Rr,
            scheduler_flags: SchedulerFlags::default(),
            scheduler_table: SchedulerTable::default(),
            ownership: Ownership::after(None, None, &servers),
            servers,
            client_address: ClientAddress::Hidden,
            local_v4: vec![local(true)],
            local_v6: vec![local(false)],
            local_ports: (20_000, 60_000),
        }));
    }
    Arc::new(Snapshot {
        generation: 1,
        services: Arc::new(Services::new(services)),
        routes: Arc::new(routes),
        interfaces: Arc::new(interfaces),
        ..Snapshot::default()
    })
}

/// A TCP or UDP packet, as both ends see it. The number comes through the director as it is: TCP's sequence number, or UDP's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub protocol: u8,
    pub source: (Address, u16),
    pub destination: (Address, u16),
    pub flags: u8,
    pub number: u32,
}

impl Segment {
    /// What the other end answers.
    pub fn answer(self) -> Segment {
        Segment {
            source: self.destination,
            destination: self.source,
            flags: tcp::ACK | (self.flags & tcp::SYN),
            ..self
        }
    }

    /// The frame, with `padding` further bytes of payload.
    pub fn frame(&self, to: Mac, padding: usize) -> Vec<u8> {
        let header = if self.protocol == protocol::TCP {
            tcp::HEADER
        } else {
            udp::HEADER + 4
        };
        let mut transport = vec![0u8; header];
        put_u16(&mut transport, 0, self.source.1);
        put_u16(&mut transport, 2, self.destination.1);
        transport.extend((0..padding).map(|at| at as u8));
        let length = transport.len();
        let at = if self.protocol == protocol::TCP {
            put_u32(&mut transport, tcp::SEQUENCE, self.number);
            transport[tcp::DATA_OFFSET] = 0x50;
            transport[tcp::FLAGS] = self.flags;
            tcp::CHECKSUM
        } else {
            put_u16(&mut transport, udp::LENGTH, length as u16);
            put_u32(&mut transport, udp::HEADER, self.number);
            udp::CHECKSUM
        };
        let pseudo = Sum::of_pseudo_header(&self.source.0, &self.destination.0, self.protocol, length as u32);
        let checksum = Sum::of(&transport).plus(pseudo).to_checksum();
        put_u16(&mut transport, at, checksum);
        let (ethertype, mut ip) = self.ip_header(length);
        let mut frame = [&to[..], &[2, 0, 0, 9, 9, 9], &ethertype.to_be_bytes()].concat();
        frame.append(&mut ip);
        frame.append(&mut transport);
        frame
    }

    fn ip_header(&self, length: usize) -> (u16, Vec<u8>) {
        if self.source.0.is_v4() {
            let mut ip = vec![0; ipv4::HEADER];
            ipv4::Header {
                tos: 0,
                total_length: (ipv4::HEADER + length) as u16,
                identification: 7,
                fragment: ipv4::DONT_FRAGMENT,
                ttl: 64,
                protocol: self.protocol,
                source: self.source.0,
                destination: self.destination.0,
            }
            .emit(&mut ip);
            return (ethernet::IPV4, ip);
        }
        let mut ip = vec![0; ipv6::HEADER];
        ipv6::Header {
            traffic_class: 0,
            payload_length: length as u16,
            next_header: self.protocol,
            hop_limit: 64,
            source: self.source.0,
            destination: self.destination.0,
        }
        .emit(&mut ip);
        (ethernet::IPV6, ip)
    }

    /// Reads a frame, the innermost packet if it is a tunnel's, and checks its transport checksum.
    pub fn read(frame: &[u8]) -> Segment {
        let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let mut ip = &frame[ethernet::HEADER..];
        loop {
            let (upper, header, source, destination) = if ip[0] >> 4 == 4 {
                (
                    ip[ipv4::PROTOCOL],
                    ipv4::HEADER,
                    ipv4::source(ip),
                    ipv4::destination(ip),
                )
            } else {
                (
                    ip[ipv6::NEXT_HEADER],
                    ipv6::HEADER,
                    ipv6::source(ip),
                    ipv6::destination(ip),
                )
            };
            let rest = &ip[header..];
            if matches!(upper, protocol::IPIP | protocol::IPV6) {
                ip = rest;
                continue;
            }
            let pseudo = Sum::of_pseudo_header(&source, &destination, upper, rest.len() as u32);
            assert_eq!(
                Sum::of(rest).plus(pseudo).fold(),
                0xffff,
                "the checksum of {frame:02x?}"
            );
            let is_tcp = upper == protocol::TCP;
            return Segment {
                protocol: upper,
                source: (source, word(rest, 0)),
                destination: (destination, word(rest, 2)),
                flags: if is_tcp { rest[tcp::FLAGS] } else { 0 },
                number: number(rest, if is_tcp { tcp::SEQUENCE } else { udp::HEADER }),
            };
        }
    }
}
