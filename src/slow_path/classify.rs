//! How important a frame is, by its first bytes.

/// Classes of frames on the slow path, the most important one first. They differ in who can send such a frame: only a station on the link,
/// or anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Without which the link or the director is taken for dead, and which no router forwards: VRRP, single-hop BFD, OSPF and IS-IS
    /// between neighbours, LACP, LLDP.
    Urgent,
    /// Other routing protocols, which can come from afar: BGP, multihop BFD, unicast OSPF, PIM, EIGRP, RIP.
    Routing,
    /// ARP, neighbour discovery and group membership.
    Neighbour,
    /// Everything else.
    Rest,
}

impl Class {
    /// All of them, in order.
    pub const ALL: [Class; 4] = [Class::Urgent, Class::Routing, Class::Neighbour, Class::Rest];
}

// Ethertypes (IEEE 802).
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
const SLOW_PROTOCOLS: u16 = 0x8809;
const SERVICE_VLAN: u16 = 0x88a8;
const LLDP: u16 = 0x88cc;
/// Below it, the field is a length, and an LLC header follows (IEEE 802.3).
const LEAST_ETHERTYPE: u16 = 0x0600;
/// The LLC service access points of IS-IS and its relatives (ISO 10589).
const LLC_OSI: [u8; 2] = [0xfe, 0xfe];

// IP protocols.
const HOP_BY_HOP: u8 = 0;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const EIGRP: u8 = 88;
const OSPF: u8 = 89;
const PIM: u8 = 103;
const VRRP: u8 = 112;

// Transport ports.
const BGP: u16 = 179;
const RIP: u16 = 520;
const RIPNG: u16 = 521;
/// Control and echo, RFC 5881 section 4.
const BFD: [u16; 2] = [3784, 3785];
/// RFC 5883 section 5.
const BFD_MULTIHOP: u16 = 4784;

/// What only a station on this link can have sent: every router lowers it.
const LARGEST_TTL: u8 = 255;

/// The class of a frame. What is too short to tell is the rest.
pub fn classify(frame: &[u8]) -> Class {
    by_ethertype(frame).unwrap_or(Class::Rest)
}

fn by_ethertype(frame: &[u8]) -> Option<Class> {
    let mut at = 12;
    let mut ethertype = word(frame, at)?;
    for _ in 0..2 {
        if matches!(ethertype, VLAN | SERVICE_VLAN) {
            at += 4;
            ethertype = word(frame, at)?;
        }
    }
    let payload = frame.get(at + 2..)?;
    match ethertype {
        SLOW_PROTOCOLS | LLDP => Some(Class::Urgent),
        ARP => Some(Class::Neighbour),
        IPV4 => ipv4(payload),
        IPV6 => ipv6(payload),
        0..LEAST_ETHERTYPE if payload.starts_with(&LLC_OSI) => Some(Class::Urgent),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Class> {
    let transport = usize::from(packet.first()? & 0x0f) * 4;
    // A later fragment has no ports; none of these protocols needs fragments.
    if word(packet, 6)? & 0x1fff != 0 {
        return None;
    }
    let (ttl, protocol) = (*packet.get(8)?, *packet.get(9)?);
    // 224.0.0.0/24 is never forwarded (RFC 5771 section 4).
    let is_link_group = packet.get(16..19)? == [224, 0, 0];
    by_protocol(protocol, ttl, is_link_group, packet.get(transport..)?)
}

fn ipv6(packet: &[u8]) -> Option<Class> {
    let mut protocol = *packet.get(6)?;
    let hop_limit = *packet.get(7)?;
    // ff02::/16 is never forwarded (RFC 4291 section 2.7).
    let is_link_group = packet.get(24..26)? == [0xff, 0x02];
    let mut at = 40;
    // Multicast listener reports come behind a hop-by-hop header (RFC 3810 section 5).
    for _ in 0..2 {
        if matches!(protocol, HOP_BY_HOP | DESTINATION_OPTIONS) {
            protocol = *packet.get(at)?;
            at += (usize::from(*packet.get(at + 1)?) + 1) * 8;
        }
    }
    by_protocol(protocol, hop_limit, is_link_group, packet.get(at..)?)
}

fn by_protocol(protocol: u8, ttl: u8, is_link_group: bool, transport: &[u8]) -> Option<Class> {
    let is_from_link = ttl == LARGEST_TTL;
    match protocol {
        // RFC 9568 section 5.1.1.3: a receiver discards any other TTL.
        VRRP if is_from_link => Some(Class::Urgent),
        OSPF if is_link_group => Some(Class::Urgent),
        OSPF | EIGRP | PIM => Some(Class::Routing),
        IGMP => Some(Class::Neighbour),
        TCP if word(transport, 0)? == BGP || word(transport, 2)? == BGP => Some(Class::Routing),
        UDP => match word(transport, 2)? {
            // RFC 5881 section 5.
            port if BFD.contains(&port) && is_from_link => Some(Class::Urgent),
            BFD_MULTIHOP | RIP | RIPNG => Some(Class::Routing),
            _ => None,
        },
        ICMPV6 => match transport.first()? {
            // RFC 4861 section 7.1: any other hop limit is invalid.
            133..=137 if is_from_link => Some(Class::Neighbour),
            // RFC 2710, RFC 3810: multicast listeners.
            130..=132 | 143 => Some(Class::Neighbour),
            _ => None,
        },
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests;
