//! `ipvsadm -S`: services and servers as command lines that `-R` reads, as ipvsadm 1.31 writes them. Like there, thresholds and timeouts
//! are not among them; `ulvs save` writes everything.

use std::net::IpAddr;

use ulvs_control::api::views::{Method, Protocol, ServerView, ServiceView, TunnelChecksum, TunnelKind, TunnelView};

use super::listing::mask;
use super::names::Names;
use super::order;

/// The command lines.
pub fn rules(mut services: Vec<ServiceView>, names: &Names) -> String {
    order::sort_services(&mut services);
    let mut text = String::new();
    for service in &mut services {
        order::sort_servers(&mut service.servers);
        text += &service_rules(service, names);
    }
    text
}

fn service_rules(service: &ServiceView, names: &Names) -> String {
    let selector = selector(service, names);
    let mut text = format!("-A {selector} -s {}", service.scheduler);
    if let Some(persistence) = &service.persistence {
        text += &format!(" -p {}", persistence.timeout_seconds);
        if let Some(mask) = mask(service.address, persistence) {
            text += &format!(" -M {mask}");
        }
    }
    if let Some(engine) = &service.persistence_engine {
        text += &format!(" --pe {engine}");
    }
    if service.one_packet {
        text += " -o";
    }
    if !service.scheduler_flags.is_empty() {
        text += &format!(" -b {}", service.scheduler_flags.join(","));
    }
    text += "\n";
    // FullNAT needs them, and nothing else; neither is the kernel's.
    if service.servers.iter().any(|server| server.method == Method::Fullnat) {
        for local in &service.local_addresses {
            text += &format!("-P {selector} -z {local}\n");
        }
    }
    for server in &service.servers {
        text += &format!("-a {selector} {}\n", server_rule(service, server, names));
    }
    text
}

fn selector(service: &ServiceView, names: &Names) -> String {
    if let Some(mark) = service.fwmark {
        return format!("-f {mark}{}", if service.address.is_ipv6() { " -6" } else { "" });
    }
    let option = match service.protocol {
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
        Protocol::Tcp | Protocol::Ip => "-t",
    };
    format!("{option} {}", endpoint(service.address, service.port, service, names))
}

fn endpoint(address: IpAddr, port: u16, service: &ServiceView, names: &Names) -> String {
    names.endpoint(address, port, service.protocol)
}

fn server_rule(service: &ServiceView, server: &ServerView, names: &Names) -> String {
    let method = match server.method {
        Method::Nat => "-m",
        Method::Tun => "-i",
        Method::Fullnat => "-b",
        Method::Dr | Method::Local => "-g",
    };
    let endpoint = endpoint(server.address, server.port, service, names);
    let tunnel = server.tunnel.map(tunnel).unwrap_or_default();
    format!("-r {endpoint} {method} -w {}{tunnel}", server.weight)
}

fn tunnel(tunnel: TunnelView) -> String {
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match tunnel.kind {
        TunnelKind::Ipip => " --tun-type ipip".to_owned(),
        TunnelKind::Gue => format!(" --tun-type gue --tun-port {} {checksum}", tunnel.port),
        TunnelKind::Gre => format!(" --tun-type gre {checksum}"),
    }
}
