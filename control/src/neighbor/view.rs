//! The model: links, addresses, routes and neighbours as the kernel last told them.

use std::collections::BTreeMap;

use ulvs_dataplane::address::Address;

use super::model::{InterfaceAddress, Link, Neighbour, Placement, Route, RouteHop, RouteKind, RouteTable};

/// One thing that the kernel told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The complete list of links; others are gone.
    AllLinks(Vec<Link>),
    /// The complete list of addresses.
    AllAddresses(Vec<InterfaceAddress>),
    /// The complete list of routes, in the kernel's order.
    AllRoutes(Vec<Route>),
    /// The complete list of neighbours.
    AllNeighbours(Vec<Neighbour>),
    /// A link is new or changed.
    Link(Link),
    /// A link was removed, and all that was on it.
    LinkGone {
        /// Its index.
        ifindex: u32,
    },
    /// An address is new or changed.
    Address(InterfaceAddress),
    /// An address was removed.
    AddressGone {
        /// The interface that carried it.
        ifindex: u32,
        /// The address.
        address: Address,
        /// The length of its on-link prefix.
        prefix_length: u8,
    },
    /// A route is new.
    Route(Route, Placement),
    /// A route was removed; of an IPv6 multipath route perhaps only the hops named.
    RouteGone(Route),
    /// A neighbour is new or changed.
    Neighbour(Neighbour),
    /// A neighbour entry was removed.
    NeighbourGone {
        /// The interface on which it was.
        ifindex: u32,
        /// Its address.
        address: Address,
    },
}

type RouteKey = (RouteTable, Address, u8);

fn key(route: &Route) -> RouteKey {
    (route.table, route.prefix, route.prefix_length)
}

/// Everything that the kernel told so far. Equal views forward equally.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelView {
    links: BTreeMap<u32, Link>,
    /// In the kernel's order: the first fitting one is the kernel's choice of source.
    addresses: Vec<InterfaceAddress>,
    /// By prefix; inside, by metric and then in the kernel's order.
    routes: BTreeMap<RouteKey, Vec<Route>>,
    neighbours: BTreeMap<(u32, Address), Neighbour>,
}

impl KernelView {
    /// A view of nothing, before the first dump.
    pub fn new() -> KernelView {
        KernelView::default()
    }

