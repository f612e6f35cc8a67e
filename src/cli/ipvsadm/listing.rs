//! `ipvsadm -L`: services and servers as text, column by column as ipvsadm 1.31 prints them, trailing blanks included.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use ulvs_control::api::views::{
    Method, PersistenceView, Rates, ServerView, ServiceView, TimeoutsView, Traffic, TunnelChecksum, TunnelKind,
    TunnelView,
};

use super::names::Names;
use super::numbers::large;
use super::order;

/// The version of IPVS whose behaviour this is, as the first line names it.
pub const IPVS_VERSION: &str = "1.2.1";

/// Columns that a name gets in front of others; longer IPv4 names are cut there, IPv6 names are not.
const NAME_WIDTH: usize = 28;

/// Which columns stand behind the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Method, weight, connections.
    Plain,
    /// Totals (`--stats`).
    Stats,
    /// Rates (`--rate`).
    Rate,
    /// Thresholds (`--thresholds`).
    Thresholds,
    /// Persistence templates (`--persistent-conn`).
    PersistentConn,
    /// Outer headers (`--tun-info`).
    TunInfo,
}

/// How a listing looks.
#[derive(Debug)]
pub struct Format {
    /// The columns.
    pub columns: Columns,
    /// Whether large numbers are written out (`--exact`).
    pub exact: bool,
    /// Whether services and servers are sorted, or stand in the kernel's order (`--nosort`).
    pub sorted: bool,
    /// Names or numbers.
    pub names: Names,
}

/// The first line of the list of all services.
pub fn banner(connection_table_size: u64) -> String {
    format!("IP Virtual Server version {IPVS_VERSION} (size={connection_table_size})\n")
}

/// The line of `--timeout`.
pub fn timeouts(timeouts: &TimeoutsView) -> String {
    let TimeoutsView {
        tcp_seconds,
        tcp_fin_seconds,
        udp_seconds,
    } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp_seconds} {tcp_fin_seconds} {udp_seconds}\n")
}

/// The two lines of headings, then services with their servers.
pub fn services(mut services: Vec<ServiceView>, format: &Format) -> String {
    let mut text = headings(format.columns);
    if format.sorted {
        order::sort_services(&mut services);
    }
    for service in &mut services {
        if format.sorted {
            order::sort_servers(&mut service.servers);
        }
        text += &service_line(service, format);
        for server in &service.servers {
            text += &server_line(service, server, format);
        }
    }
    text
}

