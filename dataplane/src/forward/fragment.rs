//! Cutting an IPv4 packet that may be fragmented into pieces that fit (RFC 791 section 3.2).

use crate::io::Frame;
use crate::parse::{Fragment, Packet};
use crate::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::{get_u16, ipv4, put_u16};

/// The fields of one piece.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    length: usize,
    more: bool,
}

/// Cuts the packet into pieces of at most `limit` bytes, each in a frame from `spare`, and gives them to `emit` in order, with their own [`Packet`]. The
/// frame itself is left as it was.
///
/// # Errors
/// `NoFrame` when there are not enough spare frames (nothing was emitted), `TooBig` when `limit` leaves no room for data.
pub fn split<F: Frame>(
    frame: &F,
    packet: &Packet,
    limit: usize,
    spare: &mut Vec<F>,
    mut emit: impl FnMut(F, Packet),
) -> Result<usize, DropReason> {
    let header = ipv4::header_length(&frame.head()[packet.ip..]);
    let room = limit.saturating_sub(header) / 8 * 8;
    if room == 0 {
        return Err(DropReason::TooBig);
    }
    let data = packet.ip_length - header;
    let count = data.div_ceil(room);
    if spare.len() < count {
        return Err(DropReason::NoFrame);
    }
    let id = u32::from(get_u16(frame.head(), packet.ip + ipv4::IDENTIFICATION));
    let (offset, was_more) = packet.fragment.map_or((0, false), |whole| (whole.offset, whole.more));
    for number in 0..count {
        let start = number * room;
        let piece = Piece {
            start,
            length: room.min(data - start),
            more: was_more || number + 1 < count,
        };
        let Some(mut into) = spare.pop() else {
            return Err(DropReason::NoFrame);
        };
        if into.set_length(packet.ip + header + piece.length).is_err() {
            spare.push(into);
            return Err(DropReason::NoFrame);
        }
        into.head_mut()[..packet.ip + header].copy_from_slice(&frame.head()[..packet.ip + header]);
        copy_out(
            frame,
            packet.ip + header + piece.start,
            &mut into.head_mut()[packet.ip + header..],
        );
        if number > 0 {
            blank_options(&mut into.head_mut()[packet.ip..packet.ip + header]);
        }
        let own_offset = offset + piece.start as u16;
        let ip = &mut into.head_mut()[packet.ip..];
        ipv4::set_word(ip, ipv4::TOTAL_LENGTH, (header + piece.length) as u16);
        ipv4::set_word(
            ip,
            ipv4::FRAGMENT,
            (own_offset / 8) | if piece.more { ipv4::MORE_FRAGMENTS } else { 0 },
        );
        let mut own = *packet;
        own.ip_length = header + piece.length;
        own.transport = packet.ip + header;
        own.fragment = Some(Fragment {
            id,
            offset: own_offset,
            more: piece.more,
        });
        emit(into, own);
    }
    Ok(count)
}

/// Later fragments carry only the options whose "copied" bit says so (RFC 791 section 3.1); the others become no-operations, as in Linux.
fn blank_options(ip: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut at = ipv4::HEADER;
    while at < ip.len() && ip[at] != END {
        let length = match ip.get(at + 1) {
            _ if ip[at] == NO_OPERATION => 1,
            Some(&length) if length >= 2 && at + usize::from(length) <= ip.len() => usize::from(length),
            _ => break,
        };
        if ip[at] & COPIED == 0 {
            ip[at..at + length].fill(NO_OPERATION);
        }
        at += length;
    }
    if ip.len() > ipv4::HEADER {
        put_u16(ip, ipv4::CHECKSUM, 0);
        let checksum = Sum::of(ip).to_checksum();
        put_u16(ip, ipv4::CHECKSUM, checksum);
    }
}

/// Copies bytes from `at` on, over all segments.
fn copy_out<F: Frame>(frame: &F, at: usize, mut into: &mut [u8]) {
    let mut skip = at;
    for segment in std::iter::once(frame.head()).chain(frame.tail()) {
        if skip >= segment.len() {
            skip -= segment.len();
            continue;
        }
        let from = &segment[skip..];
        let count = from.len().min(into.len());
        into[..count].copy_from_slice(&from[..count]);
        into = &mut into[count..];
        skip = 0;
        if into.is_empty() {
            return;
        }
    }
}
