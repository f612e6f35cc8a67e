use super::*;
use crate::neighbor::example::{ETH0, ETH1, TUN0, address, down, hop, ip, link, route, view, view_with};
use crate::neighbor::view::Change;

fn forward(view: &KernelView, destination: &str) -> Forward {
    match view.route(ip(destination)) {
        RouteResult::Forward(forward) => forward,
        other => panic!("{destination}: {other:?}"),
    }
}

fn way(view: &KernelView, destination: &str) -> (u32, String) {
    let forward = forward(view, destination);
    (forward.ifindex, forward.next_hop.to_string())
}

fn reason(view: &KernelView, destination: &str) -> Unreachable {
    match view.route(ip(destination)) {
        RouteResult::Unreachable(reason) => reason,
        other => panic!("{destination}: {other:?}"),
    }
}

fn special(text: &str, kind: RouteKind) -> Route {
    Route {
        kind,
        ..route(text, &[])
    }
}

#[test]
fn connected_destinations_are_their_own_next_hop() {
    let view = view();
    assert_eq!(way(&view, "192.0.2.9"), (ETH0, "192.0.2.9".to_string()));
    assert_eq!(way(&view, "2001:db8:2::9"), (ETH1, "2001:db8:2::9".to_string()));
    assert!(!forward(&view, "192.0.2.9").via_gateway);
}

#[test]
fn the_longest_prefix_wins_over_the_lower_metric() {
    let mut long = route("10.1.0.0/16", &[hop(ETH1, Some("198.51.100.254"))]);
    long.metric = 500;
    let view = view_with(vec![route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]), long]);
    assert_eq!(way(&view, "10.1.2.3"), (ETH1, "198.51.100.254".to_string()));
    assert_eq!(way(&view, "10.2.2.3"), (ETH0, "192.0.2.254".to_string()));
    assert!(forward(&view, "10.1.2.3").via_gateway);
}

#[test]
fn the_lowest_metric_wins_among_equal_prefixes() {
    let mut backup = route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]);
    backup.metric = 20;
    let mut primary = route("10.0.0.0/8", &[hop(ETH1, Some("198.51.100.254"))]);
    primary.metric = 10;
    for order in [vec![backup.clone(), primary.clone()], vec![primary, backup]] {
        assert_eq!(way(&view_with(order), "10.1.2.3").0, ETH1);
    }
}

#[test]
fn the_kernels_first_route_wins_among_equal_metrics() {
    let a = route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]);
    let b = route("10.0.0.0/8", &[hop(ETH1, Some("198.51.100.254"))]);
    assert_eq!(way(&view_with(vec![a.clone(), b.clone()]), "10.1.2.3").0, ETH0);
    assert_eq!(way(&view_with(vec![b, a]), "10.1.2.3").0, ETH1);
}

#[test]
fn default_routes_of_both_families() {
    assert_eq!(reason(&view(), "203.0.113.1"), Unreachable::NoRoute);
    assert_eq!(reason(&view(), "2001:db8:ffff::1"), Unreachable::NoRoute);
    let view = view_with(vec![
        route("0.0.0.0/0", &[hop(ETH0, Some("192.0.2.254"))]),
        route("::/0", &[hop(ETH1, Some("fe80::1"))]),
    ]);
    assert_eq!(way(&view, "203.0.113.1"), (ETH0, "192.0.2.254".to_string()));
    assert_eq!(way(&view, "2001:db8:ffff::1"), (ETH1, "fe80::1".to_string()));
    let source = forward(&view, "2001:db8:ffff::1").source;
    assert_eq!(
        source,
        Some(ip("2001:db8:2::1")),
        "a link-local gateway does not make the source link-local"
    );
}

#[test]
fn a_link_that_is_down_takes_its_routes_out_of_use() {
    let mut backup = route("10.0.0.0/8", &[hop(ETH1, Some("198.51.100.254"))]);
    backup.metric = 20;
    let mut view = view_with(vec![
        route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]),
        backup,
        route("0.0.0.0/0", &[hop(ETH1, Some("198.51.100.253"))]),
        route("10.7.0.0/16", &[hop(ETH0, Some("192.0.2.253"))]),
    ]);
    view.apply(down(ETH0));
    assert_eq!(way(&view, "10.1.2.3").1, "198.51.100.254", "the next metric");
    assert_eq!(way(&view, "10.7.2.3").1, "198.51.100.254", "the next shorter prefix");
    view.apply(Change::Link(Link {
        running: false,
        ..link(ETH1)
    }));
    assert_eq!(reason(&view, "10.7.2.3"), Unreachable::LinkDown { ifindex: ETH0 });
    view.apply(Change::Link(link(ETH0)));
    assert_eq!(way(&view, "10.7.2.3").1, "192.0.2.253");
}

