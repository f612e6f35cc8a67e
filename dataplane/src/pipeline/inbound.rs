//! A client's packet of a connection that we have: towards the server.

use super::{Context, Outcome, Pipeline};
use crate::address::{Address, Family};
use crate::conn::connection::{Connection, ConnectionIndex, flag};
use crate::conn::key::{Key, TupleChange};
use crate::conn::sctp_state::SctpEvent;
use crate::conn::state::{Direction, PacketEvent};
use crate::conn::tcp_state::TcpEvent;
use crate::conn::wheel;
use crate::counters::Event;
use crate::forward::client_address::{self, Inserted};
use crate::forward::reply::OwnError;
use crate::forward::tunnel::Tunnel;
use crate::forward::{edit, fragment, tunnel};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::{ClientAddress, ForwardingMethod, GueChecksum, TunnelType, protocol};
use crate::snapshot::{NextHop, Snapshot};
use crate::verdict::{DropReason, Verdict};
use crate::wire::{ipv4, ipv6, tcp};

/// Every IPv4 link carries at least that much (RFC 791 section 3.2).
const SMALLEST_MTU: usize = 68;

impl<F: Frame> Pipeline<F> {
    /// Whether the client begins anew with the tuple of a connection that has ended (see [`Tunables::conn_reuse_mode`](crate::tunables::Tunables)).
    #[inline]
    pub(super) fn is_reused(&self, snapshot: &Snapshot, packet: &Packet, index: ConnectionIndex) -> bool {
        packet.tcp_flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN && self.gives_way(snapshot, index)
    }

    fn gives_way(&self, snapshot: &Snapshot, index: ConnectionIndex) -> bool {
        let connection = self.table.get(index);
        let (state, no_output) = (connection.state, connection.is(flag::NO_OUTPUT));
        let tunables = &snapshot.tunables;
        let reuse = tunables.conn_reuse_mode;
        // Kernel (ip_vs_in_hook): where connections end with their server, a SYN leaves a quiesced server in any state.
        let leaves_server =
            reuse != 0 && tunables.expire_nodest_conn && self.servers[connection.server_slot.0 as usize].is_quiesced;
        leaves_server || state.gives_way_to_syn(reuse, no_output)
    }

    /// A packet whose server was taken out of the service: the connection stays until its timer ends it, or ends now and the packet is nobody's.
    #[cold]
    fn server_is_gone(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        index: ConnectionIndex,
    ) -> Outcome {
        if !context.snapshot.tunables.expire_nodest_conn {
            return DropReason::ServerRemoved.into();
        }
        self.end(index, Event::ConnectionsLeftServer);
        self.miss(context, frame, packet)
    }

    #[inline]
    pub(super) fn inbound(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        index: ConnectionIndex,
    ) -> Outcome {
        let hop = match self.hop(context.snapshot, index, true) {
            Ok(hop) => hop,
            Err(outcome) => return outcome,
        };
        let connection = self.table.get(index);
        let (method, slot) = (connection.method, connection.server_slot);
        let facts = &self.servers[slot.0 as usize];
        if !facts.is_available {
            return self.server_is_gone(context, frame, packet, index);
        }
        // From the worker's own notes, not from the connection, whose second line these methods do not fetch. A slot never changes its server.
        let (server, kind) = (facts.address, facts.tunnel);
        let growth = match method {
            ForwardingMethod::DirectRouting => 0,
            ForwardingMethod::Tunnel => tunnel::overhead(&server, kind) as isize,
            _ => growth_of_family(packet, connection, &connection.server),
        };
        let is_fullnat = method == ForwardingMethod::FullNat;
        let tells_client = is_fullnat && connection.client_address != ClientAddress::Hidden;
        if !passes(packet, hop, growth)
            && let Some(outcome) = self.refuse_to_server(context, frame, packet, hop, growth, index)
        {
            return outcome;
        }
        let bytes = packet.ip_length as u64;
        // What the server is to know of the client goes in first: it can still fail, and then nothing has happened yet.
        if tells_client && let Some(outcome) = self.insert_client_address(context, frame, packet, hop, index, growth) {
            return outcome;
        }
        let traffic = self.counters.server(slot);
        traffic.packets_in.add(1);
        traffic.bytes_in.add(bytes);
        self.advance(context, index, packet, false);
        edit::decrement_ttl(frame, packet);
        match method {
            ForwardingMethod::DirectRouting => self.send_finished(frame, packet, hop),
            ForwardingMethod::Tunnel => {
                edit::finish_checksum(frame, packet, false);
                self.send_through_tunnel(frame, packet, hop, server, kind)
            }
            ForwardingMethod::Nat | ForwardingMethod::FullNat => {
                let connection = self.table.get(index);
                let (tuple, change) = (connection.outbound_key().reversed(), connection.change_to_server);
                self.send_rewritten(frame, packet, hop, &tuple, change)
            }
        }
    }