fn headings(columns: Columns) -> String {
    const NAME: &str = "Prot LocalAddress:Port";
    match columns {
        Columns::Plain => "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
            .to_owned(),
        Columns::TunInfo => "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn\n"
            .to_owned(),
        Columns::Stats => numeric_headings(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
        Columns::Rate => numeric_headings(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
        Columns::Thresholds => format!(
            "{NAME:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
        ),
        Columns::PersistentConn => format!(
            "{NAME:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
            "Weight", "PersistConn", "ActiveConn", "InActConn"
        ),
    }
}

fn numeric_headings(headings: [&str; 5]) -> String {
    let mut text = format!("{:<33}", "Prot LocalAddress:Port");
    for heading in headings {
        text += &format!(" {heading:>8}");
    }
    text + "\n  -> RemoteAddress:Port\n"
}

fn service_line(service: &ServiceView, format: &Format) -> String {
    let name = service_name(service, &format.names);
    match numbers(format.columns, &service.totals, service.rates.as_ref()) {
        Some(numbers) => format!("{name:<33}{}\n", number_columns(numbers, format.exact)),
        None => format!("{name} {}\n", scheduler_and_flags(service)),
    }
}

fn service_name(service: &ServiceView, names: &Names) -> String {
    if let Some(mark) = service.fwmark {
        return format!("FWM  {mark}{}", if service.address.is_ipv6() { " IPv6" } else { "" });
    }
    let protocol = service.protocol;
    format!(
        "{protocol:<4} {}",
        endpoint(service.address, names.endpoint(service.address, service.port, protocol))
    )
}

/// A name, cut to its column if the address is IPv4.
fn endpoint(address: IpAddr, name: String) -> String {
    if address.is_ipv6() {
        name
    } else {
        name.chars().take(NAME_WIDTH).collect()
    }
}

fn scheduler_and_flags(service: &ServiceView) -> String {
    let mut text = service.scheduler.clone();
    if !service.scheduler_flags.is_empty() {
        text += &format!(" ({})", service.scheduler_flags.join(","));
    }
    if let Some(persistence) = &service.persistence {
        text += &persistence_flags(service.address, persistence);
    }
    if let Some(engine) = &service.persistence_engine {
        text += &format!(" pe {engine}");
    }
    if service.one_packet {
        text += " ops";
    }
    text
}

fn persistence_flags(address: IpAddr, persistence: &PersistenceView) -> String {
    let mask = mask(address, persistence).map(|mask| format!(" mask {mask}"));
    format!(
        " persistent {}{}",
        persistence.timeout_seconds,
        mask.unwrap_or_default()
    )
}

/// A netmask for IPv4 and a length for IPv6; `None` when it is the whole address.
pub fn mask(address: IpAddr, persistence: &PersistenceView) -> Option<String> {
    let length = persistence.prefix_length;
    match address {
        IpAddr::V6(_) => (length < 128).then(|| length.to_string()),
        IpAddr::V4(_) => (length < 32).then(|| Ipv4Addr::from_bits(netmask(length)).to_string()),
    }
}

/// The IPv4 netmask of a length.
pub fn netmask(length: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(length.into())).unwrap_or(0)
}

fn server_line(service: &ServiceView, server: &ServerView, format: &Format) -> String {
    let name = format.names.endpoint(server.address, server.port, service.protocol);
    let mut line = format!("  -> {:<NAME_WIDTH$}", endpoint(server.address, name));
    let ServerView {
        weight,
        upper_threshold,
        lower_threshold,
        active,
        inactive,
        persistent,
        ..
    } = server;
    let method = method_name(server.method);
    let rest = match format.columns {
        Columns::Stats | Columns::Rate => {
            let numbers = numbers(format.columns, &server.totals, server.rates.as_ref()).unwrap_or_default();
            number_columns(numbers, format.exact)
        }
        Columns::Plain => format!(" {method:<7} {weight:<6} {active:<10} {inactive:<10}"),
        Columns::TunInfo => {
            format!(
                " {method:<7} {:<13} {weight:<6} {active:<10} {inactive:<10}",
                tunnel_info(server.tunnel)
            )
        }
        Columns::Thresholds => format!(" {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}"),
        Columns::PersistentConn => format!(" {weight:<9} {persistent:<11} {active:<10} {inactive:<10}"),
    };
    line += &rest;
    line + "\n"
}

/// The method as ipvsadm and the kernel name it.
pub fn method_name(method: Method) -> &'static str {
    match method {
        Method::Nat => "Masq",
        Method::Dr => "Route",
        Method::Tun => "Tunnel",
        Method::Local => "Local",
        // As DPVS spells it; the kernel has no such method.
        Method::Fullnat => "FullNat",
    }
}

fn tunnel_info(tunnel: Option<TunnelView>) -> String {
    let Some(tunnel) = tunnel else { return "n/a".to_owned() };
    let checksum = match tunnel.checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{}:{checksum}", tunnel.port),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

/// The five numbers of `--stats` or `--rate`; `None` for other columns.
fn numbers(columns: Columns, totals: &Traffic, rates: Option<&Rates>) -> Option<[u64; 5]> {
    match columns {
        Columns::Stats => {
            let Traffic {
                connections,
                packets_in,
                packets_out,
                bytes_in,
                bytes_out,
            } = *totals;
            Some([connections, packets_in, packets_out, bytes_in, bytes_out])
        }
        Columns::Rate => {
            let Rates {
                connections,
                packets_in,
                packets_out,
                bytes_in,
                bytes_out,
            } = rates.copied().unwrap_or_default();
            Some([connections, packets_in, packets_out, bytes_in, bytes_out])
        }
        _ => None,
    }
}

fn number_columns(numbers: [u64; 5], exact: bool) -> String {
    numbers.into_iter().fold(String::new(), |mut text, number| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", large(number, exact));
        text
    })
}
