//! Virtual services: names, addresses, schedulers, local pools and limits.

use ulvs_dataplane::service::{ClientAddress, ForwardingMethod};

use super::each_repeat;
use crate::config::error::Findings;
use crate::config::model::Protocol;
use crate::config::names::{client_address_name, scheduler_name};
use crate::config::parse::{Entries, ServiceEntry, show_endpoint};
use crate::config::source::{Span, printable};
use crate::config::suggest;

pub fn check(entries: &Entries, findings: &mut Findings) {
    repeated_names(entries, findings);
    repeated_addresses(entries, findings);
    for service in &entries.services {
        check_flags(service, findings);
        check_client_address(service, findings);
        check_local_pool(service, entries, findings);
        check_one_packet(service, findings);
        check_persistence(service, findings);
    }
    unused_pools(entries, findings);
}

fn repeated_names(entries: &Entries, findings: &mut Findings) {
    let services: Vec<_> = entries
        .services
        .iter()
        .filter_map(|service| service.name.as_ref())
        .collect();
    each_repeat(
        services.iter().copied(),
        |name| Some(name.value.clone()),
        |again, first| {
            let message = format!("two services are named \"{}\"", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "the first one is here");
        },
    );
    let pools: Vec<_> = entries
        .local_pools
        .iter()
        .filter_map(|pool| pool.name.as_ref())
        .collect();
    each_repeat(
        pools.iter().copied(),
        |name| Some(name.value.clone()),
        |again, first| {
            let message = format!("two local pools are named \"{}\"", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "the first one is here");
        },
    );
}

fn repeated_addresses(entries: &Entries, findings: &mut Findings) {
    let listeners = |service: &'_ ServiceEntry| -> Vec<(Protocol, String, Span)> {
        let Some(protocol) = &service.protocol else {
            return Vec::new();
        };
        let endpoints = service.virtual_endpoints();
        endpoints
            .map(|(address, port, span)| (protocol.value, show_endpoint(address, port), span.clone()))
            .collect()
    };
    let all: Vec<_> = entries.services.iter().flat_map(listeners).collect();
    each_repeat(
        &all,
        |(protocol, endpoint, _)| Some((*protocol, endpoint.clone())),
        |again, first| {
            let message = format!("the virtual service {} {} is there twice", again.0, again.1);
            findings.error(&again.2, message).see(&first.2, "the first one is here");
        },
    );
}

fn check_flags(service: &ServiceEntry, findings: &mut Findings) {
    each_repeat(
        &service.flags,
        |flag| Some(flag.value),
        |again, first| {
            findings
                .error(&again.span, "this flag is listed twice")
                .see(&first.span, "it is listed here first");
        },
    );
    for flag in service
        .flags
        .iter()
        .filter(|flag| flag.value.scheduler != service.scheduler.value)
    {
        let owner = scheduler_name(flag.value.scheduler);
        let chosen = scheduler_name(service.scheduler.value);
        let message = format!("this flag belongs to the scheduler {owner}; the service uses {chosen}");
        let finding = findings.error(&flag.span, message);
        finding.help(format!("remove the flag, or set scheduler = \"{owner}\""));
        if service.scheduler.given {
            finding.see(&service.scheduler.span, "the scheduler is set here");
        }
    }
}

/// Whether a server of the service uses FullNAT, or would if it were added later.
fn uses_full_nat(service: &ServiceEntry) -> bool {
    let full_nat = ForwardingMethod::FullNat;
    let by_default = service.method.as_ref().is_some_and(|method| method.value == full_nat);
    by_default || service.servers.iter().any(|server| server.method.value == full_nat)
}

fn check_client_address(service: &ServiceEntry, findings: &mut Findings) {
    let client_address = &service.client_address;
    if client_address.value == ClientAddress::Hidden {
        return;
    }
    let word = client_address_name(client_address.value);
    if service.complete && findings.file_is_whole() && !uses_full_nat(service) {
        findings
            .error(
                &client_address.span,
                format!("{word} has no effect: this service has no fullnat server"),
            )
            .help("servers behind nat, dr and tun see the client's address anyway; leave client_address out");
    }
    let has_protocol = |wanted| {
        let protocol = service.protocol.as_ref();
        protocol.filter(|protocol| protocol.value == wanted)
    };
    if let Some(protocol) = has_protocol(Protocol::Sctp) {
        findings
            .error(
                &client_address.span,
                format!("{word} is not for sctp, which has no place for it"),
            )
            .see(&protocol.span, "the protocol is sctp")
            .help("use \"hidden\", or a method that leaves the client's address: nat, dr or tun");
    }
    let udp = has_protocol(Protocol::Udp);
    if let (ClientAddress::Toa, Some(protocol)) = (client_address.value, udp) {
        findings
            .error(&client_address.span, "toa is a TCP option; this service balances udp")
            .see(&protocol.span, "the protocol is udp")
            .help("use \"proxy_v2\" or \"hidden\"");
    }
}

