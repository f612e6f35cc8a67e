//! One immutable version of everything the packet path is told: services, interfaces, routes. Control makes a new one for each change and hands it to all
//! workers; a worker takes it over between two bursts. Parts that did not change are shared with the version before.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::address::Address;
use crate::conn::timeouts::Timeouts;
use crate::io::PortIndex;
use crate::kernel::KernelSide;
use crate::service::{ForwardingMethod, OwnedBy, Server, ServerSlot, Service, ServiceSlot, SharedService};
use crate::tunables::Tunables;
use crate::wire::ethernet::{self, Mac};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts up with each version.
    pub generation: u64,
    /// What is balanced.
    pub services: Arc<Services>,
    /// The director's own place in the network.
    pub interfaces: Arc<Interfaces>,
    /// Ways out.
    pub routes: Arc<Routes>,
    /// State timeouts.
    pub timeouts: Timeouts,
    /// What operators know as sysctls.
    pub tunables: Tunables,
    /// The director does not answer for its virtual addresses: another one should get their traffic. What arrives all the same is balanced.
    pub has_given_up: bool,
    /// What is the kernel's, where all frames come to the workers; none: something in front of them has kept that back.
    pub kernel: Option<Arc<KernelSide>>,
}

impl Snapshot {
    /// Whether the director keeps to itself that it has this address.
    pub fn gives_up(&self, address: &Address) -> bool {
        self.has_given_up && self.interfaces.owned(address) == Some(OwnedAddress::Virtual)
    }

    /// Whether the director answers who asks for the link-layer address of this one. Where the kernel holds it too and sees the question, the kernel does.
    #[inline]
    pub fn answers_for(&self, address: &Address) -> bool {
        let is_kernels = |kernel: &KernelSide| kernel.holds(address);
        self.interfaces.owned(address).is_some() && !self.kernel.as_deref().is_some_and(is_kernels)
    }

    /// The largest IP packet on the way to `destination`, as far as the director knows; also while the next hop's MAC is not known yet. `None` without a route.
    pub fn mtu_towards(&self, destination: &Address) -> Option<u16> {
        match self.routes.find(destination) {
            RouteLookup::Hop(hop) => self.routes.hop(hop).map(|hop| hop.mtu),
            RouteLookup::Unresolved(interface, _) => Some(self.interfaces.get(interface).mtu),
            RouteLookup::Nowhere => None,
        }
    }
}

/// Where a service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// IP protocol number.
    pub protocol: u8,
    /// Virtual address.
    pub address: Address,
    /// Virtual port.
    pub port: u16,
}

/// As many ways to an owner as a reply is sent before it counts as nobody's.
const REPLY_OWNERS: usize = 3;

/// All virtual services.
#[derive(Clone, Debug, Default)]
pub struct Services {
    by_key: HashMap<ServiceKey, ServiceSlot>,
    by_slot: Vec<Option<SharedService>>,
    /// Some service is for all ports of its address.
    has_any_port: bool,
    server_addresses: HashMap<Address, Vec<OwnedBy>>,
    /// Protocol, address and port of those whose packets come through here by routing.
    nat_servers: HashSet<(u8, Address, u16)>,
}

impl Services {
    /// From the services, each in its slot.
    pub fn new(services: impl IntoIterator<Item = SharedService>) -> Services {
        let mut all = Services::default();
        for service in services {
            let key = ServiceKey {
                protocol: service.protocol,
                address: service.address,
                port: service.port,
            };
            let slot = service.slot.0 as usize;
            if all.by_slot.len() <= slot {
                all.by_slot.resize(slot + 1, None);
            }
            for server in &service.servers {
                all.add_server(server, &service);
            }
            let is_nat = |server: &&Server| server.method == ForwardingMethod::Nat;
            let nat = service.servers.iter().filter(is_nat);
            all.nat_servers
                .extend(nat.map(|server| (service.protocol, server.address, server.port)));
            all.has_any_port |= service.port == 0;
            all.by_key.insert(key, service.slot);
            all.by_slot[slot] = Some(service);
        }
        all
    }