    /// FullNAT: tells the server who the client is, where that is due. `None`: go on.
    fn insert_client_address(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        index: ConnectionIndex,
        growth: isize,
    ) -> Option<Outcome> {
        let limit = fits(hop.mtu, growth);
        // What may be cut can grow past the path's size.
        let room = if packet.dont_fragment { limit } else { 65_535 }.saturating_sub(packet.ip_length);
        let connection = self.table.get(index);
        match client_address::inbound(frame, packet, connection, room) {
            Ok(Inserted::Nothing) => {}
            Ok(Inserted::Toa) => self.counters.event(Event::ToaInserted).add(1),
            Ok(Inserted::NoRoom) => self.counters.event(Event::ToaNoRoom).add(1),
            Ok(Inserted::Proxy) => self.counters.event(Event::ProxyHeaders).add(1),
            Err(DropReason::TooBig) => {
                let mtu = limit.saturating_sub(client_address::growth(connection));
                let error = OwnError::TooBig(mtu as u16);
                return Some(self.tell_sender(context, frame, packet, error, DropReason::TooBig));
            }
            Err(reason) => return Some(reason.into()),
        }
        None
    }

    /// State, timer and the server's load, after a packet of a connection.
    #[inline(always)]
    pub(super) fn advance(
        &mut self,
        context: &Context<'_>,
        index: ConnectionIndex,
        packet: &Packet,
        is_outbound: bool,
    ) {
        let connection = self.table.get_mut(index);
        if is_outbound {
            connection.flags &= !flag::NO_OUTPUT;
        }
        let direction = match (is_outbound, connection.is(flag::NO_OUTPUT)) {
            (true, _) => Direction::Output,
            (false, true) => Direction::InputOnly,
            (false, false) => Direction::Input,
        };
        // UDP has one state only. A later fragment carries no flags and moves no state; it only keeps the connection alive.
        let mut state = connection.state;
        let has_states = packet.key.protocol != protocol::UDP && !packet.is_later_fragment();
        if has_states && !state.stays_with(packet.tcp_flags) {
            state = connection.state.next(event_of(packet), direction, self.secure_tcp);
            if state != connection.state {
                connection.state = state;
                let template = connection.template();
                self.count_as(index, state.is_active());
                if let Some(template) = template
                    && state.is_established()
                {
                    self.assure(template);
                }
            }
        }
        let expires = wheel::tick_of(context.now).wrapping_add(context.snapshot.timeouts.ticks(state));
        if !self.table.get_mut(index).postpone(expires) {
            self.table.set_expiry(index, expires);
        }
    }

    /// Moves a connection between its server's active and inactive ones.
    fn count_as(&mut self, index: ConnectionIndex, is_active: bool) {
        let connection = self.table.get_mut(index);
        if connection.is(flag::ACTIVE) == is_active {
            return;
        }
        connection.flags ^= flag::ACTIVE;
        let slot = connection.server_slot;
        self.loads.get(slot).set_active(is_active);
    }

