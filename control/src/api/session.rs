//! One client: reads a request, asks the backend, writes the answer. Whatever the client sends, the worst that happens is that its own
//! connection ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::backend::{Backend, Refusal};
use super::changes::{CHANGES_PER_REQUEST, CHANGES_PER_TRANSACTION, Change};
use super::frame::{self, FrameError, LENGTH_BYTES};
use super::paging;
use super::protocol::{
    CONNECTIONS_PER_PAGE, Cursor, ErrorCode, PROTOCOL_VERSION, Request, Response, ServiceSelector, ServicesPage,
    TextPage,
};
use super::server::Limits;

/// The version that clients and operators are told.
const DIRECTOR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes of text in a page: JSON needs up to six bytes for one, and the whole must fit a frame.
const TEXT_PER_PAGE: usize = frame::MAX_FRAME / 8;

/// One client's connection.
pub(super) struct Session<'a, B> {
    stream: UnixStream,
    backend: &'a B,
    limits: Limits,
    greeted: bool,
    /// The pages of the last list of services, and its number, which its cursors carry.
    services: Vec<ServicesPage>,
    services_number: u64,
    /// The last configuration that was asked for, and how often one was.
    configuration: String,
    configuration_number: u64,
    /// The transaction whose last request has not come yet.
    changes: Vec<Change>,
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Response {
        Response::Error {
            code: refusal.code,
            message: refusal.message,
        }
    }
}

/// The answer to a frame of which nothing is known but that it is wrong.
fn error(code: ErrorCode, message: impl Into<String>) -> Response {
    Response::Error {
        code,
        message: message.into(),
    }
}

impl<'a, B: Backend> Session<'a, B> {
    pub(super) fn new(stream: UnixStream, backend: &'a B, limits: Limits) -> Self {
        Session {
            stream,
            backend,
            limits,
            greeted: false,
            services: Vec::new(),
            services_number: 0,
            configuration: String::new(),
            configuration_number: 0,
            changes: Vec::new(),
        }
    }

    /// Serves the client until it leaves or misbehaves; the error says how.
    pub(super) async fn run(mut self) -> Result<(), FrameError> {
        loop {
            let patience = if self.greeted {
                self.limits.idle
            } else {
                self.limits.frame
            };
            let request = match self.read_request(patience).await {
                Ok(request) => request,
                Err(FrameError::Closed) => return Ok(()),
                Err(wrong @ FrameError::TooLong { .. }) => {
                    // What follows cannot be told from a new frame, so this is the end.
                    return self.send(&error(ErrorCode::TooLong, wrong.to_string())).await;
                }
                Err(FrameError::Malformed(wrong)) => {
                    self.send(&error(
                        ErrorCode::BadRequest,
                        format!("the request is not JSON: {wrong}"),
                    ))
                    .await?;
                    continue;
                }
                Err(wrong) => return Err(wrong),
            };
            let was_greeted = self.greeted;
            let response = self.answer(request).await;
            self.send(&response).await?;
            if !was_greeted && !self.greeted {
                return Ok(());
            }
        }
    }

    /// Waits up to `patience` for a frame to begin, and no longer than the frame limit for the rest of it.
    async fn read_request(&mut self, patience: Duration) -> Result<serde_json::Value, FrameError> {
        let mut prefix = [0; LENGTH_BYTES];
        let first = elapsed_is_error(timeout(patience, self.stream.read(&mut prefix)).await)??;
        if first == 0 {
            return Err(FrameError::Closed);
        }
        let rest = read_rest(&mut self.stream, prefix, first);
        elapsed_is_error(timeout(self.limits.frame, rest).await)?
    }

    async fn send(&mut self, response: &Response) -> Result<(), FrameError> {
        let frame = match frame::encode(response) {
            Ok(frame) => frame,
            Err(too_long) => frame::encode(&error(
                ErrorCode::TooLong,
                format!("the answer does not fit: {too_long}"),
            ))?,
        };
        Ok(elapsed_is_error(
            timeout(self.limits.frame, self.stream.write_all(&frame)).await,
        )??)
    }

