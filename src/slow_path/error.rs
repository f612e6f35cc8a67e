//! What can go wrong with a twin: each error is a sentence with its remedy.

use std::io;

/// Why the slow path could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none that an interface can have.
    #[error(
        "\"{0}\" cannot be the name of a kernel interface, which has 1 to 15 bytes without \"/\", \"%\", \":\" and blanks: correct it in [[port]]"
    )]
    BadName(String),

    /// There is something else of that name.
    #[error(
        "the kernel interface {0} is there already and is no TAP that can be a port's twin (`ip -details link show dev {0}`): give the port \
         another interface name, or remove that interface; one made before must be made by `ip tuntap add dev {0} mode tap`, without multi_queue"
    )]
    NotATap(String),

    /// Somebody else has it open.
    #[error(
        "the TAP {0} is in use by another program; stop that (`fuser -v /dev/net/tun` lists candidates), or name another interface"
    )]
    InUse(String),

    /// A capability is missing.
    #[error("{action} for {name} is not permitted: run as root, or give the program the capability CAP_NET_ADMIN")]
    NotPermitted {
        /// What was tried.
        action: &'static str,
        /// The twin.
        name: String,
    },

    /// The kernel has no TAPs.
    #[error(
        "/dev/net/tun cannot be opened ({0}): load the kernel's module tun (modprobe tun), or let the container use that device"
    )]
    NoTun(io::Error),

    /// Any other call.
    #[error("{action} failed for {name}: {source}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The twin, or what else it was about.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps a failed call.
    pub(super) fn call(action: &'static str, name: &str, source: impl Into<io::Error>) -> Error {
        let (name, source) = (name.to_owned(), source.into());
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NotPermitted { action, name },
            _ => Error::Call { action, name, source },
        }
    }
}