    /// [`Self::refuse_to_forward`] for a client's packet: without path MTU discovery, the packet around one is cut.
    #[inline(never)]
    fn refuse_to_server(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &Packet,
        hop: &NextHop,
        growth: isize,
        index: ConnectionIndex,
    ) -> Option<Outcome> {
        let connection = self.table.get(index);
        let is_cut_outside =
            connection.method == ForwardingMethod::Tunnel && self.cuts_outside(packet, &connection.server);
        let packet = &Packet {
            dont_fragment: packet.dont_fragment && !is_cut_outside,
            ..*packet
        };
        self.refuse_to_forward(context, frame, packet, hop, growth)
    }

    /// Whether a tunnel to `server` is cut itself when it is too big (pmtu_disc 0), and not the packet in it. IPv6 is not cut on the way.
    fn cuts_outside(&self, packet: &Packet, server: &Address) -> bool {
        !self.pmtu_disc && packet.dont_fragment && packet.family == Family::V4 && server.is_v4()
    }

    /// What becomes of a packet that does not simply pass ([`passes`]): it is cut later (`None`: go on), or its sender is told.
    #[inline(never)]
    pub(super) fn refuse_to_forward(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &Packet,
        hop: &NextHop,
        growth: isize,
    ) -> Option<Outcome> {
        // RFC 1812 section 5.3.1; the kernel's IPVS decrements in every method, DR too.
        if packet.ttl <= 1 {
            let (error, otherwise) = (OwnError::TimeExceeded, DropReason::TtlExceeded);
            return Some(self.tell_sender(context, frame, packet, error, otherwise));
        }
        let limit = fits(hop.mtu, growth);
        if packet.ip_length <= limit {
            return None;
        }
        // An IPv4 packet without DF is cut later; so is a short one that becomes IPv4 (RFC 7915 section 5.1).
        let may_be_cut = !packet.dont_fragment || growth < 0 && packet.ip_length <= ipv6::MINIMUM_MTU;
        if may_be_cut && limit >= SMALLEST_MTU {
            return None;
        }
        let error = OwnError::TooBig(limit as u16);
        Some(self.tell_sender(context, frame, packet, error, DropReason::TooBig))
    }

    /// NAT and FullNAT: the new tuple, a segment size that fits, and off.
    #[inline(always)]
    pub(super) fn send_rewritten(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        tuple: &Key,
        change: TupleChange,
    ) -> Outcome {
        let to = tuple.source.family();
        if to != packet.family {
            self.identification = self.identification.wrapping_add(1);
            let limit = fits(hop.mtu, edit::growth(packet, to));
            if to == Family::V6 && !packet.dont_fragment && packet.ip_length > limit {
                return self.send_rewritten_in_pieces(frame, packet, hop, tuple, change);
            }
        }
        if let Err(reason) = edit::rewrite(frame, packet, tuple, change, self.identification) {
            return reason.into();
        }
        self.send_finished(frame, packet, hop)
    }

    /// An IPv4 packet that may be cut and is too big as an IPv6 one is cut first, and each piece is sent on (RFC 7915 section 4): nobody cuts IPv6 on the way.
    fn send_rewritten_in_pieces(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        tuple: &Key,
        change: TupleChange,
    ) -> Outcome {
        if packet.key.protocol == protocol::SCTP {
            return DropReason::SctpFragment.into();
        }
        if let Err(reason) = edit::complete_checksum(frame, packet) {
            return reason.into();
        }
        const GROWTH: usize = ipv6::HEADER + ipv6::FRAGMENT_HEADER - ipv4::HEADER;
        let limit = usize::from(hop.mtu).saturating_sub(GROWTH);
        let (output, identification) = (&mut self.output, self.identification);
        let queue = &mut output.transmit[usize::from(hop.port.0)];
        let cut = fragment::split(frame, packet, limit, &mut output.spare, |mut piece, mut own| {
            let sent = edit::rewrite(&mut piece, &mut own, tuple, change, identification)
                .and_then(|()| edit::send_to(&mut piece, &mut own, hop));
            match sent {
                Ok(()) => queue.push(piece),
                Err(_) => output.free.push(piece),
            }
        });
        self.sent_in_pieces(frame, hop.port, cut)
    }

