//! The clients: what they begin, send and receive.

use ulvs_dataplane::conn::key::Key;

use super::fields::label;
use super::{Checked, SECOND, World};
use crate::flows::{Flow, Phase, RST, Segment};
use crate::packet::{self, Body, Decoded};
use crate::plan::{self, DIRECTOR, GATEWAY};

impl World {
    /// A client begins a conversation with a service.
    pub fn open(&mut self, service: usize, client: usize, client_port: u16) {
        let planned = &self.plan.services[service];
        let is_tcp = planned.protocol == packet::TCP;
        let client = plan::client(planned.address.is_v4(), client);
        let id = self.flows.len() as u32;
        let isn = self.random.next() as u32;
        let tuple = (client, client_port, service);
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
            may_move: self.ended.get(&tuple).is_some_and(|&at| self.now.since(at) < SECOND),
            is_complete: false,
        };
        self.by_tuple.entry(tuple).or_default().push(id);
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

    pub(super) fn reach_client(&mut self, frame: &[u8]) -> Checked {
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
}
