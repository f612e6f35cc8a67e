//! ICMP errors about a balanced connection: read what they quote, find the connection, and give them to the other side as if they were about the packet
//! that it sent itself.

use super::{edit, reply, sctp};
use crate::address::{Address, Family};
use crate::conn::connection::Connection;
use crate::conn::key::Key;
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::{ForwardingMethod, protocol};
use crate::verdict::DropReason;
use crate::wire;
use crate::wire::checksum::{Sum, update};
use crate::wire::{get_u16, get_u32, icmp, ipv4, ipv6, put_u16, put_u32, tcp, udp};

/// What an error is about, whichever family said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    HostUnreachable,
    PortUnreachable,
    AdministrativelyProhibited,
    TooBig(u16),
    TimeExceeded(u8),
}

/// The packet that an error quotes. Offsets count from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Quotation {
    /// Its five-tuple.
    pub key: Key,
    ip: usize,
    transport: usize,
    end: usize,
    /// Bytes behind the IP header that the quoted packet had when it was sent.
    length: usize,
    ttl: u8,
    class: u8,
}

/// Whether the message is an error that can be about a connection. The kernel takes types 3, 4 and 11 and every ICMPv6 error.
pub fn is_error<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let kind = frame.head()[packet.transport];
    match packet.family {
        Family::V4 => {
            matches!(
                kind,
                icmp::v4::UNREACHABLE | icmp::v4::SOURCE_QUENCH | icmp::v4::TIME_EXCEEDED
            )
        }
        Family::V6 => kind < 128,
    }
}

/// Reads the quotation: at least the IP header and the ports.
///
/// # Errors
/// `BadIcmp`.
pub fn quotation<F: Frame>(frame: &F, packet: &Packet) -> Result<Quotation, DropReason> {
    let bytes = frame.head();
    let end = (packet.ip + packet.ip_length).min(bytes.len());
    let at = packet.transport + icmp::HEADER;
    let ip = bytes.get(at..end).ok_or(DropReason::BadIcmp)?;
    let (source, destination, ip_protocol, header) = match packet.family {
        Family::V4 => {
            let usable = ip.len() >= ipv4::HEADER && ip[0] >> 4 == 4 && ipv4::header_length(ip) >= ipv4::HEADER;
            // A quoted later fragment has no ports to find the connection by.
            if !usable || get_u16(ip, ipv4::FRAGMENT) & ipv4::OFFSET_MASK != 0 {
                return Err(DropReason::BadIcmp);
            }
            (
                ipv4::source(ip),
                ipv4::destination(ip),
                ip[ipv4::PROTOCOL],
                ipv4::header_length(ip),
            )
        }
        Family::V6 => {
            if ip.len() < ipv6::HEADER || ip[0] >> 4 != 6 {
                return Err(DropReason::BadIcmp);
            }
            let (ip_protocol, header) = quoted_extensions(ip)?;
            (ipv6::source(ip), ipv6::destination(ip), ip_protocol, header)
        }
    };
    // RFC 792: 64 bits of the datagram's data are always there.
    let transport = ip.get(header..header + 8).ok_or(DropReason::BadIcmp)?;
    if !matches!(ip_protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        return Err(DropReason::BadIcmp);
    }
    let key = Key {
        source,
        destination,
        source_port: get_u16(transport, 0),
        destination_port: get_u16(transport, 2),
        protocol: ip_protocol,
    };
    let (total, ttl, class) = match packet.family {
        Family::V4 => (
            usize::from(get_u16(ip, ipv4::TOTAL_LENGTH)),
            ip[ipv4::TTL],
            ip[ipv4::TOS],
        ),
        Family::V6 => {
            let total = ipv6::HEADER + usize::from(get_u16(ip, ipv6::PAYLOAD_LENGTH));
            (total, ip[ipv6::HOP_LIMIT], ipv6::traffic_class(ip))
        }
    };
    Ok(Quotation {
        key,
        ip: at,
        transport: at + header,
        end,
        length: total.saturating_sub(header),
        ttl,
        class,
    })
}

/// The transport protocol and offset behind the quoted extension headers.
fn quoted_extensions(ip: &[u8]) -> Result<(u8, usize), DropReason> {
    let mut next = ip[ipv6::NEXT_HEADER];
    let mut at = ipv6::HEADER;
    for _ in 0..4 {
        let length = match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                (usize::from(*ip.get(at + 1).ok_or(DropReason::BadIcmp)?) + 1) * 8
            }
            ipv6::FRAGMENT => {
                let header = ip.get(at..at + ipv6::FRAGMENT_HEADER).ok_or(DropReason::BadIcmp)?;
                if get_u16(header, 2) & 0xfff8 != 0 {
                    return Err(DropReason::BadIcmp);
                }
                ipv6::FRAGMENT_HEADER
            }
            _ => return Ok((next, at)),
        };
        next = *ip.get(at).ok_or(DropReason::BadIcmp)?;
        at += length;
    }
    Err(DropReason::BadIcmp)
}

