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
mod fragments;
mod icmp;
mod inbound;
mod kernel;
mod local;
mod open;
mod outbound;
mod output;
mod owner;
mod persist;
mod route;
mod stage;
mod upkeep;
mod waiting;

use std::sync::Arc;

use crate::conn::fragments::Fragments;
use crate::conn::index::Reference;
use crate::conn::key::KeyHasher;
use crate::conn::table::Table;
use crate::conn::wheel;
use crate::counters::{Counters, Event};
use crate::io::{BURST, Frame, PortIndex};
use crate::parse::{self, Packet, Parsed};
use crate::scheduler::SchedulerState;
use crate::service::Loads;
use crate::snapshot::{InterfaceIndex, OwnedAddress, Snapshot};
use crate::steering::Steering;
use crate::time::Time;
use crate::verdict::{DropReason, Verdict};
use crate::wire::ethernet;
use stage::{Arrival, Context, Origin, Outcome, Staged};
use upkeep::ServerFacts;

pub use output::{Output, Redirected, SPARE_FRAMES};
pub use waiting::HELD_LIMIT;

/// What a worker is built with; nothing of it changes later.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This worker's number.
    pub worker: u8,
    /// How many there are, and which of them owns what: the same for all.
    pub steering: Steering,
    /// Connections that fit into this worker's table.
    pub connections: usize,
    /// Services and servers that the director can have.
    pub service_limit: usize,
    /// See `service_limit`.
    pub server_limit: usize,
    /// NIC ports.
    pub ports: usize,
    /// Secrets for hashing: the same for all workers, since they decide where fragments meet.
    pub hasher: KeyHasher,
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
    local_cursors: local::Cursors,
    identification: u16,
    /// See [`Tunables::pmtu_disc`](crate::tunables::Tunables::pmtu_disc); here, since every packet into a tunnel asks.
    pmtu_disc: bool,
    /// Whether [`Tunables::secure_tcp`](crate::tunables::Tunables::secure_tcp) is in force; housekeeping finds out.
    secure_tcp: bool,
    stateless_until: Time,
    /// Where frames went.
    pub output: Output<F>,
}

/// Datagrams whose fragments are remembered at once.
const FRAGMENTED_DATAGRAMS: usize = 8192;

