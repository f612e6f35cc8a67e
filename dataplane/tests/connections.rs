//! What the simulation found, one case each, small enough to read.

#[path = "simulate/packet.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod packet;

use std::sync::Arc;

use packet::{Body, Decoded, Packet, Tcp, Udp};
use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::io::memory::MemoryFrame;
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::scheduler::{SchedulerKind, compile_table};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, Loads, Ownership, SchedulerFlags, Server, ServerSlot, Service, ServiceSlot,
    TunnelType,
};
use ulvs_dataplane::snapshot::{
    HopIndex, Interface, InterfaceIndex, Interfaces, NextHop, OwnedAddress, Routes, Services, Snapshot, Via,
};
use ulvs_dataplane::steering::Steering;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::verdict::DropReason;

const CLIENT: Address = Address::v4([198, 51, 100, 1]);
const VIRTUAL: Address = Address::v4([203, 0, 113, 1]);
const LOCAL: Address = Address::v4([10, 0, 0, 200]);
const DIRECTOR: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn server(slot: u32) -> Address {
    Address::v4([10, 0, 0, 10 + slot as u8])
}

/// A service on port 80 + `number` with two servers, whose addresses all services share.
fn service(number: u32, protocol: u8, method: ForwardingMethod, client_address: ClientAddress) -> Service {
    let servers: Vec<Server> = (0..2)
        .map(|at| Server {
            slot: ServerSlot(number * 2 + at),
            address: server(at),
            port: 8000,
            weight: 1,
            last_weight: 1,
            method,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    Service {
        slot: ServiceSlot(number),
        revision: 1,
        protocol,
        address: VIRTUAL,
        port: 80 + number as u16,
        scheduler: SchedulerKind::Lc,
        scheduler_flags: SchedulerFlags::default(),
        scheduler_table: compile_table(SchedulerKind::Lc, &servers).unwrap(),
        ownership: Ownership::after(None, None, &servers),
        servers,
        client_address,
        local_v4: vec![LOCAL],
        local_v6: Vec::new(),
        local_ports: (20_000, 20_099),
        one_packet: false,
        persistence: None,
    }
}

fn director(services: Vec<Service>) -> (Pipeline<MemoryFrame>, Arc<Counters>) {
    let interface = |port: u8| Interface {
        port: PortIndex(port),
        vlan: None,
        mac: DIRECTOR[usize::from(port)],
        mtu: 1500,
        address_v4: Some(Address::v4([10, 0, 0, 254])),
        address_v6: None,
    };
    let owned = [(VIRTUAL, OwnedAddress::Virtual), (LOCAL, OwnedAddress::Local)];
    let interfaces = Interfaces::new(vec![interface(0), interface(1)], owned, vec![false; 2]);
    let mut routes = Routes::new(1);
    for (at, address) in [CLIENT, server(0), server(1)].into_iter().enumerate() {
        let index = InterfaceIndex(u16::from(at > 0));
        routes.add_prefix(address, 32, Via::OnLink(index));
        let hop = NextHop::new(index, interfaces.get(index), PEER, 1500);
        routes.set_neighbour(HopIndex(at as u32), index, address, hop);
    }
    let settings = Settings {
        worker: 0,
        steering: Steering::new(1, []),
        connections: 64,
        service_limit: 4,
        server_limit: 8,
        ports: 2,
        hasher: KeyHasher::random(),
    };
    let counters = Arc::new(Counters::new(8));
    let mut pipeline = Pipeline::new(settings, counters.clone(), Arc::new(Loads::new(8)), NOW);
    let snapshot = Snapshot {
        generation: 1,
        services: Arc::new(Services::new(services.into_iter().map(Arc::new))),
        interfaces: Arc::new(interfaces),
        routes: Arc::new(routes),
        ..Snapshot::default()
    };
    pipeline.adopt(NOW, Arc::new(snapshot));
    (pipeline, counters)
}

const NOW: Time = Time::from_secs(1000);

/// Sends frames into a port and reads what leaves.
fn pass(pipeline: &mut Pipeline<MemoryFrame>, port: u8, frames: Vec<Vec<u8>>) -> Vec<Decoded> {
    let mut burst = frames.iter().map(|frame| MemoryFrame::new(frame, 2048)).collect();
    pipeline.burst(NOW, PortIndex(port), &mut burst);
    let sent = pipeline.output.transmit.iter_mut().flat_map(|frames| frames.drain(..));
    sent.map(|frame| packet::decode(&frame.to_vec()).unwrap()).collect()
}

fn whole(mut decoded: Vec<Decoded>) -> Packet {
    assert_eq!(decoded.len(), 1, "{decoded:?}");
    match decoded.remove(0) {
        Decoded::Whole(packet) => packet,
        other => panic!("{other:?}"),
    }
}

fn from_client(body: Body) -> Packet {
    Packet {
        to: DIRECTOR[0],
        from: PEER,
        source: CLIENT,
        destination: VIRTUAL,
        ttl: 64,
        dont_fragment: false,
        id: 7,
        body,
    }
}

fn segment(source_port: u16, destination_port: u16, flags: u8, numbers: (u32, u32), data: &[u8]) -> Body {
    Body::Tcp(Tcp {
        source_port,
        destination_port,
        sequence: numbers.0,
        acknowledgment: numbers.1,
        flags,
        options: Vec::new(),
        data: data.to_vec(),
    })
}

/// A client's segment on its way through the director.
fn client_sends(pipeline: &mut Pipeline<MemoryFrame>, flags: u8, numbers: (u32, u32), data: &[u8]) -> Packet {
    let packet = from_client(segment(30_000, 80, flags, numbers, data));
    whole(pass(pipeline, 0, vec![packet::encode(&packet)]))
}

/// The server's answer to a packet that reached it.
fn server_answers(pipeline: &mut Pipeline<MemoryFrame>, reached: &Packet, flags: u8, numbers: (u32, u32)) -> Packet {
    let Body::Tcp(tcp) = &reached.body else {
        panic!("not TCP")
    };
    let answer = Packet {
        to: DIRECTOR[1],
        from: PEER,
        source: reached.destination,
        destination: reached.source,
        body: segment(tcp.destination_port, tcp.source_port, flags, numbers, b""),
        ..reached.clone()
    };
    whole(pass(pipeline, 1, vec![packet::encode(&answer)]))
}

/// The kernel picks the server for a reused port while the old connection still counts (its timer takes it out a moment later).
#[test]
fn a_reused_port_is_scheduled_before_the_old_connection_is_gone() {
    let (mut pipeline, _) = director(vec![service(0, 6, ForwardingMethod::Nat, ClientAddress::Hidden)]);
    let first = client_sends(&mut pipeline, SYN, (1, 0), b"");
    server_answers(&mut pipeline, &first, RST | ACK, (0, 2));
    let second = client_sends(&mut pipeline, SYN, (100, 0), b"");
    assert_ne!(
        first.destination, second.destination,
        "the other server has no connection yet"
    );
    assert_eq!(pipeline.table().len(), 1);
}

/// A client that gives up and tries again from the same port has another sequence number; the server's answer says which one counts.
#[test]
fn the_proxy_header_goes_where_the_server_expects_it() {
    let (mut pipeline, _) = director(vec![service(0, 6, ForwardingMethod::FullNat, ClientAddress::ProxyV2)]);
    client_sends(&mut pipeline, SYN, (1000, 0), b"");
    let syn = client_sends(&mut pipeline, SYN, (5_000_000, 0), b"");
    let greeting = server_answers(&mut pipeline, &syn, SYN | ACK, (9, 5_000_001));
    assert!(matches!(&greeting.body, Body::Tcp(tcp) if tcp.acknowledgment == 5_000_001));
    let request = client_sends(&mut pipeline, ACK, (5_000_001, 10), b"GET");
    let Body::Tcp(tcp) = &request.body else {
        panic!("not TCP")
    };
    assert_eq!(tcp.sequence, 5_000_001);
    assert!(tcp.data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && tcp.data.ends_with(b"GET"));
    let more = client_sends(&mut pipeline, ACK, (5_000_004, 10), b"x");
    assert!(matches!(&more.body, Body::Tcp(tcp) if tcp.sequence == 5_000_004 + 28));
}

/// One client port, two services, one server: the server cannot tell the connections apart, so there is one.
#[test]
fn a_reply_tuple_belongs_to_the_newest_connection() {
    let nat = |number| service(number, 17, ForwardingMethod::Nat, ClientAddress::Hidden);
    let (mut pipeline, _) = director(vec![nat(0), nat(1)]);
    let datagram = |source_port, destination_port| {
        Body::Udp(Udp {
            source_port,
            destination_port,
            has_checksum: true,
            data: b"question".to_vec(),
        })
    };
    for port in [80, 81, 80] {
        let question = packet::encode(&from_client(datagram(30_000, port)));
        let reached = whole(pass(&mut pipeline, 0, vec![question]));
        let answer = Packet {
            to: DIRECTOR[1],
            source: reached.destination,
            destination: reached.source,
            body: datagram(8000, 30_000),
            ..reached
        };
        let answer = whole(pass(&mut pipeline, 1, vec![packet::encode(&answer)]));
        assert!(
            matches!(&answer.body, Body::Udp(udp) if udp.source_port == port),
            "{answer:?}"
        );
    }
}

/// What is inserted into a first fragment would overlap the second.
#[test]
fn nothing_is_inserted_into_fragments() {
    let toa = service(0, 6, ForwardingMethod::FullNat, ClientAddress::Toa);
    let proxy = service(1, 17, ForwardingMethod::FullNat, ClientAddress::ProxyV2);
    let (mut pipeline, counters) = director(vec![toa, proxy]);
    client_sends(&mut pipeline, SYN, (1, 0), b"");
    let data = [b'x'; 100];
    let pieces = packet::encode_in_pieces(&from_client(segment(30_000, 80, ACK, (2, 10), &data)), 64);
    let mut reassembly = packet::Reassembly::default();
    let mut together = None;
    for decoded in pass(&mut pipeline, 0, pieces) {
        let Decoded::Fragment(fragment) = decoded else {
            panic!("{decoded:?}")
        };
        together = reassembly.add(fragment).or(together);
    }
    let together = together.expect("all pieces arrive").expect("they fit together");
    assert!(matches!(&together.body, Body::Tcp(tcp) if tcp.data == data && tcp.options.is_empty()));

    let datagram = Body::Udp(Udp {
        source_port: 30_000,
        destination_port: 81,
        has_checksum: true,
        data: data.to_vec(),
    });
    let pieces = packet::encode_in_pieces(&from_client(datagram), 64);
    let count = pieces.len() as u64;
    assert!(pass(&mut pipeline, 0, pieces).is_empty());
    assert_eq!(counters.dropped(DropReason::ProxyFragment).get(), count);
}
