//! What the director knows of Linux's links, addresses, routes and neighbours, and how it asks Linux to resolve one.
//!
//! The director forwards packets itself, but keeps neither a routing daemon nor an ARP/ND machine for next hops: both are
//! the kernel's, and are read over rtnetlink.
//!
//! - `model`: links, addresses, routes, neighbours.
//! - `view`: all of them as the kernel last told them. Messages arrive as [`Change`]; nothing here touches a socket.
//! - `resolve`: which way a destination goes, by that model.
//! - `next_hops`: the facts that the dataplane's snapshot is made of.
//! - `translate`: a netlink message becomes a [`Change`].
//! - `watch`: the socket that brings the messages.
//! - `ask`: makes the kernel resolve a neighbour and keep it fresh.
//! - `announce`: gratuitous ARP and unsolicited neighbour advertisements, as bytes.
//!
//! What is not here: policy routing (`ip rule` beyond the kernel's own local, main, default), VRFs, routes that depend on the
//! source prefix or DSCP, and interfaces without Ethernet neighbours (tunnels, point-to-point links).

mod announce;
mod ask;
mod model;
mod next_hops;
mod resolve;
mod translate;
mod view;
mod watch;

pub use announce::{announcement, gratuitous_arp, unsolicited_neighbour_advertisement};
pub use ask::{AskError, NEIGHBOUR_PROTOCOL, REFRESH_PERIOD_MS, Request, plan, reconcile, release_all, resolve_once};
pub use model::{
    InterfaceAddress, Link, Neighbour, NeighbourState, Placement, Route, RouteHop, RouteKind, RouteTable, Scope,
    VlanParent,
};
pub use next_hops::{
    Destination, ForwardingFacts, NextHopFacts, Port, PortInterface, RouteFacts, Via, forwarding_facts,
};
pub use resolve::{Forward, RouteResult, Unreachable};
pub use view::{Change, KernelView};
pub use watch::{WatchError, Watcher};

#[cfg(test)]
pub(crate) mod example;
