//! What leaves the director, compared with what its sender sent.

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::connection::Connection;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod};
use ulvs_dataplane::wire::ethernet::Mac;

use super::fields::{ports, proxy_header, same_options, without_toa};
use super::sending::Sent;
use super::{Checked, SECOND, World, ensure};
use crate::packet::{self, Body, Decoded, Packet};
use crate::plan::{self, GATEWAY};

impl World {
    /// A packet towards a server: compared with what the client sent.
    pub(super) fn inspect_inside(&mut self, to: Mac, packet: &Packet) -> Checked {
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
    pub(super) fn inspect_outside(&mut self, packet: &Packet) -> Checked {
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
    pub(super) fn inspect_error(&mut self, packet: &Packet, message: &[u8], server: Option<Mac>) -> Checked {
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
}