    fn add_server(&mut self, server: &Server, service: &Service) {
        let owners = self.server_addresses.entry(server.address).or_default();
        let ownership = service.ownership;
        let mut add = |by: OwnedBy| {
            if !owners.contains(&by) && owners.len() < REPLY_OWNERS {
                owners.push(by);
            }
        };
        if server.method == ForwardingMethod::Nat && ownership.formerly.is_some() {
            ownership
                .formerly
                .into_iter()
                .filter(|by| *by != OwnedBy::Tuple)
                .for_each(&mut add);
        }
        match ownership.by {
            OwnedBy::Network(_) if server.method == ForwardingMethod::Nat => add(ownership.by),
            _ => add(OwnedBy::Client),
        }
    }

    /// The ways, to be tried in this order, to find the owner of a NAT server's reply, whose connection may belong to any of the services that the server is in.
    /// Empty for an address of no server.
    pub fn owners_of_replies(&self, server: &Address) -> &[OwnedBy] {
        self.server_addresses.get(server).map_or(&[], Vec::as_slice)
    }

    /// The service that listens there; where none does, the one for all ports of the address.
    #[inline]
    pub fn find(&self, key: &ServiceKey) -> Option<&SharedService> {
        let mut slot = self.by_key.get(key);
        if slot.is_none() && self.has_any_port {
            slot = self.by_key.get(&ServiceKey { port: 0, ..*key });
        }
        self.by_slot[slot?.0 as usize].as_ref()
    }

    /// The service in a slot.
    #[inline]
    pub fn get(&self, slot: ServiceSlot) -> Option<&SharedService> {
        self.by_slot.get(slot.0 as usize)?.as_ref()
    }

    /// All services, by slot.
    pub fn iter(&self) -> impl Iterator<Item = &SharedService> {
        self.by_slot.iter().flatten()
    }

    /// Whether some service sends to this address.
    pub fn is_server(&self, address: &Address) -> bool {
        self.server_addresses.contains_key(address)
    }

    /// Whether some service has a nat server there.
    pub fn is_nat_server(&self, protocol: u8, address: &Address, port: u16) -> bool {
        self.nat_servers.contains(&(protocol, *address, port))
    }

    /// Slots in use or used before: how long tables by slot must be.
    pub fn slot_count(&self) -> usize {
        self.by_slot.len()
    }

    /// All servers' slots.
    pub fn server_slots(&self) -> impl Iterator<Item = ServerSlot> {
        self.iter()
            .flat_map(|service| service.servers.iter().map(|server| server.slot))
    }
}

/// A layer-3 interface: a port, or one VLAN of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceIndex(pub u16);

/// See [`InterfaceIndex`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The NIC port.
    pub port: PortIndex,
    /// The VLAN id of its frames; `None`: untagged.
    pub vlan: Option<u16>,
    /// Our link-layer address there.
    pub mac: Mac,
    /// Largest IP packet.
    pub mtu: u16,
    /// The director's own IPv4 address there: source of ICMP errors and tunnels.
    pub address_v4: Option<Address>,
    /// The same for IPv6.
    pub address_v6: Option<Address>,
}

/// What an address of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnedAddress {
    /// A virtual address: clients talk to it.
    Virtual,
    /// A local address: FullNAT servers talk to it.
    Local,
}

/// The interfaces, and the addresses that the director answers for on them.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    interfaces: Vec<Interface>,
    owned: HashMap<Address, OwnedAddress>,
    partial_checksums: Vec<bool>,
}

impl Interfaces {
    /// `partial_checksums`: by port, whether its frames may carry checksums that a local sender left unfinished (veth, virtio).
    pub fn new(
        interfaces: Vec<Interface>,
        owned: impl IntoIterator<Item = (Address, OwnedAddress)>,
        partial_checksums: Vec<bool>,
    ) -> Interfaces {
        Interfaces {
            interfaces,
            owned: owned.into_iter().collect(),
            partial_checksums,
        }
    }