    /// DR and TUN: the packet itself stays as it is; with a tunnel's end and kind, outer headers go in front.
    pub(super) fn send_unchanged(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        tunnel_to: Option<(Address, TunnelType)>,
    ) -> Outcome {
        match tunnel_to {
            Some((server, kind)) => self.send_through_tunnel(frame, packet, hop, server, kind),
            None => self.send(frame, packet, hop),
        }
    }

    /// The same for TUN alone. The usual kind of tunnel has a short way of its own.
    #[inline(always)]
    fn send_through_tunnel(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        server: Address,
        kind: TunnelType,
    ) -> Outcome {
        let is_plain =
            kind == TunnelType::Ipip && server.is_v4() && hop.source_v4 != Address::UNSPECIFIED && self.pmtu_disc;
        if !is_plain || packet.ip_length + ipv4::HEADER > usize::from(hop.mtu) {
            return self.send_through_any_tunnel(frame, packet, hop, server, kind);
        }
        self.identification = self.identification.wrapping_add(1);
        match tunnel::send_in_ipv4(frame, packet, hop, &server, self.identification) {
            Ok(()) => Outcome::Done(Verdict::Transmit(hop.port)),
            Err(reason) => reason.into(),
        }
    }

    #[inline(never)]
    fn send_through_any_tunnel(
        &mut self,
        frame: &mut F,
        packet: &mut Packet,
        hop: &NextHop,
        server: Address,
        kind: TunnelType,
    ) -> Outcome {
        let source = if server.is_v4() { hop.source_v4 } else { hop.source_v6 };
        if source == Address::UNSPECIFIED {
            return DropReason::NoRoute.into();
        }
        let limit = usize::from(hop.mtu).saturating_sub(tunnel::overhead(&server, kind));
        let tunnel = Tunnel { source, server, kind };
        if !self.pmtu_disc && self.cuts_outside(packet, &server) {
            // The outer header's DF is that of the packet.
            packet.dont_fragment = false;
        } else if packet.ip_length > limit {
            return self.send_through_tunnel_in_pieces(frame, packet, hop, &tunnel, limit);
        }
        self.identification = self.identification.wrapping_add(1);
        if frame.can_leave_checksum()
            && let TunnelType::Gue { port, checksum } = kind
            && checksum.is_computed()
        {
            // Around it goes the same without a checksum, which is the port's to compute.
            let checksum = GueChecksum::None;
            let tunnel = Tunnel {
                kind: TunnelType::Gue { port, checksum },
                ..tunnel
            };
            let sent = tunnel::encapsulate(frame, packet, &tunnel, self.identification);
            return match sent {
                Ok(()) => self.send_unfinished(frame, packet, hop, protocol::UDP),
                Err(reason) => reason.into(),
            };
        }
        if let Err(reason) = tunnel::encapsulate(frame, packet, &tunnel, self.identification) {
            return reason.into();
        }
        self.send(frame, packet, hop)
    }

    /// The inner packet is cut, not the outer one: the far end of the tunnel then has nothing to put together.
    #[cold]
    fn send_through_tunnel_in_pieces(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        hop: &NextHop,
        tunnel: &Tunnel,
        limit: usize,
    ) -> Outcome {
        if packet.dont_fragment {
            return DropReason::TooBig.into();
        }
        let (output, identification) = (&mut self.output, &mut self.identification);
        let queue = &mut output.transmit[usize::from(hop.port.0)];
        let cut = fragment::split(frame, packet, limit, &mut output.spare, |mut piece, mut own| {
            *identification = identification.wrapping_add(1);
            let sent = tunnel::encapsulate(&mut piece, &mut own, tunnel, *identification)
                .and_then(|()| edit::send_to(&mut piece, &mut own, hop));
            match sent {
                Ok(()) => queue.push(piece),
                Err(_) => output.free.push(piece),
            }
        });
        self.sent_in_pieces(frame, hop.port, cut)
    }

