//! The way of a packet, top to bottom.
//!
//! ```text
//! burst ─ parse ─ look up ──┬─ hit, client's packet ──▶ inbound   ─ state ─ rewrite ─▶ transmit
//!   (64 frames, in stages   ├─ hit, server's packet ──▶ outbound  ─ state ─ rewrite ─▶ transmit
//!    so that cache misses   ├─ miss, a service's ─────▶ open      ─ schedule ─ insert ─▶ inbound
//!    overlap)               ├─ ICMP ──────────────────▶ icmp      ─ echo, or error to the other side
//!                           ├─ ARP, ND for ours ──────▶ answer
//!                           ├─ another worker's ──────▶ redirect
//!                           └─ else ──────────────────▶ route plainly, punt, or drop by name
//! ```
//!
//! Frames that must wait (for the next hop's MAC, for a first fragment) are held in small bounded queues and go through from the top again.

mod answer;
mod icmp;
mod inbound;
mod open;
mod outbound;
mod waiting;

use std::sync::Arc;

use crate::conn::connection::{ConnectionIndex, flag};
use crate::conn::fragments::{DatagramKey, Fragments, hash_key};
use crate::conn::key::{Key, KeyHasher};
use crate::conn::table::Table;
use crate::conn::wheel;
use crate::counters::{Counters, Event};
use crate::io::{BURST, Frame, PortIndex};
use crate::parse::{self, Packet, Parsed};
use crate::scheduler::SchedulerState;
use crate::service::{Loads, ServerSlot};
use crate::snapshot::{HopIndex, InterfaceIndex, OwnedAddress, RouteLookup, Snapshot};
use crate::time::Time;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;

pub use waiting::HELD_LIMIT;

/// What a worker is built with; nothing of it changes later.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This worker's number.
    pub worker: u8,
    /// How many there are.
    pub workers: u8,
    /// Connections that fit into this worker's table.
    pub connections: usize,
    /// Services and servers that the director can have.
    pub service_limit: usize,
    /// See `service_limit`.
    pub server_limit: usize,
    /// NIC ports.
    pub ports: usize,
    /// Secrets for hashing: the same for all workers, since they decide who owns a connection.
    pub hasher: KeyHasher,
}

/// A frame on its way to the worker that owns its connection.
#[derive(Debug)]
pub struct Redirected<F> {
    /// The frame, as it came in.
    pub frame: F,
    /// The port it came in on.
    pub port: PortIndex,
    /// A later fragment's ports, where they are known.
    pub ports: Option<(u16, u16)>,
    /// How often it was redirected.
    pub times: u8,
}

/// Where frames went; the worker empties it after each burst.
#[derive(Debug)]
pub struct Output<F> {
    /// To be sent, by port.
    pub transmit: Vec<Vec<F>>,
    /// For other workers, by worker.
    pub redirect: Vec<Vec<Redirected<F>>>,
    /// For the kernel.
    pub punt: Vec<(PortIndex, F)>,
    /// To be given back to the pool.
    pub free: Vec<F>,
    /// Empty frames for packets that we make; the worker keeps some here.
    pub spare: Vec<F>,
    /// Neighbours that control should ask the kernel to resolve.
    pub resolve: Vec<(InterfaceIndex, crate::address::Address)>,
}

/// How many spare frames the worker should keep in [`Output::spare`]: enough to cut the largest packet for the smallest usual path.
pub const SPARE_FRAMES: usize = 64;

/// What a worker knows of a server beside the snapshot, by slot.
#[derive(Clone, Copy, Debug, Default)]
struct ServerFacts {
    is_available: bool,
    upper_threshold: u32,
    lower_threshold: u32,
}

/// What a stage made of a frame.
enum Outcome {
    /// It is done.
    Done(Verdict),
    /// It has to wait for a neighbour's MAC.
    AwaitNeighbour(InterfaceIndex, crate::address::Address),
    /// It has to wait for the first fragment of its datagram.
    AwaitFirstFragment(DatagramKey),
    /// For another worker, with a later fragment's ports.
    Redirect(u8, Option<(u16, u16)>),
}

impl From<DropReason> for Outcome {
    fn from(reason: DropReason) -> Outcome {
        Outcome::Done(Verdict::Drop(reason))
    }
}

/// A frame between the stages.
#[derive(Clone, Copy, Debug)]
struct Staged {
    parsed: Parsed,
    packet: Packet,
    interface: InterfaceIndex,
    hash: u64,
}

