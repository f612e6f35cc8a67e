//! The director, the network around it, and what must hold of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::connection::{Connection, flag};
use ulvs_dataplane::conn::key::{Key, KeyHasher};
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::memory::{MemoryFrame, MemoryIo};
use ulvs_dataplane::io::{Io, PortIndex};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, Loads, ServerSlot};
use ulvs_dataplane::snapshot::Snapshot;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::ethernet::Mac;
use ulvs_dataplane::worker::{FromWorker, Mailbox, Mesh, ToWorker, Worker};

use super::flows::{ACK, Endpoint, FIN, Flow, Phase, RST, SYN, Segment};
use super::packet::{self, Body, Decoded, Packet, Reassembly, Tcp, Udp};
use super::plan::{self, DIRECTOR, GATEWAY, INSIDE, OUTSIDE, Plan, SERVERS};
use super::random::Random;

/// Frames of each worker's pool: few in some runs, so that it is empty now and then (64 are kept spare).
const POOL: [usize; 3] = [80, 150, 700];
/// Entries of each worker's table: few in some runs, so that it fills.
const CONNECTIONS: [usize; 3] = [16, 48, 400];
const SECOND: u64 = 1_000_000_000;
/// Packets whose originals are remembered.
const REMEMBERED: u32 = 20_000;

/// Where a frame is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Director(PortIndex),
    Clients,
    Server(Mac),
}

/// A packet as its sender sent it.
#[derive(Clone, Debug)]
struct Sent {
    flow: u32,
    from_client: bool,
    packet: Packet,
}

/// A server, and the ends of a connection as it sees them: its own, then the peer's.
type EndpointKey = (Mac, Address, u16, Address, u16);

/// How the network behaves, in percent of frames.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: usize,
    pub duplicated: usize,
    pub late: usize,
}

/// How much came through: a run that tested nothing must not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub complete: u64,
    pub to_servers: u64,
    pub to_clients: u64,
    pub datagrams: u64,
    pub icmp: u64,
    pub stateless: u64,
    pub redirected: u64,
    pub reused: u64,
    pub expired: u64,
}

/// See the module.
pub struct World {
    pub random: Random,
    pub now: Time,
    pub plan: Plan,
    pub weather: Weather,
    pub tally: Tally,
    /// A hash over everything that left the director.
    pub trace: u64,
    by_hash: bool,
    pool: usize,
    workers: Vec<Worker<MemoryIo>>,
    mailboxes: Vec<Mailbox>,
    counters: Vec<Arc<Counters>>,
    loads: Arc<Loads>,
    generations: Vec<u64>,
    letters: Vec<Vec<Arc<Snapshot>>>,
    wire: BTreeMap<(u64, u64), (Place, Vec<u8>)>,
    wire_serial: u64,
    flows: Vec<Flow>,
    by_tuple: BTreeMap<(Address, u16, usize), Vec<u32>>,
    endpoints: BTreeMap<EndpointKey, Endpoint>,
    sent: BTreeMap<u32, Sent>,
    serial: u32,
    /// Whom a server talks to under a tuple of its own: the flow that last came to it from there.
    peers: BTreeMap<EndpointKey, u32>,
    /// Packets that left lately, by port: what routers complain about.
    lately: [Vec<Vec<u8>>; 2],
    tap: Reassembly,
    hosts: BTreeMap<Mac, Reassembly>,
    clients: Reassembly,
}

