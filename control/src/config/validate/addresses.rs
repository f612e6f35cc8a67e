//! Who owns an address. The director answers ARP and neighbour discovery for virtual and local addresses, so none of them can
//! be a server's at the same time.

use std::collections::HashMap;

use ulvs_dataplane::address::Address;

use crate::config::error::Findings;
use crate::config::parse::Entries;
use crate::config::source::Span;

pub fn check(entries: &Entries, findings: &mut Findings) {
    let mut virtual_addresses: HashMap<Address, &Span> = HashMap::new();
    for (address, _, span) in entries.services.iter().flat_map(|service| service.virtual_endpoints()) {
        virtual_addresses.entry(address).or_insert(span);
    }
    let mut local_addresses: HashMap<Address, &Span> = HashMap::new();
    for local in entries.local_pools.iter().flat_map(|pool| &pool.addresses) {
        local_addresses.entry(local.value).or_insert(&local.span);
        if let Some(vip) = virtual_addresses.get(&local.value) {
            findings
                .error(
                    &local.span,
                    format!("the local address {} is also a virtual address", local.value),
                )
                .see(vip, "the virtual address is here")
                .help("use an address of the director that clients do not connect to");
        }
    }
    for server in entries.services.iter().flat_map(|service| &service.servers) {
        let address = server.address.value.address;
        if let Some(vip) = virtual_addresses.get(&address) {
            findings
                .error(
                    &server.address.span,
                    format!("the server address {address} is also a virtual address"),
                )
                .see(vip, "the virtual address is here")
                .help("write the server's own address; with dr and tun the virtual address only sits on its loopback");
        }
        if let Some(local) = local_addresses.get(&address) {
            findings
                .error(
                    &server.address.span,
                    format!("the server address {address} is also a local address of the director"),
                )
                .see(local, "the local address is here");
        }
    }
}
