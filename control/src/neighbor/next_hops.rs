//! The facts that the dataplane's next-hop and prefix tables are made of, for the interfaces that are ports of the director.

use std::collections::{BTreeMap, BTreeSet};

use ulvs_dataplane::address::Address;

use super::model::{Link, Route, RouteHop, RouteTable};
use super::resolve::{Judgement, RouteResult, Unreachable, hash, is_link_local, is_multicast, route_mtu};
use super::view::KernelView;

/// A port of the director and the kernel interfaces that are on it: the interface itself, and its VLAN interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The director's number for the port.
    pub index: u32,
    /// The Ethernet address that the port sends from.
    pub mac: [u8; 6],
    /// The kernel interfaces whose frames this port carries.
    pub interfaces: Vec<PortInterface>,
}

/// A kernel interface on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInterface {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The 802.1Q id of its frames; none if they are untagged.
    pub vlan: Option<u16>,
}

/// How to reach one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHopFacts {
    /// The kernel interface to which the neighbour is attached.
    pub interface: u32,
    /// The 802.1Q id to tag frames with.
    pub vlan: Option<u16>,
    /// The neighbour's IP address.
    pub neighbour: Address,
    /// Its Ethernet address; none until the kernel has resolved it.
    pub destination_mac: Option<[u8; 6]>,
    /// The Ethernet address to send from.
    pub source_mac: [u8; 6],
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// The director's own IPv4 address towards it.
    pub source_v4: Option<Address>,
    /// The director's own IPv6 address towards it.
    pub source_v6: Option<Address>,
}

/// Where a wanted destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By this entry of [`ForwardingFacts::next_hops`]; its `destination_mac` tells whether it is resolved.
    NextHop(usize),
    /// It is an address of this host.
    Local,
    /// Not at all, and why.
    Unreachable(Unreachable),
}

/// Where a prefix leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Each destination is a neighbour on this interface.
    OnLink {
        /// The kernel interface.
        ifindex: u32,
    },
    /// To a gateway.
    Gateway {
        /// The kernel interface.
        ifindex: u32,
        /// The gateway; perhaps IPv6 for an IPv4 prefix, and perhaps link-local.
        address: Address,
        /// Its entry of [`ForwardingFacts::next_hops`].
        next_hop: usize,
    },
    /// Nowhere that the director could send to. Shorter prefixes must not be tried.
    Unreachable(Unreachable),
}

/// One prefix of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// The prefix, its host bits zero.
    pub prefix: Address,
    /// Its length in bits, in its own family.
    pub prefix_length: u8,
    /// Where it leads.
    pub via: Via,
}

/// Everything that the dataplane needs of the kernel's view. Equal facts need no new snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardingFacts {
    /// Each next hop once: those of the wanted destinations, the routes' gateways, and all resolved neighbours on the ports.
    pub next_hops: Vec<NextHopFacts>,
    /// For each wanted destination, how it is reached.
    pub destinations: BTreeMap<Address, Destination>,
    /// The prefixes, by family and prefix. A multipath prefix leads to one of its hops, by the hash of the prefix.
    pub routes: Vec<RouteFacts>,
    /// Which of the next hops the kernel should keep resolved: those of the wanted destinations and the gateways.
    pub to_resolve: BTreeSet<(u32, Address)>,
}

/// Compiles the view for the director's ports and the destinations (real servers, peers) that it must reach.
pub fn forwarding_facts(view: &KernelView, ports: &[Port], wanted: &[Address]) -> ForwardingFacts {
    let mut compiler = Compiler {
        view,
        interfaces: interfaces(ports),
        numbers: BTreeMap::new(),
        facts: Default::default(),
    };
    for destination in wanted {
        let reached = compiler.destination(*destination);
        compiler.facts.destinations.insert(*destination, reached);
    }
    compiler.routes();
    compiler.neighbours();
    compiler.facts
}

/// What a port says of each of its kernel interfaces.
#[derive(Clone, Copy)]
struct OnPort {
    vlan: Option<u16>,
    mac: [u8; 6],
}

fn interfaces(ports: &[Port]) -> BTreeMap<u32, OnPort> {
    let entry = |port: &Port, interface: &PortInterface| {
        (
            interface.ifindex,
            OnPort {
                vlan: interface.vlan,
                mac: port.mac,
            },
        )
    };
    ports
        .iter()
        .flat_map(|port| port.interfaces.iter().map(move |interface| entry(port, interface)))
        .collect()
}

struct Compiler<'a> {
    view: &'a KernelView,
    interfaces: BTreeMap<u32, OnPort>,
    /// The number of each next hop in `facts.next_hops`. Two routes to one neighbour with different MTU or `src` are two.
    numbers: BTreeMap<NextHopFacts, usize>,
    facts: ForwardingFacts,
}

