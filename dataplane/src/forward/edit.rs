//! The changes that forwarding methods are made of. Each keeps lengths, checksums and the offsets in [`Packet`] right.

use super::sctp;
use crate::address::Family;
use crate::conn::key::{Key, TupleChange};
use crate::io::{Frame, TransportChecksum, Unfinished};
use crate::parse::{self, Packet, Parsed};
use crate::service::protocol;
use crate::snapshot::{LinkHeader, NextHop};
use crate::verdict::DropReason;
use crate::wire::checksum::{self, Sum, sum_of_pieces, update};
use crate::wire::{ethernet, get_u16, get_u32, ipv4, ipv6, put_u16, put_u32, tcp, udp};

/// Offset of the transport checksum in its header.
#[inline(always)]
fn checksum_offset(ip_protocol: u8) -> usize {
    if ip_protocol == protocol::TCP {
        tcp::CHECKSUM
    } else {
        udp::CHECKSUM
    }
}

/// Corrects the transport checksum after what it covers changed by `delta`. An unfinished checksum is left for [`finish_checksum`].
#[inline(always)]
pub fn patch_transport_checksum<F: Frame>(frame: &mut F, packet: &Packet, delta: Sum) {
    if !packet.is_later_fragment() {
        patch_checksum_in(&mut frame.head_mut()[packet.transport..], packet, delta);
    }
}

#[inline(always)]
fn patch_checksum_in(header: &mut [u8], packet: &Packet, delta: Sum) {
    if packet.partial_checksum {
        return;
    }
    let at = checksum_offset(packet.key.protocol);
    let stored = get_u16(header, at);
    let is_udp = packet.key.protocol == protocol::UDP;
    // RFC 768: a UDP checksum of 0 means that there is none, and a computed 0 is sent as 0xffff.
    if is_udp && stored == 0 {
        return;
    }
    let updated = update(stored, delta);
    put_u16(header, at, if is_udp && updated == 0 { 0xffff } else { updated });
}

/// Computes the whole transport checksum where the sender left it unfinished, or where `force` says that there was none and must be one.
#[inline(always)]
pub fn finish_checksum<F: Frame>(frame: &mut F, packet: &Packet, force: bool) {
    if packet.partial_checksum || force {
        compute_checksum(frame, packet, packet.key.protocol);
    }
}

/// Has the port finish the transport checksum of a packet that is ready to go out whole, its link-layer header included; where it cannot, it is done here. The
/// packet is taken to be of `ip_protocol`: with tunnels that is not what its tuple says.
#[cold]
pub fn leave_checksum<F: Frame>(frame: &mut F, packet: &Packet, ip_protocol: u8) {
    let unfinished = Unfinished {
        link: packet.ip,
        ip: packet.transport - packet.ip,
        is_v4: packet.family == Family::V4,
        is_tcp: ip_protocol == protocol::TCP,
    };
    if !matches!(ip_protocol, protocol::TCP | protocol::UDP) || !frame.leave_checksum(unfinished) {
        return compute_checksum(frame, packet, ip_protocol);
    }
    let (source, destination) = addresses(frame.head(), packet);
    let length = packet.transport_length() as u32;
    let pseudo = Sum::of_pseudo_header(&source, &destination, ip_protocol, length).fold();
    let at = packet.transport + checksum_offset(ip_protocol);
    put_u16(frame.head_mut(), at, pseudo);
}

/// Finishes the checksum of a frame for the kernel, which takes it at its word, if its card says that it is unfinished. What is not whole TCP or UDP is left.
#[cold]
pub fn finish_for_kernel<F: Frame>(frame: &mut F) {
    let mut packet = Packet::EMPTY;
    let Ok(link) = parse::link(frame.head()) else { return };
    let (length, checksums) = (frame.total_length(), frame.checksums());
    match parse::network(frame.head(), length, link, false, checksums, &mut packet) {
        Parsed::Packet => finish_checksum(frame, &packet, false),
        // Read no further than its addresses.
        Parsed::Group if packet.fragment.is_none() => {
            let header = match packet.key.protocol {
                protocol::TCP => tcp::HEADER,
                protocol::UDP => udp::HEADER,
                _ => return,
            };
            let is_unfinished = checksums.transport == TransportChecksum::Partial;
            if frame.head().len() >= packet.transport + header && packet.transport_length() >= header {
                finish_checksum(frame, &packet, is_unfinished);
            }
        }
        _ => {}
    }
}

