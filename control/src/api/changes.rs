//! What the command line can change in a running director: ipvsadm's commands, and DPVS's for local addresses, as neutral structs.
//!
//! A field that the director cannot honour yet is sent all the same: the director is the one that says what it cannot do.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::protocol::{ErrorCode, ServiceSelector};
use super::views::{Method, PersistenceView, Protocol, TunnelView};

/// Changes in one request. So many always fit a frame; whoever has more sends several requests.
pub const CHANGES_PER_REQUEST: usize = 1000;

/// Changes of one transaction that is sent in several requests, at most: a service and three servers for each of 128 Ki services.
pub const CHANGES_PER_TRANSACTION: usize = 1 << 19;

/// Names one virtual service exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKey {
    /// By protocol, address and port.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port; 0 stands for all ports.
        port: u16,
    },
    /// By firewall mark and family.
    Fwmark {
        /// The mark.
        mark: u32,
        /// Whether the IPv6 service of that mark is meant.
        ipv6: bool,
    },
}

impl ServiceKey {
    /// The service that a selector names exactly; `None` for a name, or where the protocol or port is left open.
    pub fn of(selector: &ServiceSelector) -> Option<ServiceKey> {
        match *selector {
            ServiceSelector::Address {
                protocol: Some(protocol),
                address,
                port: Some(port),
            } => Some(ServiceKey::Address {
                protocol,
                address,
                port,
            }),
            ServiceSelector::Fwmark { mark, ipv6 } => Some(ServiceKey::Fwmark { mark, ipv6 }),
            _ => None,
        }
    }
}

/// Everything about a service but its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// Scheduler, spelled as in ipvsadm.
    pub scheduler: String,
    /// Scheduler flags, spelled as in ipvsadm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduler_flags: Vec<String>,
    /// Persistence, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceView>,
    /// Persistence engine, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<String>,
    /// Every datagram is scheduled for itself.
    #[serde(default)]
    pub one_packet: bool,
}

/// Names a server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerKey {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 stands for the service's port.
    pub port: u16,
}

/// Everything about a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// Forwarding method.
    pub method: Method,
    /// Outer header, for [`Method::Tun`]; IP in IP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelView>,
    /// Share of new connections; 0 gets none.
    pub weight: u32,
    /// Connections at which it counts as overloaded; 0: no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it stops being overloaded; 0: three quarters of the upper one.
    #[serde(default)]
    pub lower_threshold: u32,
}

/// The two roles of connection synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// `-A`
    AddService {
        /// Which.
        service: ServiceKey,
        /// How it is.
        settings: ServiceSettings,
    },
    /// `-E`
    EditService {
        /// Which.
        service: ServiceKey,
        /// How it is from now on.
        settings: ServiceSettings,
    },
    /// `-D`
    DeleteService {
        /// Which.
        service: ServiceKey,
    },
    /// `-C`
    Flush,
    /// `-a`
    AddServer {
        /// In which service.
        service: ServiceKey,
        /// Which.
        server: ServerKey,
        /// How it is.
        settings: ServerSettings,
    },
    /// `-e`
    EditServer {
        /// In which service.
        service: ServiceKey,
        /// Which.
        server: ServerKey,
        /// How it is from now on.
        settings: ServerSettings,
    },
    /// `-d`
    DeleteServer {
        /// In which service.
        service: ServiceKey,
        /// Which.
        server: ServerKey,
    },
    /// `-Z`
    Zero {
        /// Which; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceKey>,
    },
    /// `--set`, in seconds; 0 leaves one as it is.
    SetTimeouts {
        /// TCP sessions.
        tcp_seconds: u32,
        /// TCP sessions after a FIN.
        tcp_fin_seconds: u32,
        /// UDP.
        udp_seconds: u32,
    },
    /// DPVS's `-P`: one more address that FullNAT servers of the service see as their client.
    AddLocalAddress {
        /// Of which service.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
    },
    /// DPVS's `-Q`.
    DeleteLocalAddress {
        /// Of which service.
        service: ServiceKey,
        /// The address.
        address: IpAddr,
    },
    /// `--start-daemon`
    StartDaemon {
        /// As what.
        role: DaemonRole,
    },
    /// `--stop-daemon`
    StopDaemon {
        /// As what.
        role: DaemonRole,
    },
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFailure {
    /// Its place among all changes of the transaction, from 0.
    pub index: u32,
    /// What kind of error, for programs.
    pub code: ErrorCode,
    /// What ipvsadm says of it where ipvsadm has a word, else a sentence.
    pub message: String,
}

/// What became of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesOutcome {
    /// The generation that all workers work by now.
    pub generation: u64,
    /// What was not made; everything else was. With `atomic` one failure means that nothing was.
    pub failures: Vec<ChangeFailure>,
}
