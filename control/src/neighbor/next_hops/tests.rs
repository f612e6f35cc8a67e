use super::*;
use crate::neighbor::example::{
    ETH0, ETH1, TUN0, VLAN7, address, down, hop, ip, link, mac, neighbour, route, view_with,
};
use crate::neighbor::model::{NeighbourState, Placement, RouteKind};
use crate::neighbor::view::Change;

fn ports() -> Vec<Port> {
    let port = |index, last, interfaces: &[(u32, Option<u16>)]| Port {
        index,
        mac: mac(last),
        interfaces: interfaces
            .iter()
            .map(|(ifindex, vlan)| PortInterface {
                ifindex: *ifindex,
                vlan: *vlan,
            })
            .collect(),
    };
    vec![port(0, 0xa0, &[(ETH0, None)]), port(1, 0xa1, &[(VLAN7, Some(7))])]
}

/// A default route by a link-local gateway and one by the VLAN; eth1 is not a port.
fn network() -> KernelView {
    let mut view = view_with(vec![
        route("10.7.0.0/16", &[hop(VLAN7, None)]),
        route("0.0.0.0/0", &[hop(VLAN7, Some("10.7.0.254"))]),
        route("::/0", &[hop(ETH0, Some("fe80::1"))]),
        route("10.99.0.0/16", &[hop(TUN0, None)]),
        Route {
            kind: RouteKind::Blackhole,
            ..route("10.66.0.0/16", &[])
        },
        route("fe80::/64", &[hop(ETH0, None)]),
    ]);
    view.apply(Change::Address(address(VLAN7, "10.7.0.1/16")));
    view
}

fn via(facts: &ForwardingFacts, text: &str) -> Option<Via> {
    let (prefix, length) = crate::neighbor::example::prefix(text);
    let found = facts
        .routes
        .iter()
        .find(|route| (route.prefix, route.prefix_length) == (prefix, length));
    found.map(|route| route.via)
}

fn next_hop(facts: &ForwardingFacts, destination: &str) -> NextHopFacts {
    match facts.destinations[&ip(destination)] {
        Destination::NextHop(number) => facts.next_hops[number],
        other => panic!("{destination}: {other:?}"),
    }
}

#[test]
fn a_wanted_server_is_unresolved_until_its_neighbour_is_known() {
    let mut view = network();
    let wanted = [ip("10.7.0.9")];
    let before = forwarding_facts(&view, &ports(), &wanted);
    let mut expected = NextHopFacts {
        interface: VLAN7,
        vlan: Some(7),
        neighbour: ip("10.7.0.9"),
        destination_mac: None,
        source_mac: mac(0xa1),
        mtu: 1500,
        source_v4: Some(ip("10.7.0.1")),
        source_v6: Some(ip("2001:db8:1::1")),
    };
    assert_eq!(next_hop(&before, "10.7.0.9"), expected);
    assert!(before.to_resolve.contains(&(VLAN7, ip("10.7.0.9"))));
    view.apply(Change::Neighbour(neighbour(
        VLAN7,
        "10.7.0.9",
        NeighbourState::Reachable,
        9,
    )));
    expected.destination_mac = Some(mac(9));
    assert_eq!(
        next_hop(&forwarding_facts(&view, &ports(), &wanted), "10.7.0.9"),
        expected
    );
}

#[test]
fn servers_behind_one_gateway_share_its_next_hop() {
    let mut view = network();
    view.apply(Change::Neighbour(neighbour(ETH0, "fe80::1", NeighbourState::Stale, 1)));
    let wanted = [ip("2001:db8:9::1"), ip("2001:db8:9::2")];
    let facts = forwarding_facts(&view, &ports(), &wanted);
    assert_eq!(facts.destinations[&wanted[0]], facts.destinations[&wanted[1]]);
    let gateway = next_hop(&facts, "2001:db8:9::1");
    assert_eq!(
        (gateway.neighbour, gateway.destination_mac),
        (ip("fe80::1"), Some(mac(1)))
    );
    assert_eq!(gateway.source_v6, Some(ip("2001:db8:1::1")));
    let Some(Via::Gateway {
        ifindex: ETH0,
        address,
        next_hop,
    }) = via(&facts, "::/0")
    else {
        panic!("{facts:?}")
    };
    assert_eq!((address, facts.next_hops[next_hop]), (ip("fe80::1"), gateway));
}