    /// All of them, by index.
    pub fn all(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface that frames with this tag on this port belong to.
    #[inline]
    pub fn find(&self, port: PortIndex, vlan: Option<u16>) -> Option<InterfaceIndex> {
        let at = self
            .interfaces
            .iter()
            .position(|interface| interface.port == port && interface.vlan == vlan)?;
        Some(InterfaceIndex(at as u16))
    }

    /// An interface.
    #[inline]
    pub fn get(&self, index: InterfaceIndex) -> &Interface {
        &self.interfaces[usize::from(index.0)]
    }

    /// What the address is to us.
    #[inline]
    pub fn owned(&self, address: &Address) -> Option<OwnedAddress> {
        self.owned.get(address).copied()
    }

    /// All addresses that we answer for.
    pub fn all_owned(&self) -> impl Iterator<Item = (&Address, &OwnedAddress)> {
        self.owned.iter()
    }

    /// Whether frames of the port may carry unfinished checksums.
    #[inline]
    pub fn has_partial_checksums(&self, port: PortIndex) -> bool {
        self.partial_checksums
            .get(usize::from(port.0))
            .copied()
            .unwrap_or(false)
    }
}

/// A place in [`Routes::hops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopIndex(pub u32);

impl HopIndex {
    /// Not known (yet).
    pub const NONE: HopIndex = HopIndex(u32::MAX);
}

/// A resolved neighbour: everything in front of the IP header, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct NextHop {
    /// The port to send from.
    pub port: PortIndex,
    /// The interface to send from.
    pub interface: InterfaceIndex,
    /// Largest IP packet on the way there, as far as the director knows.
    pub mtu: u16,
    /// Destination, source, tag if any, and a place for the type.
    header: [u8; ethernet::HEADER + ethernet::TAG],
    is_tagged: bool,
    /// Source address for the director's own packets on this way (outer tunnel headers, ICMP), if there is one.
    pub source_v4: Address,
    /// The same for IPv6.
    pub source_v6: Address,
}

impl NextHop {
    /// To `destination` out of `interface`.
    pub fn new(index: InterfaceIndex, interface: &Interface, destination: Mac, mtu: u16) -> NextHop {
        let mut header = [0; ethernet::HEADER + ethernet::TAG];
        header[..6].copy_from_slice(&destination);
        header[6..12].copy_from_slice(&interface.mac);
        if let Some(vlan) = interface.vlan {
            header[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
            header[14..16].copy_from_slice(&vlan.to_be_bytes());
        }
        NextHop {
            port: interface.port,
            interface: index,
            mtu: mtu.min(interface.mtu),
            header,
            is_tagged: interface.vlan.is_some(),
            source_v4: interface.address_v4.unwrap_or(Address::UNSPECIFIED),
            source_v6: interface.address_v6.unwrap_or(Address::UNSPECIFIED),
        }
    }

    /// The link-layer header with its last two bytes (the type) still to be written.
    #[inline(always)]
    pub fn link_header(&self) -> LinkHeader<'_> {
        if self.is_tagged {
            return LinkHeader::Tagged(&self.header);
        }
        let [untagged @ .., _, _, _, _] = &self.header;
        LinkHeader::Untagged(untagged)
    }

    /// The neighbour's link-layer address.
    pub fn mac(&self) -> Mac {
        ethernet::destination(&self.header)
    }
}

/// See [`NextHop::link_header`]. By length, so that copying it takes a few instructions and no call.
#[derive(Clone, Copy, Debug)]
pub enum LinkHeader<'a> {
    /// With a VLAN tag.
    Tagged(&'a [u8; ethernet::HEADER + ethernet::TAG]),
    /// Without.
    Untagged(&'a [u8; ethernet::HEADER]),
}

/// Where packets for a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The destination is a neighbour on that interface.
    OnLink(InterfaceIndex),
    /// Through a gateway, which is a neighbour on that interface.
    Gateway(InterfaceIndex, Address),
    /// Nowhere (blackhole, unreachable, or out of an interface that is not ours).
    Nowhere,
}

