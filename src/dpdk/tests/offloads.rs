//! Work that is left to ports: what the packet path makes of their marks on received frames, and which marks it sets on frames to be sent. A card of ours
//! finishes the checksums as DPDK's rules say.

use std::sync::Arc;

use ulvs_dataplane::conn::key::KeyHasher;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::forward::edit;
use ulvs_dataplane::io::{BURST, Frame, Io, IpChecksum, PortIndex, TransportChecksum};
use ulvs_dataplane::pipeline::{Pipeline, Settings};
use ulvs_dataplane::service::ForwardingMethod::{DirectRouting, FullNat, Nat, Tunnel};
use ulvs_dataplane::service::{GueChecksum, Loads, TunnelType, protocol};
use ulvs_dataplane::steering::{RssFields, Steering};
use ulvs_dataplane::time::Time;
use ulvs_dataplane::verdict::DropReason;
use ulvs_dataplane::wire::checksum::Sum;
use ulvs_dataplane::wire::{ethernet, ipv4, put_u16, tcp, udp};

use super::network::{self, DIRECTOR, INSIDE, OUTSIDE, Row, Segment};
use super::{PORT, alone, close, received, settings};
use crate::dpdk::offloads::let_ports_finish_checksums;
use crate::dpdk::{DpdkFrame, DpdkIo, ffi, open};

const NOW: Time = Time(1_000_000_000);

struct Director {
    pipeline: Pipeline<DpdkFrame>,
    counters: Arc<Counters>,
}

impl Director {
    fn new(rows: &[Row], may_be_partial: bool, told: &[RssFields]) -> Director {
        let slots = network::server_count(rows);
        let counters = Arc::new(Counters::new(slots));
        let settings = Settings {
            worker: 0,
            steering: Steering::new(1, told.iter().copied()),
            connections: 1024,
            service_limit: rows.len(),
            server_limit: slots,
            ports: 2,
            hasher: KeyHasher::new([1, 2, 3, 4, 5]),
        };
        let mut pipeline = Pipeline::new(settings, Arc::clone(&counters), Arc::new(Loads::new(slots)), NOW);
        pipeline.adopt(NOW, network::snapshot(rows, may_be_partial));
        Director { pipeline, counters }
    }

    /// What becomes of a frame from the clients: sent to the servers, or dropped.
    fn forward(&mut self, frame: DpdkFrame) -> Option<DpdkFrame> {
        self.pipeline.burst(NOW, PortIndex(OUTSIDE as u8), &mut vec![frame]);
        self.pipeline.output.free.clear();
        self.pipeline.output.transmit[INSIDE].pop()
    }
}

/// A client's packet to a service, by number.
fn call(service: usize, row: &Row) -> Segment {
    Segment {
        protocol: row.protocol,
        source: (network::client(row.is_v4, 7), 40_000 + service as u16),
        destination: (network::virtual_address(row.is_v4), network::virtual_port(service)),
        flags: if row.protocol == protocol::TCP { tcp::SYN } else { 0 },
        number: 0x0102_0304,
    }
}

/// The bytes in a frame whose head ends after `head` bytes; the rest hangs behind it.
fn load(io: &mut DpdkIo, bytes: &[u8], head: usize) -> DpdkFrame {
    let piece = |io: &mut DpdkIo, bytes: &[u8]| {
        let mut frame = io.allocate().expect("a buffer is free");
        frame.set_length(bytes.len()).expect("it fits");
        frame.head_mut().copy_from_slice(bytes);
        frame
    };
    let (first, rest) = bytes.split_at(head.min(bytes.len()));
    let mut frame = piece(io, first);
    for more in rest.chunks(33) {
        let more = piece(io, more);
        frame.append(more);
    }
    frame
}

/// Where the transport checksum stands in a frame that was made for [`call`].
fn checksum_at(row: &Row) -> usize {
    let ip = if row.is_v4 { 20 } else { 40 };
    let offset = if row.protocol == protocol::TCP {
        tcp::CHECKSUM
    } else {
        udp::CHECKSUM
    };
    ethernet::HEADER + ip + offset
}

