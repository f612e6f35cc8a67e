//! One pass over a frame's headers: who it is from and for, or why it is dropped. What is checked here is relied upon by everything behind.

use crate::address::{Address, Family};
use crate::conn::key::Key;
use crate::conn::sctp_state::SctpEvent;
use crate::io::{IpChecksum, ReceivedChecksums, TransportChecksum};
use crate::service::protocol;
use crate::verdict::{DropReason, PuntReason};
use crate::wire::checksum::Sum;
use crate::wire::{arp, ethernet, get_u16, get_u32, icmp, ipv4, ipv6, sctp, tcp, udp};

/// What a fragment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification.
    pub id: u32,
    /// Offset of the payload in the datagram, bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// An IP packet whose headers are in order. All offsets count from the start of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// The five-tuple. Ports are 0 for ICMP, and for a later fragment until its first one is known.
    pub key: Key,
    /// Where the IP header starts; the link-layer header is what lies before.
    pub ip: usize,
    /// Where the TCP, UDP, SCTP or ICMP header starts (or a later fragment's data).
    pub transport: usize,
    /// Bytes from the IP header to the end of the packet, padding left out.
    pub ip_length: usize,
    /// Address family.
    pub family: Family,
    /// TCP flags; with SCTP the event ([`SctpEvent::to_flags`]); 0 for others.
    pub tcp_flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 with "don't fragment", and all of IPv6.
    pub dont_fragment: bool,
    /// Set for all fragments.
    pub fragment: Option<Fragment>,
    /// The transport checksum is that of the pseudo-header only: the sender left the rest to hardware that never saw it. With
    /// SCTP: it is missing for the same reason.
    pub partial_checksum: bool,
}

impl Packet {
    /// Of nothing yet.
    pub const EMPTY: Packet = Packet {
        key: Key {
            source: Address::UNSPECIFIED,
            destination: Address::UNSPECIFIED,
            source_port: 0,
            destination_port: 0,
            protocol: 0,
        },
        ip: 0,
        transport: 0,
        ip_length: 0,
        family: Family::V4,
        tcp_flags: 0,
        ttl: 0,
        dont_fragment: false,
        fragment: None,
        partial_checksum: false,
    };

    /// Whether this is a fragment without a transport header.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some(fragment) if fragment.offset != 0)
    }

    /// Whether this is an ICMP message of either family.
    #[inline]
    pub fn is_icmp(&self) -> bool {
        matches!(self.key.protocol, protocol::ICMP | protocol::ICMPV6)
    }

    /// Bytes of transport header and payload.
    #[inline]
    pub fn transport_length(&self) -> usize {
        self.ip + self.ip_length - self.transport
    }
}

/// What a frame turned out to be. For the three kinds of packets, a [`Packet`] beside this says more.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// TCP, UDP or SCTP.
    Packet,
    /// ICMP or ICMPv6, header present.
    Icmp,
    /// An ARP request; the offset is that of the ARP message. (In 16 bits, so that the whole fits into a register.)
    ArpRequest(u16),
    /// A neighbour solicitation.
    Solicitation,
    /// TCP, UDP or ICMP to a multicast or broadcast address.
    Group,
    /// A fragment of an ICMP message.
    IcmpFragment,
    /// For the kernel.
    Punt(PuntReason),
    /// For nobody.
    Drop(DropReason),
}

/// The VLAN tag and payload type of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// VLAN id, `None` when untagged (or tagged with priority only: id 0).
    pub vlan: Option<u16>,
    /// Type of the payload.
    pub ethertype: u16,
    /// Where the payload starts.
    pub payload: usize,
}

/// Reads the link-layer header.
///
/// # Errors
/// `TruncatedFrame`.
#[inline(always)]
pub fn link(bytes: &[u8]) -> Result<Link, DropReason> {
    if bytes.len() < ethernet::HEADER {
        return Err(DropReason::TruncatedFrame);
    }
    let mut link = Link {
        vlan: None,
        ethertype: get_u16(bytes, ethernet::ETHERTYPE),
        payload: ethernet::HEADER,
    };
    if link.ethertype == ethernet::VLAN || link.ethertype == ethernet::SERVICE_VLAN {
        if bytes.len() < ethernet::HEADER + ethernet::TAG {
            return Err(DropReason::TruncatedFrame);
        }
        let id = get_u16(bytes, ethernet::HEADER) & 0x0fff;
        link.vlan = (id != 0).then_some(id);
        link.ethertype = get_u16(bytes, ethernet::HEADER + 2);
        link.payload = ethernet::HEADER + ethernet::TAG;
    }
    Ok(link)
}

