//! The command line's end of the API: plain blocking calls.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group};
use thiserror::Error;

use super::changes::{CHANGES_PER_REQUEST, Change, ChangesOutcome};
use super::frame::{self, FrameError};
use super::paging;
use super::protocol::{
    ConnectionFilter, ConnectionsPage, Cursor, ErrorCode, PROTOCOL_VERSION, Request, Response, ServiceSelector,
};
use super::views::{ConnectionView, CounterView, DirectorView, ServiceView, TimeoutsView, TotalsView, WorkerView};

/// How long the director may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Why there is no answer. Each is a sentence for the operator.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "cannot reach ulvsd on {}: {source}. Is it running? Start it with 'systemctl start ulvsd' (or 'ulvsd --config FILE'), or name \
         its socket with --socket or ULVS_SOCKET",
        .path.display()
    )]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The socket is there but not for this user.
    #[error("no permission to talk to ulvsd on {}: only root{} may", .path.display(), members(.group))]
    NotPermitted {
        /// The socket.
        path: PathBuf,
        /// The group whose members may, where it can be told.
        group: Option<String>,
    },
    /// The director answered that it does not.
    #[error("{message}")]
    Refused {
        /// What kind of error.
        code: ErrorCode,
        /// The director's sentence.
        message: String,
    },
    /// Client and director speak different versions of the protocol.
    #[error(
        "ulvsd {director} speaks version {theirs} of the API protocol and this ulvs speaks version {PROTOCOL_VERSION}; use the ulvs that \
         was installed with this ulvsd"
    )]
    Version {
        /// The director's version.
        director: String,
        /// Its protocol version.
        theirs: u32,
    },
    /// The connection broke, or what came over it is not an answer.
    #[error("ulvsd did not answer as it should: {0}")]
    Broken(String),
}

fn members(group: &Option<String>) -> String {
    match group {
        Some(group) => format!(" and members of the group '{group}'"),
        None => " and members of its group".to_owned(),
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> ClientError {
        match error {
            FrameError::Io(io) if matches!(io.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                ClientError::Broken(format!("no answer within {} seconds", ANSWER_WAIT.as_secs()))
            }
            other => ClientError::Broken(other.to_string()),
        }
    }
}

/// A connection to a running director.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    director_version: String,
}

