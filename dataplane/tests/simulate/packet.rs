//! Frames as clients and servers make and read them: plain code that shares nothing with the packet machine but constants, so that a mistake there cannot hide
//! here.

use ulvs_dataplane::address::Address;
use ulvs_dataplane::wire::ethernet::Mac;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// A whole IP packet, or a fragment's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: Mac,
    pub from: Mac,
    pub source: Address,
    pub destination: Address,
    pub ttl: u8,
    pub dont_fragment: bool,
    pub id: u32,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp(Tcp),
    Udp(Udp),
    /// ICMP or ICMPv6: the message from the type on, the checksum being right.
    Icmp(Vec<u8>),
    /// Another IP packet, header and all.
    Tunnelled(Vec<u8>),
    /// Any other protocol.
    Other(u8, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub data: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    pub source_port: u16,
    pub destination_port: u16,
    pub has_checksum: bool,
    pub data: Vec<u8>,
}

/// What a frame turned out to be.
#[derive(Clone, Debug)]
pub enum Decoded {
    Whole(Packet),
    Fragment(Fragment),
    /// ARP and whatever else is not IP.
    NotIp,
}

#[derive(Clone, Debug)]
pub struct Fragment {
    pub to: Mac,
    pub from: Mac,
    pub source: Address,
    pub destination: Address,
    pub ttl: u8,
    pub id: u32,
    pub protocol: u8,
    pub offset: usize,
    pub more: bool,
    pub data: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn double(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The one's-complement sum, word by word.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pseudo_sum(source: &Address, destination: &Address, protocol: u8, length: usize) -> u64 {
    sum(source.wire()) + sum(destination.wire()) + u64::from(protocol) + length as u64
}

/// The transport bytes of a packet, checksum included, and its IP protocol.
pub fn transport(packet: &Packet) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    let (protocol, checksum_at) = match &packet.body {
        Body::Tcp(tcp) => {
            bytes.extend(tcp.source_port.to_be_bytes());
            bytes.extend(tcp.destination_port.to_be_bytes());
            bytes.extend(tcp.sequence.to_be_bytes());
            bytes.extend(tcp.acknowledgment.to_be_bytes());
            assert_eq!(tcp.options.len() % 4, 0);
            bytes.push(((5 + tcp.options.len() / 4) << 4) as u8);
            bytes.push(tcp.flags);
            bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
            bytes.extend(&tcp.options);
            bytes.extend(&tcp.data);
            (TCP, 16)
        }
        Body::Udp(udp) => {
            bytes.extend(udp.source_port.to_be_bytes());
            bytes.extend(udp.destination_port.to_be_bytes());
            bytes.extend((8 + udp.data.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(&udp.data);
            (UDP, 6)
        }
        Body::Icmp(message) => {
            bytes.extend(message);
            bytes[2..4].fill(0);
            (if packet.source.is_v4() { 1 } else { 58 }, 2)
        }
        Body::Tunnelled(inner) => return (if inner[0] >> 4 == 4 { 4 } else { 41 }, inner.clone()),
        Body::Other(protocol, data) => return (*protocol, data.clone()),
    };
    let pseudo = match protocol {
        1 => 0,
        _ => pseudo_sum(&packet.source, &packet.destination, protocol, bytes.len()),
    };
    let mut checksum = !folded(sum(&bytes) + pseudo);
    if protocol == UDP {
        let wanted = matches!(&packet.body, Body::Udp(udp) if udp.has_checksum);
        checksum = match checksum {
            _ if !wanted => 0,
            0 => 0xffff,
            other => other,
        };
    }
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    (protocol, bytes)
}

fn ip_header(packet: &Packet, protocol: u8, payload: usize, fragment: Option<(usize, bool)>) -> Vec<u8> {
    let mut ip = Vec::new();
    if packet.source.is_v4() {
        let flags = match fragment {
            Some((offset, more)) => (offset / 8) as u16 | if more { 0x2000 } else { 0 },
            None if packet.dont_fragment => 0x4000,
            None => 0,
        };
        ip.extend([0x45, 0]);
        ip.extend((20 + payload as u16).to_be_bytes());
        ip.extend((packet.id as u16).to_be_bytes());
        ip.extend(flags.to_be_bytes());
        ip.extend([packet.ttl, protocol, 0, 0]);
        ip.extend(packet.source.wire());
        ip.extend(packet.destination.wire());
        let checksum = !folded(sum(&ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        return ip;
    }
    let extension = if fragment.is_some() { 8 } else { 0 };
    ip.extend([0x60, 0, 0, 0]);
    ip.extend((payload as u16 + extension).to_be_bytes());
    ip.extend([if fragment.is_some() { 44 } else { protocol }, packet.ttl]);
    ip.extend(packet.source.wire());
    ip.extend(packet.destination.wire());
    if let Some((offset, more)) = fragment {
        ip.extend([protocol, 0]);
        ip.extend((offset as u16 | u16::from(more)).to_be_bytes());
        ip.extend(packet.id.to_be_bytes());
    }
    ip
}

fn link_header(packet: &Packet) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(packet.to);
    frame.extend(packet.from);
    frame.extend(if packet.source.is_v4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    frame
}

/// The frame of a packet.
pub fn encode(packet: &Packet) -> Vec<u8> {
    let (protocol, data) = transport(packet);
    let mut frame = link_header(packet);
    frame.extend(ip_header(packet, protocol, data.len(), None));
    frame.extend(data);
    frame
}

/// The frames of a packet cut into pieces with at most `room` bytes of data (a multiple of 8).
pub fn encode_in_pieces(packet: &Packet, room: usize) -> Vec<Vec<u8>> {
    let (protocol, data) = transport(packet);
    let pieces = data.chunks(room).count();
    data.chunks(room)
        .enumerate()
        .map(|(number, piece)| {
            let mut frame = link_header(packet);
            let fragment = Some((number * room, number + 1 < pieces));
            frame.extend(ip_header(packet, protocol, piece.len(), fragment));
            frame.extend(piece);
            frame
        })
        .collect()
}

/// Reads a frame and checks every length and checksum in it.
pub fn decode(frame: &[u8]) -> Result<Decoded, String> {
    let mut macs = [[0; 6]; 2];
    macs[0].copy_from_slice(&frame[..6]);
    macs[1].copy_from_slice(&frame[6..12]);
    match word(frame, 12) {
        0x0800 | 0x86dd => decode_ip(macs, &frame[14..], word(frame, 12) == 0x0800),
        _ => Ok(Decoded::NotIp),
    }
}

/// Reads an IP packet that lies inside of something else.
pub fn decode_inner(ip: &[u8]) -> Result<Decoded, String> {
    decode_ip([[0; 6]; 2], ip, ip[0] >> 4 == 4)
}

fn decode_ip([to, from]: [Mac; 2], ip: &[u8], is_v4: bool) -> Result<Decoded, String> {
    if is_v4 {
        if ip[0] != 0x45 || usize::from(word(ip, 2)) != ip.len() {
            return Err(format!(
                "IPv4 header {:02x?} in a packet of {} bytes",
                &ip[..20],
                ip.len()
            ));
        }
        if folded(sum(&ip[..20])) != 0xffff {
            return Err("wrong IPv4 header checksum".into());
        }
        let flags = word(ip, 6);
        let header = Fragment {
            to,
            from,
            source: Address::v4([ip[12], ip[13], ip[14], ip[15]]),
            destination: Address::v4([ip[16], ip[17], ip[18], ip[19]]),
            ttl: ip[8],
            id: u32::from(word(ip, 4)),
            protocol: ip[9],
            offset: usize::from(flags & 0x1fff) * 8,
            more: flags & 0x2000 != 0,
            data: ip[20..].to_vec(),
        };
        return whole_or_fragment(header, flags & 0x4000 != 0, flags & 0x3fff != 0);
    }
    let payload = usize::from(word(ip, 4));
    if ip[0] >> 4 != 6 || payload + 40 != ip.len() {
        return Err(format!(
            "IPv6 header {:02x?} in a packet of {} bytes",
            &ip[..40],
            ip.len()
        ));
    }
    let mut addresses = [[0; 16]; 2];
    addresses[0].copy_from_slice(&ip[8..24]);
    addresses[1].copy_from_slice(&ip[24..40]);
    let mut header = Fragment {
        to,
        from,
        source: Address::v6(addresses[0]),
        destination: Address::v6(addresses[1]),
        ttl: ip[7],
        id: 0,
        protocol: ip[6],
        offset: 0,
        more: false,
        data: ip[40..].to_vec(),
    };
    let is_fragment = header.protocol == 44;
    if is_fragment {
        header.protocol = ip[40];
        header.offset = usize::from(word(ip, 42) & 0xfff8);
        header.more = ip[43] & 1 != 0;
        header.id = double(ip, 44);
        header.data = ip[48..].to_vec();
    }
    whole_or_fragment(header, true, is_fragment)
}

fn whole_or_fragment(header: Fragment, dont_fragment: bool, is_fragment: bool) -> Result<Decoded, String> {
    if is_fragment {
        return Ok(Decoded::Fragment(header));
    }
    Ok(Decoded::Whole(finish(header, dont_fragment)?))
}

/// Makes a packet of an IP header and the whole of its data.
pub fn finish(header: Fragment, dont_fragment: bool) -> Result<Packet, String> {
    let body = decode_transport(&header)?;
    Ok(Packet {
        to: header.to,
        from: header.from,
        source: header.source,
        destination: header.destination,
        ttl: header.ttl,
        dont_fragment,
        id: header.id,
        body,
    })
}

fn decode_transport(header: &Fragment) -> Result<Body, String> {
    let data = &header.data;
    let pseudo = match header.protocol {
        1 => 0,
        _ => pseudo_sum(&header.source, &header.destination, header.protocol, data.len()),
    };
    let is_right = folded(sum(data) + pseudo) == 0xffff;
    match header.protocol {
        TCP => {
            let offset = usize::from(data[12] >> 4) * 4;
            if !is_right {
                return Err("wrong TCP checksum".into());
            }
            Ok(Body::Tcp(Tcp {
                source_port: word(data, 0),
                destination_port: word(data, 2),
                sequence: double(data, 4),
                acknowledgment: double(data, 8),
                flags: data[13],
                options: data[20..offset].to_vec(),
                data: data[offset..].to_vec(),
            }))
        }
        UDP => {
            let has_checksum = word(data, 6) != 0;
            if usize::from(word(data, 4)) != data.len() {
                return Err(format!("UDP length {} of {}", word(data, 4), data.len()));
            }
            if has_checksum && !is_right || !has_checksum && !header.source.is_v4() {
                return Err("wrong UDP checksum".into());
            }
            Ok(Body::Udp(Udp {
                source_port: word(data, 0),
                destination_port: word(data, 2),
                has_checksum,
                data: data[8..].to_vec(),
            }))
        }
        1 | 58 if is_right => Ok(Body::Icmp(data.clone())),
        1 | 58 => Err("wrong ICMP checksum".into()),
        4 | 41 => Ok(Body::Tunnelled(data.clone())),
        other => Ok(Body::Other(other, data.clone())),
    }
}

/// Puts fragments together again.
#[derive(Debug, Default)]
pub struct Reassembly(Vec<Vec<Fragment>>);

impl Reassembly {
    /// Takes a fragment; gives the packet when it was the last that was missing.
    pub fn add(&mut self, fragment: Fragment) -> Option<Result<Packet, String>> {
        let key = |f: &Fragment| (f.source, f.destination, f.id, f.protocol);
        let at = match self.0.iter().position(|group| key(&group[0]) == key(&fragment)) {
            Some(at) => at,
            None => {
                // Datagrams whose rest was lost are forgotten when there are many.
                if self.0.len() >= 64 {
                    self.0.remove(0);
                }
                self.0.push(Vec::new());
                self.0.len() - 1
            }
        };
        let group = &mut self.0[at];
        if !group.iter().any(|own| own.offset == fragment.offset) {
            group.push(fragment);
        }
        group.sort_by_key(|fragment| fragment.offset);
        let mut next = 0;
        for fragment in group.iter() {
            if fragment.offset < next {
                return Some(Err(format!(
                    "a fragment at {} overlaps what ends at {next}",
                    fragment.offset
                )));
            }
            if fragment.offset != next {
                return None;
            }
            next += fragment.data.len();
        }
        if group.last().is_none_or(|last| last.more) {
            return None;
        }
        let group = self.0.remove(at);
        let mut whole = group[0].clone();
        whole.data = group
            .iter()
            .flat_map(|fragment| fragment.data.iter().copied())
            .collect();
        Some(finish(whole, false))
    }
}
