//! Clients and servers: TCP and UDP endpoints as small as they can be and still notice everything that goes wrong between them.
//!
//! Each TCP packet carries an option, and each UDP datagram starts, with the number of its flow and a serial number of its own. The director passes both on
//! untouched, so that every packet that leaves it can be compared with the packet that went in.

use ulvs_dataplane::address::Address;
use ulvs_dataplane::time::Time;
use ulvs_dataplane::wire::ethernet::Mac;

use super::packet::Tcp;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// Largest piece of a stream in one segment.
const SEGMENT: usize = 1200;
/// Segments sent in one go.
const WINDOW: usize = 3;

/// Where a client is in its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Opening,
    Open,
    Closing,
    Closed,
}

/// One conversation as its client sees it.
#[derive(Clone, Debug)]
pub struct Flow {
    pub id: u32,
    /// Index of the service.
    pub service: usize,
    pub client: Address,
    pub client_port: u16,
    pub is_tcp: bool,
    pub isn: u32,
    pub phase: Phase,
    /// Bytes of the client's stream, and of the server's.
    pub request: usize,
    pub response: usize,
    /// Bytes of each that have arrived, as the client knows.
    pub acknowledged: usize,
    pub received: usize,
    /// First sequence number of the server.
    pub irs: u32,
    /// The server that packets of this flow went to last, and when.
    pub binding: Option<(Mac, Time)>,
    /// The connection may have been closed or moved by now, so that another server is no mistake.
    pub may_move: bool,
    pub is_complete: bool,
}

/// A segment to be sent: flags, sequence number, acknowledgment, data.
pub type Segment = (u8, u32, u32, Vec<u8>);

/// The byte at `offset` of a flow's stream.
pub fn pattern(id: u32, offset: usize, from_client: bool) -> u8 {
    let word =
        (u64::from(id) << 33 | (offset as u64) << 1 | u64::from(from_client)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word >> 56) as u8
}

/// Bytes `from..to` of a flow's stream.
pub fn stream(id: u32, from: usize, to: usize, from_client: bool) -> Vec<u8> {
    (from..to).map(|offset| pattern(id, offset, from_client)).collect()
}

impl Flow {
    fn sequence_of(&self, offset: usize) -> u32 {
        self.isn.wrapping_add(1).wrapping_add(offset as u32)
    }

    fn expected(&self) -> u32 {
        self.irs.wrapping_add(1).wrapping_add(self.received as u32)
    }

    /// What the client sends when its retransmission timer fires.
    pub fn poke(&mut self) -> Vec<Segment> {
        match self.phase {
            Phase::Opening => vec![(SYN, self.isn, 0, Vec::new())],
            Phase::Closed => Vec::new(),
            Phase::Open if self.acknowledged < self.request => {
                let starts = (self.acknowledged..self.request).step_by(SEGMENT).take(WINDOW);
                let segment = |from: usize| {
                    let data = stream(self.id, from, (from + SEGMENT).min(self.request), true);
                    (ACK, self.sequence_of(from), self.expected(), data)
                };
                starts.map(segment).collect()
            }
            Phase::Open if self.received < self.response => {
                vec![(ACK, self.sequence_of(self.request), self.expected(), Vec::new())]
            }
            Phase::Open | Phase::Closing => {
                self.phase = Phase::Closing;
                vec![(FIN | ACK, self.sequence_of(self.request), self.expected(), Vec::new())]
            }
        }
    }

    /// Gives up: the segment that tells the server so.
    pub fn reset(&mut self) -> Vec<Segment> {
        if !matches!(self.phase, Phase::Open | Phase::Closing) {
            return Vec::new();
        }
        self.phase = Phase::Closed;
        vec![(
            RST | ACK,
            self.sequence_of(self.acknowledged),
            self.expected(),
            Vec::new(),
        )]
    }

    /// What the client answers to a segment of its server, which the network has checked to be one of this flow.
    pub fn receive(&mut self, tcp: &Tcp) -> Result<Vec<Segment>, String> {
        match self.phase {
            Phase::Opening => return Ok(self.receive_opening(tcp)),
            Phase::Closed => return Ok(Vec::new()),
            Phase::Open | Phase::Closing => {}
        }
        if tcp.flags & RST != 0 {
            if tcp.sequence == self.expected() {
                self.phase = Phase::Closed;
            }
            return Ok(Vec::new());
        }
        if tcp.flags & SYN != 0 {
            return Ok(vec![(
                ACK,
                self.sequence_of(self.acknowledged),
                self.expected(),
                Vec::new(),
            )]);
        }
        let acknowledged = tcp.acknowledgment.wrapping_sub(self.sequence_of(0));
        if (acknowledged as i32) < 0 {
            // An old duplicate (RFC 9293 section 3.10.7.4): the server has begun with another SYN from this port since.
            return Ok(Vec::new());
        }
        let acknowledged = acknowledged as usize;
        let limit = self.request + usize::from(self.phase == Phase::Closing);
        if acknowledged > limit {
            return Err(format!(
                "the client sent {limit} bytes and {acknowledged} are acknowledged"
            ));
        }
        let has_advanced = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged.min(self.request));
        let mut answers = Vec::new();
        if tcp.sequence == self.expected() && !tcp.data.is_empty() {
            let end = self.received + tcp.data.len();
            if end > self.response || tcp.data != stream(self.id, self.received, end, false) {
                return Err(format!("wrong bytes {}..{end} of the server's stream", self.received));
            }
            self.received = end;
            answers.push((ACK, self.sequence_of(self.acknowledged), self.expected(), Vec::new()));
        }
        if acknowledged == self.request + 1 && tcp.flags & FIN != 0 && tcp.sequence == self.expected() {
            self.phase = Phase::Closed;
            self.is_complete = true;
            let last = self.expected().wrapping_add(1);
            answers.push((ACK, self.sequence_of(self.request + 1), last, Vec::new()));
        } else if has_advanced && acknowledged < self.request {
            answers.extend(self.poke());
        }
        Ok(answers)
    }

    fn receive_opening(&mut self, tcp: &Tcp) -> Vec<Segment> {
        let is_mine = tcp.acknowledgment == self.sequence_of(0);
        match tcp.flags & (SYN | ACK | RST) {
            flags if flags == SYN | ACK && is_mine => {
                self.irs = tcp.sequence;
                self.phase = Phase::Open;
                vec![(ACK, self.sequence_of(0), self.expected(), Vec::new())]
            }
            flags if flags & RST != 0 => {
                if is_mine {
                    self.phase = Phase::Closed;
                }
                Vec::new()
            }
            // RFC 9293 section 3.10.7.3: an acknowledgment of something else is answered with a reset.
            flags if flags & ACK != 0 && !is_mine => vec![(RST, tcp.acknowledgment, 0, Vec::new())],
            _ => Vec::new(),
        }
    }
}