impl Staged {
    const EMPTY: Staged = Staged {
        parsed: Parsed::Drop(DropReason::TruncatedFrame),
        packet: Packet::EMPTY,
        interface: InterfaceIndex(0),
        hash: 0,
    };
}

/// What every step needs to know beside the frame.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    now: Time,
    snapshot: &'a Snapshot,
    origin: Origin,
}

/// Where a frame came from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    port: PortIndex,
    interface: InterfaceIndex,
    /// How often it was redirected between workers.
    redirected: u8,
    /// A later fragment's ports as another worker found them.
    ports: Option<(u16, u16)>,
}

/// The packet machine of one worker.
#[derive(Debug)]
pub struct Pipeline<F> {
    settings: Settings,
    snapshot: Option<Arc<Snapshot>>,
    table: Table,
    counters: Arc<Counters>,
    loads: Arc<Loads>,
    schedulers: Box<[Option<SchedulerState>]>,
    servers: Box<[ServerFacts]>,
    fragments: Fragments,
    waiting: waiting::Waiting<F>,
    own_errors: answer::RateLimit,
    staged: Vec<Staged>,
    local_port_cursor: u32,
    identification: u16,
    stateless_until: Time,
    /// Where frames went.
    pub output: Output<F>,
}

/// Datagrams whose fragments are remembered at once.
const FRAGMENTED_DATAGRAMS: usize = 8192;
/// Entries that housekeeping looks at per call: bounds the time that a burst can be late.
const EXPIRY_BUDGET: u32 = 128;

impl<F: Frame> Pipeline<F> {
    /// All memory is taken here.
    pub fn new(settings: Settings, counters: Arc<Counters>, loads: Arc<Loads>, now: Time) -> Pipeline<F> {
        let queue = || Vec::with_capacity(4 * BURST);
        Pipeline {
            table: Table::new(settings.connections, settings.hasher, wheel::tick_of(now)),
            schedulers: (0..settings.service_limit).map(|_| None).collect(),
            servers: vec![ServerFacts::default(); settings.server_limit].into_boxed_slice(),
            fragments: Fragments::new(FRAGMENTED_DATAGRAMS),
            waiting: waiting::Waiting::new(),
            own_errors: answer::RateLimit::new(now),
            staged: vec![Staged::EMPTY; BURST],
            // Workers and restarts begin at different ports, so that a server's TIME_WAIT is met late.
            local_port_cursor: settings.hasher.hash_client(&crate::address::Address::UNSPECIFIED, 0) as u32,
            identification: 0,
            stateless_until: Time::default(),
            output: Output {
                transmit: (0..settings.ports).map(|_| queue()).collect(),
                redirect: (0..settings.workers).map(|_| Vec::with_capacity(4 * BURST)).collect(),
                punt: Vec::with_capacity(BURST),
                free: queue(),
                spare: Vec::with_capacity(SPARE_FRAMES),
                resolve: Vec::with_capacity(BURST),
            },
            snapshot: None,
            settings,
            counters,
            loads,
        }
    }

    /// Handles frames that came in on `port`, and empties `frames`.
    pub fn burst(&mut self, now: Time, port: PortIndex, frames: &mut Vec<F>) {
        self.counters.event(Event::Received).add(frames.len() as u64);
        self.run(now, port, frames);
    }

    /// Handles a frame that another worker handed over.
    pub fn redirected(&mut self, now: Time, from: Redirected<F>) {
        self.counters.event(Event::RedirectedIn).add(1);
        let Some(snapshot) = self.snapshot.take() else {
            return self.settle(from.frame, from.port, DropReason::ForwardingOff.into(), now, 0);
        };
        let mut frame = from.frame;
        let mut staged = Staged::EMPTY;
        self.parse(&snapshot, from.port, &frame, &mut staged);
        let origin = Origin {
            port: from.port,
            interface: staged.interface,
            redirected: from.times,
            ports: from.ports,
        };
        let context = Context {
            now,
            snapshot: &snapshot,
            origin,
        };
        let outcome = self.one(&context, &mut frame, &mut staged);
        self.snapshot = Some(snapshot);
        self.settle(frame, from.port, outcome, now, from.times);
    }

