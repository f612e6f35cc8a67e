//! A netlink message becomes a [`Change`], or nothing if it does not concern the view.

use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE, NetlinkHeader};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use ulvs_dataplane::address::Address;

use super::model::{
    InterfaceAddress, Link, Neighbour, NeighbourState, Placement, Route, RouteHop, RouteKind, RouteTable, Scope,
    VlanParent,
};
use super::view::Change;

/// What a message that was not asked for (a multicast event) changes.
pub fn change(header: &NetlinkHeader, message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(message) => link(&message).map(Change::Link),
        // A port that leaves its bridge is told as the removal of a link of family AF_BRIDGE; the link itself stays.
        RouteNetlinkMessage::DelLink(message) if message.header.interface_family == AddressFamily::Unspec => {
            Some(Change::LinkGone {
                ifindex: message.header.index,
            })
        }
        RouteNetlinkMessage::NewAddress(message) => address(&message).map(Change::Address),
        RouteNetlinkMessage::DelAddress(message) => {
            let InterfaceAddress {
                ifindex,
                address,
                prefix_length,
                ..
            } = address(&message)?;
            Some(Change::AddressGone {
                ifindex,
                address,
                prefix_length,
            })
        }
        RouteNetlinkMessage::NewRoute(message) => Some(Change::Route(route(&message)?, placement(header))),
        RouteNetlinkMessage::DelRoute(message) => route(&message).map(Change::RouteGone),
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(&message).map(Change::Neighbour),
        RouteNetlinkMessage::DelNeighbour(message) => {
            let Neighbour { ifindex, address, .. } = neighbour(&message)?;
            Some(Change::NeighbourGone { ifindex, address })
        }
        _ => None,
    }
}

fn placement(header: &NetlinkHeader) -> Placement {
    if header.flags & NLM_F_REPLACE != 0 {
        Placement::Replace
    } else if header.flags & NLM_F_APPEND != 0 {
        Placement::Last
    } else {
        Placement::First
    }
}

/// A link. None for messages of another family (bridge ports) and for partial ones (wireless events), which lack the MTU.
pub fn link(message: &LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mtu, mut mac, mut parent, mut vlan_id) = (None, None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Mtu(value) => mtu = Some(*value),
            LinkAttribute::Address(bytes) => mac = ethernet(bytes),
            LinkAttribute::Link(ifindex) => parent = Some(*ifindex),
            LinkAttribute::LinkInfo(info) => vlan_id = vlan(info),
            _ => {}
        }
    }
    let flags = message.header.flags;
    let unresolved = LinkFlags::Loopback | LinkFlags::Pointopoint | LinkFlags::Noarp;
    Some(Link {
        ifindex: message.header.index,
        name: name?,
        mac,
        mtu: mtu?,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        resolves_neighbours: message.header.link_layer_type == LinkLayerType::Ether
            && mac.is_some()
            && !flags.intersects(unresolved),
        vlan: parent.zip(vlan_id).map(|(parent, id)| VlanParent { parent, id }),
    })
}

fn vlan(info: &[LinkInfo]) -> Option<u16> {
    // Other kinds of link have a parent too (veth: its peer), so the kind decides.
    if !info.iter().any(|part| matches!(part, LinkInfo::Kind(InfoKind::Vlan))) {
        return None;
    }
    info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|item| match item {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}

/// An address.
pub fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let (mut own, mut address) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            // On a link with a peer IFA_LOCAL is the host's own address and IFA_ADDRESS the peer's.
            AddressAttribute::Local(value) => own = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Flags(value) => flags = *value,
            _ => {}
        }
    }
    let unusable = AddressFlags::Dadfailed | AddressFlags::Deprecated;
    let tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    Some(InterfaceAddress {
        ifindex: message.header.index,
        address: from_ip(own.or(address)?)?,
        prefix_length: message.header.prefix_len,
        scope: match message.header.scope {
            AddressScope::Link => Scope::Link,
            AddressScope::Host | AddressScope::Nowhere => Scope::Host,
            _ => Scope::Global,
        },
        secondary: flags.contains(AddressFlags::Secondary),
        usable: !tentative && !flags.intersects(unusable),
    })
}

