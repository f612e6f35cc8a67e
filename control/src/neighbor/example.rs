//! A small network for the unit tests: eth0 (2, port), eth1 (3, port), vlan7 (4, on eth1), tun0 (5, no neighbours).

use std::net::IpAddr;

use ulvs_dataplane::address::Address;

use super::model::{
    InterfaceAddress, Link, Neighbour, NeighbourState, Route, RouteHop, RouteKind, RouteTable, Scope, VlanParent,
};
use super::view::{Change, KernelView};

pub const ETH0: u32 = 2;
pub const ETH1: u32 = 3;
pub const VLAN7: u32 = 4;
pub const TUN0: u32 = 5;

pub fn ip(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().unwrap())
}

pub fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

pub fn link(ifindex: u32) -> Link {
    Link {
        ifindex,
        name: ["", "lo", "eth0", "eth1", "vlan7", "tun0"][ifindex as usize].to_string(),
        mac: (ifindex != TUN0).then_some(mac(ifindex as u8)),
        mtu: 1500,
        up: true,
        running: true,
        resolves_neighbours: ifindex != TUN0,
        vlan: (ifindex == VLAN7).then_some(VlanParent { parent: ETH1, id: 7 }),
    }
}

pub fn down(ifindex: u32) -> Change {
    Change::Link(Link {
        up: false,
        running: false,
        ..link(ifindex)
    })
}

pub fn address(ifindex: u32, text: &str) -> InterfaceAddress {
    let (address, length) = prefix(text);
    InterfaceAddress {
        ifindex,
        address,
        prefix_length: length,
        scope: Scope::Global,
        secondary: false,
        usable: true,
    }
}

pub fn prefix(text: &str) -> (Address, u8) {
    let (address, length) = text.split_once('/').unwrap();
    (ip(address), length.parse().unwrap())
}

pub fn hop(ifindex: u32, gateway: Option<&str>) -> RouteHop {
    RouteHop {
        ifindex,
        gateway: gateway.map(ip),
        weight: 1,
        encapsulated: false,
    }
}

/// A unicast route of the main table.
pub fn route(text: &str, hops: &[RouteHop]) -> Route {
    let (prefix, prefix_length) = prefix(text);
    Route {
        table: RouteTable::Main,
        prefix,
        prefix_length,
        metric: 0,
        kind: RouteKind::Unicast,
        hops: hops.to_vec(),
        preferred_source: None,
        mtu: None,
    }
}

pub fn neighbour(ifindex: u32, address: &str, state: NeighbourState, last: u8) -> Neighbour {
    Neighbour {
        ifindex,
        address: ip(address),
        mac: Some(mac(last)),
        state,
        managed: false,
        protocol: 0,
    }
}

/// The links and one address of each family on each port; the connected routes; no gateway.
pub fn view() -> KernelView {
    let mut view = KernelView::new();
    view.apply(Change::AllLinks([ETH0, ETH1, VLAN7, TUN0].map(link).to_vec()));
    view.apply(Change::AllAddresses(vec![
        address(ETH0, "192.0.2.1/24"),
        address(ETH0, "2001:db8:1::1/64"),
        address(ETH1, "198.51.100.1/24"),
        address(ETH1, "2001:db8:2::1/64"),
    ]));
    let mut own = route("192.0.2.1/32", &[hop(ETH0, None)]);
    own.table = RouteTable::Local;
    own.kind = RouteKind::Local;
    view.apply(Change::AllRoutes(vec![
        own,
        route("192.0.2.0/24", &[hop(ETH0, None)]),
        route("2001:db8:1::/64", &[hop(ETH0, None)]),
        route("198.51.100.0/24", &[hop(ETH1, None)]),
        route("2001:db8:2::/64", &[hop(ETH1, None)]),
    ]));
    view
}

/// The example's view with more routes.
pub fn view_with(routes: Vec<Route>) -> KernelView {
    let mut view = view();
    for route in routes {
        view.apply(Change::Route(route, super::model::Placement::Last));
    }
    view
}
