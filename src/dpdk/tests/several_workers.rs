//! Several workers on DPDK's queues behind a card that is told key, table and fields: does every packet come to its owner? The card is one of ours that
//! computes with DPDK's own software hash, a second opinion on the director's.

use std::collections::BTreeMap;
use std::sync::Arc;

use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::ForwardingMethod::{self, DirectRouting, FullNat, Nat, Tunnel};
use ulvs_dataplane::service::{Loads, protocol};
use ulvs_dataplane::steering::{KEY, RssFields, Steering};
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::ethernet::{self, Mac};
use ulvs_dataplane::wire::{ipv4, ipv6, tcp};
use ulvs_dataplane::worker::{Mailbox, Mesh, ToWorker, Worker};

use super::network::{self, DIRECTOR, GATEWAY, INSIDE, OUTSIDE, Row, Segment};
use super::{alone, close, settings};
use crate::dpdk::{DpdkFrame, DpdkIo, Opened, ffi, open, rss};

/// Connections to each service.
const CONNECTIONS: usize = 150;
/// Entries of the card's indirection table.
const ENTRIES: u16 = 512;

/// The director's ports, of two rings each: what is sent into one arrives at the director, what it sends is taken from the other.
struct Lines(DpdkIo);

const fn arrivals(port: PortIndex) -> PortIndex {
    PortIndex(2 * port.0)
}

const fn departures(port: PortIndex) -> PortIndex {
    PortIndex(2 * port.0 + 1)
}

impl Io for Lines {
    type Frame = DpdkFrame;

    fn port_count(&self) -> usize {
        self.0.port_count() / 2
    }

    fn receive(&mut self, port: PortIndex, into: &mut Vec<DpdkFrame>) {
        self.0.receive(arrivals(port), into);
    }

    fn transmit(&mut self, port: PortIndex, frames: &mut Vec<DpdkFrame>) -> usize {
        self.0.transmit(departures(port), frames)
    }

    fn allocate(&mut self) -> Option<DpdkFrame> {
        self.0.allocate()
    }

    fn free(&mut self, frame: DpdkFrame) {
        self.0.free(frame);
    }

    fn housekeeping(&mut self) {
        self.0.housekeeping();
    }

    fn frames(&self) -> (usize, usize) {
        self.0.frames()
    }

    fn wait(&mut self, milliseconds: u32) {
        self.0.wait(milliseconds);
    }
}

/// The queue that a card chooses with DPDK's hash over these fields.
fn queue_of(frame: &[u8], fields: RssFields, workers: u16) -> usize {
    let (header, at, length) = if u16::from_be_bytes([frame[12], frame[13]]) == ethernet::IPV4 {
        (ipv4::HEADER, ethernet::HEADER + ipv4::SOURCE, 4)
    } else {
        (ipv6::HEADER, ethernet::HEADER + ipv6::SOURCE, 16)
    };
    let (source, destination) = frame[at..at + 2 * length].split_at(length);
    let (source_port, destination_port) = frame[ethernet::HEADER + header..][..4].split_at(2);
    // What is left out at the end counts as zeros, which change nothing.
    let input = match fields {
        RssFields::Tuple => [source, destination, source_port, destination_port].concat(),
        RssFields::Source => [source, source_port, &[0, 0]].concat(),
        RssFields::Destination => [destination, destination_port, &[0, 0]].concat(),
    };
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let mut words: Vec<u32> = input.chunks(4).map(word).collect();
    // SAFETY: the words live until the call returns, and the key is long enough for the longest tuple.
    let hash = unsafe { ffi::rte_softrss(words.as_mut_ptr(), words.len() as u32, KEY.as_ptr()) };
    let entry = hash as usize % usize::from(ENTRIES);
    let table = rss::table(ENTRIES, workers);
    table[entry / table[0].reta.len()].reta[entry % table[0].reta.len()].into()
}