    async fn answer(&mut self, request: serde_json::Value) -> Response {
        match understand(request) {
            Ok(Request::Hello {
                protocol_version,
                program,
            }) => self.greet(protocol_version, &program),
            Ok(_) | Err(_) if !self.greeted => error(
                ErrorCode::BadRequest,
                format!(
                    "the first request must be a hello; this is ulvsd {DIRECTOR_VERSION}, API protocol {PROTOCOL_VERSION}"
                ),
            ),
            Ok(request) => self.ask(request).await.unwrap_or_else(Response::from),
            Err(refusal) => refusal.into(),
        }
    }

    fn greet(&mut self, client_version: u32, program: &str) -> Response {
        if client_version != PROTOCOL_VERSION {
            return error(
                ErrorCode::VersionMismatch,
                format!(
                    "{program} speaks version {client_version} of the API protocol and ulvsd {DIRECTOR_VERSION} speaks version \
                     {PROTOCOL_VERSION}; use the ulvs that was installed with this ulvsd"
                ),
            );
        }
        tracing::debug!("API client: {}", program.escape_debug());
        self.greeted = true;
        Response::Hello {
            protocol_version: PROTOCOL_VERSION,
            director_version: DIRECTOR_VERSION.to_owned(),
        }
    }

    async fn ask(&mut self, request: Request) -> Result<Response, Refusal> {
        let backend = self.backend;
        Ok(match request {
            Request::Hello {
                protocol_version,
                program,
            } => self.greet(protocol_version, &program),
            Request::Director => Response::Director(backend.director().await?),
            Request::Services { selector, cursor } => Response::Services(self.services(selector, cursor).await?),
            Request::Connections { filter, cursor, limit } => {
                let limit = limit.unwrap_or(CONNECTIONS_PER_PAGE).clamp(1, CONNECTIONS_PER_PAGE);
                Response::Connections(backend.connections(&filter, cursor, limit).await?)
            }
            Request::Counters => Response::Counters {
                counters: backend.counters().await?,
            },
            Request::Workers => Response::Workers {
                workers: backend.workers().await?,
            },
            Request::Timeouts => Response::Timeouts(backend.timeouts().await?),
            Request::Totals => Response::Totals(backend.totals().await?),
            Request::Configuration { cursor } => Response::Configuration(self.configuration(cursor).await?),
            Request::Change { changes, atomic, more } => self.change(changes, atomic, more).await?,
        })
    }

    /// The list is taken once and held until its last page is fetched, so that it shows one state of the director however it changes
    /// meanwhile.
    async fn services(
        &mut self,
        selector: Option<ServiceSelector>,
        cursor: Option<Cursor>,
    ) -> Result<ServicesPage, Refusal> {
        let Some(cursor) = cursor else {
            let services = self.backend.services(selector.as_ref()).await?;
            if services.is_empty() && selector.is_some() {
                return Err(Refusal::new(ErrorCode::NotFound, "No such service"));
            }
            self.services = paging::split(services, paging::ROWS_PER_PAGE);
            self.services.reverse();
            self.services_number += 1;
            return self.next_services_page();
        };
        if cursor.part != self.services_number || cursor.position != self.services.len() as u64 {
            return Err(stale());
        }
        self.next_services_page()
    }