type Checked<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition { return Err(format!($($text)+)); }
    };
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let count = *random.pick(&[1, 2, 5]);
        let plan = Plan::new(&mut random);
        let hasher = KeyHasher::new(std::array::from_fn(|_| random.next()));
        // Some runs start shortly before the wheel's tick wraps around.
        let start = *random.pick(&[1000 * SECOND, ((1 << 32) - 4000) << 26]);
        let pool = *random.pick(&POOL);
        let connections = *random.pick(&CONNECTIONS);
        let loads = Arc::new(Loads::new(plan.services.len() * SERVERS));
        let mesh = Mesh::new(count);
        let mailboxes: Vec<Mailbox> = (0..count).map(|_| Mailbox::default()).collect();
        let slots = plan.services.len() * SERVERS;
        let counters: Vec<_> = (0..count).map(|_| Arc::new(Counters::new(slots))).collect();
        let worker = |number: usize| {
            let settings = Settings {
                worker: number as u8,
                workers: count as u8,
                connections,
                service_limit: plan.services.len(),
                server_limit: slots,
                ports: 2,
                hasher,
            };
            let pipeline = Pipeline::new(settings, counters[number].clone(), loads.clone(), Time(start));
            let io = MemoryIo::new(2, pool, 2048);
            Worker::new(io, pipeline, number, mailboxes[number].clone(), mesh.clone())
        };
        let workers = (0..count).map(worker).collect();
        let weather = Weather {
            lost: *random.pick(&[0, 3, 20]),
            duplicated: *random.pick(&[0, 2, 10]),
            late: *random.pick(&[0, 10, 40]),
        };
        let mut world = World {
            now: Time(start),
            weather,
            tally: Tally::default(),
            trace: 0,
            by_hash: random.chance(50),
            pool,
            workers,
            mailboxes,
            counters,
            loads,
            generations: vec![0; count],
            letters: vec![Vec::new(); count],
            wire: BTreeMap::new(),
            wire_serial: 0,
            flows: Vec::new(),
            by_tuple: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            sent: BTreeMap::new(),
            serial: 0,
            peers: BTreeMap::new(),
            lately: [Vec::new(), Vec::new()],
            tap: Reassembly::default(),
            hosts: BTreeMap::new(),
            clients: Reassembly::default(),
            random,
            plan,
        };
        world.configure();
        world
    }

    // ---- the control side ----

    /// Sends the plan to every worker; each gets it, and takes it over, at its own time.
    pub fn configure(&mut self) {
        let snapshot = self.plan.snapshot();
        self.letters
            .iter_mut()
            .for_each(|letters| letters.push(snapshot.clone()));
    }

    /// Some workers get the configurations that were sent to them.
    fn deliver_letters(&mut self) {
        for (mailbox, letters) in self.mailboxes.iter().zip(&mut self.letters) {
            if self.random.chance(20) {
                let now = letters.len().min(8);
                for snapshot in letters.drain(..now) {
                    let letter = mailbox.to_worker.push(ToWorker::Adopt(snapshot));
                    letter.expect("workers read their mail");
                }
            }
        }
    }

    /// Whether every worker uses the newest configuration.
    fn is_settled(&self) -> bool {
        self.generations.iter().all(|&own| own == self.plan.generation)
    }

    /// The slots of servers that are in no configuration, and that no worker's connection names: they may be given to others.
    pub fn free_slots(&mut self) -> Vec<usize> {
        if !self.is_settled() {
            return Vec::new();
        }
        (0..self.plan.services.len() * SERVERS)
            .filter(|&slot| {
                let load = self.loads.get(ServerSlot(slot as u32));
                let service = &self.plan.services[slot / SERVERS];
                !(service.is_configured && service.servers[slot % SERVERS].is_configured)
                    && load.active() + load.inactive() == 0
            })
            .collect()
    }

    /// Gives a free slot to a new server.
    pub fn replace_server(&mut self, slot: usize) {
        self.loads.get(ServerSlot(slot as u32)).reset();
        self.plan.replace_server(slot);
    }

    fn read_answers(&mut self) -> Checked {
        for (number, mailbox) in self.mailboxes.iter().enumerate() {
            while let Some(answer) = mailbox.from_worker.pop() {
                if let FromWorker::Adopted(generation, _) = answer {
                    ensure!(generation > self.generations[number], "configurations out of order");
                    self.generations[number] = generation;
                }
            }
        }
        Ok(())
    }

    // ---- clients and servers ----

    /// A client begins a conversation with a service.
    pub fn open(&mut self, service: usize, client: usize, client_port: u16) {
        let planned = &self.plan.services[service];
        let is_tcp = planned.protocol == packet::TCP;
        let client = plan::client(planned.address.is_v4(), client);
        let id = self.flows.len() as u32;
        let isn = self.random.next() as u32;
        let flow = Flow {
            id,
            service,
            client,
            client_port,
            is_tcp,
            isn,
            phase: Phase::Opening,
            request: self.random.between(0, 4000),
            response: self.random.between(1, 6000),
            acknowledged: 0,
            received: 0,
            irs: 0,
            binding: None,
            may_move: false,
            is_complete: false,
        };
        self.by_tuple
            .entry((client, client_port, service))
            .or_default()
            .push(id);
        self.flows.push(flow);
        self.poke_client(id);
    }

    /// One of the latest flows, if there is any.
    pub fn some_flow(&mut self) -> Option<u32> {
        let count = self.flows.len();
        (count > 0).then(|| (count - 1 - self.random.below(count.min(40))) as u32)
    }

    /// A client's timer fires.
    pub fn poke_client(&mut self, flow: u32) {
        if !self.flows[flow as usize].is_tcp {
            let longest = *self.random.pick(&[40, 1000, 3500]);
            let data = self.random.between(0, longest);
            return self.send_datagram(flow, data);
        }
        let segments = self.flows[flow as usize].poke();
        self.send_from_client(flow, segments);
    }

    /// A client gives up.
    pub fn reset_client(&mut self, flow: u32) {
        if self.flows[flow as usize].is_tcp {
            let segments = self.flows[flow as usize].reset();
            self.send_from_client(flow, segments);
        }
    }

    /// A server's timer fires.
    pub fn poke_server(&mut self) -> Checked {
        if self.endpoints.is_empty() {
            return Ok(());
        }
        let at = self.random.below(self.endpoints.len());
        let Some((key, endpoint)) = self.endpoints.iter_mut().nth(at) else {
            return Ok(());
        };
        let &(mac, source, source_port, destination, destination_port) = key;
        let answer = Key {
            source,
            destination,
            source_port,
            destination_port,
            protocol: packet::TCP,
        };
        let (flow, segments) = (endpoint.flow, endpoint.poke());
        self.answer_from_server(flow, &answer, mac, segments);
        Ok(())
    }

    fn option(&mut self, flow: u32, flags: u8) -> (u32, Vec<u8>) {
        self.serial += 1;
        let mut options = vec![1, 1, 8, 10];
        options.extend(flow.to_be_bytes());
        options.extend(self.serial.to_be_bytes());
        if flags & SYN != 0 {
            options.extend([2, 4, 0x05, 0xb4]);
        }
        (self.serial, options)
    }

    fn send_from_client(&mut self, flow: u32, segments: Vec<Segment>) {
        for segment in segments {
            let (service, client, port) = {
                let flow = &self.flows[flow as usize];
                (flow.service, flow.client, flow.client_port)
            };
            let planned = &self.plan.services[service];
            let tuple = Key {
                source: client,
                destination: planned.address,
                source_port: port,
                destination_port: planned.port,
                protocol: packet::TCP,
            };
            self.send_segment(flow, true, &tuple, segment, (DIRECTOR[0], GATEWAY));
        }
    }

    fn send_segment(&mut self, flow: u32, from_client: bool, tuple: &Key, segment: Segment, (to, from): (Mac, Mac)) {
        let (flags, sequence, acknowledgment, data) = segment;
        if flags & (FIN | RST) != 0 {
            self.may_move(flow);
        }
        let (serial, options) = self.option(flow, flags);
        let packet = Packet {
            to,
            from,
            source: tuple.source,
            destination: tuple.destination,
            ttl: 64,
            dont_fragment: true,
            id: serial,
            body: Body::Tcp(Tcp {
                source_port: tuple.source_port,
                destination_port: tuple.destination_port,
                sequence,
                acknowledgment,
                flags,
                options,
                data,
            }),
        };
        self.send(flow, from_client, serial, packet);
    }

    /// All flows between the same ends may be served by another server from now on.
    fn may_move(&mut self, flow: u32) {
        let flow = &self.flows[flow as usize];
        let tuple = (flow.client, flow.client_port, flow.service);
        for &other in &self.by_tuple[&tuple] {
            self.flows[other as usize].may_move = true;
        }
    }

    fn send_datagram(&mut self, flow: u32, length: usize) {
        let (service, client, port) = {
            let flow = &self.flows[flow as usize];
            (flow.service, flow.client, flow.client_port)
        };
        let planned = &self.plan.services[service];
        let tuple = Key {
            source: client,
            destination: planned.address,
            source_port: port,
            destination_port: planned.port,
            protocol: packet::UDP,
        };
        self.send_udp(flow, true, &tuple, length, (DIRECTOR[0], GATEWAY));
    }

    fn send_udp(&mut self, flow: u32, from_client: bool, tuple: &Key, length: usize, (to, from): (Mac, Mac)) {
        self.serial += 1;
        let serial = self.serial;
        let mut data = flow.to_be_bytes().to_vec();
        data.extend(serial.to_be_bytes());
        data.extend(super::flows::stream(serial, 0, length, from_client));
        let packet = Packet {
            to,
            from,
            source: tuple.source,
            destination: tuple.destination,
            ttl: 64,
            dont_fragment: false,
            id: serial,
            body: Body::Udp(Udp {
                source_port: tuple.source_port,
                destination_port: tuple.destination_port,
                has_checksum: !tuple.source.is_v4() || self.random.chance(90),
                data,
            }),
        };
        self.send(flow, from_client, serial, packet);
    }

    fn send(&mut self, flow: u32, from_client: bool, serial: u32, packet: Packet) {
        self.sent.remove(&serial.wrapping_sub(REMEMBERED));
        let (_, data) = packet::transport(&packet);
        // Some routers on the way cut even what would fit.
        let is_cut = data.len() > 1400 || data.len() > 64 && self.random.chance(10);
        let mut frames = if is_cut {
            packet::encode_in_pieces(&packet, *self.random.pick(&[48, 504, 1000, 1400]))
        } else {
            vec![packet::encode(&packet)]
        };
        if self.random.chance(20) {
            frames.reverse();
        }
        let (place, passes) = self.way_of(&packet, from_client);
        self.sent.insert(
            serial,
            Sent {
                flow,
                from_client,
                packet,
            },
        );
        if !passes {
            // A DR or TUN server answers past the director.
            let Some(sent) = self.sent.get(&serial) else { return };
            let mut direct = sent.packet.clone();
            (direct.to, direct.from, direct.ttl) = (GATEWAY, GATEWAY, direct.ttl - 1);
            frames = vec![packet::encode(&direct)];
        }
        for frame in frames {
            self.launch(place, frame);
        }
    }

    fn way_of(&self, packet: &Packet, from_client: bool) -> (Place, bool) {
        let is_direct = !from_client && packet.source == plan::virtual_address(packet.source.is_v4());
        match (from_client, is_direct) {
            (true, _) => (Place::Director(OUTSIDE), true),
            (false, true) => (Place::Clients, false),
            (false, false) => (Place::Director(INSIDE), true),
        }
    }

    /// Puts a frame on the wire, or loses it.
    fn launch(&mut self, place: Place, frame: Vec<u8>) {
        let copies = match self.random.below(100) {
            dice if dice < self.weather.lost => 0,
            dice if dice < self.weather.lost + self.weather.duplicated => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let mut delay = self.random.below(2_000_000) as u64;
            if self.random.chance(self.weather.late) {
                delay += self.random.below(400_000_000) as u64;
            }
            self.wire_serial += 1;
            self.wire
                .insert((self.now.0 + delay, self.wire_serial), (place, frame.clone()));
        }
    }

    /// Any frame, towards the director.
    pub fn inject(&mut self, port: PortIndex, frame: Vec<u8>) {
        self.launch(Place::Director(port), frame);
    }

    // ---- time ----

    /// Lets time pass: frames arrive, workers turn, what they send is checked and goes on.
    pub fn pass(&mut self, nanoseconds: u64) -> Checked {
        self.deliver_letters();
        let end = Time(self.now.0 + nanoseconds);
        loop {
            let due: Vec<(u64, u64)> = self
                .wire
                .range(..=(self.now.0, u64::MAX))
                .map(|(key, _)| *key)
                .take(48)
                .collect();
            for key in due {
                let Some((place, frame)) = self.wire.remove(&key) else {
                    continue;
                };
                match place {
                    Place::Director(port) => self.arrive(port, &frame),
                    Place::Clients => self.reach_client(&frame)?,
                    Place::Server(mac) => self.reach_server(mac, &frame)?,
                }
            }
            self.turn_some()?;
            match self.wire.keys().next() {
                Some(&(at, _)) if at <= end.0 => self.now = Time(at.max(self.now.0 + 1)),
                _ => break,
            }
        }
        self.now = end;
        self.turn_some()
    }

    /// A frame comes to the queue of a worker: by a hash of its addresses, as a NIC would, or any.
    fn arrive(&mut self, port: PortIndex, frame: &[u8]) {
        let number = if self.by_hash {
            let sum: usize = frame.iter().take(38).skip(26).map(|&byte| usize::from(byte)).sum();
            sum % self.workers.len()
        } else {
            self.random.below(self.workers.len())
        };
        let io = self.workers[number].io();
        let Some(mut empty) = io.allocate() else { return };
        if 128 + frame.len() > 2048 {
            io.free(empty);
            return;
        }
        empty.refill(frame);
        io.arrivals[usize::from(port.0)].push_back(empty);
    }

    /// Each worker, in any order, may or may not get its turn.
    fn turn_some(&mut self) -> Checked {
        for _ in 0..self.workers.len() {
            let number = self.random.below(self.workers.len());
            self.turn(number)?;
        }
        Ok(())
    }

    fn turn(&mut self, number: usize) -> Checked {
        let stateless = self.counters[number].event(Event::StatelessForwarded).get();
        self.workers[number].turn(self.now);
        if self.counters[number].event(Event::StatelessForwarded).get() != stateless {
            // A connection without an entry can get one, with another server, as soon as there is room.
            self.flows.iter_mut().for_each(|flow| flow.may_move = true);
        }
        self.read_answers()?;
        self.check_verdicts(number)?;
        let io = self.workers[number].io();
        let mut left: Vec<(usize, MemoryFrame)> = Vec::new();
        for port in 0..2 {
            left.extend(io.departures[port].drain(..).map(|frame| (port, frame)));
        }
        let punted = std::mem::take(&mut io.punted);
        punted.into_iter().for_each(|(_, frame)| io.free(frame));
        for (port, frame) in left {
            let bytes = frame.to_vec();
            self.workers[number].io().free(frame);
            for byte in &bytes {
                self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.depart(port, bytes)?;
        }
        Ok(())
    }

    fn depart(&mut self, port: usize, frame: Vec<u8>) -> Checked {
        ensure!(
            frame[6..12] == DIRECTOR[port],
            "a frame left port {port} with another source MAC"
        );
        let mut to = [0; 6];
        to.copy_from_slice(&frame[..6]);
        let limit = usize::from(plan::MTU[port]) + 14;
        ensure!(
            frame.len() <= limit,
            "a frame of {} bytes left port {port}",
            frame.len()
        );
        let whole = match packet::decode(&frame)? {
            Decoded::NotIp => return Ok(()),
            Decoded::Whole(packet) => Some(packet),
            Decoded::Fragment(fragment) => self.tap.add(fragment).transpose()?,
        };
        if let Some(packet) = whole {
            if port == 0 {
                self.inspect_outside(&packet)?;
            } else {
                self.inspect_inside(to, &packet)?;
            }
        }
        let lately = &mut self.lately[port];
        if lately.len() == 16 {
            lately.remove(0);
        }
        lately.push(frame.clone());
        self.launch(if port == 0 { Place::Clients } else { Place::Server(to) }, frame);
        Ok(())
    }

    // ---- what leaves the director ----

    /// A packet towards a server: compared with what the client sent.
    fn inspect_inside(&mut self, to: Mac, packet: &Packet) -> Checked {
        let mut packet = packet.clone();
        let mut tunnel = None;
        if let Body::Tunnelled(inner) = &packet.body {
            tunnel = Some(packet.destination);
            packet = match packet::decode_inner(inner)? {
                Decoded::Whole(packet) => packet,
                Decoded::Fragment(fragment) => match self.tap.add(fragment).transpose()? {
                    Some(packet) => packet,
                    None => return Ok(()),
                },
                Decoded::NotIp => return Err("a tunnel with something else".into()),
            };
        }
        if let Body::Icmp(message) = &packet.body {
            return self.inspect_error(&packet, message, Some(to));
        }
        let Some((sent, serial)) = self.original(&packet, true) else {
            return Ok(());
        };
        self.tally.to_servers += 1;
        ensure!(sent.from_client, "a server's packet {serial} went to a server");
        ensure!(packet.ttl + 1 == sent.packet.ttl, "packet {serial}: TTL {}", packet.ttl);
        let flow = sent.flow as usize;
        let service = self.flows[flow].service;
        let planned = &self.plan.services[service];
        let (source_port, destination_port) = ports(&packet);
        let is_rewritten = packet.destination != planned.address;
        if is_rewritten {
            let server = planned.servers.iter().find(|server| server.mac == to);
            ensure!(
                server.is_some_and(|server| server.address == packet.destination)
                    && destination_port == 8000 + service as u16,
                "packet {serial} of service {service} went to {}:{destination_port} at {to:02x?}",
                packet.destination
            );
        } else {
            ensure!(destination_port == planned.port, "packet {serial} changed its port");
            let server = planned.servers.iter().find(|server| server.mac == to);
            ensure!(
                server.is_some_and(|server| tunnel.is_none_or(|tunnel| tunnel == server.address)),
                "packet {serial} of service {service} went to a stranger {to:02x?}"
            );
        }
        let client = (self.flows[flow].client, self.flows[flow].client_port);
        let is_local = plan::local_addresses(packet.source.is_v4()).contains(&packet.source);
        let local_ports = plan::LOCAL_PORTS.0..=plan::LOCAL_PORTS.1;
        let is_full_nat = planned.methods == [ForwardingMethod::FullNat];
        ensure!(
            if is_full_nat {
                is_local && local_ports.contains(&source_port)
            } else {
                client == (packet.source, source_port)
            },
            "packet {serial} came from {}:{source_port}",
            packet.source
        );
        let peer = (to, packet.destination, destination_port, packet.source, source_port);
        self.peers.insert(peer, sent.flow);
        self.compare_bodies(&packet, &sent, serial, flow)?;
        self.check_binding(flow, to, serial)
    }

    fn compare_bodies(&self, packet: &Packet, sent: &Sent, serial: u32, flow: usize) -> Checked {
        let flow = &self.flows[flow];
        let kind = self.plan.services[flow.service].client_address;
        let header = proxy_header(flow, &self.plan);
        match (&packet.body, &sent.packet.body) {
            (Body::Tcp(got), Body::Tcp(original)) => {
                ensure!(got.flags == original.flags, "packet {serial}: flags {:02x}", got.flags);
                ensure!(
                    got.acknowledgment == original.acknowledgment,
                    "packet {serial}: acknowledgment changed"
                );
                let options = without_toa(&got.options, kind, flow)?;
                ensure!(
                    same_options(options, &original.options),
                    "packet {serial}: options {:02x?}",
                    got.options
                );
                if kind == ClientAddress::ProxyV2 {
                    let shift = got.sequence.wrapping_sub(original.sequence) as usize;
                    let has_header =
                        got.data.starts_with(&header) && got.data.len() == header.len() + original.data.len();
                    let rest = if has_header {
                        &got.data[header.len()..]
                    } else {
                        &got.data[..]
                    };
                    ensure!(rest == original.data, "packet {serial}: other data");
                    ensure!(
                        shift == 0 || shift == header.len() && !has_header,
                        "packet {serial}: sequence number shifted by {shift}"
                    );
                } else {
                    ensure!(
                        got.sequence == original.sequence,
                        "packet {serial}: sequence number changed"
                    );
                    ensure!(got.data == original.data, "packet {serial}: other data");
                }
            }
            (Body::Udp(got), Body::Udp(original)) => {
                let data = match kind {
                    ClientAddress::ProxyV2 => got.data.strip_prefix(&header[..]),
                    _ => Some(&got.data[..]),
                };
                ensure!(data == Some(&original.data[..]), "datagram {serial}: other data");
                ensure!(
                    got.has_checksum || !original.has_checksum,
                    "datagram {serial} lost its checksum"
                );
            }
            _ => return Err(format!("packet {serial} became one of another protocol")),
        }
        Ok(())
    }

    /// No connection is seen by two servers.
    fn check_binding(&mut self, flow: usize, to: Mac, serial: u32) -> Checked {
        let flow = &mut self.flows[flow];
        // Shorter than any timeout of an open connection.
        let patience = if flow.is_tcp { 50 * SECOND } else { 250 * SECOND };
        if let Some((before, at)) = flow.binding {
            let moved = before != to && !flow.may_move && self.now.since(at) < patience;
            ensure!(
                !moved,
                "packet {serial} of flow {} to {to:02x?}, the one before to {before:02x?}: {flow:?}",
                flow.id
            );
        }
        flow.binding = Some((to, self.now));
        Ok(())
    }

    /// A packet towards the clients: a server's, or the director's own.
    fn inspect_outside(&mut self, packet: &Packet) -> Checked {
        ensure!(packet.to == GATEWAY, "a packet to {:02x?} outside", packet.to);
        if let Body::Icmp(message) = &packet.body {
            return self.inspect_error(packet, message, None);
        }
        let Some((sent, serial)) = self.original(packet, false) else {
            return Err(format!("an unknown packet left for the clients: {packet:?}"));
        };
        if sent.packet.destination == packet.destination && sent.packet.source == packet.source {
            // Routed plainly, which is right only when there is no connection (any more).
            let (source_port, destination_port) = ports(packet);
            let found = self.find_by_reply((packet.source, source_port), (packet.destination, destination_port));
            ensure!(found.is_none(), "packet {serial} left as it was, past {found:?}");
            return Ok(());
        }
        self.tally.to_clients += 1;
        ensure!(!sent.from_client, "a client's packet {serial} went to a client");
        let (source_port, destination_port) = ports(&sent.packet);
        let peer = (
            sent.packet.from,
            sent.packet.source,
            source_port,
            sent.packet.destination,
            destination_port,
        );
        let peer = self.peers.get(&peer).copied();
        let mut flow = peer.ok_or("a reply to nobody")?;
        let before = self.flows[flow as usize].clone();
        if (before.client, before.client_port) != (packet.destination, ports(packet).1) {
            // The local port may have been given to a connection whose first packet still waits for the server's MAC, or for its other pieces.
            let server = (sent.packet.source, source_port);
            let found = self.find_by_reply(server, (sent.packet.destination, destination_port));
            if found.is_some_and(|found| (found.client, found.client_port) == (packet.destination, ports(packet).1)) {
                let tuple = (packet.destination, ports(packet).1, before.service);
                let newest = self.by_tuple.get(&tuple).and_then(|flows| flows.last());
                flow = *newest.ok_or("a reply to a client that never spoke")?;
            }
        }
        let flow = &self.flows[flow as usize];
        let planned = &self.plan.services[flow.service];
        let (source_port, destination_port) = ports(packet);
        ensure!(
            (packet.source, source_port) == (planned.address, planned.port),
            "packet {serial} to a client came from {}:{source_port}",
            packet.source
        );
        ensure!(
            (packet.destination, destination_port) == (flow.client, flow.client_port),
            "packet {serial} of flow {} went to {}:{destination_port}",
            flow.id,
            packet.destination
        );
        match (&packet.body, &sent.packet.body) {
            (Body::Tcp(got), Body::Tcp(original)) => {
                ensure!(got.flags == original.flags, "packet {serial}: flags {:02x}", got.flags);
                ensure!(
                    got.sequence == original.sequence,
                    "packet {serial}: sequence number changed"
                );
                ensure!(got.data == original.data, "packet {serial}: other data");
                ensure!(
                    same_options(&got.options, &original.options),
                    "packet {serial}: options {:02x?}",
                    got.options
                );
                let is_shifted = planned.client_address == ClientAddress::ProxyV2;
                ensure!(
                    is_shifted || got.acknowledgment == original.acknowledgment,
                    "packet {serial}: acknowledgment changed"
                );
            }
            (Body::Udp(got), Body::Udp(original)) => {
                ensure!(got.data == original.data, "datagram {serial}: other data")
            }
            _ => return Err(format!("packet {serial} became one of another protocol")),
        }
        Ok(())
    }

    /// An ICMP error, which must be about a packet that its receiver sent.
    fn inspect_error(&mut self, packet: &Packet, message: &[u8], server: Option<Mac>) -> Checked {
        let is_v4 = packet.source.is_v4();
        if message[0] != if is_v4 { 3 } else { 1 } {
            return Ok(());
        }
        let quoted = &message[8..];
        let header = match is_v4 {
            true => 20,
            false if quoted[6] == 44 => 48,
            false => 40,
        };
        let address = |at: usize| match is_v4 {
            true => Address::v4([quoted[at], quoted[at + 1], quoted[at + 2], quoted[at + 3]]),
            false => Address::v6(quoted[at..at + 16].try_into().unwrap_or_default()),
        };
        let [source, destination] = if is_v4 { [12, 16] } else { [8, 24] }.map(address);
        let port = |at: usize| u16::from_be_bytes([quoted[at], quoted[at + 1]]);
        let ports = (port(header), port(header + 2));
        ensure!(
            packet.destination == source,
            "{} is told about a packet of {source}",
            packet.destination
        );
        let is_known = match server {
            Some(mac) => {
                let peer = (mac, source, ports.0, destination, ports.1);
                // Or the error is about an earlier connection of the client, and the new one's first packet still waits or is in pieces.
                let found = self.find_by_reply((source, ports.0), (destination, ports.1));
                self.peers.contains_key(&peer) || found.is_some()
            }
            None => {
                let service = usize::from(ports.1.wrapping_sub(80));
                let is_past = self.find_by_reply((destination, ports.1), (source, ports.0)).is_none();
                // Without a connection (any more) it is routed as it is.
                is_past && packet.source != plan::virtual_address(is_v4)
                    || destination == plan::virtual_address(is_v4)
                        && self.by_tuple.contains_key(&(source, ports.0, service))
            }
        };
        ensure!(
            is_known,
            "{} is told (code {}) about a packet from {source}:{} to {destination}:{}",
            packet.destination,
            message[1],
            ports.0,
            ports.1
        );
        self.tally.icmp += 1;
        Ok(())
    }

    /// A router on either side says that something which the director sent cannot be delivered.
    pub fn complain(&mut self) {
        let port = self.random.below(2);
        if self.lately[port].is_empty() {
            return;
        }
        let frame = self.random.pick(&self.lately[port]).clone();
        let Ok(Decoded::Whole(about)) = packet::decode(&frame) else {
            return;
        };
        if !matches!(about.body, Body::Tcp(_) | Body::Udp(_)) {
            return;
        }
        let is_v4 = about.source.is_v4();
        let header = if is_v4 { 20 } else { 40 };
        let longest = (frame.len() - 14).min(500);
        let quoted = self.random.between(header + 8, longest);
        let mut message = if is_v4 {
            vec![3, 1, 0, 0, 0, 0, 0, 0]
        } else {
            vec![1, 0, 0, 0, 0, 0, 0, 0]
        };
        message.extend(&frame[14..14 + quoted]);
        let error = Packet {
            to: DIRECTOR[port],
            from: about.to,
            source: if is_v4 {
                Address::v4([192, 0, 2, 77])
            } else {
                plan::client(false, 77)
            },
            destination: about.source,
            ttl: 60,
            dont_fragment: false,
            id: 0,
            body: Body::Icmp(message),
        };
        self.launch(
            Place::Director(if port == 0 { OUTSIDE } else { INSIDE }),
            packet::encode(&error),
        );
    }

    /// The connection in any table that a server's packet belongs to.
    fn find_by_reply(&mut self, server: (Address, u16), peer: (Address, u16)) -> Option<Connection> {
        let is_it = |own: &Connection| {
            let key = own.outbound_key();
            own.has_outbound()
                && (key.source, key.source_port) == server
                && (key.destination, key.destination_port) == peer
        };
        let mut found = None;
        for worker in &mut self.workers {
            let table = worker.pipeline().table();
            let visit = |_place: u32, own: &Connection| found = found.or(is_it(own).then_some(*own));
            table.scan(0, table.capacity(), visit);
        }
        found
    }

    /// The packet as it was sent, found by the serial number in it.
    fn original(&self, packet: &Packet, may_have_header: bool) -> Option<(Sent, u32)> {
        let serial = match &packet.body {
            Body::Tcp(tcp) => label(&tcp.options)?.1,
            Body::Udp(udp) => {
                let mut data = &udp.data[..];
                // A PROXY header begins so.
                if may_have_header && data.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
                    data = &data[16 + usize::from(data[14]) * 256 + usize::from(data[15])..];
                }
                u32::from_be_bytes(data.get(4..8)?.try_into().ok()?)
            }
            _ => return None,
        };
        Some((self.sent.get(&serial)?.clone(), serial))
    }

    // ---- what reaches the ends ----

    fn reach_server(&mut self, mac: Mac, frame: &[u8]) -> Checked {
        let host = self.hosts.entry(mac).or_default();
        let mut whole = match packet::decode(frame)? {
            Decoded::Whole(packet) => packet,
            Decoded::Fragment(fragment) => match host.add(fragment).transpose()? {
                Some(packet) => packet,
                None => return Ok(()),
            },
            Decoded::NotIp => return Ok(()),
        };
        if let Body::Tunnelled(inner) = &whole.body {
            whole = match packet::decode_inner(inner)? {
                Decoded::Whole(packet) => packet,
                Decoded::Fragment(fragment) => match host.add(fragment).transpose()? {
                    Some(packet) => packet,
                    None => return Ok(()),
                },
                Decoded::NotIp => return Ok(()),
            };
        }
        let (source_port, destination_port) = ports(&whole);
        let answer = Key {
            source: whole.destination,
            destination: whole.source,
            source_port: destination_port,
            destination_port: source_port,
            protocol: if matches!(whole.body, Body::Tcp(_)) {
                packet::TCP
            } else {
                packet::UDP
            },
        };
        match &whole.body {
            Body::Tcp(tcp) => self.server_tcp(mac, answer, tcp),
            Body::Udp(_) => {
                let Some((sent, _)) = self.original(&whole, true) else {
                    return Ok(());
                };
                let longest = *self.random.pick(&[40, 1000, 3500]);
                let length = self.random.between(0, longest);
                self.send_udp(sent.flow, false, &answer, length, (DIRECTOR[1], mac));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn server_tcp(&mut self, mac: Mac, answer: Key, tcp: &Tcp) -> Checked {
        let Some((flow, _)) = label(&tcp.options) else {
            return Err("a TCP packet without its label".into());
        };
        let key = (
            mac,
            answer.source,
            answer.source_port,
            answer.destination,
            answer.destination_port,
        );
        let known = self
            .endpoints
            .get(&key)
            .map(|endpoint| (endpoint.flow, endpoint.is_closed));
        let opens = tcp.flags & (SYN | ACK | RST) == SYN;
        let is_new = known.is_none_or(|(own, is_closed)| is_closed && (own != flow || opens));
        if is_new {
            if !opens {
                if tcp.flags & RST == 0 {
                    let reset = (RST, tcp.acknowledgment, 0, Vec::new());
                    self.answer_from_server(flow, &answer, mac, vec![reset]);
                }
                return Ok(());
            }
            let service = self.flows[flow as usize].service;
            let header = match self.plan.services[service].client_address {
                ClientAddress::ProxyV2 => proxy_header(&self.flows[flow as usize], &self.plan),
                _ => Vec::new(),
            };
            let iss = self.random.next() as u32;
            let endpoint = Endpoint::new(&self.flows[flow as usize], header, tcp.sequence, iss);
            let greeting = endpoint.greeting();
            self.endpoints.insert(key, endpoint);
            self.answer_from_server(flow, &answer, mac, vec![greeting]);
            return Ok(());
        }
        let Some(endpoint) = self.endpoints.get_mut(&key) else {
            return Ok(());
        };
        let own = endpoint.flow;
        let answers = if own == flow || tcp.flags & RST != 0 {
            endpoint.receive(tcp)
        } else if opens {
            // RFC 5961 section 4: a SYN in an open connection is answered with a challenge.
            Ok(vec![endpoint.acknowledgment()])
        } else {
            Ok(Vec::new())
        };
        let answers = answers.map_err(|error| format!("flow {own} at server {mac:02x?}: {error}"))?;
        self.answer_from_server(own, &answer, mac, answers);
        Ok(())
    }

    fn answer_from_server(&mut self, flow: u32, answer: &Key, mac: Mac, segments: Vec<Segment>) {
        for segment in segments {
            self.send_segment(flow, false, answer, segment, (DIRECTOR[1], mac));
        }
    }

    fn reach_client(&mut self, frame: &[u8]) -> Checked {
        let whole = match packet::decode(frame)? {
            Decoded::Whole(packet) => packet,
            Decoded::Fragment(fragment) => match self.clients.add(fragment).transpose()? {
                Some(packet) => packet,
                None => return Ok(()),
            },
            Decoded::NotIp => return Ok(()),
        };
        match &whole.body {
            Body::Tcp(tcp) => {
                let Some((id, _)) = label(&tcp.options) else {
                    return Err("a TCP packet without its label".into());
                };
                // The newest flow between these ends has the port; what is for an older one is for nobody.
                // Without a connection the director is the servers' plain router.
                let Some(service) = tcp.source_port.checked_sub(80).filter(|&service| service < 80) else {
                    return Ok(());
                };
                let service = usize::from(service);
                let tuple = (whole.destination, tcp.destination_port, service);
                let Some(&newest) = self.by_tuple.get(&tuple).and_then(|flows| flows.last()) else {
                    return Err(format!("a packet for a client that never spoke: {whole:?}"));
                };
                if newest != id && tcp.flags & RST == 0 && self.flows[newest as usize].phase != Phase::Opening {
                    return Ok(());
                }
                let before = self.flows[newest as usize].is_complete;
                let answers = self.flows[newest as usize]
                    .receive(tcp)
                    .map_err(|error| format!("flow {newest} at its client: {error}"))?;
                if !before && self.flows[newest as usize].is_complete {
                    self.tally.complete += 1;
                }
                self.send_from_client(newest, answers);
            }
            Body::Udp(_) => self.tally.datagrams += 1,
            _ => {}
        }
        Ok(())
    }

    // ---- what must always hold ----

    /// Every frame ends in exactly one verdict.
    fn check_verdicts(&mut self, number: usize) -> Checked {
        let counters = &self.counters[number];
        let received = counters.event(Event::Received).get() + counters.event(Event::RedirectedIn).get();
        let settled = counters.verdicts() + counters.held.get();
        ensure!(
            received == settled,
            "worker {number}: {received} frames, {settled} verdicts"
        );
        Ok(())
    }

    /// Loads and local ports agree with the tables.
    pub fn check_tables(&mut self) -> Checked {
        let slots = self.plan.services.len() * SERVERS;
        let mut active = vec![0; slots];
        let mut inactive = vec![0; slots];
        let mut keys = BTreeSet::new();
        let mut duplicate = None;
        for worker in &mut self.workers {
            let table = worker.pipeline().table();
            let mut count = 0;
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = table.scan(at, 7, |_place, connection| {
                    count += 1;
                    let slot = connection.server_slot.0 as usize;
                    let side = if connection.is(flag::ACTIVE) {
                        &mut active
                    } else {
                        &mut inactive
                    };
                    side[slot] += 1;
                    let key = |key: Key| {
                        (
                            key.source,
                            key.destination,
                            key.source_port,
                            key.destination_port,
                            key.protocol,
                        )
                    };
                    let mut add = |own| {
                        if !keys.insert(key(own)) {
                            duplicate = Some(own);
                        }
                    };
                    add(connection.inbound_key());
                    if connection.has_outbound() {
                        add(connection.outbound_key());
                    }
                });
            }
            ensure!(count == table.len(), "{count} connections listed of {}", table.len());
        }
        ensure!(duplicate.is_none(), "two connections for one tuple: {duplicate:?}");
        for slot in 0..slots {
            let load = self.loads.get(ServerSlot(slot as u32));
            let counted = (load.active(), load.inactive());
            ensure!(
                counted == (active[slot], inactive[slot]),
                "server {slot}: load {counted:?}, connections {:?}",
                (active[slot], inactive[slot])
            );
        }
        Ok(())
    }

    /// No more frames from anybody: what is on the wire is lost, the workers empty their rings, and no frame is missing anywhere.
    pub fn check_pools(&mut self) -> Checked {
        self.wire.clear();
        for _ in 0..4 {
            for number in 0..self.workers.len() {
                self.turn(number)?;
            }
            self.wire.clear();
        }
        let mut owned = Vec::new();
        let mut is_any_empty = false;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let spare = worker.pipeline().output.spare.len();
            let held = self.counters[number].held.get() as usize;
            let pool = worker.io().pool_size();
            is_any_empty |= pool == 0;
            owned.push(pool + spare + held);
        }
        let (sum, all) = (owned.iter().sum::<usize>(), owned.len() * self.pool);
        ensure!(sum == all, "{sum} frames of {all}: {owned:?}");
        // A worker that holds all it has may still owe the others.
        let is_even = owned.iter().all(|&own| own == self.pool);
        ensure!(
            is_even || is_any_empty,
            "workers have {owned:?} frames of {} each",
            self.pool
        );
        Ok(())
    }

    /// All traffic stops and time passes: nothing is left.
    pub fn check_end(&mut self) -> Checked {
        self.check_pools()?;
        for _ in 0..30 {
            self.now = Time(self.now.0 + 61 * SECOND);
            for number in 0..self.workers.len() {
                self.turn(number)?;
            }
        }
        self.check_tables()?;
        for worker in &mut self.workers {
            let left = worker.pipeline().table().len();
            ensure!(left == 0, "{left} connections never ended");
        }
        self.check_pools()?;
        for (number, counters) in self.counters.iter().enumerate() {
            ensure!(counters.held.get() == 0, "worker {number} holds frames for ever");
            self.tally.stateless += counters.event(Event::StatelessForwarded).get();
            self.tally.redirected += counters.event(Event::RedirectedIn).get();
            self.tally.reused += counters.event(Event::ConnectionsReused).get();
            self.tally.expired += counters.event(Event::ConnectionsExpired).get();
        }
        let sum = |event| self.counters.iter().map(|own| own.event(event).get()).sum::<u64>();
        let (out, refused, taken) = (
            sum(Event::Redirected),
            sum(Event::RedirectFailed),
            sum(Event::RedirectedIn),
        );
        ensure!(
            out == refused + taken,
            "{out} frames redirected, {taken} taken over, {refused} refused"
        );
        Ok(())
    }
}

