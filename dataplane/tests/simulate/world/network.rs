//! The network around the director: it loses, duplicates and delays frames, and its routers complain.

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::io::{Io, PortIndex};
use ulvs_dataplane::steering::RssFields;

use super::fields::ports;
use super::{Checked, Place, World, ensure};
use crate::packet::{self, Body, Decoded, Packet};
use crate::plan::{self, DIRECTOR, INSIDE, OUTSIDE};

impl World {
    /// Puts a frame on the wire, or loses it.
    pub(super) fn launch(&mut self, place: Place, frame: Vec<u8>) {
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

    /// A frame comes to the queue of a worker: as a card brings it that is told what to hash, by a hash of its addresses, or to any.
    pub(super) fn arrive(&mut self, port: PortIndex, frame: &[u8]) {
        let number = if let Some(fields) = self.setup.rss {
            self.queue_of(fields[usize::from(port.0)], frame)
        } else if self.by_hash {
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

    /// Where a card brings a frame.
    fn queue_of(&self, fields: RssFields, frame: &[u8]) -> usize {
        let Ok(Decoded::Whole(packet)) = packet::decode(frame) else {
            return 0;
        };
        let (source_port, destination_port) = ports(&packet);
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            source_port,
            destination_port,
            protocol: packet::TCP,
        };
        match packet.body {
            Body::Tcp(_) | Body::Udp(_) => usize::from(self.steering.arrives_at(fields, &key)),
            _ => 0,
        }
    }

    pub(super) fn depart(&mut self, port: usize, frame: Vec<u8>) -> Checked {
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

    /// A router on either side says that something which the director sent cannot be delivered.
    pub fn complain(&mut self) {
        let port = self.random.below(2);
        if self.lately[port].is_empty() || self.setup.rss.is_some() {
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
}
