//! Why a change is not made. Where ipvsadm has words for it (those of libipvs for the kernel's error number), they come first, since
//! scripts look for them.

use crate::api::protocol::ErrorCode;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// EEXIST for `-A`
    #[error("Service already exists")]
    ServiceExists,
    /// ESRCH for a service
    #[error("No such service")]
    NoSuchService,
    /// ESRCH for the service of a server
    #[error("Service not defined")]
    ServiceNotDefined,
    /// EEXIST for `-a`
    #[error("Destination already exists")]
    DestinationExists,
    /// ENOENT for `-e` and `-d`
    #[error("No such destination")]
    NoSuchDestination,
    /// ENOENT for `-A` and `-E`
    #[error("Scheduler or persistence engine not found")]
    NoScheduler,
    /// ERANGE
    #[error("Numerical result out of range")]
    OutOfRange,
    /// ESRCH for `--stop-daemon`
    #[error("No daemon is running")]
    NoDaemon,
    /// EEXIST for `-P`
    #[error("Local address already exists")]
    LocalAddressExists,
    /// ENOENT for `-Q`
    #[error("No such local address")]
    NoSuchLocalAddress,
    /// ENOMEM
    #[error("Memory allocation problem: {0}")]
    NoRoom(String),
    /// EINVAL
    #[error("Invalid operation: {0}")]
    Invalid(String),
    /// The kernel could.
    #[error("{0}")]
    Missing(&'static str),
}

impl ChangeError {
    /// The kind of error, for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            ChangeError::ServiceExists | ChangeError::DestinationExists | ChangeError::LocalAddressExists => {
                ErrorCode::AlreadyExists
            }
            ChangeError::NoSuchService
            | ChangeError::ServiceNotDefined
            | ChangeError::NoSuchDestination
            | ChangeError::NoScheduler
            | ChangeError::NoDaemon
            | ChangeError::NoSuchLocalAddress => ErrorCode::NotFound,
            ChangeError::OutOfRange | ChangeError::Invalid(_) => ErrorCode::Invalid,
            ChangeError::NoRoom(_) => ErrorCode::NoRoom,
            ChangeError::Missing(_) => ErrorCode::NotSupported,
        }
    }
}
