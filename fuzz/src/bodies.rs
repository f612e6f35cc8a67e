//! What the fuzz targets do with their bytes. Also run by `dataplane/tests/regressions.rs`, with the inputs that once failed and with random ones.
#![allow(dead_code, reason = "each target uses one of the bodies")]

use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::memory::MemoryFrame;
use ulvs_dataplane::io::{Frame, PortIndex};
use ulvs_dataplane::parse;
use ulvs_dataplane::pipeline::{Pipeline, Redirected, SPARE_FRAMES, Settings};
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

/// Any bytes, in one segment or several: never a panic, and what is accepted lies within the frame.
pub fn parse(data: &[u8]) {
    let Some((&shape, bytes)) = data.split_first() else {
        return;
    };
    let frame = match shape {
        0..=127 => MemoryFrame::new(bytes, 2048),
        _ => MemoryFrame::segmented(bytes, usize::from(shape - 128) * 2, 1 + usize::from(shape & 31)),
    };
    let Ok(link) = parse::link(frame.head()) else { return };
    let mut packet = parse::Packet::EMPTY;
    let (length, may_be_partial) = (frame.total_length(), shape & 1 == 1);
    let parsed = parse::network(
        frame.head(),
        length,
        link,
        may_be_partial,
        frame.checksums(),
        &mut packet,
    );
    if matches!(parsed, parse::Parsed::Packet | parse::Parsed::Icmp) {
        assert!(packet.ip + packet.ip_length <= frame.total_length());
        assert!(packet.transport <= frame.head().len() && packet.transport >= packet.ip);
        assert!(packet.transport_length() <= packet.ip_length);
    }
}

/// Takes bytes off the input; zeroes when it is used up.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn double(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }
}

const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

fn v4(last: u8) -> Address {
    Address::v4([10, 0, 0, last])
}