    fn run(&mut self, now: Time, port: PortIndex, frames: &mut Vec<F>) {
        // Taken out for the burst, so that stages can borrow it beside `self` without touching the shared reference count.
        let Some(snapshot) = self.snapshot.take() else {
            for frame in frames.drain(..) {
                self.settle(frame, port, DropReason::ForwardingOff.into(), now, 0);
            }
            return;
        };
        let mut staged = std::mem::take(&mut self.staged);
        if staged.len() < frames.len() {
            staged.resize(frames.len(), Staged::EMPTY);
        }
        for (frame, stage) in frames.iter().zip(&mut staged) {
            self.parse(&snapshot, port, frame, stage);
            self.table.prefetch_index(stage.hash);
        }
        for stage in &staged[..frames.len()] {
            self.table.prefetch_connection(stage.hash);
        }
        for (mut frame, stage) in frames.drain(..).zip(&mut staged) {
            let origin = Origin {
                port,
                interface: stage.interface,
                redirected: 0,
                ports: None,
            };
            let context = Context {
                now,
                snapshot: &snapshot,
                origin,
            };
            let outcome = self.one(&context, &mut frame, stage);
            self.settle(frame, port, outcome, now, 0);
        }
        self.staged = staged;
        self.snapshot = Some(snapshot);
    }

    /// Stage 1: whose is it? Ends with the hash of the tuple, where there is one.
    #[inline(always)]
    fn parse(&self, snapshot: &Snapshot, port: PortIndex, frame: &F, staged: &mut Staged) {
        staged.hash = 0;
        staged.parsed = match self.link(snapshot, port, frame) {
            Err(reason) => Parsed::Drop(reason),
            Ok((link, interface)) => {
                staged.interface = interface;
                let may_be_partial = snapshot.interfaces.has_partial_checksums(port);
                parse::network(frame, link, may_be_partial, &mut staged.packet)
            }
        };
        if matches!(staged.parsed, Parsed::Packet) {
            staged.hash = self.table.hash(&staged.packet.key);
        }
    }

    /// Whether the frame was sent to us, and on which interface.
    #[inline]
    fn link(
        &self,
        snapshot: &Snapshot,
        port: PortIndex,
        frame: &F,
    ) -> Result<(parse::Link, InterfaceIndex), DropReason> {
        let bytes = frame.head();
        let link = parse::link(bytes)?;
        let interfaces = &snapshot.interfaces;
        let interface = interfaces.find(port, link.vlan).ok_or(DropReason::UnknownVlan)?;
        let destination = ethernet::destination(bytes);
        if destination != interfaces.get(interface).mac && !ethernet::is_group(&destination) {
            return Err(DropReason::OtherMac);
        }
        Ok((link, interface))
    }

    /// Stage 2: what is to be done with it.
    #[inline(always)]
    fn one(&mut self, context: &Context<'_>, frame: &mut F, staged: &mut Staged) -> Outcome {
        let packet = &mut staged.packet;
        match staged.parsed {
            Parsed::Packet if packet.fragment.is_some() => self.fragment(context, frame, packet),
            Parsed::Packet => self.packet(context, frame, packet, staged.hash),
            Parsed::Icmp => self.icmp(context, frame, packet),
            Parsed::ArpRequest(at) => answer::arp(context, frame, at),
            Parsed::Solicitation => answer::solicitation(context, frame, packet),
            Parsed::Punt(reason) => Outcome::Done(Verdict::Punt(reason)),
            Parsed::Drop(reason) => reason.into(),
        }
    }

    /// A TCP or UDP packet whose ports are known.
    #[inline(always)]
    fn packet(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet, hash: u64) -> Outcome {
        match self.table.find(hash, &packet.key) {
            Some((index, false)) if !self.is_reused(packet, index) => self.inbound(context, frame, packet, index),
            Some((index, true)) => self.outbound(context, frame, packet, index),
            Some((index, false)) => self.open(context, frame, packet, Some(index)),
            None => self.miss(context, frame, packet),
        }
    }

    /// No connection here: a new one, another worker's, or none of ours.
    fn miss(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let owned = context.snapshot.interfaces.owned(&packet.key.destination);
        // Who owns it: for a client's packet and a NAT server's reply the client's address and port decide, for a FullNAT server's reply the local port.
        let owner = match owned {
            Some(OwnedAddress::Virtual) => self.owner_of_client(&packet.key.source, packet.key.source_port),
            Some(OwnedAddress::Local) => self.owner_of_local_port(packet.key.destination_port),
            None => self.owner_of_client(&packet.key.destination, packet.key.destination_port),
        };
        if owner != self.settings.worker && (owned.is_some() || context.snapshot.services.is_server(&packet.key.source))
        {
            return self.redirect(context.origin, packet, owner);
        }
        match owned {
            Some(OwnedAddress::Virtual) => self.open(context, frame, packet, None),
            Some(OwnedAddress::Local) => DropReason::NoConnection.into(),
            None => self.route_plainly(context, frame, packet),
        }
    }