/// A director and the card in front of it.
struct Bench {
    opened: Opened,
    workers: Vec<Worker<Lines>>,
    counters: Vec<Arc<Counters>>,
    /// What the card hashes, by port.
    fields: [RssFields; 2],
    now: Time,
}

impl Bench {
    /// `told`: what the director believes that its ports hash. `fields`: what they do.
    fn new(count: usize, told: [RssFields; 2], fields: [RssFields; 2], rows: &[Row]) -> Bench {
        let rings = ["net_ring0", "net_ring1", "net_ring2", "net_ring3"];
        let mut opened = open(&settings(&rings, count)).expect("it opens");
        let slots = network::server_count(rows);
        let (mesh, loads) = (Mesh::new(count), Arc::new(Loads::new(slots)));
        let counters: Vec<_> = (0..count).map(|_| Arc::new(Counters::new(slots))).collect();
        let snapshot = network::snapshot(rows, false);
        let now = Time(1_000_000_000);
        let worker = |(number, io): (usize, DpdkIo)| {
            let settings = Settings {
                worker: number as u8,
                steering: Steering::new(count as u8, told),
                connections: 4096,
                service_limit: rows.len(),
                server_limit: slots,
                ports: 2,
                hasher: KeyHasher::new([11, 12, 13, 14, 15]),
            };
            let pipeline = Pipeline::new(settings, Arc::clone(&counters[number]), Arc::clone(&loads), now);
            let mailbox = Mailbox::default();
            let letter = ToWorker::Adopt(Arc::clone(&snapshot));
            mailbox.to_worker.push(letter).expect("the mailbox is empty");
            Worker::new(Lines(io), pipeline, number, mailbox, Arc::clone(&mesh))
        };
        let workers = std::mem::take(&mut opened.workers)
            .into_iter()
            .enumerate()
            .map(worker)
            .collect();
        Bench {
            opened,
            workers,
            counters,
            fields,
            now,
        }
    }

    /// Brings segments to a port and returns what leaves the director: from which port, to whom, what.
    fn exchange(&mut self, port: usize, segments: &[Segment]) -> Vec<(usize, Mac, Segment)> {
        let mut left = Vec::new();
        for chunk in segments.chunks(BURST) {
            for segment in chunk {
                let bytes = segment.frame(DIRECTOR[port], 0);
                let queue = queue_of(&bytes, self.fields[port], self.workers.len() as u16);
                let io = &mut self.workers[queue].io().0;
                let mut frame = io.allocate().expect("a buffer is free");
                frame.set_length(bytes.len()).expect("it fits");
                frame.head_mut().copy_from_slice(&bytes);
                assert_eq!(io.transmit(arrivals(PortIndex(port as u8)), &mut vec![frame]), 1);
            }
            // Redirected frames take further turns.
            for _ in 0..4 {
                self.now = Time(self.now.0 + 1000);
                self.workers.iter_mut().for_each(|worker| _ = worker.turn(self.now));
            }
            for worker in &mut self.workers {
                for port in [OUTSIDE, INSIDE] {
                    let mut frames = Vec::with_capacity(2 * BURST);
                    worker.io().0.receive(departures(PortIndex(port as u8)), &mut frames);
                    worker.io().0.receive(departures(PortIndex(port as u8)), &mut frames);
                    let read =
                        |frame: DpdkFrame| (port, ethernet::destination(frame.head()), Segment::read(frame.head()));
                    left.extend(frames.into_iter().map(read));
                }
            }
        }
        assert_eq!(left.len(), segments.len(), "every packet is delivered");
        left
    }

    fn events(&self, event: Event) -> Vec<u64> {
        self.counters
            .iter()
            .map(|counters| counters.event(event).get())
            .collect()
    }

    /// Ends everything, checks that no buffer is missing, and says how many frames were redirected.
    fn end(self) -> u64 {
        let received = self.events(Event::Received);
        assert!(
            received.iter().all(|&frames| frames > 100),
            "idle workers: {received:?}"
        );
        let redirected = self.events(Event::Redirected).iter().sum();
        drop(self.workers);
        close(self.opened);
        redirected
    }
}

