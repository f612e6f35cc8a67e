//! What the director shows of itself: plain data that both ends of the socket share, named as ipvsadm and the RFCs name things.
//! Every count is a total since the director started (or since it was zeroed), all workers together, unless said otherwise.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crate::origin::Origin;

/// The balanced protocols, and what connection templates are listed under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The persistence template of a firewall-mark service, which has no transport protocol.
    Ip,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The IP protocol number, by which ipvsadm sorts; 0 for a template without one.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Ip => 0,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The name in lower case, as `/etc/services` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ip => "ip",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Ip => "IP",
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// How packets get from the director to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Destination rewritten; replies come back through the director (`ipvsadm -m`).
    Nat,
    /// Only the link-layer destination changes (`ipvsadm -g`).
    Dr,
    /// IP in IP, GUE or GRE (`ipvsadm -i`).
    Tun,
    /// Both addresses rewritten; replies come back to a local address of the director.
    Fullnat,
    /// The real server is the director's own machine.
    Local,
}

impl Method {
    /// The word in the configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Method::Nat => "nat",
            Method::Dr => "dr",
            Method::Tun => "tun",
            Method::Fullnat => "fullnat",
            Method::Local => "local",
        }
    }
}

/// How a FullNAT server learns the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAddress {
    /// It does not.
    #[default]
    Hidden,
    /// By a TCP option.
    Toa,
    /// By a PROXY protocol v2 header.
    ProxyV2,
}

/// Traffic totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets from servers; 0 where replies bypass the director (DR, TUN).
    pub packets_out: u64,
    /// Bytes from clients, from the IP header on.
    pub bytes_in: u64,
    /// Bytes from servers, from the IP header on.
    pub bytes_out: u64,
}

impl Traffic {
    /// Both together.
    pub fn plus(&self, other: &Traffic) -> Traffic {
        self.with(other, u64::saturating_add)
    }

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Traffic) -> Traffic {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(&self, other: &Traffic, each: fn(u64, u64) -> u64) -> Traffic {
        Traffic {
            connections: each(self.connections, other.connections),
            packets_in: each(self.packets_in, other.packets_in),
            packets_out: each(self.packets_out, other.packets_out),
            bytes_in: each(self.bytes_in, other.bytes_in),
            bytes_out: each(self.bytes_out, other.bytes_out),
        }
    }
}

/// Traffic per second, averaged as the kernel's estimator does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections per second.
    pub connections: u64,
    /// Packets from clients per second.
    pub packets_in: u64,
    /// Packets from servers per second.
    pub packets_out: u64,
    /// Bytes (not bits) from clients per second.
    pub bytes_in: u64,
    /// Bytes (not bits) from servers per second.
    pub bytes_out: u64,
}

/// Clients stay with their server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceView {
    /// How long after a client's last connection.
    pub timeout_seconds: u32,
    /// How many leading bits of the client's address make it "the same client": 32 or 128 for the whole address.
    pub prefix_length: u8,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name in the configuration, or a made-up one such as `tcp 192.0.2.1:80`.
    pub name: String,
    /// Transport protocol; [`Protocol::Ip`] for a firewall-mark service.
    pub protocol: Protocol,
    /// Virtual address. For a firewall-mark service the unspecified address of its family.
    pub address: IpAddr,
    /// Virtual port; 0 for a firewall-mark service.
    pub port: u16,
    /// The mark, for a firewall-mark service.
    pub fwmark: Option<u32>,
    /// Scheduler, spelled as in ipvsadm.
    pub scheduler: String,
    /// Scheduler flags, spelled as in ipvsadm (`sh-port`, `flag-3`).
    pub scheduler_flags: Vec<String>,
    /// Persistence, if any.
    pub persistence: Option<PersistenceView>,
    /// Persistence engine (`sip`), if any.
    pub persistence_engine: Option<String>,
    /// Every datagram is scheduled for itself (`ipvsadm -o`).
    pub one_packet: bool,
    /// How FullNAT servers learn the client's address.
    pub client_address: ClientAddress,
    /// The addresses that FullNAT servers see as their client.
    #[serde(default)]
    pub local_addresses: Vec<IpAddr>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// Totals.
    pub totals: Traffic,
    /// Rates; absent when the director does not estimate them.
    pub rates: Option<Rates>,
    /// Servers in the kernel's list order: the newest first.
    pub servers: Vec<ServerView>,
}

/// The outer header of a tunnelled server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelView {
    /// What the inner packet is wrapped in.
    pub kind: TunnelKind,
    /// UDP port for GUE; 0 otherwise.
    pub port: u16,
    /// Checksum in the outer header (GUE, GRE).
    pub checksum: TunnelChecksum,
}

/// Tunnel encapsulations, spelled as in `ipvsadm --tun-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelKind {
    /// IP in IP
    Ipip,
    /// Generic UDP encapsulation
    Gue,
    /// Generic routing encapsulation
    Gre,
}

/// `--tun-nocsum`, `--tun-csum`, `--tun-remcsum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelChecksum {
    /// None
    None,
    /// Full
    Full,
    /// Remote checksum offload
    Remote,
}

