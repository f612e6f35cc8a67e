//! DPVS's `-P` and `-Q`. There, local addresses belong to a service; here services share a `[[local_pool]]`. So a service whose local
//! addresses are changed gets a pool of its own, with the addresses and ports of the one that it had.

use std::net::IpAddr;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::service::ForwardingMethod;

use super::table::{Key, Table};
use super::{ChangeError, config};
use crate::api::changes::ServiceKey;
use crate::config::{LocalPool, VirtualService};

/// Local ports of a pool that says nothing else, as in the file.
const PORTS: (u16, u16) = (1025, u16::MAX);

pub(super) fn add(table: &mut Table, service: &ServiceKey, address: IpAddr) -> Result<(), ChangeError> {
    let (key, listed) = table.find(service).ok_or(ChangeError::NoSuchService)?;
    let address = config::usable_address(address, "a local address").map_err(ChangeError::Invalid)?;
    table.check_local(address)?;
    let mut pool = own_pool(table, listed);
    if pool.addresses.contains(&address) {
        return Err(ChangeError::LocalAddressExists);
    }
    pool.addresses.push(address);
    table.set_own_pool(&key, pool);
    Ok(())
}

pub(super) fn delete(table: &mut Table, service: &ServiceKey, address: IpAddr) -> Result<(), ChangeError> {
    let (key, listed) = table.find(service).ok_or(ChangeError::NoSuchService)?;
    let address = Address::from(address);
    let mut pool = own_pool(table, listed);
    let place = pool.addresses.iter().position(|own| *own == address);
    pool.addresses.remove(place.ok_or(ChangeError::NoSuchLocalAddress)?);
    check_still_reached(listed, &pool)?;
    table.set_own_pool(&key, pool);
    Ok(())
}

/// The pool that this service alone would have.
fn own_pool(table: &Table, service: &VirtualService) -> LocalPool {
    let Key {
        protocol,
        address,
        port,
    } = Key::of(service);
    let now = table.pool_of(service);
    LocalPool {
        name: format!("laddr {}", config::made_name(protocol, address, port)),
        addresses: now.map(|pool| pool.addresses.clone()).unwrap_or_default(),
        ports: now.map_or(PORTS, |pool| pool.ports),
        line: 0,
    }
}

fn check_still_reached(service: &VirtualService, pool: &LocalPool) -> Result<(), ChangeError> {
    let mut full_nat = service
        .servers
        .iter()
        .filter(|server| server.method == ForwardingMethod::FullNat);
    let lost = full_nat.find(|server| {
        let family = server.address.is_v4();
        !pool.addresses.iter().any(|own| own.is_v4() == family)
    });
    lost.map_or(Ok(()), |server| {
        let message = format!(
            "it is the last local address from which the fullnat server {} is reached; delete the server first",
            server.address
        );
        Err(ChangeError::Invalid(message))
    })
}