impl<F: Frame> Pipeline<F> {
    /// All memory is taken here.
    pub fn new(settings: Settings, counters: Arc<Counters>, loads: Arc<Loads>, now: Time) -> Pipeline<F> {
        Pipeline {
            table: Table::new(settings.connections, settings.hasher, wheel::tick_of(now)),
            schedulers: (0..settings.service_limit).map(|_| None).collect(),
            servers: vec![ServerFacts::default(); settings.server_limit].into_boxed_slice(),
            fragments: Fragments::new(FRAGMENTED_DATAGRAMS),
            waiting: waiting::Waiting::new(),
            own_errors: answer::RateLimit::new(now),
            staged: vec![Staged::EMPTY; BURST],
            local_cursors: local::Cursors::new(&settings.hasher),
            identification: 0,
            pmtu_disc: true,
            secure_tcp: false,
            stateless_until: Time::default(),
            output: Output::new(&settings),
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
        self.parse(&snapshot, &Arrival::on(from.port, &snapshot), &frame, &mut staged);
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
        let arrival = Arrival::on(port, &snapshot);
        self.look_up(&snapshot, &arrival, frames, &mut staged);
        let mut context = Context {
            now,
            snapshot: &snapshot,
            origin: Origin {
                port,
                interface: InterfaceIndex(0),
                redirected: 0,
                ports: None,
            },
        };
        for (mut frame, stage) in frames.drain(..).zip(&mut staged) {
            context.origin.interface = stage.interface;
            let outcome = self.one(&context, &mut frame, stage);
            self.settle(frame, port, outcome, now, 0);
        }
        self.staged = staged;
        self.snapshot = Some(snapshot);
    }

    /// Stage 1 for a whole burst: every frame's tuple, and all cache lines under way that the next stage will want. On its own, so that the compiler has all
    /// registers for it.
    #[inline(never)]
    fn look_up(&self, snapshot: &Snapshot, arrival: &Arrival, frames: &[F], staged: &mut [Staged]) {
        for (frame, stage) in frames.iter().zip(&mut *staged) {
            self.parse(snapshot, arrival, frame, stage);
            self.table.prefetch_index(stage.hash);
        }
        for stage in &mut staged[..frames.len()] {
            stage.candidate = self.table.prefetch_connection(stage.hash);
        }
    }

    /// Stage 1: whose is it? Ends with the hash of the tuple, where there is one.
    #[inline(always)]
    fn parse(&self, snapshot: &Snapshot, arrival: &Arrival, frame: &F, staged: &mut Staged) {
        staged.hash = 0;
        let bytes = frame.head();
        staged.parsed = match link(snapshot, arrival, bytes) {
            Err(reason) => Parsed::Drop(reason),
            Ok((link, interface)) => {
                staged.interface = interface;
                let packet = &mut staged.packet;
                let (length, checksums) = (frame.total_length(), frame.checksums());
                parse::network(bytes, length, link, arrival.may_be_partial, checksums, packet)
            }
        };
        if matches!(staged.parsed, Parsed::Packet) {
            staged.hash = self.table.hash(&staged.packet.key);
        }
    }

    /// Stage 2: what is to be done with it.
    #[inline(always)]
    fn one(&mut self, context: &Context<'_>, frame: &mut F, staged: &mut Staged) -> Outcome {
        let packet = &mut staged.packet;
        match staged.parsed {
            Parsed::Packet if packet.fragment.is_some() => self.fragment(context, frame, packet),
            Parsed::Packet => self.packet(context, frame, packet, staged.hash, staged.candidate),
            Parsed::Icmp => self.icmp(context, frame, packet),
            Parsed::ArpRequest(at) => answer::arp(context, frame, usize::from(at)),
            Parsed::Solicitation => answer::solicitation(context, frame, packet),
            Parsed::Group => Self::to_group(context),
            Parsed::IcmpFragment => Self::icmp_fragment(context, packet),
            Parsed::Punt(reason) => Self::punt(context, packet, reason),
            Parsed::Drop(reason) => Self::drop_or_punt(context, frame, reason),
        }
    }

    /// A TCP, UDP or SCTP packet whose ports are known.
    #[inline(always)]
    fn packet(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        hash: u64,
        candidate: Reference,
    ) -> Outcome {
        match self.table.find_likely(candidate, hash, &packet.key) {
            Some((index, false)) if !self.is_reused(context.snapshot, packet, index) => {
                self.inbound(context, frame, packet, index)
            }
            Some((index, true)) => self.outbound(context, frame, packet, index),
            Some((index, false)) => self.open(context, frame, packet, Some(index)),
            None => self.miss(context, frame, packet),
        }
    }

    /// No connection here: a new one, another worker's, or none of ours.
    fn miss(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let owned = context.snapshot.interfaces.owned(&packet.key.destination);
        if let Some(worker) = self.whom_to_ask(context, &packet.key, packet.fragment.is_some()) {
            return self.redirect(context.origin, packet, worker);
        }
        if let Some(outcome) = Self::leave_to_kernel(context, frame, packet) {
            return outcome;
        }
        if owned != Some(OwnedAddress::Virtual)
            && let Some(outcome) = self.refuse_reply(context, frame, packet)
        {
            return outcome;
        }
        match owned {
            Some(OwnedAddress::Virtual) => self.open(context, frame, packet, None),
            Some(OwnedAddress::Local) => DropReason::NoConnection.into(),
            None => self.route_plainly(context, frame, packet),
        }
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

/// Whether the frame was sent to us, and on which interface.
#[inline(always)]
fn link(snapshot: &Snapshot, arrival: &Arrival, bytes: &[u8]) -> Result<(parse::Link, InterfaceIndex), DropReason> {
    let link = parse::link(bytes)?;
    let (interface, mac) = match link.vlan {
        None => arrival.untagged,
        Some(_) => {
            let tagged = snapshot.interfaces.find(arrival.port, link.vlan);
            tagged.map(|index| (index, snapshot.interfaces.get(index).mac.into()))
        }
    }
    .ok_or(DropReason::UnknownVlan)?;
    if !ethernet::is_to(bytes, mac) && !ethernet::is_group(&ethernet::destination(bytes)) {
        return Err(DropReason::OtherMac);
    }
    Ok((link, interface))
}