/// Whether a transport checksum is unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partial {
    No,
    /// It is, if it is that of the pseudo-header.
    Perhaps,
    Yes,
}

/// Reads everything behind the link-layer header and writes it down in `packet`, in place: a burst's packets are never copied. `bytes` is the frame's head,
/// `frame_length` the length of all its segments. `may_be_partial`: whether the port can deliver unfinished checksums without saying so. `checksums`: what it
/// does say.
#[inline(always)]
pub fn network(
    bytes: &[u8],
    frame_length: usize,
    link: Link,
    may_be_partial: bool,
    checksums: ReceivedChecksums,
    packet: &mut Packet,
) -> Parsed {
    let partial = match checksums.transport {
        TransportChecksum::Unknown if may_be_partial => Partial::Perhaps,
        TransportChecksum::Unknown | TransportChecksum::Complete => Partial::No,
        TransportChecksum::Partial => Partial::Yes,
    };
    match link.ethertype {
        ethernet::IPV4 => match checksums.ip {
            IpChecksum::Unknown => ipv4_packet::<true>(bytes, link.payload, frame_length, partial, packet),
            IpChecksum::Good => ipv4_packet::<false>(bytes, link.payload, frame_length, partial, packet),
            IpChecksum::Bad => Parsed::Drop(DropReason::BadIpChecksum),
        },
        ethernet::IPV6 => ipv6_packet(bytes, link.payload, frame_length, partial, packet),
        ethernet::ARP => arp_message(bytes, link.payload),
        _ => Parsed::Drop(DropReason::UnknownEthertype),
    }
}

/// Both headers of an IPv4 packet. The families are compiled apart, so that neither asks for it at every address, and each has all registers for itself.
/// `SUMS`: whether the header's checksum is still to be verified.
#[inline(never)]
fn ipv4_packet<const SUMS: bool>(
    bytes: &[u8],
    at: usize,
    frame_length: usize,
    partial: Partial,
    packet: &mut Packet,
) -> Parsed {
    match ipv4_header::<SUMS>(bytes, at, frame_length, packet) {
        Ok(()) => behind_ip(bytes, partial, packet),
        Err(reason) => Parsed::Drop(reason),
    }
}

/// The same for IPv6.
#[inline(never)]
fn ipv6_packet(bytes: &[u8], at: usize, frame_length: usize, partial: Partial, packet: &mut Packet) -> Parsed {
    match ipv6_header(bytes, at, frame_length, packet) {
        Ok(()) => behind_ip(bytes, partial, packet),
        Err(reason) => Parsed::Drop(reason),
    }
}

#[inline(always)]
fn behind_ip(bytes: &[u8], partial: Partial, packet: &mut Packet) -> Parsed {
    match packet.fragment {
        None => transport_header(bytes, packet, partial, false),
        Some(_) => fragment_header(bytes, packet),
    }
}

#[cold]
fn arp_message(bytes: &[u8], at: usize) -> Parsed {
    let message = &bytes[at..];
    if message.len() < arp::LENGTH || message[..6] != arp::ETHERNET_IPV4 {
        return Parsed::Drop(DropReason::BadArp);
    }
    match get_u16(message, arp::OPERATION) {
        arp::REQUEST => Parsed::ArpRequest(at as u16),
        _ => Parsed::Punt(PuntReason::Arp),
    }
}

#[inline(always)]
fn is_bad_destination(address: &Address) -> bool {
    if address.is_v4() {
        matches!(address.v4_octets()[0], 0 | 127)
    } else {
        const LOOPBACK: Address = Address::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        *address == Address::UNSPECIFIED || *address == LOOPBACK
    }
}

