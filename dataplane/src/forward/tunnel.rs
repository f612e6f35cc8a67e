//! Packets in packets, any family in any family: IP in IP (RFC 2003, RFC 2473, RFC 4213 section 3.5), GUE and GRE, with the fields that the kernel's
//! `ip_vs_tunnel_xmit` chooses.

use crate::address::{Address, Family};
use crate::conn::key::Key;
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::{TunnelType, protocol};
use crate::snapshot::{LinkHeader, NextHop};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::{ethernet, gre, gue, ipv4, ipv6, put_u16, udp};

use super::edit::{self, sum_of_packet};

/// Where a tunnel begins and ends, and its kind.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// The director's address.
    pub source: Address,
    /// The server's.
    pub server: Address,
    /// What is between the two IP headers.
    pub kind: TunnelType,
}

/// Bytes of an IP header to this address.
#[inline]
pub fn ip_header(address: &Address) -> usize {
    match address.family() {
        Family::V4 => ipv4::HEADER,
        Family::V6 => ipv6::HEADER,
    }
}

/// Bytes that a tunnel to this server adds.
#[inline]
pub fn overhead(server: &Address, kind: TunnelType) -> usize {
    ip_header(server) + shim(kind)
}

/// Bytes between the two IP headers.
fn shim(kind: TunnelType) -> usize {
    match kind {
        TunnelType::Ipip => 0,
        TunnelType::Gue { .. } => udp::HEADER + gue::HEADER,
        TunnelType::Gre { checksum } => gre::length(checksum),
    }
}

/// Puts the outer headers in front. `identification` must differ between outer packets that may be fragmented.
///
/// # Errors
/// `NoHeadroom`.
#[inline(always)]
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    tunnel: &Tunnel,
    identification: u16,
) -> Result<(), DropReason> {
    let Tunnel { source, server, kind } = tunnel;
    let header = ip_header(server);
    let inner = packet.family;
    let class = outer_class(&frame.head()[packet.ip..], inner);
    let next = match kind {
        TunnelType::Ipip => inner_protocol(inner),
        TunnelType::Gue { .. } => protocol::UDP,
        TunnelType::Gre { .. } => protocol::GRE,
    };
    let overhead = overhead(server, *kind);
    frame.push_front(overhead).map_err(|_| DropReason::NoHeadroom)?;
    let outer = &mut frame.head_mut()[packet.ip..];
    let length = overhead + packet.ip_length;
    match server.family() {
        Family::V4 => ipv4::Header {
            tos: class,
            total_length: length as u16,
            identification,
            fragment: outer_fragment(packet),
            ttl: packet.ttl,
            protocol: next,
            source: *source,
            destination: *server,
        }
        .emit(outer),
        Family::V6 => ipv6::Header {
            traffic_class: class,
            payload_length: (length - header) as u16,
            next_header: next,
            hop_limit: packet.ttl,
            source: *source,
            destination: *server,
        }
        .emit(outer),
    }
    packet.family = server.family();
    packet.ip_length = length;
    packet.transport = packet.ip + header;
    match *kind {
        TunnelType::Ipip => {}
        TunnelType::Gue { port, checksum } => put_gue(frame, packet, inner, tunnel, port, checksum.is_computed()),
        TunnelType::Gre { checksum } => put_gre(frame, packet, inner, checksum),
    }
    Ok(())
}

/// IP in IPv4 with the link-layer header, in one piece: what most tunnels are. [`encapsulate`] and [`edit::send_to`], one after the other, do the same with a
/// tenth more instructions for the whole packet. `identification`: see [`encapsulate`].
///
/// # Errors
/// `NoHeadroom`.
#[inline(always)]
pub fn send_in_ipv4<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    hop: &NextHop,
    server: &Address,
    identification: u16,
) -> Result<(), DropReason> {
    edit::trim(frame, packet);
    match hop.link_header() {
        LinkHeader::Tagged(tagged) => put_ipv4_and_link_header(frame, packet, hop, tagged, server, identification),
        LinkHeader::Untagged(untagged) => {
            put_ipv4_and_link_header(frame, packet, hop, untagged, server, identification)
        }
    }
}

