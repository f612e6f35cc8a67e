//! What IPVS can and this director cannot yet, and in which words that is said. Something that becomes possible loses its check here;
//! everything else on the way from the command line to this place carries it already.

use super::ChangeError;
use crate::api::changes::{ServiceKey, ServiceSettings};

/// `--start-daemon`
pub const DAEMON: ChangeError =
    ChangeError::Missing("this director has no connection synchronisation yet; nothing was changed");

/// A real server on the director's own machine.
pub const LOCAL: ChangeError =
    ChangeError::Missing("this director does not forward to its own machine; nothing was changed");

/// Refuses a service that cannot be balanced.
pub fn check_service(service: &ServiceKey, settings: &ServiceSettings) -> Result<(), ChangeError> {
    let missing = |sentence| Err(ChangeError::Missing(sentence));
    match service {
        ServiceKey::Fwmark { .. } => {
            return missing("this director does not balance by firewall mark yet (-f); nothing was changed");
        }
        ServiceKey::Address { protocol, .. } if super::table::config_protocol(*protocol).is_none() => {
            return missing("this director balances TCP, UDP and SCTP only; nothing was changed");
        }
        ServiceKey::Address { .. } => {}
    }
    if settings.persistence_engine.is_some() {
        return missing("this director has no persistence engines yet (--pe); nothing was changed");
    }
    Ok(())
}