/// Multicast or broadcast. Routing protocols and neighbour discovery talk to groups, a balanced connection never does.
#[inline(always)]
pub(crate) fn is_group(address: &Address) -> bool {
    if address.is_v4() {
        address.v4_octets()[0] >= 224
    } else {
        address.octets()[0] == 0xff
    }
}

/// RFC 1812 section 5.2.2, in its order.
#[inline(always)]
fn ipv4_header<const SUMS: bool>(
    bytes: &[u8],
    at: usize,
    frame_length: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let whole = &bytes[at..];
    // (1) long enough for the smallest header
    let Some(ip) = whole.first_chunk::<{ ipv4::HEADER }>() else {
        return Err(DropReason::TruncatedFrame);
    };
    // (3) version 4, (4) header length at least 5 words
    let header = match ip[0] {
        ipv4::VERSION_AND_PLAIN_HEADER => ipv4::HEADER,
        _ => length_with_options(whole)?,
    };
    // (5) total length holds the header, and the frame holds the total length
    let ip_length = usize::from(get_u16(ip, ipv4::TOTAL_LENGTH));
    if ip_length < header {
        return Err(DropReason::BadIpHeader);
    }
    if at + ip_length > frame_length {
        return Err(DropReason::TruncatedFrame);
    }
    // (2) checksum
    if SUMS {
        let sum = if header == ipv4::HEADER {
            Sum::of_words(ip)
        } else {
            Sum::of(&whole[..header])
        };
        if sum.fold() != 0xffff {
            return Err(DropReason::BadIpChecksum);
        }
    }
    if header > ipv4::HEADER && has_source_route(&whole[ipv4::HEADER..header]) {
        return Err(DropReason::SourceRoute);
    }
    let source = ipv4::source(ip);
    let destination = ipv4::destination(ip);
    if source.is_martian_source() {
        return Err(DropReason::MartianSource);
    }
    if is_bad_destination(&destination) {
        return Err(DropReason::MartianDestination);
    }
    let flags = get_u16(ip, ipv4::FRAGMENT);
    *packet = Packet {
        key: Key {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol: ip[ipv4::PROTOCOL],
        },
        ip: at,
        transport: at + header,
        ip_length,
        family: Family::V4,
        tcp_flags: 0,
        ttl: ip[ipv4::TTL],
        dont_fragment: flags & ipv4::DONT_FRAGMENT != 0,
        fragment: None,
        partial_checksum: false,
    };
    if flags & (ipv4::OFFSET_MASK | ipv4::MORE_FRAGMENTS) != 0 {
        let fragment = Fragment {
            id: u32::from(get_u16(ip, ipv4::IDENTIFICATION)),
            offset: (flags & ipv4::OFFSET_MASK) * 8,
            more: flags & ipv4::MORE_FRAGMENTS != 0,
        };
        check_fragment(fragment, ip_length - header)?;
        packet.fragment = Some(fragment);
    }
    Ok(())
}

#[cold]
fn length_with_options(ip: &[u8]) -> Result<usize, DropReason> {
    let header = ipv4::header_length(ip);
    if ip[0] >> 4 != 4 || header < ipv4::HEADER {
        return Err(DropReason::BadIpHeader);
    }
    if ip.len() < header {
        return Err(DropReason::TruncatedFrame);
    }
    Ok(header)
}

/// Loose and strict source routes (RFC 791 section 3.1, types 131 and 137): a host must not let itself be used as a relay for them.
fn has_source_route(mut options: &[u8]) -> bool {
    while let Some(&kind) = options.first() {
        match kind {
            0 => return false,
            1 => options = &options[1..],
            131 | 137 => return true,
            _ => match options.get(1) {
                Some(&length) if length >= 2 && usize::from(length) <= options.len() => {
                    options = &options[usize::from(length)..];
                }
                _ => return false,
            },
        }
    }
    false
}

/// RFC 791 and RFC 5722/RFC 8200 section 4.5: pieces but the last are multiples of 8, nothing ends past 65,535, none is empty.
#[cold]
fn check_fragment(fragment: Fragment, data: usize) -> Result<(), DropReason> {
    let ends_too_late = usize::from(fragment.offset) + data > 65_535;
    // RFC 1858 section 3.2.2: a fragment at offset 8 could overwrite the ports or flags that the first one was judged by.
    if data == 0 || fragment.more && data % 8 != 0 || ends_too_late || fragment.offset == 8 {
        return Err(DropReason::BadFragment);
    }
    Ok(())
}