    /// A packet that is not balanced but came here because its sender is a real server: the director is its router, as an LVS-NAT box is.
    fn route_plainly(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let Key {
            source, destination, ..
        } = &packet.key;
        // What comes back to a server in the same way is not ours, but for errors: those were looked up here.
        let is_error = packet.is_icmp() && crate::forward::icmp_error::is_error(frame, packet);
        let concerns_server =
            context.snapshot.services.is_server(source) || is_error && context.snapshot.services.is_server(destination);
        if !concerns_server {
            return DropReason::NotOurs.into();
        }
        let hop = match context.snapshot.routes.find(&packet.key.destination) {
            RouteLookup::Hop(hop) => hop,
            RouteLookup::Unresolved(interface, address) => return Outcome::AwaitNeighbour(interface, address),
            RouteLookup::Nowhere => return DropReason::NoRoute.into(),
        };
        if let Some(outcome) = self.refuse_to_forward(context, frame, packet, hop, 0) {
            return outcome;
        }
        crate::forward::edit::decrement_ttl(frame, packet);
        crate::forward::edit::finish_checksum(frame, packet, false);
        self.send(context.snapshot, frame, packet, hop)
    }

    /// A fragment: all pieces of a datagram meet at one worker, which learns the ports from the first.
    fn fragment(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let Some(fragment) = packet.fragment else {
            return DropReason::BadFragment.into();
        };
        let datagram = DatagramKey {
            source: packet.key.source,
            destination: packet.key.destination,
            id: fragment.id,
            protocol: packet.key.protocol,
        };
        let hash = self.settings.hasher.hash(&hash_key(&datagram));
        let meeting_point = (hash >> 32) as u8 % self.settings.workers;
        if context.origin.redirected == 0 && meeting_point != self.settings.worker {
            return Outcome::Redirect(meeting_point, None);
        }
        if packet.is_later_fragment() {
            let Some(ports) = context
                .origin
                .ports
                .or_else(|| self.fragments.find(hash, &datagram, context.now))
            else {
                return Outcome::AwaitFirstFragment(datagram);
            };
            (packet.key.source_port, packet.key.destination_port) = ports;
        } else if meeting_point == self.settings.worker {
            let ports = (packet.key.source_port, packet.key.destination_port);
            self.fragments.remember(hash, &datagram, ports, context.now);
            self.waiting.first_fragment_came(&datagram);
        }
        let hash = self.table.hash(&packet.key);
        self.packet(context, frame, packet, hash)
    }

    fn redirect(&self, origin: Origin, packet: &Packet, owner: u8) -> Outcome {
        // Once to where fragments meet, once to the owner.
        if origin.redirected >= 2 {
            return DropReason::RedirectLoop.into();
        }
        let ports = packet
            .is_later_fragment()
            .then_some((packet.key.source_port, packet.key.destination_port));
        Outcome::Redirect(owner, ports)
    }

    /// The worker that owns the connections of a client's address and port, where no local port decides.
    #[inline]
    fn owner_of_client(&self, address: &crate::address::Address, port: u16) -> u8 {
        if self.settings.workers == 1 {
            return self.settings.worker;
        }
        ((self.settings.hasher.hash_client(address, port) >> 32) % u64::from(self.settings.workers)) as u8
    }

    /// The worker that owns a local port: each takes every n-th.
    #[inline]
    fn owner_of_local_port(&self, port: u16) -> u8 {
        (port % u16::from(self.settings.workers)) as u8
    }

    /// Puts a frame where its outcome says, and counts the verdict.
    #[inline(always)]
    fn settle(&mut self, frame: F, port: PortIndex, outcome: Outcome, now: Time, redirected: u8) {
        let verdict = match outcome {
            // What nearly every frame comes to. An empty one is what is left of a packet that went out in pieces.
            Outcome::Done(Verdict::Transmit(port)) if !frame.head().is_empty() => {
                self.counters.event(Event::Transmitted).add(1);
                return self.output.transmit[usize::from(port.0)].push(frame);
            }
            Outcome::Done(verdict) => verdict,
            Outcome::AwaitNeighbour(interface, address) => {
                return self.await_neighbour(frame, port, interface, address, now);
            }
            Outcome::AwaitFirstFragment(datagram) => {
                return self.await_first_fragment(frame, port, datagram, now);
            }
            Outcome::Redirect(worker, ports) => {
                let times = redirected + 1;
                self.output.redirect[usize::from(worker)].push(Redirected {
                    frame,
                    port,
                    ports,
                    times,
                });
                return self.counters.count(Verdict::Redirect(worker));
            }
        };
        self.counters.count(verdict);
        match verdict {
            Verdict::Reply(_, port) => self.output.transmit[usize::from(port.0)].push(frame),
            Verdict::Punt(_) => self.output.punt.push((port, frame)),
            Verdict::Transmit(_) | Verdict::Drop(_) | Verdict::Redirect(_) | Verdict::Held => {
                self.output.free.push(frame)
            }
        }
    }

