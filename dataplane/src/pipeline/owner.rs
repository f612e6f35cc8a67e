//! Whose a connection is: every worker knows it without asking, and hands over what is another's.

use super::Pipeline;
use super::stage::{Context, Origin, Outcome};
use crate::conn::key::Key;
use crate::io::Frame;
use crate::parse::Packet;
use crate::service::Ownership;
use crate::snapshot::{OwnedAddress, ServiceKey};
use crate::verdict::DropReason;

/// A frame goes to where fragments meet, to who owned the connection before, to who owns it now, and no further.
const MOST_REDIRECTS: u8 = 4;

impl<F: Frame> Pipeline<F> {
    /// The worker that may know the connection of a packet with this tuple, which this worker does not know. `None`: this worker is its owner, or it has none.
    pub(super) fn whom_to_ask(&self, context: &Context<'_>, packet: &Key, is_fragment: bool) -> Option<u8> {
        let steering = &self.settings.steering;
        if steering.workers() == 1 {
            return None;
        }
        let snapshot = context.snapshot;
        let owner = match snapshot.interfaces.owned(&packet.destination) {
            Some(OwnedAddress::Local) => steering.owner_of_reply(packet),
            None => return self.whom_to_ask_of_reply(context, packet, is_fragment),
            Some(OwnedAddress::Virtual) => {
                let service = snapshot.services.find(&ServiceKey {
                    protocol: packet.protocol,
                    address: packet.destination,
                    port: packet.destination_port,
                })?;
                let Ownership { by, formerly } = service.ownership;
                let owner = steering.owner(by, packet);
                if let Some(former) = formerly {
                    let former = steering.owner(former, packet);
                    return self.whom_to_ask_first(context.origin, former, owner, is_fragment);
                }
                owner
            }
        };
        (owner != self.settings.worker).then_some(owner)
    }

    /// A client's packet to a service whose connections have another owner than they had: the former owner is asked first, then the present one, which opens.
    fn whom_to_ask_first(&self, origin: Origin, former: u8, owner: u8, is_fragment: bool) -> Option<u8> {
        let me = self.settings.worker;
        // A fragment's first way leads to where it meets the others.
        let has_been_asked = origin.redirected > u8::from(is_fragment);
        let next = if me == former || me == owner && has_been_asked {
            owner
        } else {
            former
        };
        (next != me).then_some(next)
    }

    /// A NAT server's reply to a connection that this worker does not know. One server can be in services whose owners are found in different ways: those workers
    /// are asked one after the other.
    fn whom_to_ask_of_reply(&self, context: &Context<'_>, packet: &Key, is_fragment: bool) -> Option<u8> {
        let from_client = packet.reversed();
        let me = self.settings.worker;
        let owners = context.snapshot.services.owners_of_replies(&packet.source);
        let asked = match owners.len() {
            1 => 0,
            // A fragment's first way leads to where it meets the others.
            _ => context.origin.redirected.saturating_sub(u8::from(is_fragment)),
        };
        let owners = owners.iter().map(|by| self.settings.steering.owner(*by, &from_client));
        owners.skip(usize::from(asked)).find(|owner| *owner != me)
    }

    pub(super) fn redirect(&self, origin: Origin, packet: &Packet, owner: u8) -> Outcome {
        if origin.redirected >= MOST_REDIRECTS {
            return DropReason::RedirectLoop.into();
        }
        let ports = packet
            .is_later_fragment()
            .then_some((packet.key.source_port, packet.key.destination_port));
        Outcome::Redirect(owner, ports)
    }
}