#[inline(always)]
fn ipv6_header(bytes: &[u8], at: usize, frame_length: usize, packet: &mut Packet) -> Result<(), DropReason> {
    let Some(ip) = bytes[at..].first_chunk::<{ ipv6::HEADER }>() else {
        return Err(DropReason::TruncatedFrame);
    };
    if ip[0] >> 4 != 6 {
        return Err(DropReason::BadIpHeader);
    }
    let ip_length = ipv6::HEADER + usize::from(get_u16(ip, ipv6::PAYLOAD_LENGTH));
    if at + ip_length > frame_length {
        return Err(DropReason::TruncatedFrame);
    }
    let source = ipv6::source(ip);
    let destination = ipv6::destination(ip);
    let next = ip[ipv6::NEXT_HEADER];
    // Duplicate address detection asks from the unspecified address (RFC 4862 section 5.4.2); nothing else may.
    let is_detection = source == Address::UNSPECIFIED && next == protocol::ICMPV6;
    if source.is_v4() || source.is_martian_source() && !is_detection {
        return Err(DropReason::MartianSource);
    }
    if destination.is_v4() || is_bad_destination(&destination) {
        return Err(DropReason::MartianDestination);
    }
    *packet = Packet {
        key: Key {
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            protocol: next,
        },
        ip: at,
        transport: at + ipv6::HEADER,
        ip_length,
        family: Family::V6,
        tcp_flags: 0,
        ttl: ip[ipv6::HOP_LIMIT],
        dont_fragment: true,
        fragment: None,
        partial_checksum: false,
    };
    if !matches!(next, protocol::TCP | protocol::UDP | protocol::ICMPV6) {
        extension_headers(bytes, packet)?;
    }
    Ok(())
}

/// Walks the extension headers (RFC 8200 section 4) up to the transport header. A few are enough for any honest sender.
#[cold]
fn extension_headers(bytes: &[u8], packet: &mut Packet) -> Result<(), DropReason> {
    const LIMIT: usize = 6;
    let end = (packet.ip + packet.ip_length).min(bytes.len());
    let mut next = packet.key.protocol;
    for position in 0..LIMIT {
        let at = packet.transport;
        let header = match next {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS | ipv6::FRAGMENT => &bytes[at.min(end)..end],
            _ => {
                packet.key.protocol = next;
                return Ok(());
            }
        };
        if header.len() < 8 || next == ipv6::HOP_BY_HOP && position != 0 {
            return Err(DropReason::BadExtensionHeader);
        }
        // RFC 5095: routing header type 0 is dead; type 2, 3 and 4 are not for a balancer either while segments are left.
        if next == ipv6::ROUTING && header[3] != 0 {
            return Err(DropReason::SourceRoute);
        }
        if next == ipv6::FRAGMENT {
            let word = get_u16(header, 2);
            let fragment = Fragment {
                id: get_u32(header, 4),
                offset: word & 0xfff8,
                more: word & 1 != 0,
            };
            packet.transport += ipv6::FRAGMENT_HEADER;
            check_fragment(fragment, packet.transport_length())?;
            packet.fragment = Some(fragment);
            next = header[0];
            if packet.is_later_fragment() {
                packet.key.protocol = next;
                return Ok(());
            }
            continue;
        }
        packet.transport += (usize::from(header[1]) + 1) * 8;
        if packet.transport > end {
            return Err(DropReason::BadExtensionHeader);
        }
        next = header[0];
    }
    Err(DropReason::BadExtensionHeader)
}

/// Whether a packet goes to a group and is of a protocol that would otherwise be balanced.
#[inline(always)]
fn is_for_group(packet: &Packet) -> bool {
    is_group(&packet.key.destination)
        && matches!(
            packet.key.protocol,
            protocol::TCP | protocol::UDP | protocol::ICMP | protocol::SCTP
        )
}

