//! From the notation to bytes. A frame is layers with ` | ` between them, each a keyword, its fields and, where one wants to be unusual, overrides:
//!
//! ```text
//! eth client > outside | vlan 10 | ip 198.51.100.7 > 192.0.2.10 ttl 64 df | tcp 40000 > 80 SYN seq 1000 mss 1460
//! ```
//!
//! Lengths, types and checksums are right unless the line says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::naive;
use crate::words::{CHUNKS, FLAGS, ICMP, Names, pattern, unhex};

/// A frame to be received.
#[derive(Debug)]
pub struct Built {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// Length of the head and of further segments, where it lies in several.
    pub segments: Option<(usize, usize)>,
}

/// The words of one layer, read from the front.
#[derive(Clone)]
struct Words<'a> {
    layer: &'a str,
    rest: std::str::SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn of(layer: &'a str) -> Words<'a> {
        Words {
            layer,
            rest: layer.split_whitespace(),
        }
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.rest
            .next()
            .ok_or_else(|| format!("`{}` ends too early", self.layer))
    }

    fn parse<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse()
            .map_err(|_| format!("`{word}` in `{}` is not what belongs there", self.layer))
    }

    fn number(&mut self) -> Result<u32, String> {
        let word = self.word()?;
        match word.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).map_err(|_| format!("`{word}` is no number")),
            None => word
                .parse()
                .map_err(|_| format!("`{word}` in `{}` is no number", self.layer)),
        }
    }

    fn arrow(&mut self) -> Result<(), String> {
        match self.word()? {
            ">" => Ok(()),
            other => Err(format!("`{other}` in `{}` where > belongs", self.layer)),
        }
    }

    fn unknown<T>(&self, word: &str) -> Result<T, String> {
        Err(format!("`{word}` in `{}` is unknown", self.layer))
    }
}

/// Builds the frame that `text` describes.
pub fn frame(text: &str, names: &Names) -> Result<Built, String> {
    let layers: Vec<&str> = text.split('|').map(str::trim).collect();
    let mut words = Words::of(layers[0]);
    match words.word()? {
        "hex" => {
            return Ok(Built {
                bytes: unhex(words.word()?)?,
                segments: None,
            });
        }
        "eth" => {}
        other => return Err(format!("a frame begins with eth or hex, not `{other}`")),
    }
    let source = names.mac(words.word()?)?;
    words.arrow()?;
    let destination = names.mac(words.word()?)?;
    let (mut ethertype, mut pad, mut cut, mut segments) = (None, 0, usize::MAX, None);
    while let Some(word) = words.rest.next() {
        match word {
            "type" => ethertype = Some(words.number()? as u16),
            "pad" => pad = words.number()? as usize,
            "cut" => cut = words.number()? as usize,
            "segments" => segments = Some((words.number()? as usize, words.number()? as usize)),
            other => return words.unknown(other),
        }
    }
    let mut bytes = [destination, source].concat();
    bytes.extend(ethertype.unwrap_or_else(|| type_of(layers.get(1))).to_be_bytes());
    bytes.extend(layer(&layers[1..], names, &[], &[])?);
    if bytes.len() < pad {
        bytes.resize(pad, 0xee);
    }
    bytes.truncate(cut);
    Ok(Built { bytes, segments })
}

fn keyword<'a>(layer: Option<&&'a str>) -> &'a str {
    layer.and_then(|layer| layer.split_whitespace().next()).unwrap_or("")
}

fn type_of(layer: Option<&&str>) -> u16 {
    match keyword(layer) {
        "ip" => 0x0800,
        "ip6" => 0x86dd,
        "arp" => 0x0806,
        "vlan" => 0x8100,
        _ => 0x88b5,
    }
}

fn protocol_of(layer: Option<&&str>) -> u8 {
    match keyword(layer) {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        "icmp" => 1,
        "icmp6" => 58,
        "ip" => 4,
        "ip6" => 41,
        "frag" => 44,
        "hop-by-hop" => 0,
        "destination-options" => 60,
        "routing" => 43,
        _ => 59,
    }
}