impl Compiler<'_> {
    fn destination(&mut self, destination: Address) -> Destination {
        let forward = match self.view.route(destination) {
            RouteResult::Forward(forward) => forward,
            RouteResult::Local { .. } => return Destination::Local,
            RouteResult::Unreachable(reason) => return Destination::Unreachable(reason),
        };
        let preferred = forward.source.filter(|source| source.is_v4() == destination.is_v4());
        match self.next_hop(forward.ifindex, forward.next_hop, forward.mtu, preferred) {
            Some(number) => {
                self.facts.to_resolve.insert((forward.ifindex, forward.next_hop));
                Destination::NextHop(number)
            }
            None => Destination::Unreachable(Unreachable::NotOnAPort {
                ifindex: forward.ifindex,
            }),
        }
    }

    /// The number of a next hop; none if the interface is not on a port.
    fn next_hop(&mut self, ifindex: u32, neighbour: Address, mtu: u32, preferred: Option<Address>) -> Option<usize> {
        let on_port = *self.interfaces.get(&ifindex)?;
        let source = |v4: bool| {
            preferred
                .filter(|source| source.is_v4() == v4)
                .or_else(|| self.view.source(ifindex, neighbour, v4))
        };
        let next_hop = NextHopFacts {
            interface: ifindex,
            vlan: on_port.vlan,
            neighbour,
            destination_mac: self
                .view
                .neighbour(ifindex, neighbour)
                .and_then(|known| known.usable_mac()),
            source_mac: on_port.mac,
            mtu,
            source_v4: source(true),
            source_v6: source(false),
        };
        let facts = &mut self.facts;
        Some(*self.numbers.entry(next_hop).or_insert_with(|| {
            facts.next_hops.push(next_hop);
            facts.next_hops.len() - 1
        }))
    }

    /// The main table, then what the default table has besides. The local table holds this host's own addresses, which the
    /// director never forwards to.
    fn routes(&mut self) {
        let view = self.view;
        let mut vias: BTreeMap<(Address, u8), Via> = BTreeMap::new();
        for table in [RouteTable::Main, RouteTable::Default] {
            for (prefix, length, routes) in view.prefixes(table) {
                if is_multicast(prefix) || is_link_local(prefix) || vias.contains_key(&(prefix, length)) {
                    continue;
                }
                if table == RouteTable::Default && self.main_covers(prefix, length) {
                    continue;
                }
                let via = match view.judge(routes, hash(prefix)) {
                    Judgement::Forward(route, hop, link) => self.via(route, hop, link),
                    Judgement::Local { .. } | Judgement::NextTable | Judgement::Pass(_) => continue,
                    Judgement::Stop(reason) => Via::Unreachable(reason),
                };
                vias.insert((prefix, length), via);
            }
        }
        let facts = |((prefix, prefix_length), via)| RouteFacts {
            prefix,
            prefix_length,
            via,
        };
        self.facts.routes = vias.into_iter().map(facts).collect();
    }

    /// Whether some route of the main table answers before the default table is asked for this prefix. One list of prefixes
    /// holds both tables, and there the longer prefix would win, whatever its table.
    fn main_covers(&self, prefix: Address, length: u8) -> bool {
        (0..=length).rev().any(|shorter| {
            let routes = self.view.routes_at(RouteTable::Main, prefix.masked(shorter), shorter);
            !matches!(
                self.view.judge(routes, hash(prefix)),
                Judgement::Pass(_) | Judgement::NextTable
            )
        })
    }

    fn via(&mut self, route: &Route, hop: &RouteHop, link: &Link) -> Via {
        let ifindex = hop.ifindex;
        if !self.interfaces.contains_key(&ifindex) {
            // Left out, its packets would follow a shorter prefix out of a port.
            return Via::Unreachable(Unreachable::NotOnAPort { ifindex });
        }
        let Some(address) = hop.gateway else {
            return Via::OnLink { ifindex };
        };
        match self.next_hop(ifindex, address, route_mtu(route, link), route.preferred_source) {
            Some(next_hop) => {
                self.facts.to_resolve.insert((ifindex, address));
                Via::Gateway {
                    ifindex,
                    address,
                    next_hop,
                }
            }
            None => Via::Unreachable(Unreachable::NotOnAPort { ifindex }),
        }
    }

    /// Hosts on the ports' own links (clients beside the director) which the kernel has resolved for whatever reason.
    fn neighbours(&mut self) {
        let view = self.view;
        let known: BTreeSet<_> = self
            .facts
            .next_hops
            .iter()
            .map(|have| (have.interface, have.neighbour))
            .collect();
        for neighbour in view.neighbours() {
            let Some(link) = view.link(neighbour.ifindex) else {
                continue;
            };
            let useful = neighbour.usable_mac().is_some() && link.is_usable() && !is_multicast(neighbour.address);
            if useful && !known.contains(&(neighbour.ifindex, neighbour.address)) {
                self.next_hop(neighbour.ifindex, neighbour.address, link.mtu, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
