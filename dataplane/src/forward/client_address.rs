//! How a FullNAT server learns the client's address: TCP option 254 ("TOA"), or a PROXY protocol v2 header in front of the stream or datagram.
//!
//! TOA lives in the header, so nothing else changes: it goes on every client segment until the server has acknowledged data (a lost segment must not lose
//! it). A PROXY header is part of the stream: the client's sequence numbers are shifted by its length on the way in and back on the way out. It goes in front of
//! whatever the client sends at its first sequence number, even a bare ACK: a server that speaks first waits for it.

use super::edit;
use crate::address::Family;
use crate::conn::connection::{Connection, flag};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::{ClientAddress, protocol};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::{get_u32, proxy_v2, put_u16, tcp};

/// What was done to a packet of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Nothing was to be done.
    Nothing,
    /// The TCP option.
    Toa,
    /// The TCP option was due but did not fit.
    NoRoom,
    /// The PROXY header.
    Proxy,
}

/// The most bytes that packets of this connection can grow by on their way to the server.
pub fn growth(connection: &Connection) -> usize {
    match connection.client_address {
        ClientAddress::Hidden => 0,
        ClientAddress::Toa => toa_length(connection),
        ClientAddress::ProxyV2 => proxy_v2::length(&connection.client),
    }
}

fn toa_length(connection: &Connection) -> usize {
    match connection.client.family() {
        Family::V4 => tcp::TOA_V4,
        Family::V6 => tcp::TOA_V6,
    }
}

/// Inserts what is due into a client's packet and shifts its sequence number. `room`: bytes that the packet may grow by before it is too big for the path.
///
/// # Errors
/// `NoHeadroom`; `ProxyFragment`; `TooBig` when a PROXY header does not fit, which is never so for peers that heed the clamped segment size.
pub fn inbound<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    connection: &Connection,
    room: usize,
) -> Result<Inserted, DropReason> {
    if connection.client_address == ClientAddress::Hidden {
        return Ok(Inserted::Nothing);
    }
    // Nothing goes into a fragment: it would move the others' data (RFC 791: their offsets are in their own headers). TOA goes on another segment then; a PROXY
    // header that is missing or in the wrong place would be taken for the client's data, so such packets end here, all of their fragments alike.
    let is_datagram = packet.key.protocol == protocol::UDP;
    if packet.is_later_fragment() {
        let is_headed = is_datagram && connection.client_address == ClientAddress::ProxyV2;
        return if is_headed {
            Err(DropReason::ProxyFragment)
        } else {
            Ok(Inserted::Nothing)
        };
    }
    if connection.client_address == ClientAddress::Toa {
        return toa(frame, packet, connection, room);
    }
    if is_datagram {
        return proxy(frame, packet, connection, room);
    }
    let is_bare = packet.tcp_flags & (tcp::SYN | tcp::RST) == 0;
    let sequence = get_u32(frame.head(), packet.transport + tcp::SEQUENCE);
    let from_first = sequence.wrapping_sub(connection.first_sequence) as i32;
    let known = connection.is(flag::CLIENT_ADDRESS_KNOWN);
    if from_first == 0 && !known && is_bare {
        return proxy(frame, packet, connection, room);
    }
    if packet.tcp_flags & tcp::SYN == 0 && (from_first > 0 || known) {
        let shifted = sequence.wrapping_add(u32::from(connection.shift));
        edit::set_transport_u32(frame, packet, tcp::SEQUENCE, shifted);
    }
    Ok(Inserted::Nothing)
}

fn toa<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    connection: &Connection,
    room: usize,
) -> Result<Inserted, DropReason> {
    let due = packet.tcp_flags & (tcp::SYN | tcp::RST | tcp::ACK) == tcp::ACK;
    if !due || connection.is(flag::CLIENT_ADDRESS_KNOWN) {
        return Ok(Inserted::Nothing);
    }
    if packet.fragment.is_some() {
        return Ok(Inserted::NoRoom);
    }
    let length = toa_length(connection);
    let header = tcp::header_length(&frame.head()[packet.transport..]);
    if header + length > tcp::LONGEST_HEADER || length > room {
        return Ok(Inserted::NoRoom);
    }
    // Behind the fixed header and before all other options: an even offset, and the fewest bytes to move.
    let at = packet.transport + tcp::HEADER;
    edit::insert_gap(frame, packet, at, length)?;
    let bytes = frame.head_mut();
    let before = Sum(u32::from(bytes[packet.transport + tcp::DATA_OFFSET]) << 8);
    tcp::grow_header(&mut bytes[packet.transport..], length);
    let after = Sum(u32::from(bytes[packet.transport + tcp::DATA_OFFSET]) << 8);
    bytes[at] = tcp::OPTION_TOA;
    bytes[at + 1] = length as u8;
    put_u16(bytes, at + 2, connection.client_port);
    bytes[at + 4..at + length].copy_from_slice(connection.client.wire());
    edit::patch_transport_checksum(frame, packet, after.minus(before));
    edit::add_inserted(frame, packet, at, length);
    Ok(Inserted::Toa)
}

