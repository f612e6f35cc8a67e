//! The things that the kernel tells of: links, addresses, routes, neighbours.

use ulvs_dataplane::address::Address;

/// A VLAN interface's place on its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanParent {
    /// The interface that carries the tagged frames.
    pub parent: u32,
    /// The 802.1Q VLAN id.
    pub id: u16,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's interface index.
    pub ifindex: u32,
    /// The interface's name, as `ip link` shows it.
    pub name: String,
    /// The Ethernet address; absent on interfaces that have none.
    pub mac: Option<[u8; 6]>,
    /// The MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether the operator set it up (`IFF_UP`).
    pub up: bool,
    /// Whether it has carrier and can pass packets (`IFF_RUNNING`).
    pub running: bool,
    /// Whether neighbours on it are resolved by ARP or ND: Ethernet, and neither loopback, point-to-point nor `noarp`.
    pub resolves_neighbours: bool,
    /// For a VLAN interface: the parent and the id.
    pub vlan: Option<VlanParent>,
}

impl Link {
    /// Whether packets sent on the link leave it now.
    pub fn is_usable(&self) -> bool {
        self.up && self.running
    }
}

/// How far an address is valid (`RT_SCOPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere (also the historical site scope).
    Global,
    /// On its link only.
    Link,
    /// Inside this host only.
    Host,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface that carries it.
    pub ifindex: u32,
    /// The address itself.
    pub address: Address,
    /// The length of its on-link prefix in bits.
    pub prefix_length: u8,
    /// How far it is valid.
    pub scope: Scope,
    /// A secondary IPv4 address, or a temporary IPv6 one: chosen as a source only where there is no other.
    pub secondary: bool,
    /// Whether it may be used as the source of new packets: not tentative, not deprecated, not a failed duplicate
    /// (RFC 4862 sections 5.4 and 5.5.4).
    pub usable: bool,
}

/// The kernel's own tables, in the order in which it asks them (`ip rule` as it is after boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTable {
    /// Table 255: the host's own addresses and broadcasts.
    Local,
    /// Table 254: what `ip route` shows.
    Main,
    /// Table 253: after all others.
    Default,
}

impl RouteTable {
    /// The tables in the order of lookup.
    pub const IN_ORDER: [RouteTable; 3] = [RouteTable::Local, RouteTable::Main, RouteTable::Default];
}

/// What a route does with a packet (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forward it to a next hop.
    Unicast,
    /// It is for this host (also anycast addresses of this host).
    Local,
    /// It is a broadcast or multicast address.
    NotUnicast,
    /// Drop it without a word.
    Blackhole,
    /// Drop it, ICMP host unreachable.
    Unreachable,
    /// Drop it, ICMP administratively prohibited.
    Prohibit,
    /// Stop in this table and go on with the next.
    Throw,
}

/// One way out of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteHop {
    /// The interface to send on.
    pub ifindex: u32,
    /// The gateway; none if the destination itself is on the link. An IPv4 route may have an IPv6 gateway (RFC 5549).
    pub gateway: Option<Address>,
    /// Its share among the hops of a multipath route, 1 or more.
    pub weight: u32,
    /// Whether the kernel wraps the packet (MPLS, SRv6, an IP tunnel) before sending: the director cannot.
    pub encapsulated: bool,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The table that holds it.
    pub table: RouteTable,
    /// The destination prefix, its host bits zero.
    pub prefix: Address,
    /// The length of the prefix in bits, in the prefix's own family.
    pub prefix_length: u8,
    /// The priority; the lowest is used.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// Where it leads: one, several for multipath (by gateway and interface), none if the kernel told only a nexthop object.
    pub hops: Vec<RouteHop>,
    /// The source address that the operator prefers for the host's own packets (`src`).
    pub preferred_source: Option<Address>,
    /// The MTU in bytes that the route sets (`mtu`).
    pub mtu: Option<u32>,
}

/// Where a new route goes among those with its prefix and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Before them, so that it is used (`ip route add`, `prepend`).
    First,
    /// After them (`ip route append`).
    Last,
    /// In place of the one that was used (`ip route replace`, `change`).
    Replace,
}

/// The kernel's neighbour states (`NUD_*`, RFC 4861 section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// An entry without a state, just made.
    None,
    /// Being resolved.
    Incomplete,
    /// Known, and recently confirmed.
    Reachable,
    /// Known, not recently confirmed.
    Stale,
    /// Known and used; a probe follows soon.
    Delay,
    /// Known and being probed.
    Probe,
    /// Nobody answered.
    Failed,
    /// Known without ARP or ND.
    NoArp,
    /// Set by the operator.
    Permanent,
}

/// A neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface on which it is.
    pub ifindex: u32,
    /// Its IP address.
    pub address: Address,
    /// Its Ethernet address, if known.
    pub mac: Option<[u8; 6]>,
    /// The kernel's opinion of it.
    pub state: NeighbourState,
    /// Whether the kernel keeps it fresh by itself (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// Who made the entry (`NDA_PROTOCOL`); 0 if not told.
    pub protocol: u8,
}

impl Neighbour {
    /// The Ethernet address, if frames may be sent to it now. Incomplete and failed entries may still carry an old one.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        match self.state {
            NeighbourState::None | NeighbourState::Incomplete | NeighbourState::Failed => None,
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::NoArp
            | NeighbourState::Permanent => self.mac,
        }
    }

    /// Whether the entry is the operator's or the kernel's own and never expires. Asking the kernel to resolve such an entry
    /// would wipe it (`NTF_USE` clears `NUD_PERMANENT`).
    pub fn is_static(&self) -> bool {
        matches!(self.state, NeighbourState::Permanent | NeighbourState::NoArp)
    }
}
