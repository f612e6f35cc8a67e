//! Which way a destination goes: longest prefix, then lowest metric, in the kernel's own tables.
//!
//! It follows the kernel with `ignore_routes_with_linkdown` set: a route whose links are all down or without carrier is passed
//! over, in favour of the next metric and then of a shorter prefix, because a frame sent there is lost for certain.
//!
//! Of a multipath route each destination uses one hop, chosen by a fixed hash of the destination over the usable hops,
//! by weight. So servers spread over the gateways, and every director with the same routes chooses alike. When a hop's link goes
//! down, its destinations (and some others) move.

use ulvs_dataplane::address::Address;

use super::model::{InterfaceAddress, Link, Route, RouteHop, RouteKind, RouteTable, Scope};
use super::view::KernelView;

/// The answer for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteResult {
    /// Send it on.
    Forward(Forward),
    /// It is one of this host's own addresses.
    Local {
        /// The interface that carries the address.
        ifindex: u32,
    },
    /// It cannot be sent.
    Unreachable(Unreachable),
}

/// How to send to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The interface to send on.
    pub ifindex: u32,
    /// The neighbour to send to: the gateway, or the destination itself.
    pub next_hop: Address,
    /// Whether `next_hop` is a gateway.
    pub via_gateway: bool,
    /// The source for the director's own packets to the destination; none if the host has no fitting address.
    pub source: Option<Address>,
    /// The largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
}

/// Why a destination cannot be reached, told to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No table has a route.
    #[error("the kernel has no route to it; add one with `ip route add`")]
    NoRoute,
    /// A blackhole route.
    #[error("a blackhole route covers it; see `ip route`")]
    Blackhole,
    /// An unreachable route.
    #[error("an unreachable route covers it; see `ip route`")]
    UnreachableRoute,
    /// A prohibit route.
    #[error("a prohibit route covers it; see `ip route`")]
    Prohibit,
    /// Broadcast or multicast.
    #[error("it is a broadcast or multicast address, not one host")]
    NotUnicast,
    /// IPv6 link-local.
    #[error(
        "it is a link-local address, which no route can place on an interface; use a global or unique local address"
    )]
    LinkLocal,
    /// All links of its routes are down.
    #[error("its route leaves by interface {ifindex}, which is down or has no carrier")]
    LinkDown {
        /// The interface of the first such route.
        ifindex: u32,
    },
    /// Not Ethernet with ARP or ND.
    #[error(
        "its route leaves by interface {ifindex}, which has no Ethernet neighbours (point-to-point, loopback or noarp)"
    )]
    NotEthernet {
        /// The interface.
        ifindex: u32,
    },
    /// The interface is not one of the director's.
    #[error("its route leaves by interface {ifindex}, which is not on a port of the director")]
    NotOnAPort {
        /// The interface.
        ifindex: u32,
    },
    /// MPLS, SRv6 and the like.
    #[error("its route wraps packets (an `encap` route), which the director does not do")]
    Encapsulated,
    /// The kernel told only the number of a nexthop object.
    #[error(
        "its route uses a nexthop object whose gateway the kernel does not tell; set net.ipv4.nexthop_compat_mode=1"
    )]
    NexthopObject,
}

/// What the routes of one prefix say.
pub(super) enum Judgement<'a> {
    Forward(&'a Route, &'a RouteHop, &'a Link),
    Local {
        ifindex: u32,
    },
    Stop(Unreachable),
    NextTable,
    /// All its links are down, or there is no route: look at the next shorter prefix.
    Pass(Option<Unreachable>),
}

impl KernelView {
    /// Which way a packet to `destination` goes now.
    pub fn route(&self, destination: Address) -> RouteResult {
        if is_multicast(destination) {
            return RouteResult::Unreachable(Unreachable::NotUnicast);
        }
        let hash = hash(destination);
        let mut passed = None;
        for table in RouteTable::IN_ORDER {
            for length in (0..=family_bits(destination)).rev() {
                let routes = self.routes_at(table, destination.masked(length), length);
                match self.judge(routes, hash) {
                    Judgement::Forward(..) if is_link_local(destination) => {
                        return RouteResult::Unreachable(Unreachable::LinkLocal);
                    }
                    Judgement::Forward(route, hop, link) => {
                        return RouteResult::Forward(self.forward(destination, route, hop, link));
                    }
                    Judgement::Local { ifindex } => return RouteResult::Local { ifindex },
                    Judgement::Stop(reason) => return RouteResult::Unreachable(reason),
                    Judgement::NextTable => break,
                    Judgement::Pass(reason) => passed = passed.or(reason),
                }
            }
        }
        RouteResult::Unreachable(passed.unwrap_or(Unreachable::NoRoute))
    }