/// The first of `layers` with everything behind it, between `source` and `destination` (addresses of the IP header around it).
fn layer(layers: &[&str], names: &Names, source: &[u8], destination: &[u8]) -> Result<Vec<u8>, String> {
    let Some((first, rest)) = layers.split_first() else {
        return Ok(Vec::new());
    };
    let mut words = Words::of(first);
    let inner = |source: &[u8], destination: &[u8]| layer(rest, names, source, destination);
    let ends = || inner(source, destination);
    match words.word()? {
        "vlan" => vlan(words, rest.first(), ends()?),
        "arp" => arp(words, names),
        "ip" => ipv4(words, rest.first(), |s, d| inner(&s.octets(), &d.octets())),
        "ip6" => ipv6(words, rest.first(), |s, d| inner(&s.octets(), &d.octets())),
        "frag" => fragment_header(words, rest.first(), ends()?),
        "hop-by-hop" | "destination-options" | "routing" => extension(words, rest.first(), ends()?),
        "tcp" => tcp(words, ends()?, source, destination),
        "udp" => udp(words, ends()?, source, destination),
        "sctp" => sctp(words, ends()?),
        "icmp" => icmp(words, 4, inner(&[], &[])?, names, source, destination),
        "icmp6" => icmp(words, 6, inner(&[], &[])?, names, source, destination),
        "proxy" => Ok([proxy(words)?, ends()?].concat()),
        "data" => {
            let count = words.number()? as usize;
            let from = if words.rest.next().is_some() {
                words.number()? as usize
            } else {
                0
            };
            Ok((from..from + count).map(pattern).collect())
        }
        "hex" => Ok([unhex(words.word()?)?, ends()?].concat()),
        other => words.unknown(other),
    }
}

fn vlan(mut words: Words, next: Option<&&str>, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let tag = words.number()? as u16;
    let ethertype = type_of(next);
    Ok([&tag.to_be_bytes()[..], &ethertype.to_be_bytes(), &payload].concat())
}

/// `arp who-has ADDRESS tell ADDRESS at MAC`, `arp ADDRESS is-at MAC to ADDRESS at MAC`.
fn arp(mut words: Words, names: &Names) -> Result<Vec<u8>, String> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    let first = words.word()?;
    if first == "who-has" {
        let target: Ipv4Addr = words.parse()?;
        words.word()?;
        let sender: Ipv4Addr = words.parse()?;
        words.word()?;
        let mac = names.mac(words.word()?)?;
        message.extend([0, 1]);
        message.extend(mac);
        message.extend(sender.octets());
        message.extend([0; 6]);
        message.extend(target.octets());
    } else {
        let sender: Ipv4Addr = first.parse().map_err(|_| format!("`{first}` is no address"))?;
        words.word()?;
        let mac = names.mac(words.word()?)?;
        words.word()?;
        let target: Ipv4Addr = words.parse()?;
        words.word()?;
        let to = names.mac(words.word()?)?;
        message.extend([0, 2]);
        message.extend(mac);
        message.extend(sender.octets());
        message.extend(to);
        message.extend(target.octets());
    }
    Ok(message)
}

/// Bytes `from..to` of what would be the whole datagram: where a fragment was cut.
fn piece(words: &mut Words) -> Result<(usize, usize), String> {
    let word = words.word()?;
    let (from, to) = word.split_once('-').ok_or_else(|| format!("`{word}` is no range"))?;
    let number = |text: &str| text.parse().map_err(|_| format!("`{word}` is no range"));
    Ok((number(from)?, number(to)?))
}

