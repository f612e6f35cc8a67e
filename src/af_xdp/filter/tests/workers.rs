//! A packet is the same one's on every backend: the filter, and workers that get all frames of a port with a twin, agree whose it is.

use std::sync::Arc;

use super::*;
use ulvs_control::compile::{Compiler, owned_addresses};
use ulvs_control::config;
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::Counters;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::io::memory::MemoryFrame;
use ulvs_dataplane::kernel::{KernelSide, claimed_endpoints};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::Loads;
use ulvs_dataplane::snapshot::{Interface, Interfaces, Services, Snapshot};
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::checksum::Sum;

/// NAT on an address that is the director's alone, FullNAT on one that the kernel holds too, as it holds the local addresses.
const CONFIG: &str = r#"
    [[port]]
    interface = "eth0"
    [[local_pool]]
    name = "inside"
    addresses = ["10.0.0.21", "fd00::21"]
    [[service]]
    protocol = "tcp"
    address = ["10.0.0.10:80", "[fd00::10]:80"]
    method = "nat"
    [[service.server]]
    address = "10.1.0.5:8080"
    [[service.server]]
    address = "[fd00:1::5]:8080"
    [[service]]
    protocol = "tcp"
    address = ["10.0.0.20:80", "[fd00::20]:80"]
    method = "fullnat"
    local_pool = "inside"
    [[service.server]]
    address = "10.1.0.6:8080"
    [[service.server]]
    address = "[fd00:1::6]:8080"
"#;
/// The kernel's alone, and shared ones.
const KERNEL: [&str; 6] = ["10.0.0.1", "fd00::1", "10.0.0.20", "fd00::20", "10.0.0.21", "fd00::21"];
/// Of every kind: the kernel's, the director's, a shared virtual and a shared local one, a server's, a stranger's, a group.
const DESTINATIONS: [[&str; 7]; 2] = [
    [
        "10.0.0.1",
        "10.0.0.10",
        "10.0.0.20",
        "10.0.0.21",
        "10.1.0.5",
        "203.0.113.5",
        "224.0.0.251",
    ],
    [
        "fd00::1",
        "fd00::10",
        "fd00::20",
        "fd00::21",
        "fd00:1::5",
        "2001:db8::5",
        "ff02::fb",
    ],
];
/// A server of NAT, one of FullNAT, a stranger.
const SOURCES: [[&str; 3]; 2] = [
    ["10.1.0.5", "10.1.0.6", "198.51.100.7"],
    ["fd00:1::5", "fd00:1::6", "2001:db8::7"],
];

/// With lengths and checksums that a worker insists on.
fn whole(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = packet(source, destination, protocol, payload);
    if packet[0] >> 4 == 4 {
        let length = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        let checksum = Sum::of(&packet[..20]).to_checksum().to_be_bytes();
        packet[10..12].copy_from_slice(&checksum);
    } else {
        let length = (payload.len() as u16).to_be_bytes();
        packet[4..6].copy_from_slice(&length);
    }
    packet
}

fn whole_icmp(source: &str, destination: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = icmp(kind, body);
    let (from, to) = (address(source), address(destination));
    let (protocol, pseudo) = if from.is_v4() {
        (ICMP, Sum::of(&[]))
    } else {
        (ICMPV6, Sum::of_pseudo_header(&from, &to, ICMPV6, message.len() as u32))
    };
    let checksum = Sum::of(&message).plus(pseudo).to_checksum().to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    whole(source, destination, protocol, &message)
}

fn tcp(source: u16, destination: u16) -> Vec<u8> {
    let mut header = ports(source, destination);
    (header[12], header[13]) = (0x50, 0x02);
    header
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    let mut header = ports(source, destination);
    header[5] = header.len() as u8;
    header
}