fn proxy<F: Frame>(
    frame: &mut F,
    packet: &mut Packet,
    connection: &Connection,
    room: usize,
) -> Result<Inserted, DropReason> {
    if packet.fragment.is_some() {
        return Err(DropReason::ProxyFragment);
    }
    let length = proxy_v2::length(&connection.client);
    if length > room {
        return Err(DropReason::TooBig);
    }
    let header = match packet.key.protocol {
        protocol::TCP => tcp::header_length(&frame.head()[packet.transport..]),
        _ => crate::wire::udp::HEADER,
    };
    let at = packet.transport + header;
    edit::insert_gap(frame, packet, at, length)?;
    let Connection {
        client,
        client_port,
        virtual_address,
        virtual_port,
        ..
    } = connection;
    let gap = &mut frame.head_mut()[at..at + length];
    proxy_v2::emit(
        gap,
        packet.key.protocol,
        client,
        *client_port,
        virtual_address,
        *virtual_port,
    );
    edit::add_inserted(frame, packet, at, length);
    Ok(Inserted::Proxy)
}

/// Shifts acknowledgments of the server back, and notes when it has acknowledged what tells it the client's address.
pub fn outbound<F: Frame>(frame: &mut F, packet: &Packet, connection: &mut Connection) {
    if connection.client_address == ClientAddress::Hidden
        || packet.key.protocol != protocol::TCP
        || packet.is_later_fragment()
        || packet.tcp_flags & tcp::ACK == 0
    {
        return;
    }
    let transport = &frame.head()[packet.transport..];
    let acknowledged = get_u32(transport, tcp::ACKNOWLEDGMENT);
    // Which of several SYNs (a client that tries again from the same port chooses a new number) opened the connection, only the server's answer tells.
    if packet.tcp_flags & tcp::SYN != 0 && acknowledged != connection.first_sequence {
        connection.first_sequence = acknowledged;
        connection.flags &= !flag::CLIENT_ADDRESS_KNOWN;
    }
    let from_first = acknowledged.wrapping_sub(connection.first_sequence) as i32;
    let inserted = i32::from(connection.shift);
    // With TOA nothing is inserted into the stream: the first acknowledged byte of data tells.
    if from_first >= inserted.max(1) {
        connection.flags |= flag::CLIENT_ADDRESS_KNOWN;
    }
    if inserted == 0 {
        return;
    }
    let sack = tcp::find_sack_edges(transport);
    let back = |edge: u32| {
        let from_first = edge.wrapping_sub(connection.first_sequence) as i32;
        if from_first <= 0 {
            edge
        } else {
            edge.wrapping_sub(from_first.min(inserted) as u32)
        }
    };
    edit::set_transport_u32(frame, packet, tcp::ACKNOWLEDGMENT, back(acknowledged));
    let Some((at, edges)) = sack else { return };
    for edge in 0..edges {
        let at = at + 4 * edge;
        // RFC 2018 options are usually padded to an even offset; where not, the sum is taken over whole words around it.
        let old = get_u32(frame.head(), packet.transport + at);
        if at % 2 == 0 {
            edit::set_transport_u32(frame, packet, at, back(old));
        } else {
            set_unaligned(frame, packet, at, back(old));
        }
    }
}

fn set_unaligned<F: Frame>(frame: &mut F, packet: &Packet, at: usize, value: u32) {
    let start = packet.transport + at - 1;
    let before = Sum::of(&frame.head()[start..start + 6]);
    frame.head_mut()[start + 1..start + 5].copy_from_slice(&value.to_be_bytes());
    let after = Sum::of(&frame.head()[start..start + 6]);
    edit::patch_transport_checksum(frame, packet, after.minus(before));
}
