//! A configuration as the text of a configuration file, which reads back as the same configuration (`ulvs save`).

use std::collections::BTreeMap;
use std::fmt::Write;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::service::{ForwardingMethod, GueChecksum, TunnelType};
use ulvs_dataplane::tunables::Tunables;

use super::model::{Backend, Config, Director, Dpdk, LocalPool, Port, RealServer, Timeouts, VirtualService};
use super::names::{
    BACKENDS, HUGE_PAGES, IDLES, PORT_MODES, RSS_FIELDS, TUNNEL_CHECKSUMS, TUNNELS, TunnelWord, ZERO_COPIES,
    client_address_name, method_name, scheduler_flag_names, scheduler_name, word_of,
};
use super::parse::{made_name, show_endpoint};

/// The whole file. Defaults are written out too: what was saved stays the same when a default changes.
pub fn to_toml(config: &Config) -> String {
    let mut text = String::from("# Saved from a running director.\n\n");
    text += &director(&config.director);
    text += &timeouts(&config.timeouts);
    text += &ipvs(&config.ipvs);
    text += &dpdk(&config.dpdk);
    config
        .ports
        .iter()
        .for_each(|own| text += &port(own, config.director.backend));
    config.local_pools.iter().for_each(|pool| text += &local_pool(pool));
    for (group, name) in groups(&config.services) {
        text += &service(&group, name.as_deref());
    }
    text
}

/// A string as TOML writes it, with quotes.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list<T>(items: impl IntoIterator<Item = T>, written: impl Fn(T) -> String) -> String {
    let items: Vec<String> = items.into_iter().map(written).collect();
    format!("[{}]", items.join(", "))
}

/// `key = value` lines under a header.
fn section(header: &str, lines: &[(&str, String)]) -> String {
    let mut text = format!("{header}\n");
    for (key, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    }
    text + "\n"
}

fn director(director: &Director) -> String {
    let Director {
        backend,
        cores,
        workers,
        connections,
        service_limit,
        server_limit,
        frames,
        idle,
        worker_timeout,
        control_socket,
        control_group,
        slow_path_pps,
        slow_path_neighbour_pps,
        slow_path_routing_pps,
    } = director;
    let mut lines = vec![("backend", quoted(word_of(&BACKENDS, *backend)))];
    // Beside cores, workers would be an error.
    if cores.is_empty() {
        lines.push(("workers", workers.to_string()));
    } else {
        lines.push(("cores", list(cores, ToString::to_string)));
    }
    lines.extend([
        ("connections", connections.to_string()),
        ("service_limit", service_limit.to_string()),
        ("server_limit", server_limit.to_string()),
        ("frames", frames.to_string()),
        ("idle", quoted(word_of(&IDLES, *idle))),
        ("worker_timeout_ms", worker_timeout.as_millis().to_string()),
        ("control_socket", quoted(&control_socket.to_string_lossy())),
        ("control_group", quoted(control_group)),
        ("slow_path_pps", slow_path_pps.to_string()),
        ("slow_path_neighbour_pps", slow_path_neighbour_pps.to_string()),
        ("slow_path_routing_pps", slow_path_routing_pps.to_string()),
    ]);
    section("[director]", &lines)
}

fn ipvs(tunables: &Tunables) -> String {
    let Tunables {
        conn_reuse_mode,
        expire_nodest_conn,
        sloppy_tcp,
        sloppy_sctp,
        schedule_icmp,
        nat_icmp_send,
        pmtu_disc,
        secure_tcp,
    } = tunables;
    let switch = |is_set: &bool| u8::from(*is_set).to_string();
    let lines = [
        ("conn_reuse_mode", conn_reuse_mode.to_string()),
        ("expire_nodest_conn", switch(expire_nodest_conn)),
        ("sloppy_tcp", switch(sloppy_tcp)),
        ("sloppy_sctp", switch(sloppy_sctp)),
        ("schedule_icmp", switch(schedule_icmp)),
        ("nat_icmp_send", switch(nat_icmp_send)),
        ("pmtu_disc", switch(pmtu_disc)),
        ("secure_tcp", secure_tcp.to_string()),
    ];
    section("[ipvs]", &lines)
}

fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts {
        tcp,
        tcp_fin,
        udp,
        tcp_syn_sent,
        tcp_syn_recv,
        tcp_time_wait,
        tcp_close,
        tcp_close_wait,
        tcp_last_ack,
    } = timeouts;
    let lines = [
        ("tcp", tcp),
        ("tcp_fin", tcp_fin),
        ("udp", udp),
        ("tcp_syn_sent", tcp_syn_sent),
        ("tcp_syn_recv", tcp_syn_recv),
        ("tcp_time_wait", tcp_time_wait),
        ("tcp_close", tcp_close),
        ("tcp_close_wait", tcp_close_wait),
        ("tcp_last_ack", tcp_last_ack),
    ];
    section(
        "[timeouts]",
        &lines.map(|(key, duration)| (key, duration.as_secs().to_string())),
    )
}

