use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::route::RouteNextHop;

use super::*;
use crate::neighbor::example::ip;

fn v4(a: u8, b: u8, c: u8, d: u8) -> RouteAddress {
    RouteAddress::Inet(Ipv4Addr::new(a, b, c, d))
}

fn v6(text: &str) -> RouteAddress {
    RouteAddress::Inet6(text.parse::<Ipv6Addr>().unwrap())
}

fn route_message(family: AddressFamily, length: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.table = 254;
    message.header.kind = RouteType::Unicast;
    message.attributes = attributes;
    message
}

#[test]
fn a_route_with_all_its_trimmings() {
    let message = route_message(
        AddressFamily::Inet,
        8,
        vec![
            RouteAttribute::Destination(v4(10, 0, 0, 0)),
            RouteAttribute::Priority(100),
            RouteAttribute::PrefSource(v4(192, 0, 2, 1)),
            RouteAttribute::Metrics(vec![RouteMetric::Advmss(1200), RouteMetric::Mtu(1400)]),
            RouteAttribute::Gateway(v4(192, 0, 2, 254)),
            RouteAttribute::Oif(2),
        ],
    );
    let expected = Route {
        table: RouteTable::Main,
        prefix: ip("10.0.0.0"),
        prefix_length: 8,
        metric: 100,
        kind: RouteKind::Unicast,
        hops: vec![RouteHop {
            ifindex: 2,
            gateway: Some(ip("192.0.2.254")),
            weight: 1,
            encapsulated: false,
        }],
        preferred_source: Some(ip("192.0.2.1")),
        mtu: Some(1400),
    };
    assert_eq!(route(&message), Some(expected));
}

#[test]
fn default_routes_have_the_zero_address_of_their_family() {
    let gateway = |gateway| vec![RouteAttribute::Gateway(gateway), RouteAttribute::Oif(2)];
    let four = route(&route_message(AddressFamily::Inet, 0, gateway(v4(192, 0, 2, 254)))).unwrap();
    let six = route(&route_message(AddressFamily::Inet6, 0, gateway(v6("fe80::1")))).unwrap();
    assert_eq!((four.prefix, four.prefix_length), (ip("0.0.0.0"), 0));
    assert_eq!(
        (six.prefix, six.prefix_length, six.hops[0].gateway),
        (ip("::"), 0, Some(ip("fe80::1")))
    );
}

#[test]
fn multipath_weights_and_a_gateway_of_the_other_family() {
    let mut first = RouteNextHop::default();
    first.interface_index = 2;
    first.hops = 4;
    first.attributes = vec![RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()))];
    let mut second = RouteNextHop::default();
    second.interface_index = 3;
    second.attributes = vec![RouteAttribute::Gateway(v4(198, 51, 100, 254))];
    let hops = vec![RouteAttribute::MultiPath(vec![first, second])];
    let route = route(&route_message(AddressFamily::Inet, 0, hops)).unwrap();
    let found: Vec<_> = route
        .hops
        .iter()
        .map(|hop| (hop.ifindex, hop.weight, hop.gateway))
        .collect();
    assert_eq!(
        found,
        [(3, 1, Some(ip("198.51.100.254"))), (2, 5, Some(ip("fe80::1")))],
        "in our order"
    );
}

#[test]
fn routes_of_no_concern_are_left_out() {
    let plain = || route_message(AddressFamily::Inet, 0, vec![RouteAttribute::Oif(2)]);
    assert!(route(&plain()).is_some());
    let mut other_table = plain();
    other_table.attributes.push(RouteAttribute::Table(1000));
    let mut by_dscp = plain();
    by_dscp.header.tos = 0x10;
    let mut by_source = plain();
    by_source.header.source_prefix_length = 64;
    let mut exception = plain();
    exception.header.flags = RouteFlags::Cloned;
    let mpls = route_message(AddressFamily::Mpls, 20, Vec::new());
    let mapped = vec![RouteAttribute::Destination(v6("::ffff:0:0")), RouteAttribute::Oif(1)];
    let mapped = route_message(AddressFamily::Inet6, 96, mapped);
    for message in [other_table, by_dscp, by_source, exception, mpls, mapped] {
        assert_eq!(route(&message), None, "{message:?}");
    }
}

