//! From the kernel's view to the dataplane's interfaces and routes. A neighbour keeps its place among the hops, so that connections need not look it up again
//! when its MAC changes or another neighbour appears.

use std::collections::{BTreeMap, BTreeSet};

use ulvs_dataplane::address::Address;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::snapshot::{HopIndex, Interface, InterfaceIndex, NextHop, Routes, Via};

use crate::neighbor::{self, ForwardingFacts, KernelView, NextHopFacts, RouteFacts};

/// A port as the backend opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPort {
    /// Name in the configuration.
    pub name: String,
    /// Kernel interface.
    pub interface: String,
    /// The kernel's number for it.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Queues that workers poll.
    pub queues: u32,
    /// How frames come and go, for people.
    pub mode: String,
    /// Whether frames may come with unfinished checksums.
    pub has_partial_checksums: bool,
    /// Its layer-3 interfaces: untagged, or a VLAN, and the kernel interface that its routes and neighbours belong to.
    pub interfaces: Vec<LayerThree>,
}

/// See [`OpenPort::interfaces`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerThree {
    /// VLAN id; none if untagged.
    pub vlan: Option<u16>,
    /// Kernel interface.
    pub interface: String,
}

/// The director's interfaces as the kernel has them now.
pub fn interfaces(ports: &[OpenPort], view: &KernelView) -> Vec<Interface> {
    let mut all = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        for own in &port.interfaces {
            let link = view.link_named(&own.interface).or_else(|| view.link(port.ifindex));
            let address = |v4: bool| {
                let ifindex = link.map_or(port.ifindex, |link| link.ifindex);
                let on_link = |own: &&neighbor::InterfaceAddress| own.ifindex == ifindex && own.address.is_v4() == v4;
                let usable = |own: &&neighbor::InterfaceAddress| own.usable && own.scope == neighbor::Scope::Global;
                view.addresses()
                    .iter()
                    .filter(on_link)
                    .find(usable)
                    .map(|own| own.address)
            };
            all.push(Interface {
                port: PortIndex(index as u8),
                vlan: own.vlan,
                mac: port.mac,
                mtu: link.map_or(1500, |link| u16::try_from(link.mtu).unwrap_or(u16::MAX)),
                address_v4: address(true),
                address_v6: address(false),
            });
        }
    }
    all
}

/// The ports as the neighbour part wants them.
pub fn neighbour_ports(ports: &[OpenPort], view: &KernelView) -> Vec<neighbor::Port> {
    let describe = |(index, port): (usize, &OpenPort)| neighbor::Port {
        index: index as u32,
        mac: port.mac,
        interfaces: port
            .interfaces
            .iter()
            .map(|own| neighbor::PortInterface {
                ifindex: view
                    .link_named(&own.interface)
                    .map_or(port.ifindex, |link| link.ifindex),
                vlan: own.vlan,
            })
            .collect(),
    };
    ports.iter().enumerate().map(describe).collect()
}

/// Keeps hop places and the routes' version from one change to the next.
#[derive(Debug, Default)]
pub struct RouteCompiler {
    places: BTreeMap<(InterfaceIndex, Address), HopIndex>,
    released: Vec<HopIndex>,
    version: u32,
    routes: Vec<RouteFacts>,
}

impl RouteCompiler {
    /// Compiles the facts. The version changes when some destination that had a way may have another one now.
    pub fn compile(&mut self, facts: &ForwardingFacts, interfaces: &[Interface], ports: &[neighbor::Port]) -> Routes {
        let by_kernel = by_kernel_interface(interfaces, ports);
        let mut hops: BTreeMap<(InterfaceIndex, Address), NextHop> = BTreeMap::new();
        for fact in &facts.next_hops {
            let Some(&index) = by_kernel.get(&(fact.interface, fact.vlan)) else {
                continue;
            };
            let Some(mac) = fact.destination_mac else { continue };
            let hop = next_hop(index, &interfaces[usize::from(index.0)], mac, fact);
            // Two routes to one neighbour can differ in MTU; the smaller one is right for both.
            let smaller = |have: &NextHop| have.mtu <= hop.mtu;
            if !hops.get(&(index, fact.neighbour)).is_some_and(smaller) {
                hops.insert((index, fact.neighbour), hop);
            }
        }
        let gone: Vec<_> = self
            .places
            .keys()
            .filter(|key| !hops.contains_key(key))
            .copied()
            .collect();
        if !gone.is_empty() || facts.routes != self.routes {
            self.version = self.version.wrapping_add(1);
            self.routes = facts.routes.clone();
        }
        for key in gone {
            self.released.extend(self.places.remove(&key));
        }
        let mut routes = Routes::new(self.version);
        for (key, hop) in hops {
            let place = self.place(key);
            routes.set_neighbour(place, key.0, key.1, hop);
        }
        let index_of = |ifindex: u32| {
            by_kernel
                .iter()
                .find(|((own, _), _)| *own == ifindex)
                .map(|(_, index)| *index)
        };
        for route in &facts.routes {
            let via = match route.via {
                neighbor::Via::OnLink { ifindex } => index_of(ifindex).map(Via::OnLink),
                neighbor::Via::Gateway { ifindex, address, .. } => {
                    index_of(ifindex).map(|index| Via::Gateway(index, address))
                }
                neighbor::Via::Unreachable(_) => None,
            };
            routes.add_prefix(route.prefix, route.prefix_length, via.unwrap_or(Via::Nowhere));
        }
        routes
    }

    fn place(&mut self, key: (InterfaceIndex, Address)) -> HopIndex {
        if let Some(&place) = self.places.get(&key) {
            return place;
        }
        let place = self.released.pop().unwrap_or(HopIndex(self.places.len() as u32));
        self.places.insert(key, place);
        place
    }
}

fn next_hop(index: InterfaceIndex, interface: &Interface, mac: [u8; 6], fact: &NextHopFacts) -> NextHop {
    let mtu = u16::try_from(fact.mtu).unwrap_or(u16::MAX);
    let mut hop = NextHop::new(index, interface, mac, mtu);
    hop.source_v4 = fact.source_v4.or(interface.address_v4).unwrap_or(Address::UNSPECIFIED);
    hop.source_v6 = fact.source_v6.or(interface.address_v6).unwrap_or(Address::UNSPECIFIED);
    hop
}

/// Our interface for each kernel interface (and tag).
fn by_kernel_interface(
    interfaces: &[Interface],
    ports: &[neighbor::Port],
) -> BTreeMap<(u32, Option<u16>), InterfaceIndex> {
    let mut all = BTreeMap::new();
    for port in ports {
        for own in &port.interfaces {
            let is_it = |have: &Interface| u32::from(have.port.0) == port.index && have.vlan == own.vlan;
            if let Some(at) = interfaces.iter().position(is_it) {
                all.insert((own.ifindex, own.vlan), InterfaceIndex(at as u16));
            }
        }
    }
    all
}

/// The kernel interfaces that are the director's.
pub fn kernel_interfaces(ports: &[neighbor::Port]) -> BTreeSet<u32> {
    ports
        .iter()
        .flat_map(|port| port.interfaces.iter().map(|own| own.ifindex))
        .collect()
}