#[test]
fn destinations_that_no_port_reaches_say_so() {
    let wanted = ["198.51.100.9", "10.99.0.1", "10.66.0.1", "192.0.2.1"].map(ip);
    let facts = forwarding_facts(&network(), &ports(), &wanted);
    let reached: Vec<_> = wanted.iter().map(|wanted| facts.destinations[wanted]).collect();
    assert_eq!(
        reached,
        [
            Destination::Unreachable(Unreachable::NotOnAPort { ifindex: ETH1 }),
            Destination::Unreachable(Unreachable::NotEthernet { ifindex: TUN0 }),
            Destination::Unreachable(Unreachable::Blackhole),
            Destination::Local,
        ]
    );
    assert!(
        facts
            .to_resolve
            .iter()
            .all(|(ifindex, _)| *ifindex != ETH1 && *ifindex != TUN0)
    );
}

#[test]
fn the_prefixes_are_the_main_tables() {
    let facts = forwarding_facts(&network(), &ports(), &[]);
    assert_eq!(via(&facts, "192.0.2.0/24"), Some(Via::OnLink { ifindex: ETH0 }));
    assert_eq!(via(&facts, "10.7.0.0/16"), Some(Via::OnLink { ifindex: VLAN7 }));
    assert!(matches!(
        via(&facts, "0.0.0.0/0"),
        Some(Via::Gateway { ifindex: VLAN7, .. })
    ));
    assert_eq!(
        via(&facts, "10.66.0.0/16"),
        Some(Via::Unreachable(Unreachable::Blackhole))
    );
    assert_eq!(via(&facts, "192.0.2.1/32"), None, "own addresses are not forwarded to");
    assert_eq!(via(&facts, "fe80::/64"), None, "link-local packets are not forwarded");
    let elsewhere = Some(Via::Unreachable(Unreachable::NotOnAPort { ifindex: ETH1 }));
    assert_eq!(
        via(&facts, "198.51.100.0/24"),
        elsewhere,
        "left out, it would leave by the default route"
    );
    let gateways = BTreeSet::from([(VLAN7, ip("10.7.0.254")), (ETH0, ip("fe80::1"))]);
    assert_eq!(facts.to_resolve, gateways);
}

#[test]
fn a_prefix_whose_links_are_down_gives_way_to_shorter_ones() {
    let mut view = network();
    view.apply(down(ETH0));
    let facts = forwarding_facts(&view, &ports(), &[ip("192.0.2.9")]);
    assert_eq!(via(&facts, "192.0.2.0/24"), None);
    assert_eq!(via(&facts, "::/0"), None);
    assert_eq!(next_hop(&facts, "192.0.2.9").neighbour, ip("10.7.0.254"));
}

#[test]
fn the_default_table_fills_only_what_main_leaves_open() {
    let fallback = |text| {
        let mut route = route(text, &[hop(ETH0, Some("192.0.2.254"))]);
        route.table = RouteTable::Default;
        Change::Route(route, Placement::Last)
    };
    let mut view = network();
    view.apply(fallback("0.0.0.0/0"));
    view.apply(fallback("172.16.0.0/12"));
    let facts = forwarding_facts(&view, &ports(), &[]);
    assert!(matches!(
        via(&facts, "0.0.0.0/0"),
        Some(Via::Gateway { ifindex: VLAN7, .. })
    ));
    assert_eq!(via(&facts, "172.16.0.0/12"), None, "main's default route answers first");
    view.apply(down(VLAN7));
    let facts = forwarding_facts(&view, &ports(), &[]);
    assert!(matches!(
        via(&facts, "0.0.0.0/0"),
        Some(Via::Gateway { ifindex: ETH0, .. })
    ));
    assert!(matches!(
        via(&facts, "172.16.0.0/12"),
        Some(Via::Gateway { ifindex: ETH0, .. })
    ));
}

#[test]
fn resolved_hosts_on_the_ports_are_next_hops_too() {
    let mut view = network();
    for (ifindex, address, state) in [
        (ETH0, "192.0.2.50", NeighbourState::Stale),
        (ETH0, "192.0.2.51", NeighbourState::Failed),
        (ETH0, "ff02::16", NeighbourState::NoArp),
        (ETH1, "198.51.100.50", NeighbourState::Reachable),
    ] {
        view.apply(Change::Neighbour(neighbour(ifindex, address, state, 50)));
    }
    let facts = forwarding_facts(&view, &ports(), &[]);
    let resolved: Vec<_> = facts
        .next_hops
        .iter()
        .filter(|have| have.destination_mac.is_some())
        .collect();
    assert_eq!(
        resolved.iter().map(|have| have.neighbour).collect::<Vec<_>>(),
        [ip("192.0.2.50")]
    );
    assert!(
        !facts.to_resolve.contains(&(ETH0, ip("192.0.2.50"))),
        "the kernel need not keep it"
    );
    assert_eq!(forwarding_facts(&view, &ports(), &[]), facts);
    view.apply(Change::Link(link(ETH0)));
    assert_eq!(forwarding_facts(&view, &ports(), &[]), facts);
}