fn ipv4(
    mut words: Words,
    next: Option<&&str>,
    inner: impl FnOnce(Ipv4Addr, Ipv4Addr) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let source: Ipv4Addr = words.parse()?;
    words.arrow()?;
    let destination: Ipv4Addr = words.parse()?;
    let mut payload = inner(source, destination)?;
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol_of(next), 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let (mut fragment, mut length, mut checksum) = (0u16, None, None);
    while let Some(word) = words.rest.next() {
        match word {
            "tos" => header[1] = words.number()? as u8,
            "id" => header[4..6].copy_from_slice(&(words.number()? as u16).to_be_bytes()),
            "df" => fragment |= 0x4000,
            "mf" => fragment |= 0x2000,
            "offset" => fragment |= words.number()? as u16 / 8,
            "piece" => {
                let (from, to) = piece(&mut words)?;
                fragment |= (from as u16 / 8) | if to < payload.len() { 0x2000 } else { 0 };
                payload = payload[from..to].to_vec();
            }
            "ttl" => header[8] = words.number()? as u8,
            "proto" => header[9] = words.number()? as u8,
            "version" => header[0] = header[0] & 0x0f | (words.number()? as u8) << 4,
            "ihl" => header[0] = header[0] & 0xf0 | words.number()? as u8,
            "length" => length = Some(words.number()? as u16),
            "checksum" => checksum = Some(words.word()?),
            "options" => {
                header.extend(unhex(words.word()?)?);
                header[0] = 0x40 | (header.len() / 4) as u8;
            }
            other => return words.unknown(other),
        }
    }
    let length = length.unwrap_or((header.len() + payload.len()) as u16);
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    let right = !naive::sum(&[&header]);
    header[10..12].copy_from_slice(&overridden(checksum, right, right)?.to_be_bytes());
    Ok([header, payload].concat())
}

/// `bad`, `none`, `partial`, a number, or nothing: the right one.
fn overridden(word: Option<&str>, right: u16, partial: u16) -> Result<u16, String> {
    Ok(match word {
        None => right,
        Some("bad") => right ^ 0x5a5a,
        Some("none") => 0,
        Some("partial") => partial,
        Some(number) => Words::of(number).number()? as u16,
    })
}

fn ipv6(
    mut words: Words,
    next: Option<&&str>,
    inner: impl FnOnce(Ipv6Addr, Ipv6Addr) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let source: Ipv6Addr = words.parse()?;
    words.arrow()?;
    let destination: Ipv6Addr = words.parse()?;
    let payload = inner(source, destination)?;
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([protocol_of(next), 64]);
    header.extend(source.octets());
    header.extend(destination.octets());
    while let Some(word) = words.rest.next() {
        match word {
            "class" => {
                let class = words.number()? as u8;
                header[0] = header[0] & 0xf0 | class >> 4;
                header[1] = header[1] & 0x0f | class << 4;
            }
            "flow" => {
                let flow = words.number()?;
                header[1] = header[1] & 0xf0 | (flow >> 16) as u8;
                header[2..4].copy_from_slice(&(flow as u16).to_be_bytes());
            }
            "ttl" => header[7] = words.number()? as u8,
            "next" => header[6] = words.number()? as u8,
            "version" => header[0] = header[0] & 0x0f | (words.number()? as u8) << 4,
            "length" => header[4..6].copy_from_slice(&(words.number()? as u16).to_be_bytes()),
            other => return words.unknown(other),
        }
    }
    Ok([header, payload].concat())
}

/// `frag id N piece FROM-TO`, or `frag id N offset N mf`.
fn fragment_header(mut words: Words, next: Option<&&str>, mut payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let (mut id, mut word16, mut protocol) = (0, 0u16, protocol_of(next));
    while let Some(word) = words.rest.next() {
        match word {
            "id" => id = words.number()?,
            "offset" => word16 |= words.number()? as u16,
            "mf" => word16 |= 1,
            "proto" => protocol = words.number()? as u8,
            "piece" => {
                let (from, to) = piece(&mut words)?;
                word16 |= from as u16 | u16::from(to < payload.len());
                payload = payload[from..to].to_vec();
            }
            other => return words.unknown(other),
        }
    }
    let mut header = vec![protocol, 0];
    header.extend(word16.to_be_bytes());
    header.extend(id.to_be_bytes());
    Ok([header, payload].concat())
}