#[test]
fn routes_that_lead_nowhere_say_why() {
    let mut wrapped = hop(ETH0, Some("192.0.2.254"));
    wrapped.encapsulated = true;
    let view = view_with(vec![
        route("0.0.0.0/0", &[hop(ETH0, Some("192.0.2.254"))]),
        special("10.1.0.0/16", RouteKind::Blackhole),
        special("10.2.0.0/16", RouteKind::Unreachable),
        special("10.3.0.0/16", RouteKind::Prohibit),
        special("10.4.0.0/16", RouteKind::Unicast),
        route("10.5.0.0/16", &[hop(TUN0, None)]),
        route("10.6.0.0/16", &[wrapped]),
    ]);
    assert_eq!(reason(&view, "10.1.0.1"), Unreachable::Blackhole);
    assert_eq!(reason(&view, "10.2.0.1"), Unreachable::UnreachableRoute);
    assert_eq!(reason(&view, "10.3.0.1"), Unreachable::Prohibit);
    assert_eq!(reason(&view, "10.4.0.1"), Unreachable::NexthopObject);
    assert_eq!(reason(&view, "10.5.0.1"), Unreachable::NotEthernet { ifindex: TUN0 });
    assert_eq!(reason(&view, "10.6.0.1"), Unreachable::Encapsulated);
    for group in ["224.0.0.18", "255.255.255.255", "ff02::1"] {
        assert_eq!(reason(&view, group), Unreachable::NotUnicast, "{group}");
    }
    assert_eq!(way(&view, "10.7.0.1").0, ETH0);
}

#[test]
fn own_addresses_are_local_and_link_local_ones_have_no_way() {
    let view = view_with(vec![route("fe80::/64", &[hop(ETH0, None)])]);
    assert_eq!(view.route(ip("192.0.2.1")), RouteResult::Local { ifindex: ETH0 });
    assert_eq!(reason(&view, "fe80::5"), Unreachable::LinkLocal);
}

#[test]
fn throw_goes_on_with_the_next_table() {
    let mut last = route("0.0.0.0/0", &[hop(ETH1, Some("198.51.100.254"))]);
    last.table = RouteTable::Default;
    let view = view_with(vec![
        route("0.0.0.0/0", &[hop(ETH0, Some("192.0.2.254"))]),
        special("10.0.0.0/8", RouteKind::Throw),
        last,
    ]);
    assert_eq!(way(&view, "10.1.2.3").0, ETH1);
    assert_eq!(way(&view, "11.1.2.3").0, ETH0);
}

#[test]
fn multipath_spreads_by_weight_and_avoids_dead_links() {
    let mut heavy = hop(ETH1, Some("198.51.100.254"));
    heavy.weight = 3;
    let mut view = view_with(vec![route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254")), heavy])]);
    let on_eth1 = |view: &KernelView| {
        (0..=255_u8)
            .filter(|last| forward(view, &format!("10.0.0.{last}")).ifindex == ETH1)
            .count()
    };
    // 192 of 256 expected; the hash is fixed, so this cannot waver.
    let share = on_eth1(&view);
    assert!((160..=224).contains(&share), "{share}");
    assert_eq!(way(&view, "10.9.9.9"), way(&view.clone(), "10.9.9.9"));
    view.apply(down(ETH1));
    assert_eq!(on_eth1(&view), 0);
    view.apply(Change::Link(link(ETH1)));
    assert_eq!(on_eth1(&view), share);
}

#[test]
fn the_preferred_source_wins_then_the_subnet_then_the_first() {
    let mut preferred = route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]);
    preferred.preferred_source = Some(ip("203.0.113.7"));
    let mut view = view_with(vec![preferred, route("11.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))])]);
    assert_eq!(forward(&view, "10.1.2.3").source, Some(ip("203.0.113.7")));
    // A virtual address that stands first on the interface does not become the source.
    view.apply(Change::AllAddresses(vec![
        address(ETH0, "203.0.113.80/32"),
        InterfaceAddress {
            secondary: true,
            ..address(ETH0, "192.0.2.3/24")
        },
        InterfaceAddress {
            usable: false,
            ..address(ETH0, "192.0.2.4/24")
        },
        address(ETH0, "192.0.2.1/24"),
    ]));
    assert_eq!(forward(&view, "11.1.2.3").source, Some(ip("192.0.2.1")));
    view.apply(Change::AllAddresses(vec![address(ETH0, "203.0.113.80/32")]));
    assert_eq!(forward(&view, "11.1.2.3").source, Some(ip("203.0.113.80")));
}

#[test]
fn an_interface_without_addresses_borrows_one() {
    let mut view = view_with(vec![route("10.0.0.0/8", &[hop(ETH0, Some("fe80::1"))])]);
    view.apply(Change::AllAddresses(vec![
        address(ETH1, "2001:db8:2::1/64"),
        address(ETH1, "198.51.100.1/24"),
    ]));
    let unnumbered = forward(&view, "10.1.2.3");
    assert_eq!(
        (unnumbered.next_hop, unnumbered.source),
        (ip("fe80::1"), Some(ip("198.51.100.1")))
    );
    view.apply(Change::AllAddresses(Vec::new()));
    assert_eq!(forward(&view, "10.1.2.3").source, None);
}

#[test]
fn the_route_lowers_the_mtu_but_never_raises_it() {
    let with = |mtu| {
        let mut route = route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))]);
        route.mtu = mtu;
        forward(&view_with(vec![route]), "10.1.2.3").mtu
    };
    assert_eq!(
        (with(None), with(Some(1400)), with(Some(9000)), with(Some(0))),
        (1500, 1400, 1500, 1500)
    );
}
