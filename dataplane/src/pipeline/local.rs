//! The local address and port of a new FullNAT connection.

use super::Pipeline;
use crate::conn::connection::Connection;
use crate::conn::key::{Key, KeyHasher};
use crate::io::Frame;
use crate::service::Service;
use crate::verdict::DropReason;

/// Local ports of its own that a worker tries for a new connection, about. With nine in ten ports taken towards one server, one in 800 attempts fails.
const TRIES: u32 = 64;
/// Of which so many on one address, then as many on the next.
const TRIES_ON_AN_ADDRESS: u32 = 2;
/// Addresses of a pool that have a cursor each; of more, some share one. As many as one search looks at.
const CURSORS: usize = (TRIES / TRIES_ON_AN_ADDRESS) as usize;

/// Where the search goes on: with the next address for each connection, and on each address with the next port. So a port rests as long as possible after its
/// connection, and a server's TIME_WAIT is met late.
#[derive(Debug)]
pub(super) struct Cursors {
    address: u32,
    /// By the address's place in its pool.
    ports: [u32; CURSORS],
}

impl Cursors {
    /// Restarts begin at different ports.
    pub(super) fn new(hasher: &KeyHasher) -> Cursors {
        let start = hasher.hash(&Key::default()) as u32;
        Cursors {
            address: 0,
            ports: [start; CURSORS],
        }
    }
}

impl<F: Frame> Pipeline<F> {
    /// A local address and port whose tuple towards the server is free, and whose replies are this worker's: those, that is, which a card brings to it. One port
    /// in as many as there are workers is, so that the search costs about four table words and a division for each worker (see [`Steering::replies`]), and at most
    /// [`TRIES`] times that.
    ///
    /// [`Steering::replies`]: crate::steering::Steering::replies
    pub(super) fn choose_local(&mut self, service: &Service, connection: &mut Connection) -> Result<(), DropReason> {
        let pool = if connection.server.is_v4() {
            &service.local_v4
        } else {
            &service.local_v6
        };
        let (first, last) = service.local_ports;
        if pool.is_empty() || first > last {
            return Err(DropReason::NoLocalPort);
        }
        let ports = u32::from(last - first) + 1;
        let at_once = ports.min(TRIES_ON_AN_ADDRESS * u32::from(self.settings.steering.workers()));
        let to_see_all = ports.div_ceil(at_once).saturating_mul(pool.len() as u32);
        for _ in 0..to_see_all.min(TRIES / TRIES_ON_AN_ADDRESS) {
            self.local_cursors.address = self.local_cursors.address.wrapping_add(1);
            let place = self.local_cursors.address as usize % pool.len();
            connection.local = pool[place];
            let mut cursor = self.local_cursors.ports[place % CURSORS];
            let is_chosen = self.choose_local_port(connection, first, ports, &mut cursor, at_once);
            self.local_cursors.ports[place % CURSORS] = cursor;
            if is_chosen {
                return Ok(());
            }
        }
        Err(DropReason::NoLocalPort)
    }

    /// Looks at so many of the `ports` from `first` on, beginning behind the cursor.
    fn choose_local_port(
        &self,
        connection: &mut Connection,
        first: u16,
        ports: u32,
        cursor: &mut u32,
        looks: u32,
    ) -> bool {
        let replies = self.settings.steering.replies(&connection.outbound_key());
        for _ in 0..looks {
            *cursor = cursor.wrapping_add(1);
            let port = first + (*cursor % ports) as u16;
            if replies.owner(port) != self.settings.worker {
                continue;
            }
            connection.local_port = port;
            let reply = connection.outbound_key();
            if self.table.find(self.table.hash(&reply), &reply).is_none() {
                return true;
            }
        }
        false
    }
}
