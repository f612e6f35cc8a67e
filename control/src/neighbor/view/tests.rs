use super::*;
use crate::neighbor::example::{ETH0, ETH1, address, down, hop, ip, link, mac, neighbour, route, view, view_with};
use crate::neighbor::model::NeighbourState;

fn hops_of(view: &KernelView, text: &str) -> Vec<Vec<u32>> {
    let (prefix, length) = crate::neighbor::example::prefix(text);
    let routes = view.routes_at(RouteTable::Main, prefix, length);
    routes
        .iter()
        .map(|route| route.hops.iter().map(|hop| hop.ifindex).collect())
        .collect()
}

#[test]
fn repeated_news_are_of_no_consequence() {
    let mut view = view();
    assert!(!view.apply(Change::Link(link(ETH0))));
    assert!(!view.apply(Change::Address(address(ETH0, "192.0.2.1/24"))));
    assert!(!view.apply(Change::Route(
        route("192.0.2.0/24", &[hop(ETH0, None)]),
        Placement::First
    )));
    let links = view.links().cloned().collect();
    assert!(!view.apply(Change::AllLinks(links)));
    let routes = view.routes().cloned().collect();
    assert!(!view.apply(Change::AllRoutes(routes)));
    assert!(view.apply(down(ETH0)));
}

#[test]
fn only_a_neighbours_usable_mac_is_of_consequence() {
    let mut view = view();
    assert!(view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Reachable,
        9
    ))));
    for same in [
        NeighbourState::Stale,
        NeighbourState::Delay,
        NeighbourState::Probe,
        NeighbourState::Permanent,
    ] {
        assert!(
            !view.apply(Change::Neighbour(neighbour(ETH0, "192.0.2.9", same, 9))),
            "{same:?}"
        );
    }
    assert!(view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Stale,
        10
    ))));
    assert!(view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Failed,
        10
    ))));
    assert!(!view.apply(Change::NeighbourGone {
        ifindex: ETH0,
        address: ip("192.0.2.9")
    }));
    assert!(!view.apply(Change::NeighbourGone {
        ifindex: ETH0,
        address: ip("192.0.2.9")
    }));
}

#[test]
fn states_decide_whether_a_mac_is_usable() {
    let usable = |state| neighbour(ETH0, "192.0.2.9", state, 9).usable_mac();
    for state in [NeighbourState::None, NeighbourState::Incomplete, NeighbourState::Failed] {
        assert_eq!(usable(state), None, "{state:?}");
    }
    for state in [
        NeighbourState::Reachable,
        NeighbourState::Stale,
        NeighbourState::Delay,
        NeighbourState::Probe,
        NeighbourState::NoArp,
        NeighbourState::Permanent,
    ] {
        assert_eq!(usable(state), Some(mac(9)), "{state:?}");
    }
}

#[test]
fn a_complete_list_removes_what_it_does_not_name() {
    let mut view = view();
    view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Reachable,
        9,
    )));
    assert!(view.apply(Change::AllNeighbours(Vec::new())));
    assert!(view.apply(Change::AllRoutes(Vec::new())));
    assert!(view.apply(Change::AllAddresses(Vec::new())));
    assert!(view.apply(Change::AllLinks(Vec::new())));
    assert_eq!(view, KernelView::new());
}

#[test]
fn a_removed_link_takes_its_addresses_and_neighbours() {
    let mut view = view();
    view.apply(Change::Neighbour(neighbour(
        ETH0,
        "192.0.2.9",
        NeighbourState::Reachable,
        9,
    )));
    view.apply(Change::Neighbour(neighbour(
        ETH1,
        "198.51.100.9",
        NeighbourState::Reachable,
        8,
    )));
    assert!(view.apply(Change::LinkGone { ifindex: ETH0 }));
    assert!(view.addresses().iter().all(|address| address.ifindex == ETH1));
    assert_eq!(view.neighbours().map(|have| have.ifindex).collect::<Vec<_>>(), [ETH1]);
    assert!(view.link(ETH0).is_none() && view.link_named("eth1").is_some());
}

#[test]
fn placement_orders_routes_with_equal_metric() {
    let mut view = view_with(vec![route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))])]);
    let other = route("10.0.0.0/8", &[hop(ETH1, Some("198.51.100.254"))]);
    view.apply(Change::Route(other.clone(), Placement::Last));
    assert_eq!(hops_of(&view, "10.0.0.0/8"), [[ETH0], [ETH1]]);
    view.apply(Change::Route(other.clone(), Placement::First));
    assert_eq!(hops_of(&view, "10.0.0.0/8"), [[ETH1], [ETH0]], "moved, not doubled");
    let third = route("10.0.0.0/8", &[hop(ETH0, None)]);
    view.apply(Change::Route(third, Placement::Replace));
    assert_eq!(
        hops_of(&view, "10.0.0.0/8"),
        [[ETH0], [ETH0]],
        "the used one was replaced"
    );
    let mut cheap = other;
    cheap.metric = 10;
    view.apply(Change::Route(cheap, Placement::First));
    assert_eq!(
        hops_of(&view, "10.0.0.0/8"),
        [[ETH0], [ETH0], [ETH1]],
        "behind all lower metrics"
    );
}

#[test]
fn replace_leaves_other_metrics_alone() {
    let mut backup = route("10.0.0.0/8", &[hop(ETH1, Some("198.51.100.254"))]);
    backup.metric = 50;
    let mut view = view_with(vec![backup, route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.254"))])]);
    view.apply(Change::Route(
        route("10.0.0.0/8", &[hop(ETH0, Some("192.0.2.253"))]),
        Placement::Replace,
    ));
    assert_eq!(hops_of(&view, "10.0.0.0/8"), [[ETH0], [ETH1]]);
}

#[test]
fn ipv6_siblings_join_into_one_route_and_part_again() {
    let first = hop(ETH0, Some("2001:db8:1::fe"));
    let second = hop(ETH1, Some("2001:db8:2::fe"));
    let mut view = view_with(vec![route("2001:db8:9::/48", &[first])]);
    view.apply(Change::Route(
        route("2001:db8:9::/48", &[first, second]),
        Placement::Last,
    ));
    assert_eq!(hops_of(&view, "2001:db8:9::/48"), [[ETH0, ETH1]]);
    assert!(view.apply(Change::RouteGone(route("2001:db8:9::/48", &[first]))));
    assert_eq!(hops_of(&view, "2001:db8:9::/48"), [[ETH1]]);
    assert!(view.apply(Change::RouteGone(route("2001:db8:9::/48", &[second]))));
    assert!(!view.apply(Change::RouteGone(route("2001:db8:9::/48", &[second]))));
    assert!(hops_of(&view, "2001:db8:9::/48").is_empty());
}

#[test]
fn two_ipv6_default_routes_from_advertisements_stay_two() {
    let a = route("::/0", &[hop(ETH0, Some("fe80::a"))]);
    let b = route("::/0", &[hop(ETH0, Some("fe80::b"))]);
    let mut view = view_with(vec![a.clone(), b]);
    assert!(view.apply(Change::RouteGone(a)));
    assert_eq!(view.routes().filter(|route| route.prefix_length == 0).count(), 1);
}
