//! The frames by which a director says "this address is mine now", so that switches and neighbours turn to it at once.

use ulvs_dataplane::address::Address;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// The least length of an Ethernet frame without its checksum (IEEE 802.3). Not every driver pads a shorter one.
const MINIMUM_FRAME_BYTES: usize = 60;

/// The frame that announces `address` at `mac`: gratuitous ARP for IPv4, an unsolicited neighbour advertisement for IPv6.
pub fn announcement(address: Address, mac: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
    if address.is_v4() {
        gratuitous_arp(address.v4_octets(), mac, vlan)
    } else {
        unsolicited_neighbour_advertisement(*address.octets(), mac, vlan)
    }
}

/// A gratuitous ARP: a request, broadcast, whose sender and target are both the announced address (RFC 5227 section 3, "ARP
/// Announcement"; RFC 5944 section 4.6). The request form is the one that every host takes to heart.
pub fn gratuitous_arp(address: [u8; 4], mac: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
    let mut frame = ethernet_header([0xff; 6], mac, vlan, ETHERTYPE_ARP);
    frame.extend_from_slice(&1_u16.to_be_bytes()); // hardware: Ethernet
    frame.extend_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
    frame.extend_from_slice(&[6, 4]); // address lengths
    frame.extend_from_slice(&1_u16.to_be_bytes()); // operation: request
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&address);
    // RFC 5227 section 1.1: the target hardware address of a request is ignored and should be zero.
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&address);
    frame.resize(frame.len().max(MINIMUM_FRAME_BYTES), 0);
    frame
}

/// An unsolicited neighbour advertisement (RFC 4861 sections 4.4 and 7.2.6): from the announced address to all nodes, with the
/// override flag, so that it replaces what the neighbours know, and with the target's link-layer address. The router flag
/// stays clear: the director is no router for its neighbours.
pub fn unsolicited_neighbour_advertisement(address: [u8; 16], mac: [u8; 6], vlan: Option<u16>) -> Vec<u8> {
    const ALL_NODES: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    // RFC 2464 section 7: 33:33 and the last four octets of the group.
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    const NEXT_HEADER_ICMPV6: u8 = 58;
    const OVERRIDE: u8 = 0x20;

    let mut message = vec![136, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend_from_slice(&address);
    message.extend_from_slice(&[2, 1]); // option: target link-layer address, one unit of eight bytes
    message.extend_from_slice(&mac);
    let checksum = icmpv6_checksum(&address, &ALL_NODES, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet_header(ALL_NODES_MAC, mac, vlan, ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]); // version 6
    frame.extend_from_slice(&(message.len() as u16).to_be_bytes());
    // Hop limit 255: RFC 4861 section 7.1.2 has receivers discard anything that a router could have forwarded.
    frame.extend_from_slice(&[NEXT_HEADER_ICMPV6, 255]);
    frame.extend_from_slice(&address);
    frame.extend_from_slice(&ALL_NODES);
    frame.extend_from_slice(&message);
    frame
}

fn ethernet_header(destination: [u8; 6], source: [u8; 6], vlan: Option<u16>, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MINIMUM_FRAME_BYTES.max(90));
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    if let Some(id) = vlan {
        frame.extend_from_slice(&ETHERTYPE_VLAN.to_be_bytes());
        // Priority 0; an id has twelve bits.
        frame.extend_from_slice(&(id & 0x0fff).to_be_bytes());
    }
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// The ICMPv6 checksum with its pseudo-header (RFC 4443 section 2.3, RFC 8200 section 8.1).
fn icmpv6_checksum(source: &[u8; 16], destination: &[u8; 16], message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
            .sum()
    };
    let mut sum = words(source) + words(destination) + message.len() as u32 + 58 + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;
