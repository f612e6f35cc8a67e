//! The connection table of one worker: a fixed array of entries, a hash index over their keys, a timer wheel over their deadlines.

use super::connection::{Connection, ConnectionIndex, NONE, flag};
use super::index::{Index, Reference};
use super::key::{Key, KeyHasher, TupleChange};
use super::state::ConnectionState;
use super::tcp_state::TcpState;
use super::wheel::{self, Wheel};
use crate::address::Address;
use crate::service::{ClientAddress, ForwardingMethod, ServerSlot, ServiceSlot};
use crate::snapshot::HopIndex;

/// No entry, or no room in the index, is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

/// Seconds after which a template that has connections is looked at again, as in the kernel.
const TEMPLATE_RETRY_S: u32 = 60;

/// See the module.
#[derive(Debug)]
pub struct Table {
    entries: Box<[Connection]>,
    index: Index,
    wheel: Wheel,
    hasher: KeyHasher,
    /// Free entries, linked by `timer.next`.
    free: u32,
    used: usize,
}

impl Default for Connection {
    /// A place that is free: no connection has protocol 0.
    fn default() -> Connection {
        Connection {
            client: Address::UNSPECIFIED,
            virtual_address: Address::UNSPECIFIED,
            server: Address::UNSPECIFIED,
            client_port: 0,
            virtual_port: 0,
            server_port: 0,
            local_port: 0,
            protocol: 0,
            method: ForwardingMethod::Nat,
            state: ConnectionState::from(TcpState::None),
            flags: 0,
            expires: 0,
            local: Address::UNSPECIFIED,
            server_slot: ServerSlot(0),
            service_slot: ServiceSlot(0),
            hop_to_server: HopIndex::NONE,
            hop_to_client: HopIndex::NONE,
            route_version: 0,
            timer: wheel::UNLINKED_ENTRY,
            client_address: ClientAddress::Hidden,
            shift: 0,
            control: NONE,
            first_sequence: 0,
            change_to_server: TupleChange::default(),
        }
    }
}

/// Connections that a table really has room for when it is asked for `capacity`.
fn clamped(capacity: usize) -> usize {
    capacity.clamp(16, Reference::LIMIT as usize)
}

/// A connection has a key for each direction at most.
fn keys_of(capacity: usize) -> usize {
    capacity * 2
}