fn v6(last: u8) -> Address {
    Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

/// A configuration, chosen by two bytes: methods, how servers learn the client, families, what is resolved, the MTU.
fn snapshot(generation: u64, choice: u16) -> Arc<Snapshot> {
    let mtu = [1500, 600, 1280, 9000][usize::from(choice & 3)];
    let interface = |port: u8, last: u8| Interface {
        port: PortIndex(port),
        vlan: (choice & 4 != 0 && port == 1).then_some(7),
        mac: MAC[usize::from(port)],
        mtu,
        address_v4: Some(v4(last)),
        address_v6: Some(v6(last)),
    };
    let both = [interface(0, 251), interface(1, 252)];
    let owned = [(v4(1), OwnedAddress::Virtual), (v6(1), OwnedAddress::Virtual)];
    let local = [(v4(200), OwnedAddress::Local), (v6(200), OwnedAddress::Local)];
    let partial = choice & 8 != 0;
    let interfaces = Interfaces::new(both.to_vec(), owned.into_iter().chain(local), vec![partial; 2]);
    let mut routes = Routes::new(generation as u32);
    routes.add_prefix(v4(0), 24, Via::OnLink(InterfaceIndex(1)));
    routes.add_prefix(v6(0), 64, Via::OnLink(InterfaceIndex(1)));
    routes.add_prefix(Address::v4([0; 4]), 0, Via::Gateway(InterfaceIndex(0), v4(254)));
    routes.add_prefix(Address::v6([0; 16]), 0, Via::Gateway(InterfaceIndex(0), v6(254)));
    let resolved = [v4(254), v6(254), v4(10), v4(11), v6(10), v6(11)];
    for (at, neighbour) in resolved.into_iter().enumerate() {
        if choice & 0xc000 != 0xc000 || choice >> (8 + at) & 1 == 0 {
            let index = InterfaceIndex(u16::from(at >= 2));
            let hop = NextHop::new(index, interfaces.get(index), SERVER_MAC, mtu);
            routes.set_neighbour(HopIndex(at as u32), index, neighbour, hop);
        }
    }
    let services = (0..8).filter(|number| choice >> 4 & 3 != 3 || number % 3 != 0);
    let services = Services::new(services.map(|number| Arc::new(service(number, generation, choice))));
    Arc::new(Snapshot {
        generation,
        services: Arc::new(services),
        interfaces: Arc::new(interfaces),
        routes: Arc::new(routes),
        ..Snapshot::default()
    })
}

fn service(number: u32, revision: u64, choice: u16) -> Service {
    use ForwardingMethod::{DirectRouting, FullNat, Nat, Tunnel};
    let is_v4 = number & 1 == 0;
    // Only FullNAT and tunnels lead into the other family.
    let rotation = u32::from(choice >> 6);
    let method = [Nat, DirectRouting, Tunnel, FullNat, FullNat, FullNat][((number + rotation) % 6) as usize];
    let crosses = choice & 16 != 0 && matches!(method, FullNat | Tunnel);
    let address = if is_v4 != crosses { v4 } else { v6 };
    let rewrites = matches!(method, Nat | FullNat);
    let port = 80 + (number / 4) as u16;
    let servers: Vec<Server> = (0..2)
        .map(|at| Server {
            slot: ServerSlot(number * 2 + at),
            address: address(10 + at as u8),
            port: if rewrites { 8000 } else { port },
            weight: 1 + at,
            last_weight: 1 + at,
            method,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelType::Ipip,
        })
        .collect();
    let scheduler = SchedulerKind::ALL[number as usize % SchedulerKind::ALL.len()];
    Service {
        slot: ServiceSlot(number),
        revision,
        protocol: if number & 2 == 0 { 6 } else { 17 },
        address: if is_v4 { v4(1) } else { v6(1) },
        port,
        scheduler,
        scheduler_flags: SchedulerFlags::default(),
        scheduler_table: compile_table(scheduler, &servers).expect("two servers"),
        ownership: Ownership::after(None, None, &servers),
        servers,
        client_address: [ClientAddress::Hidden, ClientAddress::Toa, ClientAddress::ProxyV2]
            [usize::from(choice >> 4) % 3],
        local_v4: vec![v4(200)],
        local_v6: vec![v6(200)],
        local_ports: (5000, 5031),
        one_packet: false,
        persistence: None,
    }
}

/// The one's-complement sum, folded.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = bytes.chunks(2).fold(start, |sum, pair| {
        sum + (u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Where the IP packet in a frame starts and ends. `None` when there is none or its lengths make no sense.
fn ip_range(frame: &[u8]) -> Option<std::ops::Range<usize>> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let start = if matches!(word(12)?, 0x8100 | 0x88a8) { 18 } else { 14 };
    let length = match (word(start - 2)?, frame.get(start)? >> 4) {
        (0x0800, 4) => usize::from(word(start + 2)?),
        (0x86dd, 6) => 40 + usize::from(word(start + 4)?),
        _ => return None,
    };
    let header = if frame[start] >> 4 == 4 {
        usize::from(frame[start] & 15) * 4
    } else {
        40
    };
    (header >= 20 && length >= header && start + length <= frame.len()).then_some(start..start + length)
}

/// An IP packet's transport protocol, offset, checksum offset and the sum of its pseudo-header. `None` where there is no checksum to look at.
fn transport(ip: &[u8]) -> Option<(usize, usize, u32)> {
    let (protocol, start, addresses, length) = match ip.first()? >> 4 {
        4 => {
            let start = usize::from(ip[0] & 15) * 4;
            let is_fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0;
            if is_fragment {
                return None;
            }
            (*ip.get(9)?, start, ip.get(12..20)?, ip.len().checked_sub(start)?)
        }
        6 => (*ip.get(6)?, 40, ip.get(8..40)?, ip.len().checked_sub(40)?),
        _ => return None,
    };
    let pseudo = u32::from(sum(addresses, u32::from(protocol) + length as u32));
    let (at, pseudo) = match protocol {
        6 => (16, pseudo),
        17 => (6, pseudo),
        1 => (2, 0),
        58 => (2, pseudo),
        _ => return None,
    };
    (length >= at + 2).then_some((start, at, pseudo))
}

/// Makes every checksum right, as far as the headers make sense.
fn put_checksums(frame: &mut [u8]) {
    let Some(range) = ip_range(frame) else { return };
    let ip = &mut frame[range];
    if ip.len() >= 20 && ip[0] >> 4 == 4 {
        let header = (usize::from(ip[0] & 15) * 4).min(ip.len()) & !1;
        ip[10..12].fill(0);
        let checksum = !sum(&ip[..header], 0);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    if let Some((start, at, pseudo)) = transport(ip) {
        ip[start + at..start + at + 2].fill(0);
        let checksum = !sum(&ip[start..], pseudo);
        ip[start + at..start + at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Whether a frame is an IP packet, all of whose checksums are right. Those that need not be there need not.
fn is_right(frame: &[u8]) -> bool {
    let Some(range) = ip_range(frame) else { return false };
    let ip = &frame[range];
    let is_v4 = ip[0] >> 4 == 4;
    if is_v4 && sum(&ip[..usize::from(ip[0] & 15) * 4], 0) != 0xffff {
        return false;
    }
    let is_udp = ip[if is_v4 { 9 } else { 6 }] == 17;
    match transport(ip) {
        Some((start, at, _)) if is_udp && ip[start + at..start + at + 2] == [0, 0] => is_v4,
        Some((start, _, pseudo)) => sum(&ip[start..], pseudo) == 0xffff,
        None => true,
    }
}

/// A frame from the input: a packet that makes sense for the configuration, then some of its bytes changed.
fn frame(input: &mut Reader, port: u8, is_tagged: bool) -> Vec<u8> {
    let shape = input.byte();
    let is_v4 = shape & 1 == 0;
    let protocol = [6, 17, 6, 17, if is_v4 { 1 } else { 58 }, 6, 17, 99][usize::from(shape >> 1 & 7)];
    let address = |byte: u8| {
        let last = [1, 1, 1, 200, 33, 34, 10, 11][usize::from(byte % 8)];
        if is_v4 { v4(last) } else { v6(last) }
    };
    let addresses = input.byte();
    let (source, destination) = if port == 0 {
        (address(4 + addresses % 2), address(addresses >> 4))
    } else {
        (address(6 + addresses % 2), address(3 + (addresses >> 4) % 3))
    };
    let ports = [
        33_000 + u16::from(input.byte() % 4),
        [80, 80, 81, 81, 8000][usize::from(input.byte() % 5)],
    ];
    let ports = if port == 0 {
        ports
    } else {
        [
            8000,
            [33_000, 33_001, 5000 + u16::from(addresses % 32)][usize::from(ports[1] % 3)],
        ]
    };
    let mut data: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    let length = usize::from(input.word() % 2000);
    match protocol {
        6 => {
            data.extend(input.double().to_be_bytes());
            data.extend(input.double().to_be_bytes());
            let options = usize::from(input.byte() % 11);
            data.extend([
                ((5 + options) << 4) as u8,
                [2, 16, 18, 4, 17, 24][usize::from(input.byte() % 6)],
                255,
                255,
                0,
                0,
                0,
                0,
            ]);
            data.extend((0..options * 4).map(|_| input.byte()));
        }
        17 => data.extend([((length + 8) >> 8) as u8, (length + 8) as u8, 0, 0]),
        1 | 58 => {
            data[0] = [3, 8, 11, 1, 128, 2, 135, 4][usize::from(input.byte() % 8)];
            data[1] = input.byte() % 6;
            data.extend([0, 0, 5, 0]);
        }
        _ => {}
    }
    data.extend((0..length).map(|at| at as u8));
    let mut frame = MAC[usize::from(port)].to_vec();
    frame.extend(SERVER_MAC);
    if is_tagged && port == 1 {
        frame.extend([0x81, 0, 0, 7]);
    }
    let ttl = if shape & 0x60 == 0x60 { 1 } else { 64 };
    let fragment = if shape & 0x90 == 0x90 { input.word() & 0x60ff } else { 0 };
    if is_v4 {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + data.len() as u16).to_be_bytes());
        frame.extend([0, addresses]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([ttl, protocol, 0, 0]);
    } else {
        let extension = if fragment != 0 { 8 } else { 0 };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((data.len() as u16 + extension).to_be_bytes());
        frame.extend([if fragment != 0 { 44 } else { protocol }, ttl]);
    }
    frame.extend(source.wire());
    frame.extend(destination.wire());
    if !is_v4 && fragment != 0 {
        frame.extend([protocol, 0]);
        frame.extend((fragment << 3 & 0xfff8 | fragment >> 13 & 1).to_be_bytes());
        frame.extend([0, 0, 0, addresses]);
    }
    frame.extend(data);
    put_checksums(&mut frame);
    let changes = input.byte();
    if changes > 200 {
        for _ in 0..changes - 200 {
            let at = usize::from(input.word()) % frame.len().min(120);
            frame[at] = input.byte();
        }
        if changes & 1 == 0 {
            put_checksums(&mut frame);
        }
    }
    frame
}

/// The workers of one director, joined without rings.
struct Director {
    pipelines: Vec<Pipeline<MemoryFrame>>,
    counters: Vec<Arc<Counters>>,
    now: Time,
}

impl Director {
    fn new(workers: u8) -> Director {
        let loads = Arc::new(Loads::new(16));
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(Counters::new(16))).collect();
        let now = Time::from_secs(1000);
        let pipeline = |worker: u8| {
            let settings = Settings {
                worker,
                steering: Steering::new(workers, []),
                connections: 16,
                service_limit: 8,
                server_limit: 16,
                ports: 2,
                hasher: KeyHasher::new([
                    0x1234_5678_9abc_def1,
                    0xfedc_ba98_7654_3217,
                    0x0f1e_2d3c_4b5a_6978,
                    0x1357_9bdf_0246_8ace,
                    0x9e37_79b9_7f4a_7c15,
                ]),
            };
            Pipeline::new(settings, counters[usize::from(worker)].clone(), loads.clone(), now)
        };
        Director {
            pipelines: (0..workers).map(pipeline).collect(),
            counters,
            now,
        }
    }

    /// A frame comes to a worker. All that it leads to happens at once.
    fn receive(&mut self, worker: usize, port: u8, frame: MemoryFrame, was_right: bool) {
        let spare = &mut self.pipelines[worker].output.spare;
        spare.resize_with(SPARE_FRAMES, || MemoryFrame::new(&[], 2048));
        let mut burst = vec![frame];
        self.pipelines[worker].burst(self.now, PortIndex(port), &mut burst);
        assert!(burst.is_empty());
        self.pipelines[worker].release_ready(self.now);
        let mut hops = 0;
        while let Some((to, redirected)) = self.take_redirected() {
            hops += 1;
            assert!(hops < 1000, "frames go round and round");
            self.pipelines[to].redirected(self.now, redirected);
            self.pipelines[to].release_ready(self.now);
        }
        self.check(was_right);
    }

    fn take_redirected(&mut self) -> Option<(usize, Redirected<MemoryFrame>)> {
        let outputs = self.pipelines.iter_mut().map(|pipeline| &mut pipeline.output.redirect);
        outputs
            .flat_map(|redirect| redirect.iter_mut().enumerate())
            .find_map(|(to, frames)| Some((to, frames.pop()?)))
    }

    /// One verdict for each frame; right checksums where they were right before.
    fn check(&mut self, was_right: bool) {
        for (pipeline, counters) in self.pipelines.iter_mut().zip(&self.counters) {
            let came = counters.event(Event::Received).get() + counters.event(Event::RedirectedIn).get();
            assert_eq!(came, counters.verdicts() + counters.held.get());
            let output = &mut pipeline.output;
            for frame in output.transmit.iter_mut().flat_map(|frames| frames.drain(..)) {
                let bytes = frame.to_vec();
                assert!(bytes.len() >= 14, "an empty frame was sent");
                assert!(
                    !was_right || is_right(&bytes),
                    "a wrong checksum was sent: {bytes:02x?}"
                );
            }
            output.free.clear();
            output.punt.clear();
            output.resolve.clear();
        }
    }
}

/// A configuration, then frames, pauses and other configurations in any order.
pub fn pipeline(data: &[u8]) {
    let mut input = Reader(data);
    let mut director = Director::new([1, 2, 5][usize::from(input.byte() % 3)]);
    let mut generation = 1;
    let mut choice = input.word();
    let first = snapshot(generation, choice);
    for pipeline in &mut director.pipelines {
        pipeline.adopt(director.now, first.clone());
    }
    // Frames that waited can leave together with others; whether those were right is not remembered.
    let mut all_right = true;
    while !input.0.is_empty() {
        let step = input.byte();
        match step {
            0..=7 => {
                director.now = director.now + (u64::from(input.byte()) << (20 + u64::from(step) * 2));
                for pipeline in &mut director.pipelines {
                    pipeline.housekeeping(director.now);
                }
            }
            8..=11 => {
                generation += 1;
                choice = input.word();
                let next = snapshot(generation, choice);
                let some = input.byte();
                for (number, pipeline) in director.pipelines.iter_mut().enumerate() {
                    if some >> number & 1 == 0 {
                        pipeline.adopt(director.now, next.clone());
                    }
                }
            }
            16..=17 => {
                let length = usize::from(input.byte());
                let bytes: Vec<u8> = (0..length).map(|_| input.byte()).collect();
                let worker = usize::from(step) % director.pipelines.len();
                director.receive(worker, step & 1, MemoryFrame::new(&bytes, 2048), false);
            }
            _ => {
                let bytes = frame(&mut input, step & 1, choice & 4 != 0);
                let worker = usize::from(step >> 1) % director.pipelines.len();
                all_right &= is_right(&bytes);
                let frame = match step {
                    240.. => MemoryFrame::segmented(&bytes, 160, 100),
                    _ => MemoryFrame::new(&bytes, 4096),
                };
                director.receive(worker, step & 1, frame, all_right);
            }
        }
        director.check(all_right);
    }
}
