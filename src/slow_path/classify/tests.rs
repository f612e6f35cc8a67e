//! Classes of whole frames, untagged and tagged, and of every beginning of them.

use super::*;

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), payload].concat()
}

/// The same frame with one more tag.
fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    [&frame[..12], &tag.to_be_bytes(), &[0x20, 100], &frame[12..]].concat()
}

fn v4(protocol: u8, ttl: u8, destination: [u8; 4], transport: &[u8]) -> Vec<u8> {
    let head = [0x45, 0, 0, 40, 0, 1, 0x40, 0, ttl, protocol, 0, 0, 192, 0, 2, 7];
    ethernet(IPV4, &[&head[..], &destination, transport].concat())
}

fn v6(next: u8, hop_limit: u8, group: bool, rest: &[u8]) -> Vec<u8> {
    let mut head = vec![0x60, 0, 0, 0, 0, 40, next, hop_limit];
    head.extend([0xfe; 16]);
    head.extend(if group { [0xff, 2] } else { [0xfe, 0x80] });
    head.extend([1; 14]);
    ethernet(IPV6, &[&head[..], rest].concat())
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes(), [0, 8], [0, 0]].concat()
}

const HOST: [u8; 4] = [192, 0, 2, 1];

#[track_caller]
fn expect(class: Class, frame: &[u8]) {
    assert_eq!(classify(frame), class);
    assert_eq!(classify(&tagged(frame, VLAN)), class, "one tag");
    assert_eq!(classify(&tagged(&tagged(frame, VLAN), SERVICE_VLAN)), class, "two tags");
    // Cut anywhere: no panic, and never more important than whole.
    for length in 0..frame.len() {
        assert!(classify(&frame[..length]) >= class, "cut after {length} bytes");
    }
}

#[test]
fn what_only_the_link_can_send_is_urgent() {
    expect(Class::Urgent, &v4(VRRP, 255, [224, 0, 0, 18], &[0x31; 20]));
    expect(Class::Urgent, &v4(VRRP, 255, HOST, &[0x31; 20]));
    expect(Class::Urgent, &v6(VRRP, 255, true, &[0x31; 20]));
    expect(Class::Urgent, &v4(OSPF, 1, [224, 0, 0, 5], &[2; 20]));
    expect(Class::Urgent, &v6(OSPF, 1, true, &[3; 20]));
    for port in BFD {
        expect(Class::Urgent, &v4(UDP, 255, HOST, &ports(49152, port)));
        expect(Class::Urgent, &v6(UDP, 255, false, &ports(49152, port)));
    }
    expect(Class::Urgent, &ethernet(SLOW_PROTOCOLS, &[1; 50]));
    expect(Class::Urgent, &ethernet(LLDP, &[1; 50]));
    expect(Class::Urgent, &ethernet(50, &[0xfe, 0xfe, 3, 0x83]));
}

#[test]
fn routing_from_afar_is_not() {
    expect(Class::Rest, &v4(VRRP, 254, [224, 0, 0, 18], &[0x31; 20]));
    expect(Class::Rest, &v4(UDP, 64, HOST, &ports(49152, 3784)));
    expect(Class::Routing, &v4(OSPF, 1, HOST, &[2; 20]));
    expect(Class::Routing, &v6(OSPF, 64, false, &[2; 20]));
    for ends in [ports(50000, BGP), ports(BGP, 50000)] {
        expect(Class::Routing, &v4(TCP, 64, HOST, &ends));
        expect(Class::Routing, &v6(TCP, 1, false, &ends));
    }
    for port in [BFD_MULTIHOP, RIP, RIPNG] {
        expect(Class::Routing, &v4(UDP, 255, HOST, &ports(port, port)));
    }
    expect(Class::Routing, &v4(PIM, 1, [224, 0, 0, 13], &[0x20; 8]));
}

#[test]
fn neighbours() {
    expect(Class::Neighbour, &ethernet(ARP, &[0; 28]));
    expect(Class::Neighbour, &v4(IGMP, 1, [224, 0, 0, 1], &[0x11; 8]));
    for kind in 133..=137 {
        expect(Class::Neighbour, &v6(ICMPV6, 255, true, &[kind; 24]));
        expect(Class::Rest, &v6(ICMPV6, 254, true, &[kind; 24]));
    }
    // Behind a hop-by-hop header with a router alert.
    let report = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &[143; 20]].concat();
    expect(Class::Neighbour, &v6(HOP_BY_HOP, 1, true, &report));
}

#[test]
fn the_rest() {
    expect(Class::Rest, &v4(TCP, 64, HOST, &ports(50000, 22)));
    expect(Class::Rest, &v4(UDP, 255, HOST, &ports(3784, 53)));
    expect(Class::Rest, &v4(1, 255, HOST, &[8; 8]));
    expect(Class::Rest, &v6(ICMPV6, 255, false, &[128; 8]));
    expect(Class::Rest, &ethernet(50, &[0x42, 0x42, 3]));
    expect(Class::Rest, &ethernet(0x88b5, &[1; 50]));
    // A later fragment, whose first bytes are data that look like ports.
    let mut fragment = v4(TCP, 64, HOST, &ports(50000, BGP));
    fragment[14 + 7] = 1;
    expect(Class::Rest, &fragment);
    // A third tag.
    let vrrp = v4(VRRP, 255, [224, 0, 0, 18], &[0x31; 20]);
    let three = tagged(&tagged(&tagged(&vrrp, VLAN), VLAN), VLAN);
    assert_eq!(classify(&three), Class::Rest);
}

#[test]
fn ipv4_options_are_skipped() {
    let mut frame = v4(TCP, 64, HOST, &[&[1; 8][..], &ports(50000, BGP)].concat());
    frame[14] = 0x47;
    expect(Class::Routing, &frame);
}