    /// What the routes of one prefix, in order of preference, mean for a destination with this hash.
    pub(super) fn judge<'a>(&'a self, routes: &'a [Route], hash: u64) -> Judgement<'a> {
        let mut passed = None;
        for route in routes {
            match route.kind {
                RouteKind::Unicast => {}
                RouteKind::Local => {
                    let ifindex = route.hops.first().map_or(0, |hop| hop.ifindex);
                    return Judgement::Local { ifindex };
                }
                RouteKind::NotUnicast => return Judgement::Stop(Unreachable::NotUnicast),
                RouteKind::Blackhole => return Judgement::Stop(Unreachable::Blackhole),
                RouteKind::Unreachable => return Judgement::Stop(Unreachable::UnreachableRoute),
                RouteKind::Prohibit => return Judgement::Stop(Unreachable::Prohibit),
                RouteKind::Throw => return Judgement::NextTable,
            }
            if route.hops.is_empty() {
                return Judgement::Stop(Unreachable::NexthopObject);
            }
            match self.pick_hop(&route.hops, hash) {
                Some((hop, _)) if hop.encapsulated => return Judgement::Stop(Unreachable::Encapsulated),
                // The kernel would use the tunnel: to choose another way here would send packets where they must not go.
                Some((hop, link)) if !link.resolves_neighbours => {
                    return Judgement::Stop(Unreachable::NotEthernet { ifindex: hop.ifindex });
                }
                Some((hop, link)) => return Judgement::Forward(route, hop, link),
                None => {
                    passed = passed.or(Some(Unreachable::LinkDown {
                        ifindex: route.hops[0].ifindex,
                    }))
                }
            }
        }
        Judgement::Pass(passed)
    }

    /// The hop for a hash, by weight, among those whose link is usable.
    fn pick_hop<'a>(&'a self, hops: &'a [RouteHop], hash: u64) -> Option<(&'a RouteHop, &'a Link)> {
        let usable = || {
            hops.iter()
                .filter_map(|hop| Some((hop, self.link(hop.ifindex)?)))
                .filter(|(_, link)| link.is_usable())
        };
        let total: u64 = usable().map(|(hop, _)| u64::from(hop.weight.max(1))).sum();
        let mut point = hash.checked_rem(total)?;
        for (hop, link) in usable() {
            let weight = u64::from(hop.weight.max(1));
            if point < weight {
                return Some((hop, link));
            }
            point -= weight;
        }
        None
    }

    fn forward(&self, destination: Address, route: &Route, hop: &RouteHop, link: &Link) -> Forward {
        let next_hop = hop.gateway.unwrap_or(destination);
        Forward {
            ifindex: hop.ifindex,
            next_hop,
            via_gateway: hop.gateway.is_some(),
            source: route
                .preferred_source
                .or_else(|| self.source(hop.ifindex, next_hop, destination.is_v4())),
            mtu: route_mtu(route, link),
        }
    }

    /// The source address of one family for packets to a neighbour on an interface: one whose prefix holds the neighbour,
    /// else the interface's first. An interface without any (unnumbered) borrows the first global address of another, as the
    /// kernel does.
    pub fn source(&self, ifindex: u32, neighbour: Address, v4: bool) -> Option<Address> {
        let candidates = || {
            let fits = move |have: &&InterfaceAddress| {
                have.address.is_v4() == v4 && have.usable && have.scope == Scope::Global
            };
            self.addresses().iter().filter(fits)
        };
        let here = || candidates().filter(move |have| have.ifindex == ifindex);
        let holds = |have: &&InterfaceAddress| {
            neighbour.is_v4() == v4
                && have.prefix_length < family_bits(neighbour)
                && neighbour.masked(have.prefix_length) == have.address.masked(have.prefix_length)
        };
        here()
            .find(|have| holds(have) && !have.secondary)
            .or_else(|| here().find(holds))
            .or_else(|| here().find(|have| !have.secondary))
            .or_else(|| here().next())
            .or_else(|| candidates().next())
            .map(|have| have.address)
    }
}

/// The MTU in bytes of a route on its link: the lower of the two.
pub(super) fn route_mtu(route: &Route, link: &Link) -> u32 {
    route
        .mtu
        .filter(|mtu| *mtu > 0)
        .map_or(link.mtu, |mtu| mtu.min(link.mtu))
}

/// The address length of an address's family in bits.
pub(super) fn family_bits(address: Address) -> u8 {
    if address.is_v4() { 32 } else { 128 }
}

/// fe80::/10 (RFC 4291 section 2.5.6).
pub(super) fn is_link_local(address: Address) -> bool {
    let octets = address.octets();
    octets[0] == 0xfe && octets[1] & 0xc0 == 0x80
}

/// 224.0.0.0/4 and above (also 255.255.255.255), ff00::/8.
pub(super) fn is_multicast(address: Address) -> bool {
    if address.is_v4() {
        address.v4_octets()[0] >= 224
    } else {
        address.octets()[0] == 0xff
    }
}

/// FNV-1a over the sixteen octets, its halves folded together: the low bits alone would follow the last octet too closely.
pub(super) fn hash(address: Address) -> u64 {
    let hash = address.octets().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