/// The new addresses of an error and of what it quotes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Source of the error.
    pub source: Address,
    /// Who is told.
    pub destination: Address,
    /// The packet as its sender knows it.
    pub quoted: Key,
    /// Added to a reported MTU: what our own rewriting takes from (or gives to) the path.
    pub mtu_change: i32,
    /// What a PROXY header shifted quoted sequence numbers by, and from which one on.
    pub shift: (u32, u32),
}

/// For an error about what the client was sent: to the server.
pub fn to_server(packet: &Packet, connection: &Connection) -> Target {
    let quoted = connection.outbound_key();
    let source = match connection.method {
        // The server of a FullNAT connection knows nobody but the local address.
        ForwardingMethod::FullNat => connection.local,
        _ => packet.key.source,
    };
    Target {
        source,
        destination: connection.server,
        quoted,
        mtu_change: header_difference(&connection.server, &connection.client),
        shift: (0, 0),
    }
}

/// For an error about what the server was sent: to the client, in the name of the virtual address (as the kernel's `ip_vs_nat_icmp` does).
pub fn to_client(connection: &Connection, growth: usize) -> Target {
    Target {
        source: connection.virtual_address,
        destination: connection.client,
        quoted: connection.inbound_key(),
        mtu_change: header_difference(&connection.client, &connection.server) - growth as i32,
        shift: (u32::from(connection.shift), connection.first_sequence),
    }
}

/// How much longer the IP header is on the side of `told` than on the side of `other`.
fn header_difference(told: &Address, other: &Address) -> i32 {
    let header = |address: &Address| if address.is_v4() { ipv4::HEADER } else { ipv6::HEADER } as i32;
    header(told) - header(other)
}

/// Rewrites the error for `target`.
///
/// # Errors
/// `BadIcmp` for a type that has no counterpart in the other family, `NoHeadroom`.
pub fn translate<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    quotation: &Quotation,
    target: &Target,
) -> Result<(), DropReason> {
    unshift_sequence(frame, quotation, target);
    put_quoted_ports(frame, quotation, target);
    if target.destination.family() == packet.family {
        same_family(frame, packet, quotation, target);
    } else {
        other_family(frame, packet, quotation, target)?;
    }
    put_checksum(frame, packet);
    Ok(())
}

/// The client knows its own sequence numbers: those in front of what was inserted are as they were, those behind it are less.
fn unshift_sequence<F: Frame>(frame: &mut F, quotation: &Quotation, target: &Target) {
    let (shift, first) = target.shift;
    if shift == 0 || quotation.key.protocol != protocol::TCP {
        return;
    }
    let transport = &mut frame.head_mut()[quotation.transport..quotation.end];
    let sequence = get_u32(transport, tcp::SEQUENCE);
    let from_first = sequence.wrapping_sub(first) as i32;
    if from_first <= 0 {
        return;
    }
    let back = sequence.wrapping_sub((from_first as u32).min(shift));
    put_u32(transport, tcp::SEQUENCE, back);
    if transport.len() >= tcp::CHECKSUM + 2 {
        let halves = |word: u32| Sum((word >> 16) + (word & 0xffff));
        let delta = halves(back).minus(halves(sequence));
        let checksum = update(get_u16(transport, tcp::CHECKSUM), delta);
        put_u16(transport, tcp::CHECKSUM, checksum);
    }
}

/// Ports and, where the quotation is long enough to hold it, the transport checksum.
fn put_quoted_ports<F: Frame>(frame: &mut F, quotation: &Quotation, target: &Target) {
    let sum = |key: &Key| {
        Sum::of_address(&key.source)
            .plus(Sum::of_address(&key.destination))
            .plus(Sum(u32::from(key.source_port) + u32::from(key.destination_port)))
    };
    let bytes = frame.head_mut();
    let transport = &mut bytes[quotation.transport..quotation.end];
    tcp::put_ports(transport, target.quoted.source_port, target.quoted.destination_port);
    if quotation.key.protocol == protocol::SCTP {
        return put_quoted_sctp_checksum(transport, quotation, target);
    }
    let is_udp = quotation.key.protocol == protocol::UDP;
    let at = if is_udp { udp::CHECKSUM } else { tcp::CHECKSUM };
    if transport.len() < at + 2 || is_udp && get_u16(transport, at) == 0 {
        return;
    }
    let delta = sum(&target.quoted).minus(sum(&quotation.key));
    let checksum = update(get_u16(transport, at), delta);
    put_u16(transport, at, checksum);
}