    /// Takes one change in. True if it may alter where packets go, false if it is of no consequence (a neighbour that went
    /// from reachable to stale, a repeated message), so that no new snapshot is needed.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::AllLinks(links) => replace(
                &mut self.links,
                links.into_iter().map(|link| (link.ifindex, link)).collect(),
            ),
            Change::AllAddresses(addresses) => replace(&mut self.addresses, addresses),
            Change::AllRoutes(routes) => self.set_all_routes(routes),
            Change::AllNeighbours(neighbours) => self.set_all_neighbours(neighbours),
            Change::Link(link) => {
                let old = self.links.insert(link.ifindex, link.clone());
                old.as_ref() != Some(&link)
            }
            Change::LinkGone { ifindex } => self.remove_link(ifindex),
            Change::Address(address) => self.set_address(address),
            Change::AddressGone {
                ifindex,
                address,
                prefix_length,
            } => {
                let before = self.addresses.len();
                self.addresses.retain(|have| {
                    (have.ifindex, have.address, have.prefix_length) != (ifindex, address, prefix_length)
                });
                self.addresses.len() != before
            }
            Change::Route(route, placement) => self.set_route(route, placement),
            Change::RouteGone(route) => self.remove_route(&route),
            Change::Neighbour(neighbour) => {
                let old = self
                    .neighbours
                    .insert((neighbour.ifindex, neighbour.address), neighbour);
                old.and_then(|old| old.usable_mac()) != neighbour.usable_mac()
            }
            Change::NeighbourGone { ifindex, address } => {
                let old = self.neighbours.remove(&(ifindex, address));
                old.and_then(|old| old.usable_mac()).is_some()
            }
        }
    }

    /// The link with this index.
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// The link with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// All links, by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// All addresses, in the kernel's order.
    pub fn addresses(&self) -> &[InterfaceAddress] {
        &self.addresses
    }

    /// All routes, by table and prefix, the preferred first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().flatten()
    }

    /// All neighbours, by interface and address.
    pub fn neighbours(&self) -> impl Iterator<Item = &Neighbour> {
        self.neighbours.values()
    }

    /// The entry of a neighbour.
    pub fn neighbour(&self, ifindex: u32, address: Address) -> Option<&Neighbour> {
        self.neighbours.get(&(ifindex, address))
    }

    /// The routes with exactly this prefix, the preferred first.
    pub(super) fn routes_at(&self, table: RouteTable, prefix: Address, prefix_length: u8) -> &[Route] {
        self.routes
            .get(&(table, prefix, prefix_length))
            .map_or(&[], Vec::as_slice)
    }

    /// The prefixes of one table, each with its routes.
    pub(super) fn prefixes(&self, table: RouteTable) -> impl Iterator<Item = (Address, u8, &[Route])> {
        self.routes
            .iter()
            .filter(move |((of, _, _), _)| *of == table)
            .map(|((_, prefix, length), routes)| (*prefix, *length, routes.as_slice()))
    }

    fn set_all_routes(&mut self, routes: Vec<Route>) -> bool {
        let mut fresh: BTreeMap<RouteKey, Vec<Route>> = BTreeMap::new();
        for route in routes {
            place(fresh.entry(key(&route)).or_default(), route, Placement::Last);
        }
        replace(&mut self.routes, fresh)
    }

    fn set_all_neighbours(&mut self, neighbours: Vec<Neighbour>) -> bool {
        let usable = |map: &BTreeMap<(u32, Address), Neighbour>| -> Vec<_> {
            map.iter()
                .filter_map(|(key, neighbour)| Some((*key, neighbour.usable_mac()?)))
                .collect()
        };
        let before = usable(&self.neighbours);
        self.neighbours = neighbours
            .into_iter()
            .map(|neighbour| ((neighbour.ifindex, neighbour.address), neighbour))
            .collect();
        usable(&self.neighbours) != before
    }

    fn remove_link(&mut self, ifindex: u32) -> bool {
        self.addresses.retain(|address| address.ifindex != ifindex);
        self.neighbours.retain(|(on, _), _| *on != ifindex);
        self.links.remove(&ifindex).is_some()
    }

    fn set_address(&mut self, address: InterfaceAddress) -> bool {
        let same = |have: &&mut InterfaceAddress| {
            (have.ifindex, have.address, have.prefix_length)
                == (address.ifindex, address.address, address.prefix_length)
        };
        match self.addresses.iter_mut().find(same) {
            Some(have) => replace(have, address),
            None => {
                self.addresses.push(address);
                true
            }
        }
    }

    fn set_route(&mut self, route: Route, placement: Placement) -> bool {
        let routes = self.routes.entry(key(&route)).or_default();
        let before = routes.clone();
        place(routes, route, placement);
        *routes != before
    }

    fn remove_route(&mut self, gone: &Route) -> bool {
        let Some(routes) = self.routes.get_mut(&key(gone)) else {
            return false;
        };
        let before = routes.clone();
        match routes.iter().position(|have| is_same_route(have, gone)) {
            Some(at) => {
                routes.remove(at);
            }
            // One hop of an IPv6 multipath route is deleted like a route of its own; the siblings stay.
            None => {
                for have in routes
                    .iter_mut()
                    .filter(|have| have.metric == gone.metric && have.kind == gone.kind)
                {
                    have.hops
                        .retain(|hop| !gone.hops.iter().any(|other| is_same_hop(hop, other)));
                }
                routes.retain(|have| have.kind != RouteKind::Unicast || !have.hops.is_empty());
            }
        }
        let changed = *routes != before;
        if routes.is_empty() {
            self.routes.remove(&key(gone));
        }
        changed
    }
}

/// Puts a value in place of another; true if they differ.
fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

/// Puts a route among those with its prefix: by metric, and inside a metric where the kernel put it.
fn place(routes: &mut Vec<Route>, route: Route, placement: Placement) {
    // A dump and the event that raced with it tell of the same route twice.
    routes.retain(|have| !is_same_route(have, &route));
    if !route.prefix.is_v4() {
        // IPv6 joins routes with equal prefix and metric into one multipath route, and then tells of the whole.
        routes.retain(|have| !is_part_of(have, &route));
    }
    if placement == Placement::Replace {
        let replaced = routes.iter().position(|have| have.metric == route.metric);
        if let Some(at) = replaced {
            routes.remove(at);
        }
    }
    let at = match placement {
        Placement::First | Placement::Replace => routes.iter().position(|have| have.metric >= route.metric),
        Placement::Last => routes.iter().position(|have| have.metric > route.metric),
    };
    routes.insert(at.unwrap_or(routes.len()), route);
}

/// Whether the kernel would call both one route: same metric, kind and ways out. Attributes may differ.
fn is_same_route(a: &Route, b: &Route) -> bool {
    a.metric == b.metric
        && a.kind == b.kind
        && a.hops.len() == b.hops.len()
        && a.hops.iter().zip(&b.hops).all(|(x, y)| is_same_hop(x, y))
}

fn is_part_of(small: &Route, large: &Route) -> bool {
    small.metric == large.metric
        && small.kind == large.kind
        && !small.hops.is_empty()
        && small
            .hops
            .iter()
            .all(|hop| large.hops.iter().any(|other| is_same_hop(hop, other)))
}

fn is_same_hop(a: &RouteHop, b: &RouteHop) -> bool {
    (a.ifindex, a.gateway) == (b.ifindex, b.gateway)
}

#[cfg(test)]
mod tests;
