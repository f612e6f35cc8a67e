//! The configuration as the rest of the program sees it: plain, complete and checked.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, Persistence, SchedulerFlags, TunnelType, protocol};
use ulvs_dataplane::steering::RssFields;
use ulvs_dataplane::tunables::Tunables;

use super::error::ConfigError;
use crate::origin::Origin;

/// A whole configuration file without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The program itself.
    pub director: Director,
    /// When idle connections end.
    pub timeouts: Timeouts,
    /// `[ipvs]`: what operators know as sysctls.
    pub ipvs: Tunables,
    /// What only the backend `dpdk` reads.
    pub dpdk: Dpdk,
    /// The network interfaces to work on; at least one.
    pub ports: Vec<Port>,
    /// The director's own addresses towards FullNAT servers.
    pub local_pools: Vec<LocalPool>,
    /// The virtual services in file order, one per virtual address.
    pub services: Vec<VirtualService>,
    /// What is probably not meant but works.
    pub warnings: Vec<ConfigError>,
}

impl Config {
    /// The pool called `name`. A pool that a service of the same configuration names is always found.
    pub fn local_pool(&self, name: &str) -> Option<&LocalPool> {
        self.local_pools.iter().find(|pool| pool.name == name)
    }
}

/// The most workers of one director.
pub const MOST_WORKERS: usize = 255;

/// `[director]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Director {
    /// How frames are received and sent.
    pub backend: Backend,
    /// CPU cores, one pinned worker each; no core twice.
    pub cores: Vec<usize>,
    /// Unpinned workers when `cores` is empty.
    pub workers: usize,
    /// Size of the connection table, all workers together.
    pub connections: usize,
    /// Most virtual services.
    pub service_limit: usize,
    /// Most real servers, all services together.
    pub server_limit: usize,
    /// Packet buffers per worker and port; 0: to be computed.
    pub frames: u32,
    /// What a worker does when nothing arrives.
    pub idle: Idle,
    /// How long a worker may not come round before it counts as stuck.
    pub worker_timeout: Duration,
    /// Absolute path of the control socket.
    pub control_socket: PathBuf,
    /// Name of the unix group that may use the control socket. Whether it exists is only known when it is used.
    pub control_group: String,
    /// The most that one port hands to its twin in the kernel, besides what the next two limit. Packets per second.
    pub slow_path_pps: u32,
    /// The same for ARP, neighbour discovery and IGMP.
    pub slow_path_neighbour_pps: u32,
    /// The same for BGP and other routing protocols that can come from afar.
    pub slow_path_routing_pps: u32,
}

impl Director {
    /// How many workers there are: one per core, or `workers` unpinned ones.
    pub fn worker_count(&self) -> usize {
        if self.cores.is_empty() {
            self.workers
        } else {
            self.cores.len()
        }
    }
}

/// Packet input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// AF_XDP sockets.
    AfXdp,
    /// DPDK's poll mode drivers.
    Dpdk,
}

/// `[dpdk]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dpdk {
    /// Whether its memory is on huge pages.
    pub huge_pages: HugePages,
    /// MiB of memory; 0: to be computed.
    pub memory_mib: u32,
    /// Arguments for DPDK's EAL besides our own.
    pub eal_arguments: Vec<String>,
}

/// Whether DPDK's memory is on huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// If enough are free.
    Auto,
    /// It must be.
    On,
    /// Never.
    Off,
}

/// What a worker does when nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Sleeps until the kernel wakes it.
    Sleep,
    /// Keeps its core busy.
    Poll,
}

/// `[timeouts]`: how long a connection stays without a packet, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// ESTABLISHED
    pub tcp: Duration,
    /// FIN_WAIT
    pub tcp_fin: Duration,
    /// UDP
    pub udp: Duration,
    /// SYN_SENT
    pub tcp_syn_sent: Duration,
    /// SYN_RECV
    pub tcp_syn_recv: Duration,
    /// TIME_WAIT
    pub tcp_time_wait: Duration,
    /// CLOSE
    pub tcp_close: Duration,
    /// CLOSE_WAIT
    pub tcp_close_wait: Duration,
    /// LAST_ACK
    pub tcp_last_ack: Duration,
}

/// `[[port]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name in counters and messages; no two ports share one.
    pub name: String,
    /// Kernel network interface; no two ports share one. Under DPDK: the port's twin.
    pub interface: String,
    /// Under DPDK, and only there: a PCI address or a virtual device.
    pub device: Option<String>,
    /// Under DPDK: the largest IP packet in bytes. Elsewhere the interface has it.
    pub mtu: u16,
    /// How the XDP program is attached.
    pub mode: PortMode,
    /// Whether the driver writes into our buffers itself.
    pub zero_copy: ZeroCopy,
    /// What the card hashes to spread packets over the workers.
    pub rss: RssFields,
    /// Whether frames without a VLAN tag are taken.
    pub untagged: bool,
    /// VLANs whose tagged frames are taken.
    pub vlans: Vec<Vlan>,
    /// Line in the file.
    pub line: usize,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// In the driver if it can, else generic.
    Auto,
    /// In the driver.
    Native,
    /// Behind the driver; works with every device, slowly.
    Generic,
}

/// Whether the driver writes into our buffers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If it can.
    Auto,
    /// It must.
    On,
    /// The kernel copies.
    Off,
}

/// A VLAN of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// The kernel interface whose routes and neighbours belong to this VLAN.
    pub interface: String,
}

/// `[[local_pool]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPool {
    /// The name that services use.
    pub name: String,
    /// Its addresses, of both families, at least one.
    pub addresses: Vec<Address>,
    /// First and last local port, inclusive.
    pub ports: (u16, u16),
    /// Line in the file.
    pub line: usize,
}

/// One virtual service: a `[[service]]`, or one address of a `[[service]]` that lists several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The given name, shared by all addresses of one `[[service]]`; else made of protocol and address.
    pub name: String,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Virtual address.
    pub address: Address,
    /// Virtual port; 0 stands for all ports, with persistence only.
    pub port: u16,
    /// The algorithm that picks the server of a new connection.
    pub scheduler: SchedulerKind,
    /// Its flags.
    pub scheduler_flags: SchedulerFlags,
    /// UDP: every datagram is scheduled for itself.
    pub one_packet: bool,
    /// Whether and how clients stay with their server.
    pub persistence: Option<Persistence>,
    /// Name of the pool for FullNAT servers; there whenever a server needs it.
    pub local_pool: Option<String>,
    /// How FullNAT servers learn the client's address.
    pub client_address: ClientAddress,
    /// Its real servers in file order. No two have the same address and port.
    pub servers: Vec<RealServer>,
    /// Who made it.
    pub origin: Origin,
    /// Line of the virtual address in the file; 0 when it is not from there.
    pub line: usize,
}

/// One real server of one virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Its address; of the service's family, except with TUN and FullNAT.
    pub address: Address,
    /// Its port; the service's port for DR and TUN.
    pub port: u16,
    /// Share of new connections, 0 to 65535; 0 gets none.
    pub weight: u32,
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// The kind of tunnel, for TUN.
    pub tunnel: TunnelType,
    /// Connections at which it counts as overloaded; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it stops being overloaded; 0: three quarters of the upper one.
    pub lower_threshold: u32,
    /// Who made it.
    pub origin: Origin,
    /// Line in the file; 0 when it is not from there.
    pub line: usize,
}

/// A balanced protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
            Protocol::Sctp => protocol::SCTP,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}
