//! From bytes to the notation, and judged on the way: every length and every checksum of a frame that the director sends must be right. Written against the
//! RFCs and apart from the dataplane's own reader, so that a mistake is not made twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::naive;
use crate::words::{CHUNKS, FLAGS, ICMP, Names, hex, payload};

/// A frame as text, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Reading {
    /// In the notation.
    pub text: String,
    /// Wrong lengths and checksums.
    pub faults: Vec<String>,
    /// The datagram that this is a fragment of: to be put together and judged as a whole.
    pub fragment: Option<FragmentOf>,
}

/// A fragment of the outermost IP header.
#[derive(Clone, Debug)]
pub struct FragmentOf {
    /// Source, destination, identification, protocol.
    pub datagram: (Vec<u8>, Vec<u8>, u32, u8),
    /// Where it belongs.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Where a packet stands: what can be expected of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It was sent.
    Sent,
    /// An ICMP error quotes it: it may be cut, and its transport checksum is as its sender made it.
    Quoted,
}

/// The addresses around a transport header, and whether all of it is there.
#[derive(Clone, Copy)]
struct Around<'a> {
    source: &'a [u8],
    destination: &'a [u8],
    place: Place,
    is_whole: bool,
}

/// The UDP port of GUE tunnels.
const GUE: u16 = 6080;

struct Reader<'a> {
    names: &'a Names,
    layers: Vec<String>,
    faults: Vec<String>,
    fragment: Option<FragmentOf>,
}

/// Reads a whole frame.
pub fn frame(bytes: &[u8], names: &Names) -> Reading {
    let mut reader = Reader {
        names,
        layers: Vec::new(),
        faults: Vec::new(),
        fragment: None,
    };
    reader.ethernet(bytes);
    Reading {
        text: reader.layers.join(" | "),
        faults: reader.faults,
        fragment: reader.fragment,
    }
}

/// Judges the transport checksum of a datagram that came in fragments; the words say what is wrong.
pub fn reassembled(source: &[u8], destination: &[u8], protocol: u8, data: &[u8]) -> Option<String> {
    if protocol == 4 {
        let wrong = data.len() < 20 || usize::from(word(data, 2)) != data.len();
        return wrong
            .then(|| "the packet in the tunnel packet put together from fragments has another length".to_owned());
    }
    if protocol == 132 {
        let wrong = data.len() < 12 || data[8..12] != naive::sctp_checksum(data).to_le_bytes();
        return wrong.then(|| "the SCTP packet put together from fragments has a bad checksum".to_owned());
    }
    let no_checksum = protocol == 17 && data.get(6..8) == Some(&[0, 0]);
    let pseudo = naive::pseudo_header(source, destination, protocol, data.len());
    let wrong = matches!(protocol, 6 | 17) && !no_checksum && !naive::is_right(&[&pseudo, data]);
    wrong.then(|| "the datagram put together from fragments has a bad checksum".to_owned())
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn address(bytes: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default()).into(),
    }
}

