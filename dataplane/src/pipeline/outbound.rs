//! A server's packet of a NAT or FullNAT connection: back to the client.

use super::inbound::{growth_of_family, passes};
use super::{Context, Outcome, Pipeline};
use crate::conn::connection::ConnectionIndex;
use crate::conn::sctp_state::SctpEvent;
use crate::counters::Event;
use crate::forward::reply::OwnError;
use crate::forward::{client_address, edit, tunnel};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::{ForwardingMethod, protocol};
use crate::snapshot::Snapshot;
use crate::verdict::DropReason;
use crate::wire::tcp;

impl<F: Frame> Pipeline<F> {
    #[inline]
    pub(super) fn outbound(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        index: ConnectionIndex,
    ) -> Outcome {
        let hop = match self.hop(context.snapshot, index, false) {
            Ok(hop) => hop,
            Err(outcome) => return outcome,
        };
        let connection = self.table.get(index);
        let growth = growth_of_family(packet, connection, &connection.client);
        if !passes(packet, hop, growth)
            && let Some(outcome) = self.refuse_to_forward(context, frame, packet, hop, growth)
        {
            return outcome;
        }
        let connection = self.table.get_mut(index);
        client_address::outbound(frame, packet, connection);
        let (to_client, change) = (
            connection.inbound_key().reversed(),
            connection.change_to_server.reversed(),
        );
        let traffic = self.counters.server(connection.server_slot);
        traffic.packets_out.add(1);
        traffic.bytes_out.add(packet.ip_length as u64);
        if packet.tcp_flags & tcp::SYN != 0 {
            self.clamp_answer(context.snapshot, frame, packet, index);
        }
        self.advance(context, index, packet, true);
        edit::decrement_ttl(frame, packet);
        self.send_rewritten(frame, packet, hop, &to_client, change)
    }

    /// A nat server's packet of no connection, where nat_icmp_send says that the server is told (kernel: ip_vs_out_hook). A reset and an ABORT need no answer.
    #[cold]
    pub(super) fn refuse_reply(&mut self, context: &Context<'_>, frame: &mut F, packet: &Packet) -> Option<Outcome> {
        let key = &packet.key;
        let services = &context.snapshot.services;
        if !context.snapshot.tunables.nat_icmp_send
            || !services.is_nat_server(key.protocol, &key.source, key.source_port)
        {
            return None;
        }
        let is_end = match key.protocol {
            protocol::TCP => packet.tcp_flags & tcp::RST != 0,
            protocol::SCTP => SctpEvent::from_flags(packet.tcp_flags) == SctpEvent::Abort,
            _ => false,
        };
        let (error, otherwise) = (OwnError::PortUnreachable, DropReason::NoConnection);
        (!is_end).then(|| self.tell_sender(context, frame, packet, error, otherwise))
    }

    /// The server's SYN+ACK tells the client how long its segments may be: no longer than what reaches the server with everything that we add.
    fn clamp_answer(&mut self, snapshot: &Snapshot, frame: &mut F, packet: &Packet, index: ConnectionIndex) {
        let connection = *self.table.get(index);
        if connection.method != ForwardingMethod::FullNat {
            return;
        }
        let Some(mtu) = snapshot.mtu_towards(&connection.server) else {
            return;
        };
        let taken = tunnel::ip_header(&connection.server) + tcp::HEADER + client_address::growth(&connection);
        self.clamp(frame, packet, usize::from(mtu).saturating_sub(taken));
    }

    /// Lowers the announced segment size to `limit`, but never below what every IPv4 host takes (RFC 9293 section 3.7.1: 536).
    pub(super) fn clamp(&mut self, frame: &mut F, packet: &Packet, limit: usize) {
        let limit = limit.clamp(536, 65_535) as u16;
        if edit::clamp_mss(frame, packet, limit) {
            self.counters.event(Event::MssClamped).add(1);
        }
    }
}