/// What it is, and the packet.
fn packets() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for family in 0..2 {
        let errors: [u8; 2] = [[3, 11], [1, 3]][family];
        let echo: [u8; 3] = [[8, 0, 13], [128, 129, 200]][family];
        for source in SOURCES[family] {
            for destination in DESTINATIONS[family] {
                let way = format!("{source} > {destination}");
                for (from, to) in [(8080, 80), (8080, 40000), (40000, 80), (40000, 8080), (40000, 22)] {
                    all.push((
                        format!("{way} tcp {from} > {to}"),
                        whole(source, destination, TCP, &tcp(from, to)),
                    ));
                    all.push((
                        format!("{way} udp {from} > {to}"),
                        whole(source, destination, UDP, &udp(from, to)),
                    ));
                }
                all.push((format!("{way} esp"), whole(source, destination, 50, &[1; 40])));
                for kind in echo {
                    all.push((
                        format!("{way} icmp {kind}"),
                        whole_icmp(source, destination, kind, &[0; 8]),
                    ));
                }
                // About a packet that went the other way round: from where this goes, to any of the others.
                for quoted in SOURCES[family] {
                    for (from, to) in [(80, 40000), (22, 40000), (8080, 443), (40000, 8080)] {
                        let inner = whole(destination, quoted, TCP, &tcp(from, to));
                        let what = format!("{way} error about {destination}:{from} > {quoted}:{to}");
                        all.push((what, whole_icmp(source, destination, errors[0], &inner)));
                    }
                    let inner = whole(destination, quoted, 50, &[1; 40]);
                    all.push((
                        format!("{way} error about esp"),
                        whole_icmp(source, destination, errors[1], &inner),
                    ));
                }
            }
        }
    }
    all
}

#[test]
fn workers_and_the_filter_agree() {
    let Some(mut filter) = filter(&[0]) else { return };
    let config = config::parse(CONFIG, "test").unwrap();
    let loads = Arc::new(Loads::new(config.director.server_limit));
    let services = Compiler::new(&config.director, Arc::clone(&loads))
        .compile(&config)
        .unwrap();
    let owned = owned_addresses(services.iter());
    let kernel = KernelSide::new(KERNEL.map(address), services.iter().map(AsRef::as_ref));

    let mut classes: HashMap<Address, AddressClass> = KERNEL.map(|own| (address(own), AddressClass::Kernel)).into();
    for own in owned.keys() {
        let is_shared = classes.contains_key(own);
        classes.insert(
            *own,
            if is_shared {
                AddressClass::Shared
            } else {
                AddressClass::Owned
            },
        );
    }
    let claimed = services
        .iter()
        .flat_map(|service| claimed_endpoints(service, |own| kernel.holds(own)));
    let claimed = claimed.map(|key| Endpoint {
        address: key.address,
        port: key.port,
        protocol: key.protocol,
    });
    filter.update(&classes, claimed).unwrap();

    let interface = Interface {
        port: PortIndex(0),
        vlan: None,
        mac: UNICAST,
        mtu: 1500,
        address_v4: Some(address("10.0.0.1")),
        address_v6: Some(address("fd00::1")),
    };
    let snapshot = Arc::new(Snapshot {
        generation: 1,
        services: Arc::new(Services::new(services)),
        interfaces: Arc::new(Interfaces::new(vec![interface], owned, vec![false])),
        kernel: Some(Arc::new(kernel)),
        ..Snapshot::default()
    });
    let hasher = KeyHasher::random();
    let (mut passed, mut taken) = (0, 0);
    for (what, packet) in packets() {
        let frame = frame(&packet);
        // A new one each time, so that no connection is known.
        let settings = Settings {
            worker: 0,
            steering: ulvs_dataplane::steering::Steering::new(1, []),
            connections: 1,
            service_limit: config.director.service_limit,
            server_limit: 16,
            ports: 1,
            hasher,
        };
        let counters = Arc::new(Counters::new(16));
        let mut pipeline = Pipeline::new(
            settings,
            Arc::clone(&counters),
            Arc::clone(&loads),
            Time::from_secs(1000),
        );
        pipeline.adopt(Time::from_secs(1000), Arc::clone(&snapshot));
        pipeline.burst(
            Time::from_secs(1000),
            PortIndex(0),
            &mut vec![MemoryFrame::new(&frame, 2048)],
        );
        let worker = if pipeline.output.punt.is_empty() {
            Director
        } else {
            Kernel
        };
        let by_filter = verdict(&filter, &frame);
        assert_eq!(worker, by_filter, "{what}: the worker's answer, and the filter's");
        match worker {
            Kernel => passed += 1,
            Director => taken += 1,
        }
    }
    assert!(
        passed > 500 && taken > 200,
        "{passed} passed, {taken} taken: the cases are one-sided"
    );
}