impl Reader<'_> {
    fn layer(&mut self, text: impl Into<String>) {
        self.layers.push(text.into());
    }

    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    fn rest(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.layer(payload(bytes));
        }
    }

    fn ethernet(&mut self, bytes: &[u8]) {
        if bytes.len() < 14 {
            self.fault("shorter than an Ethernet header");
            return self.layer(format!("hex {}", hex(bytes)));
        }
        let (to, from) = (self.names.of(&bytes[..6]), self.names.of(&bytes[6..12]));
        self.layer(format!("eth {from} > {to}"));
        self.typed(word(bytes, 12), &bytes[14..]);
    }

    fn typed(&mut self, ethertype: u16, bytes: &[u8]) {
        match ethertype {
            0x8100 | 0x88a8 if bytes.len() >= 4 => {
                self.layer(format!("vlan {}", word(bytes, 0)));
                self.typed(word(bytes, 2), &bytes[4..]);
            }
            0x0800 => self.ipv4(bytes, Place::Sent),
            0x86dd => self.ipv6(bytes, Place::Sent),
            0x0806 if bytes.len() >= 28 => self.arp(bytes),
            other => {
                self.layers
                    .last_mut()
                    .expect("the Ethernet layer")
                    .push_str(&format!(" type {other:#06x}"));
                self.rest(bytes);
            }
        }
    }

    fn arp(&mut self, bytes: &[u8]) {
        if bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return self.layer(format!("arp {}", hex(bytes)));
        }
        let (mac, target_mac) = (self.names.of(&bytes[8..14]), self.names.of(&bytes[18..24]));
        let (sender, target) = (address(&bytes[14..18]), address(&bytes[24..28]));
        match word(bytes, 6) {
            1 => self.layer(format!("arp who-has {target} tell {sender} at {mac}")),
            2 => self.layer(format!("arp {sender} is-at {mac} to {target} at {target_mac}")),
            other => self.layer(format!("arp operation {other} {}", hex(bytes))),
        }
        self.rest(&bytes[28..]);
    }

    fn ipv4(&mut self, bytes: &[u8], place: Place) {
        if bytes.len() < 20 {
            self.fault("shorter than an IPv4 header");
            return self.rest(bytes);
        }
        let header = usize::from(bytes[0] & 0x0f) * 4;
        let total = usize::from(word(bytes, 2));
        if bytes[0] >> 4 != 4 || header < 20 || header > bytes.len() || total < header {
            self.fault("not an IPv4 header");
            return self.rest(bytes);
        }
        let (source, destination) = (&bytes[12..16], &bytes[16..20]);
        let mut text = format!("ip {} > {}", address(source), address(destination));
        if bytes[1] != 0 {
            text += &format!(" tos {:#04x}", bytes[1]);
        }
        text += &format!(" ttl {} id {}", bytes[8], word(bytes, 4));
        let flags = word(bytes, 6);
        let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
        if flags & 0x4000 != 0 {
            text += " df";
        }
        if more {
            text += " mf";
        }
        if offset != 0 {
            text += &format!(" offset {offset}");
        }
        if header > 20 {
            text += &format!(" options {}", hex(&bytes[20..header]));
        }
        if !naive::is_right(&[&bytes[..header]]) {
            self.fault("bad IPv4 header checksum");
            text += " checksum bad";
        }
        let end = self.end(bytes, total, place, &mut text);
        let data = &bytes[header..end];
        let is_whole = offset == 0 && !more && end == total;
        if (offset != 0 || more) && place == Place::Sent {
            let datagram = (
                source.to_vec(),
                destination.to_vec(),
                u32::from(word(bytes, 4)),
                bytes[9],
            );
            self.fragment = Some(FragmentOf {
                datagram,
                offset,
                more,
                data: data.to_vec(),
            });
        }
        if offset != 0 {
            text += &format!(" proto {}", bytes[9]);
            self.layer(text);
            return self.rest(data);
        }
        let around = Around {
            source,
            destination,
            place,
            is_whole,
        };
        self.upper(text, bytes[9], data, around, "proto");
    }

    /// Where the packet ends in `bytes` by its own length.
    fn end(&mut self, bytes: &[u8], total: usize, place: Place, text: &mut String) -> usize {
        if total > bytes.len() {
            // In the first piece of a tunnel packet that was cut, the inner packet ends with the pieces: `reassembled` judges it.
            if place == Place::Sent && self.fragment.is_none() {
                self.fault("the frame ends before the packet does");
            }
            *text += &format!(" length {total}");
        } else if total < bytes.len() && place == Place::Sent {
            *text += &format!(" padding {}", bytes.len() - total);
        }
        total.min(bytes.len())
    }

    fn ipv6(&mut self, bytes: &[u8], place: Place) {
        if bytes.len() < 40 || bytes[0] >> 4 != 6 {
            self.fault("not an IPv6 header");
            return self.rest(bytes);
        }
        let (source, destination) = (&bytes[8..24], &bytes[24..40]);
        let mut text = format!("ip6 {} > {}", address(source), address(destination));
        let class = bytes[0] << 4 | bytes[1] >> 4;
        if class != 0 {
            text += &format!(" class {class:#04x}");
        }
        let flow = long(bytes, 0) & 0x000f_ffff;
        if flow != 0 {
            text += &format!(" flow {flow:#x}");
        }
        text += &format!(" ttl {}", bytes[7]);
        let end = self.end(bytes, 40 + usize::from(word(bytes, 4)), place, &mut text);
        let is_whole = end == 40 + usize::from(word(bytes, 4));
        let around = Around {
            source,
            destination,
            place,
            is_whole,
        };
        self.upper(text, bytes[6], &bytes[40..end], around, "next");
    }

    /// What is in an IP packet. `text` is the layer in front, which names the protocol when nothing else does.
    fn upper(&mut self, mut text: String, protocol: u8, data: &[u8], around: Around, field: &str) {
        let v6 = around.source.len() == 16;
        let enough = match protocol {
            4 | 6 => 20,
            17 | 44 | 1 | 58 | 0 | 43 | 60 => 8,
            47 => 4,
            41 => 40,
            132 => 16,
            _ => usize::MAX,
        };
        let cut_transport = around.place == Place::Quoted && matches!(protocol, 6 | 17 | 132) && data.len() >= 8;
        let known = match protocol {
            4 | 6 | 17 | 41 | 47 | 132 => true,
            1 => !v6,
            58 | 44 | 0 | 43 | 60 => v6,
            _ => false,
        };
        if !known || data.len() < enough && !cut_transport {
            text += &format!(" {field} {protocol}");
            self.layer(text);
            return self.rest(data);
        }
        self.layer(text);
        match protocol {
            4 => self.ipv4(data, around.place),
            41 => self.ipv6(data, around.place),
            6 if data.len() < 20 => self.cut_tcp(data),
            6 => self.tcp(data, around),
            17 => self.udp(data, around),
            132 => self.sctp(data, around),
            47 => self.gre(data, around),
            1 => self.icmp(4, data, around),
            58 => self.icmp(6, data, around),
            44 => self.fragment_header(data, around),
            _ => self.extension(protocol, data, around),
        }
    }

    fn extension(&mut self, protocol: u8, data: &[u8], around: Around) {
        let length = (usize::from(data[1]) + 1) * 8;
        let mut text = match protocol {
            0 => "hop-by-hop".to_owned(),
            60 => "destination-options".to_owned(),
            _ => format!("routing type {} left {}", data[2], data[3]),
        };
        if length > data.len() {
            text += &format!(" length {}", data[1]);
            self.layer(text);
            return self.rest(&data[8..]);
        }
        self.upper(text, data[0], &data[length..], around, "next");
    }

    fn fragment_header(&mut self, data: &[u8], around: Around) {
        let (offset, more) = (usize::from(word(data, 2) & 0xfff8), data[3] & 1 == 1);
        let mut text = format!("frag id {}", long(data, 4));
        if offset != 0 {
            text += &format!(" offset {offset}");
        }
        if more {
            text += " mf";
        }
        if around.place == Place::Sent {
            let datagram = (
                around.source.to_vec(),
                around.destination.to_vec(),
                long(data, 4),
                data[0],
            );
            self.fragment = Some(FragmentOf {
                datagram,
                offset,
                more,
                data: data[8..].to_vec(),
            });
        }
        if offset != 0 {
            text += &format!(" proto {}", data[0]);
            self.layer(text);
            return self.rest(&data[8..]);
        }
        let around = Around {
            is_whole: around.is_whole && !more,
            ..around
        };
        self.upper(text, data[0], &data[8..], around, "proto");
    }

    /// ` checksum ...` where it is not simply right. Only what was sent and is whole can be judged.
    fn transport_checksum(&mut self, protocol: u8, message: &[u8], stored: u16, around: Around) -> String {
        if protocol == 17 && stored == 0 {
            // A tunnel may leave it out (RFC 6935 section 5): the packet in it has one of its own.
            if around.source.len() == 16 && around.place == Place::Sent && word(message, 2) != GUE {
                self.fault("UDP over IPv6 without checksum");
            }
            return " checksum none".to_owned();
        }
        if !around.is_whole {
            return String::new();
        }
        let pseudo = naive::pseudo_header(around.source, around.destination, protocol, message.len());
        if naive::is_right(&[&pseudo, message]) {
            return String::new();
        }
        self.fault(format!("bad checksum of protocol {protocol}"));
        if stored == naive::sum(&[&pseudo]) {
            " checksum partial".to_owned()
        } else {
            " checksum bad".to_owned()
        }
    }

    /// The eight bytes that an ICMP error quotes at least.
    fn cut_tcp(&mut self, data: &[u8]) {
        self.layer(format!(
            "tcp {} > {} seq {}",
            word(data, 0),
            word(data, 2),
            long(data, 4)
        ));
        if data.len() > 8 {
            self.layer(format!("hex {}", hex(&data[8..])));
        }
    }

    fn tcp(&mut self, data: &[u8], around: Around) {
        let header = usize::from(data[12] >> 4) * 4;
        if header < 20 || header > data.len() && around.place == Place::Sent {
            self.fault("bad TCP header length");
            return self.rest(data);
        }
        let options_end = header.min(data.len());
        let mut text = format!("tcp {} > {}", word(data, 0), word(data, 2));
        for (bit, name) in FLAGS.iter().enumerate() {
            if data[13] & 1 << bit != 0 {
                text += &format!(" {name}");
            }
        }
        text += &format!(" seq {}", long(data, 4));
        if long(data, 8) != 0 || data[13] & 0x10 != 0 {
            text += &format!(" ack {}", long(data, 8));
        }
        if word(data, 14) != 0xffff {
            text += &format!(" win {}", word(data, 14));
        }
        text += &self.tcp_options(&data[20..options_end]);
        text += &self.transport_checksum(6, data, word(data, 16), around);
        self.layer(text);
        self.stream(&data[options_end..]);
    }

    fn tcp_options(&mut self, mut options: &[u8]) -> String {
        let mut text = String::new();
        while let Some(&kind) = options.first() {
            if kind == 0 {
                if options.iter().any(|byte| *byte != 0) || options.len() > 3 {
                    text += &format!(" option {}", hex(options));
                }
                break;
            }
            if kind == 1 {
                text += " nop";
                options = &options[1..];
                continue;
            }
            let length = usize::from(options.get(1).copied().unwrap_or(0));
            if length < 2 || length > options.len() {
                text += &format!(" option {}", hex(options));
                break;
            }
            let (option, behind) = options.split_at(length);
            options = behind;
            text += &match (kind, length) {
                (2, 4) => format!(" mss {}", word(option, 2)),
                (3, 3) => format!(" wscale {}", option[2]),
                (4, 2) => " sackok".to_owned(),
                (5, _) if (length - 2) % 8 == 0 && length > 2 => {
                    let edges = option[2..].chunks(8).map(|e| format!("{}-{}", long(e, 0), long(e, 4)));
                    format!(" sack {}", edges.collect::<Vec<_>>().join(","))
                }
                (8, 10) => format!(" timestamp {} {}", long(option, 2), long(option, 6)),
                (254, 8 | 20) => format!(" toa {}", SocketAddr::new(address(&option[4..]), word(option, 2))),
                _ => format!(" option {}", hex(option)),
            };
        }
        text
    }

    fn udp(&mut self, data: &[u8], around: Around) {
        let mut text = format!("udp {} > {}", word(data, 0), word(data, 2));
        let length = usize::from(word(data, 4));
        if length != data.len() {
            if around.is_whole {
                self.fault("UDP length differs from the packet's");
            }
            text += &format!(" length {length}");
        }
        text += &self.transport_checksum(17, data, word(data, 6), around);
        self.layer(text);
        match word(data, 2) {
            GUE => self.gue(&data[8..], around.place),
            _ => self.stream(&data[8..]),
        }
    }

    /// What is in a tunnel's packet, by the IP protocol number.
    fn inner(&mut self, protocol: u8, data: &[u8], place: Place) {
        match protocol {
            4 => self.ipv4(data, place),
            41 => self.ipv6(data, place),
            _ => {
                self.fault(format!("a tunnel with protocol {protocol}"));
                self.rest(data);
            }
        }
    }

    fn gue(&mut self, data: &[u8], place: Place) {
        if data.len() < 4 || data[0] != 0 || word(data, 2) != 0 {
            self.fault("not a GUE header, or one with flags");
            return self.rest(data);
        }
        self.layer("gue");
        self.inner(data[1], &data[4..], place);
    }

    fn gre(&mut self, data: &[u8], around: Around) {
        let has_checksum = word(data, 0) == 0x8000;
        let header = if has_checksum { 8 } else { 4 };
        if word(data, 0) & 0x7fff != 0 || data.len() < header {
            self.fault("not a GRE header, or one with other flags");
            return self.rest(data);
        }
        self.layer(if has_checksum { "gre checksum" } else { "gre" });
        if has_checksum && around.is_whole && !naive::is_right(&[data]) {
            self.fault("bad GRE checksum");
        }
        let protocol = match word(data, 2) {
            0x0800 => 4,
            0x86dd => 41,
            _ => 0,
        };
        self.inner(protocol, &data[header..], around.place);
    }

    fn sctp(&mut self, data: &[u8], around: Around) {
        let mut text = format!("sctp {} > {}", word(data, 0), word(data, 2));
        if long(data, 4) != 0 {
            text += &format!(" tag {}", long(data, 4));
        }
        let (mut at, mut body) = (12, 12.min(data.len()));
        while at + 4 <= data.len() {
            text += &match CHUNKS.iter().find(|(kind, _)| *kind == data[at]) {
                Some((_, name)) => format!(" {name}"),
                None => format!(" chunk {}", data[at]),
            };
            body = at + 4;
            let length = usize::from(word(data, at + 2));
            if around.is_whole && (length < 4 || at + length > data.len()) {
                self.fault("an SCTP chunk of a wrong length");
            }
            at += length.max(4).next_multiple_of(4);
        }
        if data.len() >= 12 {
            let is_missing = data[8..12] == [0; 4];
            if is_missing {
                text += " checksum none";
            } else if around.is_whole && data[8..12] != naive::sctp_checksum(data).to_le_bytes() {
                self.fault("bad checksum of protocol 132");
                text += " checksum bad";
            }
        }
        self.layer(text);
        self.rest(&data[body.max(8)..]);
    }

    /// Payload, perhaps with a PROXY header in front.
    fn stream(&mut self, data: &[u8]) {
        if data.len() < 16 || data[..12] != *b"\r\n\r\n\0\r\nQUIT\n" {
            return self.rest(data);
        }
        let body = usize::from(word(data, 14));
        let wide = match (data[13] >> 4, body) {
            (1, 12) => 4,
            (2, 36) => 16,
            _ => 0,
        };
        if data[12] != 0x21 || wide == 0 || data.len() < 16 + body {
            self.fault("bad PROXY header");
            return self.rest(data);
        }
        let protocol = if data[13] & 0x0f == 2 { "udp" } else { "tcp" };
        let at = |from: usize, port: usize| {
            SocketAddr::new(
                address(&data[16 + from..16 + from + wide]),
                word(data, 16 + 2 * wide + port),
            )
        };
        self.layer(format!("proxy {protocol} {} > {}", at(0, 0), at(wide, 2)));
        self.rest(&data[16 + body..]);
    }

    fn icmp(&mut self, version: u8, data: &[u8], around: Around) {
        let (kind, code) = (data[0], data[1]);
        let known = ICMP
            .iter()
            .find(|known| (known.0, known.1, known.2) == (version, kind, code));
        let layer = if version == 4 { "icmp" } else { "icmp6" };
        let mut text = match known {
            Some((.., name)) => format!("{layer} {name}"),
            None => format!("{layer} type {kind} code {code}"),
        };
        let name = known.map_or("", |known| known.3);
        let mut behind = &data[8..];
        match name {
            "echo-request" | "echo-reply" => text += &format!(" id {} seq {}", word(data, 4), word(data, 6)),
            "frag-needed" => text += &format!(" mtu {}", long(data, 4)),
            "too-big" => text += &format!(" mtu {}", long(data, 4)),
            "solicit" | "advertise" if behind.len() >= 16 => {
                text += &format!(" {}", address(&behind[..16]));
                behind = &behind[16..];
                if long(data, 4) != 0 {
                    text += &format!(" rest {:#x}", long(data, 4));
                }
                if behind.len() >= 8 && matches!(behind[0], 1 | 2) && behind[1] == 1 {
                    let option = if behind[0] == 1 { "source-mac" } else { "target-mac" };
                    text += &format!(" {option} {}", self.names.of(&behind[2..8]));
                    behind = &behind[8..];
                }
            }
            _ if long(data, 4) != 0 => text += &format!(" rest {:#x}", long(data, 4)),
            _ => {}
        }
        if around.is_whole {
            let pseudo = naive::pseudo_header(around.source, around.destination, 58, data.len());
            let pseudo = if version == 4 { &[][..] } else { &pseudo };
            if !naive::is_right(&[pseudo, data]) {
                self.fault("bad ICMP checksum");
                text += " checksum bad";
            }
        }
        let is_error = if version == 4 {
            matches!(kind, 3 | 4 | 11)
        } else {
            kind < 128
        };
        self.layer(text);
        match (is_error, version) {
            (true, 4) => self.ipv4(behind, Place::Quoted),
            (true, _) => self.ipv6(behind, Place::Quoted),
            _ => self.rest(behind),
        }
    }
}
