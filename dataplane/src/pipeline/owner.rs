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
const MOST_REDIRECTS: u8 = 3;

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
            None if snapshot.services.is_server(&packet.source) => {
                steering.owner_by_client(&packet.destination, packet.destination_port)
            }
            None => return None,
            Some(OwnedAddress::Virtual) => {
                let service = snapshot.services.find(&ServiceKey {
                    protocol: packet.protocol,
                    address: packet.destination,
                    port: packet.destination_port,
                })?;
                match service.ownership {
                    Ownership::Tuple => steering.owner_by_tuple(packet),
                    Ownership::Client => steering.owner_by_client(&packet.source, packet.source_port),
                    Ownership::ClientOnceTuple => return self.whom_to_ask_first(context.origin, packet, is_fragment),
                }
            }
        };
        (owner != self.settings.worker).then_some(owner)
    }

    /// A client's packet to a service whose connections have another owner than they had: the former owner is asked first, then the present one, which opens.
    fn whom_to_ask_first(&self, origin: Origin, packet: &Key, is_fragment: bool) -> Option<u8> {
        let me = self.settings.worker;
        let former = self.settings.steering.owner_by_tuple(packet);
        let owner = self
            .settings
            .steering
            .owner_by_client(&packet.source, packet.source_port);
        // A fragment's first way leads to where it meets the others.
        let has_been_asked = origin.redirected > u8::from(is_fragment);
        let next = if me == former || me == owner && has_been_asked {
            owner
        } else {
            former
        };
        (next != me).then_some(next)
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
