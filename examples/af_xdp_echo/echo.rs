//! Answers ARP for one IPv4 address and sends every UDP packet for it back to where it came from.

use std::net::Ipv4Addr;
use ulvs::af_xdp::{AfXdpFrame, AfXdpIo};
use ulvs_dataplane::io::{BURST, Frame, Io, PortIndex};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const PROTOCOL_UDP: u8 = 17;

/// Turns a frame into its answer. False when there is none.
pub fn answer(frame: &mut AfXdpFrame, mac: [u8; 6], address: Ipv4Addr) -> bool {
    let head = frame.head_mut();
    if head.len() < 14 {
        return false;
    }
    let answered = match [head[12], head[13]] {
        ETHERTYPE_ARP => answer_arp(&mut head[14..], mac, address),
        ETHERTYPE_IPV4 => turn_udp(&mut head[14..], address),
        _ => false,
    };
    if answered {
        head.copy_within(6..12, 0);
        head[6..12].copy_from_slice(&mac);
    }
    answered
}

fn answer_arp(arp: &mut [u8], mac: [u8; 6], address: Ipv4Addr) -> bool {
    if arp.len() < 28 || arp[6..8] != [0, 1] || arp[24..28] != address.octets() {
        return false;
    }
    arp[7] = 2;
    arp.copy_within(8..18, 18);
    arp[8..14].copy_from_slice(&mac);
    arp[14..18].copy_from_slice(&address.octets());
    true
}

fn turn_udp(packet: &mut [u8], address: Ipv4Addr) -> bool {
    if packet.len() < 28 || packet[0] != 0x45 || packet[9] != PROTOCOL_UDP || packet[16..20] != address.octets() {
        return false;
    }
    // Neither checksum changes when source and destination change places.
    packet[12..20].rotate_left(4);
    packet[20..24].rotate_left(2);
    // But a sender on the same machine leaves its own half done. UDP over IPv4 may go without (RFC 768).
    packet[26..28].fill(0);
    true
}

/// One turn of a worker's loop: answers what arrived on every port, there. Returns how many frames arrived.
pub fn turn(io: &mut AfXdpIo, macs: &[[u8; 6]], address: Ipv4Addr) -> usize {
    let mut received = Vec::with_capacity(BURST);
    let mut answers = Vec::with_capacity(BURST);
    let mut count = 0;
    io.housekeeping();
    for (index, mac) in macs.iter().enumerate() {
        let port = PortIndex(index as u8);
        io.receive(port, &mut received);
        count += received.len();
        for mut frame in received.drain(..) {
            match answer(&mut frame, *mac, address) {
                true => answers.push(frame),
                false => io.free(frame),
            }
        }
        io.transmit(port, &mut answers);
    }
    count
}