#[cold]
fn compute_checksum<F: Frame>(frame: &mut F, packet: &Packet, ip_protocol: u8) {
    if ip_protocol == protocol::SCTP {
        return sctp::finish_checksum(frame, packet);
    }
    let at = packet.transport + checksum_offset(ip_protocol);
    put_u16(frame.head_mut(), at, 0);
    let (source, destination) = addresses(frame.head(), packet);
    let length = packet.transport_length();
    let pseudo = Sum::of_pseudo_header(&source, &destination, ip_protocol, length as u32);
    let checksum = sum_of_transport(frame, packet).plus(pseudo).to_checksum();
    let is_udp = ip_protocol == protocol::UDP;
    put_u16(
        frame.head_mut(),
        at,
        if is_udp && checksum == 0 { 0xffff } else { checksum },
    );
}

/// The sum of everything behind the IP header, over all segments, without a pseudo-header.
pub fn sum_of_transport<F: Frame>(frame: &F, packet: &Packet) -> Sum {
    sum_of_packet(frame, packet.transport, packet.transport_length())
}

/// The sum of `length` bytes from `at` on, over all segments.
pub fn sum_of_packet<F: Frame>(frame: &F, at: usize, length: usize) -> Sum {
    sum_of_pieces(pieces(frame, at, length))
}

/// `length` bytes from `at` on, as they lie in the segments.
pub fn pieces<F: Frame>(frame: &F, at: usize, length: usize) -> impl Iterator<Item = &[u8]> {
    let mut left = length;
    let head = &frame.head()[at..];
    std::iter::once(head).chain(frame.tail()).map_while(move |piece| {
        let piece = &piece[..piece.len().min(left)];
        left -= piece.len();
        (!piece.is_empty()).then_some(piece)
    })
}

fn addresses(bytes: &[u8], packet: &Packet) -> (crate::address::Address, crate::address::Address) {
    let ip = &bytes[packet.ip..];
    match packet.family {
        Family::V4 => (ipv4::source(ip), ipv4::destination(ip)),
        Family::V6 => (ipv6::source(ip), ipv6::destination(ip)),
    }
}

/// Takes one from the time to live, which the caller has checked to be more than one.
#[inline(always)]
pub fn decrement_ttl<F: Frame>(frame: &mut F, packet: &mut Packet) {
    let ip = &mut frame.head_mut()[packet.ip..];
    match packet.family {
        Family::V4 => ipv4::decrement_ttl(ip),
        Family::V6 => ip[ipv6::HOP_LIMIT] -= 1,
    }
    packet.ttl -= 1;
}

/// Gives the packet a new tuple: addresses, ports, checksums (by `change`, which must be that from the packet's tuple to the new one); and another IP header
/// when the family changes. `identification` is for an IPv4 header that is made then.
///
/// # Errors
/// `NoUdpChecksum`, `SctpFragment`, `NoHeadroom`.
#[inline(always)]
pub fn rewrite<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    new: &Key,
    change: TupleChange,
    identification: u16,
) -> Result<(), DropReason> {
    if new.source.family() != packet.family {
        change_family(frame, packet, new, identification)?;
    } else {
        put_addresses(&mut frame.head_mut()[packet.ip..], packet.family, new, change);
    }
    if !packet.is_later_fragment() {
        let transport = &mut frame.head_mut()[packet.transport..];
        // The parser has seen that the header is there; by its whole length, so that this is asked once and not for each field.
        if packet.key.protocol == protocol::TCP {
            if let Some(header) = transport.first_chunk_mut::<{ tcp::HEADER }>() {
                put_transport(header, packet, new, change);
            }
        } else if packet.key.protocol == protocol::SCTP {
            tcp::put_ports(transport, new.source_port, new.destination_port);
            sctp::patch_checksum(frame, packet, new)?;
        } else if let Some(header) = transport.first_chunk_mut::<{ udp::HEADER }>() {
            put_transport(header, packet, new, change);
        }
    }
    packet.key = *new;
    Ok(())
}