/// The quoted checksum stays that of the whole packet, however little of it is quoted.
fn put_quoted_sctp_checksum(transport: &mut [u8], quotation: &Quotation, target: &Target) {
    let Some(stored) = transport.get_mut(wire::sctp::CHECKSUM..wire::sctp::HEADER) else {
        return;
    };
    let old = u32::from_le_bytes([stored[0], stored[1], stored[2], stored[3]]);
    if old != 0 {
        let new = old ^ sctp::difference(&quotation.key, &target.quoted, quotation.length);
        stored.copy_from_slice(&new.to_le_bytes());
    }
}

fn same_family<F: Frame>(frame: &mut F, packet: &mut Packet, quotation: &Quotation, target: &Target) {
    let bytes = frame.head_mut();
    put_addresses(
        &mut bytes[quotation.ip..],
        packet.family,
        &target.quoted.source,
        &target.quoted.destination,
    );
    put_addresses(
        &mut bytes[packet.ip..],
        packet.family,
        &target.source,
        &target.destination,
    );
    packet.key.source = target.source;
    packet.key.destination = target.destination;
    let message = &mut bytes[packet.transport..];
    match packet.family {
        Family::V4 if message[0] == icmp::v4::UNREACHABLE && message[1] == icmp::v4::FRAGMENTATION_NEEDED => {
            let mtu = i32::from(get_u16(message, icmp::V4_MTU));
            // 0 is what routers older than RFC 1191 say; it stays.
            if mtu != 0 {
                put_u16(
                    message,
                    icmp::V4_MTU,
                    (mtu + target.mtu_change).clamp(68, 65_535) as u16,
                );
            }
        }
        Family::V6 if message[0] == icmp::v6::PACKET_TOO_BIG => {
            let mtu = i64::from(get_u32(message, icmp::V6_MTU)) + i64::from(target.mtu_change);
            put_u32(
                message,
                icmp::V6_MTU,
                mtu.clamp(ipv6::MINIMUM_MTU as i64, 65_535) as u32,
            );
        }
        _ => {}
    }
}

fn put_addresses(ip: &mut [u8], family: Family, source: &Address, destination: &Address) {
    match family {
        Family::V4 => {
            let old = Sum::of(&ip[ipv4::SOURCE..ipv4::SOURCE + 8]);
            ip[ipv4::SOURCE..ipv4::SOURCE + 4].copy_from_slice(&source.v4_octets());
            ip[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&destination.v4_octets());
            let new = Sum::of(&ip[ipv4::SOURCE..ipv4::SOURCE + 8]);
            ipv4::patch_checksum(ip, new.minus(old));
        }
        Family::V6 => {
            ip[ipv6::SOURCE..ipv6::SOURCE + 16].copy_from_slice(source.octets());
            ip[ipv6::DESTINATION..ipv6::DESTINATION + 16].copy_from_slice(destination.octets());
        }
    }
}

/// RFC 7915 sections 4.2 and 5.2, for the errors that end hosts act upon.
fn other_family<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    quotation: &Quotation,
    target: &Target,
) -> Result<(), DropReason> {
    let kind = read_kind(&frame.head()[packet.transport..], packet.family).ok_or(DropReason::BadIcmp)?;
    let to = target.destination.family();
    let (header, longest) = match to {
        Family::V4 => (ipv4::HEADER, usize::from(u16::MAX)),
        // RFC 4443 section 2.4 c: an error fits into the minimum MTU.
        Family::V6 => (ipv6::HEADER, ipv6::MINIMUM_MTU),
    };
    let quoted_length = (quotation.end - quotation.transport).min(longest - 2 * header - icmp::HEADER);
    // Everything in front of the quoted transport header is written anew: outer header, ICMP header, quoted header.
    let new_front = packet.ip + header + icmp::HEADER + header;
    if new_front > quotation.transport {
        frame
            .push_front(new_front - quotation.transport)
            .map_err(|_| DropReason::NoHeadroom)?;
    } else {
        frame.pull_front(quotation.transport - new_front);
    }
    let total = header + icmp::HEADER + header + quoted_length;
    frame
        .set_length(packet.ip + total)
        .map_err(|_| DropReason::NoHeadroom)?;
    let bytes = frame.head_mut();
    let (outer, inner) = bytes[packet.ip..].split_at_mut(header + icmp::HEADER);
    let outer_header = Emitted {
        protocol: icmp_protocol(to),
        source: target.source,
        destination: target.destination,
        payload: total - header,
        ttl: packet.ttl,
        class: 0,
    };
    outer_header.emit(outer, to);
    let quoted_header = Emitted {
        protocol: target.quoted.protocol,
        source: target.quoted.source,
        destination: target.quoted.destination,
        payload: quotation.length.min(usize::from(u16::MAX) - header),
        ttl: quotation.ttl,
        class: quotation.class,
    };
    quoted_header.emit(inner, to);
    let (message_type, code, rest) = write_kind(kind, to, target.mtu_change);
    let message = &mut outer[header..];
    message[0] = message_type;
    message[1] = code;
    put_u32(message, 4, rest);
    packet.family = to;
    packet.dont_fragment = true;
    packet.transport = packet.ip + header;
    packet.ip_length = total;
    packet.key.source = target.source;
    packet.key.destination = target.destination;
    packet.key.protocol = icmp_protocol(to);
    Ok(())
}

