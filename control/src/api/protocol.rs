//! What is asked and what is answered. The first request on a connection is [`Request::Hello`]; then each request gets one response.
//! Lists longer than a frame come in pages: a page names the [`Cursor`] of the next one.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::changes::{Change, ChangesOutcome};
use super::views::{
    ConnectionView, CounterView, DirectorView, Protocol, ServiceView, TimeoutsView, TotalsView, WorkerView,
};

/// Version of this protocol. It changes when an old client or director would misread a message; new requests and new optional fields do
/// not change it (an unknown request is answered with [`ErrorCode::UnknownRequest`]).
pub const PROTOCOL_VERSION: u32 = 1;

/// Version of the JSON that `ulvs --json` prints, which is made of the same views.
pub const SCHEMA_VERSION: u32 = 1;

/// Connections in one page at most, whatever a client asks for. So many always fit a frame, even if each has the longest key that a
/// persistence engine may keep (255 bytes, in the kernel as here) and JSON must escape all of it.
pub const CONNECTIONS_PER_PAGE: u32 = 500;

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Who speaks, and in which version of the protocol. Always first.
    Hello {
        /// The client's [`PROTOCOL_VERSION`].
        protocol_version: u32,
        /// Name and version of the program, for the director's log.
        program: String,
    },
    /// The director as a whole.
    Director,
    /// Services with their servers: all of them or one.
    Services {
        /// Which one; all when absent. More than one may have the address given.
        #[serde(default)]
        selector: Option<ServiceSelector>,
        /// The next page of an answer to an earlier request on the same connection.
        #[serde(default)]
        cursor: Option<Cursor>,
    },
    /// Connections, a page at a time.
    Connections {
        /// Which ones.
        #[serde(default)]
        filter: ConnectionFilter,
        /// Where to go on.
        #[serde(default)]
        cursor: Option<Cursor>,
        /// How many at most; [`CONNECTIONS_PER_PAGE`] when absent or larger.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// All counters, per worker.
    Counters,
    /// All workers.
    Workers,
    /// The timeouts of `ipvsadm -L --timeout`.
    Timeouts,
    /// Traffic of all services together.
    Totals,
    /// The running configuration as a configuration file.
    Configuration {
        /// The next page of an answer to an earlier request on the same connection.
        #[serde(default)]
        cursor: Option<Cursor>,
    },
    /// Changes services. They take effect together, with the last request of the transaction; the answer comes when all workers work by
    /// them. A connection that ends before leaves everything as it was.
    Change {
        /// In order; at most [`CHANGES_PER_REQUEST`](super::changes::CHANGES_PER_REQUEST).
        changes: Vec<Change>,
        /// All of the transaction or nothing. Otherwise each change that can be made is made.
        #[serde(default)]
        atomic: bool,
        /// More of this transaction follows in the next request.
        #[serde(default)]
        more: bool,
    },
}

/// Where a list goes on. What the numbers mean is the business of who gave the cursor out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// For connections the worker's index; for services the answer.
    pub part: u64,
    /// The place in that part.
    pub position: u64,
}

/// Names a virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceSelector {
    /// By its name in the configuration.
    Name(String),
    /// By protocol (any when absent), address and port (any when absent).
    Address {
        /// Transport protocol.
        #[serde(default)]
        protocol: Option<Protocol>,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port.
        #[serde(default)]
        port: Option<u16>,
    },
    /// By firewall mark and family.
    Fwmark {
        /// The mark.
        mark: u32,
        /// Whether the IPv6 service of that mark is meant.
        #[serde(default)]
        ipv6: bool,
    },
}

impl ServiceSelector {
    /// Whether `service` is the one that is meant.
    pub fn matches(&self, service: &ServiceView) -> bool {
        match self {
            ServiceSelector::Name(name) => service.name == *name,
            ServiceSelector::Address {
                protocol,
                address,
                port,
            } => {
                service.fwmark.is_none()
                    && protocol.is_none_or(|wanted| wanted == service.protocol)
                    && *address == service.address
                    && port.is_none_or(|wanted| wanted == service.port)
            }
            ServiceSelector::Fwmark { mark, ipv6 } => {
                service.fwmark == Some(*mark) && service.address.is_ipv6() == *ipv6
            }
        }
    }
}