/// Clients open connections to every service, servers answer where they answer through the director, clients send again. Returns the frames redirected.
fn talk(workers: usize, methods: &[ForwardingMethod], told: [RssFields; 2], fields: [RssFields; 2]) -> u64 {
    let rows = network::rows(methods);
    let mut bench = Bench::new(workers, told, fields, &rows);
    let call = |number: usize| {
        let service = number / CONNECTIONS;
        let row = rows[service];
        Segment {
            protocol: row.protocol,
            source: (
                network::client(row.is_v4, (number % 200) as u8 + 1),
                10_000 + (number * 7) as u16,
            ),
            destination: (network::virtual_address(row.is_v4), network::virtual_port(service)),
            flags: if row.protocol == protocol::TCP { tcp::SYN } else { 0 },
            number: number as u32,
        }
    };
    let calls: Vec<Segment> = (0..rows.len() * CONNECTIONS).map(call).collect();
    let mut at_servers = BTreeMap::new();
    for (port, mac, segment) in bench.exchange(OUTSIDE, &calls) {
        let service = segment.number as usize / CONNECTIONS;
        assert_eq!(
            (port, mac[..5].to_vec()),
            (INSIDE, network::server_mac(service, 0)[..5].to_vec())
        );
        at_servers.insert(segment.number, (mac, segment));
    }
    assert_eq!(at_servers.len(), calls.len());
    let passes_here = |segment: &&Segment| {
        let method = rows[segment.number as usize / CONNECTIONS].method;
        matches!(method, Nat | FullNat)
    };
    let answers: Vec<Segment> = at_servers
        .values()
        .map(|(_, segment)| segment)
        .filter(passes_here)
        .map(|call| call.answer())
        .collect();
    for (port, mac, answer) in bench.exchange(INSIDE, &answers) {
        let call = calls[answer.number as usize];
        assert_eq!((port, mac), (OUTSIDE, GATEWAY));
        assert_eq!((answer.source, answer.destination), (call.destination, call.source));
    }
    let again = |call: &Segment| Segment {
        flags: if call.flags == 0 { 0 } else { tcp::ACK },
        ..*call
    };
    let calls: Vec<Segment> = calls.iter().map(again).collect();
    for (_, mac, segment) in bench.exchange(OUTSIDE, &calls) {
        let (before, first) = at_servers[&segment.number];
        assert_eq!(
            (mac, segment.source, segment.destination),
            (before, first.source, first.destination)
        );
    }
    let opened: u64 = bench.events(Event::ConnectionsOpened).iter().sum();
    assert_eq!(opened, calls.len() as u64);
    bench.end()
}

const BY_TUPLE: [RssFields; 2] = [RssFields::Tuple; 2];
const BY_SIDE: [RssFields; 2] = [RssFields::Source, RssFields::Destination];

tests! {
    two_workers_redirect_nothing_with_fullnat_dr_and_tun {
        assert_eq!(talk(2, &[FullNat, DirectRouting, Tunnel], BY_TUPLE, BY_TUPLE), 0);
    }

    four_workers_redirect_nothing_with_fullnat_dr_and_tun {
        assert_eq!(talk(4, &[FullNat, DirectRouting, Tunnel], BY_TUPLE, BY_TUPLE), 0);
    }

    three_workers_redirect_nothing_with_any_method_if_each_port_hashes_its_side {
        assert_eq!(talk(3, &[Nat, FullNat, DirectRouting, Tunnel], BY_SIDE, BY_SIDE), 0);
    }

    nat_by_tuple_is_redirected_and_delivered {
        assert!(talk(2, &[Nat], BY_TUPLE, BY_TUPLE) > CONNECTIONS as u64);
    }

    a_card_that_does_not_hash_as_told_costs_redirects_and_no_packet {
        assert!(talk(2, &[Nat, FullNat, DirectRouting, Tunnel], BY_SIDE, BY_TUPLE) > CONNECTIONS as u64);
    }
}