    /// As with services: one state of the director, held until its last page is fetched.
    async fn configuration(&mut self, cursor: Option<Cursor>) -> Result<TextPage, Refusal> {
        let start = match cursor {
            None => {
                self.configuration = self.backend.configuration().await?;
                self.configuration_number += 1;
                0
            }
            Some(cursor) if cursor.part == self.configuration_number => {
                usize::try_from(cursor.position).unwrap_or(usize::MAX)
            }
            Some(_) => return Err(stale()),
        };
        let rest = self.configuration.get(start..).ok_or_else(stale)?;
        let mut length = rest.len().min(TEXT_PER_PAGE);
        while !rest.is_char_boundary(length) {
            length -= 1;
        }
        let next = start + length;
        Ok(TextPage {
            text: rest[..length].to_owned(),
            next: (next < self.configuration.len()).then_some(Cursor {
                part: self.configuration_number,
                position: next as u64,
            }),
        })
    }

    /// Collects a transaction, and has it made when its last request is there.
    async fn change(&mut self, changes: Vec<Change>, atomic: bool, more: bool) -> Result<Response, Refusal> {
        if changes.len() > CHANGES_PER_REQUEST {
            self.changes.clear();
            let message = format!("a request takes at most {CHANGES_PER_REQUEST} changes");
            return Err(Refusal::new(ErrorCode::BadRequest, message));
        }
        if self.changes.len() + changes.len() > CHANGES_PER_TRANSACTION {
            self.changes = Vec::new();
            let message =
                format!("a transaction takes at most {CHANGES_PER_TRANSACTION} changes; nothing of this one was made");
            return Err(Refusal::new(ErrorCode::TooLong, message));
        }
        self.changes.extend(changes);
        if more {
            return Ok(Response::Noted {
                changes: self.changes.len() as u64,
            });
        }
        let changes = std::mem::take(&mut self.changes);
        Ok(Response::Changed(self.backend.change(changes, atomic).await?))
    }

    /// Pages are held last one first; a cursor's position is how many are left.
    fn next_services_page(&mut self) -> Result<ServicesPage, Refusal> {
        let mut page = self.services.pop().ok_or_else(stale)?;
        let left = self.services.len() as u64;
        page.next = (left > 0).then_some(Cursor {
            part: self.services_number,
            position: left,
        });
        Ok(page)
    }
}

fn stale() -> Refusal {
    Refusal::new(
        ErrorCode::StaleCursor,
        "this answer is no longer held; ask for it again from the start",
    )
}

fn elapsed_is_error<T>(result: Result<T, tokio::time::error::Elapsed>) -> Result<T, FrameError> {
    result.map_err(|_| FrameError::Io(std::io::ErrorKind::TimedOut.into()))
}

/// Reads what is missing of a frame, whatever JSON is in it, after the first `got` bytes of its length have come.
async fn read_rest(
    stream: &mut UnixStream,
    mut prefix: [u8; LENGTH_BYTES],
    got: usize,
) -> Result<serde_json::Value, FrameError> {
    stream.read_exact(&mut prefix[got..]).await?;
    let length = frame::checked_length(prefix)?;
    let mut body = Vec::new();
    // Grows with what arrives, not with what was announced.
    if stream.take(length as u64).read_to_end(&mut body).await? < length {
        return Err(FrameError::Closed);
    }
    Ok(serde_json::from_slice(&body)?)
}

/// Tells a request that this version does not know from one that is wrong.
fn understand(value: serde_json::Value) -> Result<Request, Refusal> {
    let name = value.get("request").and_then(|name| name.as_str()).map(str::to_owned);
    serde_json::from_value(value).map_err(|wrong| match name {
        None => Refusal::new(ErrorCode::BadRequest, "the request has no name ('request')"),
        Some(name) if is_known(&name) => Refusal::new(
            ErrorCode::BadRequest,
            format!("the request '{name}' is not as it should be: {wrong}"),
        ),
        Some(name) => Refusal::new(
            ErrorCode::UnknownRequest,
            format!(
                "ulvsd {DIRECTOR_VERSION} does not know the request '{}'",
                name.escape_debug()
            ),
        ),
    })
}

fn is_known(name: &str) -> bool {
    matches!(
        name,
        "hello" | "director" | "services" | "connections" | "counters" | "workers" | "timeouts"
    )
}
