//! What the server asks: implemented by the runtime, which knows the services and talks to the workers.

use std::fmt;
use std::future::Future;

use super::changes::{Change, ChangesOutcome};
use super::protocol::{ConnectionFilter, ConnectionsPage, Cursor, ErrorCode, ServiceSelector};
use super::views::{CounterView, DirectorView, ServiceView, TimeoutsView, TotalsView, WorkerView};

/// Why a backend does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of error, for programs.
    pub code: ErrorCode,
    /// A sentence, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal of the given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// What a backend says to a question.
pub type Answer<T> = Result<T, Refusal>;

/// The running director, as the API sees it. All methods are called on the control thread; a method that waits (for a worker, say) is
/// asked on behalf of one client and does not hold up the others.
pub trait Backend {
    /// The director as a whole.
    fn director(&self) -> impl Future<Output = Answer<DirectorView>>;

    /// All services that `selector` names (all when `None`), of one state of the director. None of them is [`ErrorCode::NotFound`] when a
    /// selector was given; the server sees to that, so an empty list is a fine answer.
    fn services(&self, selector: Option<&ServiceSelector>) -> impl Future<Output = Answer<Vec<ServiceView>>>;

    /// Up to `limit` connections that pass `filter`, from `cursor` on (from the start when `None`). The backend chooses what its cursors
    /// mean; it must bear any value, since the other end may send what it likes.
    fn connections(
        &self,
        filter: &ConnectionFilter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> impl Future<Output = Answer<ConnectionsPage>>;

    /// All counters, zeros included.
    fn counters(&self) -> impl Future<Output = Answer<Vec<CounterView>>>;

    /// All workers.
    fn workers(&self) -> impl Future<Output = Answer<Vec<WorkerView>>>;

    /// The protocol timeouts.
    fn timeouts(&self) -> impl Future<Output = Answer<TimeoutsView>>;

    /// Traffic of all services together.
    fn totals(&self) -> impl Future<Output = Answer<TotalsView>>;

    /// The running configuration as the text of a configuration file.
    fn configuration(&self) -> impl Future<Output = Answer<String>>;

    /// Makes all changes that can be made (with `atomic` all or none), as one new configuration. Ready when all workers work by it.
    fn change(&self, changes: Vec<Change>, atomic: bool) -> impl Future<Output = Answer<ChangesOutcome>>;
}