#[inline(always)]
fn put_addresses(ip: &mut [u8], family: Family, new: &Key, change: TupleChange) {
    match family {
        Family::V4 => {
            if let Some(ip) = ip.first_chunk_mut::<{ ipv4::HEADER }>() {
                ip[ipv4::SOURCE..ipv4::SOURCE + 4].copy_from_slice(&new.source.v4_octets());
                ip[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&new.destination.v4_octets());
                ipv4::patch_checksum(ip, change.of_addresses());
            }
        }
        Family::V6 => {
            if let Some(ip) = ip.first_chunk_mut::<{ ipv6::HEADER }>() {
                ip[ipv6::SOURCE..ipv6::SOURCE + 16].copy_from_slice(new.source.octets());
                ip[ipv6::DESTINATION..ipv6::DESTINATION + 16].copy_from_slice(new.destination.octets());
            }
        }
    }
}

#[inline(always)]
fn put_transport(header: &mut [u8], packet: &Packet, new: &Key, change: TupleChange) {
    tcp::put_ports(header, new.source_port, new.destination_port);
    patch_checksum_in(header, packet, change.of_all());
}

/// The longest IPv4 packet that can come of an IPv6 one of the minimum MTU.
const LONGEST_CUTTABLE: usize = ipv6::MINIMUM_MTU - (ipv6::HEADER - ipv4::HEADER);

/// What a packet grows by when it goes on in the other family, in bytes: below 0 when it shrinks. Options and extension headers that stay behind are not
/// counted, so a little more can fit than this says.
pub fn growth(packet: &Packet, to: Family) -> isize {
    const DIFFERENCE: isize = (ipv6::HEADER - ipv4::HEADER) as isize;
    match (packet.family, to) {
        (Family::V4, Family::V6) if packet.fragment.is_some() => DIFFERENCE + ipv6::FRAGMENT_HEADER as isize,
        (Family::V4, Family::V6) => DIFFERENCE,
        (Family::V6, Family::V4) => -DIFFERENCE,
        _ => 0,
    }
}

/// Replaces the IP header by one of the other family (RFC 7915 sections 4.1 and 5.1: traffic class, TTL and payload carry over; options and extension
/// headers do not). Fragments stay fragments (sections 4.1 and 5.1.1). The transport checksum is the caller's: pseudo-headers of both families sum alike but
/// for the addresses.
fn change_family<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    new: &Key,
    identification: u16,
) -> Result<(), DropReason> {
    let to = new.source.family();
    // IPv6 has no UDP without checksum (RFC 8200 section 8.1), and none can be computed from a part of the datagram (RFC 7915 section 4.5).
    if to == Family::V6 && has_no_udp_checksum(frame, packet) {
        if packet.fragment.is_some() {
            return Err(DropReason::NoUdpChecksum);
        }
        packet.partial_checksum = true;
    }
    let payload = packet.transport_length();
    let ip = &frame.head()[packet.ip..];
    let class = match packet.family {
        Family::V4 => ip[ipv4::TOS],
        Family::V6 => ipv6::traffic_class(ip),
    };
    let header = match (to, packet.fragment) {
        (Family::V6, Some(_)) => ipv6::HEADER + ipv6::FRAGMENT_HEADER,
        (Family::V6, None) => ipv6::HEADER,
        (Family::V4, _) => ipv4::HEADER,
    };
    // The link-layer header is written anew by `send_to`; here it only keeps its place.
    let start = packet.transport as isize - header as isize - packet.ip as isize;
    if start < 0 {
        frame
            .push_front(start.unsigned_abs())
            .map_err(|_| DropReason::NoHeadroom)?;
    } else {
        frame.pull_front(start as usize);
    }
    packet.transport = packet.ip + header;
    packet.ip_length = header + payload;
    packet.family = to;
    // RFC 7915 section 5.1: an IPv6 sender need not go below 1280 bytes, so what is no longer than that may be cut, and so may a fragment; what else is longer
    // must not, so that the sender learns what fits.
    packet.dont_fragment = to == Family::V6 || packet.fragment.is_none() && packet.ip_length > LONGEST_CUTTABLE;
    let ip = &mut frame.head_mut()[packet.ip..];
    match to {
        Family::V6 => emit_ipv6(ip, packet, new, class),
        Family::V4 => emit_ipv4(ip, packet, new, class, identification),
    }
    Ok(())
}