/// As in the kernel, where a connection of another protocol has states that single packets cannot have.
fn check_one_packet(service: &ServiceEntry, findings: &mut Findings) {
    let (Some(one_packet), Some(protocol)) = (&service.one_packet, &service.protocol) else {
        return;
    };
    if protocol.value != Protocol::Udp {
        findings
            .error(one_packet, "one_packet is for udp services only")
            .see(&protocol.span, format!("the protocol is {}", protocol.value))
            .help("remove one_packet");
    }
}

fn check_persistence(service: &ServiceEntry, findings: &mut Findings) {
    if service.persistence_timeout.is_some() || !service.complete {
        return;
    }
    for (key, prefix) in [
        ("persistence_prefix_v4", &service.persistence_prefix_v4),
        ("persistence_prefix_v6", &service.persistence_prefix_v6),
    ] {
        if prefix.given {
            findings
                .error(
                    &prefix.span,
                    format!("{key} has no effect: this service has no persistence"),
                )
                .help("add persistence_timeout = 300 (seconds), or leave it out");
        }
    }
}

fn check_local_pool(service: &ServiceEntry, entries: &Entries, findings: &mut Findings) {
    let Some(wanted) = &service.local_pool else {
        let method = service
            .method
            .iter()
            .chain(service.servers.iter().map(|server| &server.method));
        let full_nat = method
            .into_iter()
            .find(|method| method.value == ForwardingMethod::FullNat);
        if let Some(method) = full_nat.filter(|_| service.local_pool_readable && findings.file_is_whole()) {
            findings
                .error(
                    &method.span,
                    "fullnat needs local addresses, and this service has no local_pool",
                )
                .help("add local_pool = \"NAME\" to the [[service]], with the name of a [[local_pool]]");
        }
        return;
    };
    let names = entries
        .local_pools
        .iter()
        .filter_map(|pool| pool.name.as_ref())
        .map(|name| name.value.as_str());
    let pool = entries
        .local_pools
        .iter()
        .find(|pool| pool.name.as_ref().is_some_and(|name| name.value == wanted.value));
    let Some(pool) = pool else {
        let all_readable = entries.local_pools_readable && entries.local_pools.iter().all(|pool| pool.name.is_some());
        if all_readable && findings.file_is_whole() {
            let help = match entries.local_pools.is_empty() {
                true => "the file has no [[local_pool]]; add one with this name".to_string(),
                false => suggest::did_you_mean(&wanted.value, names),
            };
            let message = format!("there is no [[local_pool]] named \"{}\"", printable(&wanted.value));
            findings.error(&wanted.span, message).help(help);
        }
        return;
    };
    for server in service
        .servers
        .iter()
        .filter(|server| server.method.value == ForwardingMethod::FullNat)
    {
        let family = server.address.value.address.family();
        if pool.complete && !pool.addresses.iter().any(|address| address.value.family() == family) {
            let family = super::family_name(family);
            findings
                .error(
                    &server.address.span,
                    format!(
                        "the pool \"{}\" has no {family} address to reach this server from",
                        wanted.value
                    ),
                )
                .see(&pool.span, "the pool is here")
                .help(format!("add an {family} address to the pool"));
        }
    }
    if service.complete && findings.file_is_whole() && !uses_full_nat(service) {
        findings
            .warning(
                &wanted.span,
                "local_pool has no effect: this service has no fullnat server",
            )
            .help("leave it out, or set method = \"fullnat\"");
    }
}

fn unused_pools(entries: &Entries, findings: &mut Findings) {
    for name in entries.local_pools.iter().filter_map(|pool| pool.name.as_ref()) {
        let used = |service: &ServiceEntry| service.local_pool.as_ref().is_some_and(|pool| pool.value == name.value);
        if !entries.services.iter().any(used) {
            findings.warning(&name.span, format!("no service uses the local pool \"{}\"", name.value));
        }
    }
}
