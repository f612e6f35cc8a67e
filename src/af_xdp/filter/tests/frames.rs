//! Frames as they would arrive.

use super::*;

pub(super) const UNICAST: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

pub(super) fn ethernet_to(mac: [u8; 6], tags: &[(u16, u16)], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2]);
    for (tag_type, control) in tags {
        frame.extend(tag_type.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An Ethernet frame around an IP packet of either family.
pub(super) fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet_to(UNICAST, &[], if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
}

pub(super) fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes().as_slice(), &destination.to_be_bytes(), &[0; 16]].concat()
}

pub(super) fn icmp(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], body].concat()
}

/// An IPv4 or IPv6 packet, as the addresses say.
pub(super) fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (address(source), address(destination));
    if source.is_v4() {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend(source.wire());
        packet.extend(destination.wire());
        packet.extend(payload);
        packet
    } else {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        packet.extend(source.wire());
        packet.extend(destination.wire());
        packet.extend(payload);
        packet
    }
}

/// Makes an IPv4 packet a fragment at this offset (in bytes).
pub(super) fn fragment_v4(mut packet: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    packet[6..8].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
    packet
}

/// Puts an IPv6 extension header in front of a payload; the header before it must say `kind`.
pub(super) fn extension(next: u8, eighths: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 8 + usize::from(eighths) * 8];
    header[0] = next;
    header[1] = eighths;
    [header.as_slice(), payload].concat()
}

pub(super) fn fragment_header(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = (offset & 0xfff8) | u16::from(more);
    [&[next, 0], field.to_be_bytes().as_slice(), &[0, 0, 0, 1], payload].concat()
}

pub(super) fn arp(operation: u8, target: [u8; 4]) -> Vec<u8> {
    let mut arp = vec![
        0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 2, 10, 0, 0, 99, 0, 0, 0, 0, 0, 0,
    ];
    arp.extend(target);
    ethernet_to([255; 6], &[], 0x0806, &arp)
}

pub(super) fn neighbour_discovery(kind: u8, target: &str) -> Vec<u8> {
    let message = icmp(kind, address(target).wire());
    ethernet_to(
        GROUP,
        &[],
        0x86dd,
        &packet("fd00::99", "ff02::1:ff00:10", ICMPV6, &message),
    )
}
