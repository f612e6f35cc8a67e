//! What is balanced: virtual services and their real servers, as one immutable version of the configuration holds them.

mod load;
mod tunnel_type;

use std::sync::Arc;

use crate::address::Address;
use crate::scheduler::{SchedulerKind, SchedulerTable};

pub use load::{Load, Loads};
pub use tunnel_type::{GueChecksum, TunnelType};

/// IP protocol numbers of the balanced protocols.
pub mod protocol {
    /// TCP
    pub const TCP: u8 = 6;
    /// UDP
    pub const UDP: u8 = 17;
    /// SCTP
    pub const SCTP: u8 = 132;
    /// ICMP for IPv4
    pub const ICMP: u8 = 1;
    /// ICMPv6
    pub const ICMPV6: u8 = 58;
    /// IPv4 in IP
    pub const IPIP: u8 = 4;
    /// IPv6 in IP
    pub const IPV6: u8 = 41;
    /// Generic routing encapsulation
    pub const GRE: u8 = 47;
    /// IPv6 fragment header
    pub const FRAGMENT: u8 = 44;
}

/// A service's place in the tables of all workers: stable as long as the service exists, used again only after it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceSlot(pub u32);

/// A real server's place (one per service and server) in the tables of all workers: stable as long as the server exists, used again
/// only when no connection names it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerSlot(pub u32);

/// How packets get from the director to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ForwardingMethod {
    /// Destination rewritten; replies come back through the director (`ipvsadm -m`).
    Nat = 0,
    /// Only the link-layer destination changes (`ipvsadm -g`).
    DirectRouting = 1,
    /// In another packet: see [`TunnelType`] (`ipvsadm -i`).
    Tunnel = 2,
    /// Both addresses rewritten; replies come back to a local address of the director.
    FullNat = 3,
}

/// How a FullNAT server learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ClientAddress {
    /// It does not.
    #[default]
    Hidden = 0,
    /// TCP option 254 on the client's packets until the server has acknowledged data.
    Toa = 1,
    /// PROXY protocol v2 header in front of the stream, or of each datagram.
    ProxyV2 = 2,
}

/// Flags of the hashing schedulers, as `ipvsadm -b` spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: try on when the picked server is unavailable.
    pub fallback: bool,
    /// `sh-port`, `mh-port`: the client's port takes part in the hash.
    pub port: bool,
}

/// One real server of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its place in the workers' tables.
    pub slot: ServerSlot,
    /// Address that packets are sent to.
    pub address: Address,
    /// Port that packets are sent to; the service's port for DR and TUN. In a service for all ports it is the one that the client called.
    pub port: u16,
    /// Share of new connections; 0 gets none ("quiesced").
    pub weight: u32,
    /// The last weight that was not 0 (or the first one): what mh builds its table from, so that quiescing moves nobody.
    pub last_weight: u32,
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// What goes around the packets of the method `Tunnel`.
    pub tunnel: TunnelType,
    /// Connections at which the server counts as overloaded; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it stops being overloaded; 0: three quarters of the upper one.
    pub lower_threshold: u32,
}

/// Clients stay with their server (`ipvsadm -p`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Seconds that a client stays after it opened its last connection. It stays in any case while it has connections.
    pub timeout_s: u32,
    /// So many leading bits of the client's address say who it is (`ipvsadm -M`): 32 or 128 for the whole address.
    pub prefix_length: u8,
    /// Whether clients stay with a server whose weight became 0, as the kernel has it with `expire_quiescent_template` 0.
    pub keeps_quiesced: bool,
}

/// What of a client's packet says which worker owns its connection; see [`steering`](crate::steering).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnedBy {
    /// The whole tuple.
    #[default]
    Tuple,
    /// The client's address and port: replies of NAT servers carry no more.
    Client,
    /// So many leading bits of the client's address: with persistence one worker decides for all of a client's connections.
    Network(u8),
}

/// How the owner of a service's connections is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ownership {
    /// By this.
    pub by: OwnedBy,
    /// Connections from before are still where this says, so that worker is asked first.
    pub formerly: Option<OwnedBy>,
}

impl Ownership {
    /// For a service with these servers now, which was owned like that `before` if it may have connections. A service does not go back to the tuple when its
    /// last NAT server is taken out: its connections stay where they are.
    pub fn after(before: Option<Ownership>, persistence: Option<&Persistence>, servers: &[Server]) -> Ownership {
        let has_nat = servers.iter().any(|server| server.method == ForwardingMethod::Nat);
        let by = match persistence {
            Some(persistence) => OwnedBy::Network(persistence.prefix_length),
            None if has_nat => OwnedBy::Client,
            None => OwnedBy::Tuple,
        };
        match before {
            Some(before) if before.by == by || (before.by, by) == (OwnedBy::Client, OwnedBy::Tuple) => before,
            before => Ownership {
                by,
                formerly: before.map(|before| before.by),
            },
        }
    }
}

/// One virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its place in the workers' tables.
    pub slot: ServiceSlot,
    /// Grows by one whenever the service or a server of it changes; tells a worker to carry its scheduler state over.
    pub revision: u64,
    /// TCP, UDP or SCTP (IP protocol number).
    pub protocol: u8,
    /// Virtual address.
    pub address: Address,
    /// Virtual port; 0 for all that no other service of the address has.
    pub port: u16,
    /// The algorithm that picks a server for a new connection.
    pub scheduler: SchedulerKind,
    /// Its flags.
    pub scheduler_flags: SchedulerFlags,
    /// What the scheduler looks up instead of computing it (sh and mh): built when the service is compiled.
    pub scheduler_table: SchedulerTable,
    /// Servers in the kernel's list order: the newest first.
    pub servers: Vec<Server>,
    /// How FullNAT servers learn the client's address.
    pub client_address: ClientAddress,
    /// Local addresses for FullNAT to IPv4 servers.
    pub local_v4: Vec<Address>,
    /// Local addresses for FullNAT to IPv6 servers.
    pub local_v6: Vec<Address>,
    /// First and last local port (inclusive).
    pub local_ports: (u16, u16),
    /// UDP: every datagram is scheduled for itself, and nothing of it is remembered (`ipvsadm -o`).
    pub one_packet: bool,
    /// Whether and how clients stay with their server.
    pub persistence: Option<Persistence>,
    /// How the owner of a connection is found.
    pub ownership: Ownership,
}

/// Services shared between snapshots.
pub type SharedService = Arc<Service>;