fn dpdk(dpdk: &Dpdk) -> String {
    let Dpdk {
        huge_pages,
        memory_mib,
        eal_arguments,
    } = dpdk;
    section(
        "[dpdk]",
        &[
            ("huge_pages", quoted(word_of(&HUGE_PAGES, *huge_pages))),
            ("memory_mib", memory_mib.to_string()),
            ("eal_arguments", list(eal_arguments, |argument| quoted(argument))),
        ],
    )
}

/// Only what the backend reads: the rest would be an error or a warning.
fn port(port: &Port, backend: Backend) -> String {
    let vlan = |vlan: &super::Vlan| format!("{{ id = {}, interface = {} }}", vlan.id, quoted(&vlan.interface));
    let mut lines = vec![("name", quoted(&port.name)), ("interface", quoted(&port.interface))];
    match backend {
        Backend::AfXdp => lines.extend([
            ("mode", quoted(word_of(&PORT_MODES, port.mode))),
            ("zero_copy", quoted(word_of(&ZERO_COPIES, port.zero_copy))),
        ]),
        Backend::Dpdk => {
            lines.extend(port.device.iter().map(|device| ("device", quoted(device))));
            lines.push(("mtu", port.mtu.to_string()));
        }
    }
    lines.extend([
        ("rss", quoted(word_of(&RSS_FIELDS, port.rss))),
        ("untagged", port.untagged.to_string()),
        ("vlans", list(&port.vlans, vlan)),
    ]);
    section("[[port]]", &lines)
}

fn local_pool(pool: &LocalPool) -> String {
    let (first, last) = pool.ports;
    section(
        "[[local_pool]]",
        &[
            ("name", quoted(&pool.name)),
            ("addresses", list(&pool.addresses, |own| quoted(&own.to_string()))),
            ("ports", quoted(&format!("{first}-{last}"))),
        ],
    )
}

/// Services that are written as one `[[service]]` with several addresses, and the name of each group. Addresses of one `[[service]]` that
/// the command line has made different become services of their own; the first keeps the name, which no two may share.
fn groups(services: &[VirtualService]) -> Vec<(Vec<&VirtualService>, Option<String>)> {
    let mut groups: Vec<(Vec<&VirtualService>, Option<String>)> = Vec::new();
    let mut of_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for service in services {
        if service.name == made_name(service.protocol, service.address, service.port) {
            groups.push((vec![service], None));
            continue;
        }
        let of_name = of_name.entry(&service.name).or_default();
        let alike = of_name.iter().copied().find(|at| can_be_one(&groups[*at].0, service));
        match alike {
            Some(at) => groups[at].0.push(service),
            None => {
                let name = of_name.is_empty().then(|| service.name.clone());
                of_name.push(groups.len());
                groups.push((vec![service], name));
            }
        }
    }
    groups
}

/// Whether a service differs from those of a group in its address only, its servers being those that serve the address.
fn can_be_one(group: &[&VirtualService], service: &VirtualService) -> bool {
    let same_settings = |other: &VirtualService| {
        other.protocol == service.protocol
            && other.scheduler == service.scheduler
            && other.scheduler_flags == service.scheduler_flags
            && other.one_packet == service.one_packet
            && same_persistence(other, service)
            && other.local_pool == service.local_pool
            && other.client_address == service.client_address
    };
    let mut all = group.to_vec();
    all.push(service);
    let servers = union(&all);
    group.iter().all(|other| same_settings(other))
        && all.iter().all(|own| {
            let serving: Vec<_> = servers.iter().filter(|server| serves(server, own.address)).collect();
            serving.len() == own.servers.len() && serving.iter().zip(&own.servers).all(|(a, b)| is_same(a, b))
        })
}

/// The length of the prefix is for one family only.
fn same_persistence(a: &VirtualService, b: &VirtualService) -> bool {
    let same_family = a.address.is_v4() == b.address.is_v4();
    match (a.persistence, b.persistence) {
        (Some(a), Some(b)) if !same_family => a.timeout_s == b.timeout_s && a.keeps_quiesced == b.keeps_quiesced,
        (a, b) => a == b,
    }
}