/// Whether this is UDP that came without a checksum (RFC 768: 0).
fn has_no_udp_checksum<F: Frame>(frame: &F, packet: &Packet) -> bool {
    packet.key.protocol == protocol::UDP
        && !packet.is_later_fragment()
        && get_u16(frame.head(), packet.transport + udp::CHECKSUM) == 0
}

/// Makes the checksum one that pieces of the packet can go to IPv6 with.
///
/// # Errors
/// `NoUdpChecksum` for a fragment that has none.
pub fn complete_checksum<F: Frame>(frame: &mut F, packet: &mut Packet) -> Result<(), DropReason> {
    let is_missing = has_no_udp_checksum(frame, packet);
    if packet.fragment.is_some() {
        return if is_missing {
            Err(DropReason::NoUdpChecksum)
        } else {
            Ok(())
        };
    }
    finish_checksum(frame, packet, is_missing);
    packet.partial_checksum = false;
    Ok(())
}

fn emit_ipv6(ip: &mut [u8], packet: &Packet, new: &Key, class: u8) {
    let upper = packet.key.protocol;
    ipv6::Header {
        traffic_class: class,
        payload_length: (packet.ip_length - ipv6::HEADER) as u16,
        next_header: packet.fragment.map_or(upper, |_| ipv6::FRAGMENT),
        hop_limit: packet.ttl,
        source: new.source,
        destination: new.destination,
    }
    .emit(ip);
    if let Some(fragment) = packet.fragment {
        let header = &mut ip[ipv6::HEADER..ipv6::HEADER + ipv6::FRAGMENT_HEADER];
        header[0] = upper;
        header[1] = 0;
        put_u16(header, 2, fragment.offset | u16::from(fragment.more));
        put_u32(header, 4, fragment.id);
    }
}

fn emit_ipv4(ip: &mut [u8], packet: &Packet, new: &Key, class: u8, identification: u16) {
    let (identification, flags) = match packet.fragment {
        // The low half of the identification, as all pieces of the datagram have it.
        Some(fragment) => {
            let more = if fragment.more { ipv4::MORE_FRAGMENTS } else { 0 };
            (fragment.id as u16, (fragment.offset / 8) | more)
        }
        None if packet.dont_fragment => (identification, ipv4::DONT_FRAGMENT),
        None => (identification, 0),
    };
    ipv4::Header {
        tos: class,
        total_length: packet.ip_length as u16,
        identification,
        fragment: flags,
        ttl: packet.ttl,
        protocol: packet.key.protocol,
        source: new.source,
        destination: new.destination,
    }
    .emit(ip);
}

/// Opens a gap of `count` bytes at offset `at` by moving everything before it to the front, and lengthens the packet. The gap's bytes are the caller's to
/// write, and to add to the transport checksum; the change of length is already in it.
///
/// # Errors
/// `NoHeadroom`.
pub fn insert_gap<F: Frame>(frame: &mut F, packet: &mut Packet, at: usize, count: usize) -> Result<(), DropReason> {
    if packet.ip_length + count > 65_535 {
        return Err(DropReason::TooBig);
    }
    frame.push_front(count).map_err(|_| DropReason::NoHeadroom)?;
    frame.head_mut().copy_within(count..count + at, 0);
    packet.ip_length += count;
    let bytes = frame.head_mut();
    let ip = &mut bytes[packet.ip..];
    match packet.family {
        Family::V4 => ipv4::set_word(ip, ipv4::TOTAL_LENGTH, packet.ip_length as u16),
        Family::V6 => put_u16(ip, ipv6::PAYLOAD_LENGTH, (packet.ip_length - ipv6::HEADER) as u16),
    }
    // The length stands in the pseudo-header, and for UDP in its header too.
    let mut delta = Sum(count as u32);
    if packet.key.protocol == protocol::UDP {
        let length = packet.transport + udp::LENGTH;
        let longer = get_u16(bytes, length).wrapping_add(count as u16);
        put_u16(bytes, length, longer);
        delta = Sum(2 * count as u32);
    }
    patch_transport_checksum(frame, packet, delta);
    Ok(())
}

