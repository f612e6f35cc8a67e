//! Fragments: all pieces of a datagram meet at one worker.

use super::Pipeline;
use super::stage::{Context, Outcome};
use crate::conn::fragments::{DatagramKey, hash_key};
use crate::conn::index::Reference;
use crate::io::Frame;
use crate::parse::Packet;
use crate::verdict::DropReason;

impl<F: Frame> Pipeline<F> {
    /// A fragment: all pieces of a datagram meet at one worker, which learns the ports from the first.
    pub(super) fn fragment(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let Some(fragment) = packet.fragment else {
            return DropReason::BadFragment.into();
        };
        if let Some(outcome) = Self::leave_fragment_to_kernel(context, packet) {
            return outcome;
        }
        let datagram = DatagramKey {
            source: packet.key.source,
            destination: packet.key.destination,
            id: fragment.id,
            protocol: packet.key.protocol,
        };
        let hash = self.settings.hasher.hash(&hash_key(&datagram));
        let meeting_point = (hash >> 32) as u8 % self.settings.steering.workers();
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
        self.packet(context, frame, packet, hash, Reference::NONE)
    }
}