#[inline(always)]
fn put_ipv4_and_link_header<F: Frame, const N: usize>(
    frame: &mut F,
    packet: &mut Packet,
    hop: &NextHop,
    link: &[u8; N],
    server: &Address,
    identification: u16,
) -> Result<(), DropReason> {
    // A link-layer header of the packet is never as long as both new ones together.
    let growth = (N + ipv4::HEADER).saturating_sub(packet.ip);
    let header = ipv4::Header {
        tos: outer_class(&frame.head()[packet.ip..], packet.family),
        total_length: (packet.ip_length + ipv4::HEADER) as u16,
        identification,
        fragment: outer_fragment(packet),
        ttl: packet.ttl,
        protocol: inner_protocol(packet.family),
        source: hop.source_v4,
        destination: *server,
    };
    frame.push_front(growth).map_err(|_| DropReason::NoHeadroom)?;
    let Some((place, rest)) = frame.head_mut().split_first_chunk_mut::<N>() else {
        return Err(DropReason::NoHeadroom);
    };
    *place = *link;
    put_u16(place, N - 2, ethernet::IPV4);
    header.emit(rest);
    packet.family = Family::V4;
    packet.ip = N;
    packet.ip_length += ipv4::HEADER;
    packet.transport = N + ipv4::HEADER;
    Ok(())
}

/// The UDP and GUE headers behind the outer IP header.
#[inline(never)]
fn put_gue<F: Frame>(frame: &mut F, packet: &Packet, inner: Family, tunnel: &Tunnel, port: u16, has_checksum: bool) {
    let length = packet.transport_length();
    let at = packet.transport;
    let bytes = &mut frame.head_mut()[at..];
    put_u16(bytes, 0, flow_port(&packet.key));
    put_u16(bytes, 2, port);
    put_u16(bytes, udp::LENGTH, length as u16);
    put_u16(bytes, udp::CHECKSUM, 0);
    gue::emit(&mut bytes[udp::HEADER..], inner_protocol(inner));
    if has_checksum {
        let pseudo = Sum::of_pseudo_header(&tunnel.source, &tunnel.server, protocol::UDP, length as u32);
        let checksum = sum_of_packet(frame, at, length).plus(pseudo).to_checksum();
        // RFC 768: a computed 0 is sent as 0xffff.
        put_u16(
            frame.head_mut(),
            at + udp::CHECKSUM,
            if checksum == 0 { 0xffff } else { checksum },
        );
    }
}

/// The GRE header behind the outer IP header.
#[inline(never)]
fn put_gre<F: Frame>(frame: &mut F, packet: &Packet, inner: Family, has_checksum: bool) {
    let at = packet.transport;
    let ethertype = match inner {
        Family::V4 => ethernet::IPV4,
        Family::V6 => ethernet::IPV6,
    };
    gre::emit(&mut frame.head_mut()[at..], ethertype, has_checksum);
    if has_checksum {
        // RFC 2784 section 2.2: over the GRE header and the packet in it.
        let checksum = sum_of_packet(frame, at, packet.transport_length()).to_checksum();
        put_u16(frame.head_mut(), at + gre::CHECKSUM, checksum);
    }
}

/// The UDP source port tells flows apart for routers and network cards that hash outer headers only, and is the same for all packets of one flow. From the range that
/// the kernel takes by default (`ip_local_port_range`), as its `udp_flow_src_port` does.
fn flow_port(key: &Key) -> u16 {
    const FIRST: u32 = 32_768;
    const COUNT: u64 = 60_999 - 32_768 + 1;
    let fold = |address: &Address| {
        let (first, last) = address.words();
        first ^ last.rotate_left(32)
    };
    let ports = u64::from(key.source_port) << 16 | u64::from(key.destination_port);
    let mixed = (fold(&key.source) ^ fold(&key.destination).rotate_left(17) ^ ports << 13)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (FIRST + (((mixed >> 32) * COUNT) >> 32) as u32) as u16
}

/// DSCP and ECN of the inner header stand in the outer one too, but "congestion experienced" becomes ECT(0): RFC 3168 section 9.1.1, as the kernel has it.
#[inline(always)]
fn outer_class(ip: &[u8], family: Family) -> u8 {
    const ECN_MASK: u8 = 0b11;
    const ECT_0: u8 = 0b10;
    let inner = match family {
        Family::V4 => ip[ipv4::TOS],
        Family::V6 => ipv6::traffic_class(ip),
    };
    if inner & ECN_MASK == ECN_MASK {
        inner & !ECN_MASK | ECT_0
    } else {
        inner
    }
}

/// The kernel copies DF from an IPv4 packet and leaves it out for an IPv6 one (pmtu_disc = 1).
#[inline(always)]
fn outer_fragment(packet: &Packet) -> u16 {
    if packet.family == Family::V4 && packet.dont_fragment {
        ipv4::DONT_FRAGMENT
    } else {
        0
    }
}

#[inline(always)]
fn inner_protocol(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::IPIP,
        Family::V6 => protocol::IPV6,
    }
}