/// Which connections. Absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionFilter {
    /// Protocol.
    pub protocol: Option<Protocol>,
    /// Address of the virtual service.
    pub virtual_address: Option<IpAddr>,
    /// Port of the virtual service.
    pub virtual_port: Option<u16>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The real server's address.
    pub server: Option<IpAddr>,
    /// The real server's port.
    pub server_port: Option<u16>,
}

impl ConnectionFilter {
    /// Whether `connection` is wanted.
    pub fn matches(&self, connection: &ConnectionView) -> bool {
        self.protocol.is_none_or(|wanted| wanted == connection.protocol)
            && endpoint_matches(connection.virtual_address, self.virtual_address, self.virtual_port)
            && endpoint_matches(connection.client, self.client, self.client_port)
            && endpoint_matches(connection.server, self.server, self.server_port)
    }
}

fn endpoint_matches(endpoint: SocketAddr, address: Option<IpAddr>, port: Option<u16>) -> bool {
    address.is_none_or(|wanted| wanted == endpoint.ip()) && port.is_none_or(|wanted| wanted == endpoint.port())
}

/// What the director answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Hello`].
    Hello {
        /// The director's [`PROTOCOL_VERSION`].
        protocol_version: u32,
        /// Version of `ulvsd`.
        director_version: String,
    },
    /// To [`Request::Director`].
    Director(DirectorView),
    /// To [`Request::Services`].
    Services(ServicesPage),
    /// To [`Request::Connections`].
    Connections(ConnectionsPage),
    /// To [`Request::Counters`].
    Counters {
        /// All of them, zeros included.
        counters: Vec<CounterView>,
    },
    /// To [`Request::Workers`].
    Workers {
        /// By index.
        workers: Vec<WorkerView>,
    },
    /// To [`Request::Timeouts`].
    Timeouts(TimeoutsView),
    /// To [`Request::Totals`].
    Totals(TotalsView),
    /// To [`Request::Configuration`].
    Configuration(TextPage),
    /// To a [`Request::Change`] after which more follows.
    Noted {
        /// Changes of this transaction so far.
        changes: u64,
    },
    /// To the last [`Request::Change`] of a transaction.
    Changed(ChangesOutcome),
    /// To any request that was not answered otherwise.
    Error {
        /// What kind of error, for programs.
        code: ErrorCode,
        /// A sentence, for people.
        message: String,
    },
}

/// A part of the list of services. All pages of one answer are cut from one state of the director.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesPage {
    /// The services.
    pub services: Vec<ServiceView>,
    /// The first service continues the last one of the page before: its `servers` belong behind that one's.
    pub continued: bool,
    /// The next page, if there is one.
    pub next: Option<Cursor>,
}

/// A part of the list of connections. A connection that lives from the first page to the last is in exactly one of them; one that opens
/// or closes in between may or may not be. A page may be empty and still have a next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsPage {
    /// The connections.
    pub connections: Vec<ConnectionView>,
    /// The next page, if there is one.
    pub next: Option<Cursor>,
}

/// A part of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPage {
    /// The part.
    pub text: String,
    /// The next page, if there is one.
    pub next: Option<Cursor>,
}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, or a field is missing or has the wrong type.
    BadRequest,
    /// A request that this director does not know.
    UnknownRequest,
    /// Client and director speak different versions of the protocol.
    VersionMismatch,
    /// The peer is neither root nor in the group.
    NotPermitted,
    /// What was asked for does not exist.
    NotFound,
    /// What should be added is there already.
    AlreadyExists,
    /// A value, or what values mean together, cannot be.
    Invalid,
    /// A limit of the director is reached.
    NoRoom,
    /// This director cannot do that yet.
    NotSupported,
    /// The cursor does not belong to an answer that is still held.
    StaleCursor,
    /// Too many clients at once.
    Busy,
    /// The answer, or the request, is longer than a frame may be.
    TooLong,
    /// The director cannot say now (a worker does not answer, say).
    Unavailable,
    /// A newer director's code that this client does not know.
    #[serde(other)]
    Other,
}
