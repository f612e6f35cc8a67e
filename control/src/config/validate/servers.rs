//! The servers of one service.

use std::collections::HashSet;

use ulvs_dataplane::service::ForwardingMethod;

use super::{each_repeat, family_name};
use crate::config::error::Findings;
use crate::config::names::method_name;
use crate::config::parse::{ServerEntry, ServiceEntry, show_endpoint};

pub fn check(service: &ServiceEntry, findings: &mut Findings) {
    repeated_servers(service, findings);
    for server in &service.servers {
        check_family(server, service, findings);
        check_port(server, service, findings);
        check_thresholds(server, findings);
    }
    addresses_without_servers(service, findings);
    nobody_gets_connections(service, findings);
}

fn repeated_servers(service: &ServiceEntry, findings: &mut Findings) {
    let mut told = HashSet::new();
    for (vip, port, _) in service.virtual_endpoints() {
        let servers = service.servers.iter().filter(|server| server.serves(vip));
        each_repeat(
            servers,
            |server| Some((server.address.value.address, server.port_for(port))),
            |again, first| {
                if told.insert(again.address.span.start) {
                    let endpoint = show_endpoint(again.address.value.address, again.port_for(port));
                    findings
                        .error(
                            &again.address.span,
                            format!("the server {endpoint} is in this service twice"),
                        )
                        .see(&first.address.span, "the first one is here")
                        .help("to give it more connections, raise its weight");
                }
            },
        );
    }
}

fn check_family(server: &ServerEntry, service: &ServiceEntry, findings: &mut Findings) {
    let mut vips = service.addresses.iter();
    if !service.addresses_readable || service.addresses.is_empty() || vips.any(|vip| server.serves(vip.value.address)) {
        return;
    }
    let method = method_name(server.method.value);
    let family = family_name(server.address.value.address.family());
    let finding = findings.error(
        &server.address.span,
        format!("{method} cannot forward to an {family} server: no virtual address of this service is {family}"),
    );
    finding.help("only tun and fullnat forward between IPv4 and IPv6");
    finding.see(&service.addresses[0].span, "the virtual address is here");
}

/// For DR and TUN the server receives the client's packet with its destination untouched, port included. The kernel overwrites
/// the server's port silently (`ip_vs_add_dest` by ipvsadm); here it is told.
fn check_port(server: &ServerEntry, service: &ServiceEntry, findings: &mut Findings) {
    let keeps_port = matches!(
        server.method.value,
        ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel
    );
    let Some(port) = server.address.value.port.filter(|_| keeps_port) else {
        return;
    };
    let mut served = service.virtual_endpoints().filter(|(vip, _, _)| server.serves(*vip));
    if let Some((_, virtual_port, span)) = served.find(|(_, virtual_port, _)| *virtual_port != port) {
        let method = method_name(server.method.value);
        findings
            .error(
                &server.address.span,
                format!("{method} cannot change the port from {virtual_port} to {port}"),
            )
            .see(span, format!("the virtual port is {virtual_port}"))
            .help("leave out the server's port, or use nat or fullnat");
    }
}

/// The kernel refuses the same (`ip_vs_edit_dest`).
fn check_thresholds(server: &ServerEntry, findings: &mut Findings) {
    let (upper, lower) = (&server.upper_threshold, &server.lower_threshold);
    if lower.value > upper.value {
        let message = format!(
            "lower_threshold {} is above upper_threshold {}",
            lower.value, upper.value
        );
        let finding = findings.error(&lower.span, message);
        finding.help("a server is overloaded at the upper threshold until it falls below the lower one");
        if upper.given {
            finding.see(&upper.span, "upper_threshold is set here");
        }
    }
}

fn addresses_without_servers(service: &ServiceEntry, findings: &mut Findings) {
    if !service.complete || !findings.file_is_whole() {
        return;
    }
    if service.servers.is_empty() {
        findings
            .warning(&service.span, "this service has no server: it takes no connections")
            .help("add a [[service.server]]");
        return;
    }
    // A service with a single address had its say at each server.
    let single = service.addresses.len() == 1;
    for vip in service.addresses.iter().filter(|_| !single) {
        if !service.servers.iter().any(|server| server.serves(vip.value.address)) {
            let family = family_name(vip.value.address.family());
            findings
                .error(
                    &vip.span,
                    format!("no server of this service can serve this {family} address"),
                )
                .help(format!(
                    "add an {family} server, or use tun or fullnat to forward between IPv4 and IPv6"
                ));
        }
    }
}

fn nobody_gets_connections(service: &ServiceEntry, findings: &mut Findings) {
    let quiesced = service.servers.iter().all(|server| server.weight.value == 0);
    if service.complete && !service.servers.is_empty() && quiesced {
        findings
            .warning(
                &service.span,
                "all servers of this service have weight 0: it takes no new connections",
            )
            .help("give at least one server a weight of 1 or more");
    }
}