/// The frame of `call` with its checksum left unfinished.
fn unfinished(call: &Segment, row: &Row, padding: usize) -> Vec<u8> {
    let mut bytes = call.frame(DIRECTOR[OUTSIDE], padding);
    let transport = bytes.len() - ethernet::HEADER - if row.is_v4 { 20 } else { 40 };
    let pseudo = Sum::of_pseudo_header(&call.source.0, &call.destination.0, row.protocol, transport as u32);
    put_u16(&mut bytes, checksum_at(row), pseudo.fold());
    bytes
}

/// What goes over the wire: the card finishes what was left to it.
fn on_the_wire(frame: &DpdkFrame) -> Vec<u8> {
    let mut bytes = frame.head().to_vec();
    bytes.extend(frame.tail().flatten());
    let (marks, link, ip) = frame.left_to_port();
    if marks != 0 {
        let at = link + ip;
        let is_v4 = bytes[link] >> 4 == 4;
        let family = if is_v4 {
            ffi::ULVS_TX_IS_IPV4
        } else {
            ffi::ULVS_TX_IS_IPV6
        };
        assert_eq!(marks & (ffi::ULVS_TX_IS_IPV4 | ffi::ULVS_TX_IS_IPV6), family);
        let offset = if marks & ffi::ULVS_TX_L4_MASK == ffi::ULVS_TX_TCP {
            tcp::CHECKSUM
        } else {
            udp::CHECKSUM
        };
        let checksum = Sum::of(&bytes[at..]).to_checksum();
        put_u16(&mut bytes, at + offset, checksum);
    }
    bytes
}

fn every_way() -> Vec<Row> {
    let mut rows = network::rows(&[DirectRouting, Nat, FullNat, Tunnel]);
    for is_v4 in [true, false] {
        rows.push(Row {
            is_v4,
            protocol: protocol::TCP,
            method: Tunnel,
            tunnel: TunnelType::Gue {
                port: 6080,
                checksum: GueChecksum::Full,
            },
        });
    }
    rows
}

/// Sends unfinished checksums to every service, in one segment and in many; all must be right on the wire. Returns how many were left to the port, of how many.
fn finish_everywhere(ports_finish: bool, is_marked: bool) -> (usize, usize) {
    let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
    let_ports_finish_checksums(ports_finish);
    let io = &mut opened.workers[0];
    let rows = every_way();
    let mut director = Director::new(&rows, !is_marked, &[]);
    let (mut left, mut all) = (0, 0);
    for (service, row) in rows.iter().enumerate() {
        let call = call(service, row);
        for (padding, head) in [(0, 2000), (301, 2000), (300, 100), (1000, 120)] {
            let mut frame = load(io, &unfinished(&call, row, padding), head);
            if is_marked {
                frame.pretend_marked(ffi::ULVS_RX_L4_NONE, 0);
            }
            let sent = director
                .forward(frame)
                .unwrap_or_else(|| panic!("{row:?} is not forwarded"));
            left += usize::from(sent.leaves_checksum());
            all += 1;
            let wire = on_the_wire(&sent);
            // Checks the checksum: of a GUE tunnel the outer one.
            Segment::read(&wire);
            if let TunnelType::Gue { .. } = row.tunnel {
                let inner = ethernet::HEADER + if row.is_v4 { 20 } else { 40 } + udp::HEADER + 4;
                let inner = [&[0; ethernet::HEADER], &wire[inner..]].concat();
                assert_eq!(Segment::read(&inner).number, call.number);
            }
        }
    }
    drop(director);
    close(opened);
    (left, all)
}

