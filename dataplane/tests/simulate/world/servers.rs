//! The real servers: what they receive and answer.

use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::service::ClientAddress;
use ulvs_dataplane::wire::ethernet::Mac;

use super::fields::{label, ports, proxy_header};
use super::{Checked, World};
use crate::flows::{ACK, Endpoint, RST, SYN, Segment};
use crate::packet::{self, Body, Decoded, Tcp};
use crate::plan::DIRECTOR;

impl World {
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

    pub(super) fn reach_server(&mut self, mac: Mac, frame: &[u8]) -> Checked {
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
}