/// A server's end of a TCP connection.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub flow: u32,
    irs: u32,
    iss: u32,
    /// What has arrived in order.
    received: usize,
    /// What should arrive: a PROXY header, if any, and the request.
    expected: Vec<u8>,
    response: usize,
    acknowledged: usize,
    pub is_closed: bool,
    has_fin: bool,
    is_established: bool,
}

impl Endpoint {
    /// Made by a SYN.
    pub fn new(flow: &Flow, header: Vec<u8>, irs: u32, iss: u32) -> Endpoint {
        let mut expected = header;
        expected.extend(stream(flow.id, 0, flow.request, true));
        Endpoint {
            flow: flow.id,
            irs,
            iss,
            received: 0,
            expected,
            response: flow.response,
            acknowledged: 0,
            is_closed: false,
            has_fin: false,
            is_established: false,
        }
    }

    fn next(&self) -> u32 {
        let fin = u32::from(self.has_fin);
        self.irs
            .wrapping_add(1)
            .wrapping_add(self.received as u32)
            .wrapping_add(fin)
    }

    fn sequence_of(&self, offset: usize) -> u32 {
        self.iss.wrapping_add(1).wrapping_add(offset as u32)
    }

    /// The SYN+ACK.
    pub fn greeting(&self) -> Segment {
        (SYN | ACK, self.iss, self.irs.wrapping_add(1), Vec::new())
    }

    /// An acknowledgment of what has arrived.
    pub fn acknowledgment(&self) -> Segment {
        (ACK, self.sequence_of(self.acknowledged), self.next(), Vec::new())
    }

    /// What the server sends when its retransmission timer fires.
    pub fn poke(&mut self) -> Vec<Segment> {
        if self.is_closed {
            return Vec::new();
        }
        if self.received < self.expected.len() || self.acknowledged >= self.response {
            return vec![self.acknowledgment()];
        }
        let starts = (self.acknowledged..self.response).step_by(SEGMENT).take(WINDOW);
        let segment = |from: usize| {
            let data = stream(self.flow, from, (from + SEGMENT).min(self.response), false);
            (ACK, self.sequence_of(from), self.next(), data)
        };
        starts.map(segment).collect()
    }

    /// What the server answers to a segment of this flow's client.
    pub fn receive(&mut self, tcp: &Tcp) -> Result<Vec<Segment>, String> {
        if tcp.flags & RST != 0 {
            self.is_closed |= tcp.sequence == self.next();
            return Ok(Vec::new());
        }
        if tcp.flags & SYN != 0 {
            let is_again = tcp.sequence == self.irs;
            return Ok(vec![if is_again {
                self.greeting()
            } else {
                self.acknowledgment()
            }]);
        }
        let acknowledged = tcp.acknowledgment.wrapping_sub(self.sequence_of(0)) as usize;
        let limit = self.response + usize::from(self.has_fin);
        if acknowledged > limit && !self.is_established {
            // RFC 9293 section 3.10.7.4: in SYN-RECEIVED an acknowledgment of something else is answered with a reset.
            return Ok(vec![(RST, tcp.acknowledgment, 0, Vec::new())]);
        }
        self.is_established = true;
        if acknowledged > limit {
            return Err(format!(
                "the server sent {limit} bytes and {acknowledged} are acknowledged"
            ));
        }
        let has_advanced = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged.min(self.response));
        let start = tcp.sequence.wrapping_sub(self.irs.wrapping_add(1)) as usize;
        if start > self.received && start < 1 << 31 {
            return Ok(vec![self.acknowledgment()]);
        }
        // What has arrived before is cut off, as RFC 9293 section 3.10.7.4 has it.
        let known = (self.received as u32).wrapping_sub(start as u32) as usize;
        let data = &tcp.data[known.min(tcp.data.len())..];
        let end = self.received + data.len();
        if end > self.expected.len() || *data != self.expected[self.received..end] {
            return Err(format!("wrong bytes {}..{end} of the client's stream", self.received));
        }
        self.received = end;
        if tcp.flags & FIN != 0 && self.received == self.expected.len() && known <= tcp.data.len() {
            self.has_fin = true;
            return Ok(vec![(
                FIN | ACK,
                self.sequence_of(self.response),
                self.next(),
                Vec::new(),
            )]);
        }
        let is_complete = self.received == self.expected.len();
        Ok(match (data.is_empty(), is_complete) {
            (false, true) => self.poke(),
            (true, true) if has_advanced => self.poke(),
            (true, _) if tcp.data.is_empty() => Vec::new(),
            _ => vec![self.acknowledgment()],
        })
    }
}
