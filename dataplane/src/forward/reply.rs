//! Answers that the director gives itself, each made in the frame of what it answers and sent back to the station it came from.

use crate::address::{Address, Family};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::protocol;
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::{arp, get_u16, icmp, ipv4, ipv6, put_u16, put_u32, sctp, tcp, udp};

/// TTL of our own packets, as Linux has it.
const OWN_TTL: u8 = 64;

/// Sends the frame back where it came from: destination becomes source, our MAC the source.
fn turn_link_header<F: Frame>(frame: &mut F, own: &Mac) {
    let bytes = frame.head_mut();
    let sender = ethernet::source(bytes);
    bytes[..6].copy_from_slice(&sender);
    bytes[6..12].copy_from_slice(own);
}

/// The address an ARP request (message at `at`) asks for.
pub fn arp_target(bytes: &[u8], at: usize) -> Address {
    let t = at + arp::TARGET_ADDRESS;
    Address::v4([bytes[t], bytes[t + 1], bytes[t + 2], bytes[t + 3]])
}

/// Turns an ARP request for one of our addresses into the reply (RFC 826, "packet reception").
///
/// # Errors
/// `BadArp` for a sender that is a group.
pub fn arp<F: Frame>(frame: &mut F, at: usize, own: &Mac) -> Result<(), DropReason> {
    if ethernet::is_group(&ethernet::source(frame.head())) {
        return Err(DropReason::BadArp);
    }
    frame.set_length(at + arp::LENGTH).map_err(|_| DropReason::NoHeadroom)?;
    turn_link_header(frame, own);
    let message = &mut frame.head_mut()[at..];
    put_u16(message, arp::OPERATION, arp::REPLY);
    let mut asked = [0; 4];
    asked.copy_from_slice(&message[arp::TARGET_ADDRESS..arp::TARGET_ADDRESS + 4]);
    message.copy_within(arp::SENDER_MAC..arp::SENDER_MAC + 10, arp::TARGET_MAC);
    message[arp::SENDER_MAC..arp::SENDER_MAC + 6].copy_from_slice(own);
    message[arp::SENDER_ADDRESS..arp::SENDER_ADDRESS + 4].copy_from_slice(&asked);
    Ok(())
}

/// The address a neighbour solicitation asks for, if it passes RFC 4861 section 7.1.1.
///
/// # Errors
/// `BadNeighbourDiscovery`.
pub fn solicited_target<F: Frame>(frame: &F, packet: &Packet) -> Result<Address, DropReason> {
    const TARGET: usize = 8;
    let message = &frame.head()[packet.transport..];
    let length = packet.transport_length();
    let valid = packet.ttl == 255
        && message[1] == 0
        && length >= TARGET + 16
        && message.len() >= length
        && icmpv6_checksum_is_right(&packet.key.source, &packet.key.destination, &message[..length]);
    if !valid {
        return Err(DropReason::BadNeighbourDiscovery);
    }
    let mut target = [0; 16];
    target.copy_from_slice(&message[TARGET..TARGET + 16]);
    let options = &message[TARGET + 16..length];
    let is_detection = packet.key.source == Address::UNSPECIFIED;
    let is_valid_detection = is_solicited_node(&packet.key.destination) && !has_source_mac(options);
    if target[0] == 0xff || !are_whole(options) || is_detection && !is_valid_detection {
        return Err(DropReason::BadNeighbourDiscovery);
    }
    Ok(Address::v6(target))
}

/// The options of a neighbour discovery message as (type, length in bytes); ends at one whose length is 0 or too long.
fn discovery_options(mut options: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    std::iter::from_fn(move || {
        let (&kind, &units) = (options.first()?, options.get(1)?);
        let length = usize::from(units) * 8;
        options = options.get(length.max(8)..)?;
        (length > 0).then_some((kind, length))
    })
}

fn are_whole(options: &[u8]) -> bool {
    discovery_options(options).map(|(_, length)| length).sum::<usize>() == options.len()
}

fn has_source_mac(options: &[u8]) -> bool {
    const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    discovery_options(options).any(|(kind, _)| kind == SOURCE_LINK_LAYER_ADDRESS)
}

/// ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
fn is_solicited_node(address: &Address) -> bool {
    address.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]
}

fn icmpv6_checksum_is_right(source: &Address, destination: &Address, message: &[u8]) -> bool {
    let pseudo = Sum::of_pseudo_header(source, destination, protocol::ICMPV6, message.len() as u32);
    Sum::of(message).plus(pseudo).fold() == 0xffff
}

