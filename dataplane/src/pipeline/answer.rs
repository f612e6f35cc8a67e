//! Answers of the director's own: ARP, neighbour advertisements, ICMP errors.

use super::{Context, Outcome, Pipeline};
use crate::address::{Address, Family};
use crate::forward::reply::{self, OwnError};
use crate::io::Frame;
use crate::parse::Packet;
use crate::time::Time;
use crate::verdict::{DropReason, PuntReason, ReplyKind, Verdict};
use crate::wire::ethernet;

/// A token bucket (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f): a flood of packets that deserve an error must not become a flood of errors.
#[derive(Debug)]
pub(super) struct RateLimit {
    tokens: u32,
    refilled: Time,
}

/// As the kernel's `icmp_msgs_per_sec` and `icmp_msgs_burst`, but the burst is larger: a worker's clock stands still for a burst of frames.
const ERRORS_PER_SECOND: u64 = 1000;
const ERROR_BURST: u32 = 100;

impl RateLimit {
    pub(super) fn new(now: Time) -> RateLimit {
        RateLimit {
            tokens: ERROR_BURST,
            refilled: now,
        }
    }

    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.refilled) / (1_000_000_000 / ERRORS_PER_SECOND);
        if earned > 0 {
            self.tokens = (u64::from(self.tokens) + earned).min(u64::from(ERROR_BURST)) as u32;
            self.refilled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

/// An ARP request: answered when it asks for an address of ours.
pub(super) fn arp<F: Frame>(context: &Context<'_>, frame: &mut F, at: usize) -> Outcome {
    let target = reply::arp_target(frame.head(), at);
    if !context.snapshot.answers_for(&target) {
        return Outcome::Done(Verdict::Punt(PuntReason::Arp));
    }
    if context.snapshot.gives_up(&target) {
        return DropReason::GivenUp.into();
    }
    match reply::arp(
        frame,
        at,
        &context.snapshot.interfaces.get(context.origin.interface).mac,
    ) {
        Ok(()) => Outcome::Done(Verdict::Reply(ReplyKind::Arp, context.origin.port)),
        Err(reason) => reason.into(),
    }
}

/// A neighbour solicitation: answered when it asks for an address of ours.
pub(super) fn solicitation<F: Frame>(context: &Context<'_>, frame: &mut F, packet: &Packet) -> Outcome {
    let target = match reply::solicited_target(frame, packet) {
        Ok(target) => target,
        Err(reason) => return reason.into(),
    };
    if !context.snapshot.answers_for(&target) {
        return Outcome::Done(Verdict::Punt(PuntReason::NeighbourDiscovery));
    }
    if context.snapshot.gives_up(&target) {
        return DropReason::GivenUp.into();
    }
    match reply::advertisement(
        frame,
        packet,
        &target,
        &context.snapshot.interfaces.get(context.origin.interface).mac,
    ) {
        Ok(()) => Outcome::Done(Verdict::Reply(ReplyKind::Neighbour, context.origin.port)),
        Err(reason) => reason.into(),
    }
}

impl<F: Frame> Pipeline<F> {
    /// Tells the sender of a packet what is wrong with it, or drops it as `otherwise` when it may not be told.
    pub(super) fn tell_sender(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &Packet,
        error: OwnError,
        otherwise: DropReason,
    ) -> Outcome {
        let interface = context.snapshot.interfaces.get(context.origin.interface);
        // The kernel answers in the name of the address that was meant when that is its own (a virtual or local address), else as the router.
        let source = match context.snapshot.interfaces.owned(&packet.key.destination) {
            Some(_) => Some(packet.key.destination),
            None => own_address(interface.address_v4, interface.address_v6, packet.family),
        };
        let Some(source) = source else { return otherwise.into() };
        let came_to_us = ethernet::destination(frame.head()) == interface.mac;
        if !came_to_us || !reply::may_be_told(frame, packet) || !self.own_errors.take(context.now) {
            return otherwise.into();
        }
        let kind = match error {
            OwnError::TimeExceeded => ReplyKind::TimeExceeded,
            OwnError::TooBig(_) => ReplyKind::TooBig,
            OwnError::PortUnreachable | OwnError::HostUnreachable => ReplyKind::Unreachable,
        };
        match reply::error(frame, packet, error, &source, &interface.mac) {
            Ok(()) => Outcome::Done(Verdict::Reply(kind, context.origin.port)),
            Err(reason) => reason.into(),
        }
    }
}

fn own_address(v4: Option<Address>, v6: Option<Address>, family: Family) -> Option<Address> {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}
