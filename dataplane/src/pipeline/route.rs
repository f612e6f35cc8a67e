//! Next hops: of connections, and of packets that are only routed.

use super::Pipeline;
use super::stage::{Context, Outcome};
use crate::conn::connection::ConnectionIndex;
use crate::conn::key::Key;
use crate::forward::{edit, icmp_error};
use crate::io::Frame;
use crate::parse::Packet;
use crate::snapshot::{HopIndex, NextHop, RouteLookup, Snapshot};
use crate::verdict::DropReason;

impl<F: Frame> Pipeline<F> {
    /// The hop towards the server or the client, looked up again when routes have changed since.
    #[inline(always)]
    pub(super) fn hop<'a>(
        &mut self,
        snapshot: &'a Snapshot,
        index: ConnectionIndex,
        towards_server: bool,
    ) -> Result<&'a NextHop, Outcome> {
        let connection = self.table.get(index);
        let known = if towards_server {
            connection.hop_to_server
        } else {
            connection.hop_to_client
        };
        // No hop has the index that means "not known".
        match snapshot.routes.hop(known) {
            Some(hop) if connection.route_version == snapshot.routes.version => Ok(hop),
            _ => self.look_up_hop(snapshot, index, towards_server),
        }
    }

    #[cold]
    fn look_up_hop<'a>(
        &mut self,
        snapshot: &'a Snapshot,
        index: ConnectionIndex,
        towards_server: bool,
    ) -> Result<&'a NextHop, Outcome> {
        let version = snapshot.routes.version;
        let connection = self.table.get_mut(index);
        if connection.route_version != version {
            connection.route_version = version;
            connection.hop_to_server = HopIndex::NONE;
            connection.hop_to_client = HopIndex::NONE;
        }
        let destination = if towards_server {
            connection.server
        } else {
            connection.client
        };
        match snapshot.routes.find(&destination) {
            RouteLookup::Hop(hop) => {
                if towards_server {
                    connection.hop_to_server = hop;
                } else {
                    connection.hop_to_client = hop;
                }
                snapshot.routes.hop(hop).ok_or_else(|| DropReason::NoRoute.into())
            }
            RouteLookup::Unresolved(interface, address) => Err(Outcome::AwaitNeighbour(interface, address)),
            RouteLookup::Nowhere => Err(DropReason::NoRoute.into()),
        }
    }

    /// A packet that is not balanced but came here because its sender is a real server: the director is its router, as an LVS-NAT box is.
    pub(super) fn route_plainly(&mut self, context: &Context<'_>, frame: &mut F, packet: &mut Packet) -> Outcome {
        let Key {
            source, destination, ..
        } = &packet.key;
        // What comes back to a server in the same way is not ours, but for errors: those were looked up here.
        let is_error = packet.is_icmp() && icmp_error::is_error(frame, packet);
        let concerns_server =
            context.snapshot.services.is_server(source) || is_error && context.snapshot.services.is_server(destination);
        if !concerns_server {
            return DropReason::NotOurs.into();
        }
        let hop = match context.snapshot.routes.find(&packet.key.destination) {
            RouteLookup::Hop(hop) => hop,
            RouteLookup::Unresolved(interface, address) => return Outcome::AwaitNeighbour(interface, address),
            RouteLookup::Nowhere => return DropReason::NoRoute.into(),
        };
        let Some(hop) = context.snapshot.routes.hop(hop) else {
            return DropReason::NoRoute.into();
        };
        if let Some(outcome) = self.refuse_to_forward(context, frame, packet, hop, 0) {
            return outcome;
        }
        edit::decrement_ttl(frame, packet);
        self.send_finished(frame, packet, hop)
    }
}