impl Client {
    /// Connects and says hello as `program` (name and version).
    pub fn connect(path: &Path, program: &str) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| connect_error(path, source))?;
        let limited = stream
            .set_read_timeout(Some(ANSWER_WAIT))
            .and(stream.set_write_timeout(Some(ANSWER_WAIT)));
        limited.map_err(|error| ClientError::Broken(error.to_string()))?;
        let mut client = Client {
            stream,
            director_version: String::new(),
        };
        match client.ask(&Request::Hello {
            protocol_version: PROTOCOL_VERSION,
            program: program.to_owned(),
        })? {
            Response::Hello {
                protocol_version: PROTOCOL_VERSION,
                director_version,
            } => {
                client.director_version = director_version;
                Ok(client)
            }
            Response::Hello {
                protocol_version,
                director_version,
            } => Err(ClientError::Version {
                director: director_version,
                theirs: protocol_version,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// The director's version, from its hello.
    pub fn director_version(&self) -> &str {
        &self.director_version
    }

    /// Asks once. An error response is an error.
    fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        // A director that turns a client away answers without reading; its answer says more than the failure to write.
        let written = frame::write(&mut self.stream, request);
        match frame::read(&mut self.stream) {
            Ok(Response::Error { code, message }) => Err(ClientError::Refused { code, message }),
            Ok(response) => written.map(|()| response).map_err(ClientError::from),
            Err(error) => Err(ClientError::from(error)),
        }
    }

    /// The director as a whole.
    pub fn director(&mut self) -> Result<DirectorView, ClientError> {
        match self.ask(&Request::Director)? {
            Response::Director(director) => Ok(director),
            other => Err(unexpected(&other)),
        }
    }

    /// All services, or those that `selector` names; none of them is an error of [`ErrorCode::NotFound`].
    pub fn services(&mut self, selector: Option<ServiceSelector>) -> Result<Vec<ServiceView>, ClientError> {
        let mut services = Vec::new();
        let mut cursor = None;
        loop {
            match self.ask(&Request::Services {
                selector: selector.clone(),
                cursor,
            })? {
                Response::Services(page) => {
                    cursor = page.next;
                    paging::join(&mut services, page);
                }
                other => return Err(unexpected(&other)),
            }
            if cursor.is_none() {
                return Ok(services);
            }
        }
    }

    /// One page of connections.
    pub fn connections_page(
        &mut self,
        filter: &ConnectionFilter,
        cursor: Option<Cursor>,
        limit: Option<u32>,
    ) -> Result<ConnectionsPage, ClientError> {
        match self.ask(&Request::Connections {
            filter: filter.clone(),
            cursor,
            limit,
        })? {
            Response::Connections(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    /// Calls `each` for every connection that passes `filter`, a page at a time, until it breaks or there are no more.
    pub fn connections(
        &mut self,
        filter: &ConnectionFilter,
        mut each: impl FnMut(ConnectionView) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut cursor = None;
        loop {
            let page = self.connections_page(filter, cursor, None)?;
            for connection in page.connections {
                if each(connection).is_break() {
                    return Ok(());
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// All counters.
    pub fn counters(&mut self) -> Result<Vec<CounterView>, ClientError> {
        match self.ask(&Request::Counters)? {
            Response::Counters { counters } => Ok(counters),
            other => Err(unexpected(&other)),
        }
    }

    /// All workers.
    pub fn workers(&mut self) -> Result<Vec<WorkerView>, ClientError> {
        match self.ask(&Request::Workers)? {
            Response::Workers { workers } => Ok(workers),
            other => Err(unexpected(&other)),
        }
    }

    /// The protocol timeouts.
    pub fn timeouts(&mut self) -> Result<TimeoutsView, ClientError> {
        match self.ask(&Request::Timeouts)? {
            Response::Timeouts(timeouts) => Ok(timeouts),
            other => Err(unexpected(&other)),
        }
    }
}

impl Client {
    /// Traffic of all services together.
    pub fn totals(&mut self) -> Result<TotalsView, ClientError> {
        match self.ask(&Request::Totals)? {
            Response::Totals(totals) => Ok(totals),
            other => Err(unexpected(&other)),
        }
    }

    /// The running configuration as the text of a configuration file.
    pub fn configuration(&mut self) -> Result<String, ClientError> {
        let mut text = String::new();
        let mut cursor = None;
        loop {
            match self.ask(&Request::Configuration { cursor })? {
                Response::Configuration(page) => {
                    text += &page.text;
                    cursor = page.next;
                }
                other => return Err(unexpected(&other)),
            }
            if cursor.is_none() {
                return Ok(text);
            }
        }
    }

    /// Changes services: all together take effect at once, whatever their number, and when this returns all workers work by them.
    pub fn change(&mut self, changes: &[Change], atomic: bool) -> Result<ChangesOutcome, ClientError> {
        let mut parts: Vec<&[Change]> = changes.chunks(CHANGES_PER_REQUEST).collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            match self.ask(&change_request(part, atomic, true))? {
                Response::Noted { .. } => {}
                other => return Err(unexpected(&other)),
            }
        }
        match self.ask(&change_request(last, atomic, false))? {
            Response::Changed(outcome) => Ok(outcome),
            other => Err(unexpected(&other)),
        }
    }
}

fn change_request(changes: &[Change], atomic: bool, more: bool) -> Request {
    Request::Change {
        changes: changes.to_vec(),
        atomic,
        more,
    }
}

fn connect_error(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_owned();
    if source.kind() != io::ErrorKind::PermissionDenied {
        return ClientError::Unreachable { path, source };
    }
    let group = fs::metadata(&path).ok().and_then(|metadata| group_name(metadata.gid()));
    ClientError::NotPermitted { path, group }
}

fn group_name(gid: u32) -> Option<String> {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    Some(group.map_or_else(|| gid.to_string(), |group| group.name))
}

fn unexpected(response: &Response) -> ClientError {
    let name = match response {
        Response::Hello { .. } => "hello",
        Response::Director(_) => "director",
        Response::Services(_) => "services",
        Response::Connections(_) => "connections",
        Response::Counters { .. } => "counters",
        Response::Workers { .. } => "workers",
        Response::Timeouts(_) => "timeouts",
        Response::Totals(_) => "totals",
        Response::Configuration(_) => "configuration",
        Response::Noted { .. } => "noted",
        Response::Changed(_) => "changed",
        Response::Error { .. } => "error",
    };
    ClientError::Broken(format!("it answered another question ('{name}')"))
}
