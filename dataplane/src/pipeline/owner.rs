//! Whose a connection is: every worker knows it without asking, and hands over what is another's.

use super::Pipeline;
use super::stage::{Origin, Outcome};
use crate::address::Address;
use crate::io::Frame;
use crate::parse::Packet;
use crate::verdict::DropReason;

impl<F: Frame> Pipeline<F> {
    /// The worker that owns the connections of a client's address and port, where no local port decides.
    #[inline]
    pub(super) fn owner_of_client(&self, address: &Address, port: u16) -> u8 {
        if self.settings.workers == 1 {
            return self.settings.worker;
        }
        ((self.settings.hasher.hash_client(address, port) >> 32) % u64::from(self.settings.workers)) as u8
    }

    /// The worker that owns a local port: each takes every n-th.
    #[inline]
    pub(super) fn owner_of_local_port(&self, port: u16) -> u8 {
        (port % u16::from(self.settings.workers)) as u8
    }

    pub(super) fn redirect(&self, origin: Origin, packet: &Packet, owner: u8) -> Outcome {
        // Once to where fragments meet, once to the owner.
        if origin.redirected >= 2 {
            return DropReason::RedirectLoop.into();
        }
        let ports = packet
            .is_later_fragment()
            .then_some((packet.key.source_port, packet.key.destination_port));
        Outcome::Redirect(owner, ports)
    }
}