/// Turns a neighbour solicitation for `target`, which is ours, into the advertisement (RFC 4861 section 7.2.4).
///
/// # Errors
/// `NoHeadroom`.
pub fn advertisement<F: Frame>(frame: &mut F, packet: &Packet, target: &Address, own: &Mac) -> Result<(), DropReason> {
    const LENGTH: usize = 32;
    const SOLICITED: u32 = 0x4000_0000;
    const OVERRIDE: u32 = 0x2000_0000;
    const ALL_NODES: Address = Address::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let start = packet.ip + ipv6::HEADER;
    frame.set_length(start + LENGTH).map_err(|_| DropReason::NoHeadroom)?;
    turn_link_header(frame, own);
    // A question from the unspecified address is answered to all nodes, unsolicited.
    let is_detection = packet.key.source == Address::UNSPECIFIED;
    let destination = if is_detection { ALL_NODES } else { packet.key.source };
    let bytes = frame.head_mut();
    if is_detection {
        bytes[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    }
    ipv6::Header {
        traffic_class: 0,
        payload_length: LENGTH as u16,
        next_header: protocol::ICMPV6,
        hop_limit: 255,
        source: *target,
        destination,
    }
    .emit(&mut bytes[packet.ip..]);
    let message = &mut bytes[start..start + LENGTH];
    message[0] = icmp::v6::NEIGHBOUR_ADVERTISEMENT;
    message[1] = 0;
    put_u32(message, 4, if is_detection { OVERRIDE } else { SOLICITED | OVERRIDE });
    message[8..24].copy_from_slice(target.octets());
    message[24] = 2; // target link-layer address
    message[25] = 1; // in units of 8 bytes
    message[26..32].copy_from_slice(own);
    put_icmpv6_checksum(target, &destination, message);
    Ok(())
}

fn put_icmpv6_checksum(source: &Address, destination: &Address, message: &mut [u8]) {
    put_u16(message, icmp::CHECKSUM, 0);
    let pseudo = Sum::of_pseudo_header(source, destination, protocol::ICMPV6, message.len() as u32);
    let checksum = Sum::of(message).plus(pseudo).to_checksum();
    put_u16(message, icmp::CHECKSUM, checksum);
}

/// What a pseudo-header adds to the checksum of an ICMP message: nothing for IPv4.
pub fn icmp_pseudo_header(packet: &Packet) -> Sum {
    match packet.family {
        Family::V4 => Sum::default(),
        Family::V6 => {
            let length = packet.transport_length() as u32;
            Sum::of_pseudo_header(&packet.key.source, &packet.key.destination, protocol::ICMPV6, length)
        }
    }
}

/// Whether the whole ICMP message, over all segments, has the right checksum.
pub fn icmp_checksum_is_right<F: Frame>(frame: &F, packet: &Packet) -> bool {
    super::edit::sum_of_transport(frame, packet)
        .plus(icmp_pseudo_header(packet))
        .fold()
        == 0xffff
}

/// Whether the ICMP message is an echo request.
pub fn is_echo_request<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let request = match packet.family {
        Family::V4 => icmp::v4::ECHO_REQUEST,
        Family::V6 => icmp::v6::ECHO_REQUEST,
    };
    frame.head()[packet.transport] == request
}

/// Whether the ICMP message is an echo reply.
pub fn is_echo_reply<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let reply = match packet.family {
        Family::V4 => icmp::v4::ECHO_REPLY,
        Family::V6 => icmp::v6::ECHO_REPLY,
    };
    frame.head()[packet.transport] == reply
}

/// Turns an echo request into the reply (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2).
pub fn echo<F: Frame>(frame: &mut F, packet: &Packet, own: &Mac) {
    super::edit::trim(frame, packet);
    turn_link_header(frame, own);
    let bytes = frame.head_mut();
    let ip = &mut bytes[packet.ip..];
    let reply = match packet.family {
        Family::V4 => {
            let mut addresses = [0; 8];
            addresses.copy_from_slice(&ip[ipv4::SOURCE..ipv4::SOURCE + 8]);
            ip[ipv4::SOURCE..ipv4::SOURCE + 4].copy_from_slice(&addresses[4..]);
            ip[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&addresses[..4]);
            let old = get_u16(ip, ipv4::TTL);
            let ttl_and_protocol = u16::from(OWN_TTL) << 8 | old & 0xff;
            ipv4::set_word(ip, ipv4::TTL, ttl_and_protocol);
            icmp::v4::ECHO_REPLY
        }
        Family::V6 => {
            let (source, destination) = ip[ipv6::SOURCE..ipv6::SOURCE + 32].split_at_mut(16);
            source.swap_with_slice(destination);
            ip[ipv6::HOP_LIMIT] = OWN_TTL;
            icmp::v6::ECHO_REPLY
        }
    };
    let message = &mut bytes[packet.transport..];
    let old = get_u16(message, 0);
    let new = u16::from(reply) << 8 | old & 0xff;
    put_u16(message, 0, new);
    let delta = Sum::default().minus_word(old).plus_word(new);
    let checksum = crate::wire::checksum::update(get_u16(message, icmp::CHECKSUM), delta);
    put_u16(message, icmp::CHECKSUM, checksum);
}