/// A route of the three tables that the kernel asks by itself. None for other tables, for cached exceptions, and for routes
/// that hold only for some packets (by DSCP or by source prefix).
pub fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let unspecified = unspecified(header.address_family)?;
    let mut table = u32::from(header.table);
    let mut prefix = unspecified;
    let (mut metric, mut preferred_source, mut mtu) = (0, None, None);
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Destination(value) => prefix = from_route_address(value)?,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::PrefSource(value) => preferred_source = from_route_address(value),
            RouteAttribute::Metrics(metrics) => mtu = route_mtu(metrics),
            RouteAttribute::MultiPath(next_hops) => {
                for next_hop in next_hops {
                    // The kernel's rtnh_hops is the weight less one.
                    hops.push(hop(
                        next_hop.interface_index,
                        u32::from(next_hop.hops) + 1,
                        &next_hop.attributes,
                    ));
                }
            }
            _ => {}
        }
    }
    let single = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    if let (true, Some(ifindex)) = (hops.is_empty(), single) {
        hops.push(hop(ifindex, 1, &message.attributes));
    }
    // IPv6 tells the hops of one route in one order in events and in another in dumps. Which hop a destination uses depends on
    // the order, so it is ours.
    hops.sort_by_key(|hop| (hop.gateway, hop.ifindex));
    let prefix_length = header.destination_prefix_length;
    Some(Route {
        table: route_table(table)?,
        prefix: prefix.masked(prefix_length),
        prefix_length,
        metric,
        kind: route_kind(header.kind)?,
        hops,
        preferred_source,
        mtu,
    })
}

fn hop(ifindex: u32, weight: u32, attributes: &[RouteAttribute]) -> RouteHop {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => from_route_address(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => from_ip(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => from_ip(IpAddr::V6(*address)),
        _ => None,
    });
    let encapsulated = attributes
        .iter()
        .any(|attribute| matches!(attribute, RouteAttribute::Encap(_)));
    RouteHop {
        ifindex,
        gateway,
        weight,
        encapsulated,
    }
}

fn route_mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn route_table(number: u32) -> Option<RouteTable> {
    match number {
        255 => Some(RouteTable::Local),
        254 => Some(RouteTable::Main),
        253 => Some(RouteTable::Default),
        _ => None,
    }
}

fn route_kind(kind: RouteType) -> Option<RouteKind> {
    Some(match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local | RouteType::Anycast => RouteKind::Local,
        RouteType::Broadcast | RouteType::Multicast => RouteKind::NotUnicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        _ => return None,
    })
}

/// A neighbour. None for bridge forwarding entries and for proxy entries (addresses that this host answers for).
pub fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    unspecified(message.header.family)?;
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac, mut managed, mut protocol) = (None, None, false, 0);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => address = from_ip(IpAddr::V4(*value)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(value)) => address = from_ip(IpAddr::V6(*value)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = ethernet(bytes),
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(value) => protocol = u8::from(*value),
            _ => {}
        }
    }
    Some(Neighbour {
        ifindex: message.header.ifindex,
        address: address?,
        mac,
        state: neighbour_state(message.header.state),
        managed,
        protocol,
    })
}

fn neighbour_state(state: KernelState) -> NeighbourState {
    match state {
        KernelState::Incomplete => NeighbourState::Incomplete,
        KernelState::Reachable => NeighbourState::Reachable,
        KernelState::Stale => NeighbourState::Stale,
        KernelState::Delay => NeighbourState::Delay,
        KernelState::Probe => NeighbourState::Probe,
        KernelState::Failed => NeighbourState::Failed,
        KernelState::Noarp => NeighbourState::NoArp,
        KernelState::Permanent => NeighbourState::Permanent,
        _ => NeighbourState::None,
    }
}

/// The zero address of a family; none for families that are not IP.
fn unspecified(family: AddressFamily) -> Option<Address> {
    match family {
        AddressFamily::Inet => Some(Address::v4([0; 4])),
        AddressFamily::Inet6 => Some(Address::UNSPECIFIED),
        _ => None,
    }
}

fn from_route_address(address: &RouteAddress) -> Option<Address> {
    match address {
        RouteAddress::Inet(v4) => from_ip(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => from_ip(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// An address, unless it is an IPv6 one in the IPv4-mapped range, which [`Address`] uses for IPv4 itself. (Some systems hold
/// an unreachable route for that range.)
fn from_ip(ip: IpAddr) -> Option<Address> {
    let address = Address::from(ip);
    (address.is_v4() == ip.is_ipv4()).then_some(address)
}

fn ethernet(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests;
