//! How clients and servers make packets: each carries the number of its flow and a serial number, by which it is known again.

use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::wire::ethernet::Mac;

use super::fields::label;
use super::{Place, World};
use crate::flows::{FIN, RST, SYN, Segment, stream};
use crate::packet::{self, Body, Packet, Tcp, Udp};
use crate::plan::{self, GATEWAY, INSIDE, OUTSIDE};

/// Packets whose originals are remembered.
const REMEMBERED: u32 = 20_000;

/// A packet as its sender sent it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) flow: u32,
    pub(super) from_client: bool,
    pub(super) packet: Packet,
}

impl World {
    pub(super) fn send_segment(
        &mut self,
        flow: u32,
        from_client: bool,
        tuple: &Key,
        segment: Segment,
        (to, from): (Mac, Mac),
    ) {
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

    /// All flows between the same ends may be served by another server from now on; also one that begins while the packet that ends them is on its way.
    fn may_move(&mut self, flow: u32) {
        let flow = &self.flows[flow as usize];
        let tuple = (flow.client, flow.client_port, flow.service);
        self.ended.insert(tuple, self.now);
        for &other in &self.by_tuple[&tuple] {
            self.flows[other as usize].may_move = true;
        }
    }

    pub(super) fn send_udp(
        &mut self,
        flow: u32,
        from_client: bool,
        tuple: &Key,
        length: usize,
        (to, from): (Mac, Mac),
    ) {
        let length = if self.setup.rss.is_some() {
            length.min(1000)
        } else {
            length
        };
        self.serial += 1;
        let serial = self.serial;
        let mut data = flow.to_be_bytes().to_vec();
        data.extend(serial.to_be_bytes());
        data.extend(stream(serial, 0, length, from_client));
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
        let may_be_cut = self.setup.rss.is_none();
        let is_cut = may_be_cut && (data.len() > 1400 || data.len() > 64 && self.random.chance(10));
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

    /// The packet as it was sent, found by the serial number in it.
    pub(super) fn original(&self, packet: &Packet, may_have_header: bool) -> Option<(Sent, u32)> {
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
}