/// `hop-by-hop`, `destination-options` (a PadN each), `routing type N left N`; `length N` overrides the length field.
fn extension(mut words: Words, next: Option<&&str>, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut header = vec![protocol_of(next), 0, 1, 4, 0, 0, 0, 0];
    while let Some(word) = words.rest.next() {
        match word {
            "type" => header[2] = words.number()? as u8,
            "left" => header[3] = words.number()? as u8,
            "length" => header[1] = words.number()? as u8,
            other => return words.unknown(other),
        }
    }
    Ok([header, payload].concat())
}

fn transport_checksum(
    word: Option<&str>,
    protocol: u8,
    message: &[u8],
    source: &[u8],
    destination: &[u8],
) -> Result<u16, String> {
    let pseudo = naive::pseudo_header(source, destination, protocol, message.len());
    let mut right = !naive::sum(&[&pseudo, message]);
    if protocol == 17 && right == 0 {
        right = 0xffff;
    }
    overridden(word, right, naive::sum(&[&pseudo]))
}

fn tcp(mut words: Words, payload: Vec<u8>, source: &[u8], destination: &[u8]) -> Result<Vec<u8>, String> {
    let from: u16 = words.parse()?;
    words.arrow()?;
    let to: u16 = words.parse()?;
    let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
    header.extend([0; 8]);
    header.extend([0x50, 0, 0xff, 0xff, 0, 0, 0, 0]);
    let (mut options, mut checksum, mut offset) = (Vec::new(), None, None);
    while let Some(word) = words.rest.next() {
        match word {
            "seq" => header[4..8].copy_from_slice(&words.number()?.to_be_bytes()),
            "ack" => header[8..12].copy_from_slice(&words.number()?.to_be_bytes()),
            "win" => header[14..16].copy_from_slice(&(words.number()? as u16).to_be_bytes()),
            "checksum" => checksum = Some(words.word()?),
            "doff" => offset = Some(words.number()? as u8),
            flag if FLAGS.contains(&flag) => {
                header[13] |= 1 << FLAGS.iter().position(|own| *own == flag).unwrap_or(0);
            }
            option => tcp_option(option, &mut words, &mut options)?,
        }
    }
    options.resize(options.len().div_ceil(4) * 4, 0);
    header[12] = offset.unwrap_or(5 + (options.len() / 4) as u8) << 4;
    let mut segment = [header, options, payload].concat();
    let checksum = transport_checksum(checksum, 6, &segment, source, destination)?;
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    Ok(segment)
}

fn tcp_option(option: &str, words: &mut Words, options: &mut Vec<u8>) -> Result<(), String> {
    match option {
        "nop" => options.push(1),
        "mss" => {
            options.extend([2, 4]);
            options.extend((words.number()? as u16).to_be_bytes());
        }
        "wscale" => options.extend([3, 3, words.number()? as u8]),
        "sackok" => options.extend([4, 2]),
        "sack" => {
            let edges: Vec<u32> = words
                .word()?
                .split(['-', ','])
                .filter_map(|edge| edge.parse().ok())
                .collect();
            options.extend([5, 2 + 4 * edges.len() as u8]);
            options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
        }
        "timestamp" => {
            options.extend([8, 10]);
            options.extend(words.number()?.to_be_bytes());
            options.extend(words.number()?.to_be_bytes());
        }
        "option" => options.extend(unhex(words.word()?)?),
        other => return words.unknown(other),
    }
    Ok(())
}

fn udp(mut words: Words, payload: Vec<u8>, source: &[u8], destination: &[u8]) -> Result<Vec<u8>, String> {
    let from: u16 = words.parse()?;
    words.arrow()?;
    let to: u16 = words.parse()?;
    let (mut length, mut checksum) = (8 + payload.len() as u16, None);
    while let Some(word) = words.rest.next() {
        match word {
            "length" => length = words.number()? as u16,
            "checksum" => checksum = Some(words.word()?),
            other => return words.unknown(other),
        }
    }
    let header = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    let mut datagram = [header, payload].concat();
    let checksum = transport_checksum(checksum, 17, &datagram, source, destination)?;
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    Ok(datagram)
}