fn icmp_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}

/// An IP header of either family that is made for a translated error.
struct Emitted {
    protocol: u8,
    source: Address,
    destination: Address,
    payload: usize,
    ttl: u8,
    class: u8,
}

impl Emitted {
    fn emit(&self, ip: &mut [u8], family: Family) {
        match family {
            Family::V4 => ipv4::Header {
                tos: self.class,
                total_length: (ipv4::HEADER + self.payload) as u16,
                identification: 0,
                fragment: ipv4::DONT_FRAGMENT,
                ttl: self.ttl,
                protocol: self.protocol,
                source: self.source,
                destination: self.destination,
            }
            .emit(ip),
            Family::V6 => ipv6::Header {
                traffic_class: self.class,
                payload_length: self.payload as u16,
                next_header: self.protocol,
                hop_limit: self.ttl,
                source: self.source,
                destination: self.destination,
            }
            .emit(ip),
        }
    }
}

fn read_kind(message: &[u8], family: Family) -> Option<Kind> {
    match (family, message[0], message[1]) {
        (Family::V4, icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE) => Some(Kind::PortUnreachable),
        (Family::V4, icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED) => {
            Some(Kind::TooBig(get_u16(message, icmp::V4_MTU)))
        }
        (Family::V4, icmp::v4::UNREACHABLE, 9 | 10 | 13) => Some(Kind::AdministrativelyProhibited),
        (Family::V4, icmp::v4::UNREACHABLE, _) => Some(Kind::HostUnreachable),
        (Family::V4, icmp::v4::TIME_EXCEEDED, code) => Some(Kind::TimeExceeded(code)),
        (Family::V6, icmp::v6::UNREACHABLE, icmp::v6::PORT_UNREACHABLE) => Some(Kind::PortUnreachable),
        (Family::V6, icmp::v6::UNREACHABLE, 1) => Some(Kind::AdministrativelyProhibited),
        (Family::V6, icmp::v6::UNREACHABLE, _) => Some(Kind::HostUnreachable),
        (Family::V6, icmp::v6::PACKET_TOO_BIG, _) => {
            Some(Kind::TooBig(get_u32(message, icmp::V6_MTU).min(65_535) as u16))
        }
        (Family::V6, icmp::v6::TIME_EXCEEDED, code) => Some(Kind::TimeExceeded(code)),
        _ => None,
    }
}

fn write_kind(kind: Kind, family: Family, mtu_change: i32) -> (u8, u8, u32) {
    let mtu = |mtu: u16, least: i32| (i32::from(mtu) + mtu_change).clamp(least, 65_535) as u32;
    match (kind, family) {
        (Kind::PortUnreachable, Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE, 0),
        (Kind::PortUnreachable, Family::V6) => (icmp::v6::UNREACHABLE, icmp::v6::PORT_UNREACHABLE, 0),
        (Kind::HostUnreachable, Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::HOST_UNREACHABLE, 0),
        (Kind::HostUnreachable, Family::V6) => (icmp::v6::UNREACHABLE, 0, 0),
        (Kind::AdministrativelyProhibited, Family::V4) => (icmp::v4::UNREACHABLE, 10, 0),
        (Kind::AdministrativelyProhibited, Family::V6) => (icmp::v6::UNREACHABLE, 1, 0),
        (Kind::TooBig(value), Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED, mtu(value, 68)),
        (Kind::TooBig(value), Family::V6) => (icmp::v6::PACKET_TOO_BIG, 0, mtu(value, ipv6::MINIMUM_MTU as i32)),
        (Kind::TimeExceeded(code), Family::V4) => (icmp::v4::TIME_EXCEEDED, code, 0),
        (Kind::TimeExceeded(code), Family::V6) => (icmp::v6::TIME_EXCEEDED, code, 0),
    }
}

/// The checksum of the whole message. It was right when the message came (checked), so it is computed, not patched: errors are rare and short.
fn put_checksum<F: Frame>(frame: &mut F, packet: &Packet) {
    let at = packet.transport + icmp::CHECKSUM;
    put_u16(frame.head_mut(), at, 0);
    let checksum = edit::sum_of_transport(frame, packet)
        .plus(reply::icmp_pseudo_header(packet))
        .to_checksum();
    put_u16(frame.head_mut(), at, checksum);
}