tests! {
    marks_of_received_frames_are_read {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let mut marked = |marks| {
            let mut frame = io.allocate().expect("a buffer is free");
            frame.pretend_marked(marks, 0xabcd_0123);
            (frame.checksums().ip, frame.checksums().transport, frame.rss_hash())
        };
        let (no_ip, no_transport) = (IpChecksum::Unknown, TransportChecksum::Unknown);
        assert_eq!(marked(0), (no_ip, no_transport, None));
        assert_eq!(marked(ffi::ULVS_RX_IP_GOOD | ffi::ULVS_RX_HAS_HASH), (IpChecksum::Good, no_transport, Some(0xabcd_0123)));
        assert_eq!(marked(ffi::ULVS_RX_IP_BAD | ffi::ULVS_RX_L4_NONE), (IpChecksum::Bad, TransportChecksum::Partial, None));
        assert_eq!(marked(ffi::ULVS_RX_IP_MASK | ffi::ULVS_RX_L4_GOOD), (no_ip, TransportChecksum::Complete, None));
        // A wrong TCP checksum is the receiver's to find.
        assert_eq!(marked(ffi::ULVS_RX_L4_MASK & !ffi::ULVS_RX_L4_GOOD), (no_ip, no_transport, None));
        close(opened);
    }

    what_a_driver_says_without_being_asked_is_forgotten {
        let mut opened = open(&settings(&["net_ring0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let mut frame = super::frame(io, 60, 1);
        frame.pretend_marked(ffi::ULVS_RX_IP_BAD | ffi::ULVS_RX_L4_NONE | ffi::ULVS_RX_HAS_HASH, 5);
        // The ring keeps marks, and its driver knows none of these offloads.
        assert_eq!(io.transmit(PORT, &mut vec![frame]), 1);
        let back = received(io).pop().expect("it comes back");
        assert_eq!((back.checksums(), back.rss_hash()), Default::default());
        drop(back);
        close(opened);
    }

    an_ipv4_header_sum_that_the_card_judged_is_not_judged_again {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let rows = network::rows(&[DirectRouting]);
        let mut director = Director::new(&rows, false, &[]);
        let right = call(0, &rows[0]).frame(DIRECTOR[OUTSIDE], 0);
        let mut wrong = right.clone();
        wrong[ethernet::HEADER + ipv4::CHECKSUM] ^= 0x40;
        let mut is_forwarded = |bytes: &[u8], marks| {
            let mut frame = load(io, bytes, 2000);
            frame.pretend_marked(marks, 0);
            director.forward(frame).is_some()
        };
        assert_eq!([is_forwarded(&right, 0), is_forwarded(&wrong, 0)], [true, false]);
        let (good, bad) = (ffi::ULVS_RX_IP_GOOD, ffi::ULVS_RX_IP_BAD);
        // Wrong bytes show that nobody looked: a card would not say so.
        assert_eq!([is_forwarded(&wrong, good), is_forwarded(&right, bad)], [true, false]);
        assert_eq!(director.counters.dropped(DropReason::BadIpChecksum).get(), 2);
        drop(director);
        close(opened);
    }

    unfinished_checksums_are_finished_in_software_where_ports_cannot {
        let (left, all) = finish_everywhere(false, true);
        assert_eq!((left, all > 50), (0, true));
    }

    unfinished_checksums_are_found_without_a_mark {
        let (left, all) = finish_everywhere(false, false);
        assert_eq!((left, all > 50), (0, true));
    }

    unfinished_checksums_are_left_to_ports_that_can {
        let (left, all) = finish_everywhere(true, true);
        // In IP in IP the transport header is where no card would look: those are finished here.
        let tunnels = network::rows(&[Tunnel]).len() * 4;
        assert_eq!(left, all - tunnels);
    }

    a_complete_checksum_that_looks_unfinished_is_kept {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let rows = network::rows(&[DirectRouting]);
        let mut director = Director::new(&rows, true, &[]);
        let bytes = unfinished(&call(0, &rows[0]), &rows[0], 10);
        let mut frame = load(io, &bytes, 2000);
        frame.pretend_marked(ffi::ULVS_RX_L4_GOOD, 0);
        let sent = director.forward(frame).expect("it is forwarded");
        let at = checksum_at(&rows[0]);
        assert_eq!(sent.head()[at..at + 2], bytes[at..at + 2]);
        drop((sent, director));
        close(opened);
    }

    the_kernel_gets_finished_checksums {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        for row in network::rows(&[DirectRouting]) {
            for is_group in [false, true] {
                let mut call = call(0, &row);
                if is_group {
                    call.destination.0 = network::group(row.is_v4);
                }
                let mut frame = load(io, &unfinished(&call, &row, 200), 90);
                frame.pretend_marked(ffi::ULVS_RX_L4_NONE, 0);
                edit::finish_for_kernel(&mut frame);
                assert_eq!(Segment::read(&on_the_wire(&frame)), call);
            }
        }
        // Too short for a header: left as it is.
        let row = Row { is_v4: true, ..network::rows(&[DirectRouting])[0] };
        let mut bytes = Segment { destination: (network::group(true), 9), ..call(0, &row) }.frame(DIRECTOR[OUTSIDE], 0);
        put_u16(&mut bytes, ethernet::HEADER + ipv4::TOTAL_LENGTH, 24);
        put_u16(&mut bytes, ethernet::HEADER + ipv4::CHECKSUM, 0);
        let sum = Sum::of(&bytes[ethernet::HEADER..][..ipv4::HEADER]).to_checksum();
        put_u16(&mut bytes, ethernet::HEADER + ipv4::CHECKSUM, sum);
        let mut frame = load(io, &bytes, 2000);
        frame.pretend_marked(ffi::ULVS_RX_L4_NONE, 0);
        edit::finish_for_kernel(&mut frame);
        assert_eq!(frame.head(), bytes);
        drop(frame);
        close(opened);
    }

    frames_with_checksums_for_the_port_are_prepared_and_sent_in_order {
        let mut opened = open(&settings(&["net_ring0"], 1)).expect("it opens");
        let_ports_finish_checksums(true);
        let io = &mut opened.workers[0];
        let rows = network::rows(&[DirectRouting]);
        let mut director = Director::new(&rows, true, &[]);
        let mut burst = Vec::new();
        for number in 0..2 * BURST {
            let call = Segment { number: number as u32, ..call(1, &rows[1]) };
            let bytes = if number % 3 == 0 { unfinished(&call, &rows[1], 0) } else { call.frame(DIRECTOR[OUTSIDE], 0) };
            burst.push(director.forward(load(io, &bytes, 2000)).expect("it is forwarded"));
        }
        assert_eq!(io.transmit(PORT, &mut burst), 2 * BURST);
        let mut back = received(io);
        back.extend(received(io));
        let numbers: Vec<u32> = back.iter().map(|frame| Segment::read(&on_the_wire(frame)).number).collect();
        assert_eq!(numbers, (0..2 * BURST as u32).collect::<Vec<_>>());
        drop((back, director));
        close(opened);
    }

    a_card_that_hashes_otherwise_than_told_is_counted_once_per_connection {
        let mut opened = open(&settings(&["net_null0"], 1)).expect("it opens");
        let io = &mut opened.workers[0];
        let rows = network::rows(&[DirectRouting]);
        for (told, does, differs) in [
            (RssFields::Tuple, RssFields::Tuple, 0),
            (RssFields::Source, RssFields::Source, 0),
            (RssFields::Source, RssFields::Tuple, 4),
            (RssFields::Tuple, RssFields::Source, 4),
        ] {
            let mut director = Director::new(&rows, false, &[told]);
            for _ in 0..3 {
                for (service, row) in rows.iter().enumerate() {
                    let call = call(service, row);
                    let key = ulvs_dataplane::conn::key::Key {
                        source: call.source.0,
                        destination: call.destination.0,
                        source_port: call.source.1,
                        destination_port: call.destination.1,
                        protocol: call.protocol,
                    };
                    let mut frame = load(io, &call.frame(DIRECTOR[OUTSIDE], 0), 2000);
                    frame.pretend_marked(ffi::ULVS_RX_HAS_HASH, does.hash(&key));
                    assert!(director.forward(frame).is_some());
                }
            }
            // A card that tells no hash is not suspected.
            let silent = Segment { source: (network::client(true, 9), 9), ..call(0, &rows[0]) };
            assert!(director.forward(load(io, &silent.frame(DIRECTOR[OUTSIDE], 0), 2000)).is_some());
            assert_eq!(director.counters.event(Event::ConnectionsOpened).get(), 5);
            assert_eq!(director.counters.event(Event::RssDiffers).get(), differs, "{told:?} {does:?}");
            drop(director);
        }
        close(opened);
    }
}