/// What looking up a destination gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteLookup {
    /// Send it there.
    Hop(HopIndex),
    /// The neighbour's MAC is not known; control must ask for it.
    Unresolved(InterfaceIndex, Address),
    /// There is no way.
    Nowhere,
}

/// The kernel's routes and neighbours, as far as they lead out of our ports.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Changes when a lookup might give another answer than before for a destination that had one. Connections look their hops up again then.
    pub version: u32,
    hops: Vec<NextHop>,
    neighbours: HashMap<(InterfaceIndex, Address), HopIndex>,
    /// Longest prefixes first.
    prefixes: Vec<(Family128, HashMap<Address, Via>)>,
}

/// A prefix length within one family.
type Family128 = (crate::address::Family, u8);

impl Routes {
    /// Without any hop or route.
    pub fn new(version: u32) -> Routes {
        Routes {
            version,
            ..Routes::default()
        }
    }

    /// Adds or replaces the hop at `index` and says that `neighbour` is reached by it.
    pub fn set_neighbour(&mut self, index: HopIndex, interface: InterfaceIndex, neighbour: Address, hop: NextHop) {
        let at = index.0 as usize;
        if self.hops.len() <= at {
            self.hops.resize(at + 1, hop);
        }
        self.hops[at] = hop;
        self.neighbours.insert((interface, neighbour), index);
    }

    /// Adds a route.
    pub fn add_prefix(&mut self, prefix: Address, length: u8, via: Via) {
        let group = (prefix.family(), length);
        let at = match self.prefixes.iter().position(|(own, _)| *own == group) {
            Some(at) => at,
            None => {
                let at = self.prefixes.partition_point(|((_, longer), _)| *longer > length);
                self.prefixes.insert(at, (group, HashMap::new()));
                at
            }
        };
        self.prefixes[at].1.insert(prefix.masked(length), via);
    }

    /// The way to `destination`: longest prefix, then the neighbour.
    pub fn find(&self, destination: &Address) -> RouteLookup {
        let family = destination.family();
        let mut via = Via::Nowhere;
        for ((own_family, length), prefixes) in &self.prefixes {
            if *own_family == family
                && let Some(found) = prefixes.get(&destination.masked(*length))
            {
                via = *found;
                break;
            }
        }
        let (interface, neighbour) = match via {
            Via::OnLink(interface) => (interface, *destination),
            Via::Gateway(interface, gateway) => (interface, gateway),
            Via::Nowhere => return RouteLookup::Nowhere,
        };
        match self.neighbour(interface, &neighbour) {
            Some(hop) => RouteLookup::Hop(hop),
            None => RouteLookup::Unresolved(interface, neighbour),
        }
    }

    /// The hop to a neighbour whose MAC is known.
    #[inline]
    pub fn neighbour(&self, interface: InterfaceIndex, neighbour: &Address) -> Option<HopIndex> {
        self.neighbours.get(&(interface, *neighbour)).copied()
    }

    /// A hop, unless the index is none.
    #[inline(always)]
    pub fn hop(&self, index: HopIndex) -> Option<&NextHop> {
        self.hops.get(index.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn the_longest_prefix_of_the_own_family_wins() {
        let mut routes = Routes::new(1);
        let outside = InterfaceIndex(0);
        let inside = InterfaceIndex(1);
        routes.add_prefix(address("0.0.0.0"), 0, Via::Gateway(outside, address("192.0.2.1")));
        routes.add_prefix(address("10.0.0.0"), 8, Via::Nowhere);
        routes.add_prefix(address("10.1.0.0"), 16, Via::OnLink(inside));
        let unresolved = |interface, neighbour: &str| RouteLookup::Unresolved(interface, address(neighbour));
        assert_eq!(routes.find(&address("198.51.100.7")), unresolved(outside, "192.0.2.1"));
        assert_eq!(routes.find(&address("10.2.0.1")), RouteLookup::Nowhere);
        assert_eq!(routes.find(&address("10.1.0.1")), unresolved(inside, "10.1.0.1"));
        assert_eq!(
            routes.find(&address("2001:db8::1")),
            RouteLookup::Nowhere,
            "no IPv6 route"
        );
    }
}