fn persistence(group: &[&VirtualService]) -> Vec<(&'static str, String)> {
    let Some(first) = group.first().and_then(|first| first.persistence) else {
        return Vec::new();
    };
    let mut lines = vec![
        ("persistence_timeout", first.timeout_s.to_string()),
        ("persistence_keeps_quiesced", first.keeps_quiesced.to_string()),
    ];
    for (key, is_v4) in [("persistence_prefix_v4", true), ("persistence_prefix_v6", false)] {
        let own = group.iter().find(|own| own.address.is_v4() == is_v4);
        let own = own.and_then(|own| own.persistence);
        lines.extend(own.map(|own| (key, own.prefix_length.to_string())));
    }
    lines
}

/// All servers of a group, each once, in an order that all its services have.
fn union<'a>(group: &[&'a VirtualService]) -> Vec<&'a RealServer> {
    let mut all: Vec<&RealServer> = Vec::new();
    for service in group {
        let mut at = 0;
        for server in &service.servers {
            match all.iter().position(|known| is_same(known, server)) {
                Some(place) => at = place + 1,
                None => {
                    all.insert(at, server);
                    at += 1;
                }
            }
        }
    }
    all
}

fn serves(server: &RealServer, address: Address) -> bool {
    matches!(server.method, ForwardingMethod::Tunnel | ForwardingMethod::FullNat)
        || server.address.is_v4() == address.is_v4()
}

fn is_same(a: &RealServer, b: &RealServer) -> bool {
    (a.address, a.port, a.weight, a.method, a.tunnel) == (b.address, b.port, b.weight, b.method, b.tunnel)
        && (a.upper_threshold, a.lower_threshold) == (b.upper_threshold, b.lower_threshold)
}

fn service(group: &[&VirtualService], name: Option<&str>) -> String {
    let Some(first) = group.first() else {
        return String::new();
    };
    let servers = union(group);
    let mut lines = Vec::new();
    if let Some(name) = name {
        lines.push(("name", quoted(name)));
    }
    let addresses = list(group, |own| quoted(&show_endpoint(own.address, own.port)));
    let flags = scheduler_flag_names(first.scheduler, first.scheduler_flags);
    lines.extend([
        ("protocol", quoted(&first.protocol.to_string())),
        ("address", addresses),
        ("scheduler", quoted(scheduler_name(first.scheduler))),
        ("scheduler_flags", list(flags, quoted)),
        ("method", quoted(method_name(default_method(first, &servers)))),
        ("one_packet", first.one_packet.to_string()),
    ]);
    lines.extend(persistence(group));
    if let Some(pool) = &first.local_pool {
        lines.push(("local_pool", quoted(pool)));
        // Without a pool there is no fullnat server that it could mean anything to, and it would be an error.
        lines.push(("client_address", quoted(client_address_name(first.client_address))));
    }
    let mut text = section("[[service]]", &lines);
    servers.into_iter().for_each(|own| text += &server(own));
    text
}

/// What the file wants as the service's own method, though every server has one. A pool without it would be called useless.
fn default_method(service: &VirtualService, servers: &[&RealServer]) -> ForwardingMethod {
    let has_full_nat = servers.iter().any(|server| server.method == ForwardingMethod::FullNat);
    match servers.first() {
        Some(first) if has_full_nat || service.local_pool.is_none() => first.method,
        None if service.local_pool.is_none() => ForwardingMethod::Nat,
        _ => ForwardingMethod::FullNat,
    }
}

fn server(server: &RealServer) -> String {
    let mut lines = vec![
        ("address", quoted(&show_endpoint(server.address, server.port))),
        ("weight", server.weight.to_string()),
        ("method", quoted(method_name(server.method))),
    ];
    if server.method == ForwardingMethod::Tunnel {
        lines.extend(tunnel(&server.tunnel));
    }
    lines.extend([
        ("upper_threshold", server.upper_threshold.to_string()),
        ("lower_threshold", server.lower_threshold.to_string()),
    ]);
    section("[[service.server]]", &lines)
}

/// Only what belongs to the kind of tunnel: the rest would be an error.
fn tunnel(tunnel: &TunnelType) -> Vec<(&'static str, String)> {
    let kind = |word| ("tunnel", quoted(word_of(&TUNNELS, word)));
    let sum = |checksum| ("tunnel_checksum", quoted(word_of(&TUNNEL_CHECKSUMS, checksum)));
    match *tunnel {
        TunnelType::Ipip => vec![kind(TunnelWord::Ipip)],
        TunnelType::Gue { port, checksum } => {
            vec![kind(TunnelWord::Gue), ("tunnel_port", port.to_string()), sum(checksum)]
        }
        TunnelType::Gre { checksum: true } => vec![kind(TunnelWord::Gre), sum(GueChecksum::Full)],
        TunnelType::Gre { checksum: false } => vec![kind(TunnelWord::Gre), sum(GueChecksum::None)],
    }
}