impl Table {
    /// A table for `capacity` connections (at least 16), all memory taken now.
    pub fn new(capacity: usize, hasher: KeyHasher, now_tick: u32) -> Table {
        let capacity = clamped(capacity);
        let mut entries = vec![Connection::default(); capacity].into_boxed_slice();
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.timer.next = if at + 1 < capacity { at as u32 + 1 } else { NONE };
        }
        Table {
            entries,
            index: Index::new(keys_of(capacity)),
            wheel: Wheel::new(now_tick),
            hasher,
            free: 0,
            used: 0,
        }
    }

    /// Connections in the table.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether no entry is left.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Connections that fit.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that a table for `capacity` connections will occupy.
    pub fn memory_for(capacity: usize) -> usize {
        let capacity = clamped(capacity);
        capacity * size_of::<Connection>() + Index::memory_for(keys_of(capacity))
    }

    /// Bytes that the table occupies.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.entries) + self.index.memory()
    }

    /// The hash of a key in this table.
    #[inline(always)]
    pub fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash(key)
    }

    /// Fetches the index line for a hash.
    #[inline(always)]
    pub fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Fetches what is needed of the likely connection for a hash, whose index line should be there by now, and says which one it is.
    #[inline(always)]
    pub fn prefetch_connection(&self, hash: u64) -> Reference {
        let candidate = self.index.candidate(hash);
        if let Some(entry) = self.entries.get(candidate.index() as usize) {
            crate::prefetch::prefetch(entry);
            // For DR and TUN the first line is enough, and memory has that much more time for others (7 % of a hit with a million connections).
            if candidate.is_whole() {
                crate::prefetch::prefetch(&entry.server);
            }
        }
        candidate
    }

    /// The connection that a packet with this key belongs to, and whether the packet is the server's.
    #[inline]
    pub fn find(&self, hash: u64, key: &Key) -> Option<(ConnectionIndex, bool)> {
        let found = self.index.find(hash, |reference| self.is_it(reference, key))?;
        Some((found.index(), found.is_outbound()))
    }

    /// The same with a guess of [`Table::prefetch_connection`], which is nearly always right: then the index is not asked again (a tenth of a hit). The guess may be
    /// out of date by now; what the entry says is what counts.
    #[inline(always)]
    pub fn find_likely(&self, candidate: Reference, hash: u64, key: &Key) -> Option<(ConnectionIndex, bool)> {
        if self.is_it(candidate, key) {
            return Some((candidate.index(), candidate.is_outbound()));
        }
        self.find(hash, key)
    }

    #[inline(always)]
    fn is_it(&self, reference: Reference, key: &Key) -> bool {
        let Some(entry) = self.entries.get(reference.index() as usize) else {
            return false;
        };
        if reference.is_outbound() {
            entry.is_outbound_key(key)
        } else {
            entry.inbound_key() == *key
        }
    }

    /// An entry.
    #[inline(always)]
    pub fn get(&self, index: ConnectionIndex) -> &Connection {
        &self.entries[index as usize]
    }

    /// An entry, to be changed. Keys must stay as they are; the deadline goes through [`Table::set_expiry`].
    #[inline(always)]
    pub fn get_mut(&mut self, index: ConnectionIndex) -> &mut Connection {
        &mut self.entries[index as usize]
    }

    /// Enters a connection under its key, or keys, with its deadline.
    ///
    /// # Errors
    /// [`TableFull`]; nothing has changed then.
    pub fn insert(&mut self, mut connection: Connection) -> Result<ConnectionIndex, TableFull> {
        let index = self.free;
        if index == NONE {
            return Err(TableFull);
        }
        let inbound = self.hasher.hash(&connection.inbound_key());
        self.index
            .insert(inbound, connection.reference(index, false))
            .map_err(|_| TableFull)?;
        if connection.has_outbound_key() {
            let reply = connection.outbound_key();
            connection.change_to_server = TupleChange::new(&connection.inbound_key(), &reply.reversed());
            if connection.client.family() != connection.server.family() {
                connection.flags |= flag::CHANGES_FAMILY;
            }
            let outbound = self.hasher.hash(&reply);
            if self.index.insert(outbound, connection.reference(index, true)).is_err() {
                self.index.remove(inbound, connection.reference(index, false));
                return Err(TableFull);
            }
        }
        self.free = self.entries[index as usize].timer.next;
        // Places that became free lie anywhere: the next connection's is fetched while this one's is filled.
        if let Some(next) = self.entries.get(self.free as usize) {
            crate::prefetch::prefetch(next);
            crate::prefetch::prefetch(&next.timer);
        }
        self.entries[index as usize] = connection;
        self.entries[index as usize].timer = wheel::UNLINKED_ENTRY;
        self.wheel.link(&mut self.entries, index);
        self.used += 1;
        if let Some(template) = connection.template() {
            self.entries[template as usize].control += 1;
        }
        Ok(index)
    }

    /// Moves a deadline. Later ones cost a store; earlier ones relink.
    #[inline]
    pub fn set_expiry(&mut self, index: ConnectionIndex, expires: u32) {
        let entry = &mut self.entries[index as usize];
        let earlier = (expires.wrapping_sub(entry.expires) as i32) < 0;
        entry.expires = expires;
        if earlier {
            self.wheel.unlink(&mut self.entries, index);
            self.wheel.link(&mut self.entries, index);
        }
    }

    /// Takes a connection out and returns what it was.
    pub fn remove(&mut self, index: ConnectionIndex) -> Connection {
        self.wheel.unlink(&mut self.entries, index);
        let connection = self.entries[index as usize];
        self.index.remove(
            self.hasher.hash(&connection.inbound_key()),
            connection.reference(index, false),
        );
        if connection.has_outbound_key() {
            self.index.remove(
                self.hasher.hash(&connection.outbound_key()),
                connection.reference(index, true),
            );
        }
        if let Some(template) = connection.template() {
            self.entries[template as usize].control -= 1;
        }
        self.entries[index as usize] = Connection::default();
        self.entries[index as usize].timer.next = self.free;
        self.free = index;
        self.used -= 1;
        connection
    }

    /// The next connection whose deadline has passed, taken out; see [`Wheel::next_expired`]. A template stays while connections that came of it do.
    pub fn next_expired(&mut self, now_tick: u32, budget: &mut u32) -> Option<Connection> {
        loop {
            let index = self.wheel.next_expired(&mut self.entries, now_tick, budget)?;
            let entry = &mut self.entries[index as usize];
            if !entry.is(flag::TEMPLATE) || entry.control == 0 {
                return Some(self.remove(index));
            }
            entry.expires = now_tick.wrapping_add(wheel::ticks_of_seconds(TEMPLATE_RETRY_S));
            self.wheel.link(&mut self.entries, index);
        }
    }

    /// At most `limit` connections from entry `cursor` on, for listings: calls `visit` for each, returns where to go on, `None` at the end. Looks at no more than
    /// 64 entries for each one asked for, so that a sparse table is walked in bounded steps.
    pub fn scan(&self, cursor: u32, limit: usize, mut visit: impl FnMut(ConnectionIndex, &Connection)) -> Option<u32> {
        let mut seen = 0;
        let start = (cursor as usize).min(self.entries.len());
        let end = self.entries.len().min(start + limit.saturating_mul(64));
        for (at, entry) in self.entries[start..end].iter().enumerate() {
            if entry.protocol == 0 {
                continue;
            }
            visit((start + at) as u32, entry);
            seen += 1;
            if seen == limit {
                return Some((start + at) as u32 + 1);
            }
        }
        if end < self.entries.len() {
            Some(end as u32)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