    /// Takes a new configuration over and returns the one before. Called between bursts.
    pub fn adopt(&mut self, now: Time, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let old = self.snapshot.take();
        for slot in old.iter().flat_map(|old| old.services.server_slots()) {
            self.servers[slot.0 as usize].is_available = false;
        }
        for service in snapshot.services.iter() {
            let before = old.as_ref().and_then(|old| old.services.get(service.slot));
            let state = &mut self.schedulers[service.slot.0 as usize];
            match (before, state.as_mut()) {
                (Some(before), Some(_)) if Arc::ptr_eq(before, service) => {}
                // The same slot can hold another service by now; then the algorithm starts anew.
                (Some(before), Some(state)) if is_same_service(before, service) => state.update(before, service),
                _ => *state = Some(SchedulerState::new(service)),
            }
            for server in &service.servers {
                self.servers[server.slot.0 as usize] = ServerFacts {
                    is_available: true,
                    upper_threshold: server.upper_threshold,
                    lower_threshold: server.lower_threshold,
                };
            }
        }
        self.counters.generation.set(snapshot.generation);
        self.counters.event(Event::SnapshotsAdopted).add(1);
        self.snapshot = Some(snapshot);
        self.retry_waiting(now);
        old
    }

    /// A bounded slice of work that is nobody's packet: expired connections, frames that waited too long.
    pub fn housekeeping(&mut self, now: Time) {
        let mut budget = EXPIRY_BUDGET;
        let tick = wheel::tick_of(now);
        while let Some(connection) = self.table.next_expired(tick, &mut budget) {
            self.counters.event(Event::ConnectionsExpired).add(1);
            self.forget(connection.server_slot, connection.is(flag::ACTIVE));
        }
        self.counters.connections.set(self.table.len() as u64);
        self.expire_waiting(now);
    }

    /// Ends a connection before its time.
    fn end(&mut self, index: ConnectionIndex, event: Event) {
        let connection = self.table.remove(index);
        self.counters.event(event).add(1);
        self.forget(connection.server_slot, connection.is(flag::ACTIVE));
    }

    /// Takes a connection off its server's load.
    fn forget(&mut self, slot: ServerSlot, was_active: bool) {
        let facts = self.servers[slot.0 as usize];
        self.loads
            .get(slot)
            .close(facts.upper_threshold, facts.lower_threshold, was_active);
    }

    /// The hop towards the server or the client, looked up again when routes have changed since.
    #[inline(always)]
    fn hop(&mut self, snapshot: &Snapshot, index: ConnectionIndex, towards_server: bool) -> Result<HopIndex, Outcome> {
        let version = snapshot.routes.version;
        let connection = self.table.get_mut(index);
        if connection.route_version != version {
            connection.route_version = version;
            connection.hop_to_server = HopIndex::NONE;
            connection.hop_to_client = HopIndex::NONE;
        }
        let known = if towards_server {
            connection.hop_to_server
        } else {
            connection.hop_to_client
        };
        if known != HopIndex::NONE {
            return Ok(known);
        }
        let destination = if towards_server {
            connection.server
        } else {
            connection.client
        };
        match snapshot.routes.find(&destination) {
            RouteLookup::Hop(hop) => {
                if towards_server {
                    connection.hop_to_server = hop;
                } else {
                    connection.hop_to_client = hop;
                }
                Ok(hop)
            }
            RouteLookup::Unresolved(interface, address) => Err(Outcome::AwaitNeighbour(interface, address)),
            RouteLookup::Nowhere => Err(DropReason::NoRoute.into()),
        }
    }

    /// The connection table, for listings.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What the worker counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The configuration in use.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }
}

fn is_same_service(a: &crate::service::Service, b: &crate::service::Service) -> bool {
    (a.protocol, a.address, a.port, a.scheduler) == (b.protocol, b.address, b.port, b.scheduler)
}
