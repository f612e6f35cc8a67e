//! What goes to the kernel where every frame comes to the workers (ports with a twin). Only looked at where a packet belongs to no connection.

use super::Pipeline;
use super::stage::{Context, Outcome};
use crate::address::Address;
use crate::conn::key::Key;
use crate::forward::edit;
use crate::io::{Frame, PortIndex};
use crate::kernel::KernelSide;
use crate::parse::{self, Packet};
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, PuntReason, Verdict};
use crate::wire::ethernet;

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The kernel's only.
    Kernel,
    /// The director's only.
    Owned,
    /// Both hold it.
    Shared,
    /// Neither: somebody else's.
    Foreign,
}

fn class_of(snapshot: &Snapshot, kernel: &KernelSide, address: &Address) -> Class {
    let is_owned = snapshot.interfaces.owned(address).is_some();
    match (is_owned, kernel.holds(address)) {
        (true, false) => Class::Owned,
        (true, true) => Class::Shared,
        (false, true) => Class::Kernel,
        (false, false) => Class::Foreign,
    }
}

fn punt(reason: PuntReason) -> Outcome {
    Outcome::Done(Verdict::Punt(reason))
}

impl<F: Frame> Pipeline<F> {
    /// A TCP or UDP packet without a connection, if it is the kernel's.
    pub(super) fn leave_to_kernel(context: &Context<'_>, frame: &mut F, packet: &Packet) -> Option<Outcome> {
        let snapshot = context.snapshot;
        let kernel = snapshot.kernel.as_deref()?;
        let key = &packet.key;
        let is_source_claimed = || kernel.is_claimed(key.protocol, &key.source, key.source_port);
        let is_destination_claimed = || kernel.is_claimed(key.protocol, &key.destination, key.destination_port);
        let reason = match class_of(snapshot, kernel, &key.destination) {
            _ if ethernet::is_group(&ethernet::destination(frame.head())) => PuntReason::Group,
            Class::Kernel => PuntReason::ToDirector,
            Class::Shared if packet.fragment.is_none() && !is_destination_claimed() && !is_source_claimed() => {
                PuntReason::ToDirector
            }
            Class::Foreign if !is_source_claimed() => PuntReason::Transit,
            Class::Owned | Class::Shared | Class::Foreign => return None,
        };
        // The kernel takes a checksum at its word.
        edit::finish_checksum(frame, packet, false);
        Some(punt(reason))
    }

    /// A fragment whose ports nobody needs to wait for, since it is the kernel's whatever they are.
    pub(super) fn leave_fragment_to_kernel(context: &Context<'_>, packet: &Packet) -> Option<Outcome> {
        let kernel = context.snapshot.kernel.as_deref()?;
        match class_of(context.snapshot, kernel, &packet.key.destination) {
            Class::Kernel => Some(punt(PuntReason::ToDirector)),
            Class::Foreign if !kernel.may_be_claimed(packet.key.protocol, &packet.key.source) => {
                Some(punt(PuntReason::Transit))
            }
            Class::Owned | Class::Shared | Class::Foreign => None,
        }
    }

    /// ICMP that no class of address makes the director's.
    pub(super) fn leave_group_to_kernel(context: &Context<'_>, frame: &F, packet: &Packet) -> Option<Outcome> {
        context.snapshot.kernel.as_deref()?;
        let is_group =
            ethernet::is_group(&ethernet::destination(frame.head())) || parse::is_group(&packet.key.destination);
        is_group.then_some(punt(PuntReason::Group))
    }

    /// ICMP that is neither an error nor an echo request of ours. `is_echo`: an echo reply, which may answer what only the director sends.
    pub(super) fn leave_icmp_to_kernel(context: &Context<'_>, packet: &Packet, is_echo: bool) -> Option<Outcome> {
        let kernel = context.snapshot.kernel.as_deref()?;
        match class_of(context.snapshot, kernel, &packet.key.destination) {
            Class::Kernel => Some(punt(PuntReason::ToDirector)),
            Class::Shared if !is_echo => Some(punt(PuntReason::ToDirector)),
            Class::Foreign => Some(punt(PuntReason::Transit)),
            Class::Owned | Class::Shared => None,
        }
    }

    /// An ICMP error about no connection: it belongs to whom the packet belonged that it quotes, if that can be told.
    pub(super) fn leave_error_to_kernel(
        context: &Context<'_>,
        packet: &Packet,
        quoted: Option<&Key>,
    ) -> Option<Outcome> {
        let kernel = context.snapshot.kernel.as_deref()?;
        let is_claimed = quoted.map(|key| {
            kernel.is_claimed(key.protocol, &key.source, key.source_port)
                || kernel.is_claimed(key.protocol, &key.destination, key.destination_port)
        });
        match class_of(context.snapshot, kernel, &packet.key.destination) {
            Class::Kernel => Some(punt(PuntReason::ToDirector)),
            Class::Shared if is_claimed == Some(false) => Some(punt(PuntReason::ToDirector)),
            Class::Foreign if is_claimed != Some(true) => Some(punt(PuntReason::Transit)),
            Class::Owned | Class::Shared | Class::Foreign => None,
        }
    }

    /// TCP, UDP or ICMP to a group.
    pub(super) fn to_group(context: &Context<'_>) -> Outcome {
        match context.snapshot.kernel {
            Some(_) => punt(PuntReason::Group),
            None => DropReason::MartianDestination.into(),
        }
    }

    /// A fragment of an ICMP message.
    pub(super) fn icmp_fragment(context: &Context<'_>, packet: &Packet) -> Outcome {
        let otherwise = DropReason::FragmentedIcmp;
        // Whatever it holds, it is the director's where any echo is.
        Self::leave_icmp_to_kernel(context, packet, true).unwrap_or_else(|| otherwise.into())
    }

    /// What the parser found to be the kernel's by its kind.
    pub(super) fn punt(context: &Context<'_>, packet: &Packet, reason: PuntReason) -> Outcome {
        // The kernel does not know an address that is the director's alone: it would send the packet back to where it came from.
        if reason == PuntReason::OtherProtocol
            && let Some(kernel) = context.snapshot.kernel.as_deref()
            && class_of(context.snapshot, kernel, &packet.key.destination) == Class::Owned
        {
            return DropReason::NoService.into();
        }
        punt(reason)
    }

    /// What nobody balances may still mean something to the kernel.
    pub(super) fn drop_or_punt(context: &Context<'_>, frame: &F, reason: DropReason) -> Outcome {
        if context.snapshot.kernel.is_none() {
            return reason.into();
        }
        match reason {
            DropReason::UnknownEthertype => punt(PuntReason::OtherEthertype),
            DropReason::UnknownVlan if is_for_port(context.snapshot, context.origin.port, frame.head()) => {
                punt(PuntReason::UnknownVlan)
            }
            other => other.into(),
        }
    }
}

/// Whether the frame is for the port itself or for a group. All interfaces of a port have its MAC.
fn is_for_port(snapshot: &Snapshot, port: PortIndex, head: &[u8]) -> bool {
    let destination = ethernet::destination(head);
    let mut own = snapshot.interfaces.all().iter();
    ethernet::is_group(&destination) || own.any(|own| own.port == port && own.mac == destination)
}
