//! One balanced connection: two cache lines that hold everything a hit needs.

use super::index::Reference;
use super::key::{Key, TupleChange};
use super::state::ConnectionState;
use crate::address::Address;
use crate::service::{ClientAddress, ForwardingMethod, ServerSlot, ServiceSlot};
use crate::snapshot::HopIndex;

/// Bits of [`Connection::flags`].
pub mod flag {
    /// No packet of the server was seen (the kernel's NOOUTPUT): DR and TUN connections keep it for life.
    pub const NO_OUTPUT: u8 = 1;
    /// Counted as active at its server.
    pub const ACTIVE: u8 = 2;
    /// The server has acknowledged what was inserted for the client's address, so nothing more is inserted.
    pub const CLIENT_ADDRESS_KNOWN: u8 = 4;
    /// Client and server are of different families; [`Table::insert`](crate::conn::table::Table::insert) sets it.
    pub const CHANGES_FAMILY: u8 = 8;
    /// No connection but a persistence template: says which server a client stays with (the kernel's TEMPLATE).
    pub const TEMPLATE: u8 = 16;
}

/// A place in the connection table. `u32::MAX` is none.
pub type ConnectionIndex = u32;

/// No connection.
pub const NONE: ConnectionIndex = u32::MAX;

/// An entry of the connection table. The first line holds all that a packet of a DR or TUN connection needs; the second what rewriting and timers do.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
pub struct Connection {
    // First line.
    /// The client's address.
    pub client: Address,
    /// The virtual address.
    pub virtual_address: Address,
    /// The client's port.
    pub client_port: u16,
    /// The virtual port.
    pub virtual_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// State in the tables of its protocol.
    pub state: ConnectionState,
    /// See [`flag`].
    pub flags: u8,
    /// Tick at which it ends unless another packet comes.
    pub expires: u32,
    /// The real server's place.
    pub server_slot: ServerSlot,
    /// Next hop towards the server.
    pub hop_to_server: HopIndex,
    /// Next hop towards the client.
    pub hop_to_client: HopIndex,
    /// Version of the routes that the hops were taken from.
    pub route_version: u32,
    // Second line.
    /// The real server's address.
    pub server: Address,
    /// FullNAT: the local address, which the server sees as its client.
    pub local: Address,
    /// The real server's port.
    pub server_port: u16,
    /// FullNAT: the local port.
    pub local_port: u16,
    /// What checksums of the client's packets change by on their way to the server; [`Table::insert`](super::table::Table::insert) sets it.
    pub change_to_server: TupleChange,
    /// The service's place.
    pub service_slot: ServiceSlot,
    /// The wheel's.
    pub timer: TimerLinks,
    /// PROXY v2 over TCP: sequence number of the client's first byte.
    pub first_sequence: u32,
    /// How a FullNAT server learns the client's address.
    pub client_address: ClientAddress,
    /// PROXY v2 over TCP: bytes inserted in front of the client's stream.
    pub shift: u8,
    /// The place of the template that the connection came of, or none. In a template: how many connections came of it.
    pub control: u32,
}

const _: () = assert!(size_of::<Connection>() == 128, "a connection is two cache lines");

/// An entry's neighbours in a list of the timer wheel, or in the list of free entries.
#[derive(Clone, Copy, Debug)]
pub struct TimerLinks {
    pub(super) previous: u32,
    pub(super) next: u32,
}

impl Connection {
    /// The tuple of packets from the client.
    #[inline]
    pub fn inbound_key(&self) -> Key {
        Key {
            source: self.client,
            destination: self.virtual_address,
            source_port: self.client_port,
            destination_port: self.virtual_port,
            protocol: self.protocol,
        }
    }

    /// The tuple of packets from the server, where they come through the director.
    #[inline]
    pub fn outbound_key(&self) -> Key {
        let (destination, destination_port) = match self.method {
            ForwardingMethod::FullNat => (self.local, self.local_port),
            _ => (self.client, self.client_port),
        };
        Key {
            source: self.server,
            destination,
            source_port: self.server_port,
            destination_port,
            protocol: self.protocol,
        }
    }

    /// What stands for the protocol in a template's key. No packet has it, so that none is ever taken for one of a template; and what finds connections need not
    /// know of templates.
    #[inline]
    pub const fn template_protocol(protocol: u8) -> u8 {
        !protocol
    }

    /// The IP protocol number, of templates too.
    #[inline]
    pub fn ip_protocol(&self) -> u8 {
        if self.is(flag::TEMPLATE) {
            !self.protocol
        } else {
            self.protocol
        }
    }

    /// The template that the connection came of.
    #[inline]
    pub fn template(&self) -> Option<ConnectionIndex> {
        (self.control != NONE && !self.is(flag::TEMPLATE)).then_some(self.control)
    }

    /// Whether the table knows it by the tuple of packets from the server as well.
    #[inline]
    pub(super) fn has_outbound_key(&self) -> bool {
        self.has_outbound() && !self.is(flag::TEMPLATE)
    }

    /// Whether packets from the server have this tuple.
    #[inline]
    pub fn is_outbound_key(&self, key: &Key) -> bool {
        self.has_outbound() && self.outbound_key() == *key
    }

    /// How the index refers to it, when it is at `index`.
    #[inline]
    pub(super) fn reference(&self, index: ConnectionIndex, outbound: bool) -> Reference {
        Reference::new(index, outbound, self.has_outbound())
    }

    /// Whether replies come through the director.
    #[inline]
    pub fn has_outbound(&self) -> bool {
        matches!(self.method, ForwardingMethod::Nat | ForwardingMethod::FullNat)
    }

    /// Moves the deadline, unless it would be earlier than before: then nothing happens, and the table has to ([`Table::set_expiry`](super::table::Table::set_expiry)).
    #[inline(always)]
    pub fn postpone(&mut self, expires: u32) -> bool {
        let is_later = (expires.wrapping_sub(self.expires) as i32) >= 0;
        if is_later {
            self.expires = expires;
        }
        is_later
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}