fn ports(packet: &Packet) -> (u16, u16) {
    match &packet.body {
        Body::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Body::Udp(udp) => (udp.source_port, udp.destination_port),
        _ => (0, 0),
    }
}

/// Flow and serial number in a TCP packet's options.
fn label(options: &[u8]) -> Option<(u32, u32)> {
    let at = options.windows(4).position(|window| window == [1, 1, 8, 10])? + 4;
    let word = |at: usize| Some(u32::from_be_bytes(options.get(at..at + 4)?.try_into().ok()?));
    Some((word(at)?, word(at + 4)?))
}

/// The options behind the one that tells the client's address, which must be right.
fn without_toa<'a>(options: &'a [u8], kind: ClientAddress, flow: &Flow) -> Checked<&'a [u8]> {
    if kind != ClientAddress::Toa || options.first() != Some(&254) {
        return Ok(options);
    }
    let length = usize::from(options[1]);
    let mut expected = vec![254, length as u8];
    expected.extend(flow.client_port.to_be_bytes());
    expected.extend(flow.client.wire());
    ensure!(options[..length] == expected, "TOA {:02x?}", &options[..length]);
    Ok(&options[length..])
}

/// Equal but for a lower segment size.
fn same_options(got: &[u8], original: &[u8]) -> bool {
    let [end, original_end] = [got, original].map(|options| options.len() - if options.len() == 16 { 2 } else { 0 });
    got[..end] == original[..original_end] && got[end..] <= original[original_end..]
}

/// PROXY protocol version 2, as its specification lays it out.
fn proxy_header(flow: &Flow, plan: &Plan) -> Vec<u8> {
    let service = &plan.services[flow.service];
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    let is_v4 = flow.client.is_v4();
    header.push(0x21);
    header.push(if is_v4 { 0x10 } else { 0x20 } | if flow.is_tcp { 1 } else { 2 });
    header.extend([0, if is_v4 { 12 } else { 36 }]);
    header.extend(flow.client.wire());
    header.extend(service.address.wire());
    header.extend(flow.client_port.to_be_bytes());
    header.extend(service.port.to_be_bytes());
    header
}
