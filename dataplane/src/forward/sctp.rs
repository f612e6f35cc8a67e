//! SCTP's checksum: a CRC32c over the whole packet without addresses, so that only new ports change it.

use super::edit;
use crate::conn::key::Key;
use crate::io::Frame;
use crate::parse::Packet;
use crate::verdict::DropReason;
use crate::wire::sctp;

/// Corrects the checksum for the new ports. A CRC is linear, so the difference of the ports, carried over the length of the packet, is
/// the difference of the checksums: the packet itself is not read, and a checksum that was wrong stays wrong, as with TCP and UDP (the
/// kernel computes it anew and hides such damage).
///
/// # Errors
/// `SctpFragment`: a part of a packet does not tell how long the whole is.
#[cold]
pub fn patch_checksum<F: Frame>(frame: &mut F, packet: &Packet, new: &Key) -> Result<(), DropReason> {
    let old = &packet.key;
    let is_same = (old.source_port, old.destination_port) == (new.source_port, new.destination_port);
    if packet.is_later_fragment() || packet.partial_checksum || is_same {
        return Ok(());
    }
    if packet.fragment.is_some() {
        return Err(DropReason::SctpFragment);
    }
    let stored = stored(frame, packet);
    // RFC 9653: 0 says that there is none.
    if stored != 0 {
        put(frame, packet, stored ^ difference(old, new, packet.transport_length()));
    }
    Ok(())
}

/// What the checksum of a packet of `length` bytes changes by when its ports change from those of `old` to those of `new`.
pub fn difference(old: &Key, new: &Key, length: usize) -> u32 {
    let ports = |key: &Key| {
        let [source, destination] = [key.source_port, key.destination_port].map(u16::to_be_bytes);
        crc32c::crc32c(&[source[0], source[1], destination[0], destination[1]])
    };
    const PORTS: usize = 4;
    crc32c::crc32c_combine(ports(old) ^ ports(new), 0, length.saturating_sub(PORTS))
}

/// Computes the whole checksum, which the sender left to hardware.
pub fn finish_checksum<F: Frame>(frame: &mut F, packet: &Packet) {
    put(frame, packet, 0);
    let checksum = edit::pieces(frame, packet.transport, packet.transport_length()).fold(0, crc32c::crc32c_append);
    put(frame, packet, checksum);
}

fn stored<F: Frame>(frame: &F, packet: &Packet) -> u32 {
    let at = packet.transport + sctp::CHECKSUM;
    let bytes = &frame.head()[at..at + 4];
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn put<F: Frame>(frame: &mut F, packet: &Packet, checksum: u32) {
    let at = packet.transport + sctp::CHECKSUM;
    frame.head_mut()[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::difference;
    use crate::conn::key::Key;

    #[test]
    fn the_difference_is_that_of_the_whole_packets() {
        let key = |source_port, destination_port| Key {
            source_port,
            destination_port,
            ..Key::default()
        };
        for length in [12, 16, 33, 1400] {
            let mut packet: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let (old, new) = (
                key(u16::from_be_bytes([0, 7]), u16::from_be_bytes([14, 21])),
                key(40_000, 3868),
            );
            let before = crc32c::crc32c(&packet);
            packet[..2].copy_from_slice(&new.source_port.to_be_bytes());
            packet[2..4].copy_from_slice(&new.destination_port.to_be_bytes());
            assert_eq!(
                before ^ difference(&old, &new, length),
                crc32c::crc32c(&packet),
                "{length} bytes"
            );
        }
    }
}
