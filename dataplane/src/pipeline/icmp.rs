//! ICMP: echo requests for our addresses, and errors about balanced connections.

use super::{Context, Outcome, Pipeline};
use crate::conn::connection::ConnectionIndex;
use crate::counters::Event;
use crate::forward::icmp_error::Quotation;
use crate::forward::{client_address, edit, icmp_error, reply};
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::ForwardingMethod;
use crate::verdict::{DropReason, ReplyKind, Verdict};

impl<F: Frame> Pipeline<F> {
    pub(super) fn icmp(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        if !reply::icmp_checksum_is_right(frame, packet) {
            return DropReason::BadIcmp.into();
        }
        if let Some(outcome) = Self::leave_group_to_kernel(context, frame, packet) {
            return outcome;
        }
        let is_ours = context.snapshot.interfaces.owned(&packet.key.destination).is_some();
        if is_ours && reply::is_echo_request(frame, packet) {
            reply::echo(
                frame,
                packet,
                &context.snapshot.interfaces.get(context.origin.interface).mac,
            );
            return Outcome::Done(Verdict::Reply(ReplyKind::Echo, context.origin.port));
        }
        if !icmp_error::is_error(frame, packet) {
            if let Some(outcome) = Self::leave_icmp_to_kernel(context, packet, reply::is_echo_reply(frame, packet)) {
                return outcome;
            }
            let otherwise = DropReason::NotOurs;
            return if is_ours {
                otherwise.into()
            } else {
                self.route_plainly(context, frame, packet)
            };
        }
        self.icmp_error(context, frame, packet, is_ours)
    }

    /// An error goes to the side whose packet it is about.
    fn icmp_error(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet, is_ours: bool) -> Outcome {
        let quotation = match icmp_error::quotation(frame, packet) {
            Ok(quotation) => quotation,
            Err(reason) => {
                return Self::leave_error_to_kernel(context, packet, None).unwrap_or_else(|| reason.into());
            }
        };
        // The quoted packet went away from us; what would come towards us on that connection has the tuple reversed.
        let towards_us = quotation.key.reversed();
        let hash = self.table.hash(&towards_us);
        let Some((index, is_outbound)) = self.table.find(hash, &towards_us) else {
            if let Some(worker) = self.whom_to_ask(context, &towards_us, false) {
                return self.redirect(context.origin, packet, worker);
            }
            if let Some(outcome) = Self::leave_error_to_kernel(context, packet, Some(&quotation.key)) {
                return outcome;
            }
            if !is_ours {
                return self.route_plainly(context, frame, packet);
            }
            return match self.open_for_error(context, frame, packet, &towards_us) {
                Some(index) => self.deliver_error(context, frame, packet, &quotation, (index, false)),
                None => DropReason::NoConnection.into(),
            };
        };
        self.deliver_error(context, frame, packet, &quotation, (index, is_outbound))
    }

    fn deliver_error(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        quotation: &Quotation,
        (index, is_outbound): (ConnectionIndex, bool),
    ) -> Outcome {
        let connection = *self.table.get(index);
        let towards_server = !is_outbound;
        let hop = match self.hop(context.snapshot, index, towards_server) {
            Ok(hop) => hop,
            Err(outcome) => return outcome,
        };
        if packet.ttl <= 1 {
            return DropReason::TtlExceeded.into();
        }
        edit::decrement_ttl(frame, packet);
        if towards_server && !connection.has_outbound() {
            // DR and TUN servers hold the virtual address and know the client: the error is right as it is.
            let is_tunnel = connection.method == ForwardingMethod::Tunnel;
            let kind = self.servers[connection.server_slot.0 as usize].tunnel;
            let tunnel_to = is_tunnel.then_some((connection.server, kind));
            let outcome = self.send_unchanged(frame, packet, hop, tunnel_to);
            return self.delivered(outcome);
        }
        let target = if towards_server {
            icmp_error::to_server(packet, &connection)
        } else {
            icmp_error::to_client(&connection, client_address::growth(&connection))
        };
        match icmp_error::translate(frame, packet, quotation, &target) {
            Ok(()) => {
                let outcome = self.send(frame, packet, hop);
                self.delivered(outcome)
            }
            Err(reason) => reason.into(),
        }
    }

    /// Counts an error that goes out.
    fn delivered(&self, outcome: Outcome) -> Outcome {
        if matches!(outcome, Outcome::Done(Verdict::Transmit(_))) {
            self.counters.event(Event::IcmpErrorsTranslated).add(1);
        }
        outcome
    }
}
