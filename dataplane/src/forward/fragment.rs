//! Cutting an IPv4 packet that may be fragmented into pieces that fit (RFC 791 section 3.2).

use crate::io::Frame;
use crate::parse::{Fragment, Packet};
use crate::verdict::DropReason;
use crate::wire::{get_u16, ipv4};

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
        let own_offset = offset + piece.start as u16;
        let ip = &mut into.head_mut()[packet.ip..];
        ipv4::set_word(ip, ipv4::TOTAL_LENGTH, (header + piece.length) as u16);
        ipv4::set_word(
            ip,
            ipv4::FRAGMENT,
            own_offset / 8 | if piece.more { ipv4::MORE_FRAGMENTS } else { 0 },
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