/// Changes a 32-bit word of the transport header and keeps the checksum right.
pub fn set_transport_u32<F: Frame>(frame: &mut F, packet: &Packet, at: usize, value: u32) {
    let at = packet.transport + at;
    let bytes = frame.head_mut();
    let old = get_u32(bytes, at);
    put_u32(bytes, at, value);
    let halves = |word: u32| Sum((word >> 16) + (word & 0xffff));
    patch_transport_checksum(frame, packet, halves(value).minus(halves(old)));
}

/// Lowers the maximum segment size that a SYN announces to `limit`; says whether it was lowered.
pub fn clamp_mss<F: Frame>(frame: &mut F, packet: &Packet, limit: u16) -> bool {
    if packet.key.protocol != protocol::TCP || packet.tcp_flags & tcp::SYN == 0 || packet.is_later_fragment() {
        return false;
    }
    let transport = &frame.head()[packet.transport..];
    let Some(at) = tcp::find_mss(transport) else {
        return false;
    };
    let old = tcp::mss_at(transport, at);
    if old <= limit {
        return false;
    }
    put_u16(frame.head_mut(), packet.transport + at, limit);
    // An option can stand at an odd offset; then its bytes are in the other halves of the summed words.
    let place = |word: u16| Sum(u32::from(if at % 2 == 0 { word } else { word.swap_bytes() }));
    patch_transport_checksum(frame, packet, place(limit).minus(place(old)));
    true
}

/// Cuts off what pads the frame behind the packet: inside a tunnel, or with something inserted, it would only make the frame longer. Linux does so too.
#[inline]
pub fn trim<F: Frame>(frame: &mut F, packet: &Packet) {
    let end = packet.ip + packet.ip_length;
    if frame.head().len() > end {
        // Shorter than the buffer as it is, so it cannot fail.
        let _ = frame.set_length(end);
    }
}

/// Writes the link-layer header for a next hop; the frame is ready to go out of its port then.
///
/// # Errors
/// `NoHeadroom`.
#[inline(always)]
pub fn send_to<F: Frame>(frame: &mut F, packet: &mut Packet, hop: &NextHop) -> Result<(), DropReason> {
    trim(frame, packet);
    match hop.link_header() {
        LinkHeader::Tagged(tagged) => put_link_header(frame, packet, tagged),
        LinkHeader::Untagged(untagged) => put_link_header(frame, packet, untagged),
    }
}

#[inline(always)]
fn put_link_header<F: Frame, const N: usize>(
    frame: &mut F,
    packet: &mut Packet,
    header: &[u8; N],
) -> Result<(), DropReason> {
    let (have, need) = (packet.ip, N);
    if need > have {
        frame.push_front(need - have).map_err(|_| DropReason::NoHeadroom)?;
    } else if need < have {
        frame.pull_front(have - need);
    }
    packet.transport = packet.transport - have + need;
    packet.ip = need;
    let ethertype = match packet.family {
        Family::V4 => ethernet::IPV4,
        Family::V6 => ethernet::IPV6,
    };
    let bytes = frame.head_mut();
    bytes[..N].copy_from_slice(header);
    put_u16(bytes, N - 2, ethertype);
    Ok(())
}

/// Adds the sum of freshly written bytes, which stand at an even offset of the transport header, to its checksum.
pub fn add_inserted<F: Frame>(frame: &mut F, packet: &Packet, at: usize, count: usize) {
    let delta = checksum::Sum::of(&frame.head()[at..at + count]);
    patch_transport_checksum(frame, packet, delta);
}