#[test]
fn the_headers_flags_place_a_route() {
    let placed = |flags| {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let message = route_message(AddressFamily::Inet, 0, vec![RouteAttribute::Oif(2)]);
        match change(&header, RouteNetlinkMessage::NewRoute(message)) {
            Some(Change::Route(_, placement)) => placement,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(placed(0), Placement::First);
    assert_eq!(placed(NLM_F_APPEND), Placement::Last);
    assert_eq!(placed(NLM_F_REPLACE), Placement::Replace);
}

fn link_message(flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 2;
    message.header.flags = flags;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = vec![
        LinkAttribute::IfName("eth0".to_string()),
        LinkAttribute::Mtu(9000),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
        LinkAttribute::Link(7),
    ];
    message
}

#[test]
fn links_and_what_their_flags_mean() {
    let up = LinkFlags::Up | LinkFlags::Running;
    let plain = link(&link_message(up)).unwrap();
    assert!(plain.is_usable() && plain.resolves_neighbours && plain.vlan.is_none() && plain.mtu == 9000);
    assert!(!link(&link_message(LinkFlags::Up)).unwrap().is_usable(), "no carrier");
    for flag in [LinkFlags::Noarp, LinkFlags::Pointopoint, LinkFlags::Loopback] {
        assert!(!link(&link_message(up | flag)).unwrap().resolves_neighbours, "{flag:?}");
    }
    let mut vlan = link_message(up);
    let data = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(100)]));
    vlan.attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), data]));
    assert_eq!(link(&vlan).unwrap().vlan, Some(VlanParent { parent: 7, id: 100 }));
}

#[test]
fn a_bridge_port_that_leaves_is_not_a_link_that_goes() {
    let mut message = link_message(LinkFlags::Up);
    let header = NetlinkHeader::default();
    let gone = Some(Change::LinkGone { ifindex: 2 });
    assert_eq!(change(&header, RouteNetlinkMessage::DelLink(message.clone())), gone);
    message.header.interface_family = AddressFamily::Bridge;
    assert_eq!(change(&header, RouteNetlinkMessage::DelLink(message.clone())), None);
    assert_eq!(change(&header, RouteNetlinkMessage::NewLink(message)), None);
}

#[test]
fn addresses_own_peer_and_unready() {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = 2;
    message.header.prefix_len = 24;
    let own = AddressAttribute::Local(IpAddr::from([192, 0, 2, 1]));
    message.attributes = vec![AddressAttribute::Address(IpAddr::from([192, 0, 2, 99])), own];
    let plain = address(&message).unwrap();
    assert_eq!(
        (plain.address, plain.prefix_length, plain.usable),
        (ip("192.0.2.1"), 24, true)
    );
    let usable = |flags| {
        let mut message = message.clone();
        message.attributes.push(AddressAttribute::Flags(flags));
        address(&message).unwrap().usable
    };
    assert!(!usable(AddressFlags::Tentative) && !usable(AddressFlags::Deprecated));
    assert!(!usable(AddressFlags::Dadfailed | AddressFlags::Tentative));
    assert!(usable(AddressFlags::Tentative | AddressFlags::Optimistic));
}

#[test]
fn neighbours_and_what_is_none() {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = 2;
    message.header.state = KernelState::Stale;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet6("fe80::1".parse().unwrap())),
        NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed),
        NeighbourAttribute::Protocol(117.into()),
    ];
    let expected = Neighbour {
        ifindex: 2,
        address: ip("fe80::1"),
        mac: Some([2, 0, 0, 0, 0, 1]),
        state: NeighbourState::Stale,
        managed: true,
        protocol: 117,
    };
    assert_eq!(neighbour(&message), Some(expected));
    let mut proxy = message.clone();
    proxy.header.flags = NeighbourFlags::Proxy;
    assert_eq!(neighbour(&proxy), None);
    message.header.family = AddressFamily::Bridge;
    assert_eq!(neighbour(&message), None);
}
