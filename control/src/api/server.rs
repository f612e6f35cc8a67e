//! The director's end of the API: one socket, a limited number of clients, each served on its own so that a slow one holds up nobody.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::UnixStream;

use super::backend::Backend;
use super::frame;
use super::peer;
use super::protocol::{ErrorCode, Response};
use super::session::Session;
use super::socket::{BindError, BoundSocket};

/// What one client, and all of them together, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Clients at once (root may have a few more).
    pub clients: usize,
    /// For a frame to arrive or leave once it has begun, and for the first one to begin.
    pub frame: Duration,
    /// Between two requests: long enough for a list that is read in a pager.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients: 32,
            frame: Duration::from_secs(10),
            idle: Duration::from_secs(600),
        }
    }
}

/// Clients of root's beyond the limit, so that monitoring which forgets to hang up cannot lock the operator out.
pub(super) const RESERVED_FOR_ROOT: usize = 4;

/// Pause after a failure to accept (out of file descriptors, mostly), so that the control thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The API's socket, open. Clients can connect from now on; they are answered once [`run`](Server::run) runs.
#[derive(Debug)]
pub struct Server {
    socket: BoundSocket,
    limits: Limits,
}

impl Server {
    /// Opens the socket at `path`, mode 0660 and owned by `group` if one is given (only root gets in otherwise). The error is a sentence
    /// that says what to do.
    pub async fn bind(path: &Path, group: Option<&str>) -> Result<Server, BindError> {
        Ok(Server {
            socket: BoundSocket::bind(path, group).await?,
            limits: Limits::default(),
        })
    }

    /// The same server with other limits.
    pub fn with_limits(self, limits: Limits) -> Server {
        Server { limits, ..self }
    }

    /// Answers clients from `backend` until `shutdown` is ready; then the connections end and the socket file is removed.
    pub async fn run<B: Backend>(self, backend: &B, shutdown: impl Future<Output = ()>) {
        let mut sessions = FuturesUnordered::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = self.socket.listener.accept() => match accepted {
                    Ok((stream, _)) => match self.admit(&stream, sessions.len()) {
                        Ok(()) => sessions.push(Session::new(stream, backend, self.limits).run()),
                        Err(refusal) => turn_away(&stream, &refusal),
                    },
                    Err(error) => {
                        tracing::warn!("cannot accept a connection on {}: {error}", self.socket.path.display());
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = sessions.next() => {
                    if let Err(error) = ended {
                        tracing::debug!("an API client was dropped: {error}");
                    }
                }
            }
        }
    }

    fn admit(&self, stream: &UnixStream, clients: usize) -> Result<(), Response> {
        let peer = stream.peer_cred().ok();
        let peer = peer.filter(|peer| peer::is_permitted(peer, self.socket.group_id));
        let Some(peer) = peer else {
            return Err(Response::Error {
                code: ErrorCode::NotPermitted,
                message: "only root and members of the API socket's group may talk to ulvsd".to_owned(),
            });
        };
        let reserve = if peer.uid() == 0 { RESERVED_FOR_ROOT } else { 0 };
        if clients >= self.limits.clients + reserve {
            let message = format!("{clients} clients are connected to ulvsd, which is the limit; try again later");
            return Err(Response::Error {
                code: ErrorCode::Busy,
                message,
            });
        }
        Ok(())
    }
}

/// Tells the peer why it is not served, if its socket takes a frame at once (a new one does).
fn turn_away(stream: &UnixStream, refusal: &Response) {
    if let Ok(frame) = frame::encode(refusal) {
        if let Err(error) = stream.try_write(&frame) {
            tracing::debug!("an API client that was turned away did not learn why: {error}");
        }
    }
}

/// Opens the socket and answers until `shutdown` is ready.
pub async fn serve<B: Backend>(
    path: &Path,
    group: Option<&str>,
    backend: &B,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BindError> {
    Server::bind(path, group).await?.run(backend, shutdown).await;
    Ok(())
}