    /// The last step for a packet whose checksum may be unfinished.
    #[inline(always)]
    pub(super) fn send_finished(&mut self, frame: &mut F, packet: &mut Packet, hop: &NextHop) -> Outcome {
        if packet.partial_checksum {
            return self.send_unfinished(frame, packet, hop, packet.key.protocol);
        }
        self.send(frame, packet, hop)
    }

    /// The port finishes the checksum if it can, and if the packet leaves in one piece.
    #[cold]
    fn send_unfinished(&mut self, frame: &mut F, packet: &mut Packet, hop: &NextHop, ip_protocol: u8) -> Outcome {
        if packet.ip_length > usize::from(hop.mtu) {
            edit::finish_checksum(frame, packet, false);
            return self.send_in_pieces(frame, packet, hop);
        }
        match edit::send_to(frame, packet, hop) {
            Ok(()) => {
                edit::leave_checksum(frame, packet, ip_protocol);
                Outcome::Done(Verdict::Transmit(hop.port))
            }
            Err(reason) => reason.into(),
        }
    }

    /// The last step: link-layer header and the queue of the port; in pieces where it has to be.
    #[inline(always)]
    pub(super) fn send(&mut self, frame: &mut F, packet: &mut Packet, hop: &NextHop) -> Outcome {
        if packet.ip_length > usize::from(hop.mtu) {
            return self.send_in_pieces(frame, packet, hop);
        }
        match edit::send_to(frame, packet, hop) {
            Ok(()) => Outcome::Done(Verdict::Transmit(hop.port)),
            Err(reason) => reason.into(),
        }
    }

    #[cold]
    fn send_in_pieces(&mut self, frame: &mut F, packet: &Packet, hop: &NextHop) -> Outcome {
        if packet.dont_fragment {
            return DropReason::TooBig.into();
        }
        let output = &mut self.output;
        let queue = &mut output.transmit[usize::from(hop.port.0)];
        let limit = usize::from(hop.mtu);
        let cut = fragment::split(
            frame,
            packet,
            limit,
            &mut output.spare,
            |mut piece, mut own| match edit::send_to(&mut piece, &mut own, hop) {
                Ok(()) => queue.push(piece),
                Err(_) => output.free.push(piece),
            },
        );
        self.sent_in_pieces(frame, hop.port, cut)
    }

    fn sent_in_pieces(&mut self, frame: &mut F, port: crate::io::PortIndex, cut: Result<usize, DropReason>) -> Outcome {
        let pieces = match cut {
            Ok(pieces) => pieces as u64,
            Err(reason) => return reason.into(),
        };
        self.counters.event(Event::FragmentsCreated).add(pieces);
        self.counters.event(Event::Generated).add(pieces.saturating_sub(1));
        match frame.set_length(0) {
            Ok(()) => Outcome::Done(Verdict::Transmit(port)),
            Err(_) => DropReason::NoHeadroom.into(),
        }
    }
}

/// The longest packet that is no longer than `mtu` after it grew.
#[inline]
fn fits(mtu: u16, growth: isize) -> usize {
    usize::from(mtu).saturating_add_signed(-growth)
}

/// Whether a router may forward the packet just so: it has time to live, and fits after it grew.
#[inline(always)]
pub(super) fn passes(packet: &Packet, hop: &NextHop, growth: isize) -> bool {
    packet.ttl > 1 && packet.ip_length as isize + growth <= hop.mtu as isize
}

/// What the packet grows by on its way to an address of the other family; see [`edit::growth`].
#[inline(always)]
pub(super) fn growth_of_family(packet: &Packet, connection: &Connection, to: &Address) -> isize {
    if connection.is(flag::CHANGES_FAMILY) {
        edit::growth(packet, to.family())
    } else {
        0
    }
}

/// What a packet means for the state of its connection.
#[inline]
fn event_of(packet: &Packet) -> PacketEvent {
    match packet.key.protocol {
        protocol::TCP => PacketEvent::Tcp(TcpEvent::from_flags(packet.tcp_flags)),
        protocol::SCTP => PacketEvent::Sctp(SctpEvent::from_flags(packet.tcp_flags)),
        _ => PacketEvent::Udp,
    }
}