/// `sctp FROM > TO tag N CHUNK CHUNK`: what follows is the body of the last chunk.
fn sctp(mut words: Words, payload: Vec<u8>) -> Result<Vec<u8>, String> {
    let from: u16 = words.parse()?;
    words.arrow()?;
    let to: u16 = words.parse()?;
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend([0; 8]);
    let mut checksum = None;
    while let Some(word) = words.rest.next() {
        match word {
            "tag" => packet[4..8].copy_from_slice(&words.number()?.to_be_bytes()),
            "checksum" => checksum = Some(words.word()?),
            "chunk" => packet.extend([words.number()? as u8, 0, 0, 4]),
            name => match CHUNKS.iter().find(|(_, own)| *own == name) {
                Some((kind, _)) => packet.extend([*kind, 0, 0, 4]),
                None => return words.unknown(name),
            },
        }
    }
    if packet.len() > 12 {
        let last = packet.len() - 2;
        packet[last..].copy_from_slice(&(4 + payload.len() as u16).to_be_bytes());
    }
    packet.extend(payload);
    let right = naive::sctp_checksum(&packet);
    let checksum = match checksum {
        None => right,
        Some("bad") => right ^ 0x5a5a_5a5a,
        Some("none" | "partial") => 0,
        Some(other) => return words.unknown(other),
    };
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    Ok(packet)
}

/// `icmp NAME ...`, `icmp type N code N rest 0x...`; errors take `quote N`: only the first bytes of the packet that follows.
fn icmp(
    mut words: Words,
    version: u8,
    mut payload: Vec<u8>,
    names: &Names,
    source: &[u8],
    destination: &[u8],
) -> Result<Vec<u8>, String> {
    let name = words.word()?;
    let mut header = vec![0; 8];
    match ICMP
        .iter()
        .find(|(own, .., own_name)| *own == version && *own_name == name)
    {
        Some((_, kind, code, _)) => header[..2].copy_from_slice(&[*kind, *code]),
        None if name == "type" => header[0] = words.number()? as u8,
        None => return words.unknown(name),
    }
    if matches!(name, "solicit" | "advertise") {
        payload = [words.parse::<Ipv6Addr>()?.octets().to_vec(), payload].concat();
    }
    let mut checksum = None;
    while let Some(word) = words.rest.next() {
        match word {
            "code" => header[1] = words.number()? as u8,
            "rest" => header[4..8].copy_from_slice(&words.number()?.to_be_bytes()),
            "id" => header[4..6].copy_from_slice(&(words.number()? as u16).to_be_bytes()),
            "seq" => header[6..8].copy_from_slice(&(words.number()? as u16).to_be_bytes()),
            "mtu" => header[4..8].copy_from_slice(&words.number()?.to_be_bytes()),
            "checksum" => checksum = Some(words.word()?),
            "quote" => payload.truncate(words.number()? as usize),
            "source-mac" | "target-mac" => {
                payload.extend([if word == "source-mac" { 1 } else { 2 }, 1]);
                payload.extend(names.mac(words.word()?)?);
            }
            other => return words.unknown(other),
        }
    }
    let mut message = [header, payload].concat();
    let right = match version {
        4 => overridden(checksum, !naive::sum(&[&message]), 0)?,
        _ => transport_checksum(checksum, 58, &message, source, destination)?,
    };
    message[2..4].copy_from_slice(&right.to_be_bytes());
    Ok(message)
}

/// `proxy tcp ADDRESS:PORT > ADDRESS:PORT`: PROXY protocol version 2.
fn proxy(mut words: Words) -> Result<Vec<u8>, String> {
    let transport = if words.word()? == "udp" { 2 } else { 1 };
    let from: std::net::SocketAddr = words.parse()?;
    words.arrow()?;
    let to: std::net::SocketAddr = words.parse()?;
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let wire = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    header.push(if from.is_ipv4() { 0x10 } else { 0x20 } | transport);
    let body = [
        wire(from.ip()),
        wire(to.ip()),
        from.port().to_be_bytes().to_vec(),
        to.port().to_be_bytes().to_vec(),
    ]
    .concat();
    header.extend((body.len() as u16).to_be_bytes());
    Ok([header, body].concat())
}