/// An ICMP error of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnError {
    /// Time to live ran out here.
    TimeExceeded,
    /// Fragmentation needed, or packet too big, with the largest packet that fits.
    TooBig(u16),
    /// The service has no usable server: "port unreachable", as IPVS answers.
    PortUnreachable,
    /// No route to the server.
    HostUnreachable,
}

/// Whether the sender of this packet may be told about an error at all (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e): not about an error, not about later
/// fragments, not about what came to a group on the link layer, not when the source is nobody.
pub fn may_be_told<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let is_error = packet.is_icmp() && super::icmp_error::is_error(frame, packet);
    !is_error
        && !packet.is_later_fragment()
        && !ethernet::is_group(&ethernet::destination(frame.head()))
        && !packet.key.source.is_martian_source()
}

/// Replaces the frame by an ICMP error about it, sent from `source`.
///
/// # Errors
/// `NoHeadroom`.
pub fn error<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    error: OwnError,
    source: &Address,
    own: &Mac,
) -> Result<(), DropReason> {
    // RFC 1812 section 4.3.2.3: as much as fits into 576 bytes; RFC 4443 section 2.4 c: into the minimum MTU.
    let (header, longest, ip_protocol) = match packet.family {
        Family::V4 => (ipv4::HEADER, 576, protocol::ICMP),
        Family::V6 => (ipv6::HEADER, ipv6::MINIMUM_MTU, protocol::ICMPV6),
    };
    let added = header + icmp::HEADER;
    let quoted = packet
        .ip_length
        .min(longest - added)
        .min(frame.head().len() - packet.ip);
    let link = packet.ip;
    restore_partial_checksum(frame, packet);
    frame.set_length(link + quoted).map_err(|_| DropReason::NoHeadroom)?;
    frame.push_front(added).map_err(|_| DropReason::NoHeadroom)?;
    frame.head_mut().copy_within(added..added + link, 0);
    turn_link_header(frame, own);
    let bytes = frame.head_mut();
    let destination = packet.key.source;
    let total = added + quoted;
    match packet.family {
        Family::V4 => ipv4::Header {
            // RFC 1812 section 4.3.2.5: errors have precedence internetwork control.
            tos: 0xc0,
            total_length: total as u16,
            identification: 0,
            fragment: ipv4::DONT_FRAGMENT,
            ttl: OWN_TTL,
            protocol: ip_protocol,
            source: *source,
            destination,
        }
        .emit(&mut bytes[link..]),
        Family::V6 => ipv6::Header {
            traffic_class: 0,
            payload_length: (total - header) as u16,
            next_header: ip_protocol,
            hop_limit: OWN_TTL,
            source: *source,
            destination,
        }
        .emit(&mut bytes[link..]),
    }
    let message = &mut bytes[link + header..link + total];
    let (kind, code, rest) = describe(error, packet.family);
    message[0] = kind;
    message[1] = code;
    put_u32(message, 4, rest);
    match packet.family {
        Family::V4 => {
            put_u16(message, icmp::CHECKSUM, 0);
            let checksum = Sum::of(message).to_checksum();
            put_u16(message, icmp::CHECKSUM, checksum);
        }
        Family::V6 => put_icmpv6_checksum(source, &destination, message),
    }
    Ok(())
}

/// Type, code and the four bytes behind the checksum.
fn describe(error: OwnError, family: Family) -> (u8, u8, u32) {
    match (error, family) {
        (OwnError::TimeExceeded, Family::V4) => (icmp::v4::TIME_EXCEEDED, 0, 0),
        (OwnError::TimeExceeded, Family::V6) => (icmp::v6::TIME_EXCEEDED, 0, 0),
        (OwnError::TooBig(mtu), Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED, u32::from(mtu)),
        (OwnError::TooBig(mtu), Family::V6) => (icmp::v6::PACKET_TOO_BIG, 0, u32::from(mtu)),
        (OwnError::PortUnreachable, Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE, 0),
        (OwnError::PortUnreachable, Family::V6) => (icmp::v6::UNREACHABLE, icmp::v6::PORT_UNREACHABLE, 0),
        (OwnError::HostUnreachable, Family::V4) => (icmp::v4::UNREACHABLE, icmp::v4::HOST_UNREACHABLE, 0),
        (OwnError::HostUnreachable, Family::V6) => (icmp::v6::UNREACHABLE, icmp::v6::ADDRESS_UNREACHABLE, 0),
    }
}

/// A sender that left its checksum unfinished must not see the unfinished one in the quotation as if we had broken it; Linux compares ports and sequence only, but
/// a capture would mislead. Finishing it is cheap here: errors are rare.
fn restore_partial_checksum<F: Frame>(frame: &mut F, packet: &Packet) {
    let needed = match packet.key.protocol {
        protocol::TCP => tcp::HEADER,
        protocol::UDP => udp::HEADER,
        protocol::SCTP => sctp::HEADER,
        _ => return,
    };
    if packet.partial_checksum && frame.head().len() >= packet.transport + needed {
        super::edit::finish_checksum(frame, packet, false);
    }
}