/// Where packets for a server leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopView {
    /// Whether its link-layer address is known. Packets for an unresolved next hop are dropped by name.
    pub resolved: bool,
    /// The neighbour: the server itself or a gateway.
    pub address: Option<IpAddr>,
    /// Its link-layer address as text (`02:00:00:00:00:01`).
    pub mac: Option<String>,
    /// Interface towards it.
    pub interface: Option<String>,
}

/// One real server of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Address.
    pub address: IpAddr,
    /// Port; the service's port for DR and TUN.
    pub port: u16,
    /// Forwarding method.
    pub method: Method,
    /// Outer header, for [`Method::Tun`].
    pub tunnel: Option<TunnelView>,
    /// Share of new connections; 0 gets none ("quiesced").
    pub weight: u32,
    /// Connections at which the server counts as overloaded; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it stops being overloaded; 0: three quarters of the upper one.
    pub lower_threshold: u32,
    /// Whether it is over its threshold now.
    pub overloaded: bool,
    /// Active connections (`ActiveConn`).
    pub active: u32,
    /// Inactive connections (`InActConn`).
    pub inactive: u32,
    /// Persistence templates (`PersistConn`).
    pub persistent: u32,
    /// Totals.
    pub totals: Traffic,
    /// Rates; absent when the director does not estimate them.
    pub rates: Option<Rates>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// Where its packets leave; absent where that is not known yet.
    pub next_hop: Option<NextHopView>,
}

/// One connection, or one persistence template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionView {
    /// Protocol.
    pub protocol: Protocol,
    /// Seconds until it expires if no packet comes.
    pub expires_in_seconds: u64,
    /// State, named as in the kernel (`ESTABLISHED`).
    pub state: String,
    /// The client.
    pub client: SocketAddr,
    /// The virtual service it came to.
    #[serde(rename = "virtual")]
    pub virtual_address: SocketAddr,
    /// The director's own address towards the server (FullNAT only).
    pub local: Option<SocketAddr>,
    /// The real server.
    pub server: SocketAddr,
    /// Index of the worker that owns it.
    pub worker: u32,
    /// Forwarding method.
    pub method: Method,
    /// What a persistence engine knows it by.
    pub persistence_engine: Option<EngineDataView>,
}

/// What a persistence engine keeps with a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineDataView {
    /// The engine (`sip`).
    pub name: String,
    /// Its key (the Call-ID).
    pub data: String,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterView {
    /// Its name, the same in the metrics.
    pub name: String,
    /// One sentence on what it counts.
    pub help: String,
    /// Its value on each worker, by worker index; a single value, however many workers there are, where workers have no part in it.
    pub values: Vec<u64>,
}

impl CounterView {
    /// All workers together.
    pub fn total(&self) -> u64 {
        self.values.iter().fold(0, |sum, value| sum.saturating_add(*value))
    }
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Its index.
    pub index: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// Connections in its table.
    pub connections: u64,
    /// Connections that fit.
    pub connection_capacity: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets transmitted.
    pub packets_transmitted: u64,
    /// Packets dropped, whatever the reason.
    pub packets_dropped: u64,
    /// Share of its time spent on packets rather than on empty polls: 0 to 1.
    pub busy_share: f64,
    /// Generation of the configuration that it works by.
    pub generation: u64,
    /// Packet buffers that are free.
    pub frames_free: u64,
    /// Packet buffers it has.
    pub frames_total: u64,
    /// New connections that were turned away because its table was full.
    pub table_full: u64,
    /// Milliseconds since it last came round, when it is stuck.
    pub stuck_milliseconds: Option<u64>,
}

/// One port of the director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// Interface name.
    pub name: String,
    /// How packets come and go (`af_xdp, driver mode, zero copy`).
    pub mode: String,
    /// Its link-layer address as text.
    pub mac: Option<String>,
    /// Queues that workers poll.
    pub queues: u32,
}

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorView {
    /// Version of `ulvsd`.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Generation of the configuration in force.
    pub generation: u64,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Size of the connection table, as ipvsadm's first line names it.
    pub connection_table_size: u64,
    /// Why the director has given its virtual addresses up, when it has: part of a sentence.
    pub given_up: Option<String>,
    /// Ports.
    pub ports: Vec<PortView>,
}

/// The three timeouts of `ipvsadm -L --timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutsView {
    /// TCP sessions, in seconds.
    pub tcp_seconds: u64,
    /// TCP sessions after a FIN, in seconds.
    pub tcp_fin_seconds: u64,
    /// UDP, in seconds.
    pub udp_seconds: u64,
}

/// Traffic of all services together, also of those that are gone, since the director started or all was zeroed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalsView {
    /// By worker index.
    pub workers: Vec<Traffic>,
    /// All workers together, per second.
    pub rates: Rates,
}

impl TotalsView {
    /// All workers together.
    pub fn total(&self) -> Traffic {
        self.workers
            .iter()
            .fold(Traffic::default(), |sum, worker| sum.plus(worker))
    }
}