/// What stands behind the IP header of a fragment.
#[cold]
fn fragment_header(bytes: &[u8], packet: &mut Packet) -> Parsed {
    if !packet.is_later_fragment() {
        return transport_header(bytes, packet, Partial::No, true);
    }
    match packet.key.protocol {
        _ if is_for_group(packet) => Parsed::Group,
        protocol::TCP | protocol::UDP | protocol::SCTP => Parsed::Packet,
        protocol::ICMP | protocol::ICMPV6 => Parsed::IcmpFragment,
        _ => Parsed::Punt(PuntReason::OtherProtocol),
    }
}

#[inline(always)]
fn transport_header(bytes: &[u8], packet: &mut Packet, partial: Partial, is_fragment: bool) -> Parsed {
    if is_for_group(packet) {
        return Parsed::Group;
    }
    let end = (packet.ip + packet.ip_length).min(bytes.len());
    let transport = bytes.get(packet.transport..end).unwrap_or_default();
    let length = packet.transport_length();
    let checksum_at = match packet.key.protocol {
        protocol::TCP => {
            if transport.len() < tcp::HEADER {
                return Parsed::Drop(DropReason::BadTransportHeader);
            }
            let header = tcp::header_length(transport);
            if header < tcp::HEADER || header > transport.len() {
                return Parsed::Drop(DropReason::BadTransportHeader);
            }
            packet.tcp_flags = transport[tcp::FLAGS];
            tcp::CHECKSUM
        }
        protocol::UDP => {
            if transport.len() < udp::HEADER {
                return Parsed::Drop(DropReason::BadTransportHeader);
            }
            let udp_length = usize::from(get_u16(transport, udp::LENGTH));
            // The datagram fills the packet, unless it is the first of several fragments, which is shorter than it.
            let fits = if is_fragment {
                udp_length >= length
            } else {
                udp_length == length
            };
            if udp_length < udp::HEADER || !fits {
                return Parsed::Drop(DropReason::BadTransportHeader);
            }
            udp::CHECKSUM
        }
        protocol::SCTP => return sctp_packet(transport, packet, partial),
        protocol::ICMP if packet.family == Family::V4 => return icmp_message(transport, packet),
        protocol::ICMPV6 if packet.family == Family::V6 => return icmp_message(transport, packet),
        _ => return Parsed::Punt(PuntReason::OtherProtocol),
    };
    packet.key.source_port = get_u16(transport, 0);
    packet.key.destination_port = get_u16(transport, 2);
    if partial != Partial::No {
        let stored = get_u16(transport, checksum_at);
        let Key {
            source,
            destination,
            protocol,
            ..
        } = &packet.key;
        let pseudo = Sum::of_pseudo_header(source, destination, *protocol, length as u32).fold();
        let no_checksum = packet.key.protocol == protocol::UDP && stored == 0;
        packet.partial_checksum = (partial == Partial::Yes || stored == pseudo) && !no_checksum;
    }
    Parsed::Packet
}

#[cold]
fn sctp_packet(transport: &[u8], packet: &mut Packet, partial: Partial) -> Parsed {
    let Some(deciding) = sctp::deciding_chunk(transport) else {
        return Parsed::Drop(DropReason::BadTransportHeader);
    };
    packet.tcp_flags = SctpEvent::from_chunk(deciding).to_flags();
    packet.key.source_port = get_u16(transport, 0);
    packet.key.destination_port = get_u16(transport, 2);
    let is_missing = get_u32(transport, sctp::CHECKSUM) == 0;
    packet.partial_checksum = partial != Partial::No && is_missing && packet.fragment.is_none();
    Parsed::Packet
}

fn icmp_message(transport: &[u8], packet: &Packet) -> Parsed {
    if packet.fragment.is_some() {
        return Parsed::IcmpFragment;
    }
    if transport.len() < icmp::HEADER {
        return Parsed::Drop(DropReason::BadTransportHeader);
    }
    if packet.family == Family::V6 {
        match transport[0] {
            icmp::v6::NEIGHBOUR_SOLICITATION => return Parsed::Solicitation,
            // Router and neighbour discovery (RFC 4861) and multicast listeners are the kernel's.
            130..=134 | 136..=137 | 143 => return Parsed::Punt(PuntReason::NeighbourDiscovery),
            _ => {}
        }
    }
    Parsed::Icmp
}
